//! What a run chooses: directories within the workspaces, lists within lists; and which versions of programs are here.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::host::{Host, USUAL};

#[test]
fn a_directory_of_a_config_is_judged_as_a_cwd_is() {
    let host = Host::usual();
    let client = host.client();
    for dir in ["work/one", "work/two", "elsewhere"] {
        fs::create_dir(host.path(dir)).unwrap();
    }
    symlink(host.work().join("two"), host.work().join("link")).unwrap();
    symlink(host.path("elsewhere"), host.work().join("way-out")).unwrap();
    fs::write(host.work().join("file"), "").unwrap();
    let asked = |dirs: Value| host.hostile(json!({ "mode": "dirs", "dirs": dirs }));
    let at = |name: &str| host.path(name).to_str().unwrap().to_owned();
    let run = client.run(asked(json!([at("work/one"), at("work/link"), at("work/one/../two")])));
    let real = |name: &str| host.work().canonicalize().unwrap().join(name).display().to_string();
    assert_eq!(run["result"]["text"], [real("one"), real("two"), real("two")].join("\n"), "{run}");
    for (dir, code) in [
        (at("elsewhere"), "directory_not_granted"),
        (at("work/way-out"), "directory_not_granted"),
        (at("work/../elsewhere"), "directory_not_granted"),
        ("/".to_owned(), "directory_not_granted"),
        (at("work/none"), "directory_not_found"),
        (at("work/file"), "directory_not_found"),
        ("one".to_owned(), "invalid_argument"),
        ("~/one".to_owned(), "invalid_argument"),
        (String::new(), "invalid_argument"),
    ] {
        let refusal = client.refused("spawn_run", asked(json!([at("work/one"), dir])), code);
        assert!(refusal.message.contains("`/dirs/1`"), "{refusal:?}");
        let plan = client.call("plan_run", asked(json!([at("work/one"), dir])));
        assert_eq!((&plan["allowed"], &plan["refusal"]["code"]), (&json!(false), &json!(code)), "{plan}");
    }
}

#[test]
fn the_operators_directories_are_judged_too() {
    let host = Host::bare("");
    let config =
        USUAL.replace("[backends.hostile.grants]", "[backends.hostile]\nconfig = { dirs = [\"{dir}\"] }\n[backends.hostile.grants]");
    host.configure(&config);
    host.plugin("hostile", falconer_hostile::HOSTILE);
    let client = host.client();
    client.refused("spawn_run", host.hostile(json!({ "mode": "dirs" })), "directory_not_granted");
    let run = client.run(host.hostile(json!({ "mode": "dirs", "dirs": [] })));
    assert_eq!(run["result"]["text"], "", "a run may choose none: {run}");
}

#[test]
fn what_only_the_operator_sets_is_not_shown() {
    let host = Host::bare("");
    let config = USUAL
        .replace("args = true\n", "")
        .replace("[backends.hostile.grants]", "[backends.hostile]\nconfig = { args = [\"hunter2\"] }\n[backends.hostile.grants]");
    host.configure(&config);
    host.plugin("hostile", falconer_hostile::HOSTILE);
    let client = host.client();
    let plan = client.call("plan_run", host.hostile(json!({ "mode": "echo" })));
    assert_eq!((&plan["allowed"], &plan["config"]["mode"]), (&json!(true), &json!("echo")), "{plan}");
    assert_eq!(plan["config"]["args"], "set by the configuration", "{plan}");
    host.configure(&config.replace("[\"hunter2\"]", "{ token = \"hunter2\" }"));
    host.run(&["stop"]);
    let refusal = host.client().refused("spawn_run", host.hostile(json!({ "mode": "echo" })), "invalid_config");
    assert!(refusal.message.contains("`/args`") && !refusal.message.contains("hunter2"), "{refusal:?}");
}

#[test]
fn a_list_is_chosen_from_a_list_item_by_item_and_may_be_empty() {
    let host = Host::bare("");
    host.configure(&USUAL.replace("args = true", "args = [\"one\", \"two\"]"));
    host.plugin("hostile", falconer_hostile::HOSTILE);
    let client = host.client();
    for (args, good) in [(json!([]), true), (json!(["two"]), true), (json!(["two", "one"]), true), (json!(["three"]), false)] {
        let request = host.hostile(json!({ "mode": "echo", "args": args }));
        if good {
            assert_eq!(client.run(request)["status"], "completed");
        } else {
            let refusal = client.refused("spawn_run", request, "not_allowed");
            assert!(refusal.message.contains("\"one\", \"two\""), "{refusal:?}");
        }
    }
}

#[test]
fn check_asks_programs_for_their_versions() {
    let host = Host::bare("");
    let config = USUAL.replace("[backends.hostile.grants]\nprograms = {", "[backends.hostile.grants]\nprograms = { tool = \"{dir}/tool\",");
    host.configure(&config);
    host.plugin("hostile", falconer_hostile::HOSTILE);
    let tool = host.path("tool");
    for (script, severity, says) in [
        // It has no input, none of our environment, and says so.
        ("cat; echo \"tool 1.10.0 $CARGO_HOME$1\"", "ok", "1.10.0"),
        ("echo 1.8.7", "warning", "not a version that was tested"),
        ("echo 1.11", "warning", "not a version that was tested"),
        ("echo none", "warning", "prints no version"),
        ("exit 3", "warning", "exit status: 3"),
    ] {
        fs::write(&tool, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let ended = host.run(&["--json", "check"]);
        let said: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        let findings = said["findings"]["backend hostile"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["subject"] == "version of tool").unwrap_or_else(|| panic!("{findings:?}"));
        assert_eq!(found["severity"], severity, "{found}");
        let message = found["message"].as_str().unwrap();
        assert!(message.contains(says) && message.contains(tool.to_str().unwrap()), "{message}");
        assert!(message.contains("tested with 1.9 to 1.10.2"), "{message}");
    }
    fs::remove_file(&tool).unwrap();
    let ended = host.run(&["check"]);
    assert!(ended.out.contains("program tool") && !ended.out.contains("version of tool"), "one finding is enough: {ended:?}");
    let listed = host.client().call("list_backends", json!({ "backend": "hostile" }));
    assert_eq!(listed["backends"][0]["programs"], json!([{ "name": "tool", "tested_from": "1.9", "tested_to": "1.10.2" }]));
    let listed = host.client().call("list_backends", json!({ "backend": "claude" }));
    assert_eq!(listed["backends"][0]["programs"][0]["tested_to"], "2.1.329");
}

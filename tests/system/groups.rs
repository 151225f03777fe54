//! Groups: one run for each of several targets, with real processes.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::client::{Client, is_terminal};
use crate::host::{Ended, Host};
use crate::patience::until;
use crate::processes::with_environment;

const CONFIG: &str = r#"
path = ["/usr/local/bin", "/usr/bin", "/bin"]
[stop]
prove = "60 s"
[host]
runs = 500
[backends.targeted.grants]
programs = { sh = "/bin/sh" }
workspaces = ["{work}"]
[backends.targeted.allow]
program = true
args = true
[backends.targeted.limits]
runs = 500
"#;

/// Says that it is at work and how many are, waits until all may go, and says that it is not any more.
const CROWD: &str =
    r#"touch "active/$1"; ls active | wc -l > "counts/$1"; until [ -e go ]; do sleep 0.05; done; rm "active/$1"; echo "done at $1""#;
/// Says that it is at work, and goes on for ever.
const ENDLESS: &str = r#"touch "active/$1"; exec sleep 1000"#;

/// A host with so many targets, `web-1`, `web-2` …, all with the tag `web`.
fn host(targets: usize) -> Host {
    let targets: String =
        (1..=targets).map(|n| format!("[[targets]]\nname = \"web-{n}\"\naddress = \"127.0.0.1\"\ntags = [\"web\"]\n")).collect();
    let host = Host::bare(&format!("{CONFIG}{targets}[[targets]]\nname = \"nowhere\"\nssh_alias = \"nobody-has-this\"\n"));
    host.plugin("targeted", falconer_hostile::TARGETED);
    for dir in ["active", "counts"] {
        fs::create_dir(host.work().join(dir)).unwrap();
    }
    host
}

/// This shell script at all targets, with the target's name as its first argument.
fn script(host: &Host, text: &str, more: Value) -> Value {
    let config = json!({ "program": "sh", "args": ["-c", text, "sh", "{target}"] });
    let mut request = json!({ "backend": "targeted", "cwd": host.work(), "config": config, "target_tag": "web" });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn entries(host: &Host, dir: &str) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(host.work().join(dir)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn active(host: &Host, count: usize) -> Vec<String> {
    until(&format!("{count} runs at work"), || Some(entries(host, "active")).filter(|names| names.len() == count))
}

fn id(spawned: &Value) -> String {
    spawned["group_id"].as_str().unwrap().to_owned()
}

/// All runs of a group once each has ended.
#[track_caller]
fn all_ended(client: &Client, group: &str) -> Vec<Value> {
    until("the end of the group", || {
        let page = client.call("wait_runs", json!({ "run_ids": [group], "mode": "all", "wait_ms": 5_000 }));
        let runs = page["runs"].as_array().unwrap();
        runs.iter().all(is_terminal).then(|| runs.clone())
    })
}

fn of_status(client: &Client, group: &str, status: &str) -> usize {
    let page = client.call("list_runs", json!({ "group_id": group, "status": [status], "limit": 200 }));
    page["runs"].as_array().unwrap().len()
}

fn statuses(runs: &[Value]) -> Vec<&str> {
    runs.iter().map(|run| run["status"].as_str().unwrap()).collect()
}

#[test]
fn thirty_by_tag_run_side_by_side_and_never_more_than_the_cap() {
    let host = host(30);
    let client = host.client();
    let spawned = client.call("spawn_run", script(&host, CROWD, json!({ "parallel": 5 })));
    let group = id(&spawned);
    assert_eq!((&spawned["run_id"], &spawned["status"], &spawned["repeated"]), (&Value::Null, &Value::Null, &json!(false)));
    let targets: Vec<String> = (1..=30).map(|n| format!("web-{n}")).collect();
    let members = spawned["runs"].as_array().unwrap();
    assert_eq!(members.iter().map(|run| run["target"].as_str().unwrap()).collect::<Vec<_>>(), targets);
    assert_eq!(
        members.iter().map(|run| &run["run_id"]).collect::<Vec<_>>(),
        spawned["run_ids"].as_array().unwrap().iter().collect::<Vec<_>>()
    );

    assert_eq!(active(&host, 5), ["web-1", "web-2", "web-3", "web-4", "web-5"], "those that came first");
    // A status is told when it is on disk.
    until("five to have left the queue", || (of_status(&client, &group, "queued") == 25).then_some(()));
    fs::write(host.work().join("go"), "").unwrap();
    let runs = all_ended(&client, &group);
    for (run, target) in runs.iter().zip(&targets) {
        assert_eq!((&run["status"], &run["target"]), (&json!("completed"), &json!(target)), "{run}");
        assert_eq!(run["result"]["text"], format!("{target}: done at {target}"), "one result each");
    }
    let counts: Vec<u32> = entries(&host, "counts")
        .iter()
        .map(|name| fs::read_to_string(host.work().join("counts").join(name)).unwrap().trim().parse().unwrap())
        .collect();
    assert_eq!((counts.len(), counts.iter().max()), (30, Some(&5)), "{counts:?}");

    let one = client.get(spawned["run_ids"][7].as_str().unwrap());
    assert_eq!((&one["group_id"], &one["target"], &one["request"]["target"]), (&json!(group), &json!("web-8"), &json!("web-8")));
    assert!(one["request"].get("target_tag").is_none() && one["request"].get("parallel").is_none(), "as if it were alone: {one}");
    let sessions: std::collections::BTreeSet<String> =
        (0..30).map(|n| client.get(spawned["run_ids"][n].as_str().unwrap())["session_id"].to_string()).collect();
    assert_eq!(sessions.len(), 30, "a session each");
    let first = client.events(spawned["run_ids"][0].as_str().unwrap()).remove(0);
    assert_eq!((&first["type"], &first["data"]["group_id"]), (&json!("run_started"), &json!(group)));
    assert_eq!(client.call("list_runs", json!({ "group_id": "grp_aaaaaaaaaaaaaaaa" }))["runs"], json!([]));
}

#[test]
fn one_fails_one_hangs_and_the_cancel_of_the_group_ends_it_with_receipts() {
    let host = host(30);
    let client = host.client();
    let text = r#"case $1 in web-3) exit 3;; web-7) touch active/web-7; exec sleep 1000;; esac; echo well"#;
    let spawned = client.call("spawn_run", script(&host, text, json!({ "parallel": 30 })));
    let group = id(&spawned);
    until("28 runs to complete", || (of_status(&client, &group, "completed") == 28).then_some(()));
    active(&host, 1);
    until("the failure", || (of_status(&client, &group, "failed") == 1).then_some(()));
    let page = client.call("wait_runs", json!({ "run_ids": [group], "mode": "all", "wait_ms": 0 }));
    assert_eq!(page["ready"], json!(false), "one is at work");
    assert_eq!(page["runs"][2]["error"]["code"], "exit_nonzero");
    assert_eq!(client.call("wait_runs", json!({ "run_ids": [group], "wait_ms": 0 }))["ready"], json!(true), "any");

    let cancelled = client.call("cancel_run", json!({ "run_id": group, "reason": "enough" }));
    assert_eq!((&cancelled["group_id"], &cancelled["run_id"], &cancelled["status"]), (&json!(group), &Value::Null, &Value::Null));
    let runs = cancelled["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 30);
    for (n, run) in runs.iter().enumerate() {
        let status = match n + 1 {
            3 => "failed",
            7 => "cancelled",
            _ => "completed",
        };
        assert_eq!((&run["status"], &run["target"]), (&json!(status), &json!(format!("web-{}", n + 1))), "{run}");
        assert_eq!(run["receipt"]["proof"]["outcome"], "empty", "each has its receipt: {run}");
        assert_eq!(run["receipt"]["cause"], if n + 1 == 7 { "requested" } else { "finished" });
    }
    let seventh = client.get(runs[6]["run_id"].as_str().unwrap());
    assert_eq!(seventh["receipt"]["reason"], "enough");
    assert!(!seventh["receipt"]["rungs"].as_array().unwrap().is_empty(), "get_run has the whole: {seventh}");
    assert_eq!(with_environment(&format!("FALCONER_RUN_ID={}", runs[6]["run_id"].as_str().unwrap())), []);
    assert_eq!(client.cancel(&group), cancelled, "twice is no error");
}

#[test]
fn a_cancel_reaches_those_that_wait_for_their_turn() {
    let host = host(8);
    let client = host.client();
    let spawned = client.call("spawn_run", script(&host, ENDLESS, json!({ "parallel": 2 })));
    active(&host, 2);
    let cancelled = client.cancel(&id(&spawned));
    let runs = cancelled["runs"].as_array().unwrap();
    assert_eq!(statuses(runs), ["cancelled"; 8]);
    assert_eq!(cancelled["shortened"], json!(false), "{cancelled}");
    for (n, run) in runs.iter().enumerate() {
        let proof = if n < 2 { "empty" } else { "no_processes" };
        assert_eq!((&run["receipt"]["proof"]["outcome"], &run["receipt"]["cause"]), (&json!(proof), &json!("requested")), "{run}");
    }
    assert_eq!(entries(&host, "active"), ["web-1", "web-2"], "no other one began");
}

#[test]
fn the_first_failure_stops_the_rest_where_that_is_wanted() {
    let host = host(9);
    let client = host.client();
    let text = r#"touch "active/$1"; [ $1 = web-2 ] || exec sleep 1000; until [ -e go ]; do sleep 0.05; done; exit 3"#;
    let spawned = client.call("spawn_run", script(&host, text, json!({ "parallel": 3, "stop_on_failure": true })));
    active(&host, 3);
    fs::write(host.work().join("go"), "").unwrap();
    let runs = all_ended(&client, &id(&spawned));
    let failed = spawned["run_ids"][1].as_str().unwrap();
    for (n, run) in runs.iter().enumerate() {
        assert_eq!(run["status"], if n == 1 { "failed" } else { "cancelled" }, "{run}");
        let receipt = &client.get(run["run_id"].as_str().unwrap())["receipt"];
        if n != 1 {
            assert_eq!((&receipt["cause"], &receipt["asked_by"]), (&json!("group"), &json!(failed)), "{receipt}");
            let reason = receipt["reason"].as_str().unwrap();
            assert!(reason.contains(failed) && reason.contains("web-2") && reason.contains("exit_nonzero"), "{reason}");
            assert_eq!(receipt["proof"]["outcome"], if n < 3 { "empty" } else { "no_processes" });
        }
    }
    assert_eq!(entries(&host, "active"), ["web-1", "web-2", "web-3"], "those that waited never began");
}

#[test]
fn none_that_waits_begins_after_a_failure_however_soon_its_turn_comes() {
    let host = host(20);
    let client = host.client();
    let text = r#"touch "active/$1"; exit 3"#;
    for round in 1..=5 {
        let order: Vec<String> = (0..20).map(|n| format!("web-{}", 1 + (n + round) % 20)).collect();
        let mut request = script(&host, text, json!({ "targets": order, "parallel": 1, "stop_on_failure": true }));
        request.as_object_mut().unwrap().remove("target_tag");
        let runs = all_ended(&client, &id(&client.call("spawn_run", request)));
        assert_eq!((statuses(&runs)[0], &statuses(&runs)[1..]), ("failed", &["cancelled"; 19][..]));
        assert_eq!(entries(&host, "active"), [order[0].as_str()], "round {round}");
        for run in &runs[1..] {
            let events = client.events(run["run_id"].as_str().unwrap());
            assert_eq!(events.iter().map(|event| event["type"].as_str().unwrap()).collect::<Vec<_>>(), ["run_started", "run_cancelled"]);
        }
        fs::remove_file(host.work().join("active").join(&order[0])).unwrap();
    }
}

#[test]
fn without_that_wish_a_failure_stops_nobody_and_wait_ms_waits_for_all() {
    let host = host(4);
    let client = host.client();
    let request = script(&host, r#"[ $1 != web-1 ] || exit 3; echo well"#, json!({ "parallel": 1, "wait_ms": 10_000, "request_key": "k" }));
    let spawned = until("the end of all within one wait", || {
        Some(client.call("spawn_run", request.clone())).filter(|spawned| spawned["runs"].as_array().unwrap().iter().all(is_terminal))
    });
    let runs = spawned["runs"].as_array().unwrap();
    assert_eq!(statuses(runs), ["failed", "completed", "completed", "completed"]);
    assert_eq!((&runs[0]["error"]["code"], &runs[3]["result"]["text"]), (&json!("exit_nonzero"), &json!("web-4: well")));
}

#[test]
fn a_retry_gives_the_same_group_also_when_it_comes_at_the_same_time() {
    let host = host(6);
    let client = host.client();
    let request = script(&host, ENDLESS, json!({ "request_key": "k", "parallel": 1 }));
    let (one, two) = std::thread::scope(|scope| {
        let calls = [(); 2].map(|()| scope.spawn(|| client.call("spawn_run", request.clone())));
        let [one, two] = calls.map(|call| call.join().unwrap());
        (one, two)
    });
    assert_eq!((&one["group_id"], &one["run_ids"]), (&two["group_id"], &two["run_ids"]));
    assert_ne!(one["repeated"], two["repeated"]);
    assert_eq!(one["run_ids"].as_array().unwrap().len(), 6);
    let other = script(&host, ENDLESS, json!({ "request_key": "k", "parallel": 2 }));
    client.refused("spawn_run", other, "request_key_conflict");
    assert_eq!(client.call("list_runs", json!({ "limit": 200 }))["runs"].as_array().unwrap().len(), 6);
    client.cancel(&id(&one));
    assert_eq!(client.call("spawn_run", request)["group_id"], one["group_id"], "also after its end");
}

#[test]
fn if_one_target_is_refused_none_is_started_and_all_refused_are_named() {
    let host = host(3);
    let client = host.client();
    let at = |targets: Value| {
        let mut request = script(&host, "true", json!({ "targets": targets }));
        request.as_object_mut().unwrap().remove("target_tag");
        request
    };
    let both = client.refused("spawn_run", at(json!(["web-1", "nobody", "web-2", "nowhere"])), "unknown_target");
    assert!(both.message.contains("2 of 4 targets are refused, so no run was started"), "{both:?}");
    assert!(both.message.contains("`nobody`") && both.message.contains("`nowhere`") && !both.message.contains("`web-1`"), "{both:?}");
    client.refused("spawn_run", at(json!(["web-1", "nowhere"])), "target_unavailable");
    client.refused("spawn_run", at(json!(["web-1", "web-1"])), "invalid_argument");
    client.refused("spawn_run", at(json!([])), "invalid_argument");
    client.refused("spawn_run", script(&host, "true", json!({ "target_tag": "none" })), "unknown_target");
    client.refused("spawn_run", script(&host, "true", json!({ "target": "web-1" })), "conflicting_fields");
    client.refused("spawn_run", script(&host, "true", json!({ "name": "all" })), "conflicting_fields");
    client.refused("spawn_run", script(&host, "true", json!({ "session_id": "ses_aaaaaaaaaaaaaaaa" })), "conflicting_fields");
    client.refused("spawn_run", script(&host, "true", json!({ "parallel": 0 })), "invalid_argument");
    let alone = json!({ "backend": "targeted", "cwd": host.work(), "target": "web-1", "config": { "program": "sh" }, "parallel": 2 });
    client.refused("spawn_run", alone, "conflicting_fields");
    let here = client.refused("spawn_run", json!({ "backend": "exec", "cwd": host.work(), "target_tag": "web" }), "unsupported");
    assert!(here.message.contains("this machine only"), "{here:?}");
    // What has nothing to do with targets is told once, as for one run.
    let mut wrong = script(&host, "true", json!({}));
    wrong["config"] = json!({ "args": [] });
    let wrong = client.refused("spawn_run", wrong, "invalid_config");
    assert!(!wrong.message.contains("targets are refused"), "{wrong:?}");
    assert_eq!(client.call("list_runs", json!({}))["runs"], json!([]), "nothing was started");

    let plan = client.call("plan_run", at(json!(["web-1", "nowhere"])));
    assert_eq!((&plan["allowed"], &plan["refusal"]["code"]), (&json!(false), &json!("target_unavailable")), "{plan}");
    let plan = client.call("plan_run", script(&host, "true", json!({ "parallel": 2 })));
    assert_eq!(plan["allowed"], json!(true), "{plan}");
    assert!(plan["summary"].as_str().unwrap().starts_with("3 runs, at most 2 at once, at web-1, web-2, web-3; each: "), "{plan}");
    assert_eq!(plan["actions"].as_array().unwrap().len(), 3, "what would be done at each: {plan}");
}

#[test]
fn a_group_of_more_than_a_hundred_is_refused() {
    let host = host(101);
    let refusal = host.client().refused("spawn_run", script(&host, "true", json!({})), "limit_reached");
    assert!(refusal.message.contains("101 targets"), "{refusal:?}");
}

#[test]
fn where_one_run_is_wanted_a_group_is_explained() {
    let host = host(3);
    let client = host.client();
    let group = id(&client.call("spawn_run", script(&host, r#"[ $1 != web-1 ] || exit 3"#, json!({}))));
    all_ended(&client, &group);
    for (tool, arguments) in [
        ("get_run", json!({ "run_id": group })),
        ("poll_events", json!({ "run_id": group })),
        ("continue_run", json!({ "run_id": group, "message": "go on" })),
    ] {
        let refusal = client.refused(tool, arguments, "invalid_argument");
        assert!(refusal.message.contains("a group of 3 runs (2 completed, 1 failed)"), "{refusal:?}");
        assert!(refusal.hint.unwrap().contains("list_runs"));
    }
    for (tool, arguments) in [
        ("get_run", json!({ "run_id": "grp_aaaaaaaaaaaaaaaa" })),
        ("cancel_run", json!({ "run_id": "grp_aaaaaaaaaaaaaaaa" })),
        ("wait_runs", json!({ "run_ids": ["grp_aaaaaaaaaaaaaaaa"] })),
    ] {
        client.refused(tool, arguments, "unknown_run");
    }
}

#[test]
fn after_a_crash_of_the_host_the_state_of_a_group_is_true() {
    let host = host(7);
    let client = host.client();
    let text = r#"[ $1 != web-1 ] || exit 0; touch "active/$1"; exec sleep 1000"#;
    let request = script(&host, text, json!({ "parallel": 2, "stop_on_failure": true, "request_key": "k" }));
    let spawned = client.call("spawn_run", request.clone());
    let group = id(&spawned);
    active(&host, 2);
    until("the first to complete", || (of_status(&client, &group, "completed") == 1).then_some(()));
    for run in [1, 2] {
        client.event(spawned["run_ids"][run].as_str().unwrap(), "its start", |event| event["type"] == "command_started");
    }
    host.crash();

    let client = host.client();
    let runs = all_ended(&client, &group);
    assert_eq!(statuses(&runs), ["completed", "lost", "lost", "failed", "failed", "failed", "failed"]);
    assert!(runs[1..].iter().all(|run| run["error"]["code"] == "host_lost"), "{runs:?}");
    assert_eq!(entries(&host, "active"), ["web-2", "web-3"], "nothing of it was started again");
    for run in &runs {
        assert_eq!(with_environment(&format!("FALCONER_RUN_ID={}", run["run_id"].as_str().unwrap())), []);
    }
    let refusal = client.refused("get_run", json!({ "run_id": group }), "invalid_argument");
    assert!(refusal.message.contains("1 completed, 4 failed, 2 lost"), "{refusal:?}");
    assert_eq!(statuses(client.cancel(&group)["runs"].as_array().unwrap()), statuses(&runs), "a cancel changes nothing");
    let again = client.call("spawn_run", request);
    assert_eq!((&again["group_id"], &again["run_ids"], &again["repeated"]), (&json!(group), &spawned["run_ids"], &json!(true)));
}

#[test]
fn on_the_command_line() {
    let host = host(3);
    let text = r#"args=["-c", "echo \"out of $1\"; [ $1 != web-2 ] || exit 3", "sh", "{target}"]"#;
    let job = ["--set", "program=sh", "--config-json", text];
    let shown = host.run(&[&["run", "targeted", "--tag", "web"], &job[..]].concat());
    assert_eq!(shown.code, Some(1), "that of the worst: {shown:?}");
    let mut lines: Vec<&str> = shown.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["out of web-1", "out of web-2", "out of web-3"]);
    assert!(["== web-1 run_", "== web-2 run_", "== web-3 run_", "exit_nonzero"].iter().all(|part| shown.err.contains(part)), "{shown:?}");
    let json = host.run(&[&["--json", "run", "targeted", "--targets", "web-1,web-3", "--parallel", "1"], &job[..]].concat()).well();
    let targets: Vec<Value> = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["target"].clone()).collect();
    assert_eq!(targets, ["web-1", "web-3"], "{json}");

    let endless = [r#"args=["-c", "touch active/$1; exec sleep 1000", "sh", "{target}"]"#];
    let detached = [&["run", "targeted", "--tag", "web", "--detach", "--set", "program=sh", "--config-json"], &endless[..]].concat();
    let group = host.run(&detached).well().trim().to_owned();
    assert!(group.starts_with("grp_"), "{group}");
    active(&host, 3);
    for list in [host.run(&["runs", &group]).well(), host.run(&["runs", "--group", &group]).well()] {
        assert!(list.lines().count() == 4 && list.contains("TARGET") && list.contains("web-2"), "{list}");
    }
    let stopped = host.run(&["cancel", &group]).well();
    assert!(["web-1 cancelled", "web-2 cancelled", "web-3 cancelled"].iter().all(|part| stopped.contains(part)), "{stopped}");
}

#[test]
fn ctrl_c_stops_the_whole_group() {
    let host = host(3);
    let job = ["--set", "program=sh", "--config-json", r#"args=["-c", "touch active/$1; exec sleep 1000", "sh", "{target}"]"#];
    let mut command = host.command(&[&["run", "targeted", "--tag", "web", "--parallel", "2"], &job[..]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    active(&host, 2);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(ended.err.lines().filter(|line| line.starts_with("run_") && line.ends_with(" cancelled")).count(), 3, "{ended:?}");
    assert_eq!(entries(&host, "active").len(), 2);
}

//! Every command of the program, what it prints and what it ends with.

use serde_json::{Value, json};

use crate::host::{Host, USUAL};
use crate::patience::until;
use crate::processes::of_program;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn run_follows_to_the_end_and_ends_as_the_run_does() {
    let host = Host::usual();
    for (script, code) in [("echo one; echo two", 0), ("exit 7", 1)] {
        let ended = host.run(&["run", "exec", "--", "sh", "-c", script]);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert_eq!(ended.out.contains("two"), code == 0, "{ended:?}");
        assert!(ended.err.contains("run_"), "{ended:?}");
        assert!(!ended.out.contains('\u{1b}') && !ended.err.contains('\u{1b}'), "plain where nobody looks: {ended:?}");
    }
    // Also what is too large for an event, with characters of several bytes.
    let ended = host.run(&[
        "run",
        "exec",
        "--",
        "sh",
        "-c",
        "i=0; while [ $i -lt 20000 ]; do echo \"$i äöü€\"; i=$((i+1)); done; head -c 3000000 /dev/zero | tr '\\0' x",
    ]);
    let expected: String = (0..20_000).map(|i| format!("{i} äöü€\n")).collect::<String>() + &"x".repeat(3_000_000);
    assert!(ended.code == Some(0) && ended.out.trim_end() == expected, "{} of {} bytes", ended.out.len(), expected.len());
    let ended = host.run(&["--json", "run", "exec", "--", "sh", "-c", "echo one"]);
    let events = lines(&ended.well());
    let first = events.iter().find(|line| line["type"] == "run_started");
    assert!(first.is_some_and(|event| event["seq"] == 1), "{events:?}");
    assert!(events.iter().any(|line| line["type"] == "run_completed"), "{events:?}");
}

#[test]
fn exit_codes_say_what_became_of_it() {
    let host = Host::usual();
    for (arguments, code) in [
        (&["run", "nobody", "hello"][..], 2),
        (&["run", "hostile", "x", "--set", "mode=reject_start"], 4),
        (&["run", "hostile", "x", "--set", "mode=fail_start"], 1),
        (&["run", "hostile", "x", "--set", "mode=ask"], 6),
        (&["run", "hostile", "x", "--set", "mode=tick", "--timeout", "1s"], 1),
        (&["run", "hostile", "x", "--set", "mode=echo", "--cwd", "/"], 4),
        (&["run"], 2),
        (&["no-such-command"], 2),
        (&["cancel", "run_aaaaaaaaaaaaaaaa"], 2),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        let ended = host.run(arguments);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_detached_run_is_listed_looked_at_and_cancelled() {
    let host = Host::usual();
    let run = host.run(&["run", "hostile", "x", "--set", "mode=idle", "--detach", "--name", "walter"]).well().trim().to_owned();
    assert!(run.starts_with("run_"), "{run}");
    let listed = host.run(&["runs"]).well();
    assert!(listed.contains(&run) && listed.contains("walter"), "{listed}");
    let listed = lines(&host.run(&["runs", "--json", "--backend", "hostile"]).well());
    assert_eq!(listed.iter().map(|run| run["run_id"].clone()).collect::<Vec<_>>(), [json!(run)]);
    let events = lines(&host.run(&["events", "walter", "--json"]).well());
    assert_eq!(events[0]["type"], "run_started");
    let cancelled = host.run(&["cancel", "walter", "--reason", "enough"]).well();
    assert!(cancelled.contains("cancelled"), "{cancelled}");
    let again = host.run(&["cancel", &run]).well();
    for part in ["it had ended already", "cause: requested, by falconer-cli", ": enough\n", "proof: the run had no processes"] {
        assert!(again.contains(part), "cancelling twice is no error, and tells of the first: {part}: {again}");
    }
    let followed = host.run(&["events", &run, "--follow"]);
    let last = followed.out.lines().last().unwrap_or_default();
    assert!(last.contains("run_cancelled") && last.ends_with("[proof: the run had no processes]"), "{followed:?}");
}

#[test]
fn all_of_one_run_is_shown() {
    let host = Host::usual();
    assert_eq!(host.run(&["run", "exec", "--name", "walter", "--", "sh", "-c", "echo hello; exit 7"]).code, Some(1));
    let shown = host.run(&["runs", "walter"]).well();
    let run: Value = serde_json::from_str(&host.run(&["runs", "walter", "--json"]).well()).unwrap();
    assert_eq!(run, host.client().get("walter"), "as get_run answers");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for part in [
        text(&run["run_id"]),
        text(&run["session_id"]),
        text(&run["ended_at"]),
        text(&run["error"]["code"]),
        text(&run["error"]["message"]),
        "status    failed".to_owned(),
        "backend   exec".to_owned(),
        "receipt   cause: ".to_owned(),
        "proof: nothing of it lives".to_owned(),
    ] {
        assert!(shown.contains(&part), "{part}: {shown}");
    }
    let cancelled = host.run(&["cancel", "walter"]).well();
    assert!(cancelled.contains("failed: it had ended already") && cancelled.contains(&text(&run["error"]["code"])), "{cancelled}");
    assert_eq!(host.run(&["runs", "nobody"]).code, Some(2));
    assert_eq!(host.run(&["runs", "walter", "--backend", "exec"]).code, Some(2), "one, or a list");
    host.run(&["run", "exec", "--", "sh", "-c", "echo hello"]).well();
    let newest = lines(&host.run(&["runs", "--json", "--limit", "1"]).well());
    assert!(host.run(&["runs", newest[0]["run_id"].as_str().unwrap()]).well().contains("result    hello"));
}

#[test]
fn a_question_is_answered_from_the_command_line() {
    let host = Host::usual();
    let ended = host.run(&["run", "hostile", "x", "--set", "mode=ask", "--name", "asker"]);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let line = ended.err.lines().chain(ended.out.lines()).find(|line| line.contains("falconer continue")).unwrap().to_owned();
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |flag: &str| words[words.iter().position(|word| *word == flag).unwrap() + 1];
    let answer = host.run(&["continue", "asker", "--answer", after("--answer"), "--hash", after("--hash"), "--choose", "yes"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let client = host.client();
    assert_eq!(client.ended("asker")["result"]["text"].as_str().unwrap().trim(), "chosen yes");
}

#[test]
fn an_ended_run_is_carried_on_from_the_command_line() {
    let host = Host::usual();
    host.run(&["run", "hostile", "hello", "--set", "mode=echo", "--name", "walter"]).well();
    let said = host.run(&["continue", "walter", "and on"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(host.client().ended("walter")["result"]["text"], "and on (after native-1)");
}

#[test]
fn backends_are_listed_and_shown() {
    let host = Host::usual();
    let listed = host.run(&["backends"]).well();
    for name in ["claude", "codex", "exec", "hostile"] {
        assert!(listed.contains(name), "{listed}");
    }
    let listed = lines(&host.run(&["backends", "--json"]).well());
    assert!(listed.iter().all(|backend| backend["digest"].as_str().is_some_and(|digest| digest.len() == 64)), "{listed:?}");
}

#[test]
fn check_names_what_is_missing_and_the_way_out() {
    let host = Host::usual();
    let checked = host.run(&["check"]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.out.contains("missing") && checked.out.contains("no-such-program-anywhere"), "{checked:?}");
    assert_eq!(host.daemon(), None, "check starts nothing");
    assert!(!host.data().exists() || std::fs::read_dir(host.data()).unwrap().next().is_none(), "check changes nothing");

    host.configure(&USUAL.replace(", missing = \"no-such-program-anywhere\"", ""));
    let checked: Value = serde_json::from_str(&host.run(&["check", "--json"]).out).unwrap();
    let exec = checked["findings"]["backend exec"].as_array().unwrap();
    assert!(exec.iter().all(|finding| finding["severity"] == "ok"), "{exec:?}");
}

#[test]
fn check_knows_the_settings_of_a_backend_and_keys_that_cannot_be_used() {
    let host = Host::bare(
        "[backends.claude.config]\npermission_mode = \"nonsense\"\n[backends.codex.config]\nfoo = 1\n\
         [backends.codex.allow]\nmax_budget_usd = true\n[backends.claude.grants]\nsecrets = { ANTHROPIC_API_KEY = { env = \"SHORT\" } }\n",
    );
    let checked = host.command(&["check", "--json"]).env("SHORT", "dummy").output().unwrap();
    assert_eq!(checked.status.code(), Some(1));
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let found = |backend: &str, subject: &str, severity: &str, word: &str| {
        let findings = checked["findings"][format!("backend {backend}")].as_array().unwrap();
        let told = findings.iter().any(|finding| {
            finding["subject"] == subject
                && finding["severity"] == severity
                && finding.to_string().contains(word)
                && finding["hint"].is_string()
        });
        assert!(told, "no {severity} of {subject} with {word}: {findings:#?}");
    };
    found("claude", "config", "error", "permission_mode");
    found("claude", "secret ANTHROPIC_API_KEY", "error", "8 bytes");
    found("codex", "config", "error", "foo");
    found("codex", "allow max_budget_usd", "warning", "max_tokens");
}

#[test]
fn a_wrong_configuration_is_told_with_its_line() {
    let host = Host::usual();
    for (text, place, word) in [
        ("[backends.exec]\nenable = true\n", "falconer.toml:2", "enabled"),
        ("[host]\nruns = \"many\"\n", "falconer.toml:2", "runs"),
        ("[backends.exec\n", "falconer.toml:1", "TOML"),
    ] {
        host.configure(text);
        for arguments in [&["check"][..], &["mcp"], &["serve"], &["run", "exec", "--", "sh"]] {
            let ended = host.run(arguments);
            assert_eq!(ended.code, Some(2), "{arguments:?} {ended:?}");
            assert!(ended.err.contains(place) && ended.err.contains(word), "{arguments:?} {ended:?}");
        }
    }
    assert_eq!(host.daemon(), None);
}

#[test]
fn what_only_asks_writes_nothing_and_leaves_the_data_directory_usable() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::usual();
    for arguments in [&["status"][..], &["stop"], &["check"], &["check", "--orphans"]] {
        let _ = std::fs::remove_dir_all(host.data());
        host.run(arguments);
        assert!(!host.data().exists(), "{arguments:?} makes no directory");
        std::fs::create_dir(host.data()).unwrap();
        std::fs::set_permissions(host.data(), std::fs::Permissions::from_mode(0o755)).unwrap();
        host.run(arguments);
        let left: Vec<_> = std::fs::read_dir(host.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{arguments:?} left {left:?}");
    }
    assert_eq!(host.run(&["runs"]).well(), "no runs\n", "the first that needs a daemon closes the empty directory");
    assert_eq!(std::fs::metadata(host.data()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn status_and_stop_know_whether_a_daemon_runs() {
    let host = Host::usual();
    assert_eq!(host.run(&["status"]).code, Some(7));
    assert_eq!(host.run(&["stop"]).code, Some(0), "nothing to stop is no error");
    let _client = host.client();
    let status: Value = serde_json::from_str(&host.run(&["status", "--json"]).well()).unwrap();
    assert_eq!((&status["running"], &status["pid"]), (&json!(true), &json!(host.daemon().unwrap().pid)));
    host.run(&["stop"]).well();
    assert_eq!(host.daemon(), None);
    assert_eq!(host.run(&["status"]).code, Some(7));
}

#[test]
fn serve_stays_in_the_foreground_and_is_the_only_one() {
    let host = Host::usual();
    let mut first = host.command(&["serve"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let daemon = until("the served socket", || host.daemon());
    assert_eq!(daemon.pid, first.id());
    let second = host.run(&["serve"]);
    assert!(second.code.is_some_and(|code| code != 0), "{second:?}");
    assert!(second.err.contains(&daemon.pid.to_string()), "it says who serves: {second:?}");
    assert_eq!(host.client().run(host.hostile(json!({ "mode": "echo" })))["status"], "completed");
    host.run(&["stop"]).well();
    assert!(first.wait().unwrap().success());
}

#[test]
fn the_demo_needs_nothing_and_leaves_nothing() {
    let host = Host::bare("");
    let mut command = host.command(&["demo"]);
    command.env_remove("FALCONER_CONFIG").env_remove("FALCONER_PLUGINS");
    let ended = crate::host::Ended::of(command.output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for word in ["exec", "claude", "cancelled", "ms"] {
        assert!(ended.out.contains(word), "{word}: {}", ended.out);
    }
    assert!(!host.data().exists(), "the usual data directory is not touched");
    let home = std::fs::read_dir(host.path("home")).unwrap().count();
    assert_eq!(home, 0, "nor is the home directory");
    let path = host.path("home").into_os_string().into_string().unwrap();
    until("every process of the demo to be gone", || {
        let left = of_program(std::path::Path::new(crate::host::FALCONER));
        let ours = |pid: u32| std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|env| crate::processes::holds(&env, path.as_bytes()));
        (!left.iter().any(|seen| ours(seen.pid))).then_some(())
    });
}

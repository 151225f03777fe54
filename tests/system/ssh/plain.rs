//! Commands that end by themselves.

use serde_json::json;

use super::{Stage, request};
use crate::sshd::{Setup, Shell, available};

#[test]
fn output_and_exit_code_are_reported() {
    let Some(stage) = Stage::usual("a command over ssh") else { return };
    let run = stage.run(json!({ "command": ["printf", "%s\\n", "it's", "$(id)", "a b", "*", ""] }));
    assert_eq!(run["status"], "completed", "{run:#}\n{}", stage.sshd.log());
    assert_eq!((stage.all(&run, "stdout").as_str(), stage.all(&run, "stderr").as_str()), ("it's\n$(id)\na b\n*\n\n", ""));
    assert_eq!(run["target"], "far");
    stage.nothing_lives(run["run_id"].as_str().unwrap());

    let run = stage.run(json!({ "shell": "echo out; echo err >&2; exit 3" }));
    assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!("exit_nonzero")), "{run:#}");
    assert_eq!((stage.all(&run, "stdout").as_str(), stage.all(&run, "stderr").as_str()), ("out\n", "err\n"));
    let finished = stage.client.event(run["run_id"].as_str().unwrap(), "the end", |event| event["type"] == "command_finished");
    assert_eq!(finished["data"]["exit_code"], 3);

    // ssh's own failures have this code too.
    let run = stage.run(json!({ "shell": "exit 255" }));
    assert_eq!(run["error"]["code"], "exit_nonzero", "{run:#}");
    let run = stage.run(json!({ "shell": "kill -KILL $$" }));
    assert_eq!(run["error"]["code"], "killed_by_signal", "{run:#}");
    let run = stage.run(json!({ "command": ["no-such-program"] }));
    assert_eq!(run["error"]["code"], "exit_nonzero", "{run:#}");
    assert!(run["error"]["message"].as_str().unwrap().contains("127"), "{run:#}");
}

#[test]
fn directory_environment_and_input_arrive() {
    let Some(stage) = Stage::usual("what a command over ssh is given") else { return };
    let run = stage.run(json!({
        "shell": "pwd; printf %s \"$A\" | od -An -tx1; cat", "cwd": "/usr/lib", "env": { "A": "x'y\n\u{e9}" }, "stdin": "some\ninput",
    }));
    assert_eq!(stage.all(&run, "stdout"), "/usr/lib\n 78 27 79 0a c3 a9\nsome\ninput", "{run:#}");
    let run = stage.run(json!({ "command": ["pwd"], "cwd": "/no/such/place" }));
    assert_eq!(run["error"]["code"], "far_cwd_not_found", "{run:#}");
    // Nobody reads it, and nobody is held up by it.
    let much = "0123456789abcdef".repeat(40_000);
    let run = stage.run(json!({ "command": ["true"], "stdin": much }));
    assert_eq!(run["status"], "completed", "{run:#}");
    let run = stage.run(json!({ "command": ["wc", "-c"], "stdin": much }));
    assert_eq!(stage.all(&run, "stdout").trim(), "640000");
    assert_eq!(stage.run(json!({ "command": ["cat"] }))["status"], "completed", "an input that is not given is at its end");
    stage.nothing_lives(run["run_id"].as_str().unwrap());
}

#[test]
fn every_login_shell_will_do() {
    if !available("login shells over ssh") {
        return;
    }
    for shell in Shell::ALL {
        if !shell.is_here("a login shell over ssh") {
            continue;
        }
        let stage = Stage::of(Setup::new().shell(shell.clone()).start());
        let run = stage.run(json!({ "command": ["printf", "[%s]", "a'b", "\\", "$HOME", "!x", "é\n"], "env": { "B": "1" } }));
        assert_eq!(
            (&run["status"], stage.all(&run, "stdout").as_str()),
            (&json!("completed"), "[a'b][\\][$HOME][!x][é\n]"),
            "{shell:?}: {run:#}"
        );
        let run = stage.begun(json!({ "shell": "trap '' TERM; sleep 1000 & sleep 1001" }));
        let answer = stage.client.cancel(&run);
        assert_eq!(answer["receipt"]["far_end"]["state"], "confirmed", "{shell:?}: {answer:#}");
        stage.ended_as(&run, "cancelled");
    }
}

#[test]
fn bytes_that_are_no_text_are_counted() {
    let Some(stage) = Stage::usual("bytes over ssh") else { return };
    let run = stage.run(json!({ "shell": "printf 'a\\377b\\000c'; head -c 100000 /dev/urandom >&2" }));
    assert_eq!(run["status"], "completed", "{run:#}");
    let bytes = |stream: &str| -> u64 {
        let events = stage.client.events(run["run_id"].as_str().unwrap());
        let of = events.iter().filter(|event| event["type"] == "command_output" && event["data"]["stream"] == stream);
        of.map(|event| event["data"]["bytes"].as_u64().unwrap()).sum()
    };
    assert_eq!((bytes("stdout"), bytes("stderr")), (5, 100_000));
}

#[test]
fn what_no_rule_allows_is_refused() {
    let Some(stage) = Stage::usual("a command that no rule allows") else { return };
    stage.client.refused("spawn_run", request(json!({ "command": ["./relative"] })), "invalid_argument");
    stage.client.refused("spawn_run", json!({ "backend": "ssh", "config": { "command": ["true"] } }), "invalid_argument");
    stage.client.refused("spawn_run", json!({ "backend": "ssh", "target": "fra", "config": { "command": ["true"] } }), "unknown_target");
}

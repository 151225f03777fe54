//! Stops: in the middle of an answer, of a command, of a question, at once; and kills from outside.

use serde_json::json;

use super::{Props, Stage, all, output};
use crate::patience::until;
use crate::processes::{Seen, with_environment};

const EDITS: &str = "permission_mode = \"accept_edits\"";

fn bash(command: &str) -> String {
    format!("MOCK:bash {}", json!({ "command": command }))
}

#[track_caller]
fn cancelled(stage: &Stage, run: &str) -> Vec<serde_json::Value> {
    let answer = stage.client.call("cancel_run", json!({ "run_id": run, "reason": "enough" }));
    assert_eq!(answer["status"], "cancelled", "{answer}\n{:#?}", stage.client.events(run));
    stage.ended(run).1
}

#[test]
fn in_the_middle_of_an_answer() {
    let Some(stage) = Stage::set("a cancel of codex") else { return };
    let run = stage.client.spawn(stage.request("MOCK:hang"));
    stage.client.event(&run, "the answer to begin", |event| event["type"] == "agent_message");
    cancelled(&stage, &run);
    stage.until_noted("client_gone");
    assert_eq!(stage.client.cancel(&run)["status"], "cancelled", "twice is no error");
}

#[test]
fn in_the_middle_of_a_command_that_does_not_want_to_end() {
    for sandbox in ["workspace_write", "full_access"] {
        let config = format!("{EDITS}\nsandbox = \"{sandbox}\"");
        let Some(stage) = Stage::with("a cancel of a command of codex", Props { config: &config, ..Props::default() }) else { return };
        let stubborn = "(trap '' TERM HUP INT; tail -f /dev/null) & setsid tail -f /dev/null & echo begun; wait";
        let run = stage.client.spawn(stage.request(&bash(stubborn)));
        stage.client.event(&run, "the command", |event| event["type"] == "command_started");
        // The shell, what ignores TERM, and what left the session.
        until("all of it", || (with_environment(&format!("FALCONER_RUN_ID={run}")).len() >= 4).then_some(()));
        let events = cancelled(&stage, &run);
        assert_eq!(all(&events, "command_finished")[0]["status"], "interrupted", "{events:#?}");
        assert!(output(&events).contains("begun") || output(&events).is_empty(), "{events:#?}");
    }
}

#[test]
fn with_a_question_open() {
    let Some(stage) = Stage::set("a cancel of a question of codex") else { return };
    let run = stage.client.spawn(stage.request(&bash("touch made")));
    let question = stage.question(&run);
    cancelled(&stage, &run);
    assert!(!stage.host.work().join("made").exists());
    assert!(stage.client.try_call("continue_run", super::answering(&run, &question, json!({ "choices": ["allow"] }))).is_err());
}

#[test]
fn in_the_first_moments() {
    let Some(stage) = Stage::set("an early cancel of codex") else { return };
    for pause_ms in [0, 10, 25, 50, 100, 200] {
        let run = stage.client.spawn(stage.request("MOCK:hang"));
        std::thread::sleep(std::time::Duration::from_millis(pause_ms));
        cancelled(&stage, &run);
    }
}

/// The program itself, not what it started.
fn program(run: &str) -> Option<Seen> {
    with_environment(&format!("FALCONER_RUN_ID={run}")).into_iter().find(|seen| {
        let line = std::fs::read(format!("/proc/{}/cmdline", seen.pid)).unwrap_or_default();
        line.windows(10).any(|window| window == b"app-server") && !line.starts_with(b"falconer")
    })
}

#[test]
fn the_agent_is_killed_from_outside() {
    let Some(stage) = Stage::with("a kill of codex", Props { config: EDITS, ..Props::default() }) else { return };
    let run = stage.client.spawn(stage.request(&bash("setsid tail -f /dev/null & tail -f /dev/null")));
    stage.client.event(&run, "the command", |event| event["type"] == "command_started");
    until("codex to be found", || program(&run)).kill();
    let (view, _) = stage.ended(&run);
    assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!("killed_by_signal")), "{view}");
    // The session is there all the same.
    let (next, _) = stage.continued(&view, "MOCK:hello");
    assert_eq!(next["result"]["text"], "Hello from the mock model.", "{next}");
}

#[test]
fn the_host_is_killed() {
    let Some(stage) = Stage::with("a kill of codex's host", Props { config: EDITS, ..Props::default() }) else { return };
    let run = stage.client.spawn(stage.request(&bash("setsid tail -f /dev/null & tail -f /dev/null")));
    stage.client.event(&run, "the command", |event| event["type"] == "command_started");
    stage.host.crash();
    until("all of it to be gone", || with_environment(&format!("FALCONER_RUN_ID={run}")).is_empty().then_some(()));
    let client = stage.host.client();
    let view = client.ended(&run);
    assert_eq!(view["status"], "lost", "{view}");
}

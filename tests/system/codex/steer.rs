//! Messages into a live run: during text, during a command, before the turn and after it.

use std::fs;

use serde_json::{Value, json};

use super::{Props, Stage, all, script};
use crate::patience::until;

const EDITS: &str = "permission_mode = \"accept_edits\"";

/// Every message that joined, once.
fn added(events: &[Value]) -> Vec<&str> {
    all(events, "message_added").iter().map(|message| message["text"].as_str().unwrap()).collect()
}

#[test]
fn a_message_into_a_running_answer() {
    let Some(stage) = Stage::set("a message into an answer of codex") else { return };
    for timing in ["after_step", "now"] {
        let run = stage.client.spawn(stage.request("MOCK:hang"));
        stage.client.event(&run, "the answer to begin", |event| event["type"] == "agent_message");
        stage.steer(&run, "MOCK:hello", timing);
        let (view, events) = stage.ended(&run);
        assert_eq!(view["result"]["text"], "Hello from the mock model.", "{timing}: {view}");
        assert_eq!(added(&events), ["MOCK:hello"], "{timing}: {events:#?}");
    }
    stage.until_noted("client_gone");
}

#[test]
fn a_message_during_a_command_waits_or_cuts_it() {
    let Some(stage) = Stage::with("a message during a command of codex", Props { config: EDITS, ..Props::default() }) else { return };
    let go = stage.host.work().join("go");
    let command = json!({ "command": format!("until test -e {}; do sleep 0.05; done; echo went", go.display()) });
    let begin = || {
        let run = stage.client.spawn(stage.request(&format!("MOCK:bash {command}")));
        stage.client.event(&run, "the command", |event| event["type"] == "command_started");
        run
    };
    let run = begin();
    stage.steer(&run, "MOCK:hello", "after_step");
    fs::write(&go, "").unwrap();
    let (view, events) = stage.ended(&run);
    assert_eq!((&view["result"]["text"], added(&events)), (&json!("Hello from the mock model."), vec!["MOCK:hello"]), "{events:#?}");
    assert_eq!(all(&events, "command_finished")[0]["status"], "succeeded", "{events:#?}");
    assert_eq!(super::output(&events), "went\n");

    fs::remove_file(&go).unwrap();
    let run = begin();
    stage.steer(&run, "MOCK:hello", "now");
    let (view, events) = stage.ended(&run);
    assert_eq!((&view["result"]["text"], added(&events)), (&json!("Hello from the mock model."), vec!["MOCK:hello"]), "{events:#?}");
    assert_eq!(all(&events, "command_finished")[0]["status"], "interrupted", "{events:#?}");
}

/// While it is announced and started, and while it runs.
#[test]
fn a_message_cuts_a_command_whenever_it_comes() {
    let Some(stage) = Stage::with("messages to codex at any time of a command", Props { config: EDITS, ..Props::default() }) else {
        return;
    };
    for round in 0..10 {
        let up = stage.host.work().join(format!("up-{round}"));
        let command = json!({ "command": format!("touch {}; tail -f /dev/null", up.display()) });
        let run = stage.client.spawn(stage.request(&format!("MOCK:bash {command}")));
        stage.client.event(&run, "the command", |event| event["type"] == "command_started");
        if round % 2 == 1 {
            until("the command to run", || up.exists().then_some(()));
        }
        stage.steer(&run, "MOCK:hello", "now");
        let (view, events) = stage.ended(&run);
        assert_eq!(view["result"]["text"], "Hello from the mock model.", "{round}: {events:#?}");
        assert_eq!(added(&events), ["MOCK:hello"], "{round}: {events:#?}");
        assert_eq!(all(&events, "command_finished")[0]["status"], "interrupted", "{round}: {events:#?}");
    }
}

#[test]
fn messages_before_the_turn_and_several() {
    let Some(stage) = Stage::set("early messages to codex") else { return };
    let run = stage.client.spawn(stage.request("MOCK:hang"));
    // As soon as the run takes any: the program may not even have opened its thread.
    until("the run to take messages", || stage.client.try_call("continue_run", json!({ "run_id": run, "message": "zero" })).ok());
    for word in ["one", "two", "MOCK:hello"] {
        stage.steer(&run, word, "after_step");
    }
    let (view, events) = stage.ended(&run);
    assert_eq!(view["result"]["text"], "Hello from the mock model.", "{view}");
    assert_eq!(added(&events), ["zero", "one", "two", "MOCK:hello"], "{events:#?}");
}

#[test]
fn a_message_after_the_answer_is_another_turn() {
    let Some(stage) = Stage::with("a message after an answer of codex", Props { config: EDITS, ..Props::default() }) else { return };
    // What it left running keeps the run alive.
    let left = json!({ "tool": "exec_command", "input": { "cmd": "tail -f /dev/null", "yield_time_ms": 250 } });
    let run = stage.client.spawn(stage.choosing(&script(json!([[left], [{ "text": "left it" }]])), json!({ "background_wait_s": 3 })));
    stage.client.event(&run, "the answer", |event| event["data"]["text"] == "left it" && event["data"]["whole"] == true);
    stage.steer(&run, "MOCK:hello", "after_step");
    let (view, events) = stage.ended(&run);
    assert_eq!((&view["result"]["text"], added(&events)), (&json!("Hello from the mock model."), vec!["MOCK:hello"]), "{events:#?}");
}

//! Work that goes on after an answer.

use serde_json::json;

use super::{Stage, notice, of_type, script, text};

/// Starts a command in the background, answers, and answers again when it has ended.
fn leaves(command: &str) -> String {
    script(&json!([
        [{ "tool": "Bash", "input": { "command": command, "description": "d", "run_in_background": true } }],
        [{ "text": "it runs" }],
        [{ "text": "it has ended" }]
    ]))
}

#[test]
fn a_background_task_is_waited_for() {
    let Some(stage) = Stage::usual("a background task of claude") else { return };
    let run = stage.client.spawn(stage.request(&leaves("until [ -e go ]; do read -t 0.1 <> <(:); done; echo went")));
    stage.client.event(&run, "the first answer", |event| event["type"] == "agent_message" && event["data"]["text"] == "it runs");
    assert_eq!(stage.client.get(&run)["status"], "running");
    std::fs::write(stage.work.join("go"), "").unwrap();
    let (view, events) = stage.completes(&run);
    assert_eq!(text(&view), "it has ended", "{events:#?}");
    assert_eq!(of_type(&events, "command_finished")["data"]["status"], "succeeded", "{events:#?}");
}

#[test]
fn a_background_task_that_does_not_end_is_stopped() {
    let Some(stage) = Stage::usual("a long background task of claude") else { return };
    let (view, events) = stage.completed(stage.choosing(&leaves("tail -f /dev/null"), json!({ "background_wait_s": 1 })));
    assert_eq!(text(&view), "it runs");
    notice(&events, "background_stopped");
    assert_eq!(of_type(&events, "command_finished")["data"]["status"], "interrupted", "{events:#?}");

    // A cancel meanwhile stops it as well, and the answer that was there is kept.
    let run = stage.client.spawn(stage.request(&leaves("tail -f /dev/null")));
    stage.client.event(&run, "the answer", |event| event["type"] == "agent_message" && event["data"]["text"] == "it runs");
    stage.client.event(&run, "the usage of the turn", |event| event["type"] == "usage" && event["data"]["turns"] == 2);
    assert_eq!(stage.client.cancel(&run)["status"], "cancelled");
    let (view, _) = stage.finished(&run);
    assert_eq!(text(&view), "it runs", "{view}");
}

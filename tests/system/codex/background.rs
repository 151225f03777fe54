//! What the agent leaves running: waited for, then stopped.

use serde_json::json;

use super::{Props, Stage, all, noticed, output, script};

const EDITS: &str = "permission_mode = \"accept_edits\"";

fn leaving(command: &str) -> String {
    let left = json!({ "tool": "exec_command", "input": { "cmd": command, "yield_time_ms": 250 } });
    script(json!([[left], [{ "text": "left it" }]]))
}

#[test]
fn what_ends_is_waited_for_and_what_does_not_is_stopped() {
    let Some(stage) = Stage::with("background terminals of codex", Props { config: EDITS, ..Props::default() }) else { return };
    let (run, events) = stage.completed(stage.request(&leaving("sleep 1.5; echo done at last")));
    assert_eq!(run["result"]["text"], "left it");
    assert_eq!(output(&events), "done at last\n");
    assert_eq!(all(&events, "command_finished")[0]["status"], "succeeded", "{events:#?}");
    assert!(!noticed(&events, "background_stopped"), "{events:#?}");

    let (run, events) = stage.completed(stage.choosing(&leaving("tail -f /dev/null"), json!({ "background_wait_s": 1 })));
    assert_eq!(run["result"]["text"], "left it");
    assert!(noticed(&events, "background_stopped"), "{events:#?}");
    assert_eq!(all(&events, "command_finished")[0]["status"], "interrupted", "{events:#?}");
}

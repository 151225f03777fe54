//! What the agent does: commands with their output, files with their changes, subagents.

use std::fs;

use serde_json::json;

use super::{Stage, all, bash, of_type, script, text};

#[test]
fn a_command_with_its_output_and_files_with_their_changes() {
    let Some(stage) = Stage::usual("tools of claude") else { return };
    let (run, events) = stage.completed(stage.request(&bash("echo a mouse, a vole; echo loud >&2; exit 3")));
    assert!(text(&run).contains("a mouse, a vole"), "{run}");
    let started = of_type(&events, "command_started");
    assert!(started["data"]["command"].as_str().unwrap().contains("echo a mouse"), "{started}");
    assert!(of_type(&events, "command_output")["data"]["text"].as_str().unwrap().contains("a mouse, a vole"));
    let finished = of_type(&events, "command_finished");
    assert_eq!(finished["data"]["id"], started["data"]["id"]);
    assert_eq!((&finished["data"]["status"], &finished["data"]["exit_code"]), (&json!("failed"), &json!(3)), "{finished}");

    let file = stage.work.join("note.txt");
    let prompt = script(&json!([
        [{ "tool": "Write", "input": { "file_path": file, "content": "caught\na mouse\n" } }],
        [{ "tool": "Edit", "input": { "file_path": file, "old_string": "a mouse", "new_string": "a vole" } }],
        [{ "text": "done" }]
    ]));
    let (_, events) = stage.completed(stage.request(&prompt));
    assert_eq!(fs::read_to_string(&file).unwrap(), "caught\na vole\n");
    let changes = all(&events, "file_changed");
    assert_eq!(changes.len(), 2, "{events:#?}");
    assert_eq!((&changes[0]["data"]["path"], &changes[0]["data"]["kind"]), (&json!(file), &json!("created")));
    assert!(changes[0]["data"]["diff"].as_str().unwrap().contains("+a mouse"));
    assert_eq!(changes[1]["data"]["kind"], "modified");
    let diff = changes[1]["data"]["diff"].as_str().unwrap();
    assert!(diff.contains("-a mouse") && diff.contains("+a vole"), "{diff}");
}

#[test]
fn a_subagents_words_and_tools_have_its_call_as_parent() {
    let Some(stage) = Stage::usual("a subagent of claude") else { return };
    let below = script(&json!([
        [{ "tool": "Bash", "input": { "command": "echo from below", "description": "d" } }],
        [{ "text": "the subagent is done" }]
    ]));
    let task = json!({ "description": "a task", "prompt": below, "subagent_type": "general-purpose", "run_in_background": false });
    let prompt = script(&json!([[{ "tool": "Task", "input": task }], [{ "text": "main: {{tool_result}}" }]]));
    let (run, events) = stage.completed(stage.request(&prompt));
    assert!(run["result"]["text"].is_string(), "{run}");
    let call = all(&events, "tool_started").into_iter().find(|event| event["data"]["tool"] == "Task").expect("the call of the subagent");
    let command = of_type(&events, "command_started");
    assert_eq!(command["data"]["parent"], call["data"]["id"], "{events:#?}");
    assert!(json!(events).to_string().contains("from below"));
}

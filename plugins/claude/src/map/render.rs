//! What tools gave back, as events: output of commands, changes of files, lists of things to do.

use falconer_backend::{ChangeKind, CommandEnd, Event, Events, FileChange, ItemStatus, OutputKind, PIECE, Severity, Todo, TodoStatus};
use serde_json::Value;

use crate::incoming::ToolResult;
use crate::patch;

/// The output of a command, which comes with its end, and its end.
pub fn command_end(events: &mut Events, result: &ToolResult, status: ItemStatus) {
    let content = plain(&result.content);
    let coded = content.strip_prefix("Exit code ").map(|rest| rest.split_once('\n').unwrap_or((rest, "")));
    let (code, said) = match coded {
        Some((code, rest)) if result.is_error => (code.trim().parse().ok(), rest),
        _ => (None, content.as_str()),
    };
    let stream = |name: &str| result.detail.get(name).and_then(Value::as_str);
    match stream("stdout") {
        Some(stdout) => {
            output(events, &result.id, OutputKind::Stdout, stdout);
            output(events, &result.id, OutputKind::Stderr, stream("stderr").unwrap_or_default());
        }
        None if matches!(status, ItemStatus::Succeeded | ItemStatus::Failed) => output(events, &result.id, OutputKind::Stdout, said),
        // What stands there then is said to the model, not by the command.
        None => {}
    }
    if let Some(size) = result.detail.get("persistedOutputSize").and_then(Value::as_u64) {
        let path = stream("persistedOutputPath").unwrap_or("a file of its own");
        let text = format!("claude gives only the beginning of the output of {}; all {size} bytes are in {path}", result.id);
        events.push(Event::notice(Severity::Info, "output_truncated", text));
    }
    let exit_code = code.or((status == ItemStatus::Succeeded).then_some(0));
    events.push(Event::CommandFinished(CommandEnd { id: result.id.clone(), status, exit_code, signal: None, duration_ms: None }));
}

fn output(events: &mut Events, id: &str, kind: OutputKind, text: &str) {
    let mut offset = 0;
    for piece in text.as_bytes().chunks(PIECE as usize) {
        events.push(Event::command_output(id, kind, offset, piece.to_vec()));
        offset += piece.len() as u64;
    }
}

/// The text of a tool result's content.
pub fn plain(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts: Vec<&str> = blocks.iter().filter_map(|block| block.get("text").and_then(Value::as_str)).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

/// What Edit, Write and NotebookEdit changed.
pub fn change(detail: &Value) -> Option<FileChange> {
    let field = |name: &str| detail.get(name).and_then(Value::as_str);
    let path = field("filePath").or_else(|| field("notebook_path"))?;
    let structured = detail.get("structuredPatch");
    if structured.is_none() && field("notebook_path").is_none() {
        return None;
    }
    let created = field("type") == Some("create");
    let diff = match structured.and_then(|structured| patch::of_change(path, structured)) {
        Some(diff) => Some(diff),
        None if created => field("content").map(|content| patch::of_new(path, content)),
        None => None,
    };
    let kind = if created { ChangeKind::Created } else { ChangeKind::Modified };
    Some(FileChange { path: path.to_owned(), kind, renamed_to: None, diff })
}

pub fn todo(value: &Value) -> Option<Todo> {
    let status = match value.get("status").and_then(Value::as_str) {
        Some("completed") => TodoStatus::Done,
        Some("in_progress") => TodoStatus::Active,
        _ => TodoStatus::Pending,
    };
    Some(Todo { text: value.get("content")?.as_str()?.to_owned(), status })
}

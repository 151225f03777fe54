//! What a thread is made of: `item` of `item/started` and `item/completed`, by its `type`.

use falconer_backend::ItemStatus;
use serde_json::{Value, json};

use crate::incoming::{pick, text};

/// One item. Which types there are, and what becomes of each, is in `docs/codex.md`.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// `userMessage`: a message that joined. `client` is the id that we gave it.
    User { id: String, client: Option<String>, text: String },
    /// `agentMessage`, `plan`
    Message { id: String, text: String },
    /// `reasoning`: a summary, and the raw text where the provider gives it
    Reasoning { id: String, summary: String, content: String },
    /// `commandExecution`
    Command(Command),
    /// `fileChange`
    Change { id: String, changes: Vec<Value>, status: Option<ItemStatus> },
    /// `mcpToolCall`, `dynamicToolCall`, `webSearch`, `imageView`, `imageGeneration`, `sleep`, `collabAgentToolCall`
    Tool(Tool),
    /// `contextCompaction`
    Compacted,
    /// What has no type of its own.
    Native { kind: &'static str, data: Value },
    /// Not known to this version of the backend.
    Other(String),
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Command {
    pub id: String,
    pub command: String,
    pub cwd: Option<String>,
    pub status: Option<ItemStatus>,
    /// All of its output, up to about 1 MiB; the middle of a longer one is left out.
    pub output: Option<String>,
    pub exit_code: Option<i32>,
    pub duration_ms: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tool {
    pub id: String,
    pub server: Option<String>,
    pub name: String,
    pub input: Value,
    pub output: Value,
    pub status: Option<ItemStatus>,
    /// Threads of subagents that it began.
    pub spawned: Vec<String>,
    /// It began one and does not know its thread yet.
    pub spawns: bool,
}

/// An exit code that Codex gives to what it killed itself.
const KILLED: i64 = -1;

impl Item {
    /// Reads an item.
    pub fn read(mut value: Value) -> Self {
        let kind = text(&value, "type").unwrap_or_default();
        let id = text(&value, "id").unwrap_or_default();
        match kind.as_str() {
            "userMessage" => Self::User { id, client: text(&value, "clientId"), text: message_text(&value) },
            "agentMessage" | "plan" => Self::Message { id, text: text(&value, "text").unwrap_or_default() },
            "reasoning" => Self::Reasoning { id, summary: joined(&value, "summary"), content: joined(&value, "content") },
            "commandExecution" => Self::Command(command(id, &value)),
            "fileChange" => {
                let changes = match value.get_mut("changes").map(Value::take) {
                    Some(Value::Array(changes)) => changes,
                    _ => Vec::new(),
                };
                Self::Change { id, changes, status: status(&value) }
            }
            "mcpToolCall" | "dynamicToolCall" | "webSearch" | "imageView" | "imageGeneration" | "sleep" | "collabAgentToolCall" => {
                Self::Tool(tool(&kind, id, &mut value))
            }
            "contextCompaction" => Self::Compacted,
            "subAgentActivity" => Self::Native { kind: "subagent_activity", data: value },
            "functionCallOutput" => Self::Native { kind: "function_call_output", data: value },
            "hookPrompt" => Self::Native { kind: "hook_prompt", data: value },
            "enteredReviewMode" => Self::Native { kind: "entered_review_mode", data: value },
            "exitedReviewMode" => Self::Native { kind: "exited_review_mode", data: value },
            _ => Self::Other(kind),
        }
    }
}

fn command(id: String, value: &Value) -> Command {
    let code = value.get("exitCode").and_then(Value::as_i64);
    let killed = code == Some(KILLED);
    Command {
        id,
        command: text(value, "command").unwrap_or_default(),
        cwd: text(value, "cwd"),
        status: if killed { Some(ItemStatus::Interrupted) } else { status(value) },
        output: text(value, "aggregatedOutput"),
        exit_code: code.filter(|_| !killed).and_then(|code| i32::try_from(code).ok()),
        duration_ms: value.get("durationMs").and_then(Value::as_u64),
    }
}

fn tool(kind: &str, id: String, value: &mut Value) -> Tool {
    let mut take = |name: &str| value.get_mut(name).map(Value::take).filter(|field| !field.is_null());
    let mut tool = Tool { id, ..Tool::default() };
    match kind {
        "mcpToolCall" => {
            tool.input = take("arguments").unwrap_or_default();
            tool.output = take("error").or_else(|| take("result")).unwrap_or_default();
            tool.server = text(value, "server");
            tool.name = text(value, "tool").unwrap_or_default();
        }
        "dynamicToolCall" => {
            tool.input = take("arguments").unwrap_or_default();
            tool.output = take("contentItems").unwrap_or_default();
            tool.server = text(value, "namespace");
            tool.name = text(value, "tool").unwrap_or_default();
        }
        "webSearch" => {
            tool.name = "web_search".to_owned();
            tool.input = pick(value, &["query", "action"]);
            tool.output = pick(value, &["results"]);
        }
        "imageView" => {
            tool.name = "view_image".to_owned();
            tool.input = pick(value, &["path"]);
        }
        "imageGeneration" => {
            tool.name = "image_generation".to_owned();
            tool.input = pick(value, &["prompt", "revisedPrompt"]);
            tool.output = pick(value, &["status", "savedPath", "result"]);
        }
        "sleep" => {
            tool.name = "sleep".to_owned();
            tool.input = pick(value, &["durationMs", "seconds"]);
        }
        _ => {
            tool.name = text(value, "tool").unwrap_or_else(|| "collab_agent".to_owned());
            tool.spawns = tool.name == "spawnAgent";
            tool.input = pick(value, &["prompt", "model", "reasoningEffort", "receiverThreadIds"]);
            tool.output = pick(value, &["receiverThreadIds", "agentsStates"]);
            let receivers = value.get("receiverThreadIds").and_then(Value::as_array).into_iter().flatten();
            tool.spawned = if tool.spawns { receivers.filter_map(Value::as_str).map(str::to_owned).collect() } else { Vec::new() };
        }
    }
    tool.status = status(value);
    tool
}

/// Where the item stands; none while it is at work, or where it does not say.
fn status(value: &Value) -> Option<ItemStatus> {
    Some(match text(value, "status")?.as_str() {
        "completed" => ItemStatus::Succeeded,
        "failed" | "errored" => ItemStatus::Failed,
        "declined" => ItemStatus::Declined,
        "interrupted" => ItemStatus::Interrupted,
        _ => return None,
    })
}

/// The text of a message; what is no text is named.
fn message_text(value: &Value) -> String {
    let parts = value.get("content").and_then(Value::as_array).into_iter().flatten();
    let texts = parts.map(|part| match text(part, "type").as_deref() {
        Some("text") => text(part, "text").unwrap_or_default(),
        Some(other) => format!("[{other}]"),
        None => String::new(),
    });
    texts.collect::<Vec<_>>().join("\n\n")
}

fn joined(value: &Value, name: &str) -> String {
    let texts = value.get(name).and_then(Value::as_array).into_iter().flatten();
    texts.filter_map(Value::as_str).collect::<Vec<_>>().join("\n\n")
}

/// The whole of a change as it is to be judged: path, kind and diff of each file.
pub fn changes_to_judge(changes: &[Value]) -> Value {
    changes.iter().map(|change| pick(change, &["path", "kind", "diff"])).collect::<Vec<_>>().into()
}

impl Tool {
    /// What the call is given, as an object or a value.
    pub fn input(&self) -> Value {
        if self.input.is_null() { json!({}) } else { self.input.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_codex_killed_is_interrupted() {
        let Item::Command(command) = Item::read(json!({"type": "commandExecution", "id": "c", "status": "failed", "exitCode": -1})) else {
            panic!("no command")
        };
        assert_eq!((command.status, command.exit_code), (Some(ItemStatus::Interrupted), None));
    }

    #[test]
    fn subagents_are_named_by_the_call_that_began_them() {
        let call =
            json!({"type": "collabAgentToolCall", "id": "c", "tool": "spawnAgent", "status": "completed", "receiverThreadIds": ["t"]});
        let Item::Tool(tool) = Item::read(call) else { panic!("no tool") };
        assert_eq!((tool.spawned, tool.status), (vec!["t".to_owned()], Some(ItemStatus::Succeeded)));
    }

    #[test]
    fn odd_items_are_read() {
        for kind in ["userMessage", "agentMessage", "reasoning", "commandExecution", "fileChange", "mcpToolCall", "webSearch", "later"] {
            let _ = Item::read(json!({ "type": kind }));
            let _ = Item::read(json!({"type": kind, "id": 4, "content": 1, "changes": "x", "status": [], "exitCode": 1e99, "summary": {}}));
        }
        assert_eq!(Item::read(json!(null)), Item::Other(String::new()));
    }
}

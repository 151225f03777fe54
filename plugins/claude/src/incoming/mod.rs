//! What `claude` writes on its standard output, one JSON value a line, read tolerantly.
//!
//! The program adds types and fields with every release: what is not known is [`Incoming::Other`] and ignored, every field
//! but the discriminator may be missing, and a field of another shape than expected counts as missing.

mod asking;
mod content;
mod fields;
mod system;

use serde::Deserialize;
use serde_json::{Map, Value};

pub use asking::{Asked, Asking, Elicitation, ToolAsk};
use fields::{fields, text};

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// `system/init`: once a turn.
    Init(Init),
    /// `system/session_state_changed`.
    State(State),
    /// `system/background_tasks_changed`: what there is now.
    BackgroundTasks(Background),
    /// `system/task_started`
    TaskStarted(Task),
    /// `system/task_notification`: a task ended.
    TaskEnded(Task),
    /// `system/task_progress`, `tool_progress`: a sign of life.
    Progress(&'static str, Value),
    /// `system/api_retry`
    Retry(Retry),
    /// `system/permission_denied`
    PermissionDenied(Denied),
    /// Other `system` lines that say something to people: code and text.
    Said(String, String),
    /// `rate_limit_event`
    RateLimit(Value),
    /// `stream_event`: a raw event of the Messages API.
    Stream(Stream),
    /// `assistant`: one content block of a message.
    Assistant(Assistant),
    /// `user`: tool results, and messages that joined.
    User(User),
    /// `result`: a turn ended.
    Result(Box<TurnResult>),
    /// `control_request`: the program asks.
    Asked(Asked),
    /// `command_lifecycle`: what becomes of a message that was sent, by its UUID.
    Message(String, Lifecycle),
    /// `system/status`: the permission mode changed.
    Mode(String),
    /// `control_response`: an answer to ours, and whether it says that it was done.
    Answered(String, bool),
    /// `control_cancel_request`: its question is withdrawn.
    Withdrawn(String),
    /// Anything else.
    Other,
}

/// The session's state, as the program says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A turn runs.
    Running,
    /// A question is open.
    RequiresAction,
    /// Nothing runs but perhaps background tasks.
    Idle,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// It waits for its turn.
    Queued,
    /// The model reads it.
    Started,
    /// It is answered.
    Completed,
    /// It is given up, or its turn was cut short.
    Cancelled,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Init {
    pub session_id: String,
    pub model: Option<String>,
    #[serde(rename = "permissionMode")]
    pub permission_mode: Option<String>,
    pub claude_code_version: Option<String>,
    pub cwd: Option<String>,
    pub mcp_servers: Vec<Server>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Server {
    pub name: String,
    pub status: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Task {
    pub task_id: String,
    pub tool_use_id: Option<String>,
    pub is_backgrounded: Option<bool>,
    pub status: Option<String>,
    pub summary: Option<String>,
}

/// How much runs in the background.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Background {
    /// All of it.
    pub tasks: usize,
    /// What is more than a command: an interrupt stops subagents there, and leaves commands alone.
    pub agents: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Retry {
    pub attempt: Option<u64>,
    pub max_retries: Option<u64>,
    pub retry_delay_ms: Option<f64>,
    pub error_status: Option<u64>,
    pub error: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Denied {
    pub tool_name: Option<String>,
    pub tool_use_id: Option<String>,
    pub message: Option<String>,
    pub decision_reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    pub parent: Option<String>,
    /// Of the message, where the program says it.
    pub message_id: Option<String>,
    pub event: StreamEvent,
}

#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    MessageStart(String),
    BlockStart(u64),
    Text(u64, String),
    Thinking(u64, String),
    /// The final usage of one message.
    Usage(Tokens),
    Other,
}

/// Token counts as the Messages API writes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Tokens {
    pub input_tokens: u64,
    pub cache_creation_input_tokens: u64,
    pub cache_read_input_tokens: u64,
    pub output_tokens: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assistant {
    pub message_id: String,
    pub parent: Option<String>,
    pub blocks: Vec<Block>,
    /// Not the model's words but the program's own about an error of the API.
    pub is_api_error: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    Text(String),
    Thinking(String),
    ToolUse { id: String, name: String, input: Value },
    Other,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct User {
    pub uuid: Option<String>,
    pub parent: Option<String>,
    pub results: Vec<ToolResult>,
    pub texts: Vec<String>,
    /// An echo of what we sent.
    pub is_replay: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolResult {
    pub id: String,
    pub is_error: bool,
    /// As the model sees it: a string or content blocks.
    pub content: Value,
    /// As the tool said it; the shape depends on the tool.
    pub detail: Value,
    /// It was refused before it ran.
    pub declined: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TurnResult {
    pub subtype: String,
    pub is_error: bool,
    pub api_error_status: Option<u16>,
    pub api_error: Option<String>,
    pub terminal_reason: Option<String>,
    pub result: Option<String>,
    pub errors: Vec<String>,
    pub structured_output: Option<Value>,
    pub num_turns: u32,
    pub total_cost_usd: Option<f64>,
    pub usage: Tokens,
    /// By model, since the last result.
    pub model_usage_since_last_result: Option<Map<String, Value>>,
    /// The messages that this turn answered.
    pub user_message_uuids: Option<Vec<String>>,
}

impl TurnResult {
    /// The turn was cut short.
    pub fn is_cut(&self) -> bool {
        self.terminal_reason.as_deref().is_some_and(|reason| reason.starts_with("aborted_"))
    }
}

impl Incoming {
    /// Reads one line's value.
    #[must_use]
    pub fn read(mut value: Value) -> Self {
        let kind = text(&value, "type").unwrap_or_default();
        match kind.as_str() {
            "system" => system::system(value),
            "stream_event" => Self::Stream(content::stream(&mut value)),
            "assistant" => Self::Assistant(content::assistant(&mut value)),
            "user" => Self::User(content::user(&mut value)),
            "result" => Self::Result(Box::new(fields(value))),
            "control_request" => asking::asked(&mut value),
            "control_response" => answered(&value),
            "control_cancel_request" => text(&value, "request_id").map_or(Self::Other, Self::Withdrawn),
            "command_lifecycle" => lifecycle(&value),
            "auth_status" => text(&value, "error").map_or(Self::Other, |error| Self::Said("auth_status".to_owned(), error)),
            "tool_progress" => Self::Progress("tool_progress", system::sign_of_life(&value)),
            "rate_limit_event" => Self::RateLimit(value.get_mut("rate_limit_info").map(Value::take).unwrap_or_default()),
            _ => Self::Other,
        }
    }
}

fn answered(value: &Value) -> Incoming {
    let Some(response) = value.get("response") else { return Incoming::Other };
    let done = text(response, "subtype").as_deref() != Some("error");
    text(response, "request_id").map_or(Incoming::Other, |id| Incoming::Answered(id, done))
}

fn lifecycle(value: &Value) -> Incoming {
    let state = match text(value, "state").as_deref() {
        Some("queued") => Lifecycle::Queued,
        Some("started") => Lifecycle::Started,
        Some("completed") => Lifecycle::Completed,
        Some("cancelled" | "discarded" | "refused") => Lifecycle::Cancelled,
        _ => return Incoming::Other,
    };
    text(value, "command_uuid").map_or(Incoming::Other, |uuid| Incoming::Message(uuid, state))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_odd_costs_nothing_else() {
        let line = json!({"is_error": true, "type": "result", "num_turns": "three", "result": null, "errors": ["x"], "new": {"a": 1}});
        let Incoming::Result(result) = Incoming::read(line) else { panic!("no result") };
        assert!(result.is_error);
        assert_eq!((result.num_turns, result.errors.len()), (0, 1));
        for odd in [json!(null), json!([]), json!("x"), json!({}), json!({"type": 3}), json!({"type": "system"}), json!({"type": "later"})]
        {
            assert_eq!(Incoming::read(odd), Incoming::Other);
        }
        for odd in
            ["assistant", "user", "stream_event", "result", "control_request", "control_response", "command_lifecycle", "rate_limit_event"]
        {
            let _ = Incoming::read(json!({ "type": odd }));
            let _ = Incoming::read(json!({"type": odd, "message": 1, "event": [], "request": "x", "request_id": {}}));
        }
    }
}

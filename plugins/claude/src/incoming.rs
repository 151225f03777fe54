//! What `claude` writes on its standard output, one JSON value a line, read tolerantly.
//!
//! The program adds types and fields with every release: what is not known is [`Incoming::Other`] and ignored, every field
//! but the discriminator may be missing, and a field of another shape than expected counts as missing.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// `system/init`: once a turn.
    Init(Init),
    /// `system/session_state_changed`.
    State(State),
    /// `system/background_tasks_changed`: how many there are now.
    BackgroundTasks(usize),
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
    /// `control_response`: an answer to ours.
    Answered(String),
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
    pub queued_turn_count: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub request_id: String,
    pub question: Asking,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Asking {
    /// May this tool be used?
    CanUseTool { tool: String, tool_use_id: Option<String>, description: Option<String> },
    /// An MCP server of the agent asks.
    Elicitation { server: String },
    /// What this version does not know.
    Other(String),
}

impl Incoming {
    /// Reads one line's value.
    #[must_use]
    pub fn read(mut value: Value) -> Self {
        let kind = text(&value, "type").unwrap_or_default();
        match kind.as_str() {
            "system" => system(value),
            "stream_event" => Self::Stream(stream(&mut value)),
            "assistant" => Self::Assistant(assistant(&mut value)),
            "user" => Self::User(user(&mut value)),
            "result" => Self::Result(Box::new(fields(value))),
            "control_request" => asked(&value),
            "control_response" => value.get("response").and_then(|r| text(r, "request_id")).map_or(Self::Other, Self::Answered),
            "control_cancel_request" => text(&value, "request_id").map_or(Self::Other, Self::Withdrawn),
            "tool_progress" => Self::Progress("tool_progress", sign_of_life(&value)),
            "rate_limit_event" => Self::RateLimit(value.get_mut("rate_limit_info").map(Value::take).unwrap_or_default()),
            _ => Self::Other,
        }
    }
}

fn system(mut value: Value) -> Incoming {
    let subtype = text(&value, "subtype").unwrap_or_default();
    match subtype.as_str() {
        "init" => Incoming::Init(fields(value)),
        "session_state_changed" => match text(&value, "state").as_deref() {
            Some("running") => Incoming::State(State::Running),
            Some("requires_action") => Incoming::State(State::RequiresAction),
            Some("idle") => Incoming::State(State::Idle),
            _ => Incoming::Other,
        },
        "background_tasks_changed" => {
            value.get("tasks").and_then(Value::as_array).map_or(Incoming::Other, |tasks| Incoming::BackgroundTasks(tasks.len()))
        }
        "task_started" => Incoming::TaskStarted(fields(value)),
        "task_notification" => Incoming::TaskEnded(fields(value)),
        "task_progress" => Incoming::Progress("task_progress", sign_of_life(&value)),
        "api_retry" => Incoming::Retry(fields(value)),
        "permission_denied" => Incoming::PermissionDenied(fields(value)),
        "status" if text(&value, "status").as_deref() == Some("compacting") => {
            Incoming::Said("compacting".to_owned(), "the conversation is being compacted".to_owned())
        }
        "informational" | "notification" | "model_fallback" | "compact_boundary" => {
            let said = ["content", "message", "text"].iter().find_map(|name| match value.get_mut(*name).map(Value::take) {
                Some(Value::String(said)) => Some(said),
                _ => None,
            });
            Incoming::Said(subtype.clone(), said.unwrap_or(subtype))
        }
        _ => Incoming::Other,
    }
}

fn stream(value: &mut Value) -> Stream {
    let parent = text(value, "parent_tool_use_id");
    let message_id = text(value, "api_message_id");
    let event = value.get_mut("event").map(Value::take).unwrap_or_default();
    let index = event.get("index").and_then(Value::as_u64).unwrap_or(0);
    let part = |outer: &str, inner: &str| event.get(outer).and_then(|outer| text(outer, inner));
    let event = match text(&event, "type").as_deref() {
        Some("message_start") => StreamEvent::MessageStart(part("message", "id").unwrap_or_default()),
        Some("content_block_start") => StreamEvent::BlockStart(index),
        Some("content_block_delta") => match part("delta", "type").as_deref() {
            Some("text_delta") => StreamEvent::Text(index, part("delta", "text").unwrap_or_default()),
            Some("thinking_delta") => StreamEvent::Thinking(index, part("delta", "thinking").unwrap_or_default()),
            _ => StreamEvent::Other,
        },
        Some("message_delta") => event.get("usage").map_or(StreamEvent::Other, |usage| StreamEvent::Usage(fields(usage.clone()))),
        _ => StreamEvent::Other,
    };
    Stream { parent, message_id, event }
}

fn assistant(value: &mut Value) -> Assistant {
    let parent = text(value, "parent_tool_use_id");
    let mut message = value.get_mut("message").map(Value::take).unwrap_or_default();
    let blocks = match message.get_mut("content").map(Value::take) {
        Some(Value::Array(blocks)) => blocks.into_iter().map(block).collect(),
        Some(Value::String(text)) => vec![Block::Text(text)],
        _ => Vec::new(),
    };
    let flagged = value.get("is_api_error_message").and_then(Value::as_bool).unwrap_or(false);
    Assistant {
        message_id: text(&message, "id").unwrap_or_default(),
        parent,
        blocks,
        is_api_error: flagged || text(&message, "model").as_deref() == Some("<synthetic>") && value.get("error").is_some(),
    }
}

fn block(mut value: Value) -> Block {
    match text(&value, "type").as_deref() {
        Some("text") => Block::Text(text(&value, "text").unwrap_or_default()),
        Some("thinking") => Block::Thinking(text(&value, "thinking").unwrap_or_default()),
        Some("tool_use") => Block::ToolUse {
            id: text(&value, "id").unwrap_or_default(),
            name: text(&value, "name").unwrap_or_default(),
            input: value.get_mut("input").map(Value::take).unwrap_or_default(),
        },
        _ => Block::Other,
    }
}

fn user(value: &mut Value) -> User {
    let mut user = User {
        uuid: text(value, "uuid"),
        parent: text(value, "parent_tool_use_id"),
        is_replay: value.get("isReplay").and_then(Value::as_bool).unwrap_or(false),
        ..User::default()
    };
    let detail = value.get_mut("tool_use_result").map(Value::take).unwrap_or_default();
    let meta = value.get_mut("tool_result_meta").map(Value::take).unwrap_or_default();
    let declined = |id: &str| {
        let of_id = |one: &&Value| text(one, "id").as_deref() == Some(id);
        let one = meta.as_array().and_then(|all| all.iter().find(of_id));
        one.is_some_and(|one| {
            let decision = one.get("permission_decision").and_then(|decision| text(decision, "decision"));
            decision.as_deref() == Some("reject") || text(one, "non_execution_kind").as_deref() == Some("user-rejected")
        })
    };
    let blocks = match value.get_mut("message").and_then(|message| message.get_mut("content")).map(Value::take) {
        Some(Value::Array(blocks)) => blocks,
        Some(Value::String(text)) => {
            user.texts.push(text);
            return user;
        }
        _ => return user,
    };
    for mut block in blocks {
        match text(&block, "type").as_deref() {
            Some("tool_result") => {
                let id = text(&block, "tool_use_id").unwrap_or_default();
                user.results.push(ToolResult {
                    is_error: block.get("is_error").and_then(Value::as_bool).unwrap_or(false),
                    content: block.get_mut("content").map(Value::take).unwrap_or_default(),
                    declined: declined(&id),
                    detail: Value::Null,
                    id,
                });
            }
            Some("text") => user.texts.extend(text(&block, "text")),
            _ => {}
        }
    }
    // The structured form belongs to the one result of the line.
    if let [only] = user.results.as_mut_slice() {
        only.detail = detail;
    }
    user
}

fn asked(value: &Value) -> Incoming {
    let Some(request_id) = text(value, "request_id") else { return Incoming::Other };
    let request = value.get("request").cloned().unwrap_or_default();
    let question = match text(&request, "subtype").unwrap_or_default().as_str() {
        "can_use_tool" => Asking::CanUseTool {
            tool: text(&request, "tool_name").unwrap_or_default(),
            tool_use_id: text(&request, "tool_use_id"),
            description: text(&request, "description"),
        },
        "elicitation" => Asking::Elicitation { server: text(&request, "mcp_server_name").unwrap_or_default() },
        other => Asking::Other(other.to_owned()),
    };
    Incoming::Asked(Asked { request_id, question })
}

/// What is worth keeping of a heartbeat.
fn sign_of_life(value: &Value) -> Value {
    const KEPT: [&str; 9] = [
        "tool_use_id",
        "parent_tool_use_id",
        "tool_name",
        "elapsed_time_seconds",
        "task_id",
        "description",
        "last_tool_name",
        "summary",
        "usage",
    ];
    KEPT.iter().filter_map(|name| Some(((*name).to_owned(), value.get(*name)?.clone()))).collect::<Map<_, _>>().into()
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// The fields of a record; one that is null or of a wrong shape is left out and takes its default.
fn fields<T: DeserializeOwned + Default>(value: Value) -> T {
    let Value::Object(mut map) = value else { return T::default() };
    map.retain(|_, field| !field.is_null());
    if let Ok(record) = serde_json::from_value(Value::Object(map.clone())) {
        return record;
    }
    // One odd field must not cost the others: drop those without which the rest reads.
    let names: Vec<String> = map.keys().cloned().collect();
    for name in names {
        let alone = Map::from_iter([(name.clone(), map[&name].clone())]);
        if serde_json::from_value::<T>(Value::Object(alone)).is_err() {
            map.remove(&name);
        }
    }
    serde_json::from_value(Value::Object(map)).unwrap_or_default()
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
        for odd in ["assistant", "user", "stream_event", "result", "control_request", "rate_limit_event"] {
            let _ = Incoming::read(json!({ "type": odd }));
            let _ = Incoming::read(json!({"type": odd, "message": 1, "event": [], "request": "x", "request_id": {}}));
        }
    }
}

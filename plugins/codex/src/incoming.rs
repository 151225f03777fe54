//! What `codex app-server` writes on its standard output, read tolerantly.
//!
//! The program adds methods and fields with every release: what is not known is [`Note::Unknown`] and ignored, every field but
//! the method may be missing, and a field of another shape than expected counts as missing. `docs/codex.md` lists them all.

use falconer_backend::{Severity, Todo, TodoStatus};
use serde_json::{Value, json};

use crate::item::Item;
use crate::usage::Tokens;

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// The answer to a request of ours.
    Answer { id: u64, result: Result<Value, String> },
    /// The program asks.
    Asked(Asked),
    /// The program tells.
    Told(Note),
    /// Anything else.
    Other,
}

/// A request of the program.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// A number, also 0, or a text.
    pub id: Value,
    pub method: String,
    pub params: Value,
}

/// A notification.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// `thread/started`; with a parent it is a subagent's.
    ThreadStarted { thread: String, parent: Option<String> },
    /// `thread/closed`, `thread/archived`, `thread/deleted`
    ThreadGone { thread: String },
    /// `thread/goal/updated`, `thread/goal/cleared`: while one is pursued, turns begin by themselves.
    Goal { thread: String, active: bool },
    /// `turn/started`
    TurnStarted { thread: String, turn: String },
    /// `turn/completed`
    TurnCompleted { thread: String, turn: Turn },
    /// `item/started`
    ItemStarted { thread: String, item: Item },
    /// `item/completed`
    ItemCompleted { thread: String, item: Item },
    /// `item/agentMessage/delta`, `item/plan/delta`
    Said { thread: String, item: String, text: String },
    /// `item/reasoning/summaryTextDelta`, and `…/summaryPartAdded` as an empty line
    Summary { thread: String, item: String, text: String },
    /// `item/reasoning/textDelta`
    Reasoned { thread: String, item: String, text: String },
    /// `item/commandExecution/outputDelta`
    Output { item: String, text: String },
    /// `turn/plan/updated`
    Todos(Vec<Todo>),
    /// `thread/tokenUsage/updated`: of the thread so far, and of its last request
    Tokens { thread: String, turn: String, total: Tokens, last: Tokens },
    /// `serverRequest/resolved`: the program's question needs no answer any more
    Resolved(Value),
    /// `error`
    Error { error: TurnError, will_retry: bool },
    /// What is said to people: a notice.
    Notice(Severity, &'static str, String),
    /// What has no type of its own.
    Native(&'static str, Value),
    /// Known, and told elsewhere or of no use.
    Ignored,
    /// Not known to this version of the backend.
    Unknown(String),
}

/// `turn` of `turn/completed`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turn {
    pub id: String,
    pub status: TurnStatus,
    pub error: Option<TurnError>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TurnStatus {
    Completed,
    Interrupted,
    Failed,
    #[default]
    Other,
}

/// Why a turn failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TurnError {
    pub message: String,
    /// `codexErrorInfo`: a word, or the name of a one-key object.
    pub kind: String,
    pub status: Option<u16>,
    pub details: Option<String>,
}

/// Notifications that say nothing to us, or what another one says better.
const IGNORED: [&str; 42] = [
    "account/gatewayOAuth/changed",
    "account/login/completed",
    "account/updated",
    "app/list/updated",
    "command/exec/outputDelta",
    "externalAgentConfig/import/completed",
    "externalAgentConfig/import/progress",
    "fs/changed",
    "fuzzyFileSearch/sessionCompleted",
    "fuzzyFileSearch/sessionUpdated",
    "item/commandExecution/terminalInteraction",
    "item/fileChange/outputDelta",
    "item/fileChange/patchUpdated",
    "mcpServer/event/stream/notification",
    "mcpServer/oauthLogin/completed",
    "process/exited",
    "process/outputDelta",
    "project/changed",
    "remoteControl/status/changed",
    "skills/changed",
    "thread/attachment/updated",
    "thread/name/updated",
    "thread/prediction/updated",
    "thread/project/updated",
    "thread/queue/changed",
    "thread/readState/changed",
    "thread/realtime/closed",
    "thread/realtime/error",
    "thread/realtime/item/completed",
    "thread/realtime/item/started",
    "thread/realtime/item/transcript/delta",
    "thread/realtime/itemAdded",
    "thread/realtime/outputAudio/delta",
    "thread/realtime/sdp",
    "thread/realtime/started",
    "thread/realtime/transcript/delta",
    "thread/realtime/transcript/done",
    "thread/section/changed",
    "thread/settings/updated",
    "thread/status/changed",
    "thread/unarchived",
    "turn/diff/updated",
];

impl Incoming {
    /// Reads one line.
    pub fn read(mut value: Value) -> Self {
        let method = text(&value, "method");
        let params = value.get_mut("params").map(Value::take).unwrap_or_default();
        let id = value.get("id").filter(|id| !id.is_null()).cloned();
        match (method, id) {
            (Some(method), Some(id)) => Self::Asked(Asked { id, method, params }),
            (Some(method), None) => Self::Told(Note::read(method, params)),
            (None, Some(id)) => match (id.as_u64(), value.get_mut("error").map(Value::take)) {
                (Some(id), Some(error)) => Self::Answer { id, result: Err(text(&error, "message").unwrap_or_else(|| error.to_string())) },
                (Some(id), None) => Self::Answer { id, result: Ok(value.get_mut("result").map(Value::take).unwrap_or_default()) },
                (None, _) => Self::Other,
            },
            (None, None) => Self::Other,
        }
    }
}

impl Note {
    fn read(method: String, mut params: Value) -> Self {
        let thread = text(&params, "threadId").unwrap_or_default();
        let item_id = || text(&params, "itemId").unwrap_or_default();
        let delta = || text(&params, "delta").unwrap_or_default();
        match method.as_str() {
            "thread/started" => {
                let thread = params.get_mut("thread").map(Value::take).unwrap_or_default();
                Self::ThreadStarted { thread: text(&thread, "id").unwrap_or_default(), parent: text(&thread, "parentThreadId") }
            }
            "thread/closed" | "thread/archived" | "thread/deleted" => Self::ThreadGone { thread },
            "thread/goal/cleared" => Self::Goal { thread, active: false },
            "thread/goal/updated" => {
                Self::Goal { thread, active: params.get("goal").and_then(|goal| text(goal, "status")).as_deref() == Some("active") }
            }
            "turn/started" => Self::TurnStarted { thread, turn: params.get("turn").and_then(|turn| text(turn, "id")).unwrap_or_default() },
            "turn/completed" => Self::TurnCompleted { thread, turn: params.get("turn").map(turn).unwrap_or_default() },
            "item/started" => Self::ItemStarted { thread, item: Item::read(params.get_mut("item").map(Value::take).unwrap_or_default()) },
            "item/completed" => {
                Self::ItemCompleted { thread, item: Item::read(params.get_mut("item").map(Value::take).unwrap_or_default()) }
            }
            "item/agentMessage/delta" | "item/plan/delta" => Self::Said { item: item_id(), text: delta(), thread },
            "item/reasoning/summaryTextDelta" => Self::Summary { item: item_id(), text: delta(), thread },
            "item/reasoning/summaryPartAdded" => {
                let first = params.get("summaryIndex").and_then(Value::as_u64).unwrap_or(0) == 0;
                Self::Summary { item: item_id(), text: if first { String::new() } else { "\n\n".to_owned() }, thread }
            }
            "item/reasoning/textDelta" => Self::Reasoned { item: item_id(), text: delta(), thread },
            "item/commandExecution/outputDelta" => Self::Output { item: item_id(), text: delta() },
            "turn/plan/updated" => {
                Self::Todos(params.get("plan").and_then(Value::as_array).into_iter().flatten().filter_map(todo).collect())
            }
            "thread/tokenUsage/updated" => {
                let usage = params.get("tokenUsage");
                let tokens = |name: &str| usage.and_then(|usage| usage.get(name)).map(Tokens::read).unwrap_or_default();
                Self::Tokens { turn: text(&params, "turnId").unwrap_or_default(), total: tokens("total"), last: tokens("last"), thread }
            }
            "serverRequest/resolved" => Self::Resolved(params.get_mut("requestId").map(Value::take).unwrap_or_default()),
            "error" => Self::Error {
                error: params.get("error").map(turn_error).unwrap_or_default(),
                will_retry: params.get("willRetry").and_then(Value::as_bool).unwrap_or(false),
            },
            _ => Self::told_to_people(method, &mut params),
        }
    }

    fn told_to_people(method: String, params: &mut Value) -> Self {
        let message = |params: &Value| text(params, "message").unwrap_or_default();
        let native = |kind, params: &mut Value| Self::Native(kind, params.take());
        match method.as_str() {
            "warning" => Self::Notice(Severity::Warning, "warning", message(params)),
            "guardianWarning" => Self::Notice(Severity::Warning, "guardian_warning", message(params)),
            "configWarning" | "deprecationNotice" => {
                let code = if method == "configWarning" { "config_warning" } else { "deprecation" };
                Self::Notice(Severity::Info, code, with_details(text(params, "summary").unwrap_or_default(), text(params, "details")))
            }
            "windows/worldWritableWarning" | "windowsSandbox/setupCompleted" => Self::Ignored,
            "mcpServer/startupStatus/updated" => match text(params, "status").as_deref() {
                Some("failed") => {
                    let name = text(params, "name").unwrap_or_default();
                    let why = text(params, "error").unwrap_or_else(|| "it did not start".to_owned());
                    Self::Notice(Severity::Warning, "mcp_server_failed", format!("the agent's MCP server {name} is not there: {why}"))
                }
                _ => Self::Ignored,
            },
            "account/rateLimits/updated" => {
                let limits = params.get("rateLimits");
                match limits.and_then(|limits| limits.get("rateLimitReachedType")).filter(|reached| !reached.is_null()) {
                    Some(reached) => Self::Notice(Severity::Warning, "rate_limit", format!("the account's limit is reached: {reached}")),
                    None => Self::Ignored,
                }
            }
            "thread/compacted" => {
                Self::Notice(Severity::Info, "context_compacted", "the conversation was shortened to fit the model".to_owned())
            }
            "thread/reverted" => native("thread_reverted", params),
            "thread/environment/connected" => native("environment_connected", params),
            "thread/environment/disconnected" => native("environment_disconnected", params),
            "hook/started" => native("hook_started", params),
            "hook/completed" => native("hook_completed", params),
            "item/autoApprovalReview/started" => native("approval_review_started", params),
            "item/autoApprovalReview/completed" => native("approval_review_completed", params),
            "autoApprovalReview/strictReviewRequired" => native("approval_review_required", params),
            "item/mcpToolCall/progress" => native("tool_progress", params),
            "model/rerouted" => native("model_rerouted", params),
            "model/verification" => native("model_verification", params),
            "model/safetyBuffering/updated" => native("safety_buffering", params),
            "modelProvider/authRecoveryStarted" => native("auth_recovery_started", params),
            "modelProvider/authRecoveryCompleted" => native("auth_recovery_completed", params),
            "turn/moderationMetadata" => native("moderation", params),
            known if IGNORED.contains(&known) => Self::Ignored,
            _ => Self::Unknown(method),
        }
    }
}

fn turn(value: &Value) -> Turn {
    Turn {
        id: text(value, "id").unwrap_or_default(),
        status: match text(value, "status").as_deref() {
            Some("completed") => TurnStatus::Completed,
            Some("interrupted") => TurnStatus::Interrupted,
            Some("failed") => TurnStatus::Failed,
            _ => TurnStatus::Other,
        },
        error: value.get("error").filter(|error| error.is_object()).map(turn_error),
    }
}

fn turn_error(value: &Value) -> TurnError {
    let info = value.get("codexErrorInfo").unwrap_or(&Value::Null);
    let (kind, status) = match info {
        Value::String(word) => (word.clone(), None),
        Value::Object(fields) => fields.iter().next().map_or_else(Default::default, |(name, inner)| {
            let status = inner.get("httpStatusCode").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
            (name.clone(), status)
        }),
        _ => (String::new(), None),
    };
    TurnError { message: text(value, "message").unwrap_or_default(), kind, status, details: text(value, "additionalDetails") }
}

fn todo(value: &Value) -> Option<Todo> {
    let status = match text(value, "status").as_deref() {
        Some("completed") => TodoStatus::Done,
        Some("inProgress" | "in_progress") => TodoStatus::Active,
        _ => TodoStatus::Pending,
    };
    let mut step = text(value, "step")?;
    step.truncate(step.floor_char_boundary(MAX_TODO));
    Some(Todo { text: step, status })
}

/// The longest text of one item of a list of things to do, by the contract.
const MAX_TODO: usize = 4 << 10;

fn with_details(text: String, details: Option<String>) -> String {
    match details {
        Some(details) if !details.is_empty() => format!("{text}: {details}"),
        _ => text,
    }
}

/// A field that is a text.
pub fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// Several fields of a value, those that are there.
pub fn pick(value: &Value, names: &[&str]) -> Value {
    let mut picked = json!({});
    for name in names {
        if let Some(field) = value.get(*name).filter(|field| !field.is_null()) {
            picked[*name] = field.clone();
        }
    }
    picked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_odd_costs_nothing_else() {
        for odd in [json!(null), json!([]), json!("x"), json!({}), json!({"id": null}), json!({"id": "x"}), json!({"method": 3})] {
            assert_eq!(Incoming::read(odd), Incoming::Other);
        }
        let methods = [
            "turn/completed",
            "item/started",
            "item/completed",
            "error",
            "turn/plan/updated",
            "thread/tokenUsage/updated",
            "thread/started",
        ];
        for method in methods {
            for params in [
                json!(null),
                json!({}),
                json!([]),
                json!({"item": 1, "turn": [], "error": "x", "plan": {}, "tokenUsage": 4, "threadId": {}}),
            ] {
                let read = Incoming::read(json!({"method": method, "params": params}));
                assert!(matches!(read, Incoming::Told(ref note) if !matches!(note, Note::Unknown(_))), "{read:?}");
            }
        }
        assert_eq!(Incoming::read(json!({"method": "later/added"})), Incoming::Told(Note::Unknown("later/added".to_owned())));
        assert!(matches!(Incoming::read(json!({"method": "x", "id": 0})), Incoming::Asked(Asked { id, .. }) if id == json!(0)));
        assert!(matches!(Incoming::read(json!({"id": 0, "result": {}})), Incoming::Answer { id: 0, result: Ok(_) }));
    }

    #[test]
    fn errors_are_words_or_objects() {
        let error = turn_error(&json!({"message": "m", "codexErrorInfo": {"httpConnectionFailed": {"httpStatusCode": 401}}}));
        assert_eq!((error.kind.as_str(), error.status), ("httpConnectionFailed", Some(401)));
        let error = turn_error(&json!({"message": "m", "codexErrorInfo": "serverOverloaded"}));
        assert_eq!((error.kind.as_str(), error.status), ("serverOverloaded", None));
    }
}

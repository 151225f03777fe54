//! Words for people: what notices say.

use falconer_backend::{Event, Severity};
use serde_json::Value;

use crate::incoming::{Asking, Denied, Retry};

/// A request to the model is tried again.
pub fn retry(retry: &Retry) -> String {
    let why = match (retry.error_status, retry.error.as_deref()) {
        (Some(status), Some(error)) => format!("{status} {error}"),
        (Some(status), None) => status.to_string(),
        (None, Some(error)) => error.to_owned(),
        (None, None) => "unknown".to_owned(),
    };
    let of = retry.max_retries.map(|max| format!(" of {max}")).unwrap_or_default();
    let delay = retry.retry_delay_ms.map(|ms| format!(" in {ms:.0} ms")).unwrap_or_default();
    format!("a request to the model failed ({why}); try {}{of}{delay}", retry.attempt.unwrap_or(1))
}

/// The program refused a tool by itself.
pub fn denied(denied: Denied) -> String {
    let tool = denied.tool_name.as_deref().unwrap_or("a tool");
    let why = denied.message.or(denied.decision_reason).unwrap_or_else(|| "not allowed in this permission mode".to_owned());
    format!("{tool} was refused: {why}")
}

/// A question was answered by no at once.
pub fn refused_at_once(question: &Asking) -> Event {
    match question {
        Asking::Tool(ask) => {
            let what = ask.description.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
            let text = format!("{}{what} was refused: it needs a permission, and nobody can be asked in this run", ask.tool_name);
            Event::notice(Severity::Warning, "permission_denied", text)
        }
        Asking::Elicitation(ask) => {
            let text =
                format!("a question of the agent's MCP server {} was declined: nobody can be asked in this run", ask.mcp_server_name);
            Event::notice(Severity::Warning, "question_declined", text)
        }
        Asking::Other(subtype) => Event::notice(Severity::Warning, "question_declined", format!("a request {subtype} was declined")),
    }
}

/// A limit of the account; nothing where it is far.
pub fn rate_limit(info: &Value) -> Option<Event> {
    let status = info.get("status").and_then(Value::as_str).unwrap_or("unknown");
    (status != "allowed").then(|| Event::notice(Severity::Warning, "rate_limit", format!("the account's limit: {info}")))
}

/// A message that the agent never read.
pub fn not_delivered(id: &str) -> Event {
    Event::notice(Severity::Warning, "message_not_delivered", format!("the agent did not read the message {id}: its turn was over"))
}

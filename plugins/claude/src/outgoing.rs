//! What is written to the standard input of `claude`: one JSON value a line.

use falconer_backend::Timing;
use serde_json::{Value, json};

/// A message of the person.
#[derive(Debug)]
pub struct Message<'a> {
    /// A UUID: by it the program tells what became of the message.
    pub uuid: &'a str,
    /// Content blocks.
    pub content: Vec<Value>,
    /// `/x` is a command of the program and `@x` pulls in a file; else both are text.
    pub expand: bool,
    /// When it counts, where a turn runs.
    pub timing: Option<Timing>,
}

impl Message<'_> {
    /// As a line.
    pub fn line(self) -> String {
        let mut value = json!({
            "type": "user",
            "uuid": self.uuid,
            "message": { "role": "user", "content": self.content },
        });
        if !self.expand {
            value["client_composed"] = true.into();
        }
        match self.timing {
            Some(Timing::Now) => value["priority"] = "now".into(),
            Some(Timing::AfterStep) => value["priority"] = "next".into(),
            None => {}
        }
        line(&value)
    }
}

/// Ends the turn in hand, and what waits behind it.
pub fn interrupt(request_id: &str) -> String {
    control(request_id, &json!({ "subtype": "interrupt", "cancel_queued": true }))
}

/// Ends the turn in hand; what waits behind it begins.
pub fn cut(request_id: &str) -> String {
    control(request_id, &json!({ "subtype": "interrupt" }))
}

/// Ends a command, or another task: in the turn in hand, or in the background.
pub fn stop_task(request_id: &str, task_id: &str) -> String {
    control(request_id, &json!({ "subtype": "stop_task", "task_id": task_id }))
}

/// Ends the session: background work is stopped, then the program exits.
pub fn end_session(request_id: &str) -> String {
    control(request_id, &json!({ "subtype": "end_session" }))
}

/// Lets a tool be used. `input` is what it is used with; `permissions` are rules that hold from then on.
pub fn allow(request_id: &str, input: &Value, permissions: &[Value]) -> String {
    let mut response = json!({ "behavior": "allow", "updatedInput": input });
    if !permissions.is_empty() {
        response["updatedPermissions"] = permissions.into();
    }
    answer(request_id, &response)
}

/// Refuses the use of a tool; the turn goes on, and the model reads why.
pub fn deny(request_id: &str, why: &str) -> String {
    answer(request_id, &json!({ "behavior": "deny", "message": why, "interrupt": false }))
}

/// Answers what an MCP server of the agent asks: `accept`, `decline` or `cancel`.
pub fn elicited(request_id: &str, action: &str, content: Option<Value>) -> String {
    let mut response = json!({ "action": action });
    if let Some(content) = content {
        response["content"] = content;
    }
    answer(request_id, &response)
}

/// Says that a request is not known here, so that nothing waits for it.
pub fn unsupported(request_id: &str, subtype: &str) -> String {
    let error = format!("{subtype:?} is not supported by this client");
    line(&json!({ "type": "control_response", "response": { "subtype": "error", "request_id": request_id, "error": error } }))
}

fn control(request_id: &str, request: &Value) -> String {
    line(&json!({ "type": "control_request", "request_id": request_id, "request": request }))
}

fn answer(request_id: &str, response: &Value) -> String {
    line(&json!({ "type": "control_response", "response": { "subtype": "success", "request_id": request_id, "response": response } }))
}

fn line(value: &Value) -> String {
    let mut text = value.to_string();
    text.push('\n');
    text
}

//! What is written to the standard input of `claude`: one JSON value a line.

use serde_json::{Value, json};

/// A message of the person. `client_composed` keeps `/x` from being a local command and `@x` from pulling in a file.
pub fn user_message(text: &str) -> String {
    line(&json!({
        "type": "user",
        "client_composed": true,
        "message": { "role": "user", "content": [{ "type": "text", "text": text }] },
    }))
}

/// Ends the turn in hand, and what waits behind it.
pub fn interrupt(request_id: &str) -> String {
    control(request_id, &json!({ "subtype": "interrupt", "cancel_queued": true }))
}

/// Ends the session: background work is stopped, then the program exits.
pub fn end_session(request_id: &str) -> String {
    control(request_id, &json!({ "subtype": "end_session" }))
}

/// Refuses the use of a tool; the turn goes on, and the model reads why.
pub fn deny(request_id: &str, why: &str) -> String {
    answer(request_id, &json!({ "behavior": "deny", "message": why, "interrupt": false }))
}

/// Declines what an MCP server of the agent asks.
pub fn decline(request_id: &str) -> String {
    answer(request_id, &json!({ "action": "decline" }))
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

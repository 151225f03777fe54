//! What is written to the standard input of `codex app-server`: JSON-RPC without its version member, one value a line.

use serde_json::{Value, json};

/// JSON-RPC 2.0, section 5.1: the method does not exist.
const METHOD_NOT_FOUND: i32 = -32601;

/// A request of ours.
pub fn request(id: u64, method: &str, params: &Value) -> String {
    line(&json!({ "id": id, "method": method, "params": params }))
}

/// The notification after the answer to `initialize`.
pub fn initialized() -> String {
    line(&json!({ "method": "initialized" }))
}

/// The answer to a request of the program.
pub fn answer(id: &Value, result: &Value) -> String {
    line(&json!({ "id": id, "result": result }))
}

/// Says that a request is not known here, so that nothing waits for it.
pub fn unsupported(id: &Value, method: &str) -> String {
    let message = format!("{method} is not supported by this client");
    line(&json!({ "id": id, "error": { "code": METHOD_NOT_FOUND, "message": message } }))
}

fn line(value: &Value) -> String {
    let mut text = value.to_string();
    text.push('\n');
    text
}

//! The shape of answers: text and structured content say the same, because a model is shown the one or the other.
//!
//! A success is the answer's JSON. A failure is `isError` with `{code, message, retryable, hint}`, which every output
//! schema allows: some clients check failures against it too.

use rmcp::model::CallToolResult;
use serde::Serialize;
use serde_json::Value;

use crate::fault::{Fault, code};

/// Characters that an answer keeps to unless its caller asks for more.
pub const BUDGET: usize = 10_000;

/// The answer of a call that went well.
#[must_use]
pub fn success<T: Serialize>(answer: &T) -> CallToolResult {
    match serde_json::to_value(answer) {
        Ok(value) => CallToolResult::structured(value),
        Err(error) => failure(&Fault::new(code::INTERNAL, format!("the answer cannot be written as JSON: {error}"))),
    }
}

/// The answer of a call that did not.
#[must_use]
pub fn failure(fault: &Fault) -> CallToolResult {
    let mut value = serde_json::json!({ "code": fault.code, "message": fault.message, "retryable": fault.retryable });
    if let (Some(hint), Value::Object(fields)) = (&fault.hint, &mut value) {
        fields.insert("hint".to_owned(), Value::String(hint.clone()));
    }
    CallToolResult::structured_error(value)
}

/// How many characters an answer has as JSON.
#[must_use]
pub fn size<T: Serialize>(answer: &T) -> usize {
    serde_json::to_string(answer).map_or(0, |text| text.len())
}

/// Cuts a text to so many characters, and says so and where the rest is.
#[must_use]
pub fn cut(text: &str, characters: usize, rest: &str) -> String {
    let mut letters = text.char_indices();
    match letters.nth(characters) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… [cut; {rest}]", text.get(..end).unwrap_or_default()),
    }
}

//! Messages: of the model (whole, and in pieces), and of the person, with the results of tools.

use serde_json::Value;

use super::fields::{fields, text};
use super::{Assistant, Block, Stream, StreamEvent, ToolResult, User};

pub fn stream(value: &mut Value) -> Stream {
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

pub fn assistant(value: &mut Value) -> Assistant {
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

pub fn user(value: &mut Value) -> User {
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

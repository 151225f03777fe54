//! What the program asks: requests of the control protocol that want an answer.

use serde::Deserialize;
use serde_json::Value;

use super::Incoming;
use super::fields::{fields, text};

/// A request that waits for its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Names it in the answer.
    pub request_id: String,
    pub question: Asking,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Asking {
    /// `can_use_tool`: may this tool be used? Questions of the agent itself and its plans come this way too.
    Tool(Box<ToolAsk>),
    /// `elicitation`: an MCP server of the agent asks.
    Elicitation(Box<Elicitation>),
    /// What this version does not know.
    Other(String),
}

/// `can_use_tool`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ToolAsk {
    pub tool_name: String,
    pub tool_use_id: Option<String>,
    pub input: Value,
    pub title: Option<String>,
    pub description: Option<String>,
    /// Changes of the rules that would make the question needless; the program takes them back with the answer.
    pub permission_suggestions: Vec<Value>,
    pub blocked_path: Option<String>,
    pub decision_reason: Option<String>,
    pub decision_reason_type: Option<String>,
    /// Of an MCP tool.
    pub mcp_server: Value,
    /// Of a subagent that asks.
    pub agent_id: Option<String>,
}

/// `elicitation`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Elicitation {
    pub mcp_server_name: String,
    pub message: String,
    /// `form` or `url`
    pub mode: Option<String>,
    pub url: Option<String>,
    pub requested_schema: Value,
    pub title: Option<String>,
    pub description: Option<String>,
}

/// Reads a `control_request`.
pub fn asked(value: &mut Value) -> Incoming {
    let Some(request_id) = text(value, "request_id") else { return Incoming::Other };
    let request = value.get_mut("request").map(Value::take).unwrap_or_default();
    let question = match text(&request, "subtype").unwrap_or_default().as_str() {
        "can_use_tool" => Asking::Tool(Box::new(fields(request))),
        "elicitation" => Asking::Elicitation(Box::new(fields(request))),
        other => Asking::Other(other.to_owned()),
    };
    Incoming::Asked(Asked { request_id, question })
}

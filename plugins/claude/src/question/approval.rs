//! May a tool be used? Yes, yes from now on, with another input, or no and why.

use falconer_backend::QuestionKind;
use serde_json::{Map, Value, json};

use super::{Drawn, Given, Kind, Verdict, choice, clip, permission, question, refused};
use crate::incoming::ToolAsk;

/// Longest part of a command or a path in the prompt, in bytes; the whole is in the details.
const MAX_SHOWN: usize = 2 << 10;

#[derive(Debug)]
pub struct Approval {
    tool: String,
    input: Value,
    /// What `allow_session` grants.
    permissions: Vec<Value>,
}

/// The question, and what its answer needs.
pub fn ask(id: &str, ask: ToolAsk) -> Drawn {
    let permissions = permission::for_session(ask.permission_suggestions.clone());
    let details = shown(&ask, &permissions);
    let mut question = question(id, QuestionKind::Approval, &prompt(&ask));
    question.choices.push(choice("allow", "Allow this once", None));
    if !permissions.is_empty() {
        let from_now_on = format!("and from now on, in this session: {}", permission::described(&permissions));
        question.choices.push(choice("allow_session", "Allow from now on", Some(from_now_on)));
    }
    question.choices.push(choice("deny", "Refuse", Some("`text` is the reason that the agent reads".to_owned())));
    question.default_choice = Some("deny".to_owned());
    let input = json!({ "type": "object", "description": "beside allow: the input that the tool is used with instead" });
    question.form = Some(json!({ "type": "object", "properties": { "input": input }, "additionalProperties": false }).to_string());
    Drawn { question, details, kind: Kind::Approval(Approval { tool: ask.tool_name, input: ask.input, permissions }) }
}

/// Everything that is to be judged.
fn shown(ask: &ToolAsk, permissions: &[Value]) -> Value {
    let mut shown = Map::from_iter([("tool".to_owned(), Value::from(ask.tool_name.clone())), ("input".to_owned(), ask.input.clone())]);
    let texts = [
        ("description", &ask.description),
        ("blocked_path", &ask.blocked_path),
        ("decision_reason", &ask.decision_reason),
        ("decision_reason_type", &ask.decision_reason_type),
        ("agent_id", &ask.agent_id),
    ];
    shown.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.clone()?.into()))));
    if !ask.mcp_server.is_null() {
        shown.insert("mcp_server".to_owned(), ask.mcp_server.clone());
    }
    if !permissions.is_empty() {
        shown.insert("allow_session".to_owned(), permissions.into());
    }
    shown.into()
}

fn prompt(ask: &ToolAsk) -> String {
    let field = |name: &str| ask.input.get(name).and_then(Value::as_str).map(|text| clip(text, MAX_SHOWN));
    let mut prompt = match (ask.tool_name.as_str(), field("command"), field("file_path").or_else(|| field("notebook_path"))) {
        ("Bash", Some(command), _) => format!("May the agent run this command?\n{command}"),
        ("Write", _, Some(path)) => format!("May the agent write the file {path}?"),
        ("Edit" | "MultiEdit" | "NotebookEdit", _, Some(path)) => format!("May the agent change the file {path}?"),
        ("Read", _, Some(path)) => format!("May the agent read the file {path}?"),
        (tool, _, _) => match tool.strip_prefix("mcp__").and_then(|rest| rest.split_once("__")) {
            Some((server, tool)) => format!("May the agent use the tool {tool} of its MCP server {server}?"),
            None => format!("May the agent use {tool}?"),
        },
    };
    for line in [&ask.description, &ask.decision_reason].into_iter().flatten() {
        prompt.push('\n');
        prompt.push_str(&clip(line, MAX_SHOWN / 4));
    }
    prompt
}

impl Approval {
    pub fn answer(self, given: &Given) -> Verdict {
        let permissions = if given.chose("allow_session") { self.permissions } else { Vec::new() };
        if !given.chose("allow") && !given.chose("allow_session") {
            return refused(given, &self.tool);
        }
        let changed = given.data.as_ref().and_then(|data| data.get("input")).filter(|input| input.is_object());
        Verdict::Allow { input: changed.cloned().unwrap_or(self.input), permissions }
    }
}

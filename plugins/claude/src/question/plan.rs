//! Shall a plan be carried out? Yes, or go on planning and why.

use falconer_backend::QuestionKind;
use serde_json::{Value, json};

use super::{Drawn, Given, Kind, Verdict, choice, question};
use crate::incoming::ToolAsk;

#[derive(Debug)]
pub struct Plan {
    input: Value,
}

/// The question, and what its answer needs. The program puts the plan beside the input, out of the file in which the agent
/// wrote it.
pub fn ask(id: &str, ask: ToolAsk) -> Drawn {
    let plan = ask.input.get("plan").and_then(Value::as_str).unwrap_or("(the agent wrote no plan into its file)");
    let prompt = format!("May the agent carry out its plan?\n\n{plan}");
    let details = json!({ "tool": ask.tool_name, "input": ask.input });
    let mut question = question(id, QuestionKind::Approval, &prompt);
    question.choices = vec![
        choice("allow", "Approve the plan", Some("what its rules do not allow is asked from then on".to_owned())),
        choice("deny", "Go on planning", Some("`text` is what the agent reads, such as what to change".to_owned())),
    ];
    question.default_choice = Some("deny".to_owned());
    Drawn { question, details, kind: Kind::Plan(Plan { input: ask.input }) }
}

impl Plan {
    pub fn answer(self, given: &Given) -> Verdict {
        if given.chose("allow") {
            return Verdict::Allow { input: self.input, permissions: Vec::new() };
        }
        let why = match (&given.text, &given.reason) {
            (Some(text), _) => format!("The person wants the plan changed before it is carried out: {text}"),
            (None, Some(reason)) => format!("The plan is not approved ({reason}). Give it as your answer and end your turn."),
            (None, None) => "The plan is not approved. Give it as your answer and end your turn.".to_owned(),
        };
        Verdict::Deny { why }
    }
}

//! The agent's own questions (`AskUserQuestion`): one is asked with its options as choices, several as one form.

use falconer_backend::QuestionKind;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Drawn, Given, Kind, Verdict, approval, choice, clip, form, question, refused};
use crate::incoming::ToolAsk;

/// Options of one question that are offered; the program has four.
const MAX_OPTIONS: usize = 100;

/// What the agent wants to know.
#[derive(Debug)]
pub struct AskUser {
    input: Value,
    questions: Vec<One>,
}

/// One question.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct One {
    pub question: String,
    pub header: Option<String>,
    pub options: Vec<Opt>,
    pub multi_select: bool,
}

/// One answer that is offered.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Opt {
    pub label: String,
    pub description: Option<String>,
}

/// The question, and what its answer needs. One of another shape than is known is a plain approval.
pub fn ask(id: &str, ask: ToolAsk) -> Drawn {
    let read = ask.input.get("questions").and_then(|questions| Vec::<One>::deserialize(questions).ok());
    let Some(questions) = read.filter(|all| !all.is_empty() && all.iter().all(|one| !one.question.trim().is_empty())) else {
        return approval::ask(id, ask);
    };
    let details = json!({ "tool": ask.tool_name, "input": ask.input });
    let question = match questions.as_slice() {
        [one] => {
            let mut question = question(id, QuestionKind::Input, &one.question);
            question.multiple = one.multi_select;
            let options = one.options.iter().take(MAX_OPTIONS).enumerate();
            question.choices = options.map(|(n, option)| choice(option_id(n), &option.label, option.description.clone())).collect();
            question
        }
        several => {
            let prompt: Vec<String> = several.iter().map(|one| one.question.clone()).collect();
            let mut question = question(id, QuestionKind::Input, &prompt.join("\n"));
            question.form = Some(form::of_questions(several).to_string());
            question
        }
    };
    Drawn { question, details, kind: Kind::AskUser(AskUser { input: ask.input, questions }) }
}

fn option_id(index: usize) -> String {
    format!("option-{}", index + 1)
}

impl AskUser {
    pub fn answer(self, given: Given) -> Verdict {
        let answers = match self.questions.as_slice() {
            [one] => {
                let offered = one.options.iter().enumerate();
                let chosen = offered.filter(|(n, _)| given.chose(&option_id(*n))).map(|(_, option)| option.label.clone());
                let all: Vec<String> = chosen.chain(given.text.clone()).collect();
                if all.is_empty() { Map::new() } else { Map::from_iter([(one.question.clone(), all.join(", ").into())]) }
            }
            several => {
                let data = given.data.as_ref().and_then(Value::as_object);
                let answer = |one: &One| match data.and_then(|data| data.get(&one.question)) {
                    Some(Value::String(text)) if !text.trim().is_empty() => Some(text.clone()),
                    Some(Value::Array(all)) if !all.is_empty() => Some(all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
                    // What is said beside the form is the answer to what the form leaves open.
                    _ => given.text.clone(),
                };
                several.iter().filter_map(|one| Some((one.question.clone(), answer(one)?.into()))).collect()
            }
        };
        if answers.is_empty() {
            return refused(
                &Given { reason: given.reason.or_else(|| Some("nobody answered".to_owned())), ..Given::default() },
                "AskUserQuestion",
            );
        }
        let mut input = self.input;
        if let Some(input) = input.as_object_mut() {
            input.insert("answers".to_owned(), Value::Object(answers));
        }
        Verdict::Allow { input, permissions: Vec::new() }
    }
}

/// The label and the description of an option, for a form.
pub fn said(option: &Opt) -> String {
    match option.description.as_deref().filter(|text| !text.is_empty()) {
        Some(description) => format!("{}: {}", option.label, clip(description, 1 << 10)),
        None => option.label.clone(),
    }
}

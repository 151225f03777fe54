//! What an MCP server of the agent asks: a form to fill in, or an address to visit.

use falconer_backend::QuestionKind;
use serde_json::{Value, json};

use super::{Drawn, Given, Kind, Verdict, choice, form, question};
use crate::incoming::Elicitation as Ask;

#[derive(Debug)]
pub struct Elicitation {
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    /// The answer goes to the server. `wants`: some of it must be there.
    Form { wants: bool },
    /// The person opens an address; the server learns the rest by itself.
    Url,
}

/// The question, and what its answer needs.
pub fn ask(id: &str, ask: Ask) -> Drawn {
    let is_url = ask.mode.as_deref() == Some("url");
    let mut details = json!({ "mcp_server": ask.mcp_server_name, "message": ask.message });
    if let Some(url) = ask.url.as_ref().filter(|_| is_url) {
        details["url"] = url.clone().into();
    } else {
        details["requested_schema"] = ask.requested_schema.clone();
    }
    let mut prompt = format!("The agent's MCP server {} asks: {}", ask.mcp_server_name, ask.message);
    if let Some(url) = ask.url.as_ref().filter(|_| is_url) {
        prompt.push_str(&format!("\n{url}"));
    }
    let mut question = question(id, QuestionKind::Input, &prompt);
    let form = if is_url { None } else { form::of_server(&ask.requested_schema) };
    let wants = form.as_ref().and_then(|form| form["required"].as_array()).is_some_and(|required| !required.is_empty());
    let accept = match (is_url, &form) {
        (true, _) => "the address was opened, or will be",
        (false, Some(_)) => "with `data` that fits the form",
        (false, None) => "nothing else is asked for",
    };
    question.choices = vec![
        choice("accept", "Accept", Some(accept.to_owned())),
        choice("decline", "Decline", Some("the server is told that the answer is no".to_owned())),
        choice("cancel", "Cancel", Some("the server is told that there is no answer".to_owned())),
    ];
    question.form = form.map(|form| form.to_string());
    question.default_choice = Some("cancel".to_owned());
    let mode = if is_url { Mode::Url } else { Mode::Form { wants } };
    Drawn { question, details, kind: Kind::Elicitation(Elicitation { mode }) }
}

impl Elicitation {
    pub fn answer(self, given: Given) -> Verdict {
        let elicited = |action, content| Verdict::Elicited { action, content };
        if given.chose("decline") {
            return elicited("decline", None);
        }
        // Data alone is an answer too.
        if !given.chose("accept") && (given.chose("cancel") || given.data.is_none()) {
            return elicited("cancel", None);
        }
        match (self.mode, given.data) {
            (Mode::Url, _) => elicited("accept", None),
            (Mode::Form { .. }, Some(data @ Value::Object(_))) => elicited("accept", Some(data)),
            (Mode::Form { wants: false }, _) => elicited("accept", Some(json!({}))),
            // An acceptance that says nothing of what is wanted.
            (Mode::Form { wants: true }, _) => elicited("cancel", None),
        }
    }
}

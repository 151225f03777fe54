//! What the agent asks of a person, while it is open: the use of a tool, a question of its own, a plan, a form of one of its
//! MCP servers. Several may be open at once.
//!
//! Here a request of the program becomes a question of the run, and an answer becomes the response that the program waits
//! for. The clock, the hash of what is to be judged, and the events about answers are the host's. Whatever happens (no
//! answer, an odd one), the program gets a response, and the model reads why it may not go on.

mod approval;
mod ask_user;
mod elicitation;
mod form;
mod permission;
mod plan;

use std::collections::BTreeMap;

use falconer_backend::{Answer, Choice, Event, Events, Failure, Question, QuestionAnswer, QuestionKind, Withdrawal, spill};
use serde_json::Value;

use crate::incoming::{Asked, Asking};
use crate::outgoing;

/// Open at once, at most; the program asks one after the other, but for subagents.
const MAX_OPEN: usize = 256;
/// Messages for people, in bytes; a limit of the contract.
const MAX_MESSAGE: usize = 4 << 10;

/// The open questions of a run.
#[derive(Debug, Default)]
pub struct Questions {
    open: BTreeMap<String, Open>,
    count: u64,
}

/// One that waits for its answer.
#[derive(Debug)]
struct Open {
    /// Names the request in the response.
    request: String,
    /// The call that it is about.
    tool_use: Option<String>,
    kind: Kind,
}

/// What is asked, with what its answer needs.
#[derive(Debug)]
enum Kind {
    /// May a tool be used?
    Approval(approval::Approval),
    /// The agent's own questions.
    AskUser(ask_user::AskUser),
    /// Shall the plan be carried out?
    Plan(plan::Plan),
    /// An MCP server's form or address.
    Elicitation(elicitation::Elicitation),
}

/// A question as one of the kinds makes it.
#[derive(Debug)]
struct Drawn {
    question: Question,
    /// All that is to be judged.
    details: Value,
    kind: Kind,
}

/// An answer, as all kinds get it.
#[derive(Debug, Default)]
struct Given {
    choices: Vec<String>,
    text: Option<String>,
    data: Option<Value>,
    /// Why there is none: nobody answered, or somebody declined to.
    reason: Option<String>,
}

impl Given {
    fn chose(&self, id: &str) -> bool {
        self.choices.iter().any(|choice| choice == id)
    }
}

/// What an answer means to the program.
#[derive(Debug, PartialEq)]
enum Verdict {
    Allow { input: Value, permissions: Vec<Value> },
    Deny { why: String },
    Elicited { action: &'static str, content: Option<Value> },
}

/// What an answer brings about.
#[derive(Debug)]
pub struct Resolved {
    /// For the program.
    pub line: String,
    /// The call that was refused.
    pub declined: Option<String>,
    /// What the person said beside a yes; the agent reads it as a message.
    pub remark: Option<String>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Opened {
    /// The person is asked.
    Asked,
    /// Nothing that a person can be asked: this is its response.
    Refused(String),
}

impl Questions {
    /// Opens a question.
    pub fn ask(&mut self, asked: Asked, events: &mut Events) -> Opened {
        let request = asked.request_id;
        if self.open.len() >= MAX_OPEN {
            return Opened::Refused(refusal(&request, &asked.question, "too many questions are open"));
        }
        self.count += 1;
        let id = format!("question-{}", self.count);
        let (drawn, tool_use) = match asked.question {
            Asking::Tool(ask) => {
                let tool_use = ask.tool_use_id.clone();
                let drawn = match ask.tool_name.as_str() {
                    "ExitPlanMode" => plan::ask(&id, *ask),
                    "AskUserQuestion" => ask_user::ask(&id, *ask),
                    _ => approval::ask(&id, *ask),
                };
                (drawn, tool_use)
            }
            Asking::Elicitation(ask) => (elicitation::ask(&id, *ask), None),
            Asking::Other(subtype) => return Opened::Refused(outgoing::unsupported(&request, &subtype)),
        };
        let Drawn { mut question, details, kind } = drawn;
        // What is larger than an event takes is put aside under the hash of its bytes, so the question's hash still holds it.
        question.details = spill::json(events, "question", &details);
        self.open.insert(id, Open { request, tool_use, kind });
        events.push(Event::Asked(question));
        Opened::Asked
    }

    /// Takes the answer to an open question.
    ///
    /// # Errors
    /// `question_closed`: it is not open any more.
    pub fn answer(&mut self, answer: Answer) -> Result<Resolved, Failure> {
        let (id, given) = match answer {
            Answer::Chosen(QuestionAnswer { question, choices, text, data, reason }) => {
                let data = data.and_then(|data| serde_json::from_str(&data).ok());
                let text = text.filter(|text| !text.trim().is_empty());
                (question, Given { choices, text, data, reason })
            }
            Answer::Dismissed(Withdrawal { question, reason }) => (question, Given { reason: Some(reason), ..Given::default() }),
            Answer::Message(_) => return Err(Failure::new("unsupported", "a message is no answer")),
        };
        let Some(open) = self.open.remove(&id) else {
            return Err(Failure::new("question_closed", format!("the agent does not wait for the answer to {id} any more")));
        };
        let remark = given.text.clone();
        let (verdict, heard) = match open.kind {
            Kind::Approval(approval) => (approval.answer(&given), false),
            Kind::AskUser(ask) => (ask.answer(given), true),
            Kind::Plan(plan) => (plan.answer(&given), false),
            Kind::Elicitation(elicitation) => (elicitation.answer(given), false),
        };
        let denied = matches!(verdict, Verdict::Deny { .. });
        let line = match verdict {
            Verdict::Allow { input, permissions } => outgoing::allow(&open.request, &input, &permissions),
            Verdict::Deny { why } => outgoing::deny(&open.request, &why),
            Verdict::Elicited { action, content } => outgoing::elicited(&open.request, action, content),
        };
        Ok(Resolved { line, declined: open.tool_use.filter(|_| denied), remark: remark.filter(|_| !denied && !heard) })
    }

    /// The program takes a request back.
    pub fn withdraw(&mut self, request: &str) -> Option<Event> {
        let id = self.open.iter().find(|(_, open)| open.request == request).map(|(id, _)| id.clone())?;
        self.open.remove(&id);
        let reason = "the agent does not wait for the answer any more".to_owned();
        Some(Event::Withdrawn(Withdrawal { question: id, reason }))
    }

    /// How many are open.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.open.len()
    }
}

/// The response to a request that nobody is asked about. `why` is for the model.
pub fn refusal(request: &str, question: &Asking, why: &str) -> String {
    match question {
        Asking::Tool(ask) => outgoing::deny(request, &format!("{}: {}", capital(why), advice(&ask.tool_name))),
        Asking::Elicitation(_) => outgoing::elicited(request, "decline", None),
        Asking::Other(subtype) => outgoing::unsupported(request, subtype),
    }
}

/// What the model can do instead.
fn advice(tool: &str) -> &'static str {
    match tool {
        "AskUserQuestion" => "decide yourself, and say in your answer what you assumed.",
        "ExitPlanMode" => "give the plan as your answer and end your turn.",
        _ => "go on without it, or say in your answer what is needed.",
    }
}

/// Why something was refused, for the model: the person's words, or why there are none.
fn refused(given: &Given, tool: &str) -> Verdict {
    let why = match (&given.text, &given.reason) {
        (Some(text), _) => format!("The person did not allow this, and says: {text}"),
        (None, Some(reason)) => format!("{}: {}", capital(reason), advice(tool)),
        (None, None) => format!("The person did not allow this: {}", advice(tool)),
    };
    Verdict::Deny { why }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A text for people, of at most so many bytes, that says when it was cut.
fn clip(text: &str, most: usize) -> String {
    const MARK: &str = " …";
    if text.len() <= most { text.to_owned() } else { format!("{}{MARK}", &text[..text.floor_char_boundary(most - MARK.len())]) }
}

/// A question without its particulars.
fn question(id: &str, kind: QuestionKind, prompt: &str) -> Question {
    Question {
        id: id.to_owned(),
        kind,
        prompt: clip(prompt, MAX_MESSAGE),
        choices: Vec::new(),
        multiple: false,
        details: String::new(),
        form: None,
        default_choice: None,
        expires_ms: None,
    }
}

fn choice(id: impl Into<String>, label: &str, description: Option<String>) -> Choice {
    Choice { id: id.into(), label: clip(label, MAX_MESSAGE), description: description.map(|text| clip(&text, MAX_MESSAGE)) }
}

#[cfg(test)]
mod tests;

//! Several questions at once, and what is left open at the end.

use crate::bindings::exports::falconer::backend::adapter::{Answer, Step};
use crate::bindings::falconer::backend::types::{Choice, CommandStart, Event, Next, Question, QuestionKind, ToolStart, Usage, Withdrawal};
use crate::config::Config;
use crate::events::message;
use crate::honest::{completed, step};

/// What was asked, and what was answered.
#[derive(Default)]
pub struct Asking {
    asked: bool,
    withdrawn: bool,
    open: Vec<String>,
    answers: Vec<String>,
}

fn question(id: &str, kind: QuestionKind) -> Question {
    let choice = |id: &str| Choice { id: id.into(), label: id.into(), description: None };
    Question {
        id: id.into(),
        kind,
        prompt: format!("may {id} be?"),
        choices: vec![choice("yes"), choice("no")],
        multiple: false,
        details: format!("{{\"what\":\"{id}\"}}"),
        form: None,
        default_choice: Some("no".into()),
        expires_ms: None,
    }
}

impl Asking {
    /// An answer to one of these questions; any other is given back.
    pub fn take(&mut self, answer: Answer) -> Option<Answer> {
        let (id, text) = match &answer {
            Answer::Chosen(chosen) => (&chosen.question, chosen.choices.join("+")),
            Answer::Dismissed(withdrawal) => (&withdrawal.question, "dismissed".to_owned()),
            Answer::Message(_) => return Some(answer),
        };
        let Some(at) = self.open.iter().position(|open| open == id) else { return Some(answer) };
        let id = self.open.remove(at);
        self.answers.push(format!("{id} {text}"));
        None
    }

    pub fn poll(&mut self, config: &Config) -> Step {
        if !self.asked {
            self.asked = true;
            self.open = (1..=config.n).map(|n| format!("q{n}")).collect();
            let last = self.open.len();
            let asked = self.open.iter().enumerate().map(|(at, id)| {
                let auth = config.text == "auth" && at + 1 == last;
                Event::Asked(question(id, if auth { QuestionKind::Auth } else { QuestionKind::Approval }))
            });
            let after = (config.text == "withdraw").then_some(config.every_ms);
            return step(asked.collect(), Next::Pending(after));
        }
        let mut events: Vec<Event> = self.answers.iter().map(|answer| message("answer", answer.clone())).collect();
        if config.text == "withdraw" && !self.withdrawn && !self.open.is_empty() {
            self.withdrawn = true;
            let id = self.open.remove(0);
            events.push(Event::Withdrawn(Withdrawal { question: id, reason: "not needed any more".into() }));
        }
        let next = if self.open.is_empty() { completed(self.answers.join(", ")) } else { Next::Pending(None) };
        step(events, next)
    }

    pub fn leave_open(&mut self, config: &Config) -> Step {
        if self.asked {
            return step(Vec::new(), if config.text == "finish" { completed("left open") } else { Next::Pending(None) });
        }
        self.asked = true;
        let usage = |input_tokens| {
            Event::Usage(Usage { input_tokens, cached_tokens: 0, output_tokens: 1, turns: 1, cost_microdollars: Some(5), detail: None })
        };
        let events = vec![
            usage(10),
            usage(25),
            Event::CommandStarted(CommandStart { id: "c1".into(), command: "sleep".into(), args: None, cwd: None, parent: None }),
            Event::ToolStarted(ToolStart { id: "t1".into(), server: None, tool: "Look".into(), input: "{}".into(), parent: None }),
            Event::Asked(question("q1", QuestionKind::Approval)),
        ];
        step(events, if config.text == "finish" { Next::Again } else { Next::Pending(None) })
    }
}

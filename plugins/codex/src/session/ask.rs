//! Questions of the program: asked, answered once, refused where nobody is asked, taken back.

use falconer_backend::{Effects, Event, Failure, QuestionAnswer, Severity, Withdrawal};
use serde_json::{Value, json};

use super::{Purpose, Session, Stage};
use crate::incoming::Asked;
use crate::permission::Mode;
use crate::question::{self, Read, Reply};
use crate::{input, outgoing};

/// Questions that may be open at once; more are refused.
const MAX_OPEN: usize = 64;

impl Session {
    pub(super) fn asked(&mut self, asked: &Asked, out: &mut Effects) {
        self.asked += 1;
        let id = format!("q{}", self.asked);
        let Read::Question(open) = question::read(asked, &id, &self.mapper, &mut out.events) else {
            out.log.push(format!("unknown request {}", asked.method));
            out.lines.push(outgoing::unsupported(&asked.id, &asked.method));
            return;
        };
        let ending = matches!(self.stage, Stage::Interrupting { .. } | Stage::Cleaning { .. } | Stage::Ending { .. });
        let mode = self.order.mode;
        if open.is_approval() && mode == Mode::Bypass && !ending {
            let allowed = QuestionAnswer { question: id, choices: vec!["allow".to_owned()], text: None, data: None, reason: None };
            if let Reply::Result { result, .. } = open.reply(&allowed) {
                out.lines.push(outgoing::answer(&open.request, &result));
            }
            return;
        }
        let answered = if open.is_approval() { mode.asks() } else { mode.answers() };
        if ending || !answered || self.questions.len() >= MAX_OPEN {
            out.lines.push(outgoing::answer(&open.request, &open.refusal()));
            if !ending {
                let code = if open.is_approval() { "permission_denied" } else { "question_declined" };
                out.events.push(Event::notice(Severity::Warning, code, format!("refused, nobody is asked in this run: {}", open.about())));
            }
            return;
        }
        out.events.push(open.asked());
        self.questions.insert(id, *open);
    }

    /// A person's answer.
    ///
    /// # Errors
    /// `unknown_question`. `unsupported`: Codex cannot take such an answer; the question is asked again.
    pub fn reply(&mut self, answer: &QuestionAnswer, out: &mut Effects) -> Result<(), Failure> {
        let open = self.take(&answer.question)?;
        match open.reply(answer) {
            Reply::Result { result, word } => {
                out.lines.push(outgoing::answer(&open.request, &result));
                if let Some(word) = word {
                    let params = json!({
                        "threadId": open.thread, "expectedTurnId": open.turn, "input": input::of_text(&word),
                        "clientUserMessageId": format!("{}-word", answer.question),
                    });
                    self.request("turn/steer", &params, Purpose::Nothing, out);
                }
                Ok(())
            }
            Reply::Unsupported(why) => {
                self.asked += 1;
                let id = format!("q{}", self.asked);
                let again = open.again(&id);
                out.events.push(again.asked());
                self.questions.insert(id.clone(), again);
                Err(Failure::new("unsupported", why).with_hint(format!("the question is open again, as `{id}`")))
            }
        }
    }

    /// Nobody answered, or would.
    ///
    /// # Errors
    /// `unknown_question`
    pub fn dismiss(&mut self, question: &str, out: &mut Effects) -> Result<(), Failure> {
        let open = self.take(question)?;
        out.lines.push(outgoing::answer(&open.request, &open.refusal()));
        Ok(())
    }

    fn take(&mut self, question: &str) -> Result<question::Open, Failure> {
        self.questions.remove(question).ok_or_else(|| Failure::new("unknown_question", format!("no question `{question}` is open")))
    }

    /// The program needs no answer any more. Of a question that was answered it says so, too.
    pub(super) fn withdrawn(&mut self, request: &Value, out: &mut Effects) {
        let taken: Vec<String> = self.questions.iter().filter(|(_, open)| open.request == *request).map(|(id, _)| id.clone()).collect();
        for id in taken {
            self.questions.remove(&id);
            let reason = "codex needs no answer any more".to_owned();
            out.events.push(Event::Withdrawn(Withdrawal { question: id, reason }));
        }
    }
}

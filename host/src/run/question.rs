//! A run's questions, and what is said to it while it runs: asked, answered once, expired, withdrawn, steered.
//!
//! The supervisor is the only one who changes them; an answer is durable before its caller is told.

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::event::{EventType, Question};
use super::request::{Answer, Timing};
use super::status::{State, Status};
use super::supervisor::Supervisor;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::id::MessageId;

impl Supervisor {
    pub(super) async fn ask(&mut self, question: Question) -> Result<(), Fault> {
        if self.record.questions().iter().any(|open| open.question_id == question.question_id) {
            return Err(Fault::new(code::CONTRACT_VIOLATION, format!("the backend asked question `{}` twice", question.question_id)));
        }
        let kind = if question.is_auth() { EventType::AuthRequired } else { EventType::InputRequired };
        let data = serde_json::to_value(&question).map_err(|error| Fault::new(code::INTERNAL, error.to_string()))?;
        let mut open = self.record.questions().to_vec();
        open.push(question);
        self.record.set_questions(open.clone());
        self.record.event(kind, data).await?;
        if !matches!(self.record.state(), State::Cancelling { .. }) {
            self.record.enter(State::Waiting { open }, Map::new());
        }
        Ok(())
    }

    /// Closes a question, and goes on when it was the last.
    pub(super) async fn resolve(&mut self, question: &str, data: Value) -> Result<(), Fault> {
        let open: Vec<Question> = self.record.questions().iter().filter(|open| open.question_id != question).cloned().collect();
        self.record.set_questions(open.clone());
        self.record.event(EventType::InputResolved, data).await?;
        if !matches!(self.record.state(), State::Cancelling { .. }) {
            let state = if open.is_empty() { State::Running } else { State::Waiting { open } };
            self.record.enter(state, Map::new());
        }
        self.last_news = Instant::now();
        Ok(())
    }

    pub(super) async fn expire(&mut self, question: Question) -> Result<(), Fault> {
        let id = question.question_id.clone();
        let data = json!({ "question_id": id, "how": "expired", "choice": question.default_choice });
        self.resolve(&id, data).await?;
        self.record.submit().await;
        self.answers.push_back(match question.default_choice {
            Some(choice) => wit::Answer::Chosen(wit::QuestionAnswer {
                question: id,
                choices: vec![choice],
                text: None,
                data: None,
                reason: Some("nobody answered in time".into()),
            }),
            None => wit::Answer::Dismissed(wit::Withdrawal { question: id, reason: "nobody answered in time".into() }),
        });
        Ok(())
    }

    /// Takes an answer of a client, once.
    pub(super) async fn answer(&mut self, answer: Answer, reply: oneshot::Sender<Result<Status, Fault>>) {
        let outcome = self.take_answer(answer).await;
        if outcome.is_ok() {
            self.record.submit().await;
            if let Err(fault) = self.record.settled().await {
                let _ = reply.send(Err(fault));
                return;
            }
        }
        let _ = reply.send(outcome.map(|()| self.record.state().status()));
    }

    async fn take_answer(&mut self, answer: Answer) -> Result<(), Fault> {
        let Some(question) = self.record.questions().iter().find(|open| open.question_id == answer.question_id).cloned() else {
            return Err(Fault::new(
                code::UNKNOWN_QUESTION,
                format!("no open question `{}`; it was answered, withdrawn or has expired", answer.question_id),
            )
            .hint("get_run shows the open question"));
        };
        if answer.details_hash != question.details_hash {
            return Err(Fault::new(code::STALE_ANSWER, "the answer names another details_hash than the question has")
                .hint("judge `details` of the open question and give its `details_hash`"));
        }
        let choices = answer.choices.unwrap_or_default();
        if let Some(wrong) = choices.iter().find(|choice| !question.choices.iter().any(|offered| &offered.id == *choice)) {
            let offered: Vec<_> = question.choices.iter().map(|choice| choice.id.as_str()).collect();
            return Err(Fault::new(code::INVALID_ARGUMENT, format!("`{wrong}` is none of the choices"))
                .hint(format!("choose of: {}", offered.join(", "))));
        }
        if choices.len() > 1 && !question.multiple {
            return Err(Fault::new(code::INVALID_ARGUMENT, "this question takes one choice").hint("give one id in `choices`"));
        }
        if choices.is_empty() && answer.text.is_none() && answer.data.is_none() {
            return Err(Fault::new(code::INVALID_ARGUMENT, "an answer needs `choices`, `text` or `data`"));
        }
        if let (Some(form), Some(data)) = (&question.form, &answer.data)
            && let Err(error) = jsonschema::validator_for(form)
                .map_err(|error| error.to_string())
                .and_then(|form| form.validate(data).map_err(|error| error.to_string()))
        {
            return Err(Fault::new(code::INVALID_ARGUMENT, format!("`data` does not fit the question's form: {error}")));
        }
        let told = json!({ "question_id": question.question_id, "how": "answered", "choices": choices });
        self.resolve(&question.question_id, told).await?;
        let data = answer.data.map(|data| data.to_string());
        self.answers.push_back(wit::Answer::Chosen(wit::QuestionAnswer {
            question: question.question_id,
            choices,
            text: answer.text,
            data,
            reason: None,
        }));
        Ok(())
    }

    pub(super) fn steer(&mut self, text: String, timing: Timing, reply: oneshot::Sender<Result<Status, Fault>>) {
        self.answers.push_back(wit::Answer::Message(wit::Steering {
            id: MessageId::random().to_string(),
            message: vec![wit::Part::Text(text)],
            timing: match timing {
                Timing::Now => wit::Timing::Now,
                Timing::AfterStep => wit::Timing::AfterStep,
            },
        }));
        let _ = reply.send(Ok(self.record.state().status()));
    }
}

//! A run's questions, and what is said to it while it runs: asked, answered once, expired, withdrawn, steered.
//!
//! The supervisor is the only one who changes them; an answer is durable before its caller is told. How the last ones
//! were closed is remembered, so that an answer that comes too late is told why; older ones are looked up in the ledger (`op/asked`).
//! A message waits for what the backend says to it, so that its refusal is the caller's.

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::event::{Closed, EventType, Question, QuestionKind};
use super::live::Steering;
use super::request::{Answer, Timing};
use super::status::{State, Status};
use super::supervisor::Supervisor;
use crate::backend::Schema;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::id::MessageId;

/// Questions of a run that may be open at once.
const MAX_OPEN: usize = 256;
/// How large the questions of a run that are open at once may be, with their choices and forms, as JSON.
const MAX_OPEN_BYTES: usize = 2 << 20;
/// Of an open question's details no more is kept at hand, and shown; its event has them whole.
pub(super) const DETAILS_KEPT: usize = 4 * 1024;
/// Closed questions of a run that are kept in memory.
const REMEMBERED: usize = 256;

/// What is to be said to the backend, and who wants to hear what it says to it.
pub(super) struct Said {
    pub(super) answer: wit::Answer,
    pub(super) reply: Option<oneshot::Sender<Result<Status, Fault>>>,
}

impl Said {
    /// Its caller was told already, or there is none: a refusal becomes a notice.
    fn silently(answer: wit::Answer) -> Self {
        Self { answer, reply: None }
    }
}

impl Supervisor {
    pub(super) async fn ask(&mut self, mut question: Question) -> Result<(), Fault> {
        if self.record.questions().iter().any(|open| open.question_id == question.question_id) {
            return Err(Fault::new(code::CONTRACT_VIOLATION, format!("the backend asked question `{}` twice", question.question_id)));
        }
        if self.record.questions().len() >= MAX_OPEN {
            return Err(Fault::new(code::CONTRACT_VIOLATION, format!("the backend has {MAX_OPEN} questions open at once")));
        }
        let kind = if question.is_auth() { EventType::AuthRequired } else { EventType::InputRequired };
        question.make_inert();
        let data = serde_json::to_value(&question).map_err(|error| Fault::new(code::INTERNAL, error.to_string()))?;
        super::inert::cut_value(&mut question.details, DETAILS_KEPT);
        let mut open = self.record.questions().to_vec();
        open.push(question);
        // All of them are written anew with each change of one.
        if serde_json::to_string(&open).map_or(0, |text| text.len()) > MAX_OPEN_BYTES {
            let message = format!("the backend has questions of more than {MAX_OPEN_BYTES} bytes open at once, beside their details");
            return Err(Fault::new(code::CONTRACT_VIOLATION, message));
        }
        self.record.event(kind, data).await?;
        if let Some(question) = open.last_mut() {
            question.seq = self.record.last_seq();
        }
        self.record.set_questions(open.clone());
        if !matches!(self.record.state(), State::Cancelling { .. }) {
            self.record.enter(State::Waiting { open }, Map::new());
        }
        Ok(())
    }

    /// Closes a question, and goes on when it was the last. `told` is what its `input_resolved` says besides.
    pub(super) async fn resolve(&mut self, question: &str, how: Closed, told: Value) -> Result<(), Fault> {
        let mut data = json!({ "question_id": question, "how": how });
        if let (Value::Object(data), Value::Object(told)) = (&mut data, told) {
            data.extend(told);
        }
        self.record.closing(EventType::InputResolved, data).await?;
        let open: Vec<Question> = self.record.questions().iter().filter(|open| open.question_id != question).cloned().collect();
        self.record.set_questions(open.clone());
        self.remember(question, how);
        if !matches!(self.record.state(), State::Cancelling { .. }) {
            let state = if open.is_empty() { State::Running } else { State::Waiting { open } };
            self.record.enter(state, Map::new());
        }
        self.last_news = Instant::now();
        Ok(())
    }

    fn remember(&mut self, question: &str, how: Closed) {
        if self.closed.len() >= REMEMBERED {
            self.closed.pop_front();
        }
        self.closed.push_back((question.to_owned(), how));
    }

    /// Closes what is open, because the run is being stopped or has ended.
    pub(super) fn close_questions(&mut self, how: Closed) {
        let open: Vec<String> = self.record.questions().iter().map(|question| question.question_id.clone()).collect();
        for id in open {
            self.remember(&id, how);
        }
        self.record.close_questions(how);
    }

    pub(super) async fn expire(&mut self, question: Question) -> Result<(), Fault> {
        let id = question.question_id.clone();
        self.resolve(&id, Closed::Expired, json!({ "choice": question.default_choice })).await?;
        self.record.submit().await;
        self.said.push_back(Said::silently(match question.default_choice {
            Some(choice) => wit::Answer::Chosen(wit::QuestionAnswer {
                question: id,
                choices: vec![choice],
                text: None,
                data: None,
                reason: Some("nobody answered in time".into()),
            }),
            None => wit::Answer::Dismissed(wit::Withdrawal { question: id, reason: "nobody answered in time".into() }),
        }));
        Ok(())
    }

    /// Takes an answer of a client, once.
    pub(super) async fn answer(&mut self, answer: Answer, reply: oneshot::Sender<Result<Status, Fault>>) {
        let outcome = match self.take_answer(answer).await {
            Ok(answer) => {
                self.record.submit().await;
                // The backend acts on what is on disk alone, and so what its caller is told of.
                self.record.settled().await.map(|()| self.said.push_back(Said::silently(wit::Answer::Chosen(answer))))
            }
            Err(fault) => Err(fault),
        };
        let _ = reply.send(outcome.map(|()| self.record.state().status()));
    }

    /// Why an answer to this question is not taken any more.
    pub(super) fn too_late(&self, question: &str) -> Fault {
        match self.closed.iter().rev().find(|(closed, _)| closed == question) {
            Some((_, how)) => how.refusal(question),
            // The backend has said that it is finished; the event that closes it comes with the end.
            None if self.record.questions().iter().any(|open| open.question_id == question) => Closed::Ended.refusal(question),
            None => unknown(question),
        }
    }

    async fn take_answer(&mut self, answer: Answer) -> Result<wit::QuestionAnswer, Fault> {
        let Some(question) = self.record.questions().iter().find(|open| open.question_id == answer.question_id).cloned() else {
            return Err(self.too_late(&answer.question_id));
        };
        if answer.details_hash != question.details_hash {
            return Err(Fault::new(code::STALE_ANSWER, "the answer names another details_hash than the question has")
                .hint("judge `details` of the open question and give its `details_hash`"));
        }
        let choices = answer.choices.unwrap_or_default();
        if choices.len() > question.choices.len().max(1) {
            return Err(Fault::new(code::INVALID_ARGUMENT, "`choices` names more than the question offers").hint("name each once"));
        }
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
        // A reason or a changed input beside no choice would be neither a yes nor a no.
        if question.kind == QuestionKind::Approval && choices.is_empty() && !question.choices.is_empty() {
            let offered: Vec<_> = question.choices.iter().map(|choice| choice.id.as_str()).collect();
            return Err(Fault::new(code::INVALID_ARGUMENT, "an approval is answered with one of its choices")
                .hint(format!("give `choices`: one of {}", offered.join(", "))));
        }
        if let (Some(form), Some(data)) = (&question.form, &answer.data) {
            let form = Schema::compile(form).map_err(|why| Fault::new(code::INTERNAL, format!("the question's form: {why}")))?;
            form.check("data", data).map_err(|mistakes| {
                Fault::new(code::INVALID_ARGUMENT, format!("`data` does not fit the question's form: {}", mistakes.wrong))
                    .hint(format!("the rule is `{}` in the question's `form`", mistakes.rule))
            })?;
        }
        self.resolve(&question.question_id, Closed::Answered, json!({ "choices": choices })).await?;
        let data = answer.data.map(|data| data.to_string());
        Ok(wit::QuestionAnswer { question: question.question_id, choices, text: answer.text, data, reason: None })
    }

    /// Gives a message to the backend when it can be called; its word about it is the caller's.
    pub(super) fn steer(&mut self, message: Steering, reply: oneshot::Sender<Result<Status, Fault>>) {
        self.inputs.add(message.inputs);
        let timing = match message.timing {
            Timing::Now => wit::Timing::Now,
            Timing::AfterStep => wit::Timing::AfterStep,
        };
        let steering = wit::Steering { id: MessageId::random().to_string(), message: message.parts, timing };
        self.said.push_back(Said { answer: wit::Answer::Message(steering), reply: Some(reply) });
    }
}

/// No question of this id was ever asked, as far as is known here.
pub(super) fn unknown(question: &str) -> Fault {
    Fault::new(code::UNKNOWN_QUESTION, format!("the run never asked a question `{}`", super::inert::preview(question, 128)))
        .hint("get_run shows the questions that are open")
}

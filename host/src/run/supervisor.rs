//! Drives one run from its turn to its end: makes the instance, calls it, writes what it says, keeps its clocks.
//!
//! One task a run; nothing is shared with other runs. Calls into the component never overlap; what waits is delivered
//! in the order cancel, reply, poll. Every end, also the backend's own `finished`, goes through [`super::ladder`].
//! A trap, a limit or a full disk ends this run with a code and touches no other.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::event::{EventType, Question};
use super::live::{Control, Live, StopWish};
use super::receipt::Cause;
use super::record::{Quota, Record};
use super::request::{Answer, Timing};
use super::status::{State, Status};
use super::translate::{Meaning, Translator};
use crate::backend::{Backend, Instance, Made};
use crate::capability::{Grant, Host, RunLog, Sealed, Setup};
use crate::clock::Millis;
use crate::config;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::id::MessageId;
use crate::ledger::artifact::Artifacts;
use crate::ledger::{Ledger, Op, SessionRow};
use crate::tree::Tree;

/// `again` so often in a row, without an event, is a spin.
const MAX_IDLE_AGAIN: u32 = 10_000;
/// The rate of events is averaged over so many seconds.
const RATE_WINDOW_S: f64 = 10.0;

/// What a run waits for before it starts: its session, room for its backend, room in the host.
pub type Turn = Pin<Box<dyn Future<Output = Permits> + Send>>;

/// What a run holds while it is alive.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "held for their drop, never read")]
pub struct Permits {
    /// Its session is its own.
    pub session: Option<OwnedMutexGuard<()>>,
    /// Its places in the host.
    pub places: Vec<OwnedSemaphorePermit>,
}

/// What a run is driven with.
pub struct Assignment {
    /// The run as others see it.
    pub live: Arc<Live>,
    /// What others say to it.
    pub ear: mpsc::UnboundedReceiver<Control>,
    /// What it waits for.
    pub turn: Turn,
    /// Its backend, as it was when the run was accepted.
    pub backend: Arc<Backend>,
    /// What the backend may touch.
    pub grant: Arc<Grant>,
    /// Directories besides the grant's: the client's own.
    pub workspaces: Vec<Utf8PathBuf>,
    /// What the client's hello brought.
    pub client_env: Arc<BTreeMap<String, String>>,
    /// Inputs that came with the message, by blob id.
    pub inputs: BTreeMap<String, Utf8PathBuf>,
    /// The job; its session is filled in when its turn comes.
    pub job: wit::Job,
    /// What the structured answer must fit.
    pub output_schema: Option<Value>,
    /// Its session's row, for the backend's own id.
    pub session: SessionRow,
    /// Its limits.
    pub limits: config::Limits,
    /// The rungs of its stop.
    pub stop: config::Stop,
    /// How long a question stays open.
    pub question_time: Duration,
    /// The record.
    pub ledger: Ledger,
    /// Large values.
    pub artifacts: Artifacts,
    /// Its log.
    pub log: RunLog,
}

/// A call into the component, on its way.
pub(super) struct InHand {
    pub(super) since: Instant,
    future: Pin<Box<dyn Future<Output = Called> + Send>>,
}

/// What a call answered. The outer error is the end of the component.
pub(super) enum Called {
    Start(Result<Result<(), wit::Failure>, Fault>),
    Poll(Box<Result<wit::Step, Fault>>),
    Reply(Result<Result<(), wit::Failure>, Fault>),
    Cancel(Result<Result<(), wit::Failure>, Fault>),
}

/// Why driving is over.
pub(super) enum Finish {
    /// The backend says so.
    Outcome(wit::Outcome),
    /// Somebody asked.
    Wish(StopWish),
    /// The run is at fault; the component may still live.
    Fault(Cause, Fault),
}

/// Drives one run.
pub(super) struct Supervisor {
    pub(super) live: Arc<Live>,
    pub(super) ear: mpsc::UnboundedReceiver<Control>,
    pub(super) record: Record,
    pub(super) tree: Tree,
    pub(super) instance: Option<Arc<Instance>>,
    pub(super) call: Option<InHand>,
    pub(super) poll_due: bool,
    pub(super) cancel_due: Option<String>,
    pub(super) output_schema: Option<Value>,
    pub(super) stop: config::Stop,
    poll_at: Option<Instant>,
    answers: VecDeque<wit::Answer>,
    translator: Translator,
    must_settle: bool,
    idle_agains: u32,
    tokens: f64,
    tokens_at: Instant,
    hold_until: Option<Instant>,
    last_news: Instant,
    deadline: Instant,
    limits: config::Limits,
    question_time: Duration,
    session: SessionRow,
    sealed: Sealed,
    permits: Permits,
}

/// Waits for the run's turn, then drives it to its end.
pub async fn supervise(mut assignment: Assignment) {
    let quota = Quota { events: assignment.limits.events, bytes: assignment.limits.output };
    let mut record = Record::new(assignment.live.clone(), assignment.ledger.clone(), assignment.artifacts.clone(), quota);
    let permits = loop {
        tokio::select! {
            biased;
            control = assignment.ear.recv() => match control {
                Some(Control::Stop(wish)) => return super::ladder::never_started(record, &wish).await,
                Some(control) => refuse(control, "waits for its turn"),
                None => return super::ladder::never_started(record, &shutdown()).await,
            },
            permits = &mut assignment.turn => break permits,
        }
    };
    record.enter(State::Starting, Map::new());
    record.submit().await;
    let supervisor = Supervisor::prepare(assignment, record, permits).await;
    match supervisor {
        Ok((mut supervisor, job)) => {
            let finish = supervisor.drive(job).await;
            supervisor.finish(finish).await;
        }
        Err((supervisor, fault)) => supervisor.finish(Finish::Fault(Cause::Component, fault)).await,
    }
}

fn shutdown() -> StopWish {
    StopWish { by: "host".into(), cause: Cause::Shutdown, reason: None, grace: None }
}

/// Answers what cannot be done now.
pub(super) fn refuse(control: Control, why: &str) {
    let fault = || Fault::new(code::UNSUPPORTED, format!("the run {why}")).hint("look at it with get_run");
    match control {
        Control::Stop(_) => {}
        Control::Answer(_, reply) | Control::Steer(_, _, reply) => {
            let _ = reply.send(Err(fault()));
        }
    }
}

impl Supervisor {
    async fn prepare(assignment: Assignment, record: Record, permits: Permits) -> Result<(Self, wit::Job), (Self, Fault)> {
        let Assignment { live, ear, backend, grant, workspaces, client_env, inputs, mut job, output_schema, session, limits, stop, .. } =
            assignment;
        let tree = Tree::new(live.id);
        let sealed = Sealed::default();
        let (host, news) = Host::new(Setup {
            run: live.id,
            backend: backend.name.clone(),
            grant,
            workspaces,
            cwd: job.cwd.clone().map(Utf8PathBuf::from),
            client_env,
            tree: tree.clone(),
            artifacts: assignment.artifacts,
            inputs,
            log: assignment.log.clone(),
            children: limits.children,
            blob_bytes: limits.output,
            sealed: sealed.clone(),
        });
        let now = Instant::now();
        let mut supervisor = Self {
            live,
            ear,
            record,
            tree,
            instance: None,
            call: None,
            poll_due: false,
            cancel_due: None,
            output_schema,
            stop,
            poll_at: None,
            answers: VecDeque::new(),
            translator: Translator::default(),
            must_settle: false,
            idle_agains: 0,
            tokens: f64::from(limits.events_per_s) * RATE_WINDOW_S,
            tokens_at: now,
            hold_until: None,
            last_news: now,
            deadline: now + limits.wall,
            limits: limits.clone(),
            question_time: assignment.question_time,
            session,
            sealed,
            permits,
        };
        // The session's own id may have become known while this run waited for its turn.
        if let Ok(Some(row)) = assignment.ledger.session(supervisor.session.id) {
            supervisor.session = row;
        }
        if let (Some(prior), Some(native)) = (job.session.as_mut(), &supervisor.session.native_id) {
            prior.native_id.clone_from(native);
        }
        if job.session.as_ref().is_some_and(|prior| prior.native_id.is_empty()) {
            let fault = Fault::new(
                code::NOT_CONTINUABLE,
                format!("session {} has no conversation of the backend to go on with", supervisor.session.id),
            )
            .hint("start a new run without session_id");
            return Err((supervisor, fault));
        }
        match Instance::new(Made { backend, host, news, log: assignment.log, limits }).await {
            Ok(instance) => {
                supervisor.instance = Some(Arc::new(instance));
                Ok((supervisor, job))
            }
            Err(fault) => Err((supervisor, fault)),
        }
    }

    /// Calls the component until something ends the run.
    async fn drive(&mut self, job: wit::Job) -> Finish {
        self.begin(|instance| async move { Called::Start(instance.start(job).await) });
        loop {
            self.next_call();
            let wake = self.next_wake();
            let idle = self.call.is_none() && !self.poll_due;
            let instance = self.instance.clone();
            tokio::select! {
                biased;
                control = self.ear.recv() => match control {
                    Some(Control::Stop(wish)) => return Finish::Wish(wish),
                    Some(Control::Answer(answer, reply)) => self.answer(*answer, reply).await,
                    Some(Control::Steer(text, timing, reply)) => self.steer(text, timing, reply),
                    None => return Finish::Wish(shutdown()),
                },
                confirmed = self.record.confirmed() => {
                    if let Err(fault) = confirmed {
                        return Finish::Fault(Cause::Ledger, fault);
                    }
                    self.must_settle &= self.record.is_ahead();
                }
                called = in_hand(&mut self.call) => match self.called(called).await {
                    Ok(None) => {}
                    Ok(Some(outcome)) => return Finish::Outcome(outcome),
                    Err((cause, fault)) => return Finish::Fault(cause, fault),
                },
                () = news(instance), if idle => {
                    self.poll_due = true;
                    self.last_news = Instant::now();
                }
                () = sleep_until(wake) => {
                    if let Some((cause, fault)) = self.on_time().await {
                        return Finish::Fault(cause, fault);
                    }
                }
            }
        }
    }

    /// Begins a call; there must be none in hand.
    pub(super) fn begin<F>(&mut self, make: impl FnOnce(Arc<Instance>) -> F)
    where
        F: Future<Output = Called> + Send + 'static,
    {
        if let Some(instance) = &self.instance {
            self.call = Some(InHand { since: Instant::now(), future: Box::pin(make(instance.clone())) });
        }
    }

    /// Whether a call may begin now: none is in hand, and what must be on disk first is there.
    pub(super) fn may_call(&self) -> bool {
        self.call.is_none() && self.instance.is_some() && !self.must_settle && self.record.has_room()
    }

    /// Begins the next call that is due, if one may begin now.
    pub(super) fn next_call(&mut self) {
        if !self.may_call() {
            return;
        }
        if let Some(reason) = self.cancel_due.take() {
            self.begin(|instance| async move { Called::Cancel(instance.cancel(reason).await) });
        } else if let Some(answer) = self.answers.pop_front() {
            self.begin(|instance| async move { Called::Reply(instance.reply(answer).await) });
        } else if self.poll_due && self.hold_until.is_none_or(|hold| hold <= Instant::now()) {
            self.poll_due = false;
            self.poll_at = None;
            self.hold_until = None;
            self.begin(|instance| async move { Called::Poll(Box::new(instance.poll().await)) });
        }
    }

    /// When something is due by time alone.
    fn next_wake(&self) -> Option<Instant> {
        let waiting = !self.record.questions().is_empty();
        let idle = self.limits.idle.filter(|_| !waiting).map(|idle| self.last_news + idle);
        let question = self.record.questions().iter().map(|question| when(question.expires_at)).min();
        let poll = if self.may_call() { self.next_poll() } else { None };
        [Some(self.deadline), idle, question, poll].into_iter().flatten().min()
    }

    /// Does what is due by time.
    async fn on_time(&mut self) -> Option<(Cause, Fault)> {
        let now = Instant::now();
        if now >= self.deadline {
            let fault = Fault::new(code::DEADLINE_EXCEEDED, format!("the run took longer than {} s", self.limits.wall.as_secs()))
                .hint("give a longer timeout_s, or raise `wall` under `[backends.NAME.limits]`");
            return Some((Cause::Deadline, fault));
        }
        if let Some(idle) = self.limits.idle
            && self.record.questions().is_empty()
            && now >= self.last_news + idle
        {
            let fault = Fault::new(code::IDLE_EXCEEDED, format!("nothing happened in the run for {} s", idle.as_secs()))
                .hint("give a longer idle_timeout_s, or raise `idle` under `[backends.NAME.limits]`");
            return Some((Cause::Idle, fault));
        }
        if self.poll_at.is_some_and(|at| at <= now) {
            self.poll_due = true;
        }
        let today = Millis::now();
        let expired: Vec<Question> = self.record.questions().iter().filter(|question| question.expires_at <= today).cloned().collect();
        for question in expired {
            if let Err(fault) = self.expire(question).await {
                return Some((Cause::Limit, fault));
            }
        }
        None
    }

    /// Takes what a call answered. An outcome means that the backend is finished.
    pub(super) async fn called(&mut self, called: Called) -> Result<Option<wit::Outcome>, (Cause, Fault)> {
        self.call = None;
        match called {
            Called::Start(answer) => match answer.map_err(|fault| self.component_gone(fault))? {
                Ok(()) => {
                    // A run that is being stopped meanwhile stays that.
                    if matches!(self.record.state(), State::Starting) {
                        self.record.enter(State::Running, Map::new());
                        self.record.submit().await;
                    }
                    self.poll_due = true;
                    Ok(None)
                }
                Err(failure) if failure.code == "rejected" => Ok(Some(wit::Outcome::Rejected(failure))),
                Err(failure) => Ok(Some(wit::Outcome::Failed(failure))),
            },
            Called::Reply(answer) => {
                if let Err(failure) = answer.map_err(|fault| self.component_gone(fault))? {
                    self.notice("reply_refused", &failure).await?;
                }
                self.poll_due = true;
                Ok(None)
            }
            Called::Cancel(answer) => {
                if let Err(failure) = answer.map_err(|fault| self.component_gone(fault))? {
                    self.notice("cancel_refused", &failure).await?;
                }
                self.poll_due = true;
                Ok(None)
            }
            Called::Poll(answer) => {
                let step = (*answer).map_err(|fault| self.component_gone(fault))?;
                self.step(step).await
            }
        }
    }

    fn component_gone(&mut self, fault: Fault) -> (Cause, Fault) {
        (Cause::Component, fault)
    }

    async fn notice(&mut self, code: &str, failure: &wit::Failure) -> Result<(), (Cause, Fault)> {
        let data = json!({ "severity": "warning", "code": code, "message": format!("{}: {}", failure.code, failure.message) });
        self.record.event(EventType::Notice, data).await.map_err(|fault| (Cause::Limit, fault))?;
        self.record.submit().await;
        Ok(())
    }

    /// Writes a step.
    async fn step(&mut self, step: wit::Step) -> Result<Option<wit::Outcome>, (Cause, Fault)> {
        if step.events.len() > 1024 {
            return Err((
                Cause::Component,
                Fault::new(
                    code::VALUE_TOO_LARGE,
                    format!("the backend sent {} events in one step; at most 1024 are allowed", step.events.len()),
                ),
            ));
        }
        let count = step.events.len();
        for event in step.events {
            let meanings = self.translator.translate(event, self.question_time).map_err(|fault| (Cause::Component, fault))?;
            for meaning in meanings {
                self.write(meaning).await.map_err(|fault| (Cause::Limit, fault))?;
            }
        }
        if let Some(bytes) = step.checkpoint {
            if bytes.len() > 64 * 1024 {
                let message = format!("the backend sent a checkpoint of {} bytes; at most 65536 are allowed", bytes.len());
                return Err((Cause::Component, Fault::new(code::VALUE_TOO_LARGE, message)));
            }
            self.record.with(Op::PutCheckpoint { run: self.live.id, bytes });
            self.must_settle = true;
        }
        self.record.submit().await;
        self.must_settle &= self.record.is_ahead();
        if count > 0 {
            self.last_news = Instant::now();
            self.idle_agains = 0;
            self.spend(count);
        }
        match step.next {
            wit::Next::Again | wit::Next::Pending(Some(0)) => {
                self.idle_agains += u32::from(count == 0);
                if self.idle_agains > MAX_IDLE_AGAIN {
                    let message = format!("the backend wanted to be polled again {MAX_IDLE_AGAIN} times in a row without an event");
                    return Err((Cause::Component, Fault::new(code::BACKEND_IDLING, message)));
                }
                self.poll_due = true;
            }
            wit::Next::Pending(after) => {
                self.idle_agains = 0;
                self.poll_at = after.map(|ms| Instant::now() + Duration::from_millis(ms.into()));
            }
            wit::Next::Finished(outcome) => return Ok(Some(outcome)),
        }
        Ok(None)
    }

    /// Holds the next poll back when events come faster than the run may write.
    fn spend(&mut self, count: usize) {
        let (now, rate) = (Instant::now(), f64::from(self.limits.events_per_s));
        self.tokens = (self.tokens + now.duration_since(self.tokens_at).as_secs_f64() * rate).min(rate * RATE_WINDOW_S) - count as f64;
        self.tokens_at = now;
        if self.tokens < 0.0 {
            self.hold_until = Some(now + Duration::from_secs_f64(-self.tokens / rate));
        }
    }

    async fn write(&mut self, meaning: Meaning) -> Result<(), Fault> {
        match meaning {
            Meaning::Event(kind, data) => {
                let id = data["id"].as_str().unwrap_or_default();
                if !self.record.is_open(kind, id) {
                    let message = format!("the backend sent {} of `{id}`, which it did not start or has ended", kind.word());
                    return Err(Fault::new(code::CONTRACT_VIOLATION, message));
                }
                self.record.event(kind, data).await
            }
            Meaning::Artifact { blob, .. } if !self.sealed.contains(&blob) => {
                Err(Fault::new(code::CONTRACT_VIOLATION, "the backend named an artifact that it did not write and seal"))
            }
            Meaning::Artifact { blob, mime, data } => self.record.artifact(EventType::ArtifactAdded, data, blob, mime).await,
            Meaning::Session(native) => {
                self.session.native_id = Some(native.clone());
                self.session.updated_at = Millis::now();
                self.record.with(Op::PutSession(self.session.clone()));
                self.record.event(EventType::SessionStarted, json!({ "session_id": self.session.id, "native_id": native })).await
            }
            Meaning::Asked(question) => self.ask(*question).await,
            Meaning::Withdrawn { question, reason } => {
                if self.record.questions().iter().any(|open| open.question_id == question) {
                    self.resolve(&question, json!({ "question_id": question, "how": "withdrawn", "reason": reason })).await
                } else {
                    Ok(())
                }
            }
        }
    }

    async fn ask(&mut self, question: Question) -> Result<(), Fault> {
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
    async fn resolve(&mut self, question: &str, data: Value) -> Result<(), Fault> {
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

    async fn expire(&mut self, question: Question) -> Result<(), Fault> {
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
    async fn answer(&mut self, answer: Answer, reply: oneshot::Sender<Result<Status, Fault>>) {
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
            && let Err(error) = jsonschema::validate(form, data)
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

    fn steer(&mut self, text: String, timing: Timing, reply: oneshot::Sender<Result<Status, Fault>>) {
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

    /// When the next poll is due by time alone, while no call is in hand.
    pub(super) fn next_poll(&self) -> Option<Instant> {
        if self.poll_due { self.hold_until } else { self.poll_at }
    }

    /// A step with a checkpoint holds the next call only while it is on its way.
    pub(super) fn unsettle(&mut self) {
        self.must_settle &= self.record.is_ahead();
    }

    /// Gives back what the run held, so that the next in line can begin.
    pub(super) fn release(&mut self) {
        self.permits = Permits::default();
    }

    /// The output that was cut in the middle of a character is told before the end.
    pub(super) fn translator(&mut self) -> &mut Translator {
        &mut self.translator
    }
}

/// The tokio instant of a wall-clock time.
fn when(at: Millis) -> Instant {
    let left = u64::try_from(at.0 - Millis::now().0).unwrap_or(0);
    Instant::now() + Duration::from_millis(left)
}

/// Waits for the call in hand; for ever when there is none.
pub(super) async fn in_hand(call: &mut Option<InHand>) -> Called {
    match call {
        Some(call) => (&mut call.future).await,
        None => std::future::pending().await,
    }
}

/// Waits for news of the instance; for ever when there is none.
pub(super) async fn news(instance: Option<Arc<Instance>>) {
    match instance {
        Some(instance) => instance.news().await,
        None => std::future::pending().await,
    }
}

/// Sleeps until then; for ever when there is no such time.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

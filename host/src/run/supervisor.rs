//! Drives one run from its turn to its end: makes the instance, calls it, writes what it says, keeps its clocks.
//!
//! One task a run; nothing is shared with other runs. Calls into the component never overlap; what waits is delivered
//! in the order cancel, reply, poll. Every end, also the backend's own `finished`, goes through [`super::ladder`].
//! A trap, a limit or a full disk ends this run with a code and touches no other.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::assignment::Assignment;
use super::decision::Matter;
use super::event::{Closed, EventType};
use super::guard::guard;
use super::limits::{HeldBy, broken, hold};
use super::live::{Control, Live, Patience, StopWish};
use super::question::{Said, unknown};
use super::receipt::Cause;
use super::record::{Quota, Record};
use super::status::{State, Status};
use super::step::RATE_WINDOW_S;
use super::translate::{Translator, from_failure};
use crate::backend::{Instance, Made};
use crate::capability::told::{Hearing, telling};
use crate::capability::{FarEnd, Host, Inputs, Sealed, Setup};
use crate::config;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::ledger::SessionRow;
use crate::tree::Tree;

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
    /// The host ends, and the next one goes on with the run.
    Park,
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
    /// The way to its target.
    pub(super) far: Option<Arc<dyn FarEnd>>,
    pub(super) cancel_due: Option<(String, Instant)>,
    /// Why it ends, from when it does.
    pub(super) ending: Option<Cause>,
    /// The backend refused to be asked: asking it for longer brings nothing.
    pub(super) deaf: bool,
    /// When asking and terminating are to be over at the latest, by a later wish.
    pub(super) hurry: Option<Instant>,
    pub(super) output_schema: Option<Value>,
    pub(super) stop: config::Stop,
    pub(super) poll_at: Option<Instant>,
    /// What is to be said to the backend, in order.
    pub(super) said: VecDeque<Said>,
    /// Who waits for the backend's word to what is being said to it.
    pub(super) replying: Option<oneshot::Sender<Result<Status, Fault>>>,
    /// How questions were closed, the newest last.
    pub(super) closed: VecDeque<(String, Closed)>,
    /// What the backend may read by pieces.
    pub(super) inputs: Inputs,
    pub(super) translator: Translator,
    pub(super) must_settle: bool,
    pub(super) idle_agains: u32,
    pub(super) tokens: f64,
    pub(super) tokens_at: Instant,
    pub(super) hold_until: Option<Instant>,
    pub(super) last_news: Instant,
    pub(super) deadline: Instant,
    pub(super) limits: config::Limits,
    pub(super) held_by: HeldBy,
    /// What the component was allowed and refused, and whose run that is.
    pub(super) hearing: Hearing,
    pub(super) matter: Matter,
    pub(super) question_time: Duration,
    pub(super) session: SessionRow,
    pub(super) sealed: Sealed,
    /// It was taken up from an earlier host.
    pub(super) resumed: bool,
    /// Why it is to be stopped, once its component knows where it was.
    pub(super) owed: Option<Finish>,
    /// Its backend can take a run up again.
    pub(super) recovers: bool,
}

/// Waits for the run's turn, then drives it to its end.
pub async fn supervise(mut assignment: Assignment) {
    let quota = Quota { events: assignment.limits.events, bytes: assignment.limits.output };
    let mut record = Record::new(assignment.live.clone(), assignment.ledger.clone(), assignment.artifacts.clone(), quota);
    record.quota_is_of(assignment.held_by.output.clone());
    if let Some(resumed) = &assignment.resumed {
        record.go_on(resumed.state.clone(), &resumed.bookmark);
    }
    let permits = loop {
        tokio::select! {
            biased;
            control = assignment.ear.recv() => match (control, &mut assignment.resumed) {
                (Some(Control::Stop(wish)), Some(resumed)) => resumed.owe(&mut record, wish).await,
                // Nothing changed since its row was written.
                (Some(Control::Park(_)) | None, Some(_)) => return assignment.live.set_parked(),
                (Some(Control::Stop(wish) | Control::Park(wish)), None) => return super::ladder::never_started(record, &wish).await,
                (Some(control), _) => refuse(control, "waits for its turn"),
                (None, None) => return super::ladder::never_started(record, &shutdown()).await,
            },
            permits = &mut assignment.turn => match permits {
                Ok(permits) => break permits,
                Err(fault) => return super::ladder::turned_away(record, fault, assignment.resumed.is_some()).await,
            },
        }
    };
    assignment.live.hold(permits);
    if assignment.resumed.is_none() {
        record.enter(State::Starting, Map::new());
        record.submit().await;
    }
    let supervisor = Supervisor::prepare(assignment, record).await;
    match supervisor {
        Ok((mut supervisor, job)) => {
            let (live, tree, stop) = (Arc::clone(&supervisor.live), supervisor.tree.clone(), supervisor.stop.clone());
            let guard = guard(&live, tree, &stop, supervisor.deadline);
            let driven = async move {
                match supervisor.drive(job).await {
                    Finish::Park => supervisor.park().await,
                    finish => supervisor.finish(finish).await,
                }
            };
            tokio::select! {
                biased;
                () = driven => {}
                () = guard => {}
            }
        }
        Err((supervisor, Finish::Park)) => supervisor.park().await,
        Err((supervisor, finish)) => supervisor.finish(finish).await,
    }
}

fn shutdown() -> StopWish {
    StopWish { by: "host".into(), cause: Cause::Shutdown, reason: None, grace: None }
}

/// Answers what cannot be done now.
fn refuse(control: Control, why: &str) {
    let fault = || Fault::new(code::UNSUPPORTED, format!("the run {why}")).hint("look at it with get_run");
    match control {
        Control::Stop(_) | Control::Park(_) => {}
        Control::Answer(answer, reply) => _ = reply.send(Err(unknown(&answer.question_id))),
        Control::Steer(_, reply) => _ = reply.send(Err(fault())),
    }
}

impl Supervisor {
    async fn prepare(assignment: Assignment, record: Record) -> Result<(Self, wit::Job), (Self, Finish)> {
        let Assignment { live, ear, backend, grant, workspaces, client_env, inputs, mut job, output_schema, session, limits, stop, .. } =
            assignment;
        let recovers = backend.description.as_ref().is_some_and(|said| said.abilities.contains(wit::Abilities::RECOVER));
        let tree = Tree::new(live.id, assignment.ground);
        live.plant(tree.clone(), Patience { stop: stop.clone(), at_target: assignment.far.is_some() });
        let sealed = Sealed::default();
        let inputs = Inputs::of(inputs);
        let (told, hearing) = telling();
        let (host, news) = Host::new(Setup {
            run: live.id,
            backend: backend.name.clone(),
            grant,
            workspaces,
            cwd: job.cwd.clone().map(Utf8PathBuf::from),
            client_env,
            tree: tree.clone(),
            artifacts: assignment.artifacts,
            inputs: inputs.clone(),
            log: assignment.log.clone(),
            children: limits.children,
            blob_bytes: limits.output,
            far: assignment.far.clone(),
            told,
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
            far: assignment.far,
            cancel_due: None,
            ending: None,
            deaf: false,
            hurry: None,
            output_schema,
            stop,
            poll_at: None,
            said: VecDeque::new(),
            replying: None,
            closed: VecDeque::new(),
            inputs,
            translator: Translator::default(),
            must_settle: false,
            idle_agains: 0,
            tokens: f64::from(limits.events_per_s) * RATE_WINDOW_S,
            tokens_at: now,
            hold_until: None,
            last_news: now,
            deadline: now + limits.wall,
            limits: limits.clone(),
            held_by: assignment.held_by,
            hearing,
            matter: assignment.matter,
            question_time: assignment.question_time,
            session,
            sealed,
            resumed: assignment.resumed.is_some(),
            owed: None,
            recovers,
        };
        if let Some(resumed) = assignment.resumed {
            supervisor.take_over(resumed);
        }
        // The session's own id may have become known while this run waited for its turn.
        if let Ok(Some(row)) = assignment.ledger.session(supervisor.session.id) {
            supervisor.session = row;
        }
        if let (Some(prior), Some(native)) = (job.session.as_mut().filter(|prior| !prior.fork), &supervisor.session.native_id) {
            prior.native_id.clone_from(native);
        }
        if job.session.as_ref().is_some_and(|prior| prior.native_id.is_empty()) {
            let fault = Fault::new(
                code::NOT_CONTINUABLE,
                format!("session {} has no conversation of the backend to go on with", supervisor.session.id),
            )
            .hint("start a new run without session_id");
            return Err((supervisor, Finish::Fault(Cause::Component, fault)));
        }
        if let Err(fault) = hold(supervisor.tree.clone(), supervisor.limits.tree).await {
            return Err((supervisor, Finish::Fault(Cause::Limit, fault)));
        }
        // Making it may take seconds where it must be compiled first; a stop is heard all the same.
        let deadline = (!supervisor.resumed).then_some(supervisor.deadline);
        let mut making = Box::pin(Instance::new(Made { backend, host, news, log: assignment.log, limits }));
        loop {
            tokio::select! {
                biased;
                control = supervisor.ear.recv() => match control {
                    // What an earlier life began elsewhere ends only with the component's help.
                    Some(Control::Stop(wish)) if supervisor.resumed => supervisor.owe(wish).await,
                    Some(Control::Stop(wish)) => return Err((supervisor, Finish::Wish(wish))),
                    Some(Control::Park(wish)) => {
                        let finish = supervisor.parked(wish);
                        return Err((supervisor, finish));
                    }
                    // It is said when the component has started.
                    Some(Control::Steer(message, reply)) => supervisor.steer(*message, reply),
                    Some(Control::Answer(answer, reply)) => _ = reply.send(Err(supervisor.too_late(&answer.question_id))),
                    None => return Err((supervisor, Finish::Wish(shutdown()))),
                },
                () = sleep_until(deadline) => {
                    let fault = supervisor.too_long();
                    return Err((supervisor, Finish::Fault(Cause::Deadline, fault)));
                }
                made = &mut making => return match made {
                    Ok(instance) => {
                        supervisor.instance = Some(Arc::new(instance));
                        Ok((supervisor, job))
                    }
                    Err(fault) => Err((supervisor, Finish::Fault(Cause::Component, fault))),
                },
            }
        }
    }

    /// Calls the component until something ends the run.
    async fn drive(&mut self, job: wit::Job) -> Finish {
        self.begin(|instance| async move { Called::Start(instance.start(job).await) });
        if self.resumed
            && let Some(finish) = self.revive().await
        {
            return finish;
        }
        loop {
            if let Some(fault) = self.record.failure() {
                return Finish::Fault(Cause::Ledger, fault);
            }
            self.next_call();
            let wake = self.next_wake();
            let idle = self.call.is_none() && !self.poll_due;
            let (instance, tree) = (self.instance.clone(), self.tree.clone());
            tokio::select! {
                biased;
                control = self.ear.recv() => match control {
                    Some(Control::Stop(wish)) => return Finish::Wish(wish),
                    Some(Control::Park(wish)) => return self.parked(wish),
                    Some(Control::Answer(answer, reply)) => self.answer(*answer, reply).await,
                    Some(Control::Steer(message, reply)) => self.steer(*message, reply),
                    None => return Finish::Wish(shutdown()),
                },
                confirmed = self.record.confirmed() => {
                    if let Err(fault) = confirmed {
                        return Finish::Fault(Cause::Ledger, fault);
                    }
                    self.must_settle &= self.record.is_ahead();
                }
                // Before what the component makes of it.
                breach = tree.breach() => return Finish::Fault(Cause::Limit, broken(breach, &self.limits.tree)),
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
        if let Some((reason, until)) = self.cancel_due.take() {
            let within = until.saturating_duration_since(Instant::now());
            self.begin(|instance| async move { Called::Cancel(instance.cancel(reason, within).await) });
        } else if let Some(Said { answer, reply }) = self.said.pop_front() {
            self.replying = reply;
            self.begin(|instance| async move { Called::Reply(instance.reply(answer).await) });
        } else if self.poll_due && self.hold_until.is_none_or(|hold| hold <= Instant::now()) {
            self.poll_due = false;
            self.poll_at = None;
            self.hold_until = None;
            self.begin(|instance| async move { Called::Poll(Box::new(instance.poll().await)) });
        }
    }

    /// Takes what a call answered. An outcome means that the backend is finished.
    pub(super) async fn called(&mut self, called: Called) -> Result<Option<wit::Outcome>, (Cause, Fault)> {
        self.call = None;
        // Before what the component makes of it.
        self.hear().await.map_err(|fault| (Cause::Limit, fault))?;
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
                let reply = self.replying.take();
                match (answer.map_err(|fault| self.component_gone(fault))?, reply) {
                    (Ok(()), Some(reply)) => _ = reply.send(Ok(self.record.state().status())),
                    (Err(failure), Some(reply)) => _ = reply.send(Err(from_failure(failure))),
                    (Ok(()), None) => {}
                    (Err(failure), None) => self.notice("reply_refused", &failure).await?,
                }
                self.poll_due = true;
                Ok(None)
            }
            Called::Cancel(answer) => {
                if let Err(failure) = answer.map_err(|fault| self.component_gone(fault))? {
                    self.notice("cancel_refused", &failure).await?;
                    self.deaf = true;
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

    /// A step with a checkpoint holds the next call only while it is on its way.
    pub(super) fn unsettle(&mut self) {
        self.must_settle &= self.record.is_ahead();
    }

    /// The output that was cut in the middle of a character is told before the end.
    pub(super) fn translator(&mut self) -> &mut Translator {
        &mut self.translator
    }
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

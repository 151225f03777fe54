//! The one way in which every run ends: ask, terminate, kill, drain, cut, prove; then the terminal event.
//!
//! `cancel_run`, deadlines, limits, a parent's stop, shutdown, a trapped component and also a backend that says
//! `finished` all come here. Nothing holds the ladder up: a guest that spins or blocks is cut at once, every rung has
//! its time, and a ledger that cannot be written lets the stop go on in memory. The terminal event waits for the proof.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::event::Closed;
use super::left::at_a_target;
use super::live::{Control, StopWish};
use super::receipt::{Cause, ComponentEnd, FarEnd, ProcessSeen, Proof, Receipt, Rung, Step};
use super::record::Record;
use super::status::{Completion, Ending, State};
use super::supervisor::{Finish, Supervisor, in_hand, news, sleep_until};
use super::timing::Rungs;
use super::translate::{Meaning, from_failure, parsed};
use crate::backend::Schema;
use crate::backend::instance::End;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::tree::{Seen, Verdict};

/// A call that has been in hand for so long when the run is to stop counts as a spin and is cut; one for which the host starts a child
/// has the time of its rung.
const BUSY_AT_STOP: Duration = Duration::from_millis(25);

/// The same where a stop needs the component, for the far end can only be asked by it. A machine that is busy may hold an honest call
/// up for long; one that spins or blocks meets the limits of every call (`call_cpu`, `call`) besides.
const BUSY_AT_FAR_STOP: Duration = Duration::from_secs(5);

/// How long the store may take to go once it was cut.
const CUT_WAIT: Duration = Duration::from_secs(2);

/// What a rung waits for, besides its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The backend says that it is finished, or that it cannot be asked.
    Heard,
    /// The backend says that it is finished.
    Finished,
    /// The backend is finished and its tree is empty.
    FinishedAndEmpty,
}

/// What the backend said at last.
#[derive(Default)]
struct Last {
    outcome: Option<wit::Outcome>,
    fault: Option<Fault>,
}

/// Ends a run whose turn never came.
pub(super) async fn never_started(mut record: Record, wish: &StopWish) {
    let mut receipt = Receipt::begun(wish.by.clone(), wish.cause, wish.reason.clone());
    receipt.component = Some(ComponentEnd::NeverStarted);
    receipt.proof = Some(Proof::NoProcesses);
    record.end(Ending::Cancelled { partial: Completion::default(), receipt }).await;
    record.submit().await;
    if let Err(fault) = record.settled().await {
        tracing::error!(run = %record.run(), %fault, "the end of a run is not on disk");
    }
}

/// Ends a run whose turn cannot come any more; one that had `begun` in an earlier life is lost then.
pub(super) async fn turned_away(mut record: Record, error: Fault, begun: bool) {
    let mut receipt = Receipt::begun("host", Cause::Finished, Some(error.message.clone()));
    receipt.component = Some(ComponentEnd::NeverStarted);
    receipt.proof = Some(Proof::NoProcesses);
    if begun {
        record.close_items();
        let lost = Ending::Lost { error, partial: Completion::default(), receipt: Some(receipt) };
        record.end(if record.has_target() { at_a_target(lost) } else { lost }).await;
    } else {
        record.end(Ending::Failed { error, partial: Completion::default(), receipt }).await;
    }
    record.submit().await;
    if let Err(fault) = record.settled().await {
        tracing::error!(run = %record.run(), %fault, "the end of a run is not on disk");
    }
}

impl Supervisor {
    /// Takes the run to its end.
    pub(super) async fn finish(mut self, finish: Finish) {
        let began = Instant::now();
        self.unsettle();
        let mut last = Last::default();
        let (cause, by, reason, grace, fault) = match finish {
            Finish::Outcome(outcome) => {
                last.outcome = Some(outcome);
                // It may have heard of the death of a child before the host heard of the limit.
                match self.broken() {
                    Some(fault) => (Cause::Limit, "host".to_owned(), Some(fault.message.clone()), None, Some(fault)),
                    None => (Cause::Finished, "backend".to_owned(), None, None, None),
                }
            }
            Finish::Wish(wish) => (wish.cause, wish.by, wish.reason, wish.grace, None),
            Finish::Fault(Cause::Component, fault) => {
                last.fault = Some(fault.clone());
                let (cause, fault) = self.broken().map_or((Cause::Component, fault), |broken| (Cause::Limit, broken));
                (cause, "host".to_owned(), Some(fault.message.clone()), None, Some(fault))
            }
            Finish::Fault(cause, fault) => (cause, "host".to_owned(), Some(fault.message.clone()), None, Some(fault)),
            // That is [`Supervisor::park`]; a stop is what is left otherwise.
            Finish::Park => (Cause::Shutdown, "host".to_owned(), None, None, None),
        };
        let mut receipt = Receipt::begun(by, cause, reason);
        let mut asked = began;
        // A stop that an earlier host began.
        if let State::Cancelling { receipt: begun } = self.record.state() {
            let before = u64::try_from(receipt.asked_at.0 - begun.asked_at.0).unwrap_or(0);
            asked = began.checked_sub(Duration::from_millis(before)).unwrap_or(began);
            receipt.asked_at = begun.asked_at;
        }
        let children = self.live.close_children();
        for child in &children {
            let reason = Some(format!("its parent {} ends", self.live.id));
            child.stop(StopWish { by: self.live.id.to_string(), cause: Cause::Parent, reason, grace });
        }
        // A component that is at fault is not called any more, whatever made it fail.
        if last.fault.is_some() {
            self.call = None;
            self.replying = None;
        }
        self.ending = Some(cause);
        self.turn_away();
        let Rungs { told, ask, terminate } = self.rungs(grace);
        let is_over = last.outcome.is_some() || last.fault.is_some();
        self.live.doom_by(began + if is_over { terminate } else { ask + terminate });
        let asks = !is_over && self.instance.is_some() && !ask.is_zero();
        if asks {
            step(&mut receipt, asked, Rung::Ask);
        }
        if cause != Cause::Finished {
            self.record.outline.stopping.clone_from(&fault);
            announce(&mut self.record, &receipt);
            // Nobody's answer counts from here on; the backend is asked to end instead.
            self.close_questions(Closed::Cancelled);
        }
        if asks {
            let now = Instant::now();
            let until = now + ask;
            self.cancel_due = Some((receipt.reason.clone().unwrap_or_else(|| format!("{cause:?}").to_lowercase()), now + told));
            self.pump(until, Until::Heard, &mut last).await;
        }
        // Where nothing is left to wait for, the announcement and the end are one transaction.
        if self.tree.was_used() || !children.is_empty() {
            self.record.submit().await;
        }
        if self.tree.is_alive() && !terminate.is_zero() {
            step(&mut receipt, asked, Rung::Terminate);
            self.show(&receipt).await;
            self.tree.terminate().await;
            self.pump(Instant::now() + terminate, Until::FinishedAndEmpty, &mut last).await;
        }
        // Also where nothing known is alive: it looks for what is marked, and nothing is started any more.
        self.tree.kill().await;
        if let Some(at) = self.tree.killed().at {
            let after = Instant::from_std(at).saturating_duration_since(asked);
            receipt.rungs.push(Step { rung: Rung::Kill, after_ms: millis(after) });
        }
        if self.instance.is_some() && last.outcome.is_none() && last.fault.is_none() {
            step(&mut receipt, asked, Rung::Drain);
            self.poll_due = true;
            self.pump(Instant::now() + self.stop.drain, Until::Finished, &mut last).await;
        }
        receipt.component = Some(self.cut(&mut receipt, asked).await);
        step(&mut receipt, asked, Rung::Prove);
        let verdict = self.tree.prove(self.stop.prove).await;
        let killed = self.tree.killed();
        receipt.killed = killed.named.into_iter().map(seen).collect();
        receipt.killed_total = killed.total;
        // Each child has the same rungs; one that hangs must not hold its parent up for ever.
        let rungs = self.stop.ask + self.stop.terminate + self.stop.drain + self.stop.prove + CUT_WAIT * 2;
        for child in children {
            if tokio::time::timeout(rungs, child.ended()).await.is_err() {
                tracing::error!(run = %self.live.id, child = %child.id, "a child run did not end with its parent");
            }
        }
        self.end(cause, fault, last, receipt, verdict).await;
    }

    /// Messages that the backend was not given yet are not given to it any more. Answers are: their callers were told.
    fn turn_away(&mut self) {
        let fault = self.untaken();
        self.said.retain_mut(|said| match said.reply.take() {
            None => true,
            Some(reply) => {
                let _ = reply.send(Err(fault.clone()));
                false
            }
        });
    }

    /// Why a message is not taken any more.
    fn untaken(&self) -> Fault {
        let run = self.live.id;
        match self.ending {
            None | Some(Cause::Finished) => Fault::new(code::RUN_ENDED, format!("run {run} ended before it took that"))
                .hint("the same call again carries it on, where it has a conversation"),
            Some(_) => Fault::new(code::RUN_ENDED, format!("run {run} is being stopped"))
                .hint("wait for its end (wait_runs); the same call again carries it on then, where it has a conversation"),
        }
        .retryable()
    }

    /// Shows the receipt so far, to those who ask while the stop goes on.
    async fn show(&mut self, receipt: &Receipt) {
        if matches!(self.record.state(), State::Cancelling { .. }) {
            self.record.receipt(receipt);
            self.record.submit().await;
        }
    }

    fn rungs(&self, grace: Option<Duration>) -> Rungs {
        Rungs::of(&self.stop, self.far.is_some(), grace)
    }

    /// Goes on calling the component until what is waited for has come, the time is over, or the component is gone.
    async fn pump(&mut self, until: Instant, what: Until, last: &mut Last) {
        let latest = until;
        let mut looked = None;
        let busy = if self.far.is_some() || self.outlives_the_host() { BUSY_AT_FAR_STOP } else { BUSY_AT_STOP };
        loop {
            // The drain has its own time: what was written before the end counts, however short the grace.
            let until = self.hurry.filter(|_| what != Until::Finished).map_or(latest, |hurry| latest.min(hurry));
            let finished = last.outcome.is_some() || last.fault.is_some() || self.instance.is_none();
            let empty = !self.tree.is_alive();
            if finished && (what == Until::Finished || empty) {
                return;
            }
            if what == Until::Heard && (finished || self.deaf) {
                return;
            }
            if !finished {
                self.next_call();
            }
            let wake = match &self.call {
                Some(call) => until.min(looked.unwrap_or(call.since).max(call.since) + busy),
                None if finished || !self.may_call() => until,
                None => self.next_poll().map_or(until, |poll| until.min(poll)),
            };
            if wake > Instant::now() {
                self.record.submit().await;
            }
            let idle = !finished && self.call.is_none() && !self.poll_due;
            let (instance, tree) = (self.instance.clone(), self.tree.clone());
            tokio::select! {
                biased;
                called = in_hand(&mut self.call) => match self.called(called).await {
                    Ok(None) => {}
                    Ok(Some(outcome)) => last.outcome = Some(outcome),
                    Err((_, fault)) => {
                        self.call = None;
                        last.fault = Some(fault);
                    }
                },
                confirmed = self.record.confirmed() => {
                    // The stop goes on without the ledger; the end will say that it is not durable.
                    if let Err(fault) = confirmed {
                        tracing::error!(run = %self.live.id, %fault, "a stop goes on in memory");
                    }
                    self.unsettle();
                }
                Some(control) = self.ear.recv() => match control {
                    // Whoever asks again may only shorten the time.
                    Control::Stop(StopWish { grace: Some(grace), .. }) | Control::Park(StopWish { grace: Some(grace), .. }) => {
                        let sooner = Instant::now() + if self.far.is_some() { self.rungs(Some(grace)).ask } else { grace };
                        self.hurry = Some(self.hurry.map_or(sooner, |hurry| hurry.min(sooner)));
                    }
                    Control::Stop(_) | Control::Park(_) => {}
                    Control::Answer(answer, reply) => {
                        let _ = reply.send(Err(self.too_late(&answer.question_id)));
                    }
                    Control::Steer(_, reply) => {
                        let _ = reply.send(Err(self.untaken()));
                    }
                },
                () = news(instance), if idle => self.poll_due = true,
                () = tree.empty(), if finished && !empty => {}
                () = sleep_until(Some(wake)) => {
                    let now = Instant::now();
                    looked = Some(now);
                    let in_the_host = self.instance.as_ref().is_some_and(|instance| instance.is_in_the_host());
                    if let Some(call) = &self.call && now >= call.since + busy && !in_the_host {
                        last.fault = Some(Fault::new(code::BACKEND_BLOCKED, "the component was in a call when it was to stop"));
                        if let Some(instance) = &self.instance {
                            instance.cut();
                        }
                        self.call = None;
                    }
                    if now >= until {
                        return;
                    }
                    if self.next_poll().is_some_and(|poll| poll <= now) {
                        self.poll_due = true;
                    }
                }
            }
        }
    }

    /// Drops the store, and says how the component ended.
    async fn cut(&mut self, receipt: &mut Receipt, began: Instant) -> ComponentEnd {
        self.call = None;
        let Some(instance) = self.instance.take() else { return ComponentEnd::NeverStarted };
        step(receipt, began, Rung::Cut);
        instance.cut();
        match tokio::time::timeout(CUT_WAIT, instance.gone()).await {
            Ok(End::Returned) => ComponentEnd::Returned,
            Ok(End::Trapped) => ComponentEnd::Trapped,
            Ok(End::Dropped) | Err(_) => ComponentEnd::Dropped,
        }
    }

    /// Writes the end.
    async fn end(mut self, mut cause: Cause, mut fault: Option<Fault>, last: Last, mut receipt: Receipt, verdict: Verdict) {
        // A limit that was reached meanwhile, by what the backend left behind; or that made the component fail; or by what is
        // said to have completed just before its stop.
        let completed = matches!(last.outcome, Some(wit::Outcome::Completed(_)));
        if (matches!(cause, Cause::Finished | Cause::Component) || completed)
            && let Some(broken) = self.broken()
        {
            (cause, receipt.cause, receipt.asked_by) = (Cause::Limit, Cause::Limit, "host".to_owned());
            receipt.reason = Some(broken.message.clone());
            fault = Some(broken);
        }
        self.hear_the_rest().await;
        for id in self.record.open_commands() {
            for meaning in self.translator().rest(&id) {
                if let Meaning::Event(kind, data) = meaning {
                    let _ = self.record.event(kind, data).await;
                }
            }
        }
        self.close_questions(Closed::Ended);
        self.record.close_items();
        let proven = !matches!(verdict, Verdict::Unverified { .. });
        enter(&mut receipt, verdict);
        let partial_text = self.record.last_message().map(str::to_owned);
        if last.outcome.is_none() && self.outlives_the_host() {
            let why = fault.as_ref().or(last.fault.as_ref()).map(|fault| format!(": {}", fault.message)).unwrap_or_default();
            let detail = Some(format!("the backend did not come to say what became of it{why}"));
            receipt.far_end = Some(FarEnd { state: "unknown".into(), detail });
        }
        let ending = conclude(
            cause,
            fault,
            last,
            receipt,
            partial_text,
            self.output_schema.as_ref(),
            self.far.as_ref().is_some_and(|far| far.has_begun()),
        );
        self.record.end(ending).await;
        self.record.submit().await;
        match self.record.settled().await {
            Ok(()) if proven => self.tree.forget().await,
            Ok(()) => {}
            Err(fault) => tracing::error!(run = %self.live.id, %fault, "the end of a run is not on disk"),
        }
        self.live.release();
    }
}

/// Tells that the run is being stopped. It is submitted by whatever waits first.
pub(super) fn announce(record: &mut Record, receipt: &Receipt) {
    if matches!(record.state(), State::Cancelling { .. } | State::Ended(_)) {
        return;
    }
    let mut tell = Map::new();
    tell.insert("cause".into(), serde_json::to_value(receipt.cause).unwrap_or_default());
    tell.insert("by".into(), receipt.asked_by.clone().into());
    if let Some(reason) = &receipt.reason {
        tell.insert("reason".into(), super::inert::inert(reason.clone()).into());
    }
    record.enter(State::Cancelling { receipt: receipt.clone() }, tell);
}

fn step(receipt: &mut Receipt, began: Instant, rung: Rung) {
    receipt.rungs.push(Step { rung, after_ms: millis(began.elapsed()) });
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Enters what is known about the tree.
pub(super) fn enter(receipt: &mut Receipt, verdict: Verdict) {
    let (proof, survivors) = match verdict {
        Verdict::Never => (Proof::NoProcesses, Vec::new()),
        Verdict::Empty(by) => (Proof::Empty { by }, Vec::new()),
        Verdict::Unverified { reason, survivors } => (Proof::Unverified { reason }, survivors),
    };
    receipt.proof = Some(proof);
    receipt.survivors = survivors.into_iter().map(seen).collect();
}

pub(super) fn seen(process: Seen) -> ProcessSeen {
    ProcessSeen { pid: process.pid, name: super::inert::inert(process.name) }
}

fn completion(given: wit::Completion) -> Result<Completion, Fault> {
    let structured = given.structured.map(|text| parsed("a structured result", &text)).transpose()?;
    Ok(Completion { text: given.text, structured })
}

/// What the run ended as.
fn conclude(
    cause: Cause,
    fault: Option<Fault>,
    last: Last,
    mut receipt: Receipt,
    last_message: Option<String>,
    schema: Option<&Value>,
    far_begun: bool,
) -> Ending {
    let mut partial = Completion { text: last_message, structured: None };
    let mut outcome = last.outcome;
    if let Some(wit::Outcome::Stopped(stopped) | wit::Outcome::Lost(wit::Lost { stopped, .. })) = &mut outcome {
        receipt.far_end = stopped.remote.map(|proof| FarEnd::of(proof, stopped.detail.take()));
        let given = std::mem::replace(&mut stopped.partial, wit::Completion { text: None, structured: None });
        if let Ok(given) = completion(given) {
            partial = Completion { text: given.text.or(partial.text), structured: given.structured };
        }
    }
    // Whoever was cut off while something ran there said nothing of it.
    if far_begun && receipt.far_end.is_none() && matches!(outcome, None | Some(wit::Outcome::Stopped(_))) {
        let detail = Some("the backend did not say what became of it".to_owned());
        receipt.far_end = Some(FarEnd { state: "unknown".to_owned(), detail });
    }
    if let Some(Proof::Unverified { reason }) = &receipt.proof {
        let names: Vec<_> = receipt.survivors.iter().map(|process| format!("{} ({})", process.name, process.pid)).collect();
        let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        let error = Fault::new(code::STOP_UNVERIFIED, format!("it is not proven that nothing of the run lives: {reason}{names}"))
            .hint("look on the machine and end by hand what is left");
        return Ending::Lost { error, partial, receipt: Some(receipt) };
    }
    if let Some(wit::Outcome::Lost(lost)) = outcome {
        return Ending::Lost { error: from_failure(lost.failure), partial, receipt: Some(receipt) };
    }
    // What was started at the far end is a part of the run: while it may live there, nothing else is true.
    if let Some(far) = receipt.far_end.as_ref().filter(|far| far.state != "confirmed") {
        let state = &far.state;
        let detail = far.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        let error =
            Fault::new(code::STOP_UNVERIFIED, format!("it is not proven that nothing of the run lives at the far end ({state}{detail})"))
                .hint("cancel_run looks again; or look there and end by hand what is left");
        return Ending::Lost { error, partial, receipt: Some(receipt) };
    }
    let asked = matches!(cause, Cause::Requested | Cause::Parent | Cause::Group | Cause::Shutdown);
    match outcome {
        Some(wit::Outcome::Completed(given)) if cause == Cause::Finished || asked => match completion(given) {
            Ok(result) => match fits(schema, &result) {
                Ok(()) => Ending::Completed { result, receipt },
                Err(error) => Ending::Failed { error, partial: result, receipt },
            },
            Err(error) => Ending::Failed { error, partial, receipt },
        },
        Some(wit::Outcome::Rejected(failure)) if cause == Cause::Finished => Ending::Rejected { error: from_failure(failure), receipt },
        Some(wit::Outcome::Failed(failure)) if cause == Cause::Finished => {
            Ending::Failed { error: from_failure(failure), partial, receipt }
        }
        Some(wit::Outcome::Stopped(_)) if cause == Cause::Finished => {
            let error = Fault::new(code::CONTRACT_VIOLATION, "the backend said that it was stopped, but nobody had asked it to stop");
            Ending::Failed { error, partial, receipt }
        }
        _ if asked => Ending::Cancelled { partial, receipt },
        _ => {
            let error = fault.or(last.fault).unwrap_or_else(|| Fault::new(code::INTERNAL, "the run ended without a reason"));
            Ending::Failed { error, partial, receipt }
        }
    }
}

/// Whether the structured answer is what the run's caller wanted.
fn fits(schema: Option<&Value>, result: &Completion) -> Result<(), Fault> {
    let Some(schema) = schema else { return Ok(()) };
    let Some(value) = &result.structured else {
        return Err(Fault::new(code::OUTPUT_INVALID, "the backend gave no structured answer, but the run has an output_schema")
            .hint("its answer as text, if there is one, is in the result; continue_run can ask it again"));
    };
    let schema =
        Schema::compile(schema).map_err(|why| Fault::new(code::OUTPUT_INVALID, format!("the output_schema cannot be used: {why}")))?;
    schema.check("the structured answer", value).map_err(|mistakes| {
        Fault::new(code::OUTPUT_INVALID, format!("the structured answer does not fit the run's output_schema: {}", mistakes.wrong))
            .hint(format!("the rule is `{}` in the run's output_schema; what was given is in the result", mistakes.rule))
    })
}

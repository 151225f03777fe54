//! A run and the end of its host: left to the next one (parked), and gone on with there (revived).
//!
//! A run with a checkpoint, of a backend that can recover, outlives the host. Its component is told where it was (`start` with the
//! checkpoint) before anything else is said to it; a stop that was asked for meanwhile, or of an earlier host, comes after that, for
//! what runs elsewhere ends only with the component's help. What cannot be gone on with is lost, and says so.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::bookmark::Bookmark;
use super::event::EventType;
use super::ladder::announce;
use super::live::{Control, StopWish};
use super::receipt::{Cause, Receipt};
use super::record::Record;
use super::status::State;
use super::supervisor::{Finish, Supervisor, in_hand};
use crate::clock::Millis;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::tree::Verdict;

/// A run whose time was over while no host was there has so long to be made and told of its end.
const OVERDUE: Duration = Duration::from_secs(30);
/// How long the store of a parked run may take to go.
const CUT_WAIT: Duration = Duration::from_secs(2);

/// What an earlier host left of a run.
pub struct Resumed {
    /// As it was, but for what nobody can answer any more.
    pub(super) state: State,
    /// How far it was.
    pub(super) bookmark: Bookmark,
    /// When it was started first.
    pub(super) started_at: Option<Millis>,
    /// Why it is to be stopped.
    pub(super) owed: Option<Finish>,
}

impl Resumed {
    /// It is to be stopped once it lives again. That is on disk when this returns, so that a crash takes nothing back.
    pub(super) async fn owe(&mut self, record: &mut Record, wish: StopWish) {
        if self.owed.is_none() {
            keep(record, &wish).await;
            self.owed = Some(Finish::Wish(wish));
        }
    }
}

async fn keep(record: &mut Record, wish: &StopWish) {
    announce(record, &Receipt::begun(wish.by.clone(), wish.cause, wish.reason.clone()));
    record.submit().await;
    if let Err(fault) = record.settled().await {
        tracing::error!(run = %record.run(), %fault, "a stop is not on disk");
    }
}

impl Supervisor {
    /// Goes on where an earlier host was.
    pub(super) fn take_over(&mut self, resumed: Resumed) {
        self.translator.go_on(resumed.bookmark.streams);
        self.owed = resumed.owed;
        let gone = resumed.started_at.map_or(0, |at| Millis::now().0.saturating_sub(at.0));
        let left = self.limits.wall.checked_sub(Duration::from_millis(u64::try_from(gone).unwrap_or(0)));
        self.deadline = Instant::now() + left.unwrap_or(OVERDUE);
        if left.is_none() && self.owed.is_none() {
            self.owed = Some(Finish::Fault(Cause::Deadline, self.too_long()));
        }
    }

    /// It is to be stopped once its component lives again.
    pub(super) async fn owe(&mut self, wish: StopWish) {
        if self.owed.is_none() {
            keep(&mut self.record, &wish).await;
            self.owed = Some(Finish::Wish(wish));
        }
    }

    /// Whether the run goes on elsewhere when its host ends.
    pub(super) fn outlives_the_host(&self) -> bool {
        self.recovers && self.record.is_kept()
    }

    /// What becomes of the run at an orderly end of the host.
    pub(super) fn parked(&self, wish: StopWish) -> Finish {
        if self.outlives_the_host() { Finish::Park } else { Finish::Wish(wish) }
    }

    /// Waits until the component has taken its checkpoint. Gives why the run ends, if it does.
    pub(super) async fn revive(&mut self) -> Option<Finish> {
        loop {
            tokio::select! {
                biased;
                control = self.ear.recv() => match control {
                    Some(Control::Stop(wish)) => self.owe(wish).await,
                    Some(Control::Park(_)) | None => return Some(Finish::Park),
                    Some(Control::Answer(answer, reply)) => _ = reply.send(Err(self.too_late(&answer.question_id))),
                    Some(Control::Steer(message, reply)) => self.steer(*message, reply),
                },
                called = in_hand(&mut self.call) => return match self.called(called).await {
                    Ok(None) => self.owed.take(),
                    Ok(Some(outcome)) => Some(Finish::Outcome(unknown(outcome))),
                    Err((cause, fault)) => Some(Finish::Fault(cause, fault)),
                },
            }
        }
    }

    /// Leaves the run to the next host: its component is dropped without a word, what it has here is ended, and its status stays.
    pub(super) async fn park(mut self) {
        self.call = None;
        let ends = || Fault::new(code::SHUTTING_DOWN, "the host ends; the run goes on when it is started again").retryable();
        for reply in self.replying.take().into_iter().chain(self.said.drain(..).filter_map(|said| said.reply)) {
            let _ = reply.send(Err(ends()));
        }
        // They are in the host's list too, and are parked or stopped like any run.
        let _ = self.live.close_children();
        if let Some(instance) = self.instance.take() {
            instance.cut();
            let _ = tokio::time::timeout(CUT_WAIT, instance.gone()).await;
        }
        self.tree.kill().await;
        let verdict = self.tree.prove(self.stop.prove).await;
        let proven = !matches!(verdict, Verdict::Unverified { .. });
        let message = "the host ends; the run goes on when it is started again";
        let told = self.record.closing(EventType::Notice, json!({ "severity": "info", "code": "parked", "message": message })).await;
        if proven {
            self.record.proven_so_far();
        }
        self.record.submit().await;
        match told.and(self.record.settled().await) {
            Ok(()) if proven => self.tree.forget().await,
            Ok(()) => tracing::warn!(run = %self.live.id, ?verdict, "something of a parked run may live"),
            Err(fault) => tracing::error!(run = %self.live.id, %fault, "a run is parked, and that is not on disk"),
        }
        self.live.set_parked();
        self.live.release();
    }
}

/// A component that cannot take its run up again knows nothing of what it began elsewhere.
fn unknown(outcome: wit::Outcome) -> wit::Outcome {
    match outcome {
        wit::Outcome::Failed(failure) | wit::Outcome::Rejected(failure) => {
            let partial = wit::Completion { text: None, structured: None };
            let stopped = wit::Stopped { remote: Some(wit::RemoteProof::Unknown), detail: None, partial };
            wit::Outcome::Lost(wit::Lost { failure, stopped })
        }
        other => other,
    }
}

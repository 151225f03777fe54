//! One instance's life on the guest runtime, and how it is ended from outside.
//!
//! The actor (a future that owns the store) lies in a slot. A task of the guest runtime polls it there, one turn at a
//! time. [`Life::cut`] sets a flag and raises the epoch, which traps a guest that has a thread just now, within
//! microseconds; a guest that waits (for its turn, or inside the host) is taken out of its slot by the reaper and
//! dropped. So how long a cut takes does not depend on how many other guests spin.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::sync::SetOnce;

use super::instance::End;
use super::limits::{Account, Exceeded};

type Actor = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Between calls.
    Idle = 0,
    /// In a call: in the guest, or inside the host.
    Called = 1,
    /// In a call, in the guest, waiting for its next turn.
    Yielded = 2,
    /// A call trapped.
    Trapped = 3,
    /// A call was dropped inside the host.
    Dropped = 4,
}

impl Phase {
    fn from(byte: u8) -> Self {
        match byte {
            0 => Self::Idle,
            1 => Self::Called,
            2 => Self::Yielded,
            3 => Self::Trapped,
            _ => Self::Dropped,
        }
    }
}

/// See the module.
pub(super) struct Life {
    cut: AtomicBool,
    phase: AtomicU8,
    slot: Mutex<Option<Actor>>,
    waker: AtomicWaker,
    ended: SetOnce<End>,
    /// CPU time.
    pub(super) account: Account,
}

impl Life {
    pub(super) fn new(account: Account) -> Arc<Self> {
        Arc::new(Self {
            cut: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Idle as u8),
            slot: Mutex::new(None),
            waker: AtomicWaker::new(),
            ended: SetOnce::new(),
            account,
        })
    }

    /// Puts the actor in its slot and starts the task that gives it turns.
    pub(super) fn start(self: &Arc<Self>, guests: &tokio::runtime::Handle, actor: Actor) {
        *self.slot() = Some(actor);
        let turns = Turns(self.clone());
        guests.spawn(turns);
    }

    pub(super) fn phase(&self) -> Phase {
        Phase::from(self.phase.load(Ordering::Acquire))
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// Sets the flag. The first time it says true: then the epoch must be raised and the reaper told.
    pub(super) fn mark_cut(&self) -> bool {
        !self.cut.swap(true, Ordering::SeqCst)
    }

    /// How it ended, once its store is gone.
    pub(super) async fn gone(&self) -> End {
        *self.ended.wait().await
    }

    pub(super) fn is_gone(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Whether it has no thread, and where it is.
    #[cfg(test)]
    pub(super) fn waits(&self) -> Option<Phase> {
        self.slot.try_lock().ok().and_then(|slot| slot.as_ref().map(|_| self.phase()))
    }

    /// What the epoch asks, in the guest's own turn: go on after others had theirs, or end?
    pub(super) fn tick(&self) -> Result<(), Exceeded> {
        if self.is_cut() {
            return Err(Exceeded::Cut);
        }
        self.account.check()?;
        self.set_phase(Phase::Yielded);
        Ok(())
    }

    /// Drops the actor if nobody polls it just now. If somebody does, the turn sees the flag when it ends.
    pub(super) fn reap(&self) {
        let taken = match self.slot.try_lock() {
            Ok(mut slot) => slot.take(),
            Err(std::sync::TryLockError::Poisoned(slot)) => slot.into_inner().take(),
            Err(std::sync::TryLockError::WouldBlock) => return,
        };
        if let Some(actor) = taken {
            self.end(actor);
            // The task that gave it turns has nothing left to do, and nothing else would wake it.
            self.waker.wake();
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Actor>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One turn.
    fn turn(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut slot = self.slot();
        let Some(actor) = slot.as_mut() else { return Poll::Ready(()) };
        let mut going_on = false;
        if !self.is_cut() {
            self.waker.register(context.waker());
            if self.phase() == Phase::Yielded {
                self.set_phase(Phase::Called);
            }
            self.account.begin_turn();
            // A panic of the host's own code inside a call ends this instance and nothing else.
            let polled = catch_unwind(AssertUnwindSafe(|| actor.as_mut().poll(context)));
            self.account.end_turn();
            match polled {
                Ok(Poll::Pending) => going_on = !self.is_cut(),
                Ok(Poll::Ready(())) => {}
                Err(_) => self.set_phase(Phase::Trapped),
            }
        }
        if !going_on {
            let actor = slot.take();
            drop(slot);
            if let Some(actor) = actor {
                self.end(actor);
            }
            return Poll::Ready(());
        }
        drop(slot);
        // A cut between the look above and the unlocking found the slot locked, and left it to this turn.
        if self.is_cut() {
            self.reap();
        }
        Poll::Pending
    }

    /// Drops the store and says so.
    fn end(&self, actor: Actor) {
        if catch_unwind(AssertUnwindSafe(|| drop(actor))).is_err() {
            tracing::error!("dropping a store panicked");
        }
        let end = match self.phase() {
            Phase::Idle => End::Returned,
            Phase::Yielded | Phase::Trapped => End::Trapped,
            Phase::Called | Phase::Dropped => End::Dropped,
        };
        // Only one of us ever has the actor.
        let _ = self.ended.set(end);
    }
}

/// The task that gives an instance its turns.
struct Turns(Arc<Life>);

impl Future for Turns {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.turn(context)
    }
}

impl Drop for Turns {
    /// The runtime is ending: without turns the actor would wait for ever.
    fn drop(&mut self) {
        if !self.0.is_gone() {
            self.0.mark_cut();
            self.0.reap();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn life() -> Arc<Life> {
        Life::new(Account::new(Duration::from_secs(1), Duration::from_secs(1)))
    }

    #[tokio::test]
    async fn a_waiting_actor_is_reaped_and_its_task_ends() {
        let life = life();
        life.start(&tokio::runtime::Handle::current(), Box::pin(std::future::pending()));
        tokio::task::yield_now().await;
        assert!(!life.is_gone());
        assert!(life.mark_cut());
        assert!(!life.mark_cut());
        life.reap();
        assert_eq!(life.gone().await, End::Returned);
        // The task is woken, and lets go of its share.
        while Arc::strong_count(&life) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_in_a_turn_ends_that_instance_alone() {
        let life = life();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        life.start(&tokio::runtime::Handle::current(), Box::pin(async { panic!("boom") }));
        assert_eq!(life.gone().await, End::Trapped);
        std::panic::set_hook(before);
    }

    #[tokio::test]
    async fn what_ends_by_itself_is_gone() {
        let life = life();
        life.start(&tokio::runtime::Handle::current(), Box::pin(async {}));
        assert_eq!(life.gone().await, End::Returned);
    }
}

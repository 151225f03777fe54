//! Gathering what one call has to tell.

use crate::{Event, Next, Outcome, Step};

/// Events in one step, at most; a limit of the contract.
pub const MAX_EVENTS: usize = 1024;
/// Bytes of events after which a step is better returned: steps may run ahead of the disk by 1 MiB.
pub const SOFT_BYTES: usize = 512 << 10;

/// The events of one call. Ask [`Events::is_full`] before reading more, then make the step with one of the last four methods.
#[derive(Debug, Default)]
pub struct Events {
    events: Vec<Event>,
    bytes: usize,
    checkpoint: Option<Vec<u8>>,
}

impl Events {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, event: Event) {
        self.bytes += event.weight();
        self.events.push(event);
    }

    /// The last one, to be added to.
    pub fn last_mut(&mut self) -> Option<&mut Event> {
        self.events.last_mut()
    }

    /// Whether this is enough for one step: return [`Events::again`] and go on in the next call.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.events.len() >= MAX_EVENTS || self.bytes >= SOFT_BYTES
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// A state, at most 64 KiB, to be committed together with these events; a run that is taken up again gets the last one.
    pub fn checkpoint(&mut self, state: Vec<u8>) {
        self.checkpoint = Some(state);
    }

    /// There is more to do at once.
    #[must_use]
    pub fn again(self) -> Step {
        self.step(Next::Again)
    }

    /// Every source was read until it was pending: call when one has news.
    #[must_use]
    pub fn pending(self) -> Step {
        self.step(Next::Pending(None))
    }

    /// Like [`Events::pending`], but call after so many milliseconds at the latest.
    #[must_use]
    pub fn pending_for(self, ms: u32) -> Step {
        self.step(Next::Pending(Some(ms)))
    }

    /// The end.
    #[must_use]
    pub fn finish(self, outcome: Outcome) -> Step {
        self.step(Next::Finished(outcome))
    }

    fn step(self, next: Next) -> Step {
        Step { events: self.events, checkpoint: self.checkpoint, next }
    }
}

impl Extend<Event> for Events {
    fn extend<I: IntoIterator<Item = Event>>(&mut self, events: I) {
        for event in events {
            self.push(event);
        }
    }
}

//! Gathering what one call has to tell.

use crate::{Event, Next, Outcome, Step};

/// Events in one step, at most; a limit of the contract.
pub const MAX_EVENTS: usize = 1024;
/// Events after which a step is better returned: what is read next may make several.
const SOFT_EVENTS: usize = MAX_EVENTS / 4 * 3;
/// Bytes of events in one step, at most; a call may carry 8 MiB in all.
const MAX_BYTES: usize = 6 << 20;
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

    /// Adds what another one gathered.
    pub fn absorb(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.events.extend(other.events);
        self.checkpoint = other.checkpoint.or(self.checkpoint.take());
    }

    /// Whether this is enough for one step: return [`Events::again`] and go on in the next call.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.events.len() >= SOFT_EVENTS || self.bytes >= SOFT_BYTES
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

/// A step that one call may return, and what is left of it for the next.
pub(crate) fn parted(mut step: Step) -> (Step, Option<Step>) {
    let mut bytes = 0;
    let fits = step.events.iter().take(MAX_EVENTS).take_while(|event| {
        bytes += event.weight();
        bytes <= MAX_BYTES
    });
    let count = fits.count().max(1);
    if step.events.len() <= count {
        return (step, None);
    }
    let rest = step.events.split_off(count);
    let first = Step { events: step.events, checkpoint: None, next: Next::Again };
    (first, Some(Step { events: rest, checkpoint: step.checkpoint, next: step.next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_too_many_events_is_told_in_several() {
        let mut events = Events::new();
        events.extend((0..2_500).map(|n| Event::agent_message(n.to_string(), "x")));
        events.checkpoint(vec![7]);
        let (mut seen, mut step) = (Vec::new(), events.pending_for(9));
        loop {
            let (first, left) = parted(step);
            assert!(first.events.len() <= MAX_EVENTS);
            seen.extend(first.events);
            match left {
                Some(left) => {
                    assert!(matches!(first.next, Next::Again) && first.checkpoint.is_none());
                    step = left;
                }
                None => {
                    assert!(matches!(first.next, Next::Pending(Some(9))) && first.checkpoint == Some(vec![7]));
                    break;
                }
            }
        }
        let ids = seen.iter().map(|event| match event {
            Event::AgentMessage(message) => message.id.parse::<usize>().unwrap(),
            _ => unreachable!(),
        });
        assert!(ids.eq(0..2_500));
    }

    #[test]
    fn a_step_of_large_events_is_told_in_several() {
        let mut events = Events::new();
        events.extend((0..10).map(|n| Event::agent_message(n.to_string(), "x".repeat(1 << 20))));
        let (first, left) = parted(events.pending());
        assert_eq!((first.events.len(), left.unwrap().events.len()), (5, 5));
    }
}

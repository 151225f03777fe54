//! Who may be at work at once: the places of the host, of each backend, and those that rules, targets and tags give
//! (`parallel`).
//!
//! A run takes all its places together or none: while it waits it holds nothing, so no two runs wait for each other, and one
//! that waits for a busy target keeps no place of a rule from others. The line is looked through in the order of arrival, and
//! whoever finds all its places free goes. So a run that needs several may be passed by those that need fewer; when [`PASSED`]
//! have gone past the oldest, each place that it needs is kept for it as it becomes free, until it has all. Only the oldest
//! has places kept, so at most one place of each stands idle, and since everybody becomes the oldest, nobody waits for ever.
//!
//! Nothing wakes by time: places are handed on when one is given back, or when somebody leaves the line.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::id::RunId;
use crate::policy::command::Share;

/// So many later ones may go past the oldest in the line before places are kept for it.
pub const PASSED: u32 = 16;

/// Of what there is a number of places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// The host: `[host] runs`.
    Host,
    /// A backend: `[backends.NAME.limits] runs`.
    Backend(String),
    /// What rules, targets and tags say: `parallel`.
    Far(Share),
}

/// A place that a run needs, and how many there are of it in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub place: Place,
    /// How many runs may have one at once; at least one.
    pub of: u32,
}

/// All places of a host. Cheap to clone.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    taken: HashMap<Place, HashSet<RunId>>,
    line: VecDeque<Waiting>,
    next: u64,
}

struct Waiting {
    number: u64,
    run: RunId,
    wants: Vec<Want>,
    /// How many went past it while it was the oldest.
    passed: u32,
    go: oneshot::Sender<Held>,
}

/// Places that a run holds; they are given back when this is dropped.
pub struct Held {
    places: Places,
    run: RunId,
    wants: Vec<Want>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("run", &self.run).field("wants", &self.wants).finish_non_exhaustive()
    }
}

/// A run's way into its places. Dropping it leaves the line.
pub struct Asking {
    places: Places,
    number: u64,
    told: oneshot::Receiver<Held>,
}

impl Places {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets into the line now; the future ends when the run has all its places.
    #[must_use]
    pub fn ask(&self, run: RunId, wants: Vec<Want>) -> Asking {
        let (go, told) = oneshot::channel();
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.line.push_back(Waiting { number, run, wants, passed: 0, go });
        // Nothing became free: of those in the line only the new one can go.
        let last = state.line.len() - 1;
        let missed = state.hand_on(self, last);
        drop(state);
        drop(missed);
        Asking { places: self.clone(), number, told }
    }

    /// The places of a run that is at work already, were there more of them than there may be: it waits for nobody, and others
    /// wait for it.
    #[must_use]
    pub fn take(&self, run: RunId, wants: Vec<Want>) -> Held {
        let mut state = self.state();
        for want in &wants {
            state.taken.entry(want.place.clone()).or_default().insert(run);
        }
        Held { places: self.clone(), run, wants }
    }

    /// A place of which all are held by these runs, if one of the wanted is such.
    #[must_use]
    pub fn all_held_by(&self, wants: &[Want], runs: &[RunId]) -> Option<Place> {
        let state = self.state();
        let is_full = |want: &&Want| {
            let holders = state.taken.get(&want.place);
            holders.is_some_and(|holders| runs.iter().filter(|run| holders.contains(run)).count() >= want.of as usize)
        };
        wants.iter().find(is_full).map(|want| want.place.clone())
    }
}

impl State {
    /// Whether a place is free; one is kept back where it is `kept` for another.
    fn is_free(&self, want: &Want, kept: &[Want]) -> bool {
        let taken = self.taken.get(&want.place).map_or(0, HashSet::len);
        let kept = usize::from(kept.iter().any(|kept| kept.place == want.place));
        taken + kept < want.of as usize
    }

    /// Lets go whoever can, from this one in the line on. Gives what nobody took: it is to be dropped when the lock is open again.
    fn hand_on(&mut self, places: &Places, from: usize) -> Vec<Held> {
        let mut missed = Vec::new();
        let mut kept: Vec<Want> = match self.line.front() {
            Some(oldest) if from > 0 && oldest.passed >= PASSED => oldest.wants.clone(),
            _ => Vec::new(),
        };
        let mut at = from;
        while let Some(waiting) = self.line.get(at) {
            if !waiting.wants.iter().all(|want| self.is_free(want, &kept)) {
                if at == 0 && waiting.passed >= PASSED {
                    kept.clone_from(&waiting.wants);
                }
                at += 1;
                continue;
            }
            let Some(Waiting { run, wants, go, .. }) = self.line.remove(at) else { break };
            if at > 0
                && let Some(oldest) = self.line.front_mut()
                && oldest.wants.iter().any(|want| wants.iter().any(|taken| taken.place == want.place))
            {
                oldest.passed += 1;
                if oldest.passed >= PASSED {
                    kept.clone_from(&oldest.wants);
                }
            }
            for want in &wants {
                self.taken.entry(want.place.clone()).or_default().insert(run);
            }
            missed.extend(go.send(Held { places: places.clone(), run, wants }).err());
        }
        missed
    }

    fn give_back(&mut self, run: RunId, wants: &[Want]) {
        for want in wants {
            if let Some(holders) = self.taken.get_mut(&want.place) {
                holders.remove(&run);
                if holders.is_empty() {
                    self.taken.remove(&want.place);
                }
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.places.state();
        state.give_back(self.run, &self.wants);
        let missed = state.hand_on(&self.places, 0);
        drop(state);
        drop(missed);
    }
}

impl Future for Asking {
    type Output = Option<Held>;
    /// `None` never comes while the places live, and this holds them.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.told).poll(context).map(Result::ok)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut state = self.places.state();
        let Some(at) = state.line.iter().position(|waiting| waiting.number == self.number) else { return };
        let left = state.line.remove(at);
        // What was kept for it is free for others.
        let missed = if at == 0 { state.hand_on(&self.places, 0) } else { Vec::new() };
        drop(state);
        drop((left, missed));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn rule(of: u32) -> Want {
        Want { place: Place::Far(Share::Rule(1)), of }
    }
    fn target(name: &str, of: u32) -> Want {
        Want { place: Place::Far(Share::Target(name.into())), of }
    }
    fn now(asking: &mut Asking) -> Option<Held> {
        asking.now_or_never().flatten()
    }

    #[test]
    fn all_or_none_are_taken_and_what_waits_holds_nothing() {
        let places = Places::default();
        let run = RunId::random;
        let first = now(&mut places.ask(run(), vec![rule(2), target("a", 1)])).unwrap();
        let mut second = places.ask(run(), vec![rule(2), target("a", 1)]);
        assert!(now(&mut second).is_none(), "its target is busy");
        // The rule has one place left, which the second does not hold.
        let other = now(&mut places.ask(run(), vec![rule(2), target("b", 1)])).unwrap();
        drop(first);
        let second = now(&mut second).unwrap();
        let mut third = places.ask(run(), vec![rule(2), target("c", 1)]);
        assert!(now(&mut third).is_none(), "the rule is full");
        drop((other, second));
        assert!(now(&mut third).is_some());
        assert!(places.state().taken.is_empty() && places.state().line.is_empty());
    }

    #[test]
    fn equals_go_in_their_order_and_who_leaves_is_no_obstacle() {
        let places = Places::default();
        let first = now(&mut places.ask(RunId::random(), vec![rule(1)])).unwrap();
        let mut waiting: Vec<Asking> = (0..3).map(|_| places.ask(RunId::random(), vec![rule(1)])).collect();
        drop(waiting.remove(0));
        drop(first);
        let held = now(&mut waiting[0]).unwrap();
        assert!(now(&mut waiting[1]).is_none());
        drop(held);
        // Granted, and gone before it looked: its place is handed on.
        let last = places.ask(RunId::random(), vec![rule(1)]);
        drop(waiting.remove(1));
        let mut last = last;
        assert!(now(&mut last).is_some());
    }

    #[test]
    fn the_oldest_is_passed_only_so_often() {
        let places = Places::default();
        let busy = now(&mut places.ask(RunId::random(), vec![target("a", 1)])).unwrap();
        // Needs both, and one of them is always busy when the other is free.
        let mut both = places.ask(RunId::random(), vec![rule(1), target("a", 1)]);
        assert!(now(&mut both).is_none());
        for _ in 0..PASSED {
            assert!(now(&mut places.ask(RunId::random(), vec![rule(1)])).is_some(), "the place that it does not hold");
        }
        let mut late = places.ask(RunId::random(), vec![rule(1)]);
        assert!(now(&mut late).is_none(), "now the place is kept");
        // Others go on.
        assert!(now(&mut places.ask(RunId::random(), vec![target("b", 1)])).is_some());
        drop(busy);
        let both = now(&mut both).unwrap();
        assert!(now(&mut late).is_none());
        drop(both);
        assert!(now(&mut late).is_some());
    }

    #[test]
    fn what_was_kept_is_free_when_the_oldest_leaves() {
        let places = Places::default();
        let _busy = now(&mut places.ask(RunId::random(), vec![target("a", 1)])).unwrap();
        let both = places.ask(RunId::random(), vec![rule(1), target("a", 1)]);
        for _ in 0..PASSED {
            drop(now(&mut places.ask(RunId::random(), vec![rule(1)])).unwrap());
        }
        let mut late = places.ask(RunId::random(), vec![rule(1)]);
        assert!(now(&mut late).is_none());
        drop(both);
        assert!(now(&mut late).is_some());
    }

    #[test]
    fn who_is_at_work_already_waits_for_nobody_and_others_wait() {
        let places = Places::default();
        let held: Vec<Held> = (0..2).map(|_| places.take(RunId::random(), vec![rule(1)])).collect();
        let mut next = places.ask(RunId::random(), vec![rule(1)]);
        for held in held {
            assert!(now(&mut next).is_none());
            drop(held);
        }
        assert!(now(&mut next).is_some());
    }

    #[test]
    fn what_only_ancestors_hold_is_told() {
        let places = Places::default();
        let (parent, other) = (RunId::random(), RunId::random());
        let _held = now(&mut places.ask(parent, vec![rule(2)])).unwrap();
        assert_eq!(places.all_held_by(&[rule(2)], &[parent]), None, "another place is free or will be");
        let _more = now(&mut places.ask(other, vec![rule(2)])).unwrap();
        assert_eq!(places.all_held_by(&[rule(2)], &[parent]), None);
        assert_eq!(places.all_held_by(&[target("a", 1), rule(2)], &[parent, other]), Some(Place::Far(Share::Rule(1))));
    }
}

//! What is due by time alone while a run is driven: its deadline, its silence, its questions, the next poll.

use std::time::Duration;

use tokio::time::Instant;

use super::event::Question;
use super::limits::theirs;
use super::receipt::Cause;
use super::supervisor::Supervisor;
use crate::clock::Millis;
use crate::config::Stop;
use crate::fault::{Fault, code};

/// The most that a caller's grace makes of the time to ask.
const MOST_ASKED: Duration = Duration::from_secs(30);

/// How long the first rungs of a stop take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rungs {
    /// What the backend is told that it may take.
    pub(super) told: Duration,
    /// How long it is heard.
    pub(super) ask: Duration,
    /// How long what it left may take to hear TERM.
    pub(super) terminate: Duration,
}

impl Rungs {
    /// A caller's grace is shared out as the configuration does. At a target it is what the command there is given, which is half of
    /// what the backend is told; its proof is waited for as long as ever.
    pub(super) fn of(stop: &Stop, at_target: bool, grace: Option<Duration>) -> Self {
        let Stop { ask, terminate, .. } = *stop;
        let Some(grace) = grace else { return Self { told: ask, ask, terminate } };
        if at_target {
            let told = (grace * 2).min(MOST_ASKED);
            return Self { told, ask: told.max(ask), terminate };
        }
        let whole = (ask + terminate).as_secs_f64();
        let ask = if whole > 0.0 { grace.mul_f64(ask.as_secs_f64() / whole) } else { grace };
        Self { told: ask, ask, terminate: grace - ask }
    }

    /// Until what is left is killed.
    pub(super) fn whole(&self) -> Duration {
        self.ask + self.terminate
    }
}

impl Supervisor {
    /// When something is due by time alone.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let waiting = !self.record.questions().is_empty();
        let idle = self.limits.idle.filter(|_| !waiting).map(|idle| self.last_news + idle);
        let question = self.record.questions().iter().map(|question| when(question.expires_at)).min();
        let poll = if self.may_call() { self.next_poll() } else { None };
        [Some(self.deadline), idle, question, poll].into_iter().flatten().min()
    }

    pub(super) fn too_long(&self) -> Fault {
        if let Some(by) = &self.held_by.wall {
            let message = format!("the run took longer than {} s, the limit of {by}", self.limits.wall.as_secs_f64());
            return Fault::new(code::DEADLINE_EXCEEDED, message).hint(theirs("wall", by));
        }
        Fault::new(code::DEADLINE_EXCEEDED, format!("the run took longer than {} s", self.limits.wall.as_secs()))
            .hint("give a longer timeout_s, or raise `wall` under `[backends.NAME.limits]`")
    }

    /// Does what is due by time.
    pub(super) async fn on_time(&mut self) -> Option<(Cause, Fault)> {
        let now = Instant::now();
        if now >= self.deadline {
            return Some((Cause::Deadline, self.too_long()));
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

    /// When the next poll is due by time alone, while no call is in hand.
    pub(super) fn next_poll(&self) -> Option<Instant> {
        if self.poll_due { self.hold_until } else { self.poll_at }
    }
}

/// The tokio instant of a wall-clock time.
fn when(at: Millis) -> Instant {
    let left = u64::try_from(at.0 - Millis::now().0).unwrap_or(0);
    Instant::now() + Duration::from_millis(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_is_shared_out_and_at_a_target_the_proof_has_its_own_time() {
        let s = Duration::from_secs_f64;
        let stop = Stop { ask: s(5.0), terminate: s(5.0), drain: s(1.0), prove: s(5.0) };
        let rungs = |at_target, grace: Option<f64>| {
            let Rungs { told, ask, terminate } = Rungs::of(&stop, at_target, grace.map(s));
            [told, ask, terminate].map(|time| time.as_secs_f64())
        };
        assert_eq!(rungs(false, None), [5.0, 5.0, 5.0]);
        assert_eq!(rungs(true, None), [5.0, 5.0, 5.0]);
        assert_eq!(rungs(false, Some(0.0)), [0.0, 0.0, 0.0]);
        assert_eq!(rungs(false, Some(4.0)), [2.0, 2.0, 2.0]);
        assert_eq!(rungs(true, Some(0.0)), [0.0, 5.0, 5.0]);
        assert_eq!(rungs(true, Some(10.0)), [20.0, 20.0, 5.0]);
        assert_eq!(rungs(true, Some(30.0)), [30.0, 30.0, 5.0]);
    }
}

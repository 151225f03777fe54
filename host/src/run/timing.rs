//! What is due by time alone while a run is driven: its deadline, its silence, its questions, the next poll.

use std::time::Duration;

use tokio::time::Instant;

use super::event::Question;
use super::limits::theirs;
use super::receipt::Cause;
use super::supervisor::Supervisor;
use crate::clock::Millis;
use crate::fault::{Fault, code};

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

//! The far end is asked to end the run, over a line of its own: after one that was lost, or for a stop that its own line did not take.
//!
//! It is asked again, at growing intervals, until it answers or the time is over; what nobody answered for is never told as stopped.

use std::time::{Duration, Instant};

use falconer_backend::far::{Looked, State, Trailer};
use falconer_backend::{Event, Events, Failure, FarAction, FarEnd, Outcome, RemoteProof, Severity};

use super::outcome::proof;
use super::{FIRST_RETRY, GRACE_S, LAST_RETRY, Phase, Run, SPARE, Then, finish};
use crate::checkpoint::Ended;
use crate::line::Line;
use crate::verdict;

impl Run {
    pub(super) fn ending(&self, until: Instant, why: Failure) -> Phase {
        Phase::Ending { line: None, at: Instant::now(), wait: FIRST_RETRY, until, why }
    }

    /// The far end is asked to end what there is of the run, until it answers or the time is over.
    pub(super) fn look(
        &mut self,
        line: Option<Box<Line>>,
        at: Instant,
        wait: Duration,
        until: Instant,
        why: Failure,
        events: &mut Events,
    ) -> Then {
        let now = Instant::now();
        // A stop that comes meanwhile has its own time.
        let until = self.stop.map_or(until, |stop| until.min(stop.at + self.ask.saturating_sub(SPARE)));
        if let Some(mut line) = line {
            let mut nothing = None;
            let polled = line.poll(&mut Events::new(), &mut nothing);
            match line.state() {
                State::Ended(Trailer::Ended { left, killed, looked }) => {
                    return self.looked(left, killed, looked == Looked::Proc, why, events);
                }
                _ if polled.is_err() || line.is_over() => {
                    self.tell_trouble(&verdict::of(&line), events);
                    if now >= until {
                        return self.unreachable(why);
                    }
                    let at = (now + wait).min(until);
                    self.phase = Phase::Ending { line: None, at, wait: (wait * 2).min(LAST_RETRY), until, why };
                    return Then::Wait(Some(at));
                }
                _ if now >= until => return self.unreachable(why),
                _ => {
                    let wake = line.deadline().into_iter().chain([until]).min();
                    self.phase = Phase::Ending { line: Some(line), at, wait, until, why };
                    return Then::Wait(wake);
                }
            }
        }
        if now < at {
            self.phase = Phase::Ending { line: None, at, wait, until, why };
            return Then::Wait(Some(at));
        }
        // What has heard TERM over its line gets no second grace.
        let grace_s = match self.stop {
            None => GRACE_S,
            Some(stop) if stop.told => 0,
            Some(stop) => u32::try_from(stop.kill.saturating_duration_since(now).as_secs()).unwrap_or(0),
        };
        match self.open(FarAction::End(FarEnd { grace_s })) {
            Ok(line) => {
                self.phase = Phase::Ending { line: Some(Box::new(line)), at, wait, until, why };
                Then::Again
            }
            Err(_) if now >= until => self.unreachable(why),
            Err(failure) => {
                self.tell_trouble(&failure, events);
                let at = (now + wait).min(until);
                self.phase = Phase::Ending { line: None, at, wait: (wait * 2).min(LAST_RETRY), until, why };
                Then::Wait(Some(at))
            }
        }
    }

    /// The far end answered.
    pub(super) fn looked(&mut self, left: u32, killed: u32, looked: bool, why: Failure, events: &mut Events) -> Then {
        let (proof, detail) = proof(left, killed, looked);
        if self.stop.is_some() {
            return finish(Outcome::stopped_remotely(proof, detail, self.result()));
        }
        if let Some(ended) = Ended::of(&why) {
            return finish(self.outcome(ended));
        }
        match proof {
            RemoteProof::Confirmed if why.code == verdict::ABSENT && self.started.is_some() => {
                let text = "the command had not begun at the far end, and nothing of it is there; it is started now";
                events.push(Event::notice(Severity::Info, "begun_again", text));
                self.line_for(FarAction::Detach(self.first()), events)
            }
            // How it ended cannot be known any more.
            RemoteProof::Confirmed if matches!(&*why.code, verdict::ABSENT | verdict::VANISHED) => {
                finish(Outcome::lost(why, proof, detail, self.result()))
            }
            RemoteProof::Confirmed => {
                let message = format!("{}; the far end was looked at afterwards: {detail}", why.message);
                finish(Outcome::failed(Failure { message, ..why }))
            }
            RemoteProof::Unreachable | RemoteProof::Unknown => finish(Outcome::lost(why, proof, detail, self.result())),
        }
    }

    pub(super) fn unreachable(&mut self, why: Failure) -> Then {
        let detail = if self.config.detach {
            "the far end did not answer; what is detached goes on there"
        } else {
            "the far end did not answer; it ends the command by itself when it finds the line gone"
        };
        if let Some(ended) = Ended::of(&why) {
            return finish(self.outcome(ended));
        }
        if self.stop.is_some() {
            return finish(Outcome::stopped_remotely(RemoteProof::Unreachable, detail, self.result()));
        }
        finish(Outcome::lost(why, RemoteProof::Unreachable, detail, self.result()))
    }
}

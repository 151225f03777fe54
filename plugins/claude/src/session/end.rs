//! The ways to a run's end: it is done, it is told to stop, it costs too much, or its program is gone.

use std::time::Duration;

use falconer_backend::{Completion, Effects, Event, Events, ExitStatus, Failure, Outcome, Severity};
use serde_json::Value;

use super::{Session, said};
use crate::{outgoing, verdict};

/// How long an interrupted turn may take to its result, before the session is ended.
const INTERRUPT_WAIT: Duration = Duration::from_secs(2);
/// How long a program may take to end its session: it stops what runs in the background, with TERM and then KILL.
const END_WAIT: Duration = Duration::from_secs(3);
/// How long a program may take to exit at the end of its input, when nothing is left to do.
const EXIT_WAIT: Duration = Duration::from_secs(5);
/// Bytes of an answer; a limit of the contract.
const MAX_ANSWER: usize = 1 << 20;

/// Where the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A turn runs.
    Working,
    /// There is a result; background work may go on until then, and another turn may come of it.
    Answered { background_until: Duration },
    /// The turn was told to end; its result is awaited until then.
    Interrupting { until: Duration },
    /// The program was told to end, by a request or by the end of its input, and may take until then.
    Ending { until: Duration },
}

/// What was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// A turn, by `cancel`.
    Turn,
    /// Work in the background, by `cancel`; the answer was there.
    Background,
    /// The run used so many tokens, more than it may.
    Tokens { used: u64, most: u64 },
    /// The model would take another turn than the run has.
    Turns { most: u32 },
}

impl Session {
    /// Ends the run politely: the turn first, then the session.
    pub fn cancel(&mut self, now: Duration, out: &mut Effects) {
        if self.cut.is_some() {
            return;
        }
        match self.stage {
            Stage::Working => {
                self.cut = Some(Cut::Turn);
                self.interrupt(now, out);
            }
            // A message is on its way into a turn of its own.
            Stage::Answered { .. } if !self.inbox.is_settled() => {
                self.cut = Some(Cut::Turn);
                self.turn_open = true;
                self.interrupt(now, out);
            }
            Stage::Answered { .. } if self.background.tasks > 0 => {
                self.cut = Some(Cut::Background);
                self.end_session(now, out);
            }
            // The answer is there and nothing else runs: it stands.
            Stage::Answered { .. } => self.close(now, out),
            Stage::Interrupting { .. } | Stage::Ending { .. } => {}
        }
    }

    /// Ends the run where it has used more than it may.
    pub(super) fn judge_tokens(&mut self, now: Duration, out: &mut Effects) {
        let Some(most) = self.setup.max_tokens else { return };
        let usage = self.account.usage();
        let used = usage.input_tokens + usage.output_tokens;
        if used <= most || self.cut.is_some() {
            return;
        }
        match self.stage {
            Stage::Working => {
                self.cut = Some(Cut::Tokens { used, most });
                self.interrupt(now, out);
            }
            Stage::Answered { .. } => {
                self.cut = Some(Cut::Tokens { used, most });
                self.end_session(now, out);
            }
            Stage::Interrupting { .. } | Stage::Ending { .. } => {}
        }
    }

    /// Another message of the model begins. Within one turn of its own the program counts.
    pub(super) fn judge_turns(&mut self, now: Duration, out: &mut Effects) {
        let Some(most) = self.setup.max_turns else { return };
        let before = self.account.turns();
        if before > 0 && before.saturating_add(self.messages) >= most && self.cut.is_none() && self.stage == Stage::Working {
            self.cut = Some(Cut::Turns { most });
            self.interrupt(now, out);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration, out: &mut Effects) {
        match self.stage {
            Stage::Interrupting { until } if now >= until => self.end_session(now, out),
            Stage::Answered { background_until } if self.background.tasks > 0 && now >= background_until => {
                let text = format!(
                    "{} background tasks of the agent were still running {} s after its answer and are stopped",
                    self.background.tasks,
                    self.setup.background_wait.as_secs()
                );
                out.events.push(Event::notice(Severity::Warning, "background_stopped", text));
                self.end_session(now, out);
            }
            Stage::Answered { .. } if self.background.tasks == 0 && self.quiet_until.is_some_and(|until| now >= until) => {
                // The answer stands, though a message came too late for another one.
                out.events.extend(self.inbox.give_up().iter().map(|id| said::not_delivered(id)));
                self.close(now, out);
            }
            _ => {}
        }
    }

    /// When [`Session::tick`] has something to do, if nothing is heard before.
    pub fn deadline(&self) -> Option<Duration> {
        match self.stage {
            Stage::Working => None,
            Stage::Answered { background_until } if self.background.tasks > 0 => Some(background_until),
            Stage::Answered { .. } => self.quiet_until,
            Stage::Interrupting { until } | Stage::Ending { until } => Some(until),
        }
    }

    /// The program was told to end and did not in its time: the run is over all the same.
    pub fn overdue(&self, now: Duration) -> bool {
        matches!(self.stage, Stage::Ending { until } if now >= until)
    }

    /// How the run ended: its output is read to the end, or nothing more is waited for.
    pub fn outcome(&mut self, exit: Option<ExitStatus>, events: &mut Events) -> Outcome {
        let answered = !self.turn_open && self.inbox.is_settled();
        events.extend(self.inbox.give_up().iter().map(|id| said::not_delivered(id)));
        let answer = self.answer.take().filter(|_| answered);
        let text = answer.as_ref().and_then(|result| result.result.clone()).filter(|text| !text.is_empty());
        let text = text.or_else(|| self.mapper.last_text().map(str::to_owned)).map(fit);
        let partial = Completion { text, structured: None };
        if let Some(Cut::Tokens { used, most }) = self.cut {
            let message = format!("the run used {used} tokens; max_tokens allows {most}");
            return Outcome::failed(Failure::new("max_tokens", message).with_hint("raise max_tokens, or continue the session"));
        }
        if let Some(Cut::Turns { most }) = self.cut {
            let message = format!("the run used its {most} turns of the model");
            return Outcome::failed(Failure::new("max_turns", message).with_hint("raise max_turns, or continue the session"));
        }
        let Some(result) = answer else {
            if self.cut.is_some() {
                return Outcome::stopped(partial);
            }
            let stderr = Vec::from(std::mem::take(&mut self.stderr)).join("\n");
            return Outcome::failed(verdict::without_result(exit, &stderr));
        };
        let aborted = result.is_cut();
        match self.cut {
            Some(Cut::Background) => return Outcome::stopped(partial),
            Some(Cut::Turn) if aborted => return Outcome::stopped(partial),
            // The turn ended by itself before the interrupt reached it: its result stands.
            Some(Cut::Turn | Cut::Tokens { .. } | Cut::Turns { .. }) | None => {}
        }
        if result.is_error || aborted {
            return Outcome::failed(verdict::of_result(&result));
        }
        match self.structured(result.structured_output) {
            Ok(structured) => Outcome::Completed(Completion { structured, ..partial }),
            Err(failure) => Outcome::failed(failure),
        }
    }

    /// The structured answer; whether there must be one is the host's to judge.
    fn structured(&self, value: Option<Value>) -> Result<Option<String>, Failure> {
        let Some((schema, value)) = self.setup.schema.as_ref().zip(value) else { return Ok(None) };
        let text = schema.unwrap(value).to_string();
        if text.len() > MAX_ANSWER {
            let message = format!("the structured answer takes {} bytes; at most {MAX_ANSWER} are taken", text.len());
            return Err(Failure::new("output_invalid", message).with_hint("let the agent write it into a file"));
        }
        Ok(Some(text))
    }

    fn interrupt(&mut self, now: Duration, out: &mut Effects) {
        self.mapper.interrupting = true;
        let id = self.request_id();
        out.lines.push(outgoing::interrupt(&id));
        self.stage = Stage::Interrupting { until: now + INTERRUPT_WAIT };
    }

    pub(super) fn end_session(&mut self, now: Duration, out: &mut Effects) {
        let id = self.request_id();
        out.lines.push(outgoing::end_session(&id));
        out.close = true;
        self.stage = Stage::Ending { until: now + END_WAIT };
    }

    pub(super) fn close(&mut self, now: Duration, out: &mut Effects) {
        out.close = true;
        self.stage = Stage::Ending { until: now + EXIT_WAIT };
    }
}

/// An answer at most as long as the contract lets a result be.
fn fit(mut text: String) -> String {
    const MARK: &str = "\n… (cut; the whole is in the events)";
    if text.len() > MAX_ANSWER {
        text.truncate(text.floor_char_boundary(MAX_ANSWER - MARK.len()));
        text.push_str(MARK);
    }
    text
}

//! The end: what runs in the background, the stop, the outcome.

use std::time::Duration;

use falconer_backend::{Completion, Effects, Event, ExitStatus, Outcome, Severity};
use serde_json::{Value, json};

use super::{Cut, Purpose, Session, Stage};
use crate::verdict;

/// How long the program may take to end what it left running.
const CLEAN_WAIT: Duration = Duration::from_secs(1);
/// How long the program may take to end by itself.
const END_WAIT: Duration = Duration::from_secs(5);
/// The same, when the run was told to stop.
const STOP_WAIT: Duration = Duration::from_secs(1);

impl Session {
    /// After the answer: asks what is left, unless something is known to be.
    pub(super) fn look_for_the_end(&mut self, out: &mut Effects) {
        if !matches!(self.stage, Stage::Answered { .. }) || self.looking > 0 || self.is_busy() {
            return;
        }
        self.found = 0;
        for thread in self.threads() {
            self.looking += 1;
            self.request("thread/backgroundTerminals/list", &json!({ "threadId": thread }), Purpose::Terminals, out);
        }
    }

    /// The main thread, and those of subagents that have commands open.
    fn threads(&self) -> Vec<String> {
        let mut threads = self.mapper.threads_with_commands();
        let main = self.thread.iter().map(|thread| thread.id.clone());
        threads.extend(main);
        threads.sort();
        threads.dedup();
        threads
    }

    /// Turns of subagents, or turns that begin by themselves.
    fn is_busy(&self) -> bool {
        self.goal || !self.children.is_empty()
    }

    pub(super) fn terminals(&mut self, answer: Option<Value>, now: Duration, out: &mut Effects) {
        self.looking = self.looking.saturating_sub(1);
        self.found += answer.and_then(|answer| Some(answer.get("data")?.as_array()?.len())).unwrap_or(0);
        if self.looking == 0 && self.found == 0 && matches!(self.stage, Stage::Answered { .. }) && !self.is_busy() {
            self.close(now, out);
        }
    }

    /// A subagent's turn ended.
    pub(super) fn child_idle(&mut self, thread: &str, out: &mut Effects) {
        self.children.remove(thread);
        self.look_for_the_end(out);
    }

    /// Ends the commands of the main thread, and goes on.
    pub(super) fn clean_main(&mut self, out: &mut Effects) {
        if self.mapper.commands() > 0
            && let Some(thread) = &self.thread
        {
            self.mapper.ending(&thread.id);
            let params = json!({ "threadId": thread.id });
            self.request("thread/backgroundTerminals/clean", &params, Purpose::Nothing, out);
        }
    }

    /// Ends what is left running, then the program.
    pub(super) fn clean_up(&mut self, now: Duration, out: &mut Effects) {
        for (thread, turn) in std::mem::take(&mut self.children) {
            self.request("turn/interrupt", &json!({ "threadId": thread, "turnId": turn }), Purpose::Nothing, out);
        }
        let threads = self.threads();
        if threads.is_empty() {
            return self.close(now, out);
        }
        self.stage = Stage::Cleaning { left: threads.len(), until: now + CLEAN_WAIT };
        for thread in threads {
            self.mapper.ending(&thread);
            self.request("thread/backgroundTerminals/clean", &json!({ "threadId": thread }), Purpose::Clean, out);
        }
    }

    pub(super) fn cleaned(&mut self, now: Duration, out: &mut Effects) {
        if let Stage::Cleaning { left, .. } = &mut self.stage {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.close(now, out);
            }
        }
    }

    /// Closes the program's input, at which it ends.
    pub(super) fn close(&mut self, now: Duration, out: &mut Effects) {
        if !matches!(self.stage, Stage::Ending { .. }) {
            out.close = true;
            self.stage = Stage::Ending { until: now + if self.cut.is_some() { STOP_WAIT } else { END_WAIT } };
        }
    }

    /// Ends the run politely: the turn, what it left running, the program.
    pub fn cancel(&mut self, now: Duration, out: &mut Effects) {
        match self.stage {
            Stage::Greeting { .. } | Stage::Opening => {
                self.cut = Some(Cut::Turn);
                self.close(now, out);
            }
            Stage::Starting | Stage::Working | Stage::Redirecting { .. } => {
                self.cut = Some(Cut::Turn);
                self.interrupt(now, out);
            }
            Stage::Answered { .. } if self.found > 0 || self.is_busy() => {
                self.cut = Some(Cut::Background);
                self.clean_up(now, out);
            }
            // The answer is there and nothing else runs: it stands.
            Stage::Answered { .. } => self.close(now, out),
            Stage::Interrupting { .. } | Stage::Cleaning { .. } | Stage::Ending { .. } => {}
        }
    }

    /// A time is over.
    pub(super) fn overtime(&mut self, now: Duration, out: &mut Effects) {
        match self.stage {
            Stage::Redirecting { until, .. } if now >= until => self.redirect_anyway(out),
            Stage::Interrupting { until } if now >= until => self.clean_up(now, out),
            Stage::Cleaning { until, .. } if now >= until => self.close(now, out),
            Stage::Answered { until } if now >= until => {
                let text = format!(
                    "what the agent left running in the background was still there {} s after its answer and is stopped: {} commands, {} subagents",
                    self.order.background_wait.as_secs(),
                    self.mapper.commands().max(self.found),
                    self.children.len(),
                );
                out.events.push(Event::notice(Severity::Warning, "background_stopped", text));
                self.clean_up(now, out);
            }
            _ => {}
        }
    }

    /// The program was told to end and did not in its time: the run is over all the same.
    pub fn overdue(&self, now: Duration) -> bool {
        matches!(self.stage, Stage::Ending { until } if now >= until)
    }

    /// How the run ended: its output is read to the end, or nothing more is waited for.
    pub fn outcome(&mut self, exit: Option<ExitStatus>) -> Outcome {
        if let Some(failure) = self.failure.take() {
            return Outcome::failed(failure);
        }
        let answer = self.answer.take();
        let said = answer.clone().or_else(|| self.mapper.last_text().map(str::to_owned)).filter(|text| !text.is_empty());
        match (self.cut, &answer) {
            (Some(Cut::Background), _) | (Some(Cut::Turn), None) => Outcome::stopped(Completion { text: said.map(fit), structured: None }),
            (None, None) => {
                let stderr = Vec::from(std::mem::take(&mut self.stderr)).join("\n");
                Outcome::failed(verdict::without_turn(exit, &stderr))
            }
            // A turn that ended by itself before the interrupt reached it stands.
            (_, Some(_)) => Outcome::Completed(self.completion(said)),
        }
    }

    /// The answer; as a value, too, where one is wanted and the text is one.
    fn completion(&self, text: Option<String>) -> Completion {
        let wanted = text.as_deref().filter(|text| self.order.has_schema && text.len() <= MAX_TEXT);
        let structured = wanted.filter(|text| serde_json::from_str::<Value>(text).is_ok()).map(str::to_owned);
        Completion { text: text.map(fit), structured }
    }
}

/// The longest answer, by the contract.
const MAX_TEXT: usize = 1 << 20;

fn fit(mut text: String) -> String {
    const MARK: &str = "\n… (cut; the whole is in the events)";
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT - MARK.len()));
        text.push_str(MARK);
    }
    text
}

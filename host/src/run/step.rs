//! What a step of a component means for its run: its events are judged and written, its wish for the next call is taken.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::bookmark::MAX_CHECKPOINT;
use super::event::{Closed, EventType};
use super::receipt::Cause;
use super::supervisor::Supervisor;
use super::translate::{Meaning, Translator};
use crate::clock::Millis;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::ledger::Op;

/// `again` so often in a row, without an event, is a spin.
const MAX_IDLE_AGAIN: u32 = 10_000;
/// The rate of events is averaged over so many seconds.
pub(super) const RATE_WINDOW_S: f64 = 10.0;

impl Supervisor {
    /// Writes a step.
    pub(super) async fn step(&mut self, step: wit::Step) -> Result<Option<wit::Outcome>, (Cause, Fault)> {
        if step.events.len() > 1024 {
            return Err((
                Cause::Component,
                Fault::new(
                    code::VALUE_TOO_LARGE,
                    format!("the backend sent {} events in one step; at most 1024 are allowed", step.events.len()),
                ),
            ));
        }
        let count = step.events.len();
        let events = Translator::join(step.events).map_err(|fault| (Cause::Component, fault))?;
        for event in events {
            if let wit::Event::CommandOutput(chunk) = &event
                && !self.record.is_open(EventType::CommandOutput, &chunk.id)
            {
                let message = "the backend sent output of a command that it did not start, or has ended";
                return Err((Cause::Component, Fault::new(code::CONTRACT_VIOLATION, message)));
            }
            let meanings = self.translator.translate(event, self.question_time).map_err(|fault| (Cause::Component, fault))?;
            for meaning in meanings {
                match self.write(meaning).await {
                    // What a stop is to prove far away is heard to its end; of what is still said meanwhile nothing is kept.
                    Err(fault) if self.far.is_some() && self.ending.is_some() && fault.code == code::OUTPUT_EXCEEDED => {}
                    written => written.map_err(|fault| (Cause::Limit, fault))?,
                }
            }
        }
        if let Some(bytes) = step.checkpoint {
            if bytes.len() > MAX_CHECKPOINT {
                let message = format!("the backend sent a checkpoint of {} bytes; at most 65536 are allowed", bytes.len());
                return Err((Cause::Component, Fault::new(code::VALUE_TOO_LARGE, message)));
            }
            let marks = self.translator.marks();
            self.record.keep(&bytes, marks);
            self.must_settle = true;
        }
        self.record.submit().await;
        self.must_settle &= self.record.is_ahead();
        if count > 0 {
            self.last_news = Instant::now();
            self.idle_agains = 0;
            self.spend(count);
        }
        match step.next {
            wit::Next::Again | wit::Next::Pending(Some(0)) => {
                self.idle_agains += u32::from(count == 0);
                if self.idle_agains > MAX_IDLE_AGAIN {
                    let message = format!("the backend wanted to be polled again {MAX_IDLE_AGAIN} times in a row without an event");
                    return Err((Cause::Component, Fault::new(code::BACKEND_IDLING, message)));
                }
                self.poll_due = true;
            }
            wit::Next::Pending(after) => {
                self.idle_agains = 0;
                self.poll_at = after.map(|ms| Instant::now() + Duration::from_millis(ms.into()));
            }
            wit::Next::Finished(outcome) => return Ok(Some(outcome)),
        }
        Ok(None)
    }

    /// Holds the next poll back when events come faster than the run may write.
    fn spend(&mut self, count: usize) {
        let (now, rate) = (Instant::now(), f64::from(self.limits.events_per_s));
        self.tokens = (self.tokens + now.duration_since(self.tokens_at).as_secs_f64() * rate).min(rate * RATE_WINDOW_S) - count as f64;
        self.tokens_at = now;
        if self.tokens < 0.0 {
            self.hold_until = Some(now + Duration::from_secs_f64(-self.tokens / rate));
        }
    }

    async fn write(&mut self, meaning: Meaning) -> Result<(), Fault> {
        match meaning {
            Meaning::Event(kind, data) => {
                let id = data["id"].as_str().unwrap_or_default();
                if !self.record.is_open(kind, id) {
                    let message = format!("the backend sent {} of `{id}`, which it did not start or has ended", kind.word());
                    return Err(Fault::new(code::CONTRACT_VIOLATION, message));
                }
                self.record.event(kind, data).await
            }
            Meaning::Artifact { blob, .. } if !self.sealed.contains(&blob) => {
                Err(Fault::new(code::CONTRACT_VIOLATION, "the backend named an artifact that it did not write and seal"))
            }
            Meaning::Artifact { blob, mime, data } => self.record.artifact(EventType::ArtifactAdded, data, blob, mime).await,
            Meaning::Session(native) => {
                self.session.native_id = Some(native.clone());
                self.session.updated_at = Millis::now();
                self.record.with(Op::PutSession(self.session.clone()));
                self.record.event(EventType::SessionStarted, json!({ "session_id": self.session.id, "native_id": native })).await
            }
            Meaning::Asked(question) => self.ask(*question).await,
            Meaning::Withdrawn { question, reason } => {
                if self.record.questions().iter().any(|open| open.question_id == question) {
                    self.resolve(&question, Closed::Withdrawn, json!({ "reason": reason })).await
                } else {
                    Ok(())
                }
            }
        }
    }
}

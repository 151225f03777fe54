//! The one writer of a run's history: it numbers events, keeps the run's state, and hands both to the ledger together.
//!
//! What is published (and so seen by clients) is what the ledger has confirmed. Steps may be submitted before earlier
//! ones are confirmed, at most [`MAX_AHEAD`] and [`MAX_AHEAD_BYTES`]; they are confirmed in order. When a commit fails,
//! nothing more is written for this run: it goes on in memory (`durable: false`) until it is stopped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::event::{EventType, Question};
use super::inert;
use super::limits::theirs;
use super::live::{Live, Outline, View};
use super::open::ItemKind;
use super::receipt::Receipt;
use super::spill::blocking;
use super::status::{Ending, State, Status};
use crate::clock::Millis;
use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::ledger::artifact::Artifacts;
use crate::ledger::{ArtifactRow, Commit, EventRow, Ledger, LedgerError, Op, RunUpdate};

/// Steps that may be on their way to the disk at once.
pub const MAX_AHEAD: usize = 8;
/// Bytes of events that may be on their way to the disk at once.
pub const MAX_AHEAD_BYTES: usize = 1024 * 1024;
/// A ledger that takes or confirms nothing for so long counts as broken: no stop waits for a disk that hangs.
const LEDGER_WAIT: Duration = Duration::from_secs(30);
/// An event larger than this, as JSON, has its large fields put into artifacts.
pub const MAX_INLINE: usize = 16 * 1024;
/// Commands and tools of a run that may be open at once.
const MAX_OPEN: usize = 1024;

/// What is on its way to the disk.
struct Pending {
    commit: Commit,
    bytes: usize,
    update: RunUpdate,
    outline: Outline,
}

/// Limits on what a run may write.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// Events in all.
    pub events: u64,
    /// Bytes in all.
    pub bytes: u64,
}

/// The writer of one run.
pub struct Record {
    live: Arc<Live>,
    ledger: Ledger,
    pub(super) artifacts: Artifacts,
    quota: Quota,
    /// Who set the quota of bytes, where that was no limit of the backend.
    quota_by: Option<String>,
    pub(super) written: u64,
    /// It has a checkpoint.
    pub(super) kept: bool,
    state: State,
    pub(super) outline: Outline,
    pub(super) update: RunUpdate,
    pub(super) open: Vec<(ItemKind, String)>,
    batch: Vec<EventRow>,
    spilled: Vec<ArtifactRow>,
    others: Vec<Op>,
    pub(super) touched: bool,
    pending: VecDeque<Pending>,
    ahead: usize,
    broken: Option<LedgerError>,
    last_message: Option<String>,
}

impl Record {
    /// Goes on with a run as its row says.
    #[must_use]
    pub fn new(live: Arc<Live>, ledger: Ledger, artifacts: Artifacts, quota: Quota) -> Self {
        let View { row, outline, .. } = live.view();
        let update = RunUpdate::of(&row);
        Self {
            live,
            ledger,
            artifacts,
            quota,
            quota_by: None,
            written: 0,
            kept: false,
            state: State::Queued,
            outline,
            update,
            open: Vec::new(),
            batch: Vec::new(),
            spilled: Vec::new(),
            others: Vec::new(),
            touched: false,
            pending: VecDeque::new(),
            ahead: 0,
            broken: None,
            last_message: None,
        }
    }

    /// Says who set the quota of bytes.
    pub fn quota_is_of(&mut self, by: Option<String>) {
        self.quota_by = by;
    }

    /// What the run is, committed or not.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes a run up that an earlier host left in this state.
    pub fn resume(&mut self, state: State) {
        self.state = state;
    }

    /// The run's id.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.update.id
    }

    /// Whether it works at a target.
    #[must_use]
    pub fn has_target(&self) -> bool {
        self.live.with_view(|view| view.row.target.is_some())
    }

    /// Open questions, oldest first.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.outline.questions
    }

    /// Adds an event to the step in hand. The data is made inert, and what is too large for an event goes to artifacts.
    ///
    /// Errors: `output_exceeded` when the run's quota is used up, `ledger_failed` when an artifact cannot be written.
    pub async fn event(&mut self, kind: EventType, mut data: Value) -> Result<(), Fault> {
        inert::inert_value(&mut data);
        // What is too large anyway is not written out to be measured.
        let is_large = |value: &Value| value.as_str().is_some_and(|text| text.len() > MAX_INLINE);
        let large = data.as_object().is_some_and(|map| map.values().any(is_large));
        let whole = if large { None } else { Some(data.to_string()).filter(|whole| whole.len() <= MAX_INLINE) };
        if let Some(whole) = whole {
            self.charge(whole.len() as u64)?;
            self.note(kind, &data)?;
            self.push(kind, whole);
            return Ok(());
        }
        let original = data.clone();
        let spilled = self.spill(&mut data).await?;
        let text = data.to_string();
        self.charge(text.len() as u64)?;
        self.note(kind, &original)?;
        self.spilled.extend(spilled);
        self.push(kind, text);
        Ok(())
    }

    /// Adds an event that closes what an earlier one opened: the quota cannot refuse it.
    ///
    /// Errors: `ledger_failed` when an artifact cannot be written.
    pub async fn closing(&mut self, kind: EventType, data: Value) -> Result<(), Fault> {
        let quota = std::mem::replace(&mut self.quota, Quota { events: u64::MAX, bytes: u64::MAX });
        let written = self.event(kind, data).await;
        self.quota = quota;
        written
    }

    /// Adds an event whose field `/content` is an artifact that is already stored.
    pub async fn artifact(&mut self, kind: EventType, mut data: Value, sha256: String, mime: String) -> Result<(), Fault> {
        inert::inert_value(&mut data);
        let (store, hash) = (self.artifacts.clone(), sha256.clone());
        let size = blocking(move || {
            store.sync(&hash)?;
            let path = store.path(&hash).ok_or_else(|| LedgerError::Broken(format!("artifact {hash} is gone")))?;
            std::fs::metadata(&path).map(|meta| meta.len()).map_err(|error| LedgerError::Broken(format!("{path}: {error}")))
        })
        .await?;
        if let Value::Object(map) = &mut data {
            map.insert("artifacts".into(), json!([{ "pointer": "/content", "bytes": size, "mime": mime, "sha256": sha256 }]));
        }
        let text = data.to_string();
        self.charge(text.len() as u64)?;
        let row = ArtifactRow { run: self.update.id, seq: self.update.last_seq + 1, pointer: "/content".into(), sha256, size, mime };
        self.spilled.push(row);
        self.push(kind, text);
        Ok(())
    }

    pub(super) fn charge(&mut self, bytes: u64) -> Result<(), Fault> {
        self.written += bytes;
        if self.update.last_seq >= self.quota.events {
            return Err(Fault::new(code::OUTPUT_EXCEEDED, format!("the run wrote more than {} events", self.quota.events))
                .hint("raise `events` under `[backends.NAME.limits]` in the configuration"));
        }
        if self.written > self.quota.bytes {
            if let Some(by) = &self.quota_by {
                let message = format!("the run wrote more than {} bytes, the limit of {by}", self.quota.bytes);
                return Err(Fault::new(code::OUTPUT_EXCEEDED, message).hint(theirs("output", by)));
            }
            return Err(Fault::new(code::OUTPUT_EXCEEDED, format!("the run wrote more than {} bytes", self.quota.bytes))
                .hint("raise `output` under `[backends.NAME.limits]` in the configuration"));
        }
        Ok(())
    }

    pub(super) fn push(&mut self, kind: EventType, data: String) {
        self.update.last_seq += 1;
        self.batch.push(EventRow { run: self.update.id, seq: self.update.last_seq, ts: Millis::now(), kind: kind.word().to_owned(), data });
    }

    /// Keeps what an event changes of the run itself.
    ///
    /// Errors: `contract_violation` when more items are open than a run may have.
    fn note(&mut self, kind: EventType, data: &Value) -> Result<(), Fault> {
        if matches!(kind, EventType::CommandStarted | EventType::ToolStarted) && self.open.len() >= MAX_OPEN {
            return Err(Fault::new(code::CONTRACT_VIOLATION, format!("the backend has {MAX_OPEN} commands and tools open at once")));
        }
        let id = || data["id"].as_str().unwrap_or_default().to_owned();
        match kind {
            EventType::CommandStarted => self.open.push((ItemKind::Command, id())),
            EventType::ToolStarted => self.open.push((ItemKind::Tool, id())),
            EventType::CommandFinished => self.close(ItemKind::Command, &id()),
            EventType::ToolFinished => self.close(ItemKind::Tool, &id()),
            EventType::AgentMessage if data["whole"] == true => self.last_message = data["text"].as_str().map(str::to_owned),
            EventType::Usage => {
                self.outline.usage = Some(data.clone());
                self.touched = true;
            }
            _ => {}
        }
        let summary = match kind {
            EventType::AgentMessage if data["whole"] == true => data["text"].as_str().map(str::to_owned),
            EventType::CommandStarted => data["command"].as_str().map(|text| format!("runs {text}")),
            EventType::ToolStarted => data["tool"].as_str().map(|text| format!("uses {text}")),
            EventType::FileChanged => data["path"].as_str().map(|text| format!("changed {text}")),
            EventType::InputRequired | EventType::AuthRequired => data["prompt"].as_str().map(|text| format!("asks: {text}")),
            EventType::Notice => data["message"].as_str().map(str::to_owned),
            _ => None,
        };
        if let Some(line) = summary.as_deref().and_then(|text| inert::headline(text, 160)) {
            self.update.summary = Some(line);
        }
        Ok(())
    }

    /// Goes to another state and says so with an event of its own (`status_changed`), plus what is to be told with it.
    pub fn enter(&mut self, state: State, tell: Map<String, Value>) {
        let (from, to) = (self.state.status(), state.status());
        debug_assert!(from == to || from.may_become(to), "{from:?} -> {to:?}");
        if let State::Cancelling { receipt } = &state {
            self.outline.receipt = Some(receipt.clone());
        }
        self.state = state;
        self.touched = true;
        if from == to {
            return;
        }
        self.update.status = to.word().to_owned();
        if to == Status::Starting {
            self.update.started_at = Some(Millis::now());
        }
        let mut data = Map::new();
        data.insert("from".into(), from.word().into());
        data.insert("to".into(), to.word().into());
        data.extend(tell);
        self.push(EventType::StatusChanged, Value::Object(data).to_string());
    }

    /// Keeps the receipt as it is so far.
    pub fn receipt(&mut self, receipt: &Receipt) {
        self.outline.receipt = Some(receipt.clone());
        self.touched = true;
    }

    /// Keeps the open questions.
    pub fn set_questions(&mut self, questions: Vec<Question>) {
        self.outline.questions = questions;
        self.touched = true;
    }

    /// The number of the last event, on disk or not.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.update.last_seq
    }

    /// Another change that is to stand or fall with the step in hand.
    pub fn with(&mut self, op: Op) {
        self.others.push(op);
    }

    /// The last whole message of the agent: what there is of an answer when the backend cannot give one.
    #[must_use]
    pub fn last_message(&self) -> Option<&str> {
        self.last_message.as_deref()
    }

    /// The terminal event. Nothing may be added after it.
    pub async fn end(&mut self, ending: Ending) {
        let status = ending.status();
        debug_assert!(self.state.status().may_become(status), "{:?} -> {status:?}", self.state.status());
        let kind = match status {
            Status::Completed => EventType::RunCompleted,
            Status::Failed => EventType::RunFailed,
            Status::Cancelled => EventType::RunCancelled,
            Status::Rejected => EventType::RunRejected,
            _ => EventType::RunLost,
        };
        self.outline.questions.clear();
        self.outline.stopping = None;
        self.outline.result = ending.result().filter(|result| !result.is_empty()).cloned();
        self.outline.error = ending.error().cloned();
        self.outline.receipt = ending.receipt().cloned();
        let mut data = json!({
            "result": self.outline.result, "error": self.outline.error, "usage": self.outline.usage, "receipt": self.outline.receipt,
        });
        inert::inert_value(&mut data);
        if let Ok(outline) = serde_json::to_value(&self.outline)
            && let Ok(clean) = serde_json::from_value({
                let mut outline = outline;
                inert::inert_value(&mut outline);
                outline
            })
        {
            self.outline = clean;
        }
        if data.to_string().len() > MAX_INLINE {
            // The quota cannot refuse the end: what is over it is told as a preview only.
            let quota = std::mem::replace(&mut self.quota, Quota { events: u64::MAX, bytes: u64::MAX });
            match self.spill(&mut data).await {
                Ok(rows) => self.spilled.extend(rows),
                Err(fault) => tracing::warn!(run = %self.update.id, %fault, "the result could not be kept whole"),
            }
            self.quota = quota;
        }
        let summary = match (&self.outline.error, &self.outline.result) {
            (Some(error), _) => inert::headline(&error.message, 160),
            (None, Some(result)) => result.text.as_deref().and_then(|text| inert::headline(text, 160)),
            (None, None) => None,
        };
        if summary.is_some() {
            self.update.summary = summary;
        }
        self.update.status = status.word().to_owned();
        self.update.ended_at = Some(Millis::now());
        self.touched = true;
        self.push(kind, data.to_string());
        self.state = State::Ended(Box::new(ending));
    }

    /// Whether another step may be submitted before an earlier one is confirmed.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.broken.is_some() || (self.pending.len() < MAX_AHEAD && self.ahead < MAX_AHEAD_BYTES)
    }

    /// Why the ledger refused this run's history, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<Fault> {
        self.broken.as_ref().map(ledger_fault)
    }

    /// Whether something is on its way to the disk.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Hands the step in hand to the ledger. Does nothing when there is nothing to say.
    pub async fn submit(&mut self) {
        if self.batch.is_empty() && self.others.is_empty() && !self.touched {
            return;
        }
        self.update.state = self.touched.then(|| serde_json::to_string(&self.outline).unwrap_or_else(|_| "{}".into()));
        self.touched = false;
        let events = std::mem::take(&mut self.batch);
        let bytes = events.iter().map(|event| event.data.len() + 64).sum::<usize>();
        let mut ops = Vec::with_capacity(3 + self.others.len());
        if !events.is_empty() {
            ops.push(Op::AppendEvents(events));
        }
        if !self.spilled.is_empty() {
            ops.push(Op::PutArtifacts(std::mem::take(&mut self.spilled)));
        }
        ops.append(&mut self.others);
        ops.push(Op::UpdateRun(Box::new(self.update.clone())));
        if self.broken.is_some() {
            self.publish_in_memory();
            return;
        }
        let Ok(commit) = tokio::time::timeout(LEDGER_WAIT, self.ledger.submit(Some(self.update.id), ops)).await else {
            self.give_up(LedgerError::Broken(format!("it took no change for {} s", LEDGER_WAIT.as_secs())));
            return;
        };
        self.ahead += bytes;
        self.pending.push_back(Pending { commit, bytes, update: self.update.clone(), outline: self.outline.clone() });
    }

    /// Waits for the oldest step on its way, and publishes it. Cancel-safe.
    ///
    /// Pends for ever when nothing is on its way.
    pub async fn confirmed(&mut self) -> Result<(), Fault> {
        let Some(first) = self.pending.front_mut() else { return std::future::pending().await };
        let outcome = (&mut first.commit).await;
        let Some(done) = self.pending.pop_front() else { return Ok(()) };
        self.ahead -= done.bytes;
        match outcome {
            Ok(()) => {
                self.live.publish(|view| apply(view, done.update, done.outline));
                Ok(())
            }
            Err(error) => {
                tracing::error!(run = %self.update.id, %error, "the ledger refused a step");
                let fault = ledger_fault(&error);
                self.give_up(error);
                Err(fault)
            }
        }
    }

    /// Waits until everything submitted is confirmed, or refused.
    pub async fn settled(&mut self) -> Result<(), Fault> {
        while self.is_ahead() {
            match tokio::time::timeout(LEDGER_WAIT, self.confirmed()).await {
                Ok(confirmed) => confirmed?,
                Err(_) => self.give_up(LedgerError::Broken(format!("it confirmed no change for {} s", LEDGER_WAIT.as_secs()))),
            }
        }
        match &self.broken {
            None => Ok(()),
            Some(error) => Err(ledger_fault(error)),
        }
    }

    /// From now on the run goes on in memory only.
    fn give_up(&mut self, error: LedgerError) {
        self.broken = Some(error);
        self.pending.clear();
        self.ahead = 0;
        self.publish_in_memory();
    }

    /// Shows the state of the run, but no events that are not on disk.
    fn publish_in_memory(&self) {
        let (update, outline) = (self.update.clone(), self.outline.clone());
        self.live.publish(|view| {
            view.durable = false;
            let last_seq = view.row.last_seq;
            apply(view, update, outline);
            view.row.last_seq = last_seq;
        });
    }
}

fn apply(view: &mut View, update: RunUpdate, outline: Outline) {
    view.row.life = update.life;
    view.row.status = update.status;
    view.row.started_at = update.started_at;
    view.row.ended_at = update.ended_at;
    view.row.last_seq = update.last_seq;
    view.row.summary = update.summary;
    view.outline = outline;
}

/// The fault that a caller gets when the ledger cannot do its work.
#[must_use]
pub fn ledger_fault(error: &LedgerError) -> Fault {
    Fault::new(code::LEDGER_FAILED, format!("the ledger cannot be used: {error}"))
        .retryable()
        .hint("free the disk or mend the data directory; `falconer check` looks at it")
}

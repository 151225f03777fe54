//! What a supervisor is given to drive a run with, and what the run waits for and holds.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde_json::Value;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, mpsc};

use super::decision::Matter;
use super::limits::HeldBy;
use super::live::{Control, Live};
use super::places::Held;
use super::revive::Resumed;
use crate::backend::Backend;
use crate::capability::{ClientEnv, FarEnd, Grant, RunLog};
use crate::config;
use crate::contract::falconer::backend::types as wit;
use crate::fault::Fault;
use crate::ledger::artifact::Artifacts;
use crate::ledger::{Ledger, SessionRow};
use crate::tree::Ground;

/// What a run waits for before it starts: its session, room for its backend, room in the host. An error where the session
/// cannot be carried on any more.
pub type Turn = Pin<Box<dyn Future<Output = Result<Permits, Fault>> + Send>>;

/// What a run holds while it is alive.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "held for their drop, never read")]
pub struct Permits {
    /// Its session is its own.
    pub session: Option<OwnedMutexGuard<()>>,
    /// Its place in its group.
    pub group: Option<OwnedSemaphorePermit>,
    /// Its places in the host, and those that rules, targets and tags give.
    pub places: Option<Held>,
}

/// What a run is driven with.
pub struct Assignment {
    /// The run as others see it.
    pub live: Arc<Live>,
    /// What others say to it.
    pub ear: mpsc::UnboundedReceiver<Control>,
    /// What it waits for.
    pub turn: Turn,
    /// Its backend, as it was when the run was accepted.
    pub backend: Arc<Backend>,
    /// What the backend may touch.
    pub grant: Arc<Grant>,
    /// The way to its target; none: it has none.
    pub far: Option<Arc<dyn FarEnd>>,
    /// Directories besides the grant's: the client's own.
    pub workspaces: Vec<Utf8PathBuf>,
    /// What the client's hello brought.
    pub client_env: ClientEnv,
    /// Inputs that came with the message, by blob id.
    pub inputs: BTreeMap<String, Utf8PathBuf>,
    /// What an earlier host left of it; none: it begins.
    pub resumed: Option<Resumed>,
    /// The job; its session is filled in when its turn comes.
    pub job: wit::Job,
    /// What the structured answer must fit.
    pub output_schema: Option<Value>,
    /// Its session's row, for the backend's own id.
    pub session: SessionRow,
    /// Its limits.
    pub limits: config::Limits,
    /// Who set them, where that was no limit of the backend.
    pub(super) held_by: HeldBy,
    /// Whose it is, for decisions.
    pub(super) matter: Matter,
    /// The rungs of its stop.
    pub stop: config::Stop,
    /// How long a question stays open.
    pub question_time: Duration,
    /// The record.
    pub ledger: Ledger,
    /// Large values.
    pub artifacts: Artifacts,
    /// Its log.
    pub log: RunLog,
    /// What its processes stand on.
    pub ground: Ground,
}

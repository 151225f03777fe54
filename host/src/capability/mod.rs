//! What a component may ask of the host; each request is checked against the run's grant.

pub mod bare;
pub mod blobs;
pub mod process;

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::Utf8PathBuf;
use wasmtime::component::ResourceTable;

use crate::id::RunId;
use crate::ledger::artifact::Artifacts;
use crate::tree::Tree;

/// A program that may be started, resolved.
#[derive(Debug, Clone)]
pub struct Program {
    /// Absolute, symbolic links resolved; or why it could not be found.
    pub path: Result<Utf8PathBuf, String>,
    /// Arguments that always come first.
    pub first: Vec<String>,
    /// Each argument of the backend must match one of these as a whole; empty: any.
    pub allow: Vec<regex::Regex>,
    /// At most so many arguments of the backend.
    pub max_args: Option<u32>,
}

/// What one backend may touch, resolved once from the configuration.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// Name → program.
    pub programs: BTreeMap<String, Program>,
    /// Absolute directories, symbolic links resolved.
    pub workspaces: Vec<Utf8PathBuf>,
    /// Name → where its value comes from.
    pub env: BTreeMap<String, crate::config::EnvSource>,
    /// Name → where its value comes from.
    pub secrets: BTreeMap<String, crate::config::SecretSource>,
}

/// What one run's capabilities are made of.
pub struct Setup {
    /// The run.
    pub run: RunId,
    /// What its backend may touch.
    pub grant: Arc<Grant>,
    /// Directories besides the grant's workspaces in which this run's children may work: its client's own.
    pub workspaces: Vec<Utf8PathBuf>,
    /// The run's working directory.
    pub cwd: Option<Utf8PathBuf>,
    /// What the client's hello brought.
    pub client_env: Arc<BTreeMap<String, String>>,
    /// Where its processes are.
    pub tree: Tree,
    /// Where large values go.
    pub artifacts: Artifacts,
    /// Blobs that the run was given (inputs), by id, with the file that holds them.
    pub inputs: BTreeMap<String, Utf8PathBuf>,
    /// The run's log.
    pub log: RunLog,
    /// Children at once.
    pub children: u32,
    /// Bytes that may be written to blobs.
    pub blob_bytes: u64,
}

/// One run's capabilities: the store's data that the contract's imports work on.
pub struct Host {
    /// Children and blob writers that the component holds.
    pub table: ResourceTable,
}

impl Host {
    /// The capabilities of a run, and where they ring when an armed source has news.
    #[must_use]
    pub fn new(_setup: Setup) -> (Self, News) {
        unimplemented!()
    }
    /// Capabilities that refuse everything, for `describe` and `plan` (where `log` may be let through).
    #[must_use]
    pub fn refusing(_log: Option<RunLog>) -> Self {
        Self { table: ResourceTable::new() }
    }
    /// Reads what is left in the children's pipes into the run's log, without blocking, at most so many bytes.
    pub fn drain_into_log(&mut self, _max: u64) {}
}

/// Rings when an armed source has news. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct News {}

impl News {
    /// Waits for the next ring; rings that came meanwhile count as one.
    pub async fn heard(&self) {
        unimplemented!()
    }
    /// Rings.
    pub fn ring(&self) {
        unimplemented!()
    }
}

/// Where one run's log lines go: a file in the data directory, bounded, secrets redacted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RunLog {}

impl RunLog {
    /// A log in this file; made when the first line comes. `redact`: values that are never written.
    #[must_use]
    pub fn open(_file: &camino::Utf8Path, _redact: Vec<Vec<u8>>) -> Self {
        unimplemented!()
    }
    /// A log that keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self {}
    }
    /// Adds a line; never blocks for long and never fails the run.
    pub fn line(&self, _origin: &str, _text: &str) {}
}

/// A call of a component that breaks the contract: it ends the run with this code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Violation {
    /// One of [`crate::fault::code`].
    pub code: &'static str,
    /// What was wrong.
    pub message: String,
}

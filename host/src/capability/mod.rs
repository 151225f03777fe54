//! What a component may ask of the host; each request is checked against the run's grant.
//!
//! [`Host`] implements the imports of the contract: `process`, `secret`, `blobs`, `log`. Nothing in it blocks the
//! guest's thread but reads and writes of pipes that have something, and of files of our own. What is granted was
//! resolved before (by `policy`); what is started lives in [`crate::tree`], which also ends it.
//!
//! When something fails: a request that is not granted or cannot be met answers with an error of the contract, and
//! the run goes on. A request that breaks the contract's limits traps the component with a [`Violation`].

pub mod blobs;
mod far;
mod grant;
mod limits;
mod log;
mod news;
mod pipe;
pub mod process;
mod redact;
mod secret;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::Utf8PathBuf;
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};

pub use self::far::{Attendant, FarEnd, Log, Prepared, Preparing};
pub use self::log::{LOG_BYTES, RunLog};
pub use self::news::News;
pub use self::process::DEFAULT_LANG;
pub use self::redact::{MIN_SECRET, Redactor, Stream as RedactedStream};
pub use self::secret::{Secrets, missing as missing_secret};
use crate::config::EnvSource;
use crate::contract::falconer::backend::types;
use crate::fault::code;
use crate::id::RunId;
use crate::ledger::artifact::Artifacts;
use crate::tree::Tree;

/// Children and blob writers that one component may hold at once, ended ones included.
pub const HANDLES: usize = 1_024;

/// `PATH` of a child where neither its backend nor its grant has one.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A program that may be started, resolved.
#[derive(Debug, Clone)]
pub struct Program {
    /// Absolute, the last symbolic link kept; or why it could not be found.
    pub path: Result<Utf8PathBuf, String>,
    /// Arguments that always come first.
    pub first: Vec<String>,
    /// Each argument of the backend must match one of these as a whole (they are anchored); empty: any.
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
    /// The name of its backend, for messages that name a rule of the configuration.
    pub backend: String,
    /// What its backend may touch.
    pub grant: Arc<Grant>,
    /// Directories besides the grant's workspaces in which this run's children may work: its client's own. Absolute,
    /// symbolic links resolved.
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
    pub inputs: Inputs,
    /// The run's log.
    pub log: RunLog,
    /// Children at once.
    pub children: u32,
    /// Bytes that may be written to blobs.
    pub blob_bytes: u64,
    /// What is asked of the far end goes here; none: the run has no target.
    pub far: Option<Arc<dyn FarEnd>>,
    /// Filled with the blobs that this run sealed, by content: those alone it may name in an event.
    pub sealed: Sealed,
}

/// The inputs of one run: those of its job, and of what is said to it while it runs. Cheap to clone; all clones are the same list.
#[derive(Debug, Clone, Default)]
pub struct Inputs(Arc<std::sync::Mutex<BTreeMap<String, Utf8PathBuf>>>);

impl Inputs {
    /// These, by blob id, each with the file that holds it.
    #[must_use]
    pub fn of(files: BTreeMap<String, Utf8PathBuf>) -> Self {
        Self(Arc::new(std::sync::Mutex::new(files)))
    }

    /// Adds some.
    pub fn add(&self, files: BTreeMap<String, Utf8PathBuf>) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(files);
    }

    fn get(&self, id: &str) -> Option<Utf8PathBuf> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(id).cloned()
    }
}

/// The blobs that one run sealed. Cheap to clone; all clones are the same list.
#[derive(Debug, Clone, Default)]
pub struct Sealed(Arc<std::sync::Mutex<BTreeSet<String>>>);

impl Sealed {
    /// Whether the run sealed a blob of this id.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(id)
    }

    fn insert(&self, id: String) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id);
    }
}

impl Setup {
    /// The value of a granted variable; none: the client did not bring it.
    fn value_of<'a>(&'a self, name: &str, source: &'a EnvSource) -> Option<&'a str> {
        match source {
            EnvSource::Client => self.client_env.get(name).map(String::as_str),
            EnvSource::Value(value) => Some(value),
        }
    }

    /// `PATH` of children whose backend sets no other, and of secrets' commands.
    fn path(&self) -> &str {
        self.grant.env.get("PATH").and_then(|source| self.value_of("PATH", source)).unwrap_or(DEFAULT_PATH)
    }
}

/// One run's capabilities: the store's data that the contract's imports work on.
pub struct Host {
    /// Children and blob writers that the component holds.
    pub table: ResourceTable,
    /// None: everything is refused.
    granted: Option<Granted>,
    log: RunLog,
}

/// The state of capabilities that do not refuse everything.
struct Granted {
    setup: Setup,
    news: News,
    secrets: Arc<Secrets>,
    /// Labels of children, ever.
    labels: BTreeSet<String>,
    /// Blobs that are being written.
    writers: usize,
    /// Bytes that may still be written.
    blob_budget: u64,
}

/// A component broke the contract; its call ends here. The cause of the trap, for `wasmtime::Error::downcast_ref`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Violation {
    /// `value_too_large`, `contract_violation` or `handles_exceeded` of [`crate::fault::code`].
    pub code: &'static str,
    /// What broke it.
    pub message: String,
}

impl Host {
    /// The capabilities of a run, and where they ring when an armed source has news. The values of its secrets, and
    /// of granted variables that look like credentials, are hidden in its log and in its children's output from now
    /// on. Reads the secrets' files and starts their commands.
    #[must_use]
    pub fn new(setup: Setup) -> (Self, News) {
        let news = News::default();
        for (name, source) in setup.grant.env.iter().filter(|(name, _)| grant::is_credential(name)) {
            if let Some(value) = setup.value_of(name, source) {
                setup.log.secrets().hide(value.as_bytes());
            }
        }
        let secrets = Arc::new(Secrets::gather(&setup, &news));
        let log = setup.log.clone();
        let granted = Granted { blob_budget: setup.blob_bytes, setup, news: news.clone(), secrets, labels: BTreeSet::new(), writers: 0 };
        (Self { table: table(), granted: Some(granted), log }, news)
    }

    /// Capabilities that refuse everything, for `describe` and `plan` (where `log` may be let through).
    #[must_use]
    pub fn refusing(log: Option<RunLog>) -> Self {
        Self { table: table(), granted: None, log: log.unwrap_or_else(RunLog::none) }
    }

    /// Reads what is left in the children's pipes into the run's log, without blocking, at most so many bytes.
    pub fn drain_into_log(&mut self, max: u64) {
        let mut budget = max;
        for entry in self.table.iter_mut() {
            let entry: &mut dyn Any = entry;
            if let Some(child) = entry.downcast_mut::<process::Child>() {
                budget = child.drain_into(&self.log, budget);
            }
        }
    }

    /// Puts something into the table that the component holds.
    fn keep<T: Send + 'static>(&mut self, entry: T) -> wasmtime::Result<Resource<T>> {
        match self.table.push(entry) {
            Ok(resource) => Ok(resource),
            Err(ResourceTableError::Full) => Err(wasmtime::Error::new(Violation {
                code: code::HANDLES_EXCEEDED,
                message: format!("the component holds {HANDLES} children and blobs; it must drop those that it is done with"),
            })),
            Err(other) => Err(other.into()),
        }
    }
}

fn table() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(HANDLES);
    table
}

impl types::Host for Host {}

#[cfg(test)]
mod tests;

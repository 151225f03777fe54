//! Native process trees: spawn, signal, kill, look.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::Duration;

use camino::Utf8PathBuf;

use crate::id::RunId;

/// What is to be started. Everything in it was judged before.
#[derive(Debug)]
pub struct Plan {
    /// Absolute path of the program.
    pub program: Utf8PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// Its whole environment; `FALCONER_RUN_ID` is added.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory, opened when it was judged, so that nobody can swap it in between.
    pub cwd: Option<OwnedFd>,
    /// Whether stdin is a pipe; else `/dev/null`.
    pub stdin: bool,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With a code.
    Code(i32),
    /// By a signal.
    Signalled(i32),
    /// It was lost before it could be asked.
    Unknown,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The run is being killed: nothing is started any more.
    #[error("the run is being stopped")]
    Sealed,
    /// Not found, or not executable.
    #[error("{program}: {source}")]
    Exec {
        /// The program.
        program: Utf8PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Pipes, threads, memory.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// A process, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id while it lived.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// What is known about a tree after a kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It never had a process.
    Never,
    /// Nothing lives; how that is known.
    Empty(Vec<String>),
    /// Not proven.
    Unverified {
        /// Why.
        reason: String,
        /// What is known to live.
        survivors: Vec<Seen>,
    },
}

/// One run's native processes. Cheap to clone; all clones are the same tree.
#[derive(Debug, Clone)]
pub struct Tree {}

/// A child of a tree. Dropping it closes its pipes and kills nothing.
#[derive(Debug)]
pub struct Child {
    /// Its process id.
    pub pid: u32,
    /// Where its stdin is written; non-blocking.
    pub stdin: Option<OwnedFd>,
    /// Where its stdout is read; non-blocking.
    pub stdout: OwnedFd,
    /// Where its stderr is read; non-blocking.
    pub stderr: OwnedFd,
    /// Turns to `Some` when it has ended.
    pub exit: tokio::sync::watch::Receiver<Option<Exit>>,
}

impl Tree {
    /// A tree without a process.
    #[must_use]
    pub fn new(_run: RunId) -> Self {
        unimplemented!()
    }
    /// Starts a child; returns when its program runs, or could not be executed. Callable from any runtime.
    pub async fn spawn(&self, _plan: Plan) -> Result<Child, SpawnError> {
        unimplemented!()
    }
    /// Sends a signal to one child of this tree, by pidfd; no error when it has ended.
    pub fn signal(&self, _pid: u32, _signal: rustix::process::Signal) -> std::io::Result<()> {
        unimplemented!()
    }
    /// TERM to the whole tree.
    pub fn terminate(&self) {
        unimplemented!()
    }
    /// KILL to the whole tree; from now on nothing is started in it. Gives what lived.
    pub fn kill(&self) -> Vec<Seen> {
        unimplemented!()
    }
    /// Whether a child (or what is known of its descendants) lives.
    pub fn is_alive(&self) -> bool {
        unimplemented!()
    }
    /// Waits until nothing known lives.
    pub async fn empty(&self) {
        unimplemented!()
    }
    /// Looks whether anything is left; waits at most so long for it to end.
    pub async fn prove(&self, _within: Duration) -> Verdict {
        unimplemented!()
    }
}

/// Finds processes of these runs (by `FALCONER_RUN_ID`, our uid) and kills them; gives what was found.
pub async fn kill_leftovers(_runs: &[RunId], _within: Duration) -> Vec<(RunId, Seen)> {
    unimplemented!()
}

/// The runs whose mark a process or one of its ancestors carries, nearest first.
#[must_use]
pub fn mark_of(_pid: u32) -> Vec<RunId> {
    unimplemented!()
}

//! The durable record of runs, events, sessions and artifacts: the only truth about what happened.

pub mod artifact;
pub mod row;

use std::time::Duration;

use camino::Utf8Path;

pub use row::{ArtifactRow, EventRow, InboxRow, KeyRow, Op, RunRow, RunUpdate, SessionRow};

use crate::id::{GroupId, RunId, SessionId};

/// Why the ledger could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The name belongs to another session.
    #[error("the name `{0}` belongs to another session")]
    NameTaken(String),
    /// The request key is known.
    #[error("the request key is known")]
    KeyTaken,
    /// Made by a newer falconer; untouched.
    #[error("the ledger {path} has format {found}; this falconer knows formats up to {known}")]
    Newer {
        /// Its file.
        path: String,
        /// The format it has.
        found: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// The disk or the file is at fault.
    #[error("{0}")]
    Broken(String),
    /// The ledger was closed.
    #[error("the ledger is closed")]
    Closed,
}

/// What runs are listed by.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Words of status; empty: any.
    pub status: Vec<String>,
    /// Backend.
    pub backend: Option<String>,
    /// Session.
    pub session: Option<SessionId>,
    /// Group.
    pub group: Option<GroupId>,
    /// Parent.
    pub parent: Option<RunId>,
    /// Working directory.
    pub cwd: Option<String>,
    /// Only runs before this one in the order newest first: (created_at, id).
    pub before: Option<(i64, RunId)>,
    /// At most so many.
    pub limit: u32,
}

/// The ledger: one writer thread, readers beside it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger {}

impl Ledger {
    /// Opens or makes the ledger of a data directory.
    pub fn open(_dir: &Utf8Path) -> Result<Self, LedgerError> {
        unimplemented!()
    }

    /// Puts changes into the writer's queue; the future ends when they are on disk (or refused). Waits for room in
    /// the queue first, each run having its share. Changes of one caller are committed in the order of its calls to
    /// `submit`, also if the futures they return are awaited in another order.
    pub async fn submit(&self, _run: Option<RunId>, _ops: Vec<Op>) -> Commit {
        unimplemented!()
    }

    /// `submit`, and waits for the disk.
    pub async fn commit(&self, run: Option<RunId>, ops: Vec<Op>) -> Result<(), LedgerError> {
        self.submit(run, ops).await.await
    }

    /// One run.
    pub fn run(&self, _id: RunId) -> Result<Option<RunRow>, LedgerError> {
        unimplemented!()
    }
    /// Runs, newest first.
    pub fn runs(&self, _filter: &RunFilter) -> Result<Vec<RunRow>, LedgerError> {
        unimplemented!()
    }
    /// Runs whose status is none of the terminal words: what a host left behind.
    pub fn unfinished(&self) -> Result<Vec<RunRow>, LedgerError> {
        unimplemented!()
    }
    /// Events after a number, in order, at most `limit` and (after the first) at most `max_bytes` of data; of these types only, where some are named.
    pub fn events(&self, _run: RunId, _after: u64, _limit: u32, _max_bytes: u64, _kinds: &[&str]) -> Result<Vec<EventRow>, LedgerError> {
        unimplemented!()
    }
    /// One session by id.
    pub fn session(&self, _id: SessionId) -> Result<Option<SessionRow>, LedgerError> {
        unimplemented!()
    }
    /// One session by name.
    pub fn session_named(&self, _name: &str) -> Result<Option<SessionRow>, LedgerError> {
        unimplemented!()
    }
    /// Named sessions, most recently used first, each with its newest run and the size of its inbox.
    pub fn agents(
        &self,
        _backend: Option<&str>,
        _cwd: Option<&str>,
        _limit: u32,
    ) -> Result<Vec<(SessionRow, Option<RunRow>, u64)>, LedgerError> {
        unimplemented!()
    }
    /// The newest run of a session.
    pub fn newest_run(&self, _session: SessionId) -> Result<Option<RunRow>, LedgerError> {
        unimplemented!()
    }
    /// The last checkpoint of a run.
    pub fn checkpoint(&self, _run: RunId) -> Result<Option<Vec<u8>>, LedgerError> {
        unimplemented!()
    }
    /// Messages of an inbox after a number.
    pub fn messages(&self, _to: SessionId, _after: u64, _limit: u32) -> Result<Vec<InboxRow>, LedgerError> {
        unimplemented!()
    }
    /// The number of a message that was committed.
    pub fn message_seq(&self, _id: crate::id::MessageId) -> Result<Option<u64>, LedgerError> {
        unimplemented!()
    }
    /// A request key.
    pub fn key(&self, _key: &str) -> Result<Option<KeyRow>, LedgerError> {
        unimplemented!()
    }
    /// Where a field of an event is kept.
    pub fn artifact(&self, _run: RunId, _seq: u64, _pointer: &str) -> Result<Option<ArtifactRow>, LedgerError> {
        unimplemented!()
    }

    /// Commits what is queued and closes the files; what is submitted later is refused. Waits at most so long.
    pub async fn close(&self, _within: Duration) {
        unimplemented!()
    }
}

/// A commit on its way; awaiting it waits for the disk.
pub struct Commit {}

impl std::future::Future for Commit {
    type Output = Result<(), LedgerError>;
    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        unimplemented!()
    }
}

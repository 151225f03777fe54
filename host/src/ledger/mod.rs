//! The durable record of runs, events, sessions and artifacts: the only truth about what happened.
//!
//! SQLite in the data directory, with a write-ahead log and `synchronous = FULL`: what was answered is on disk. One
//! thread writes, many changes with one fsync (`queue`, `writer`, `apply`); readers have connections of their own
//! (`reader`); large values are files (`artifact`); `schema` has the tables and the rule for other versions.
//!
//! The ledger keeps the order of a run's events by itself, but knows nothing of what they mean: texts in JSON are the
//! callers' own. That one process owns a data directory is the daemon's concern.
//!
//! When the disk fails, each change that it fails is answered with [`LedgerError::Broken`], nothing of that change
//! stands between what came before and what comes after, and the next one is tried anew. After a failed fsync, as after
//! a power cut, a change that was *not* answered well may still be found; one that was is never lost.

mod apply;
pub mod artifact;
mod failure;
mod queue;
mod reader;
pub mod row;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use camino::Utf8Path;
use tokio::sync::{oneshot, watch};

pub use row::{ArtifactRow, DecisionRow, EventRow, InboxRow, KEPT_DECISIONS, KeyRow, Op, RunRow, RunUpdate, SessionRow};

use crate::id::{GroupId, MessageId, RunId, SessionId};
use queue::{Queue, Work};
use reader::Readers;

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
    /// The number of an event is not the next one of its run. Also said of events that follow others which the disk did
    /// not take.
    #[error("event {found} of {run} is not the next one, {expected}; nothing of it was written")]
    OutOfOrder {
        /// The run.
        run: RunId,
        /// The number that comes next.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The run has ended: no event follows, and its status never changes again.
    #[error("{0} has ended; nothing can follow")]
    Ended(RunId),
    /// A terminal event came without the terminal status of the same name in the same commit.
    #[error("the last event of {0} and its status do not agree")]
    TornEnd(RunId),
    /// Nothing is known of this run.
    #[error("{0} is not in the ledger")]
    NoRun(RunId),
    /// Nothing is stored under this name.
    #[error("no artifact has the name `{0}`")]
    NoArtifact(String),
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

/// What decisions are listed by.
#[derive(Debug, Clone, Default)]
pub struct DecisionFilter {
    /// Only refusals.
    pub refused: bool,
    /// Only those about this run, and those of clients inside it.
    pub run: Option<RunId>,
    /// At most so many, the newest.
    pub limit: u32,
}

/// The ledger: one writer thread, readers beside it. Cheap to clone; when the last clone is dropped, what is queued is
/// still written and the files are closed.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Arc<Queue>,
    readers: Readers,
    /// Its sender is dropped when the writer has closed the file.
    closed: watch::Receiver<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens or makes the ledger of a data directory (`ledger.db`, 0600, in a directory of 0700).
    pub fn open(dir: &Utf8Path) -> Result<Self, LedgerError> {
        let (path, conn) = schema::open(dir)?;
        let queue = Arc::new(Queue::new());
        let (done, closed) = watch::channel(());
        writer::start(path.clone(), conn, Arc::clone(&queue), done)?;
        Ok(Self { inner: Arc::new(Inner { queue, readers: Readers::new(path), closed }) })
    }

    /// Puts changes into the writer's queue; the future ends when they are on disk (or refused). Waits for room in
    /// the queue first, each run having its share. Changes of one caller are committed in the order of its calls to
    /// `submit`, also if the futures they return are awaited in another order, or dropped. The changes of one call stand
    /// or fall together; a run is inserted before anything of it follows.
    ///
    /// `run` says whose share of the queue is filled; what belongs to no run fills one of its own.
    pub async fn submit(&self, run: Option<RunId>, ops: Vec<Op>) -> Commit {
        self.work(run, Work::Change(ops)).await
    }

    /// `submit`, and waits for the disk.
    pub async fn commit(&self, run: Option<RunId>, ops: Vec<Op>) -> Result<(), LedgerError> {
        self.submit(run, ops).await.await
    }

    /// A ceiling for the ledger's file in bytes, from now on; none: the disk's. A change that needs more is refused as by a
    /// full disk, and is taken again when the ceiling is lifted. It is not kept over a restart.
    pub async fn limit_size(&self, bytes: Option<u64>) -> Result<(), LedgerError> {
        self.work(None, Work::Limit(bytes)).await.await
    }

    async fn work(&self, run: Option<RunId>, work: Work) -> Commit {
        Commit(match self.inner.queue.push(run, work).await {
            Ok(answer) => State::Queued(answer),
            Err(error) => State::Refused(error),
        })
    }

    /// One run.
    pub fn run(&self, id: RunId) -> Result<Option<RunRow>, LedgerError> {
        self.inner.readers.run(id)
    }
    /// Runs, newest first.
    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, LedgerError> {
        self.inner.readers.runs(filter)
    }
    /// Runs whose status is none of the terminal words: what a host left behind. Oldest first.
    pub fn unfinished(&self) -> Result<Vec<RunRow>, LedgerError> {
        self.inner.readers.unfinished()
    }
    /// Events after a number, in order, at most `limit` and (after the first) at most `max_bytes` of data; of these types only, where some are named.
    pub fn events(&self, run: RunId, after: u64, limit: u32, max_bytes: u64, kinds: &[&str]) -> Result<Vec<EventRow>, LedgerError> {
        self.inner.readers.events(run, after, limit, max_bytes, kinds)
    }
    /// One session by id.
    pub fn session(&self, id: SessionId) -> Result<Option<SessionRow>, LedgerError> {
        self.inner.readers.session(id)
    }
    /// One session by name.
    pub fn session_named(&self, name: &str) -> Result<Option<SessionRow>, LedgerError> {
        self.inner.readers.session_named(name)
    }
    /// Named sessions, most recently used first, each with its newest run and the size of its inbox. `cwd` is that of
    /// the newest run.
    pub fn agents(
        &self,
        backend: Option<&str>,
        cwd: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(SessionRow, Option<RunRow>, u64)>, LedgerError> {
        self.inner.readers.agents(backend, cwd, limit)
    }
    /// The newest run of a session.
    pub fn newest_run(&self, session: SessionId) -> Result<Option<RunRow>, LedgerError> {
        self.inner.readers.newest_run(session)
    }
    /// The last checkpoint of a run.
    pub fn checkpoint(&self, run: RunId) -> Result<Option<Vec<u8>>, LedgerError> {
        self.inner.readers.checkpoint(run)
    }
    /// Messages of an inbox after a number.
    pub fn messages(&self, to: SessionId, after: u64, limit: u32) -> Result<Vec<InboxRow>, LedgerError> {
        self.inner.readers.messages(to, after, limit)
    }
    /// The number of a message that was committed.
    pub fn message_seq(&self, id: MessageId) -> Result<Option<u64>, LedgerError> {
        self.inner.readers.message_seq(id)
    }
    /// A request key.
    pub fn key(&self, key: &str) -> Result<Option<KeyRow>, LedgerError> {
        self.inner.readers.key(key)
    }
    /// Where a field of an event is kept.
    pub fn artifact(&self, run: RunId, seq: u64, pointer: &str) -> Result<Option<ArtifactRow>, LedgerError> {
        self.inner.readers.artifact(run, seq, pointer)
    }

    /// Decisions, newest first.
    pub fn decisions(&self, filter: &DecisionFilter) -> Result<Vec<DecisionRow>, LedgerError> {
        self.inner.readers.decisions(filter)
    }

    /// Commits what is queued and closes the files; what is asked later is refused. Waits at most so long.
    pub async fn close(&self, within: Duration) {
        self.inner.queue.close();
        self.inner.readers.close();
        let mut closed = self.inner.closed.clone();
        // An error is what is waited for: the writer is gone. So is the end of the time.
        let writer_gone = async { while closed.changed().await.is_ok() {} };
        if tokio::time::timeout(within, writer_gone).await.is_err() {
            tracing::warn!("the ledger is still writing; its file is closed when that ends");
        }
    }
}

/// A ledger that another process may be writing, or nobody: it is read, and not changed.
pub struct Glance(Readers);

impl Glance {
    /// That of a data directory; none where there is none yet.
    ///
    /// # Errors
    /// A ledger that cannot be read, or was made by a newer falconer.
    pub fn open(dir: &Utf8Path) -> Result<Option<Self>, LedgerError> {
        Ok(schema::find(dir)?.map(|path| Self(Readers::new(path))))
    }

    /// As [`Ledger::run`].
    pub fn run(&self, id: RunId) -> Result<Option<RunRow>, LedgerError> {
        self.0.run(id)
    }

    /// As [`Ledger::unfinished`].
    pub fn unfinished(&self) -> Result<Vec<RunRow>, LedgerError> {
        self.0.unfinished()
    }

    /// As [`Ledger::decisions`]; none in a ledger of a program that kept none.
    pub fn decisions(&self, filter: &DecisionFilter) -> Result<Vec<DecisionRow>, LedgerError> {
        self.0.decisions(filter)
    }

    /// As [`Ledger::events`].
    pub fn events(&self, run: RunId, after: u64, limit: u32, max_bytes: u64, kinds: &[&str]) -> Result<Vec<EventRow>, LedgerError> {
        self.0.events(run, after, limit, max_bytes, kinds)
    }
}

/// A commit on its way; awaiting it waits for the disk. Dropping it takes nothing back.
pub struct Commit(State);

enum State {
    Queued(oneshot::Receiver<Result<(), LedgerError>>),
    Refused(LedgerError),
}

impl Future for Commit {
    type Output = Result<(), LedgerError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            // A writer that ended without an answer has written nothing of it, or cannot say.
            State::Queued(answer) => Pin::new(answer).poll(context).map(|answer| answer.unwrap_or(Err(LedgerError::Closed))),
            State::Refused(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

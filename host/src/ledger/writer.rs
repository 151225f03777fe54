//! The one writer: takes what is in the line, commits it as one transaction with one fsync, answers all of it.
//!
//! A failed transaction is rolled back whole, and everything in it is answered with the failure; the next one is tried
//! as if nothing had been, so the ledger works again as soon as its disk does. If the disk was full, the submissions of
//! a failed batch are tried one by one, since a small one may fit where a large one did not.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::watch;

use super::LedgerError;
use super::apply::{Failure, Heads};
use super::failure::{broken, disk};
use super::queue::{Queue, Taken, Work};
use super::row::Op;
use super::schema::LOCK_WAIT;

/// Pages of the write-ahead log (16 MiB) after which it is brought into the file, and again after as many more.
pub(super) const LOG_PAGES: i64 = 4096;
/// Pages of the log (64 MiB) after which readers are waited for, so that it can begin anew.
const LOG_PAGES_MAX: i64 = 4 * LOG_PAGES;
/// How long they are waited for; a read takes microseconds.
const READERS_WAIT: Duration = Duration::from_millis(100);

/// Starts the writer's thread. `done` is dropped when it has closed the file.
pub fn start(path: Utf8PathBuf, conn: Connection, queue: Arc<Queue>, done: watch::Sender<()>) -> Result<(), LedgerError> {
    let file = identity(&path)?;
    let writer = Writer { path: path.clone(), conn, file, heads: Heads::default(), shortened_at: 0 };
    std::thread::Builder::new()
        .name("ledger".to_owned())
        .spawn(move || {
            let _done = done;
            // Also when the thread panics, nobody waits for it for ever.
            let _abandon = Abandon(&queue);
            writer.run(&queue);
        })
        .map_err(|error| disk("starting the writer of", &path, &error))?;
    Ok(())
}

struct Abandon<'a>(&'a Queue);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

struct Writer {
    path: Utf8PathBuf,
    conn: Connection,
    /// Device and inode of the file.
    file: (u64, u64),
    heads: Heads,
    /// How many pages the log had when it was last brought into the file.
    shortened_at: i64,
}

impl Writer {
    fn run(mut self, queue: &Queue) {
        let mut batch = Vec::new();
        while queue.take(&mut batch) {
            self.serve(&mut batch);
            self.shorten_log();
        }
        // Brings the log into the file and removes it, unless a reader is left.
        if let Err((_, error)) = self.conn.close() {
            tracing::warn!(path = %self.path, %error, "the ledger did not close cleanly; nothing that was answered is lost");
        }
    }

    fn serve(&mut self, batch: &mut Vec<Taken>) {
        let mut changes = Vec::with_capacity(batch.len());
        for Taken { work, done } in batch.drain(..) {
            match work {
                Work::Change(ops) => changes.push((ops, done)),
                Work::Limit(bytes) => drop(done.send(self.limit(bytes))),
            }
        }
        if changes.is_empty() {
            return;
        }
        let (ops, waiting): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        let answers = match self.commit(&ops) {
            Ok(answers) => answers,
            Err(error) if ops.len() > 1 && error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                ops.chunks(1).flat_map(|one| self.commit(one).unwrap_or_else(|error| vec![Err(self.failed(&error))])).collect()
            }
            Err(error) => vec![Err(self.failed(&error)); ops.len()],
        };
        for (done, answer) in waiting.into_iter().zip(answers) {
            // Nobody may wait any more; the change is made all the same.
            drop(done.send(answer));
        }
    }

    /// One transaction: the answer of each submission, or the failure of all.
    fn commit(&mut self, batch: &[Vec<Op>]) -> Result<Vec<Result<(), LedgerError>>, rusqlite::Error> {
        if let Err(error) = self.in_place() {
            return Ok(vec![Err(error); batch.len()]);
        }
        let committed = self.try_commit(batch);
        if committed.is_err() {
            self.heads.clear();
            if !self.conn.is_autocommit()
                && let Err(error) = self.conn.execute_batch("ROLLBACK")
            {
                tracing::warn!(path = %self.path, %error, "rolling back failed");
            }
        }
        committed
    }

    fn try_commit(&mut self, batch: &[Vec<Op>]) -> Result<Vec<Result<(), LedgerError>>, rusqlite::Error> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut answers = Vec::with_capacity(batch.len());
        for ops in batch {
            answers.push(match self.heads.apply(&self.conn, ops) {
                Ok(()) => Ok(()),
                Err(Failure::Refused(error)) => Err(error),
                Err(Failure::Statement(error)) => Err(broken(&self.path, &error)),
                Err(Failure::Fatal(error)) => return Err(error),
            });
        }
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(answers)
    }

    fn failed(&self, error: &rusqlite::Error) -> LedgerError {
        let error = broken(&self.path, error);
        tracing::warn!(%error, "changes were not written");
        error
    }

    /// A file that was removed would take every change and lose it.
    fn in_place(&self) -> Result<(), LedgerError> {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            return Ok(());
        }
        Err(LedgerError::Broken(format!("{} was removed or replaced while it was in use: restart falconer", self.path)))
    }

    /// Brings the log into the file when it is long. The changes have been answered before.
    fn shorten_log(&mut self) {
        if let Err(error) = self.try_shorten_log() {
            tracing::warn!(path = %self.path, %error, "the log could not be brought into the file; it is tried again when it has grown");
        }
    }

    fn try_shorten_log(&mut self) -> rusqlite::Result<()> {
        let pages: i64 = self.conn.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], |row| row.get(1))?;
        if pages < self.shortened_at {
            self.shortened_at = 0;
        }
        if pages - self.shortened_at < LOG_PAGES {
            return Ok(());
        }
        self.shortened_at = pages;
        if pages < LOG_PAGES_MAX {
            return self.conn.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()));
        }
        self.conn.busy_timeout(READERS_WAIT)?;
        let done = self.conn.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
        self.conn.busy_timeout(LOCK_WAIT)?;
        done
    }

    fn limit(&self, bytes: Option<u64>) -> Result<(), LedgerError> {
        let limit = || {
            let page: u64 = self.conn.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)?;
            // 4294967294 is SQLite's own ceiling (https://sqlite.org/limits.html, 12).
            let pages = bytes.map_or(4_294_967_294, |bytes| (bytes / page).clamp(1, 4_294_967_294));
            self.conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        };
        limit().map_err(|error| broken(&self.path, &error))
    }
}

fn identity(path: &Utf8Path) -> Result<(u64, u64), LedgerError> {
    let metadata = path.metadata().map_err(|error| disk("reading", path, &error))?;
    Ok((metadata.dev(), metadata.ino()))
}

//! What waits for the writer: one line, in the order of arrival, bounded, in which no run may fill more than its share.
//!
//! A change waits for room twice: first for room in its run's share (in the order of that run's changes), then for room
//! in the whole line (in the order of arrival). So a run that floods the ledger waits for itself, and another one finds
//! at most a share of it in front; one batch takes several shares. The room is given back when the writer takes a
//! change, so a run fills its share again while its last one is written.
//!
//! The writer sleeps on a condition variable: an idle ledger wakes nobody.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::row::Op;
use super::{LedgerError, RunId};

/// What all waiting changes may weigh together.
pub const ROOM: u32 = 4 << 20;
/// What the waiting changes of one run may weigh. A change that weighs more waits until the share is empty.
pub const SHARE: u32 = 256 << 10;
/// What one transaction takes, at least one change. Bounds how long a change waits for those in front of it.
const BATCH: u32 = 2 << 20;
/// What a row weighs besides the bytes of its texts: so the line is bounded in rows as well as in bytes.
const ROW_WEIGHT: usize = 256;

/// What the writer is asked for.
pub enum Work {
    /// Changes that stand or fall together.
    Change(Vec<Op>),
    /// A ceiling for the file, in bytes.
    Limit(Option<u64>),
}

/// Work, and who waits for it.
pub struct Submission {
    /// The work.
    pub work: Work,
    /// Told when it is on disk, or refused.
    pub done: oneshot::Sender<Result<(), LedgerError>>,
    weight: u32,
    room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// What is left of a submission for the writer: its room has been given back.
pub struct Taken {
    /// The work.
    pub work: Work,
    /// Told when it is on disk, or refused.
    pub done: oneshot::Sender<Result<(), LedgerError>>,
}

/// The line.
pub struct Queue {
    line: Mutex<Line>,
    arrived: Condvar,
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Submission>,
    /// The shares of the runs that have something waiting.
    shares: HashMap<Option<RunId>, Arc<Semaphore>>,
    closed: bool,
}

impl Queue {
    pub fn new() -> Self {
        Self { line: Mutex::default(), arrived: Condvar::new(), room: Arc::new(Semaphore::new(ROOM as usize)) }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room and gets into the line. Dropping the future before it ends leaves nothing behind.
    pub async fn push(&self, run: Option<RunId>, work: Work) -> Result<oneshot::Receiver<Result<(), LedgerError>>, LedgerError> {
        let weight = weigh(&work);
        let share = {
            let mut line = self.line();
            if line.closed {
                return Err(LedgerError::Closed);
            }
            Arc::clone(line.shares.entry(run).or_insert_with(|| Arc::new(Semaphore::new(SHARE as usize))))
        };
        let asked = weight.min(SHARE);
        let own = share.acquire_many_owned(asked).await.map_err(|_| LedgerError::Closed)?;
        let all = Arc::clone(&self.room).acquire_many_owned(asked).await.map_err(|_| LedgerError::Closed)?;
        let (done, answer) = oneshot::channel();
        {
            let mut line = self.line();
            if line.closed {
                return Err(LedgerError::Closed);
            }
            line.waiting.push_back(Submission { work, done, weight, room: (own, all) });
        }
        self.arrived.notify_one();
        Ok(answer)
    }

    /// Takes the next batch; sleeps while there is nothing. False: the line is closed and empty.
    pub fn take(&self, batch: &mut Vec<Taken>) -> bool {
        let mut line = self.line();
        while line.waiting.is_empty() {
            if line.closed {
                return false;
            }
            line = self.arrived.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        let mut weight = 0u32;
        while let Some(next) = line.waiting.pop_front_if(|next| batch.is_empty() || weight.saturating_add(next.weight) <= BATCH) {
            weight = weight.saturating_add(next.weight);
            let Submission { work, done, room, .. } = next;
            drop(room);
            batch.push(Taken { work, done });
        }
        // A share that only this table knows is empty: whoever waits in it, or has something in the line, holds it too.
        line.shares.retain(|_, share| Arc::strong_count(share) > 1);
        true
    }

    /// Takes nothing more in. What is in the line stays.
    pub fn close(&self) {
        let mut line = self.line();
        line.closed = true;
        self.room.close();
        for share in line.shares.values() {
            share.close();
        }
        drop(line);
        self.arrived.notify_one();
    }

    /// Closes, and refuses what is in the line.
    pub fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut self.line().waiting);
        for submission in waiting {
            drop(submission.done.send(Err(LedgerError::Closed)));
        }
    }

    /// How many runs have a share.
    #[cfg(test)]
    pub fn shares(&self) -> usize {
        self.line().shares.len()
    }
}

/// What work weighs: the bytes of its texts, and something for every row.
fn weigh(work: &Work) -> u32 {
    let Work::Change(ops) = work else { return 0 };
    let weight: usize = ops
        .iter()
        .map(|op| match op {
            Op::InsertRun(run) => ROW_WEIGHT + run.request.len() + run.state.len() + len(&run.metadata) + len(&run.summary) + len(&run.cwd),
            Op::UpdateRun(run) => ROW_WEIGHT + len(&run.state) + len(&run.summary),
            Op::AppendEvents(events) => events.iter().map(|event| ROW_WEIGHT + event.data.len()).sum(),
            Op::PutArtifacts(artifacts) => artifacts.iter().map(|artifact| ROW_WEIGHT + artifact.pointer.len()).sum(),
            Op::PutCheckpoint { bytes, .. } => ROW_WEIGHT + bytes.len(),
            Op::PutDigest { .. } | Op::PutSession(_) => ROW_WEIGHT,
            Op::PutMessage(message) => ROW_WEIGHT + message.text.len() + len(&message.metadata),
            Op::PutKey(key) => ROW_WEIGHT + key.key.len() + key.outcome.len(),
            Op::PutDecisions(rows) => rows.iter().map(|row| ROW_WEIGHT + row.rule.len() + len(&row.command)).sum(),
        })
        .sum();
    u32::try_from(weight).unwrap_or(u32::MAX)
}

fn len(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::len)
}

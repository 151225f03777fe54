//! After a restart: what an earlier host left behind is found, ended, and said to be lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::id::RunId;
use crate::ledger::RunRow;
use crate::run::ladder::{broken_down, left_behind};
use crate::run::live::Live;
use crate::run::manager::{Manager, view_of};
use crate::run::receipt::ProcessSeen;
use crate::run::record::{Quota, Record};
use crate::run::status::{Ending, State, Status};
use crate::tree::kill_leftovers;

/// How long processes that an earlier host left may take to die.
const WITHIN: Duration = Duration::from_secs(5);

/// However the recovery ends: those who wait for it must not wait for ever.
struct Recovered<'a>(&'a Manager);

impl Drop for Recovered<'_> {
    fn drop(&mut self) {
        self.0.mark_recovered();
    }
}

impl Manager {
    /// Ends what an earlier host left behind. Runs beside serving; calls about the runs in question wait for it.
    pub async fn recover(&self) {
        let _done = Recovered(self);
        match self.inner.ledger.unfinished() {
            Err(error) => tracing::error!(%error, "runs of an earlier host could not be looked up"),
            Ok(rows) => {
                let rows: Vec<_> = rows.into_iter().filter(|row| self.find_live(row.id).is_none()).collect();
                let ids: Vec<RunId> = rows.iter().map(|row| row.id).collect();
                let mut killed: HashMap<RunId, Vec<ProcessSeen>> = HashMap::new();
                if !ids.is_empty() {
                    for (run, seen) in kill_leftovers(&ids, WITHIN).await {
                        killed.entry(run).or_default().push(ProcessSeen { pid: seen.pid, name: seen.name });
                    }
                }
                // What a second look finds has survived the first.
                let mut survivors: HashMap<RunId, Vec<ProcessSeen>> = HashMap::new();
                if !killed.is_empty() {
                    for (run, seen) in kill_leftovers(&ids, Duration::ZERO).await {
                        survivors.entry(run).or_default().push(ProcessSeen { pid: seen.pid, name: seen.name });
                    }
                }
                for row in rows {
                    let left = survivors.remove(&row.id).unwrap_or_default();
                    let found = killed.remove(&row.id).unwrap_or_default();
                    tracing::info!(run = %row.id, killed = found.len(), "ends a run of an earlier host");
                    self.end_left_behind(row, found, left).await;
                }
            }
        }
    }

    async fn end_left_behind(&self, row: RunRow, killed: Vec<ProcessSeen>, survivors: Vec<ProcessSeen>) {
        let status = Status::from_word(&row.status).unwrap_or(Status::Running);
        let view = view_of(row.clone());
        let (live, _ear) = Live::new(row);
        live.publish(|seen| seen.outline = view.outline);
        self.close(live, status, left_behind(status, killed, survivors)).await;
    }

    /// Ends a run whose supervisor broke down.
    pub(super) async fn end_abandoned(&self, live: &Arc<Live>, defect: &tokio::task::JoinError) {
        tracing::error!(run = %live.id, %defect, "the supervisor of a run broke down");
        let seen = |process: crate::tree::Seen| ProcessSeen { pid: process.pid, name: process.name };
        let killed = kill_leftovers(&[live.id], WITHIN).await.into_iter().map(|(_, process)| seen(process)).collect();
        // What it had submitted is on disk by now or never will be.
        match self.inner.ledger.run(live.id) {
            Ok(Some(row)) => live.publish(|view| view.row = row),
            Ok(None) => {}
            Err(error) => tracing::error!(run = %live.id, %error, "a run could not be looked up"),
        }
        let status = live.progress().status;
        if !status.is_terminal() {
            self.close(live.clone(), status, broken_down(killed)).await;
        }
    }

    async fn close(&self, live: Arc<Live>, status: Status, ending: Ending) {
        let quota = Quota { events: u64::MAX, bytes: u64::MAX };
        let mut record = Record::new(live, self.inner.ledger.clone(), self.inner.artifacts.clone(), quota);
        record.resume(match status {
            Status::Queued => State::Queued,
            _ => State::Running,
        });
        record.end(ending).await;
        record.submit().await;
        if let Err(fault) = record.settled().await {
            tracing::error!(run = %record.run(), %fault, "the end of a run is not on disk");
        }
    }
}

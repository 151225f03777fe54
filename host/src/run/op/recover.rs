//! After a restart: what an earlier host left behind is found, ended, and said to be lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::id::RunId;
use crate::ledger::RunRow;
use crate::run::ladder::{broken_down, left_behind};
use crate::run::live::Live;
use crate::run::manager::{Manager, view_of};
use crate::run::record::{Quota, Record};
use crate::run::status::{Ending, State, Status};
use crate::tree::{Left, Verdict, end_leftovers, forget_leftovers, records};

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
        let ground = &self.inner.ground;
        let rows = match self.inner.ledger.unfinished() {
            Ok(rows) => rows,
            Err(error) => return tracing::error!(%error, "runs of an earlier host could not be looked up"),
        };
        let rows: Vec<_> = rows.into_iter().filter(|row| self.find_live(row.id).is_none()).collect();
        // Also those whose end was written, but whose records were not taken away any more.
        let mut ids: BTreeSet<RunId> = records::runs(ground).into_iter().filter(|run| self.find_live(*run).is_none()).collect();
        ids.extend(rows.iter().map(|row| row.id));
        let ids: Vec<RunId> = ids.into_iter().collect();
        let mut left = end_leftovers(ground, &ids, self.policy().config().stop.prove).await;
        for row in rows {
            let Some(left) = left.remove(&row.id) else { continue };
            let proven = !matches!(left.verdict, Verdict::Unverified { .. });
            tracing::info!(run = %row.id, killed = left.killed_total, proven, "ends a run of an earlier host");
            let run = row.id;
            self.end_left_behind(row, left).await;
            if proven {
                forget_leftovers(ground, run);
            }
        }
        for (run, left) in left {
            if !matches!(left.verdict, Verdict::Unverified { .. }) {
                forget_leftovers(ground, run);
            }
        }
    }

    async fn end_left_behind(&self, row: RunRow, left: Left) {
        let status = Status::from_word(&row.status).unwrap_or(Status::Running);
        let view = view_of(row.clone());
        let (live, _ear) = Live::new(row);
        live.publish(|seen| seen.outline = view.outline);
        self.close(live, status, left_behind(status, left)).await;
    }

    /// Ends a run whose supervisor broke down.
    pub(super) async fn end_abandoned(&self, live: &Arc<Live>, defect: &tokio::task::JoinError) {
        tracing::error!(run = %live.id, %defect, "the supervisor of a run broke down");
        let left = match live.tree() {
            Some(tree) => {
                tree.kill().await;
                let verdict = tree.prove(self.policy().config().stop.prove).await;
                let killed = tree.killed();
                Left { killed: killed.named, killed_total: killed.total, verdict }
            }
            None => Left { killed: Vec::new(), killed_total: 0, verdict: Verdict::Never },
        };
        // What it had submitted is on disk by now or never will be.
        match self.inner.ledger.run(live.id) {
            Ok(Some(row)) => live.publish(|view| view.row = row),
            Ok(None) => {}
            Err(error) => tracing::error!(run = %live.id, %error, "a run could not be looked up"),
        }
        let status = live.progress().status;
        if !status.is_terminal() {
            self.close(live.clone(), status, broken_down(left)).await;
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

//! After a restart: what an earlier host left behind is found and ended here. A run that goes on elsewhere is taken up again
//! (`resume`), once its local processes are proven gone; every other one is said to be lost.
//!
//! What there is of it is written down before anybody is served, so that no run of this host is ever taken for one of
//! an earlier one. Ending it goes on beside serving: only calls about these runs and their sessions wait for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::fault::Fault;
use crate::id::RunId;
use crate::ledger::RunRow;
use crate::run::event::{Closed, EventType};
use crate::run::left::{at_a_target, broken_down, left_behind, not_taken_up};
use crate::run::live::{Live, StopWish, proven_up_to};
use crate::run::manager::{Caller, Found, Manager, view_of};
use crate::run::receipt::Cause;
use crate::run::record::{Quota, Record};
use crate::run::status::{Ending, State, Status};
use crate::tree::{Left, Verdict, end_leftovers, forget_leftovers, records};

/// Events that are looked at in one go.
const PAGE: u32 = 1_000;

/// However the recovery ends: those who wait for it must not wait for ever.
struct Recovered(Manager);

impl Drop for Recovered {
    fn drop(&mut self) {
        self.0.mark_recovered();
    }
}

impl Manager {
    /// Looks up what an earlier host left behind; to be called before anybody is served. What is given back ends it, and
    /// is over at once where nothing was left.
    pub fn recover(&self) -> impl Future<Output = ()> + Send + use<> {
        let done = Recovered(self.clone());
        let rows = self.inner.ledger.unfinished().unwrap_or_else(|error| {
            // Their processes are ended all the same, as far as there are records of them.
            tracing::error!(%error, "runs of an earlier host could not be looked up");
            Vec::new()
        });
        // Also those whose end was written, but whose records were not taken away any more.
        let mut runs: BTreeSet<RunId> = records::runs(&self.inner.ground).into_iter().collect();
        runs.extend(rows.iter().map(|row| row.id));
        async move {
            if !runs.is_empty() {
                done.0.end_all(rows, runs.into_iter().collect()).await;
            }
        }
    }

    async fn end_all(&self, rows: Vec<RunRow>, runs: Vec<RunId>) {
        let ground = &self.inner.ground;
        let mut left = end_leftovers(ground, &runs, self.policy().config().stop.prove).await;
        for row in rows {
            let run = row.id;
            // The look itself failed: nothing is known, and that is said.
            let mut left = left.remove(&run).unwrap_or_else(|| Left {
                killed: Vec::new(),
                killed_total: 0,
                verdict: Verdict::Unverified { reason: "the host could not look".into(), survivors: Vec::new() },
            });
            if left.verdict == Verdict::Never && self.may_have_had_a_child(&row) {
                left.miss_records();
            }
            let proven = !matches!(left.verdict, Verdict::Unverified { .. });
            let begun = Status::from_word(&row.status).is_some_and(|status| status != Status::Queued);
            let mut refused = None;
            if proven
                && begun
                && let Some((bookmark, checkpoint)) = self.kept(run)
            {
                match self.judge_again(&row, bookmark, checkpoint).await {
                    Ok(Some(accepted)) => {
                        self.take_up(row, accepted).await;
                        continue;
                    }
                    Ok(None) => {}
                    Err(fault) => refused = Some(fault),
                }
            }
            tracing::info!(%run, killed = left.killed_total, proven, "ends a run of an earlier host");
            // What proves it stays as long as its end is not on disk.
            if self.end_left_behind(row, left, refused).await && proven {
                forget_leftovers(ground, run);
            }
        }
        for (run, left) in left {
            if matches!(left.verdict, Verdict::Unverified { .. }) {
                tracing::warn!(%run, verdict = ?left.verdict, "something of a run that has ended may live; `falconer check --orphans` says more");
            } else {
                forget_leftovers(ground, run);
            }
        }
    }

    /// By what it said; where that cannot be read, it may.
    fn may_have_had_a_child(&self, row: &RunRow) -> bool {
        let words = EventType::OF_A_CHILD.map(EventType::word);
        // What it had until then is proven gone, and its records were taken away.
        let proven = proven_up_to(row);
        !self.inner.ledger.events(row.id, proven, 1, u64::MAX, &words).is_ok_and(|events| events.is_empty())
    }

    /// Gives whether its end is on disk.
    async fn end_left_behind(&self, row: RunRow, left: Left, refused: Option<Fault>) -> bool {
        let mut status = Status::from_word(&row.status).unwrap_or(Status::Running);
        if status == Status::Queued && left.verdict != Verdict::Never {
            // It had begun, and that had not come to the disk.
            status = Status::Running;
        }
        let view = view_of(row.clone());
        let (live, _ear) = Live::new(row);
        live.publish(|seen| seen.outline = view.outline);
        let ending = match refused {
            Some(fault) => not_taken_up(fault, left),
            None => left_behind(status, left),
        };
        if live.with_view(|view| view.row.target.is_none()) {
            return self.close(live, status, ending).await;
        }
        let run = live.id;
        let closed = self.close(live, status, at_a_target(ending)).await;
        // What it may have left there is ended, or is found to be gone, beside all else.
        if closed && let Ok(Some(row)) = self.inner.ledger.run(run) {
            let manager = self.clone();
            tokio::spawn(async move { manager.look_again(&Caller::default(), Found::Ended(Box::new(row))).await });
        }
        closed
    }

    /// Ends a run whose supervisor broke down.
    pub(super) async fn end_abandoned(&self, live: &Arc<Live>, defect: &tokio::task::JoinError) {
        tracing::error!(run = %live.id, %defect, "the supervisor of a run broke down");
        for child in live.close_children() {
            let reason = Some(format!("its parent {} ends", live.id));
            child.stop(StopWish { by: live.id.to_string(), cause: Cause::Parent, reason, grace: None });
        }
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
            let ending = broken_down(left);
            let ending = if live.with_view(|view| view.row.target.is_some()) { at_a_target(ending) } else { ending };
            self.close(live.clone(), status, ending).await;
        }
        live.release();
    }

    /// Commands and tools that were started and have not ended, by their events.
    fn open_items(&self, run: RunId) -> Vec<(EventType, String)> {
        let kinds = [EventType::CommandStarted, EventType::CommandFinished, EventType::ToolStarted, EventType::ToolFinished];
        let words = kinds.map(EventType::word);
        let mut open: Vec<(EventType, String)> = Vec::new();
        let mut after = 0;
        loop {
            let page = self.inner.ledger.events(run, after, PAGE, u64::MAX, &words).unwrap_or_default();
            let Some(last) = page.last() else { return open };
            after = last.seq;
            for event in page {
                let data: serde_json::Value = serde_json::from_str(&event.data).unwrap_or_default();
                let id = data["id"].as_str().unwrap_or_default().to_owned();
                let Some(kind) = kinds.into_iter().find(|kind| kind.word() == event.kind) else { continue };
                let started = match kind {
                    EventType::CommandFinished => EventType::CommandStarted,
                    EventType::ToolFinished => EventType::ToolStarted,
                    _ => {
                        open.push((kind, id));
                        continue;
                    }
                };
                if let Some(at) = open.iter().rposition(|(kind, open)| *kind == started && *open == id) {
                    open.remove(at);
                }
            }
        }
    }

    /// Gives whether the end is on disk.
    async fn close(&self, live: Arc<Live>, status: Status, ending: Ending) -> bool {
        let quota = Quota { events: u64::MAX, bytes: u64::MAX };
        let mut record = Record::new(live, self.inner.ledger.clone(), self.inner.artifacts.clone(), quota);
        record.resume(match status {
            Status::Queued => State::Queued,
            _ => State::Running,
        });
        record.reopen_items(self.open_items(record.run()));
        record.close_questions(Closed::Ended);
        record.close_items();
        record.end(ending).await;
        record.submit().await;
        let settled = record.settled().await;
        if let Err(fault) = &settled {
            tracing::error!(run = %record.run(), %fault, "the end of a run is not on disk");
        }
        settled.is_ok()
    }
}

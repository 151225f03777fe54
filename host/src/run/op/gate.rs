//! What holds the runs of one group together while they live: the cap of how many run at once, and the end of all when one fails.
//!
//! In memory alone. A host that is lost takes it along, and the next one starts no queued run of an earlier one.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Semaphore;

use crate::run::live::{Live, StopWish};
use crate::run::receipt::Cause;
use crate::run::status::Status;

/// What the runs of a group pass on their way to their turn.
pub(super) struct Gate {
    places: Arc<Semaphore>,
    members: Vec<Arc<Live>>,
    stop_on_failure: bool,
}

impl Gate {
    /// For these runs, of which so many run at once. Where the group is to stop on a failure, that is watched for from here on.
    pub(super) fn new(members: Vec<Arc<Live>>, parallel: usize, stop_on_failure: bool) -> Arc<Self> {
        let gate = Arc::new(Self { places: Arc::new(Semaphore::new(parallel)), members, stop_on_failure });
        if stop_on_failure {
            tokio::spawn(watch(Arc::clone(&gate)));
        }
        gate
    }

    /// So many run at once.
    pub(super) fn place(&self) -> Arc<Semaphore> {
        Arc::clone(&self.places)
    }

    /// The last thing before a turn. Where the group is to stop, the turn never comes: the run hears of its stop instead.
    /// An end is published before its place is given back, so nobody who got that place passes here.
    pub(super) async fn pass(&self) {
        if self.stop_on_failure && self.members.iter().any(|run| has_failed(run)) {
            std::future::pending::<()>().await;
        }
    }
}

fn has_failed(run: &Live) -> bool {
    let progress = run.progress();
    progress.ended && progress.status != Status::Completed
}

/// Stops all when the first one ended other than well. Ends with the group.
async fn watch(gate: Arc<Gate>) {
    let mut ends: FuturesUnordered<_> = gate.members.iter().map(|run| async move { (run.ended().await, run).1 }).collect();
    while let Some(run) = ends.next().await {
        if !has_failed(run) {
            continue;
        }
        let reason = run.with_view(|view| {
            let at = view.row.target.as_ref().map(|target| format!(" at `{target}`")).unwrap_or_default();
            let why = view.outline.error.as_ref().map(|error| format!(" ({})", error.code)).unwrap_or_default();
            format!("run {}{at} of its group is {}{why}, and the group stops on a failure", run.id, view.row.status)
        });
        for other in gate.members.iter().filter(|other| other.id != run.id) {
            other.stop(StopWish { by: run.id.to_string(), cause: Cause::Group, reason: Some(reason.clone()), grace: None });
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::clock::Millis;
    use crate::id::{RunId, SessionId};
    use crate::ledger::RunRow;

    fn run(status: Status) -> Arc<Live> {
        let row = RunRow {
            id: RunId::random(),
            session: SessionId::random(),
            group: None,
            parent: None,
            depth: 0,
            backend: "x".into(),
            digest: String::new(),
            role: None,
            cwd: None,
            target: None,
            life: 1,
            status: status.word().into(),
            created_at: Millis(0),
            started_at: None,
            ended_at: None,
            last_seq: 1,
            summary: None,
            request: "{}".into(),
            state: "{}".into(),
            metadata: None,
        };
        Live::new(row).0
    }

    #[test]
    fn a_gate_lets_nobody_pass_after_a_failure_where_that_is_wanted() {
        let passes = |statuses: &[Status], stop_on_failure| {
            let members = statuses.iter().map(|status| run(*status)).collect();
            let gate = Gate { places: Arc::new(Semaphore::new(1)), members, stop_on_failure };
            gate.pass().now_or_never().is_some()
        };
        assert!(passes(&[Status::Queued, Status::Running, Status::Completed], true));
        for failed in [Status::Failed, Status::Cancelled, Status::Rejected, Status::Lost] {
            assert!(!passes(&[Status::Queued, failed], true) && passes(&[Status::Queued, failed], false), "{failed:?}");
        }
    }
}

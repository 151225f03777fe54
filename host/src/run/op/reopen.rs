//! Whether a session may be carried on after a run of it was lost: only where nothing of that run is left.

use std::time::Duration;

use crate::fault::{Fault, code};
use crate::id::{RunId, SessionId};
use crate::ledger::{RunFilter, RunRow};
use crate::run::manager::{Manager, view_of};
use crate::run::receipt::{Proof, Receipt};
use crate::run::record::ledger_fault;
use crate::run::status::Status;
use crate::tree::{Verdict, end_leftovers, forget_leftovers};

/// How long what is left of a session's lost run is ended and looked for, before the session opens again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Lost runs of one session that are looked at.
const RUNS: u32 = 1_000;

impl Manager {
    /// A session opens again only when every run of it that was lost is proven to have left nothing.
    pub(super) async fn reopen(&self, session: SessionId) -> Result<(), Fault> {
        self.recovered().await;
        // Also one whose end could not be written: nobody drives it, and nothing is known.
        let status = Status::ALL.into_iter().filter(|status| *status == Status::Lost || !status.is_terminal());
        let filter = RunFilter {
            session: Some(session),
            status: status.map(|status| status.word().to_owned()).collect(),
            limit: RUNS,
            ..RunFilter::default()
        };
        let rows = self.inner.ledger.runs(&filter).map_err(|error| ledger_fault(&error))?;
        for row in rows {
            if self.find_live(row.id).is_none() && !is_proven(&row) {
                self.prove_again(row.id).await?;
            }
        }
        Ok(())
    }

    /// What could not be proven then may be provable now.
    async fn prove_again(&self, run: RunId) -> Result<(), Fault> {
        let left = end_leftovers(&self.inner.ground, &[run], LOOK_AGAIN).await.remove(&run);
        let (reason, survivors) = match left.map(|left| left.verdict) {
            Some(Verdict::Never | Verdict::Empty(_)) => {
                forget_leftovers(&self.inner.ground, run);
                return Ok(());
            }
            Some(Verdict::Unverified { reason, survivors }) => (reason, survivors),
            None => ("the host could not look".to_owned(), Vec::new()),
        };
        let names: Vec<_> = survivors.iter().map(|process| format!("{} ({})", process.name, process.pid)).collect();
        let named = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        Err(Fault::new(code::NOT_CONTINUABLE, format!("something of the session's run {run} may still live: {reason}{named}"))
            .hint("`falconer check --orphans` shows what is left of it; a person who has looked on the machine opens the session again with `falconer check --orphans --forget RUN`; or start a new session"))
    }
}

fn is_proven(row: &RunRow) -> bool {
    let receipt: Option<Receipt> = view_of(row.clone()).outline.receipt;
    let proof = receipt.and_then(|receipt| receipt.proof);
    row.status == Status::Lost.word() && proof.is_some_and(|proof| !matches!(proof, Proof::Unverified { .. }))
}

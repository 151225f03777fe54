//! Whether a session may be carried on after a run of it was lost: only where nothing of that run is left.

use std::time::Duration;

use crate::fault::{Fault, code};
use crate::id::SessionId;
use crate::run::manager::{Manager, view_of};
use crate::run::receipt::{Proof, Receipt};
use crate::run::record::ledger_fault;
use crate::run::status::Status;
use crate::tree::{Verdict, end_leftovers, forget_leftovers};

/// How long what is left of a session's lost run is ended and looked for, before the session opens again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Manager {
    /// A session opens again only when its last run, where that was lost, is proven to have left nothing.
    pub(super) async fn reopen(&self, session: SessionId) -> Result<(), Fault> {
        self.recovered().await;
        let Some(row) = self.inner.ledger.newest_run(session).map_err(|error| ledger_fault(&error))? else { return Ok(()) };
        let receipt: Option<Receipt> = view_of(row.clone()).outline.receipt;
        let proven = receipt.and_then(|receipt| receipt.proof).is_some_and(|proof| !matches!(proof, Proof::Unverified { .. }));
        if row.status != Status::Lost.word() || proven {
            return Ok(());
        }
        // What could not be proven then may be provable now.
        let left = end_leftovers(&self.inner.ground, &[row.id], LOOK_AGAIN).await.remove(&row.id);
        let (reason, survivors) = match left.map(|left| left.verdict) {
            Some(Verdict::Never | Verdict::Empty(_)) => {
                forget_leftovers(&self.inner.ground, row.id);
                return Ok(());
            }
            Some(Verdict::Unverified { reason, survivors }) => (reason, survivors),
            None => ("the host could not look".to_owned(), Vec::new()),
        };
        let names: Vec<_> = survivors.iter().map(|process| format!("{} ({})", process.name, process.pid)).collect();
        let named = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        Err(Fault::new(code::NOT_CONTINUABLE, format!("something of the session's last run {} may still live: {reason}{named}", row.id))
            .hint("`falconer check --orphans` shows what is left of it; a person who has looked on the machine opens the session again with `falconer check --orphans --forget RUN`; or start a new session"))
    }
}

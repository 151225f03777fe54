//! Ends a run's processes in time though its supervisor is held up: by a ledger that takes nothing, a disk that hangs.
//!
//! The supervisor climbs the ladder; this stands beside it and only watches the clock. Where a stop was asked for, or the
//! supervisor began one, and its time, with a margin, is over, the tree is killed. It writes nothing: the supervisor tells of it once it goes on.

use std::time::Duration;

use tokio::time::Instant;

use super::live::Live;
use crate::config;
use crate::tree::Tree;

/// What the ladder itself may take beyond its rungs' times before it is helped.
const MARGIN: Duration = Duration::from_millis(500);

/// Never ends: it is dropped with the supervisor's end.
pub(super) async fn guard(live: &Live, tree: Tree, stop: &config::Stop, deadline: Instant) {
    let latest = deadline + stop.ask + stop.terminate;
    let mut doom = live.doom();
    loop {
        let at = doom.borrow_and_update().map_or(latest, |doom| doom.min(latest)) + MARGIN;
        tokio::select! {
            () = tokio::time::sleep_until(at) => break,
            // The sender is in `live`, so this cannot fail.
            _ = doom.changed() => {}
        }
    }
    tree.kill().await;
    std::future::pending::<()>().await;
}

//! Trees of processes that are hard to end, and their end: each kind of tree under both ways in which the host can follow it.
//!
//! The trees are made by `falconer-bait` (`tests/trees`). What lives is found out here without a word of the host's
//! ([`look`]), at the moment the answer to `cancel_run` is there. Where the machine makes no cgroups of version 2 for us the
//! half that needs them is left out; `way::both_ways_are_tried` says so, or fails where it should not be.
//!
//! `FALCONER_TREES_ROUNDS` is the number of times that `rounds` ends each kind of tree at a random moment (4; a hundred are
//! `FALCONER_TREES_ROUNDS=100 cargo test --workspace --test system trees::rounds`), and `FALCONER_TREES_SEED` chooses the moments.

mod agent;
mod bait;
mod crash;
mod kinds;
mod look;
mod rounds;
mod storms;
mod truth;
pub mod way;

use serde_json::{Value, json};

use crate::client::{Client, is_terminal};
use crate::host::{Host, USUAL};
use crate::patience::until;
use bait::Bait;
use way::Way;

/// A host that follows trees in one way, with `falconer-bait` granted, and quick rungs.
struct Stage {
    host: Host,
    way: Way,
}

impl Stage {
    fn set(way: Way) -> Self {
        Self::with(way, &[])
    }

    /// With pieces of the configuration replaced by others.
    #[track_caller]
    fn with(way: Way, changes: &[(&str, &str)]) -> Self {
        let mut config = USUAL
            .replace("[host]\n", &format!("[host]\ncgroup = \"{}\"\n", way.setting()))
            // Some trees take the machine for seconds. A component is not to blame for that, and what is proven late is
            // proven all the same: the largest values there are.
            .replace("call = \"1 s\"", "call = \"60 s\"")
            .replace("[stop]\n", "[stop]\nprove = \"60 s\"\n")
            .replace("programs = {", &format!("programs = {{ bait = \"{}\",", falconer_bait::PROGRAM));
        for (from, to) in changes {
            assert!(config.contains(from), "{from} is not in the configuration");
            config = config.replace(from, to);
        }
        Self { host: Host::with(&config), way }
    }

    /// Cancels a run; the answer is of its end, however long that takes.
    #[track_caller]
    fn cancel(client: &Client, run: &str, grace_ms: Option<u64>) -> Value {
        let mut arguments = json!({ "run_id": run });
        if let Some(grace) = grace_ms {
            arguments["grace_ms"] = json!(grace);
        }
        until("the end of what is cancelled", || {
            // After 40 s it tells what there is by then.
            Some(client.call("cancel_run", arguments.clone())).filter(is_terminal)
        })
    }

    /// A bait that has not been started.
    fn bait(&self, mode: &'static str) -> Bait {
        Bait::new(self.host.path(""), mode)
    }

    /// The bait as a child of `exec`, which sends TERM when it is asked to cancel.
    fn exec(&self, bait: &Bait) -> Value {
        self.host.exec(json!({ "program": "bait", "args": bait.arguments() }))
    }

    /// The bait as a child of this mode of `hostile`.
    fn hostile(&self, mode: &str, bait: &Bait) -> Value {
        self.host.hostile(json!({ "mode": mode, "program": "bait", "args": bait.arguments() }))
    }
}

//! What a stop did, how far it had to go, and what it proved.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::contract::falconer::backend::types::RemoteProof;

/// Why a run is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Somebody called `cancel_run`.
    Requested,
    /// The run this one was started from is being stopped.
    Parent,
    /// Another run of its group failed, and the group was to stop then.
    Group,
    /// The host ends.
    Shutdown,
    /// The wall-time limit.
    Deadline,
    /// Nothing happened for too long.
    Idle,
    /// A limit of the run was broken.
    Limit,
    /// The component is at fault (trap, busy, blocked, contract).
    Component,
    /// The backend said that it is finished; what is left of its processes is ended.
    Finished,
    /// The ledger cannot be written.
    Ledger,
    /// What an earlier host left behind.
    Recovery,
    /// The host broke down while it drove the run.
    Defect,
}

/// How the component ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ComponentEnd {
    /// Every call returned.
    Returned,
    /// It trapped, by itself or because it was interrupted.
    Trapped,
    /// It was dropped while a call of it was inside the host.
    Dropped,
    /// It was never made.
    NeverStarted,
}

/// One step of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// The backend's own `cancel`.
    Ask,
    /// TERM to the tree.
    Terminate,
    /// KILL to the tree.
    Kill,
    /// What was left in the pipes was read.
    Drain,
    /// The store was dropped.
    Cut,
    /// The proof was looked for.
    Prove,
}

/// A rung and when it was stepped on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Which.
    pub rung: Rung,
    /// Milliseconds after the stop was asked for.
    pub after_ms: u64,
}

/// A native process, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessSeen {
    /// Its id while it lived.
    pub pid: u32,
    /// Its name (`/proc/PID/comm`), or that of its program.
    pub name: String,
}

/// Whether the tree is known to be empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Proof {
    /// The run never started a process.
    NoProcesses,
    /// Nothing lives.
    Empty {
        /// How that is known: `cgroup` (the kernel says that it is empty), `walk` (whoever holds its processes has no
        /// child left), `scan` (no process has the run's mark), `boot` (the machine was started again).
        by: Vec<String>,
    },
    /// Something lives, or whether something lives could not be found out.
    Unverified {
        /// Why there is no proof.
        reason: String,
    },
}

/// What a backend says about the far end of its work. It is the backend's word, not the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FarEnd {
    /// `confirmed`, `unreachable` or `unknown`.
    pub state: String,
    /// What the backend adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl FarEnd {
    /// What a backend said.
    #[must_use]
    pub fn of(proof: RemoteProof, detail: Option<String>) -> Self {
        let state = match proof {
            RemoteProof::Confirmed => "confirmed",
            RemoteProof::Unreachable => "unreachable",
            RemoteProof::Unknown => "unknown",
        };
        Self { state: state.to_owned(), detail }
    }
}

/// The receipt of a stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// When the stop was asked for.
    pub asked_at: Millis,
    /// By whom: a client's name, `host`, or the run that is the parent.
    pub asked_by: String,
    /// Why.
    pub cause: Cause,
    /// The caller's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rungs that were stepped on.
    pub rungs: Vec<Step>,
    /// How the component ended; none while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentEnd>,
    /// Processes that were killed; at most 64 are named.
    pub killed: Vec<ProcessSeen>,
    /// How many were killed.
    #[serde(default)]
    pub killed_total: u64,
    /// Processes that still live.
    pub survivors: Vec<ProcessSeen>,
    /// What is known about the tree; none while that is being found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// The far end, by the backend's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub far_end: Option<FarEnd>,
}

impl Receipt {
    /// The receipt of a stop that begins now.
    #[must_use]
    pub fn begun(asked_by: impl Into<String>, cause: Cause, reason: Option<String>) -> Self {
        Self {
            asked_at: Millis::now(),
            asked_by: asked_by.into(),
            cause,
            reason,
            rungs: Vec::new(),
            component: None,
            killed: Vec::new(),
            killed_total: 0,
            survivors: Vec::new(),
            proof: None,
            far_end: None,
        }
    }
}

//! Limits on the run's own tree of processes: what is asked for, whether it can be held, and the end of a run that reached one.
//!
//! Whether a limit can be held is judged before a run is taken, and it is held before the component is called; a limit
//! that cannot be held is `limit_unavailable`, and nothing is started. A run that reached one is `failed` with that
//! limit's code, also where the backend says `finished` first: what it saw then was the kernel's doing.

use std::time::Duration;

use serde_json::{Value, json};

use super::places::{Place, Want};
use super::request::SpawnRequest;
use super::supervisor::Supervisor;
use crate::config::units::{Cpus, show_size};
use crate::config::{Limits, TreeLimits};
use crate::fault::{Fault, code};
use crate::policy::Asked;
use crate::policy::command::{Allowed, Share};
use crate::tree::{Breach, Ground, Missing, Tree};

/// The limits that a request asks for.
pub(super) fn asked(request: &SpawnRequest) -> Asked {
    let limits = request.limits.clone().unwrap_or_default();
    Asked {
        wall: request.timeout_s.map(Duration::from_secs),
        idle: request.idle_timeout_s.map(Duration::from_secs),
        tree_memory: limits.tree_memory_bytes,
        tree_processes: limits.tree_processes,
        tree_cpu: limits.tree_cpu,
    }
}

/// Limits that rules, targets and tags set for a run, with who set them, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HeldBy {
    /// Who lowered the wall time.
    pub wall: Option<String>,
    /// Who lowered the output.
    pub output: Option<String>,
    /// Runs at once, each with what they are counted over.
    pub parallel: Vec<(Share, u32, String)>,
}

impl HeldBy {
    /// The places that the run needs for them.
    pub fn wants(&self) -> impl Iterator<Item = Want> {
        self.parallel.iter().map(|(share, of, _)| Want { place: Place::Far(share.clone()), of: *of })
    }

    /// Who gives these places.
    pub fn source(&self, place: &Place) -> Option<&str> {
        self.parallel.iter().find(|(share, ..)| matches!(place, Place::Far(of) if of == share)).map(|(.., by)| by.as_str())
    }
}

/// Lowers a run's limits to those that come with the commands that it may execute at the far end.
pub(super) fn lower(limits: &mut Limits, far: &[Allowed]) -> HeldBy {
    let mut by = HeldBy::default();
    for allowed in far {
        if let Some((share, wall)) = &allowed.limits.wall
            && *wall < limits.wall
        {
            limits.wall = *wall;
            by.wall = Some(allowed.source(share));
        }
        if let Some((share, output)) = &allowed.limits.output
            && *output < limits.output
        {
            limits.output = *output;
            by.output = Some(allowed.source(share));
        }
        for (share, of) in &allowed.limits.parallel {
            if !by.parallel.iter().any(|(known, ..)| known == share) {
                by.parallel.push((share.clone(), *of, allowed.source(share)));
            }
        }
    }
    by
}

/// The limits of a run, as plans and runs show them.
pub(super) fn shown(limits: &Limits, by: &HeldBy) -> Value {
    let parallel: Vec<Value> = by.parallel.iter().map(|(_, runs, by)| json!({ "runs": runs, "by": by })).collect();
    json!({
        "wall_s": limits.wall.as_secs(), "idle_s": limits.idle.map(|idle| idle.as_secs()), "memory_bytes": limits.memory,
        "events": limits.events, "output_bytes": limits.output, "runs": limits.runs,
        "tree_memory_bytes": limits.tree.memory, "tree_processes": limits.tree.processes,
        "tree_cpu": limits.tree.cpu.map(Cpus::get),
        "wall_by": by.wall, "output_by": by.output, "parallel": parallel,
    })
}

/// The hint of a limit that a rule, a target or a tag sets.
pub(super) fn theirs(key: &str, by: &str) -> String {
    format!("a person can raise `{key}` of {by} in the configuration")
}

/// Refuses limits that this machine cannot hold.
pub(super) async fn can_be_held(ground: &Ground, backend: &str, limits: &TreeLimits) -> Result<(), Fault> {
    if limits.is_none() {
        return Ok(());
    }
    // The first look tries things out, and takes its time.
    let (ground, limits) = (ground.clone(), *limits);
    let looked = tokio::task::spawn_blocking(move || ground.controllers().can_hold(&limits)).await;
    let held = looked.map_err(|error| Fault::new(code::INTERNAL, format!("a task of the host failed: {error}")))?;
    held.map_err(|missing| unavailable(backend, &missing))
}

fn unavailable(backend: &str, missing: &Missing) -> Fault {
    Fault::new(code::LIMIT_UNAVAILABLE, missing.to_string()).hint(format!(
        "leave the limit out of the call and of [backends.{backend}.limits], or give falconer the cgroup controller `{}`; \
         `falconer check` shows which there are",
        missing.controller
    ))
}

/// Holds the limits of a tree that has no process yet.
pub(super) async fn hold(tree: Tree, limits: TreeLimits) -> Result<(), Fault> {
    tree.hold(limits).await.map_err(|error| {
        Fault::new(code::LIMIT_UNAVAILABLE, format!("the limits of the run's processes cannot be held: {error}"))
            .hint("`falconer check` shows which cgroup controllers there are")
    })
}

impl Supervisor {
    /// The limit that the run's tree reached, if it did.
    pub(super) fn broken(&self) -> Option<Fault> {
        self.tree.breached().map(|breach| broken(breach, &self.limits.tree))
    }
}

/// What a run that reached a limit is told.
pub(super) fn broken(breach: Breach, limits: &TreeLimits) -> Fault {
    match breach {
        Breach::Memory => Fault::new(
            code::TREE_MEMORY_EXCEEDED,
            format!("the processes of the run wanted more than {} of memory", limits.memory.map(show_size).unwrap_or_default()),
        )
        .hint("ask for more `limits.tree_memory_bytes`, or raise `tree_memory` under `[backends.NAME.limits]`"),
        Breach::Processes => Fault::new(
            code::TREE_PROCESSES_EXCEEDED,
            format!("the run wanted more than {} processes and threads at once", limits.processes.unwrap_or_default()),
        )
        .hint("ask for more `limits.tree_processes`, or raise `tree_processes` under `[backends.NAME.limits]`"),
    }
}

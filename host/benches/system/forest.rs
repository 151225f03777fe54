//! The trees that are stopped: a shell and its sleeping children.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::host::{Host, USUAL};
use crate::patience::until;
use crate::processes::{self, Seen};
use crate::wire::Wire;

/// Processes of a tree.
pub const SIZES: &[usize] = &[3, 500];
/// Both ways in which a tree is held: `[host] cgroup`, and what a table calls it.
pub const WAYS: &[(&str, &str)] = &[("required", "cgroup"), ("off", "subreaper")];
/// Runs at once, for the end of a daemon.
pub const RUNS: usize = 200;

/// How often a tree of this size is stopped.
pub fn rounds(size: usize) -> usize {
    if size < 100 { 100 } else { 20 }
}

/// Grows a tree of this size.
pub fn script(size: usize) -> String {
    format!("i=1; while [ $i -lt {size} ]; do sleep 1000 & i=$((i+1)); done; wait")
}

/// Waits until a run has so many processes, and all but its shell sleep.
pub fn grown(run: &str, size: usize) {
    until("the tree to be grown", || {
        let seen = processes::with_environment(run);
        let sleeping = seen.iter().filter(|seen| name(seen.pid) == "sleep").count();
        (seen.len() == size && sleeping == size - 1).then_some(())
    });
}

/// Waits until the one process of a run sleeps.
pub fn alone(run: &str) {
    until("the child to sleep", || match *processes::with_environment(run) {
        [seen] => (name(seen.pid) == "sleep").then_some(()),
        _ => None,
    });
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// A host that holds trees in this way.
pub fn host(way: &str) -> Host {
    let config = USUAL.replace("[host]\n", &format!("[host]\ncgroup = \"{way}\"\n"));
    assert!(config.contains("cgroup"), "the usual configuration has changed");
    Host::with(&config)
}

/// Starts a run of this script.
pub fn start(host: &Host, wire: &mut Wire, script: &str) -> String {
    let request = host.exec(json!({ "program": "sh", "args": ["-c", script] }));
    wire.call("spawn_run", &request)["run_id"].as_str().unwrap().to_owned()
}

/// `cancel_run`, whole call; it must end proven.
pub fn cancel(wire: &mut Wire, run: &str, grace: Option<u64>) -> (Duration, Value) {
    let mut request = json!({ "run_id": run });
    if let Some(grace) = grace {
        request["grace_ms"] = grace.into();
    }
    let begin = Instant::now();
    let answer = wire.call("cancel_run", &request);
    let took = begin.elapsed();
    proven(&answer);
    (took, answer)
}

/// A run is cancelled and nothing of it lives.
pub fn proven(run: &Value) {
    assert_eq!(run["status"], "cancelled", "{run}");
    assert_eq!(run["receipt"]["proof"]["outcome"], "empty", "{run}");
}

/// The shims of a daemon.
pub fn shims(daemon: Seen) -> Vec<u32> {
    let children = fs::read_dir(format!("/proc/{}/task", daemon.pid)).unwrap().flatten().flat_map(|task| {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        text.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
    });
    children.filter(|pid| name(*pid) == "falconer-shim").collect()
}

/// A field of `smaps_rollup`, in KiB.
pub fn rollup(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

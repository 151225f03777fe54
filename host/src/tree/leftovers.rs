//! What an earlier host left behind: processes that carry the mark of a run, killed at the next start.
//!
//! Their parents are gone, so there is no group to hold and no exit to ask for: they are known by their mark alone,
//! which holds 80 random bits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::runtime::Handle;

use super::pidfd::Process;
use super::{Seen, control, proc};
use crate::id::RunId;

/// Kills them round by round until a scan finds none or the time is over; gives what was found.
pub async fn kill(runs: &[RunId], within: Duration) -> Vec<(RunId, Seen)> {
    let end = Instant::now() + within;
    let mut killed = BTreeMap::new();
    if runs.is_empty() {
        return Vec::new();
    }
    loop {
        let wanted = runs.to_vec();
        let Ok(found) = control(&Handle::current(), move || scan(&wanted)).await else { break };
        if found.is_empty() {
            break;
        }
        for (run, process) in &found {
            let _ = process.signal(Signal::KILL);
            killed.insert(process.pid, (*run, process.seen()));
        }
        for (_, process) in &found {
            let left = end.saturating_duration_since(Instant::now());
            if let Ok(watched) = process.watch(&Handle::current()) {
                let _ = tokio::time::timeout(left, watched.ended()).await;
            }
        }
        if Instant::now() >= end {
            break;
        }
    }
    killed.into_values().collect()
}

fn scan(runs: &[RunId]) -> Vec<(RunId, Process)> {
    let me = std::process::id();
    let marked = |pid| proc::mark(pid).filter(|run| runs.contains(run));
    proc::all()
        .iter()
        .filter(|stat| stat.lives() && stat.pid != me && proc::is_ours(stat.pid))
        .filter_map(|stat| {
            let run = marked(stat.pid)?;
            Some((run, Process::found(stat, |now| marked(now.pid) == Some(run))?))
        })
        .collect()
}

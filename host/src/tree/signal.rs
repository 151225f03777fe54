//! TERM and KILL to a whole tree, and the scan for what left its process groups.
//!
//! A process group is signalled by its number while we hold its first process (see [`super::watch`]); everything else
//! by pidfd. What a scan cannot see: a process that left its group and wiped its environment, and one that was forked
//! while the scan went by; the latter is why a kill goes round until it finds nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::pidfd::Process;
use super::{Inner, Seen, State, control, proc};

/// How often a kill looks again, at most.
pub const KILL_ROUNDS: u32 = 20;
/// How long a kill goes on, at most.
pub const KILL_TIME: Duration = Duration::from_millis(1_000);
/// How long one round of a kill waits for what it killed.
pub const ROUND_TIME: Duration = Duration::from_millis(100);

impl Inner {
    /// A signal to every process group of this tree.
    pub fn signal_groups(&self, signal: Signal) {
        let state = self.lock();
        for group in state.groups.keys() {
            signal_held(&state, *group, signal);
        }
    }

    /// A signal to one process group of this tree, if it is there.
    pub fn signal_group(&self, group: u32, signal: Signal) {
        signal_held(&self.lock(), group, signal);
    }

    /// Everything of this tree that lives and can be found now: members of its groups, and marked processes.
    /// Blocks for some milliseconds.
    pub fn scan(&self) -> Scan {
        let groups: Vec<u32> = self.lock().groups.keys().copied().collect();
        let me = std::process::id();
        let mut scan = Scan::default();
        for stat in proc::all() {
            if !stat.lives() || stat.pid == me {
                continue;
            }
            if groups.contains(&stat.group) {
                scan.members.extend(Process::found(&stat, |now| groups.contains(&now.group)));
            } else if stat.start >= self.since && proc::is_ours(stat.pid) && proc::mark(stat.pid) == Some(self.run) {
                scan.strays.extend(Process::found(&stat, |now| proc::mark(now.pid) == Some(self.run)));
            }
        }
        scan
    }

    /// TERM to what the scan finds outside the groups.
    pub async fn terminate_strays(self: Arc<Self>) {
        let inner = Arc::clone(&self);
        let Ok(scan) = control(&self.handle, move || inner.scan()).await else { return };
        for process in scan.strays {
            let _ = process.signal(Signal::TERM);
            // A stopped process takes its TERM only when it goes on.
            let _ = process.signal(Signal::CONT);
            self.follow(process);
        }
    }

    /// Kills round by round until a scan finds nothing, and says what it found.
    pub async fn kill_all(self: Arc<Self>) -> Vec<Seen> {
        let begun = Instant::now();
        let mut killed = BTreeMap::new();
        for _ in 0..KILL_ROUNDS {
            let inner = Arc::clone(&self);
            let Ok(scan) = control(&self.handle, move || inner.scan()).await else { break };
            self.signal_groups(Signal::KILL);
            if scan.is_empty() {
                break;
            }
            for process in scan.strays.iter().chain(&scan.members) {
                let _ = process.signal(Signal::KILL);
                killed.insert(process.pid, process.seen());
            }
            let mut changes = self.alive.subscribe();
            for process in scan.strays {
                self.follow(process);
            }
            let _ = tokio::time::timeout(ROUND_TIME, changes.wait_for(|alive| *alive == 0)).await;
            if begun.elapsed() >= KILL_TIME {
                break;
            }
        }
        killed.into_values().collect()
    }
}

/// The state is borrowed from its lock, so that the group's first process is not reaped in between.
fn signal_held(state: &State, group: u32, signal: Signal) {
    if !state.groups.contains_key(&group) {
        return;
    }
    if let Some(number) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(number, signal);
    }
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Scan {
    /// In the process groups that the tree started.
    pub members: Vec<Process>,
    /// Outside of them, known by the mark in their environment.
    pub strays: Vec<Process>,
}

impl Scan {
    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.strays.is_empty()
    }
    /// All of it, as a receipt names it.
    pub fn seen(&self) -> Vec<Seen> {
        self.members.iter().chain(&self.strays).map(Process::seen).collect()
    }
}

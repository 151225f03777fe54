//! Killing the tree of a shim: round by round until it has no child.
//!
//! The cgroup kills at once and cannot be outrun. The walk can: a process may be born while it goes by. But a child of
//! a killed parent is ours, so the next round finds it; and nothing is reaped between a look and its kills, so no number
//! of a child of ours is given away meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, openat};
use rustix::process::Signal;

use super::super::pidfd::Process;
use super::super::{Seen, walk};
use super::report::NAMED;

/// How long a shim waits for a host that does not take its last words.
pub const LAST_WORD: Duration = Duration::from_secs(1);

/// Rounds that follow each other closely.
pub const CLOSE: u32 = 50;

/// The first rounds follow each other closely. What does not die then is stuck in the kernel, and looked at now and then.
/// `round` counts from the last one that found something new.
pub fn pause(round: u32) -> Duration {
    match round {
        0..CLOSE => Duration::from_millis(2),
        50..100 => Duration::from_millis(20),
        _ => Duration::from_secs(1),
    }
}

/// What was killed.
#[derive(Debug, Default)]
pub struct Killed {
    /// By number and start time: numbers come again.
    named: BTreeMap<(u32, u64), String>,
    /// All of them: what dies slowly is found by more than one round.
    known: BTreeSet<(u32, u64)>,
    /// Beyond those.
    more: u64,
}

/// Processes that are counted once for certain; beyond that they are killed all the same.
const KNOWN: usize = 65_536;

impl Killed {
    /// Kills all that is there. True: there was something that no round before has seen.
    pub fn round(&mut self, group: Option<BorrowedFd<'_>>) -> bool {
        let before = self.total();
        let found = walk::below(&[std::process::id()]);
        if let Some(group) = group
            && let Ok(kill) = openat(group, "cgroup.kill", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        {
            let _ = rustix::io::write(kill, b"1");
        }
        for stat in found {
            let Some(process) = Process::found(&stat, |_| true) else {
                // Gone with the group, or by itself: only what was there to be killed is named.
                if group.is_some() {
                    self.note(stat.pid, stat.start, stat.name);
                }
                continue;
            };
            if process.reach(Signal::KILL).is_ok_and(|reached| reached) {
                self.note(stat.pid, stat.start, stat.name);
            }
        }
        self.total() > before
    }

    fn note(&mut self, pid: u32, start: u64, name: String) {
        if self.known.len() >= KNOWN {
            self.more += u64::from(!self.known.contains(&(pid, start)));
        } else if self.known.insert((pid, start)) && self.named.len() < NAMED {
            self.named.insert((pid, start), name);
        }
    }

    /// The first [`NAMED`] of them.
    pub fn named(&self) -> Vec<Seen> {
        self.named.iter().map(|((pid, _), name)| Seen { pid: *pid, name: name.clone() }).collect()
    }

    /// How many.
    pub fn total(&self) -> u64 {
        self.known.len() as u64 + self.more
    }
}

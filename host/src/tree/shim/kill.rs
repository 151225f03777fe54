//! Killing the tree of a shim: round by round until it has no child.
//!
//! The cgroup kills at once and cannot be outrun. The walk can: a process may be born while it goes by. But a child of
//! a killed parent is ours, so the next round finds it; and nothing is reaped between a look and its kills, so no number
//! of a child of ours is given away meanwhile.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, openat};
use rustix::process::Signal;

use super::super::pidfd::Process;
use super::super::{Seen, walk};
use super::report::NAMED;

/// How long a shim waits for a host that does not take its last words.
pub const LAST_WORD: Duration = Duration::from_secs(1);

/// The first rounds follow each other closely; what does not die then is stuck in the kernel, and looked at now and then.
pub fn pause(round: u32) -> Duration {
    match round {
        0..50 => Duration::from_millis(2),
        50..100 => Duration::from_millis(20),
        _ => Duration::from_secs(1),
    }
}

/// What was killed.
#[derive(Debug, Default)]
pub struct Killed {
    /// By number and start time: numbers come again.
    named: BTreeMap<(u32, u64), String>,
    more: u64,
}

impl Killed {
    /// Kills all that is there.
    pub fn round(&mut self, group: Option<BorrowedFd<'_>>) {
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
            if process.signal(Signal::KILL).is_ok() {
                self.note(stat.pid, stat.start, stat.name);
            }
        }
    }

    fn note(&mut self, pid: u32, start: u64, name: String) {
        if self.named.len() < NAMED {
            self.named.insert((pid, start), name);
        } else if !self.named.contains_key(&(pid, start)) {
            self.more += 1;
        }
    }

    /// The first [`NAMED`] of them.
    pub fn named(&self) -> Vec<Seen> {
        self.named.iter().map(|((pid, _), name)| Seen { pid: *pid, name: name.clone() }).collect()
    }

    /// How many.
    pub fn total(&self) -> u64 {
        self.named.len() as u64 + self.more
    }
}

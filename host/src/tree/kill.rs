//! TERM and KILL to a whole tree, and the looks that find it.
//!
//! The cgroup is killed by the kernel, at once; each shim kills what is below it; and the host kills what it can see by
//! itself, so that no shim that was stopped or killed holds anything up. Every process is signalled by pidfd. What was
//! born while a look went by is found by the next: a kill goes round until it finds nothing.

use std::collections::BTreeSet;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::pidfd::Process;
use super::proc::Stat;
use super::{Inner, Seen, adopt, control, proc, scan, walk};

/// How long a kill goes on, at most.
const KILL_TIME: Duration = Duration::from_millis(1_000);
/// How long one round of a kill waits for what it killed.
const ROUND_TIME: Duration = Duration::from_millis(100);
/// How long a kill waits for the look before it, until the shims are told to kill by themselves.
const LOOK_TIME: Duration = Duration::from_millis(150);
/// Processes that are held at once, to wait for them.
const HELD: usize = 64;
/// A shim that has not ended its tree after so long is killed: what was below it comes to the host.
const SHIM_TIME: Duration = Duration::from_millis(400);

/// How the look of one round goes.
#[derive(Debug, Default)]
struct Look {
    /// What it has found is being killed.
    is_over: AtomicBool,
    /// The shims were told before it was over.
    was_late: AtomicBool,
}

impl Inner {
    /// What lives below the shims, in the cgroup, and, of shims that were killed, below the host. Blocks for less than
    /// a millisecond where little runs.
    fn look(&self) -> Vec<Stat> {
        let (shims, group, orphaned) = {
            let state = self.lock();
            (state.shims.keys().copied().collect::<Vec<u32>>(), state.group.clone(), state.orphaned)
        };
        let mut found: Vec<Stat> = if shims.is_empty() { Vec::new() } else { walk::below(&shims) };
        found.extend(group.iter().flat_map(super::cgroup::Group::members));
        if orphaned > 0 {
            found.extend(self.orphans());
        }
        found
    }

    /// What came to the host from a shim that was killed, and may be of this run: all but what is another's for certain, and
    /// what was there before it.
    fn orphans(&self) -> Vec<Stat> {
        let mut orphans = adopt::orphans();
        orphans.retain(|stat| stat.start >= self.since && adopt::whose(stat).is_none_or(|run| run == self.run));
        orphans
    }

    /// All of it, and what lives anywhere with the mark of this run. Blocks for some milliseconds; an error where something
    /// could not be seen, or the looks at all processes hang.
    pub fn find(&self) -> io::Result<Vec<Stat>> {
        let mut found = proc::whole(|| self.look())?;
        found.extend(scan::marked(self.run, self.since)?);
        found.sort_unstable_by_key(|stat| stat.pid);
        found.dedup_by_key(|stat| stat.pid);
        Ok(found)
    }

    /// TERM to all that is found.
    pub async fn terminate_all(self: Arc<Self>) {
        let inner = Arc::clone(&self);
        let told = control(&self.handle, move || {
            let term = |found: Vec<Stat>| {
                for process in found.iter().filter_map(|stat| Process::found(stat, |_| true)) {
                    let _ = process.signal(Signal::TERM);
                    // A stopped process takes its TERM only when it goes on.
                    let _ = process.signal(Signal::CONT);
                }
            };
            // What is at hand first: the look for marks takes longer, and may hang.
            let at_hand = inner.look();
            let known: BTreeSet<u32> = at_hand.iter().map(|stat| stat.pid).collect();
            term(at_hand);
            let mut others = inner.find().unwrap_or_default();
            others.retain(|stat| !known.contains(&stat.pid));
            term(others);
        });
        // A look that hangs goes on without us.
        let _ = tokio::time::timeout(KILL_TIME, told).await;
    }

    /// Kills round by round until nothing is found.
    pub async fn kill_all(self: Arc<Self>) {
        let begun = Instant::now();
        let mut first = true;
        loop {
            let mut changes = self.alive.subscribe();
            let inner = Arc::clone(&self);
            let impatient = begun.elapsed() >= SHIM_TIME;
            // The marks are looked for once the rest is gone: that look is the slowest.
            let thorough = !first;
            let look = Arc::new(Look::default());
            let looking = Arc::clone(&look);
            let round = control(&self.handle, move || inner.kill_round(thorough, impatient, &looking));
            let mut round = pin!(tokio::time::timeout(KILL_TIME, round));
            let found = 'looked: {
                // A look that takes long, or hangs, is no reason to let them live. The shims look for themselves before they
                // kill; were the cgroup killed under their eyes, nobody would have counted what was in it.
                for (patience, all) in [(LOOK_TIME, false), (SHIM_TIME, true)] {
                    if let Ok(found) = tokio::time::timeout(patience, &mut round).await {
                        break 'looked found;
                    }
                    if look.is_over.load(Ordering::Acquire) {
                        break;
                    }
                    look.was_late.store(true, Ordering::Release);
                    let inner = Arc::clone(&self);
                    let _ = control(&self.handle, move || if all { inner.strike(impatient) } else { inner.tell_shims(impatient) }).await;
                }
                round.await
            };
            let Ok(Ok(found)) = found else { return };
            let alive = tokio::time::timeout(ROUND_TIME, changes.wait_for(|alive| *alive == 0)).await.is_err();
            if (!first && found == 0 && !alive) || begun.elapsed() >= KILL_TIME {
                return;
            }
            first = false;
        }
    }

    /// Kills what it finds; gives how many that were. The look comes before the shims are told: were both at work at the
    /// same time, each would miss what the other has killed, and nobody would have counted all.
    fn kill_round(self: Arc<Self>, thorough: bool, impatient: bool, look: &Look) -> usize {
        let found = if thorough { self.find().unwrap_or_else(|_| self.look()) } else { self.look() };
        look.is_over.store(true, Ordering::Release);
        for stat in &found {
            // Held one after the other: a tree may have more processes than we may have descriptors.
            let process = Process::found(stat, |_| true);
            let reached = process.as_ref().is_some_and(|process| process.reach(Signal::KILL).is_ok_and(|reached| reached));
            // One that a shim was quicker to kill, at our word, may be on nobody's list but this.
            if reached || look.was_late.load(Ordering::Acquire) {
                self.lock().killed.note(Seen { pid: stat.pid, name: stat.name.clone() });
            }
            let Some(process) = process else { continue };
            // What no shim will tell of.
            if thorough {
                self.follow(process);
            }
        }
        self.strike(impatient);
        found.len()
    }

    /// The cgroup is killed, and the shims are told to kill.
    fn strike(&self, impatient: bool) {
        let group = self.lock().group.clone();
        if let Some(group) = group
            && let Err(error) = group.kill()
        {
            tracing::debug!(run = %self.run, %error, "its cgroup cannot be killed");
        }
        self.tell_shims(impatient);
    }

    fn tell_shims(&self, impatient: bool) {
        let state = self.lock();
        // One that its program stopped before it could say that the program runs.
        for shim in state.beginning.values() {
            let _ = shim.signal(if impatient { Signal::KILL } else { Signal::CONT });
        }
        for shim in state.shims.values() {
            shim.kill();
            if impatient {
                let _ = shim.process.signal(Signal::KILL);
            }
        }
    }

    /// Kills what came to the host from a shim that was killed, as long as a kill takes.
    pub async fn kill_orphans(self: Arc<Self>) {
        let begun = Instant::now();
        loop {
            let inner = Arc::clone(&self);
            let killed = control(&self.handle, move || {
                let mut killed = Vec::new();
                for process in inner.orphans().iter().filter_map(|stat| Process::found(stat, |_| true)) {
                    if process.reach(Signal::KILL).is_ok_and(|reached| reached) {
                        inner.lock().killed.note(process.seen());
                    }
                    // Some are enough to wait for.
                    if killed.len() < HELD {
                        killed.push(process);
                    }
                }
                killed
            });
            let Ok(Ok(killed)) = tokio::time::timeout(KILL_TIME, killed).await else { return };
            if killed.is_empty() || begun.elapsed() >= KILL_TIME {
                return;
            }
            for process in killed {
                if let Ok(watched) = process.watch(&self.handle) {
                    let _ = tokio::time::timeout(ROUND_TIME, watched.ended()).await;
                }
            }
        }
    }
}

//! The limits of one tree: the groups that hold them, and the word of the kernel when one is reached.
//!
//! Memory: the kernel kills within the group when it can free nothing more. Processes: a fork is refused. CPU time: what
//! wants more waits, and nobody is told. The kernel notifies of a change (`memory.events` and `pids.events` of version 2
//! by `POLLPRI`, memory of version 1 by an eventfd). Kernels from 6.11 on tell of refused forks in version 1 only to those
//! who look: there, a run with that limit is looked at once a second.
//!
//! What is over a limit above ours (the host's own) is not counted as a breach, as far as the kernel tells them apart.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::EventfdFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::super::register;
use super::controllers::{Controller, Controllers, Way};
use super::{Group, place};
use crate::config::TreeLimits;

/// The period over which CPU time is shared out: the kernel's default, 100 ms.
const CPU_PERIOD_US: u32 = 100_000;

/// Between two looks at a limit of which the kernel does not tell.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// The kernel killed for memory.
    Memory,
    /// A fork was refused.
    Processes,
}

/// What holds the limits of a tree, until it is dropped and its groups removed.
#[derive(Debug)]
pub struct Held {
    /// Of version 1, which each child enters.
    groups: Vec<Group>,
    memory: Option<Memory>,
    processes: Option<Processes>,
    found: watch::Sender<Option<Breach>>,
}

/// Tells of memory.
#[derive(Debug)]
enum Memory {
    /// `memory.events`
    V2 { events: AsyncFd<Arc<OwnedFd>> },
    /// An eventfd that the kernel writes to, and the most that was ever used.
    V1 { told: AsyncFd<Arc<OwnedFd>>, control: File, peak: File, most: u64 },
}

/// Tells of processes.
#[derive(Debug)]
struct Processes {
    events: AsyncFd<Arc<OwnedFd>>,
    /// The most there ever were (Linux 6.6).
    peak: Option<File>,
    now: File,
    most: u32,
    /// A child enters a group of version 1 after it was born, which the kernel always lets it.
    enters: bool,
}

impl Held {
    /// Makes the groups, with their limits. `group` is the run's own of version 2, where there is one. When this fails,
    /// groups that were made are removed again, but for that one.
    pub fn hold(controllers: &Controllers, group: Option<&Group>, run: &str, limits: &TreeLimits, runtime: &Handle) -> io::Result<Self> {
        let mut held = Self { groups: Vec::new(), memory: None, processes: None, found: watch::Sender::new(None) };
        match held.make(controllers, group, run, limits, runtime) {
            Ok(()) => Ok(held),
            Err(error) => {
                for group in held.groups {
                    let _ = group.remove();
                }
                Err(error)
            }
        }
    }

    fn make(
        &mut self,
        controllers: &Controllers,
        group: Option<&Group>,
        run: &str,
        limits: &TreeLimits,
        runtime: &Handle,
    ) -> io::Result<()> {
        for controller in Controller::ALL.into_iter().filter(|controller| controller.is_wanted(limits)) {
            let way = controllers.way(controller).map_err(|why| io::Error::other(why.to_owned()))?;
            let (group, v1) = match way {
                Way::V2 => (group.cloned().ok_or_else(|| io::Error::other("the run has no cgroup of version 2"))?, false),
                Way::V1(dir) => {
                    let dir = dir.join(run);
                    place::make_all(&dir)?;
                    let group = Group { dir };
                    self.groups.push(group.clone());
                    (group, true)
                }
            };
            let dir = group.dir();
            match controller {
                Controller::Memory => self.memory = limits.memory.map(|most| memory(dir, v1, most, runtime)).transpose()?,
                Controller::Processes => self.processes = limits.processes.map(|most| processes(dir, v1, most, runtime)).transpose()?,
                Controller::Cpu => {
                    if let Some(cpus) = limits.cpu {
                        cpu(dir, v1, cpus.micros_in_100_ms())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The groups of version 1.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Files that a child writes `0` into before it executes. Full groups are full for it, too.
    pub fn enter(&self) -> io::Result<Vec<OwnedFd>> {
        if let Some(processes) = self.processes.as_ref().filter(|processes| processes.enters)
            && number(&processes.now)?.is_some_and(|now| now >= u64::from(processes.most))
        {
            self.found.send_replace(Some(Breach::Processes));
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        let open = |group: &Group| File::options().write(true).open(group.dir().join("cgroup.procs")).map(OwnedFd::from);
        self.groups.iter().map(open).collect()
    }

    /// Looks whether a limit was reached; once it was, that stays.
    pub fn look(&self) -> Option<Breach> {
        let known = *self.found.borrow();
        let memory = || self.memory.as_ref().filter(|memory| memory.is_reached()).map(|_| Breach::Memory);
        let processes = || self.processes.as_ref().filter(|processes| processes.is_reached()).map(|_| Breach::Processes);
        let found = known.or_else(memory).or_else(processes);
        if found.is_some() && known.is_none() {
            self.found.send_replace(found);
        }
        found
    }

    /// Waits until a limit is reached.
    pub async fn breach(&self) -> Breach {
        let mut found = self.found.subscribe();
        loop {
            if let Some(breach) = self.look() {
                return breach;
            }
            let memory = self.memory.as_ref().map(|memory| match memory {
                Memory::V2 { events } => (events, Interest::PRIORITY),
                Memory::V1 { told, .. } => (told, Interest::READABLE),
            });
            tokio::select! {
                _ = found.changed() => {}
                () = told(memory) => {}
                () = told(self.processes.as_ref().map(|processes| (&processes.events, Interest::PRIORITY))) => {}
                () = look_again(self.processes.as_ref().is_some_and(|processes| processes.enters)) => {}
            }
        }
    }
}

/// Where the kernel does not tell, it is asked: only for a run that has such a limit.
async fn look_again(is_mute: bool) {
    if is_mute {
        tokio::time::sleep(LOOK_AGAIN).await;
    } else {
        std::future::pending().await
    }
}

/// Waits for the kernel's word; for ever where it has none to give.
async fn told(by: Option<(&AsyncFd<Arc<OwnedFd>>, Interest)>) {
    if let Some((by, interest)) = by
        && let Ok(mut ready) = by.ready(interest).await
    {
        ready.clear_ready();
        return;
    }
    std::future::pending().await
}

impl Memory {
    fn is_reached(&self) -> bool {
        match self {
            // `oom`: the limit of this very group, or of one within it, was reached and nothing could be freed.
            Self::V2 { events } => count(events.get_ref(), "oom").is_some_and(|count| count > 0),
            // The word comes before the kill is counted, and also when the limit was that of a group above.
            Self::V1 { told, control, peak, most } => {
                let told = rustix::io::read(told.get_ref(), &mut [0u8; 8]).is_ok();
                let killed = || count(control, "oom_kill").is_some_and(|count| count > 0);
                // Up to a few pages, which are charged together.
                (told || killed()) && number(peak).ok().flatten().is_none_or(|peak| peak >= most - most / 16)
            }
        }
    }
}

impl Processes {
    fn is_reached(&self) -> bool {
        // In version 1, and before 6.11, also a fork counts that a group above refused.
        count(self.events.get_ref(), "max").is_some_and(|count| count > 0)
            && self.peak.as_ref().is_none_or(|peak| !matches!(number(peak), Ok(Some(peak)) if peak < u64::from(self.most)))
    }
}

fn memory(dir: &Path, v1: bool, most: u64, runtime: &Handle) -> io::Result<Memory> {
    let bytes = most.to_string();
    if !v1 {
        put(dir, "memory.max", &bytes)?;
        put_if_there(dir, "memory.swap.max", "0")?;
        // What belongs together ends together (Linux 4.19).
        put_if_there(dir, "memory.oom.group", "1")?;
        return Ok(Memory::V2 { events: notified(dir, "memory.events", runtime)? });
    }
    // Always so since Linux 5.11.
    let _ = std::fs::write(dir.join("memory.use_hierarchy"), "1");
    put(dir, "memory.limit_in_bytes", &bytes)?;
    // With swap; kernels that do not count that are asked not to swap.
    if !put_if_there(dir, "memory.memsw.limit_in_bytes", &bytes)? {
        put_if_there(dir, "memory.swappiness", "0")?;
    }
    let control = File::open(dir.join("memory.oom_control"))?;
    let told: OwnedFd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let order = format!("{} {}", told.as_raw_fd(), control.as_raw_fd());
    put(dir, "cgroup.event_control", &order)?;
    let peak = File::open(dir.join("memory.max_usage_in_bytes"))?;
    Ok(Memory::V1 { told: register(runtime, Arc::new(told), Interest::READABLE)?, control, peak, most })
}

fn processes(dir: &Path, v1: bool, most: u32, runtime: &Handle) -> io::Result<Processes> {
    put(dir, "pids.max", &most.to_string())?;
    let peak = File::open(dir.join("pids.peak")).ok();
    let now = File::open(dir.join("pids.current"))?;
    Ok(Processes { events: notified(dir, "pids.events", runtime)?, peak, now, most, enters: v1 })
}

fn cpu(dir: &Path, v1: bool, quota: u32) -> io::Result<()> {
    if !v1 {
        return put(dir, "cpu.max", &format!("{quota} {CPU_PERIOD_US}"));
    }
    put(dir, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
    match put(dir, "cpu.cfs_quota_us", &quota.to_string()) {
        // More than a group above has is refused there; then that group holds the limit, and a lower one.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput && is_tighter_above(dir, quota) => Ok(()),
        other => other,
    }
}

/// Whether a group above has a smaller share of CPU time.
fn is_tighter_above(dir: &Path, quota: u32) -> bool {
    let read = |dir: &Path, name: &str| std::fs::read_to_string(dir.join(name)).ok()?.trim().parse::<f64>().ok();
    dir.ancestors()
        .skip(1)
        .map_while(|above| Some((read(above, "cpu.cfs_quota_us")?, read(above, "cpu.cfs_period_us")?)))
        .any(|(share, period)| share > 0.0 && period > 0.0 && share / period <= f64::from(quota) / f64::from(CPU_PERIOD_US))
}

fn put(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let file = dir.join(name);
    std::fs::write(&file, text)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write `{text}` into {}: {error}", file.display())))
}

/// Whether it is there.
fn put_if_there(dir: &Path, name: &str, text: &str) -> io::Result<bool> {
    if !dir.join(name).exists() {
        return Ok(false);
    }
    put(dir, name, text).map(|()| true)
}

/// A file whose changes the kernel tells of. It was read once: only what comes after that is told.
fn notified(dir: &Path, name: &str, runtime: &Handle) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    let file = File::open(dir.join(name))?;
    text(&file)?;
    register(runtime, Arc::new(file.into()), Interest::PRIORITY)
}

/// From its beginning: reading takes the kernel's word as heard.
fn text(file: impl AsFd) -> io::Result<String> {
    let mut bytes = [0u8; 4096];
    let count = rustix::io::pread(file, &mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

/// The number behind a word.
fn count(file: impl AsFd, word: &str) -> Option<u64> {
    count_in(&text(file).ok()?, word)
}

fn count_in(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once(' ').filter(|(found, _)| *found == word)?.1.trim().parse().ok())
}

/// A file that is a number; none where it is a word.
fn number(file: &File) -> io::Result<Option<u64>> {
    let mut bytes = [0u8; 64];
    let count = file.read_at(&mut bytes, 0)?;
    Ok(std::str::from_utf8(&bytes[..count]).ok().and_then(|text| text.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_the_kernel_are_read() {
        let events = "low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!((count_in(events, "oom"), count_in(events, "oom_kill"), count_in(events, "none")), (Some(2), Some(1), None));
        assert_eq!(count_in("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
    }

    #[test]
    fn a_share_above_that_is_smaller_holds_a_larger_one() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("falconer/run");
        std::fs::create_dir_all(&run).unwrap();
        let write = |dir: &Path, quota: &str| {
            std::fs::write(dir.join("cpu.cfs_quota_us"), quota).unwrap();
            std::fs::write(dir.join("cpu.cfs_period_us"), "50000\n").unwrap();
        };
        write(dir.path(), "25000\n");
        write(&dir.path().join("falconer"), "-1\n");
        assert!(is_tighter_above(&run, 60_000));
        assert!(!is_tighter_above(&run, 40_000));
    }
}

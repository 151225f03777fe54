//! What `/proc` says about processes (proc_pid_stat(5), proc_pid_environ(5)).
//!
//! Reads only. A process that ends meanwhile is not there: every reader answers with an error or `None` then, and
//! nothing here decides what that means. A number alone is never an identity: [`super::pidfd`] pairs it with a pidfd.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use crate::id::RunId;

/// The variable that marks the processes of a run.
pub const MARK: &str = "FALCONER_RUN_ID";

/// Room for what a file of `/proc` says, at first.
const ROOM: usize = 1024;

/// How long a process may be in the middle of an execve(2) until a look has missed it.
const EXECUTED: Duration = Duration::from_millis(100);

/// How often an environment is read that is there and shows nothing.
const LOOKS: u32 = 3;

/// `PF_KTHREAD`, of field 9.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Generations that are looked at, at most.
const GENERATIONS: usize = 256;

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its id while it lives.
    pub pid: u32,
    /// Field 2, without the brackets; at most 15 bytes.
    pub name: String,
    /// Field 3: `R`, `S`, `D`, `Z`, `T` …
    pub state: u8,
    /// Field 4.
    pub parent: u32,
    /// Field 5.
    pub group: u32,
    /// Field 6.
    pub session: u32,
    /// Field 20. Above one, a zombie is only the first thread of a process that lives.
    pub threads: u32,
    /// Field 22: when it started, in clock ticks after boot.
    pub start: u64,
}

impl Stat {
    /// It has not ended: neither dead nor a zombie, unless other threads of it live.
    pub fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x') || self.threads > 1
    }
}

/// What a file of `/proc` says. Nobody asks for its size first, which is none.
pub fn text(path: &str) -> io::Result<Vec<u8>> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| missed(errno.into()))?;
    let mut text = Vec::with_capacity(ROOM);
    while rustix::io::retry_on_intr(|| rustix::io::read(&file, rustix::buffer::spare_capacity(&mut text)))? > 0 {
        text.reserve(ROOM);
    }
    Ok(text)
}

thread_local! {
    /// Why this thread's look may have missed something.
    static BLIND: Cell<Option<i32>> = const { Cell::new(None) };
}

/// Looks, and gives what was seen only where nothing was missed for want of descriptors or memory. What is gone meanwhile,
/// or another user's, is not missed.
pub fn whole<T>(look: impl FnOnce() -> T) -> io::Result<T> {
    BLIND.set(None);
    let seen = look();
    match BLIND.take() {
        None => Ok(seen),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Remembers that something could not be seen.
pub fn missed(error: io::Error) -> io::Error {
    if let Some(errno @ (libc::EMFILE | libc::ENFILE | libc::ENOMEM)) = error.raw_os_error() {
        BLIND.set(Some(errno));
    }
    error
}

/// Reads one process.
pub fn stat(pid: u32) -> io::Result<Stat> {
    let text = text(&format!("/proc/{pid}/stat"))?;
    parse(pid, &text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has another form")))
}

/// The name may hold blanks and brackets, so the fields after it are counted from the last bracket.
fn parse(pid: u32, text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let name = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
    let mut fields = std::str::from_utf8(text.get(close + 1..)?).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let threads = fields.nth(13)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    Some(Stat { pid, name, state, parent, group, session, threads, start })
}

/// Every process that is there now.
pub fn all() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc").map_err(missed) else { return Vec::new() };
    entries.filter_map(|entry| stat(entry.ok()?.file_name().to_str()?.parse().ok()?).ok()).collect()
}

/// A process and those above it, as they are now; nearest first. A number that was given to another process meanwhile
/// is not noticed.
pub fn with_ancestors(pid: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(pid), |pid| stat(*pid).ok().map(|stat| stat.parent).filter(|parent| *parent > 0)).take(GENERATIONS)
}

/// Whether it belongs to our user (or we are root, who may look at everyone's).
pub fn is_ours(pid: u32) -> bool {
    let me = rustix::process::geteuid();
    me.is_root() || std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| meta.uid() == me.as_raw())
}

/// The run whose mark it carries in its environment, as that was when it was executed. A process in the middle of an
/// execve(2) has no environment for some microseconds; it is looked at again, and missed where that takes longer.
pub fn mark(pid: u32) -> Option<RunId> {
    let until = Instant::now() + EXECUTED;
    let mut unreadable = 0;
    loop {
        let environ = text(&format!("/proc/{pid}/environ")).ok()?;
        if !environ.is_empty() {
            return mark_in(&environ);
        }
        match environment(pid)? {
            Environment::Empty => return None,
            // The first thread may have ended before the others; each of them shows the same.
            Environment::OfThreads => {
                let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(missed).ok()?;
                return tasks.flatten().find_map(|task| mark_in(&std::fs::read(task.path().join("environ")).map_err(missed).ok()?));
            }
            Environment::There if unreadable >= LOOKS => return None,
            Environment::There => unreadable += 1,
            Environment::NotYet if Instant::now() < until => std::thread::yield_now(),
            Environment::NotYet => {
                BLIND.set(Some(libc::EAGAIN));
                return None;
            }
        }
    }
}

/// Why a process shows no environment.
#[derive(Debug, PartialEq, Eq)]
enum Environment {
    /// It has none: executed with an empty one, a thread of the kernel, or ended.
    Empty,
    /// Its first thread has ended, others live.
    OfThreads,
    /// It is being executed.
    NotYet,
    /// It has one: it was being executed when that was read, or it made it unreadable.
    There,
}

fn environment(pid: u32) -> Option<Environment> {
    environment_in(&text(&format!("/proc/{pid}/stat")).ok()?)
}

fn environment_in(stat: &[u8]) -> Option<Environment> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let fields: Vec<&str> = std::str::from_utf8(stat.get(close + 1..)?).ok()?.split_ascii_whitespace().collect();
    // Numbered as in proc_pid_stat(5), where the first one after the name is 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let kernel = field(9)? & KERNEL_THREAD != 0;
    Some(match (fields.first()?.as_bytes(), field(20)?) {
        (b"Z" | b"X" | b"x", threads) if threads > 1 => Environment::OfThreads,
        (b"Z" | b"X" | b"x", _) => Environment::Empty,
        _ if kernel => Environment::Empty,
        // An execve(2) says where the code begins when all the rest is there.
        _ if field(26)? == 0 => Environment::NotYet,
        _ if field(50)? == field(51)? => Environment::Empty,
        _ => Environment::There,
    })
}

fn mark_in(environ: &[u8]) -> Option<RunId> {
    environ.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=")?;
        OsStr::from_bytes(value).to_str()?.parse().ok()
    })
}

/// Which boot this is (`/proc/sys/kernel/random/boot_id`): numbers and start times mean nothing in another.
pub fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Now, in the unit of [`Stat::start`].
pub fn ticks_now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let per_second = rustix::param::clock_ticks_per_second();
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * per_second + nanos * per_second / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let text = b"4711 (a) R (b c) S 1 42 43 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 987654 0 0";
        let stat = parse(4711, text).unwrap();
        assert_eq!(
            stat,
            Stat { pid: 4711, name: "a) R (b c".into(), state: b'S', parent: 1, group: 42, session: 43, threads: 1, start: 987_654 }
        );
        assert!(parse(1, b"1 (x").is_none());
        assert!(parse(1, b"").is_none());
    }

    #[test]
    fn why_an_environment_is_not_shown() {
        let line = |state: char, flags: u64, threads: u32, [code, start, end]: [u64; 3]| {
            let zeros = |count: usize| " 0".repeat(count);
            let text =
                format!("7 (x y) {state}{} {flags}{} {threads}{} {code}{} {start} {end} 0", zeros(5), zeros(10), zeros(5), zeros(23));
            environment_in(text.as_bytes()).unwrap()
        };
        assert_eq!(line('R', 0, 1, [0, 0, 0]), Environment::NotYet);
        assert_eq!(line('R', 0, 1, [0, 5000, 5000]), Environment::NotYet);
        assert_eq!(line('R', 0, 1, [4000, 5000, 5000]), Environment::Empty);
        assert_eq!(line('R', 0, 1, [4000, 5000, 6000]), Environment::There);
        assert_eq!(line('S', KERNEL_THREAD, 1, [0, 0, 0]), Environment::Empty);
        assert_eq!(line('Z', 0, 1, [0, 0, 0]), Environment::Empty);
        assert_eq!(line('Z', 0, 3, [0, 0, 0]), Environment::OfThreads);
    }

    #[test]
    fn this_process_started_in_the_past() {
        let me = stat(std::process::id()).unwrap();
        assert!(me.start <= ticks_now());
        assert!(me.lives());
        assert!(is_ours(std::process::id()));
        assert!(all().iter().any(|other| other.pid == me.pid && other.start == me.start));
    }
}

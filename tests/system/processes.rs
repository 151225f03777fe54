//! Native processes, as `/proc` shows them.

use std::fs;
use std::path::{Path, PathBuf};

/// A process that was seen alive: a pid alone may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub pid: u32,
    started: u64,
}

impl Seen {
    /// The process with this pid, if it lives.
    pub fn of(pid: u32) -> Option<Self> {
        let (state, started) = stat(pid)?;
        (state != 'Z' && state != 'X').then_some(Self { pid, started })
    }
    pub fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
    pub fn kill(self) {
        if self.lives()
            && let Some(pid) = rustix::process::Pid::from_raw(self.pid.cast_signed())
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    /// A field of `/proc/PID/status`, in bytes.
    pub fn memory(self, field: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1_024)
    }
}

/// State and start time: fields 3 and 22 of `proc_pid_stat(5)`, counted behind the name, which may hold anything.
fn stat(pid: u32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.get(text.rfind(')')? + 2..)?.split(' ');
    Some((fields.next()?.chars().next()?, fields.nth(18)?.parse().ok()?))
}

/// Field 6 of `proc_pid_stat(5)`; 0 where the session is outside our pid namespace.
pub fn session_of(pid: u32) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    text[text.rfind(')').unwrap() + 2..].split(' ').nth(3).unwrap().parse().unwrap()
}

/// All processes whose environment holds this text, as far as we may look.
pub fn with_environment(text: &str) -> Vec<Seen> {
    all()
        .filter(|pid| fs::read(format!("/proc/{pid}/environ")).is_ok_and(|bytes| holds(&bytes, text.as_bytes())))
        .filter_map(Seen::of)
        .collect()
}

/// All processes that have this text in their arguments.
pub fn carrying(text: &str) -> Vec<Seen> {
    all()
        .filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|bytes| holds(&bytes, text.as_bytes())))
        .filter_map(Seen::of)
        .collect()
}

/// All processes that run this program.
pub fn of_program(program: &Path) -> Vec<Seen> {
    all().filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program)).filter_map(Seen::of).collect()
}

fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Sockets below this directory that somebody listens on: `/proc/net/unix` marks them with the flag 0x10000.
pub fn listening_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let path = PathBuf::from(fields.get(7)?);
            (fields.get(3) == Some(&"00010000") && path.starts_with(dir)).then_some(path)
        })
        .collect()
}

pub fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

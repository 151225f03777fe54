//! A look at the far end from outside: which of its processes live, and whose they are.

use std::fs;
use std::path::{Path, PathBuf};

use super::Sshd;
use crate::patience::until;
use crate::processes::Seen;

/// A process of a far machine.
#[derive(Debug, Clone)]
pub struct Process {
    pub seen: Seen,
    /// Its number on the far machine.
    pub inner: u32,
    pub arguments: Vec<String>,
    environment: Vec<String>,
    program: PathBuf,
    parent: u32,
}

impl Process {
    fn of(pid: u32) -> Option<Self> {
        let seen = Seen::of(pid)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().last()?.parse().ok());
        let (inner, parent) = (field("NSpid:")?, field("PPid:")?);
        let list = |file: &str| {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty()).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
        };
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        Some(Self { seen, inner, arguments: list("cmdline"), environment: list("environ"), program, parent })
    }

    fn all() -> impl Iterator<Item = Self> {
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter_map(Self::of)
    }

    /// All of one pid namespace, which is named as `/proc/PID/ns/pid` names it.
    pub(super) fn in_namespace(namespace: &Path) -> Vec<Self> {
        Self::all().filter(|process| fs::read_link(format!("/proc/{}/ns/pid", process.seen.pid)).is_ok_and(|is| is == namespace)).collect()
    }

    /// All that descend from a process, or have a mark in their environment; without that process.
    pub(super) fn below_or_marked(top: u32, mark: &str) -> Vec<Self> {
        let all: Vec<Self> = Self::all().collect();
        let mut of: Vec<u32> = vec![top];
        while let Some(next) = all.iter().find(|process| of.contains(&process.parent) && !of.contains(&process.seen.pid)) {
            of.push(next.seen.pid);
        }
        all.into_iter()
            .filter(|process| process.seen.pid != top)
            .filter(|process| of.contains(&process.seen.pid) || process.has(mark))
            .collect()
    }

    /// Whether its environment has this, `NAME=value`.
    pub fn has(&self, variable: &str) -> bool {
        self.environment.iter().any(|is| is == variable)
    }

    /// Whether it is sshd itself, in any of its parts.
    pub(super) fn is_sshd(&self) -> bool {
        self.program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("sshd"))
    }
}

impl Sshd {
    /// Everything that logins left or have running, marked or not: all its processes but sshd.
    pub fn processes(&self) -> Vec<Process> {
        self.members().into_iter().filter(|process| !process.is_sshd()).collect()
    }

    /// Its processes that belong to a run by their mark: the wrapper in all its parts, the command, and what came of it.
    pub fn far_processes(&self, run: &str) -> Vec<Process> {
        let marks = ["FALCONER_FAR_RUN", "FALCONER_RUN_ID", "FALCONER_WRAPPER"].map(|name| format!("{name}={run}"));
        let parts = format!("FALCONER_WRAPPER={run}-");
        let of_run = |process: &Process| process.environment.iter().any(|is| marks.contains(is) || is.starts_with(&parts));
        self.processes().into_iter().filter(of_run).collect()
    }

    /// Waits until nothing but sshd runs on it.
    #[track_caller]
    pub fn until_empty(&self) {
        until("the far end to be empty", || self.processes().is_empty().then_some(()));
    }

    /// Waits for a process that has this as its first argument: not for those that only lead to it, such as `env -i sleep N`.
    #[track_caller]
    pub fn until_runs(&self, argument: &str) -> Process {
        until(&format!("{argument} at the far end"), || {
            self.processes().into_iter().find(|process| process.arguments.get(1).is_some_and(|is| is == argument))
        })
    }
}

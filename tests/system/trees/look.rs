//! What lives, as `/proc` shows it, without a word of the host's.
//!
//! A process lives while one of its threads does: that its first one has ended, and the process has the state of a zombie,
//! says nothing. Each thread has the arguments and the environment of the process; the ended first one shows none.

use std::fs::{self, DirEntry};
use std::path::Path;

use crate::processes::{Seen, holds};

/// A living process of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    pub pid: u32,
    pub name: String,
}

impl Alive {
    /// Kills it, if it still fits.
    pub fn kill(&self, fits: impl Fn(&Path) -> bool) {
        let of_process = Path::new("/proc").join(self.pid.to_string());
        if fits(&of_process)
            && let Some(pid) = rustix::process::Pid::from_raw(self.pid.cast_signed())
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Whether one of the process's living threads shows this in this file.
pub fn shows(process: &Path, file: &str, text: &str) -> bool {
    let has = |thread: &Path| fs::read(thread.join(file)).is_ok_and(|bytes| holds(&bytes, text.as_bytes()));
    match state(process) {
        None => false,
        Some('Z' | 'X') => entries(&process.join("task"))
            .any(|thread| state(&thread.path()).is_some_and(|state| state != 'Z' && state != 'X') && has(&thread.path())),
        Some(_) => has(process),
    }
}

/// All processes that fit.
pub fn processes(fits: impl Fn(&Path) -> bool) -> Vec<Alive> {
    entries(Path::new("/proc"))
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let name = || fs::read_to_string(entry.path().join("comm")).unwrap_or_default().trim().to_owned();
            fits(&entry.path()).then(|| Alive { pid, name: name() })
        })
        .collect()
}

/// All processes with this among their arguments.
pub fn with_argument(text: &str) -> Vec<Alive> {
    processes(|process| shows(process, "cmdline", text))
}

/// All processes with the mark of this run in their environment.
pub fn with_mark(run: &str) -> Vec<Alive> {
    let mark = format!("FALCONER_RUN_ID={run}");
    processes(|process| shows(process, "environ", &mark))
}

/// The shims of this run.
pub fn shims(run: &str) -> Vec<Seen> {
    let is_shim = |process: &Path| {
        fs::read(process.join("cmdline")).is_ok_and(|words| words.split(|byte| *byte == 0).skip(1).take(2).eq([b"shim", run.as_bytes()]))
    };
    processes(is_shim).into_iter().filter_map(|shim| Seen::of(shim.pid)).collect()
}

fn entries(dir: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

/// Field 3 of `proc_pid_stat(5)`, behind the name, which may hold anything.
fn state(task: &Path) -> Option<char> {
    let text = fs::read_to_string(task.join("stat")).ok()?;
    text.get(text.rfind(')')? + 2..)?.chars().next()
}

#[test]
fn a_process_whose_first_thread_has_ended_lives() {
    use crate::patience::until;
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("bait-headless").to_str().unwrap().to_owned();
    let mut child = Command::new(falconer_bait::PROGRAM).args(["headless", &token]).stdout(Stdio::null()).spawn().unwrap();
    let process = Path::new("/proc").join(child.id().to_string());
    until("the first thread to end", || (state(&process) == Some('Z')).then_some(()));
    let found = with_argument(&token);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(found.iter().map(|alive| alive.pid).collect::<Vec<_>>(), [child.id()]);
    assert_eq!(with_argument(&token), []);
}

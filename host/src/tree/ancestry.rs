//! In which runs' trees a process lives: its own mark, and those of its ancestors.
//!
//! A program may clear the environment of its children, so a mark may stand a few generations up. Nothing is claimed
//! about processes that vanish while we look.

use super::proc;
use crate::id::RunId;

/// How many generations are looked up.
const GENERATIONS: usize = 64;

/// The runs whose mark a process or one of its ancestors carries, nearest first.
#[must_use]
pub fn mark_of(pid: u32) -> Vec<RunId> {
    let mut runs = Vec::new();
    let mut next = Some(pid);
    for _ in 0..GENERATIONS {
        let Some(pid) = next.filter(|pid| *pid > 1) else { break };
        runs.extend(proc::mark(pid).filter(|run| !runs.contains(run)));
        next = parent(pid);
    }
    runs
}

/// Its parent now (`PPid` of `/proc/PID/status`, proc(5)).
fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_with_a_cleared_environment_is_known_by_its_parent() {
        let run = RunId::random();
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "env -i /bin/sh -c 'echo $$; read line' & wait"])
            .env(proc::MARK, run.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = Vec::new();
        let mut out = shell.stdout.take().unwrap();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            out.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        let inner: u32 = String::from_utf8(line).unwrap().trim().parse().unwrap();
        assert_eq!(mark_of(inner), [run]);
        assert_eq!(mark_of(shell.id()), [run]);
        drop(shell.stdin.take());
        let _ = shell.kill();
        shell.wait().unwrap();
    }
}

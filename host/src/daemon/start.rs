//! Starts a daemon that belongs to nobody: the client's side of it; [`super::detach`] is the other one.
//!
//! The starter holds the lock already and hands it on as stdin, so only one process is ever started. stdout is a pipe
//! on which the daemon says, once, that it serves or why it cannot; stderr is the log file. This program is started
//! twice in a row, and the first one ends at once: so the daemon is no descendant of the client, which may end its
//! descendants with itself.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::lock::Lock;
use super::{LOG_FILE, START_LIMIT, code, log};
use crate::fault::Fault;

/// What a daemon keeps of its starter's environment; all else is either in the configuration or in a client's hello.
const KEPT_ENV: [&str; 5] = ["HOME", "LANG", "LC_ALL", "FALCONER_LOG", "RUST_BACKTRACE"];

/// The running program itself, also where its file was replaced meanwhile.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// What the daemon says on the pipe of its starter.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// It can be connected to.
    Ready,
    /// It cannot start.
    Failed(Fault),
}

/// A command for this program, as a daemon is to be started: nothing of our environment, no terminal, no directory.
pub fn command(stage: &str, args: &[OsString]) -> Command {
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0("falconer").args(["serve", "--detached", stage]).args(args).current_dir("/").env_clear();
    for name in KEPT_ENV {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Starts a daemon and waits until it serves.
///
/// # Errors
/// The daemon's own reason, or why it could not be started.
pub fn launch(lock: Lock, dir: &Utf8Path, args: &[OsString]) -> Result<(), Fault> {
    let failed = |error: io::Error| Fault::new(code::DAEMON_FAILED, format!("cannot start a daemon for {dir}: {error}"));
    let (report, reporter) = io::pipe().map_err(failed)?;
    let log = log::open(&dir.join(LOG_FILE)).map_err(failed)?;
    let mut child = {
        let mut command = command(super::detach::BEGIN, args);
        command.stdin(Stdio::from(lock.into_file())).stdout(Stdio::from(OwnedFd::from(reporter))).stderr(Stdio::from(log));
        // The command keeps its ends of the pipe and of the lock until it is dropped, here.
        command.spawn().map_err(failed)?
    };
    // Its exit code says nothing that the report does not; where our own starter ignores SIGCHLD there is none.
    drop(child.wait());
    match read_report(report, START_LIMIT).map_err(failed)? {
        Some(Report::Ready) => Ok(()),
        Some(Report::Failed(fault)) => Err(fault),
        None => Err(Fault::new(code::DAEMON_FAILED, format!("the daemon for {dir} did not start"))
            .hint(format!("its log says why: {}; `falconer serve` starts it in the foreground", dir.join(LOG_FILE)))),
    }
}

/// What the daemon says; `None` where it says nothing within the limit, or ends without a word.
fn read_report(mut pipe: io::PipeReader, within: Duration) -> io::Result<Option<Report>> {
    let deadline = Instant::now() + within;
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if !wait_readable(pipe.as_fd(), left)? {
            return Ok(None);
        }
        let count = pipe.read(&mut chunk)?;
        text.extend_from_slice(&chunk[..count]);
        if count == 0 || text.ends_with(b"\n") {
            return Ok(serde_json::from_slice(&text).ok());
        }
    }
}

fn wait_readable(fd: std::os::fd::BorrowedFd<'_>, within: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(within).map_err(io::Error::other)?;
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&limit)))? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_report_is_read_and_silence_is_none() {
        for report in [Report::Ready, Report::Failed(Fault::new("x", "y").hint("z"))] {
            let (reader, mut writer) = io::pipe().unwrap();
            serde_json::to_writer(&mut writer, &report).unwrap();
            writer.write_all(b"\n").unwrap();
            assert_eq!(read_report(reader, START_LIMIT).unwrap(), Some(report));
        }
        let (reader, writer) = io::pipe().unwrap();
        drop(writer);
        assert_eq!(read_report(reader, START_LIMIT).unwrap(), None, "ended without a word");
        let (reader, _writer) = io::pipe().unwrap();
        assert_eq!(read_report(reader, Duration::ZERO).unwrap(), None, "says nothing");
    }
}

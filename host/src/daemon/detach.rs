//! How a started process becomes a daemon of its own: the other side of [`super::start`].

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use camino::Utf8Path;
use rustix::io::fcntl_dupfd_cloexec;

use super::lock::Lock;
use super::start::{Report, command};
use super::{cgroup, code};
use crate::fault::Fault;

/// First stage: starts the second one and ends, so that nobody is the daemon's parent.
pub const BEGIN: &str = "begin";
/// Second stage: the daemon.
pub const GO: &str = "go";

/// The first descriptor that is none of stdin, stdout, stderr.
const FIRST_FREE: i32 = 3;

/// The first stage. The second one inherits stdin (the lock), stdout (the pipe of the starter) and stderr (the log).
///
/// # Errors
/// What execve(2) says.
pub fn begin(args: &[OsString]) -> io::Result<()> {
    // Nobody waits for it here: this process ends at once, and the system reaps the daemon.
    command(GO, args).spawn().map(drop)
}

/// What a daemon got from its starter.
pub struct Inherited {
    /// The lock of its data directory.
    pub lock: Lock,
    /// Who waits for it.
    pub starter: Starter,
}

/// Who waits for a daemon to start.
pub struct Starter(File);

impl Starter {
    /// The daemon serves.
    pub fn ready(self) {
        self.report(&Report::Ready);
    }

    /// The daemon cannot start.
    pub fn failed(self, fault: &Fault) {
        self.report(&Report::Failed(fault.clone()));
    }

    fn report(mut self, report: &Report) {
        let Ok(mut line) = serde_json::to_vec(report) else { return };
        line.push(b'\n');
        if let Err(error) = self.0.write_all(&line) {
            tracing::debug!(%error, "whoever started this daemon has not waited for it");
        }
    }
}

/// The second stage: a session of its own, out of the client's cgroup where possible, and the inherited descriptors put
/// where no child gets them. The umask stays: it is the person's, and the runs' files are theirs.
///
/// # Errors
/// When this process was not started by a falconer for this data directory.
pub fn go(dir: &Utf8Path) -> Result<Inherited, Fault> {
    let failed = |error: io::Error| {
        Fault::new(code::DAEMON_FAILED, format!("cannot detach for {dir}: {error}"))
            .hint("`--detached` is for falconer itself; `falconer serve` runs a daemon in the foreground")
    };
    let errno = |error: rustix::io::Errno| failed(error.into());
    let lock: OwnedFd = fcntl_dupfd_cloexec(rustix::stdio::stdin(), FIRST_FREE).map_err(errno)?;
    let starter = File::from(fcntl_dupfd_cloexec(rustix::stdio::stdout(), FIRST_FREE).map_err(errno)?);
    let lock = Lock::inherited(lock, dir).map_err(failed)?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stdin(&null).map_err(errno)?;
    rustix::stdio::dup2_stdout(&null).map_err(errno)?;
    rustix::process::setsid().map_err(errno)?;
    // Started through /proc/self/exe, it would show as `exe` in a list of processes.
    rustix::thread::set_name(c"falconer").map_err(errno)?;
    match cgroup::leave() {
        Ok(Some(group)) => tracing::debug!(group = %group.display(), "in a cgroup of its own"),
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "stays in the cgroup of its starter"),
    }
    Ok(Inherited { lock, starter: Starter(starter) })
}

//! Ending a daemon from outside: it is told to, and its end is waited for.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::connect::Local;
use super::hello::{Answer, Control};
use super::{code, lock};
use crate::fault::Fault;

/// Pause between two looks at a lock whose owner cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// There was no daemon.
    NoneRan,
    /// It has ended, and the data directory is free.
    Ended {
        /// Its process id.
        pid: u32,
    },
    /// Not within the time.
    StillThere {
        /// Its process id, where it is known.
        pid: Option<u32>,
    },
}

/// Tells the daemon to end and waits until its data directory is free.
///
/// # Errors
/// When a daemon is there and cannot be asked.
pub fn stop(local: &Local, within: Duration) -> Result<Ended, Fault> {
    let dir = &local.data_dir;
    let failed = |error: io::Error| Fault::new(code::DAEMON_UNREACHABLE, format!("cannot see whether a daemon serves {dir}: {error}"));
    let deadline = Instant::now() + within;
    let mut pid = None;
    // One that is starting does not listen yet; one that is ending does not listen any more.
    loop {
        if lock::is_free(dir).map_err(failed)? {
            return Ok(pid.map_or(Ended::NoneRan, |pid| Ended::Ended { pid }));
        }
        if pid.is_none()
            && let Some((_connection, answer)) = local.control(Control::Stop)?
        {
            let Answer::Stopping { pid: told } = answer else {
                return Err(Fault::new(code::DAEMON_UNREACHABLE, format!("the daemon gave an answer out of order: {answer:?}")));
            };
            pid = Some(told);
            wait_for(told, deadline).map_err(failed)?;
            continue;
        }
        if Instant::now() >= deadline {
            return Ok(Ended::StillThere { pid: pid.or_else(|| lock::last_owner(dir)) });
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Waits for the end of a process, where it can be watched.
fn wait_for(pid: u32, deadline: Instant) -> io::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
    let mut fds = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&left)))?;
    Ok(())
}

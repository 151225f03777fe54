//! A process that was found, held by a pidfd (pidfd_open(2)), so that a number which was given to another process
//! meanwhile is never mistaken for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::Seen;
use super::proc::{self, Stat};
use super::readiness::register;

/// A process, held. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: u32,
    pub name: String,
    fd: Arc<OwnedFd>,
}

impl Process {
    /// Takes hold of a process by its number. Right for a child of ours that was not reaped yet; for all others
    /// there is [`Process::found`].
    pub fn open(pid: u32, name: String) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = pidfd_open(number, PidfdFlags::empty()).map_err(|errno| proc::missed(errno.into()))?;
        Ok(Self { pid, name, fd: Arc::new(fd) })
    }

    /// A process whose pidfd came from its parent.
    pub fn given(pid: u32, name: String, fd: OwnedFd) -> Self {
        Self { pid, name, fd: Arc::new(fd) }
    }

    /// Takes hold of a process that a scan saw, if it is still the same (start time) and `also` still holds of it.
    /// What `/proc` said between the opening of the pidfd and a moment at which the process still lives is about
    /// this very process.
    pub fn found(seen: &Stat, also: impl FnOnce(&Stat) -> bool) -> Option<Self> {
        let process = Self::open(seen.pid, seen.name.clone()).ok()?;
        let now = proc::stat(seen.pid).ok()?;
        (now.start == seen.start && now.lives() && also(&now) && process.lives()).then_some(process)
    }

    /// Whether it lives: a zombie does not, unless other threads of it do.
    pub fn lives(&self) -> bool {
        // Signal 0 is no `Signal`; CONT to a process that is being looked at for a kill would wake a stopped one.
        // A pidfd polls readable once the process has ended (pidfd_open(2)).
        let mut fds = [rustix::event::PollFd::new(&*self.fd, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(0))
    }

    /// Sends a signal; no error when it has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.reach(signal).map(drop)
    }

    /// Sends a signal; gives whether there was somebody to take it.
    pub fn reach(&self, signal: Signal) -> io::Result<bool> {
        match pidfd_send_signal(&*self.fd, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    /// Registers it with a runtime. Once for each value that was opened: a descriptor can be in epoll only once.
    pub fn watch(&self, runtime: &Handle) -> io::Result<Watched> {
        Ok(Watched(register(runtime, Arc::clone(&self.fd), Interest::READABLE)?))
    }

    /// As a receipt names it.
    pub fn seen(&self) -> Seen {
        Seen { pid: self.pid, name: self.name.clone() }
    }

    /// The pidfd.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A process whose end can be awaited.
#[derive(Debug)]
pub struct Watched(AsyncFd<Arc<OwnedFd>>);

impl Watched {
    /// Waits until it has ended (it may be a zombie then).
    pub async fn ended(&self) {
        // An error here means that the runtime is ending.
        let _ = self.0.readable().await;
    }
}

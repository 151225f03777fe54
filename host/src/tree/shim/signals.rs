//! The ends of children, as something to wait for, and as numbers (signalfd(2), waitid(2)).
//!
//! Every signal is blocked: a shim is ended by its tree, by its host, or by KILL, and nobody's TERM to a list of
//! processes takes it away from its tree.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::super::Exit;

/// SIGCHLD, as a descriptor.
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks all signals.
    pub fn block() -> io::Result<Self> {
        #[expect(unsafe_code, reason = "the standard library knows neither masks of signals nor signalfd")]
        // SAFETY: the sets are plain data that is filled before it is used; the descriptor is new and ours.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            if libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let mut wanted: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut wanted);
            libc::sigaddset(&raw mut wanted, libc::SIGCHLD);
            // Ignored by whoever started the host, children would be reaped before anyone could ask.
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            match libc::signalfd(-1, &raw const wanted, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Self(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// To wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Forgets what has come: who looks for ends afterwards sees all of them.
    pub fn drain(&self) {
        let mut bytes = [0u8; size_of::<libc::signalfd_siginfo>()];
        while rustix::io::read(&self.0, &mut bytes).is_ok_and(|count| count > 0) {}
    }

    /// Waits until a child ends, at most so long.
    pub fn wait(&self, within: Duration) {
        let within = Timespec::try_from(within).ok();
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], within.as_ref());
        self.drain();
    }
}

/// A child that has ended and was not reaped yet; none: none has. The error ECHILD means that there is no child at all.
pub fn ended() -> io::Result<Option<(u32, Exit)>> {
    #[expect(unsafe_code, reason = "no safe interface tells which child a waitid found")]
    // SAFETY: plain data that the call fills; the fields are read only where it says that they are there.
    let (pid, code, status) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
        if libc::waitid(libc::P_ALL, 0, &raw mut info, options) != 0 {
            return Err(io::Error::last_os_error());
        }
        (info.si_pid(), info.si_code, info.si_status())
    };
    let Some(pid) = u32::try_from(pid).ok().filter(|pid| *pid > 0) else { return Ok(None) };
    let exit = if code == libc::CLD_EXITED { Exit::Code(status) } else { Exit::Signalled(status) };
    Ok(Some((pid, exit)))
}

/// Reaps one.
pub fn reap(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

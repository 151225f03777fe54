//! Who asks, for certain.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::tree::lineage::{Ancestor, arguments};

/// `SO_PEERPIDFD` of Linux' asm-generic/socket.h, which x86-64 and AArch64 use; libc does not have it yet.
const SO_PEERPIDFD: libc::c_int = 77;

/// The arguments of the process that had the asking one started: its parent, which must be `ssh` or live below it.
///
/// # Errors
/// Why the one who asks gets no answer.
pub fn asker(stream: &UnixStream, ssh: Ancestor) -> Result<Vec<Vec<u8>>, &'static str> {
    let cred = rustix::net::sockopt::socket_peercred(stream).map_err(|_| "nobody can tell who asks")?;
    if cred.uid != rustix::process::geteuid() {
        return Err("another user asks");
    }
    let process = pidfd(stream, cred.pid).map_err(|_| "who asks has ended")?;
    let pid = u32::try_from(cred.pid.as_raw_nonzero().get()).map_err(|_| "nobody can tell who asks")?;
    let parent = ssh.parent_of(pid).ok_or("it is asked from outside of this ssh")?;
    let arguments = arguments(parent);
    // It lives, so all that was read was about it: its number was nobody else's, and it kept its parent.
    if !lives(&process) || ssh.parent_of(pid) != Some(parent) {
        return Err("who asks has ended");
    }
    Ok(arguments)
}

/// The process that connected, held (SO_PEERPIDFD, Linux 6.5); before that the one that has its number now.
fn pidfd(stream: &UnixStream, pid: Pid) -> Result<OwnedFd, Errno> {
    let mut fd: libc::c_int = -1;
    let mut size = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(|_| Errno::INVAL)?;
    #[expect(unsafe_code, reason = "rustix has no SO_PEERPIDFD")]
    // SAFETY: the kernel writes at most `size` bytes, those of an int, to `fd`; both live through the call.
    let done = unsafe { libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, SO_PEERPIDFD, (&raw mut fd).cast(), &raw mut size) };
    if done == 0 && fd >= 0 {
        #[expect(unsafe_code, reason = "the descriptor comes as a number")]
        // SAFETY: the kernel has just made this descriptor for us alone.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()) {
        Some(Errno::NOPROTOOPT) => pidfd_open(pid, PidfdFlags::empty()),
        Some(other) => Err(other),
        None => Err(Errno::INVAL),
    }
}

/// A pidfd polls readable once its process has ended (pidfd_open(2)).
fn lives(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))), Ok(0))
}

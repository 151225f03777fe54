//! Descriptors in the serving runtime's epoll.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

/// Registers a descriptor with that runtime, from whatever thread. The result can be polled from any other.
///
/// # Errors
/// The system's limits of descriptors, or a runtime that is ending.
pub(crate) fn register(runtime: &Handle, fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    let _context = runtime.enter();
    #[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor that the type system cannot check")]
    // SAFETY: nobody can close the descriptor or take it out of the `Arc` while the `AsyncFd` holds a share of it, and
    // an `OwnedFd` answers with the same number for all its life.
    let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
    registered.map_err(io::Error::from)
}

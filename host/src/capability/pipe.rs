//! A child's pipes, read and written within the guest's call, without blocking.
//!
//! Bytes stay in the kernel until the guest asks for them: a child that writes faster than the guest reads is held up
//! by its full pipe, and the host's memory stays flat. What waits is the runtime's epoll (see [`super::news`]).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;

use rustix::io::{Errno, read, write};
use rustix::pipe::fcntl_setpipe_size;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::runtime::Handle;

use super::limits;
use super::news::{Bell, News};
use super::redact::Stream;
use crate::contract::falconer::backend::types::{IoError, Received};
use crate::tree::register;

/// What the pipe of a flood holds, in bytes; others hold 64 KiB (pipe(7)).
const WIDE: usize = 512 << 10;

/// Where a child's output is read.
pub struct Reader {
    /// None: the end was reached.
    fd: Option<AsyncFd<Arc<OwnedFd>>>,
    bell: Bell,
    redaction: Stream,
    /// The pipe was filled once.
    is_wide: bool,
    /// Redacted, not yet given out.
    ready: Vec<u8>,
}

impl Reader {
    /// Takes a non-blocking pipe; the source is armed.
    pub fn new(fd: OwnedFd, runtime: &Handle, news: &News, redaction: Stream) -> io::Result<Self> {
        let fd = register(runtime, Arc::new(fd), Interest::READABLE)?;
        let bell = Bell::new(news);
        if bell.arm(|context| fd.poll_read_ready(context)).is_ready() {
            bell.ring();
        }
        Ok(Self { fd: Some(fd), bell, redaction, is_wide: false, ready: Vec::new() })
    }

    /// At most `max` bytes, and never more than 64 KiB; arms when there are none yet.
    pub fn read(&mut self, max: u32) -> Received {
        let max = (max as usize).min(limits::READ);
        if max == 0 {
            return Received::Bytes(Vec::new());
        }
        loop {
            if !self.ready.is_empty() {
                self.bell.disarm();
                let rest = self.ready.split_off(max.min(self.ready.len()));
                return Received::Bytes(std::mem::replace(&mut self.ready, rest));
            }
            let Some(fd) = &self.fd else { return Received::End };
            match next(fd, &self.bell, max) {
                Next::Bytes(bytes) => {
                    if bytes.len() == limits::READ && !std::mem::replace(&mut self.is_wide, true) {
                        // A flood: its writer need not stop for each read. What the system refuses is done without.
                        let _ = fcntl_setpipe_size(fd.get_ref(), WIDE);
                    }
                    self.ready = self.redaction.push(bytes);
                }
                Next::NotYet => return Received::NotYet,
                Next::End => {
                    self.fd = None;
                    self.ready = self.redaction.finish();
                }
            }
        }
    }

    /// The end was not read yet: the pipe takes a descriptor.
    pub fn is_open(&self) -> bool {
        self.fd.is_some()
    }
}

enum Next {
    Bytes(Vec<u8>),
    NotYet,
    End,
}

/// Reads, or arms. epoll is edge-triggered: readiness is cleared only by one who saw an empty pipe after he learned of
/// it, else bytes that came in between would wake nobody.
fn next(fd: &AsyncFd<Arc<OwnedFd>>, bell: &Bell, max: usize) -> Next {
    let mut known: Option<AsyncFdReadyGuard<'_, Arc<OwnedFd>>> = None;
    loop {
        let mut bytes = vec![0; max];
        match read(fd.get_ref(), &mut bytes) {
            Ok(0) => return Next::End,
            Ok(count) => {
                bytes.truncate(count);
                bytes.shrink_to_fit();
                return Next::Bytes(bytes);
            }
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {}
            // A pipe has no other errors worth telling apart from its end (read(2)).
            Err(_) => return Next::End,
        }
        if let Some(mut guard) = known.take() {
            guard.clear_ready();
        }
        match bell.arm(|context| fd.poll_read_ready(context)) {
            Poll::Pending => return Next::NotYet,
            Poll::Ready(Ok(guard)) => known = Some(guard),
            // The runtime is ending, and the run with it.
            Poll::Ready(Err(_)) => return Next::End,
        }
    }
}

/// Where a child's input is written.
pub struct Writer {
    /// None: closed by us, or the other side is gone.
    fd: Option<AsyncFd<Arc<OwnedFd>>>,
    bell: Bell,
}

impl Writer {
    /// Takes a non-blocking pipe; the source is armed.
    pub fn new(fd: OwnedFd, runtime: &Handle, news: &News) -> io::Result<Self> {
        let fd = register(runtime, Arc::new(fd), Interest::WRITABLE)?;
        let bell = Bell::new(news);
        if bell.arm(|context| fd.poll_write_ready(context)).is_ready() {
            bell.ring();
        }
        Ok(Self { fd: Some(fd), bell })
    }

    /// How many bytes were taken; less than offered arms.
    pub fn write(&mut self, bytes: &[u8]) -> Result<u32, IoError> {
        let Some(fd) = &self.fd else { return Err(IoError::Closed) };
        self.bell.disarm();
        let mut taken = 0;
        let mut known: Option<AsyncFdReadyGuard<'_, Arc<OwnedFd>>> = None;
        while taken < bytes.len() {
            match write(fd.get_ref(), &bytes[taken..]) {
                Ok(count) => {
                    taken += count;
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                // EPIPE; a pipe has no other errors that time could mend (write(2)).
                Err(_) => {
                    self.fd = None;
                    if taken == 0 {
                        return Err(IoError::Closed);
                    }
                    // Less than offered: the next call will say why, and the guest must come back for it.
                    let _: Poll<()> = self.bell.arm(|_| Poll::Pending);
                    self.bell.ring();
                    return Ok(count32(taken));
                }
            }
            if let Some(mut guard) = known.take() {
                guard.clear_ready();
            }
            match self.bell.arm(|context| fd.poll_write_ready(context)) {
                Poll::Pending => break,
                Poll::Ready(Ok(guard)) => known = Some(guard),
                Poll::Ready(Err(_)) => break,
            }
        }
        if taken == bytes.len() {
            self.bell.disarm();
        }
        Ok(count32(taken))
    }

    /// Closes it: the child reads the end.
    pub fn close(&mut self) {
        self.fd = None;
    }
}

/// No call carries more than 8 MiB, so this never saturates.
fn count32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

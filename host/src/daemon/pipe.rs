//! The thin process between a client and the daemon: what `falconer mcp` is.
//!
//! Where stdin and stdout are pipes or Unix sockets they are handed to the daemon, and this process only waits: for the
//! daemon's last word, or for the end of its own stdin, after which it stays for [`PIPE_LIMIT`] at most. Else it passes
//! the bytes itself. A signal just ends it; runs go on.

use std::fs::File;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connect::{Entered, Local};
use super::hello::Answer;
use super::{PIPE_LIMIT, code, handover};
use crate::fault::Fault;

/// Connects stdin and stdout with the daemon until one side has nothing more to say.
///
/// # Errors
/// When there is no daemon to be had, it refuses, or it is lost while the client is there.
pub fn run(local: &Local) -> Result<(), Fault> {
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let handover = handover::can_be_handed_over(stdin) && handover::can_be_handed_over(stdout);
    let entered = local.enter(handover.then_some([stdin, stdout]))?;
    let own = env!("CARGO_PKG_VERSION");
    if entered.version != own {
        tracing::warn!("the daemon is falconer {}, this is {own}; `falconer stop` makes room for the newer one", entered.version);
    }
    let outcome = if handover { wait(&entered, stdin, stdout) } else { pass(&entered.stream, stdin, stdout) };
    match outcome {
        Ok(true) => Ok(()),
        Ok(false) => Err(Fault::new(code::DAEMON_LOST, format!("the daemon (process {}) has ended", entered.pid))
            .hint("start the client again; `falconer runs` shows what became of the runs")
            .retryable()),
        Err(error) => Err(Fault::new(code::DAEMON_LOST, format!("the connection to the daemon is broken: {error}")).retryable()),
    }
}

/// Waits while the daemon serves on our descriptors. Gives whether it ended as it should.
fn wait(entered: &Entered, stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>) -> io::Result<bool> {
    let mut client_gone: Option<Instant> = None;
    let mut last_word = Vec::new();
    loop {
        let limit = client_gone.map(|since| PIPE_LIMIT.saturating_sub(since.elapsed()));
        if limit == Some(Duration::ZERO) {
            return Ok(true);
        }
        let limit = limit.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        // Nothing is read here, so only the ends of stdin and stdout are asked for (HUP and ERR come unasked).
        let mut fds = vec![PollFd::from_borrowed_fd(entered.stream.as_fd(), PollFlags::IN)];
        if client_gone.is_none() {
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::RDHUP));
            fds.push(PollFd::from_borrowed_fd(stdout, PollFlags::empty()));
        }
        rustix::io::retry_on_intr(|| poll(&mut fds, limit.as_ref()))?;
        if !fds[0].revents().is_empty() {
            // One read does not block; the end need not come together with the last word.
            let mut chunk = [0; 256];
            let count = (&entered.stream).read(&mut chunk).unwrap_or(0);
            last_word.extend_from_slice(&chunk[..count]);
            if count == 0 || last_word.ends_with(b"\n") {
                let done = matches!(Answer::parse(&last_word), Ok(Answer::Done {}));
                return Ok(done || client_gone.is_some());
            }
        }
        if fds[1..].iter().any(|fd| !fd.revents().is_empty()) {
            client_gone = Some(Instant::now());
        }
    }
}

/// Passes bytes. Gives whether it was the client who ended it.
fn pass(stream: &UnixStream, stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>) -> io::Result<bool> {
    let mut from_client = File::from(stdin.try_clone_to_owned()?);
    let mut to_client = File::from(stdout.try_clone_to_owned()?);
    let mut to_daemon = stream.try_clone()?;
    let (ended, client_ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let copied = io::copy(&mut from_client, &mut to_daemon);
        let _ = to_daemon.shutdown(Shutdown::Write);
        let _ = ended.send(());
        std::thread::sleep(PIPE_LIMIT);
        if copied.is_ok() {
            std::process::exit(0);
        }
    });
    let copied = io::copy(&mut &*stream, &mut to_client);
    match copied {
        // Nobody reads what is answered: the client is gone.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(error),
        Ok(_) => Ok(client_ended.try_recv().is_ok()),
    }
}

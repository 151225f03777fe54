//! Everything in one process and one temporary directory, which is removed at the end: for tests and trials.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use tokio_util::sync::CancellationToken;

use super::{CLOSE_LIMIT, Input, Output, Service, Session, code, handover, signals};
use crate::fault::Fault;
use crate::run::Caller;

/// How long runs have to end when the one client is gone: less than the 4 s after which clients kill their servers.
const LAST_CALL: Duration = Duration::from_secs(3);

/// A data directory that is gone when this is dropped.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes one, below the system's directory for such things.
    ///
    /// # Errors
    /// What mkdir(2) says, or that the path is not UTF-8.
    pub fn new() -> Result<Self, Fault> {
        let failed = |error: String| {
            Fault::new(code::BAD_DATA_DIR, format!("cannot make a temporary directory: {error}")).hint("TMPDIR names another place")
        };
        let dir = tempfile::Builder::new().prefix("falconer-").tempdir().map_err(|error| failed(error.to_string()))?;
        if Utf8Path::from_path(dir.path()).is_none() {
            return Err(failed("its path is not UTF-8".into()));
        }
        Ok(Self(dir))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Utf8Path {
        // `new` has checked that it is UTF-8.
        Utf8Path::from_path(self.0.path()).unwrap_or(Utf8Path::new(""))
    }
}

/// Serves this process' own stdin and stdout until their end or a signal; then everything is stopped.
///
/// # Errors
/// When stdin and stdout cannot be used.
pub async fn serve_stdio<S: Service>(caller: Caller, service: Arc<S>) -> Result<(), Fault> {
    let failed = |error: io::Error| Fault::new(crate::fault::code::INTERNAL, format!("cannot use stdin and stdout: {error}"));
    let closing = CancellationToken::new();
    signals::watch(closing.clone()).map_err(failed)?;
    let (input, output, restore) = own_stdio(rustix::stdio::stdin(), rustix::stdio::stdout()).map_err(failed)?;
    let mut serving = service.serve(Session { caller, input, output, closing: closing.clone() });
    let ended = tokio::select! {
        () = &mut serving => true,
        () = closing.cancelled() => false,
    };
    if !ended {
        let _ = tokio::time::timeout(CLOSE_LIMIT, &mut serving).await;
    }
    drop(serving);
    drop(restore);
    service.shut_down(Some(LAST_CALL)).await;
    Ok(())
}

fn own_stdio(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>) -> io::Result<(Input, Output, Option<handover::Restore>)> {
    if handover::can_be_handed_over(stdin.as_fd()) && handover::can_be_handed_over(stdout) {
        let (input, output, restore) = handover::adopt([stdin.try_clone_to_owned()?, stdout.try_clone_to_owned()?])?;
        return Ok((input, output, Some(restore)));
    }
    Ok((Box::new(tokio::io::stdin()), Box::new(tokio::io::stdout()), None))
}

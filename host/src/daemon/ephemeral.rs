//! Everything in one process and one temporary directory, which is removed at the end: for tests and trials.

use std::fs::Permissions;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use camino::Utf8Path;

use super::{Input, Output, code, handover};
use crate::fault::Fault;

/// How long runs have to end when the one client is gone: less than the 4 s after which clients kill their servers.
pub const LAST_CALL: Duration = Duration::from_secs(3);

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
        let private = Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new().prefix("falconer-").permissions(private).tempdir().map_err(|error| failed(error.to_string()))?;
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

/// This process' own stdin and stdout, as those of a client. Drop the last part only when the others are gone.
pub fn stdio() -> io::Result<(Input, Output, Option<handover::Restore>)> {
    adopt(rustix::stdio::stdin(), rustix::stdio::stdout())
}

fn adopt(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>) -> io::Result<(Input, Output, Option<handover::Restore>)> {
    if handover::can_be_handed_over(stdin) && handover::can_be_handed_over(stdout) {
        let (input, output, restore) = handover::adopt([stdin.try_clone_to_owned()?, stdout.try_clone_to_owned()?])?;
        return Ok((input, output, Some(restore)));
    }
    Ok((Box::new(tokio::io::stdin()), Box::new(tokio::io::stdout()), None))
}

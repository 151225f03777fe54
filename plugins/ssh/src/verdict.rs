//! Why there was no line, or why it ended: what ssh said, as a coded failure.

use falconer_backend::Failure;

use crate::line::Line;

/// What became of a line.
#[derive(Debug)]
pub struct Verdict {
    /// For the run.
    pub failure: Failure,
}

/// Of a line that is over without a word of the far end.
#[must_use]
pub fn of(line: &Line) -> Verdict {
    let last = line.said().filter(|line| !line.starts_with("debug")).last().unwrap_or_default().to_owned();
    Verdict { failure: Failure::new("link_lost", format!("ssh ended: {last}")).retryable() }
}

/// A line that was given up, or is to be.
#[must_use]
pub fn link_lost(what: &str) -> Failure {
    Failure::new("link_lost", format!("the line to the far end was lost: {what}")).retryable()
}

/// What the wrapper at the far end says before the command begins.
#[must_use]
pub fn refused(code: &str, detail: &str, line: &Line) -> Failure {
    let _ = line;
    match code {
        "cwd" => Failure::new("far_cwd_not_found", format!("the directory at the far end cannot be entered: {detail}"))
            .with_hint("name one that is there and that the login may enter"),
        "storage" => Failure::new("far_end_storage", format!("the far end cannot keep what it was given: {detail}"))
            .with_hint("look at the space and the rights of its temporary directory and of the login's home"),
        "vanished" => Failure::new("far_end_vanished", format!("the command is gone and left no exit status: {detail}"))
            .with_hint("the machine may have been started again; look there"),
        "absent" => Failure::new("far_end_absent", format!("the far end knows nothing of the run: {detail}")),
        other => Failure::new("far_end_failed", format!("the far end could not start the command ({other}): {detail}")),
    }
}

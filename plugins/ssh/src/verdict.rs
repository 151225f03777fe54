//! Why there was no line, or why it ended: what ssh said, as a coded failure.

use falconer_backend::Failure;

use crate::line::Line;

/// Of what a login says in place of the command, so much is shown, in bytes.
const SHOWN: usize = 500;

/// The far end keeps nothing of the run.
pub const ABSENT: &str = "far_end_absent";
/// It keeps something, but no status, and nobody who would write one.
pub const VANISHED: &str = "far_end_vanished";

/// Of a line that is over without the far end's last word.
#[must_use]
pub fn of(line: &Line) -> Failure {
    let said = line.said();
    // The login was let in, and something else than the wrapper answered: a shell that is none, a forced command.
    let noise = line.noise();
    let noise = noise.trim();
    if line.never_began() || line.was_sent() && !line.has_begun() && said.is_in() && !noise.is_empty() {
        let shown = &noise[..noise.floor_char_boundary(SHOWN)];
        let shown = if shown.is_empty() { "and said nothing".to_owned() } else { format!("and said: {shown}") };
        return Failure::new("far_end_failed", format!("the login did not execute what it was given, {shown}"))
            .with_hint("its shell must be a POSIX shell, and no forced command may stand in its place");
    }
    match said.reason() {
        Some((reason, at)) => Failure {
            code: reason.code().to_owned(),
            message: reason.message(&at),
            retryable: reason.retryable(),
            hint: Some(reason.hint(&at)),
        },
        None => link_lost("ssh ended without a word"),
    }
}

/// A line that was given up, or is to be.
#[must_use]
pub fn link_lost(what: &str) -> Failure {
    Failure::new("link_lost", format!("the line to the far end was lost: {what}")).retryable()
}

/// What the wrapper at the far end says before the command begins.
#[must_use]
pub fn refused(code: &str, detail: &str) -> Failure {
    match code {
        "cwd" => Failure::new("far_cwd_not_found", format!("the directory at the far end cannot be entered: {detail}"))
            .with_hint("name one that is there and that the login may enter"),
        "storage" => Failure::new("far_end_storage", format!("the far end cannot keep what it was given: {detail}"))
            .with_hint("look at the space and the rights of its temporary directory and of the login's home"),
        "vanished" => Failure::new(VANISHED, format!("the command is gone and left no exit status: {detail}"))
            .with_hint("the machine may have been started again; look there"),
        "absent" => Failure::new(ABSENT, format!("the far end knows nothing of the run: {detail}")),
        other => Failure::new("far_end_failed", format!("the far end could not start the command ({other}): {detail}")),
    }
}

//! Making coded errors.

use crate::bindings::falconer::backend::process::SpawnError;
use crate::bindings::falconer::backend::types::IoError;
use crate::{ExitStatus, Failure};

impl Failure {
    /// An error that a retry does not mend. `code` is `snake_case` and stable; `message` is for people, lower-case.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: false, hint: None }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same job may succeed later, unchanged.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Why a program was not started: `program_not_found`, `spawn_denied`, `spawn_limit` or `spawn_failed`.
    pub(crate) fn of_spawn(program: &str, error: SpawnError) -> Self {
        match error {
            SpawnError::Denied(rule) => Self::new("spawn_denied", rule)
                .with_hint("the grants of this backend in falconer.toml say which programs, arguments, directories and names it may use"),
            SpawnError::NotFound(what) => Self::new("program_not_found", what)
                .with_hint("install it, or name its path under grants.programs in falconer.toml; `falconer check` shows what is found"),
            SpawnError::Limit(what) => Self::new("spawn_limit", format!("{program} was not started: {what}")),
            SpawnError::Far(failure) => failure,
            SpawnError::Other(why) => Self::new("spawn_failed", format!("{program} could not be started: {why}")),
        }
    }

    /// What went wrong with a pipe, named by `what`: `io_closed`, `io_denied`, or the host's own code.
    pub(crate) fn of_io(what: &str, error: IoError) -> Self {
        match error {
            IoError::Closed => Self::new("io_closed", format!("{what}: the other side is gone")),
            IoError::Denied(rule) => Self::new("io_denied", format!("{what}: {rule}")),
            IoError::Other(failure) => failure,
        }
    }

    /// An exit that is no success, as an error of this program: `exit_nonzero`, `killed_by_signal` or `exit_unknown`.
    #[must_use]
    pub fn of_exit(program: &str, status: ExitStatus) -> Self {
        match status {
            ExitStatus::Code(code) => Self::new("exit_nonzero", format!("{program} ended with exit code {code}")),
            ExitStatus::Signalled(number) => {
                let name = signal_name(number).map(|name| format!(" ({name})")).unwrap_or_default();
                Self::new("killed_by_signal", format!("{program} was ended by signal {number}{name}"))
            }
            ExitStatus::Unknown => Self::new("exit_unknown", format!("it is not known how {program} ended")),
        }
    }
}

/// The name of a signal's number on Linux, signal(7).
#[must_use]
pub fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

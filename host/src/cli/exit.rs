//! What the program ends with: one number a meaning, for scripts.

use std::io::Write;
use std::process::ExitCode;

use crate::fault::{Fault, code};
use crate::run::status::Status;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// 0: it was done; a run that was followed completed.
    Completed = 0,
    /// 1: it failed; a run that was followed failed.
    Failed = 1,
    /// 2: the command line or the configuration is wrong, or names something that is not there.
    Usage = 2,
    /// 3: the run was cancelled.
    Cancelled = 3,
    /// 4: it was refused, by the configuration's rules or by the other side.
    Rejected = 4,
    /// 5: the run is lost: nobody can know how it ended.
    Lost = 5,
    /// 6: the run waits for an answer (`falconer continue`).
    NeedsAnswer = 6,
    /// 7: the host cannot be reached or started.
    Unreachable = 7,
    /// 130: left with Ctrl-C; the run is in the host's hands.
    Left = 130,
}

/// The host cannot be reached, or was lost in the middle.
pub const HOST_UNREACHABLE: &str = "host_unreachable";
/// The codes of the daemon that mean the same.
const NO_HOST: [&str; 8] =
    ["no_daemon", "daemon_runs", "daemon_failed", "daemon_unreachable", "daemon_lost", "protocol_mismatch", "other_user", "bad_hello"];
/// The codes of the daemon that a person mends in the configuration.
const WRONG_CONFIGURATION: [&str; 3] = ["config_mismatch", "bad_data_dir", "configuration_invalid"];

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What a fault ends with.
    #[must_use]
    pub fn of_fault(fault: &Fault) -> Self {
        match fault.code.as_ref() {
            HOST_UNREACHABLE => Self::Unreachable,
            code::INVALID_ARGUMENT
            | code::CONFLICTING_FIELDS
            | code::INVALID_CONFIG
            | code::UNKNOWN_RUN
            | code::UNKNOWN_SESSION
            | code::UNKNOWN_BACKEND
            | code::UNKNOWN_QUESTION
            | code::UNKNOWN_TARGET
            | code::UNKNOWN_AGENT
            | code::CWD_NOT_FOUND
            | code::DIRECTORY_NOT_FOUND
            | code::FILE_NOT_FOUND
            | code::CWD_REQUIRED => Self::Usage,
            code::NOT_ALLOWED
            | code::CWD_NOT_GRANTED
            | code::DIRECTORY_NOT_GRANTED
            | code::FILE_NOT_GRANTED
            | code::PROGRAM_NOT_GRANTED
            | code::ADDRESS_NOT_ALLOWED
            | code::NAME_TAKEN
            | code::REQUEST_KEY_CONFLICT
            | code::LIMIT_REACHED
            | code::NOT_CONTINUABLE
            | code::UNSUPPORTED
            | code::STALE_ANSWER
            | code::QUESTION_ANSWERED
            | code::QUESTION_EXPIRED
            | code::QUESTION_WITHDRAWN
            | code::QUESTION_CLOSED
            | code::RUN_ENDED
            | code::SHUTTING_DOWN => Self::Rejected,
            other if NO_HOST.contains(&other) => Self::Unreachable,
            other if WRONG_CONFIGURATION.contains(&other) => Self::Usage,
            _ => Self::Failed,
        }
    }

    /// What a run ends the command with that follows it.
    #[must_use]
    pub const fn of_status(status: Status) -> Self {
        match status {
            Status::Completed => Self::Completed,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
            Status::Rejected => Self::Rejected,
            Status::Lost => Self::Lost,
            Status::InputRequired | Status::AuthRequired => Self::NeedsAnswer,
            Status::Queued | Status::Starting | Status::Running | Status::Cancelling => Self::Left,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Says on standard error what went wrong and what to do about it.
pub fn report(fault: &Fault) -> Exit {
    let mut text = format!("error: {} ({})\n", fault.message, fault.code);
    if let Some(hint) = &fault.hint {
        text.push_str(&format!("  {hint}\n"));
    }
    // A standard error that is closed leaves nobody to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
    Exit::of_fault(fault)
}

/// The end of a command: what it found, or the fault, told.
#[must_use]
pub fn end(result: Result<Exit, Fault>) -> ExitCode {
    result.unwrap_or_else(|fault| report(&fault)).into()
}

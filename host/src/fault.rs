//! Coded errors: what a caller can act on.
//!
//! A [`Fault`] is what crosses an edge (an MCP answer, a terminal event, the command line). Inside,
//! modules have typed errors of their own and turn them into a fault where they leave the module.
//! A message is lower-case, names the thing, and the hint says the way out. Nothing here may hold a secret.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One coded error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind, in `snake_case`; stable.
    pub code: Cow<'static, str>,
    /// For people: what failed, with its name.
    pub message: String,
    /// Whether the same call may succeed later, unchanged.
    pub retryable: bool,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Fault {
    /// A fault that a retry does not mend.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: false, hint: None }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same call may succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }
}

/// The codes of the host itself. A backend adds its own, in `snake_case`.
pub mod code {
    /// An argument is missing, malformed or out of range.
    pub const INVALID_ARGUMENT: &str = "invalid_argument";
    /// Two fields that exclude each other were both given, or neither.
    pub const CONFLICTING_FIELDS: &str = "conflicting_fields";
    /// No run has this id or name.
    pub const UNKNOWN_RUN: &str = "unknown_run";
    /// No session has this id.
    pub const UNKNOWN_SESSION: &str = "unknown_session";
    /// No backend has this name.
    pub const UNKNOWN_BACKEND: &str = "unknown_backend";
    /// The backend is there, but cannot run (its file or its description is at fault).
    pub const BACKEND_UNAVAILABLE: &str = "backend_unavailable";
    /// The backend's own `config` does not fit its schema.
    pub const INVALID_CONFIG: &str = "invalid_config";
    /// A run may not choose this key or this value.
    pub const NOT_ALLOWED: &str = "not_allowed";
    /// The working directory does not exist, or is none.
    pub const CWD_NOT_FOUND: &str = "cwd_not_found";
    /// The working directory lies in no granted workspace.
    pub const CWD_NOT_GRANTED: &str = "cwd_not_granted";
    /// A run needs a working directory, and none was given.
    pub const CWD_REQUIRED: &str = "cwd_required";
    /// The name belongs to another session.
    pub const NAME_TAKEN: &str = "name_taken";
    /// The request key was used with other arguments.
    pub const REQUEST_KEY_CONFLICT: &str = "request_key_conflict";
    /// Too many runs, depth or other ceilings of the configuration.
    pub const LIMIT_REACHED: &str = "limit_reached";
    /// The run cannot be carried on: it has no native session.
    pub const NOT_CONTINUABLE: &str = "not_continuable";
    /// The backend cannot take what was asked (steer, images, schema …).
    pub const UNSUPPORTED: &str = "unsupported";
    /// The run never asked a question of this id.
    pub const UNKNOWN_QUESTION: &str = "unknown_question";
    /// The question was answered already.
    pub const QUESTION_ANSWERED: &str = "question_answered";
    /// Nobody answered the question in its time.
    pub const QUESTION_EXPIRED: &str = "question_expired";
    /// The backend took the question back.
    pub const QUESTION_WITHDRAWN: &str = "question_withdrawn";
    /// The question was open when its run was stopped, or ended.
    pub const QUESTION_CLOSED: &str = "question_closed";
    /// The run ended before it took what was said to it.
    pub const RUN_ENDED: &str = "run_ended";
    /// A file of a message does not exist, or is none.
    pub const FILE_NOT_FOUND: &str = "file_not_found";
    /// A file lies in no granted workspace.
    pub const FILE_NOT_GRANTED: &str = "file_not_granted";
    /// A directory of a config does not exist, or is none.
    pub const DIRECTORY_NOT_FOUND: &str = "directory_not_found";
    /// A directory of a config lies in no granted workspace.
    pub const DIRECTORY_NOT_GRANTED: &str = "directory_not_granted";
    /// The answer names another hash than the question has.
    pub const STALE_ANSWER: &str = "stale_answer";
    /// No artifact or field at this place.
    pub const UNKNOWN_ARTIFACT: &str = "unknown_artifact";
    /// No agent has this name.
    pub const UNKNOWN_AGENT: &str = "unknown_agent";
    /// The ledger cannot be written or read.
    pub const LEDGER_FAILED: &str = "ledger_failed";
    /// The host is ending and takes no new work.
    pub const SHUTTING_DOWN: &str = "shutting_down";
    /// Something the host did not expect; a defect.
    pub const INTERNAL: &str = "internal";

    /// The component trapped (panic, out of bounds, unreachable …).
    pub const BACKEND_TRAPPED: &str = "backend_trapped";
    /// One call used more CPU time than a call may.
    pub const BACKEND_BUSY: &str = "backend_busy";
    /// One call took more wall time than a call may, without using the CPU.
    pub const BACKEND_BLOCKED: &str = "backend_blocked";
    /// All calls together used more CPU time than the run may.
    pub const CPU_EXCEEDED: &str = "cpu_exceeded";
    /// The component wanted more memory than granted.
    pub const MEMORY_EXCEEDED: &str = "memory_exceeded";
    /// The component grew its tables or handles past the limit.
    pub const HANDLES_EXCEEDED: &str = "handles_exceeded";
    /// One call carried more than 8 MiB.
    pub const CALL_TOO_LARGE: &str = "call_too_large";
    /// One value was over its limit in the contract.
    pub const VALUE_TOO_LARGE: &str = "value_too_large";
    /// A value breaks the contract (a bad JSON text, an unknown id, a wrong order).
    pub const CONTRACT_VIOLATION: &str = "contract_violation";
    /// More events or bytes, in all, than the run may write.
    pub const OUTPUT_EXCEEDED: &str = "output_exceeded";
    /// `again` too often without an event.
    pub const BACKEND_IDLING: &str = "backend_idling";
    /// The component is none, or of another world or version.
    pub const WIT_VERSION: &str = "wit_version";
    /// The component needs a WASI that this host does not offer.
    pub const WASI_VERSION: &str = "wasi_version";
    /// The wall-time limit of the run was reached.
    pub const DEADLINE_EXCEEDED: &str = "deadline_exceeded";
    /// Nothing happened in the run for too long.
    pub const IDLE_EXCEEDED: &str = "idle_exceeded";
    /// The processes of the run wanted more memory than they may have together.
    pub const TREE_MEMORY_EXCEEDED: &str = "tree_memory_exceeded";
    /// The run wanted more processes and threads than it may have at once.
    pub const TREE_PROCESSES_EXCEEDED: &str = "tree_processes_exceeded";
    /// A limit was asked for that cannot be held here.
    pub const LIMIT_UNAVAILABLE: &str = "limit_unavailable";
    /// The stop could not be proven.
    pub const STOP_UNVERIFIED: &str = "stop_unverified";
    /// Cgroups are required and cannot be used.
    pub const CGROUP_UNAVAILABLE: &str = "cgroup_unavailable";
    /// The host ended or was killed while the run was alive.
    pub const HOST_LOST: &str = "host_lost";
    /// Structured output is missing or breaks the run's schema.
    pub const OUTPUT_INVALID: &str = "output_invalid";
    /// No target has this name or tag.
    pub const UNKNOWN_TARGET: &str = "unknown_target";
    /// The target is known, but what is written about it cannot be used (an alias, a file …).
    pub const TARGET_UNAVAILABLE: &str = "target_unavailable";
    /// The network rule refuses the address.
    pub const ADDRESS_NOT_ALLOWED: &str = "address_not_allowed";
    /// What a program for the far end needs on this machine could not be made.
    pub const FAR_UNPREPARED: &str = "far_unprepared";
    /// The name of a machine leads to no address.
    pub const HOST_NOT_FOUND: &str = "host_not_found";
    /// The program is not granted.
    pub const PROGRAM_NOT_GRANTED: &str = "program_not_granted";
    /// The program is granted, but not found or not executable.
    pub const PROGRAM_NOT_FOUND: &str = "program_not_found";
}

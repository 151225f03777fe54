//! What a run asks for.

use serde::Deserialize;

use crate::bindings::falconer::backend::types::Failure;
use crate::failure;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// An endless loop in `plan`, `start`, `poll`, `cancel`.
    SpinPlan,
    SpinStart,
    SpinPoll,
    SpinCancel,
    /// A sleep of ten minutes inside WASI.
    SleepStart,
    SleepPoll,
    SleepCancel,
    /// A panic.
    PanicPoll,
    PanicCancel,
    /// `start` answers with an error, or refuses the job.
    FailStart,
    RejectStart,
    /// Endless recursion.
    Recurse,
    /// 4 GiB of memory, in pieces of 16 MiB.
    Allocate,
    /// A list of ten million events.
    TenMillion,
    /// One event with a list of ten million small things.
    TenMillionTodos,
    /// One event of 100 MB.
    HugeEvent,
    /// More than 1,024 events in a step.
    LongStep,
    /// More than 8 MiB in a call, no value over its own limit.
    LargeCall,
    /// JSON that is none.
    BadJson,
    /// A command finishes that never started.
    UnknownId,
    /// A name and an id over their limits.
    LongName,
    /// A checkpoint over 64 KiB.
    LargeCheckpoint,
    /// Output of a command with a gap in its offsets.
    OffsetGap,
    /// `stopped` though nobody cancelled.
    StoppedUnasked,
    /// `again` for ever, without an event.
    Again,
    /// `pending(0)`, which is `again`, for ever.
    PendingZero,
    /// Fills tables of the host: children without end.
    ManyChildren,
    /// Does not hear `cancel`.
    Deaf,

    /// Waits for nothing until it is cancelled.
    Idle,
    /// Gives the prompt back and ends; continues a session.
    Echo,
    /// `n` events of `size` bytes, `batch` in a step, then ends.
    Flood,
    /// An event every `every_ms`, `n` times (0: for ever).
    Tick,
    /// Asks a question about something of `size` and gives the answer back.
    Ask,
    /// Asks `n` questions at once (the last as `auth` where `text` is that; the first is withdrawn after `every_ms` where `text`
    /// is `withdraw`), and ends when each was answered.
    AskMany,
    /// Leaves a command, a tool and a question open, after two reports of usage; ends at once where `text` is `finish`.
    LeaveOpen,
    /// Gives `text` back as its structured answer; nothing where it is empty.
    Structured,
    /// Gives `dirs` back, one a line.
    Dirs,
    /// `n` steps with a checkpoint of `size` bytes.
    Checkpoint,
    /// One child: `program`, `args`, `stdin`; its output as events; ends with it. Other modes have a child too where
    /// `program` is given, and pay no heed to it.
    Spawn,
    /// Starts the child, reads nothing and waits.
    SpawnUnread,
    /// One child and its output as events; does not hear `cancel`, and never ends.
    SpawnDeaf,
    /// Says that it is finished while its child lives.
    FinishEarly,
    /// An event with a checkpoint every `every_ms`, `n` times (0: for ever), over all its lives. With `text`, asks a question in each
    /// life (`ask`), or cannot go on in another life (`refuse`, `trap`).
    Count,
    /// Follows a job elsewhere by a child (`program`, `args`; `{at}` is the first byte that is wanted, from 1) until it says `END`;
    /// a cancel ends the job by the script in `text`.
    Follow,
    /// One message of `size` bytes of multi-byte text.
    Multibyte,
    /// Fails with the code in `text`.
    Fail,
}

impl Mode {
    pub const fn hears_cancel(self) -> bool {
        !matches!(self, Self::Deaf | Self::SpawnDeaf | Self::Count | Self::Follow)
    }
}

/// A run's config.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub mode: Mode,
    #[serde(default)]
    pub n: u64,
    #[serde(default = "eight")]
    pub size: usize,
    #[serde(default = "batch")]
    pub batch: u64,
    #[serde(default = "tick")]
    pub every_ms: u32,
    #[serde(default)]
    pub text: String,
    #[serde(default)]
    pub program: String,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub stdin: Option<String>,
    /// Directories inside the workspaces.
    #[serde(default)]
    pub dirs: Vec<String>,
    /// Names that the grant passes through.
    #[serde(default)]
    pub env: Vec<String>,
    /// Names of secrets that the child gets under their own name.
    #[serde(default)]
    pub secrets: Vec<String>,
}

const fn eight() -> usize {
    8
}
const fn batch() -> u64 {
    128
}
const fn tick() -> u32 {
    100
}

impl Config {
    pub fn parse(text: &str) -> Result<Self, Failure> {
        serde_json::from_str(text).map_err(|error| failure("invalid_config", error.to_string()))
    }
}

pub const SCHEMA: &str = r#"{
  "type": "object",
  "required": ["mode"],
  "additionalProperties": false,
  "properties": {
    "mode": { "type": "string" },
    "n": { "type": "integer", "minimum": 0 },
    "size": { "type": "integer", "minimum": 0 },
    "batch": { "type": "integer", "minimum": 1 },
    "every_ms": { "type": "integer", "minimum": 0 },
    "text": { "type": "string" },
    "program": { "type": "string" },
    "args": { "type": "array", "items": { "type": "string" } },
    "stdin": { "type": "string" },
    "dirs": { "type": "array", "items": { "type": "string", "format": "falconer-directory" } },
    "env": { "type": "array", "items": { "type": "string" } },
    "secrets": { "type": "array", "items": { "type": "string" } }
  }
}"#;

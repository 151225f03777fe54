//! Write a backend for falconer.
//!
//! A backend is one WebAssembly component (`wasm32-wasip2`). It plans and parses; it can touch nothing by itself. Implement
//! [`Backend`], say [`export!`], and build a `cdylib`:
//!
//! ```ignore
//! struct Mine { /* the state of one run */ }
//! impl falconer_backend::Backend for Mine { /* describe, start, poll */ }
//! falconer_backend::export!(Mine);
//! ```
//!
//! * [`Command`] starts a granted program, [`Process`] is what it returned;
//! * [`CommandOutput`] makes events of its output, [`Lines`] and [`JsonLines`] read it, [`Outbox`] writes its input;
//! * [`Events`] gathers what happened and makes the [`Step`] that `poll` returns;
//! * [`Dialog`] talks with a program in lines, as agents want it, and leaves to a [`Talk`] what is said;
//! * [`far`] speaks with the wrapper at the far end of a link;
//! * [`spill`] puts values aside that are too large for an event.
//!
//! Nothing here blocks, and nothing here keeps time: `poll` is called when an armed source has news. The rule is in
//! `docs/backends.md`; in short: read until [`Polled::Pending`], or return [`Events::again`].
//!
//! Off WebAssembly the crate compiles too, so that a backend's parsing is tested with a plain `cargo test`; only calls
//! into the host panic there.

mod backend;
pub mod bindings;
mod command;
mod dialog;
mod event;
mod failure;
pub mod far;
mod info;
mod job;
mod json_lines;
mod lines;
mod outbox;
mod outcome;
mod output;
mod process;
pub mod spill;
mod step;

pub use backend::{Backend, Run};
pub use bindings::falconer::backend::log;
pub use bindings::falconer::backend::process::{ExitStatus, FarAction, FarEnd, FarPlace, FarStart, Signal};
pub use bindings::falconer::backend::secret;
pub use bindings::falconer::backend::types::{
    Abilities, Answer, Artifact, BlobRef, ChangeKind, Choice, CommandChunk, CommandEnd, CommandStart, Completion, Draft, Event, Failure,
    FarCommand, FarWords, FileChange, Info, ItemStatus, Job, Limits, Lost, MessageText, NativeEvent, Next, Notice, Outcome, OutputKind,
    Part, PlannedAction, PlannedCommand, PlannedConnection, PriorSession, ProgramInfo, Question, QuestionAnswer, QuestionKind, Received,
    RemoteProof, Severity, Steering, Step, Stopped, Target, Timing, Todo, TodoStatus, ToolEnd, ToolStart, Usage, Withdrawal,
};
pub use command::{Command, USUAL_ENV};
pub use dialog::{Dialog, Effects, LINGER, Talk};
pub use failure::signal_name;
pub use json_lines::{JsonLine, JsonLines};
pub use lines::{Line, LineBuffer, Lines, MAX_LINE, SPILL_ABOVE, Spilled};
pub use outbox::{Outbox, Taken};
pub use output::{CommandOutput, Cut};
pub use process::{LogPipe, PIECE, Pipe, Polled, Process, Sink, Source};
pub use step::{Events, MAX_EVENTS, SOFT_BYTES};

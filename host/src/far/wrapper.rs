//! The wrapper of a far-end command, as one line for the login shell there.
//!
//! The wrapper is a POSIX shell script (`wrapper.sh`) that goes with the line; nothing is installed at the far end. It starts the
//! command in a session of its own, watches the link, ends what belongs to the run and tells what is left. What it says over the
//! link is described in `docs/far-end.md` and read by `falconer_backend::far`; the nonce that its words begin with is sent through
//! its input, so that it stands in no argument. This module quotes and does nothing else; a line that is too long is an error.

use std::sync::LazyLock;

use crate::id::RunId;
use crate::policy::command::{FarCommand, quote};

/// The longest line in bytes: what Linux takes as one argument, `MAX_ARG_STRLEN` of 128 KiB (execve(2)), less the NUL behind it.
pub const LONGEST: usize = (128 << 10) - 1;

/// The variable that every process of the run has in its environment at the far end: the run's id. Not `FALCONER_RUN_ID`: that
/// one marks the children of the host, and where the far end is the host's own machine, each side would end the other's.
pub const MARK: &str = "FALCONER_FAR_RUN";

/// The variable that the wrapper's own processes have in their environment: the run's id; with `-job` behind it for the holder of
/// a detached command, with `-end` in [`Mode::End`].
pub const WRAPPER_MARK: &str = "FALCONER_WRAPPER";

/// What the wrapper is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Start the command; it ends with the link.
    Run {
        /// What is started.
        command: FarCommand,
        /// Bytes of its input, which are sent after the nonce.
        input: u64,
        /// Seconds without a word from this side after which the link is taken for lost.
        link_s: u32,
    },
    /// Start the command so that it outlives the link, and follow it.
    Detach {
        /// What is started.
        command: FarCommand,
        /// As in [`Mode::Run`].
        input: u64,
        /// As in [`Mode::Run`]; only the follower ends.
        link_s: u32,
    },
    /// Follow the command that this run detached.
    Attach {
        /// Bytes of its standard output that are known already.
        stdout: u64,
        /// Bytes of its standard error that are known already.
        stderr: u64,
        /// As in [`Mode::Detach`].
        link_s: u32,
    },
    /// End what this run started there, over whatever link, and look whether anything of it is left.
    End {
        /// Seconds between TERM and KILL.
        grace_s: u32,
    },
}

/// A command that does not fit into one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("with its wrapper the command is {bytes} bytes long, and one argument at the far end holds {LONGEST}")]
pub struct TooLong {
    /// Of the whole line.
    pub bytes: usize,
}

/// The script without its comments and without the blanks at the beginning of a line.
static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let lines = include_str!("wrapper.sh").lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.flat_map(|line| [line, "\n"]).collect()
});

/// The line for the login shell at the far end.
pub fn command_line(run: RunId, mode: &Mode) -> Result<String, TooLong> {
    let run = run.to_string();
    let number = u64::to_string;
    let (name, mark, args) = match mode {
        Mode::Run { command, input, link_s } => ("run", run.clone(), start(command, *input, *link_s)),
        Mode::Detach { command, input, link_s } => ("detach", run.clone(), start(command, *input, *link_s)),
        Mode::Attach { stdout, stderr, link_s } => ("attach", run.clone(), vec![link_s.to_string(), number(stdout), number(stderr)]),
        Mode::End { grace_s } => ("end", format!("{run}-end"), vec![grace_s.to_string()]),
    };
    let mark = format!("{WRAPPER_MARK}={mark}");
    // The script evaluates itself from an argument, so that it can start itself again for a detached command.
    let mut words = vec!["env", &mark, "sh", "-c", r#"eval "$1""#, "falconer", &SCRIPT, name, &run];
    words.extend(args.iter().map(String::as_str));
    // No part of a judged command holds a NUL, and all of it is text.
    let line = String::from_utf8(quote::exec(&words).unwrap_or_default()).unwrap_or_default();
    if line.len() > LONGEST { Err(TooLong { bytes: line.len() }) } else { Ok(line) }
}

/// The arguments of a mode that starts the command.
fn start(command: &FarCommand, input: u64, link_s: u32) -> Vec<String> {
    let script = String::from_utf8(command.script()).unwrap_or_default();
    let mut args = vec![link_s.to_string(), input.to_string(), command.cwd().unwrap_or_default().to_owned(), script];
    args.extend(command.env().iter().map(|(name, value)| format!("{name}={value}")));
    args
}

#[cfg(test)]
mod tests;

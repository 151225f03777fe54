//! A native program that the host runs for this backend: its pipes and its end.
//!
//! Dropping a [`Process`] closes its pipes and kills nothing: lives are the host's, and the run's end ends them.

use std::rc::Rc;

use crate::bindings::falconer::backend::process as host;
use crate::bindings::falconer::backend::types::IoError;
use crate::{ExitStatus, Failure, OutputKind, Received, Signal};

/// The most that one read gives and one write offers, in bytes.
pub const PIECE: u32 = 64 << 10;

/// What a source that never blocks has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled<T> {
    /// Here it is.
    Ready(T),
    /// Nothing now; the source is armed, and its news brings a poll.
    Pending,
    /// The end; every later call says so again.
    End,
}

/// Bytes that are read without blocking.
pub trait Source {
    /// At most so many bytes.
    fn read(&mut self, max: u32) -> Received;
}

/// Bytes that are written without blocking.
pub trait Sink {
    /// How many were taken; less than offered means "not yet room".
    ///
    /// # Errors
    /// `io_closed`: nobody reads any more.
    fn write(&mut self, bytes: &[u8]) -> Result<u32, Failure>;
    /// No more will come.
    fn close(&mut self);
}

/// A program that was started.
#[derive(Debug)]
pub struct Process {
    program: String,
    child: Rc<host::Child>,
}

impl Process {
    pub(crate) fn new(program: String, child: host::Child) -> Self {
        Self { program, child: Rc::new(child) }
    }

    /// The name of the grant by which it was started.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Its process id, for people.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// One of its output streams.
    #[must_use]
    pub fn output(&self, kind: OutputKind) -> Pipe {
        Pipe { child: Rc::clone(&self.child), kind }
    }

    /// Its standard output.
    #[must_use]
    pub fn stdout(&self) -> Pipe {
        self.output(OutputKind::Stdout)
    }

    /// Its standard error.
    #[must_use]
    pub fn stderr(&self) -> Pipe {
        self.output(OutputKind::Stderr)
    }

    /// What it has to say itself, apart from what it passes on: where its grant says `{log}`.
    #[must_use]
    pub fn log(&self) -> LogPipe {
        LogPipe { child: Rc::clone(&self.child) }
    }

    /// How it ended; none while it lives. Its pipes may still hold bytes, and others may still write into them.
    #[must_use]
    pub fn exit(&self) -> Option<ExitStatus> {
        self.child.exit()
    }

    /// Sends a signal to the program itself, not to what it started. No error when it has ended.
    ///
    /// # Errors
    /// The host could not send it.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        self.child.signal(signal).map_err(|error| Failure::of_io(&self.program, error))
    }

    /// Asks it to end: SIGTERM.
    ///
    /// # Errors
    /// The host could not send it.
    pub fn terminate(&self) -> Result<(), Failure> {
        self.signal(Signal::Terminate)
    }
}

impl Sink for Process {
    fn write(&mut self, bytes: &[u8]) -> Result<u32, Failure> {
        let offered = bytes.len().min(PIECE as usize);
        self.child.write_stdin(&bytes[..offered]).map_err(|error| match error {
            IoError::Closed => Failure::new("io_closed", format!("{} reads its input no more", self.program)),
            other => Failure::of_io(&self.program, other),
        })
    }

    fn close(&mut self) {
        self.child.close_stdin();
    }
}

/// One output stream of a program.
#[derive(Debug, Clone)]
pub struct Pipe {
    child: Rc<host::Child>,
    kind: OutputKind,
}

impl Pipe {
    /// Which one.
    #[must_use]
    pub fn kind(&self) -> OutputKind {
        self.kind
    }
}

impl Source for Pipe {
    fn read(&mut self, max: u32) -> Received {
        match self.kind {
            OutputKind::Stdout => self.child.read_stdout(max),
            OutputKind::Stderr => self.child.read_stderr(max),
        }
    }
}

/// What a program has to say itself.
#[derive(Debug, Clone)]
pub struct LogPipe {
    child: Rc<host::Child>,
}

impl Source for LogPipe {
    fn read(&mut self, max: u32) -> Received {
        self.child.read_log(max)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A source that gives what it was told, with nothing in between each time.
    #[derive(Debug, Default)]
    pub(crate) struct Script {
        pieces: VecDeque<Vec<u8>>,
        dry: bool,
    }

    impl Script {
        pub(crate) fn cut(bytes: &[u8], size: usize) -> Self {
            Self { pieces: bytes.chunks(size).map(<[u8]>::to_vec).collect(), dry: false }
        }
    }

    impl Source for Script {
        fn read(&mut self, max: u32) -> Received {
            self.dry = !self.dry;
            if self.dry {
                return Received::NotYet;
            }
            match self.pieces.pop_front() {
                Some(piece) => {
                    assert!(piece.len() <= max as usize);
                    Received::Bytes(piece)
                }
                None => Received::End,
            }
        }
    }
}

//! What is to be written to a program's standard input, kept until there is room.

use std::collections::VecDeque;

use crate::{Failure, Sink};

/// How far [`Outbox::flush`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Everything, and the pipe is closed if that was asked for.
    All,
    /// The pipe is full; news comes when there is room.
    Part,
}

/// Bytes on their way into a pipe. Flush it in every poll; it goes on where it stopped.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Vec<u8>>,
    /// Of the first of `waiting`, what the pipe has taken already.
    taken: usize,
    close: CloseState,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum CloseState {
    #[default]
    Open,
    WhenEmpty,
    Closed,
}

impl Outbox {
    /// Empty, and open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes; they are kept until the pipe takes them. Nothing is added after [`Outbox::close`].
    pub fn push(&mut self, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        if self.close == CloseState::Open && !bytes.is_empty() {
            self.waiting.push_back(bytes);
        }
    }

    /// Closes the pipe when all is written.
    pub fn close(&mut self) {
        if self.close == CloseState::Open {
            self.close = CloseState::WhenEmpty;
        }
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// The other side reads no more. What waited is dropped, so that this is said once.
    pub fn flush(&mut self, sink: &mut impl Sink) -> Result<Taken, Failure> {
        while let Some(first) = self.waiting.front() {
            let rest = &first[self.taken..];
            let offered = rest.len().min(crate::PIECE as usize);
            let taken = match sink.write(&rest[..offered]) {
                Ok(taken) => taken as usize,
                Err(failure) => {
                    self.waiting.clear();
                    self.taken = 0;
                    self.close = CloseState::Closed;
                    return Err(failure);
                }
            };
            self.taken += taken;
            if self.taken == first.len() {
                self.waiting.pop_front();
                self.taken = 0;
            } else if taken < offered {
                return Ok(Taken::Part);
            }
        }
        if self.close == CloseState::WhenEmpty {
            sink.close();
            self.close = CloseState::Closed;
        }
        Ok(Taken::All)
    }

    /// Whether all was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Narrow {
        room: usize,
        got: Vec<u8>,
        closed: bool,
        gone: bool,
    }

    impl Sink for Narrow {
        fn write(&mut self, bytes: &[u8]) -> Result<u32, Failure> {
            if self.gone {
                return Err(Failure::new("io_closed", "gone"));
            }
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.got.extend_from_slice(&bytes[..taken]);
            Ok(u32::try_from(taken).unwrap())
        }
        fn close(&mut self) {
            self.closed = true;
        }
    }

    #[test]
    fn it_goes_on_where_it_stopped_and_closes_last() {
        let (mut out, mut pipe) = (Outbox::new(), Narrow::default());
        let all: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        out.push(&all[..3]);
        out.push(&all[3..]);
        out.close();
        out.push("too late");
        let mut calls = 0;
        loop {
            pipe.room = 7_000;
            calls += 1;
            match out.flush(&mut pipe).unwrap() {
                Taken::Part => assert!(!pipe.closed),
                Taken::All => break,
            }
        }
        assert!(calls > 20);
        assert_eq!(pipe.got, all);
        assert!(pipe.closed);
    }

    #[test]
    fn a_reader_that_is_gone_is_said_once() {
        let (mut out, mut pipe) = (Outbox::new(), Narrow { gone: true, ..Narrow::default() });
        out.push("x");
        assert_eq!(out.flush(&mut pipe).unwrap_err().code, "io_closed");
        out.push("y");
        assert_eq!(out.flush(&mut pipe).unwrap(), Taken::All);
    }
}

//! A program's output as `command-output` events: pieces as they come, or lines.

use memchr::memchr;

use crate::{Event, Events, OutputKind, PIECE, Pipe, Polled, Process, Received, Source};

/// Of each stream, what is kept for the result.
const TAIL: usize = 8 << 10;

/// How pieces are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// As they come, joined while they come without a pause.
    Pieces,
    /// After each line end; a line over 64 KiB, and a last one without an end, as it is.
    Lines,
}

/// One output stream of a program, on its way into events. Offsets have no gap, and no more is read than a step takes.
#[derive(Debug)]
pub struct CommandOutput<S> {
    source: S,
    command: String,
    kind: OutputKind,
    cut: Cut,
    /// What was read and is not yet in an event.
    held: Vec<u8>,
    /// Where in `held` the next event begins.
    begin: usize,
    /// In the stream, of the next event's first byte.
    offset: u64,
    ended: bool,
    tail: Vec<u8>,
}

impl CommandOutput<Pipe> {
    /// Both streams of a program: its standard output and its standard error.
    pub fn both(process: &Process, command: &str, cut: Cut) -> [Self; 2] {
        [Self::new(process.stdout(), command, OutputKind::Stdout, cut), Self::new(process.stderr(), command, OutputKind::Stderr, cut)]
    }
}

impl<S: Source> CommandOutput<S> {
    /// A stream from its first byte on; `command` is the id of the command in its events.
    pub fn new(source: S, command: impl Into<String>, kind: OutputKind, cut: Cut) -> Self {
        Self { source, command: command.into(), kind, cut, held: Vec::new(), begin: 0, offset: 0, ended: false, tail: Vec::new() }
    }

    /// Its first byte has this offset: what came before was told in an earlier life of the run, or over an earlier link.
    #[must_use]
    pub fn starting_at(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// The offset of the next byte that is told.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads until nothing is there, or the step is full; how many bytes came. Return [`Events::again`] when it is full.
    pub fn read_all(&mut self, events: &mut Events) -> usize {
        let mut all = 0;
        while !events.is_full()
            && let Polled::Ready(bytes) = self.read(events)
        {
            all += bytes;
        }
        self.flush(events);
        all
    }

    /// Reads once, into events. Ready says how many bytes came; 0 when only what was held became events.
    fn read(&mut self, events: &mut Events) -> Polled<usize> {
        if self.emit(events, false) {
            return Polled::Ready(0);
        }
        if self.ended {
            return Polled::End;
        }
        let room = PIECE as usize - (self.held.len() - self.begin).min(PIECE as usize - 1);
        match self.source.read(room as u32) {
            Received::Bytes(bytes) => {
                self.held.drain(..self.begin);
                self.begin = 0;
                self.held.extend_from_slice(&bytes);
                self.keep_tail(&bytes);
                self.emit(events, false);
                Polled::Ready(bytes.len())
            }
            Received::NotYet => Polled::Pending,
            Received::End => {
                self.ended = true;
                self.emit(events, true);
                Polled::End
            }
        }
    }

    /// Tells of what is held though more may follow.
    fn flush(&mut self, events: &mut Events) {
        if self.cut == Cut::Pieces {
            self.emit(events, true);
        }
    }

    /// Whether the end was read and told.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ended && self.begin == self.held.len()
    }

    /// The last 8 KiB, as text, beginning at a whole character.
    #[must_use]
    pub fn tail(&self) -> String {
        let begin = self.tail.iter().position(|byte| byte & 0xC0 != 0x80).unwrap_or(0);
        String::from_utf8_lossy(&self.tail[begin..]).into_owned()
    }

    /// The last line that says something.
    #[must_use]
    pub fn last_line(&self) -> Option<String> {
        self.tail().lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }

    /// Makes events of what is held, as far as the cut and the step allow. Whether the step has no room for the rest.
    fn emit(&mut self, events: &mut Events, everything: bool) -> bool {
        while self.begin < self.held.len() {
            let rest = &self.held[self.begin..];
            let whole = rest.len().min(PIECE as usize);
            let length = match self.cut {
                Cut::Lines => memchr(b'\n', &rest[..whole]).map(|at| at + 1),
                Cut::Pieces => None,
            };
            let Some(length) = length.or((everything || rest.len() >= PIECE as usize).then_some(whole)) else { return false };
            if events.is_full() {
                return true;
            }
            events.push(Event::command_output(self.command.as_str(), self.kind, self.offset, rest[..length].to_vec()));
            self.begin += length;
            self.offset += length as u64;
        }
        false
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(TAIL)..];
        let keep = TAIL - new.len();
        let old = self.tail.len().saturating_sub(keep);
        self.tail.drain(..old);
        self.tail.extend_from_slice(new);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Of one poll: offsets and bytes.
    type Chunks = Vec<(u64, Vec<u8>)>;

    struct Script(VecDeque<Received>);

    impl Source for Script {
        fn read(&mut self, max: u32) -> Received {
            match self.0.pop_front() {
                Some(Received::Bytes(mut bytes)) if bytes.len() > max as usize => {
                    let rest = bytes.split_off(max as usize);
                    self.0.push_front(Received::Bytes(rest));
                    Received::Bytes(bytes)
                }
                Some(received) => received,
                None => Received::End,
            }
        }
    }

    /// What one poll after the other tells: chunks as (offset, bytes).
    fn polls(pieces: &[&[u8]], cut: Cut) -> (Vec<Chunks>, CommandOutput<Script>) {
        let script = pieces.iter().flat_map(|piece| [Received::Bytes(piece.to_vec()), Received::NotYet]).collect();
        let mut output = CommandOutput::new(Script(script), "command", OutputKind::Stdout, cut);
        let mut polls = Vec::new();
        while !output.is_done() {
            let mut events = Events::new();
            output.read_all(&mut events);
            let step = events.pending();
            assert!(step.events.len() <= crate::MAX_EVENTS);
            let chunk = |event| match event {
                Event::CommandOutput(chunk) => (chunk.offset, chunk.bytes),
                other => panic!("{other:?}"),
            };
            polls.push(step.events.into_iter().map(chunk).collect());
        }
        (polls, output)
    }

    fn check_whole(polls: &[Chunks], expected: &[u8]) {
        let mut all = Vec::new();
        for (offset, bytes) in polls.iter().flatten() {
            assert_eq!(*offset, all.len() as u64);
            assert!(!bytes.is_empty() && bytes.len() <= PIECE as usize);
            all.extend_from_slice(bytes);
        }
        assert_eq!(all, expected);
    }

    #[test]
    fn pieces_come_as_they_come() {
        let (polls, output) = polls(&[b"one", b"two\nthree"], Cut::Pieces);
        check_whole(&polls, b"onetwo\nthree");
        assert_eq!(polls[0], vec![(0, b"one".to_vec())]);
        assert_eq!(output.last_line().as_deref(), Some("three"));
    }

    #[test]
    fn much_is_cut_to_what_a_step_takes() {
        let big: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let (polls, _) = polls(&[&big], Cut::Pieces);
        check_whole(&polls, &big);
        assert!(polls.iter().all(|poll| poll.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= 1 << 20));
    }

    #[test]
    fn lines_are_events_and_none_is_lost() {
        let text: String = (0..5_000).map(|n| format!("{n}\n")).collect::<String>() + &"x".repeat(200_000) + "\nend";
        for size in [1_000, 70_000, text.len()] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let (polls, output) = polls(&pieces, Cut::Lines);
            check_whole(&polls, text.as_bytes());
            assert_eq!(polls.iter().flatten().nth(4_321).unwrap().1, b"4321\n");
            assert_eq!(output.last_line().as_deref(), Some("end"));
            assert_eq!(output.tail().len(), TAIL);
        }
    }
}

//! The output of a command that runs.
//!
//! Codex streams what a command writes, but not what it writes in its first moments (about 150 ms, measured with 0.169.0): that
//! is only in the whole, which comes with the end. So output is held for a moment: a command that ends within it has its output
//! whole and in order. What runs longer is streamed; the missing beginning comes last, with a notice that says so. Nothing is lost
//! and nothing comes twice. What is kept of a command is bounded, however much it writes.

use std::time::Duration;

use falconer_backend::{CommandChunk, Event, Events, OutputKind, PIECE, Severity};

/// How long output is held.
const HOLD: Duration = Duration::from_millis(750);
/// More is not held.
const MAX_HELD: usize = PIECE as usize;
/// What is kept of the beginning and of the end of what was streamed, to find it in the whole.
const SAMPLE: usize = 4 << 10;
/// Pieces that come together are one event, up to this many bytes.
const JOINED: usize = 8 << 10;

/// The output of one command. Codex merges its two streams.
#[derive(Debug)]
pub struct Output {
    state: State,
    /// Bytes that became events.
    sent: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Holding { held: Vec<u8>, until: Duration },
    Streaming,
}

impl Output {
    /// Of a command that began now.
    pub fn new(now: Duration) -> Self {
        Self { state: State::Holding { held: Vec::new(), until: now + HOLD }, sent: 0, head: Vec::new(), tail: Vec::new() }
    }

    /// More of it.
    pub fn push(&mut self, events: &mut Events, id: &str, bytes: &[u8], now: Duration) {
        match &mut self.state {
            State::Holding { held, until } if now < *until && held.len() + bytes.len() <= MAX_HELD => held.extend_from_slice(bytes),
            State::Holding { .. } => {
                self.release(events, id);
                self.send(events, id, bytes);
            }
            State::Streaming => self.send(events, id, bytes),
        }
    }

    /// Until when something is held.
    pub fn held_until(&self) -> Option<Duration> {
        match &self.state {
            State::Holding { held, until } if !held.is_empty() => Some(*until),
            _ => None,
        }
    }

    /// Streams from now on, beginning with what was held.
    pub fn release(&mut self, events: &mut Events, id: &str) {
        if let State::Holding { held, .. } = std::mem::replace(&mut self.state, State::Streaming) {
            self.send(events, id, &held);
        }
    }

    /// The command ended; `whole` is all of its output, as far as Codex kept it.
    pub fn finish(mut self, events: &mut Events, id: &str, whole: Option<&str>) {
        let whole = whole.unwrap_or_default().as_bytes();
        if let State::Holding { held, .. } = std::mem::replace(&mut self.state, State::Streaming) {
            let all = if whole.len() >= held.len() { whole } else { &held };
            self.send(events, id, all);
            return;
        }
        let Some(missing) = self.missing(whole) else { return };
        let at_the_end = missing.end == whole.len();
        let bytes = &whole[missing];
        self.send(events, id, bytes);
        if !at_the_end {
            let text = format!(
                "the last {} bytes of the output of {id} are its first: codex streams nothing of a command's first moments",
                bytes.len()
            );
            events.push(Event::notice(Severity::Info, "output_out_of_order", text));
        }
    }

    /// The part of the whole that was not streamed.
    fn missing(&self, whole: &[u8]) -> Option<std::ops::Range<usize>> {
        let sent = usize::try_from(self.sent).ok()?;
        if sent == 0 {
            return (!whole.is_empty()).then_some(0..whole.len());
        }
        if sent < whole.len() && whole.ends_with(&self.tail) && whole[whole.len() - sent..].starts_with(&self.head) {
            return Some(0..whole.len() - sent);
        }
        if sent < whole.len() && whole.starts_with(&self.head) {
            return Some(sent..whole.len());
        }
        // The middle of the whole was left out.
        let (whole, head) = (as_text(whole), as_text(&self.head));
        let begin = if head.is_empty() { 0 } else { whole.find(head)? };
        (begin > 0).then_some(0..begin)
    }

    fn send(&mut self, events: &mut Events, id: &str, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.head.extend_from_slice(&bytes[..bytes.len().min(SAMPLE - self.head.len().min(SAMPLE))]);
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(SAMPLE)..]);
        self.tail.drain(..self.tail.len().saturating_sub(SAMPLE));
        for piece in bytes.chunks(PIECE as usize) {
            let offset = self.sent;
            self.sent += piece.len() as u64;
            if let Some(Event::CommandOutput(last)) = events.last_mut()
                && last.id == id
                && last.bytes.len() + piece.len() <= JOINED
            {
                last.bytes.extend_from_slice(piece);
                continue;
            }
            events.push(Event::CommandOutput(CommandChunk { id: id.to_owned(), kind: OutputKind::Stdout, offset, bytes: piece.to_vec() }));
        }
    }
}

/// The beginning that is UTF-8; a sample may end in the middle of a character.
fn as_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_else(|error| std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The text of all chunks, their offsets checked, and the codes of notices.
    fn read(events: Events) -> (String, Vec<String>) {
        let (mut all, mut codes) = (Vec::new(), Vec::new());
        for event in events.pending().events {
            match event {
                Event::CommandOutput(chunk) => {
                    assert_eq!(chunk.offset, all.len() as u64);
                    all.extend(chunk.bytes);
                }
                Event::Notice(notice) => codes.push(notice.code),
                other => panic!("{other:?}"),
            }
        }
        (String::from_utf8(all).unwrap(), codes)
    }

    #[test]
    fn a_short_command_has_its_output_whole() {
        let mut events = Events::new();
        let mut output = Output::new(ms(0));
        output.push(&mut events, "c", b"two\n", ms(200));
        assert_eq!(output.held_until(), Some(HOLD));
        output.finish(&mut events, "c", Some("one\ntwo\n"));
        assert_eq!(read(events), ("one\ntwo\n".to_owned(), vec![]));

        let mut events = Events::new();
        Output::new(ms(0)).finish(&mut events, "c", Some("all\n"));
        assert_eq!(read(events).0, "all\n");
        let mut events = Events::new();
        let mut output = Output::new(ms(0));
        output.push(&mut events, "c", b"held\n", ms(1));
        output.finish(&mut events, "c", None);
        assert_eq!(read(events).0, "held\n");
    }

    #[test]
    fn what_was_not_streamed_comes_last_and_once() {
        let mut events = Events::new();
        let mut output = Output::new(ms(0));
        output.push(&mut events, "c", b"two\n", ms(200));
        output.release(&mut events, "c");
        output.push(&mut events, "c", b"three\n", ms(2000));
        assert_eq!(output.held_until(), None);
        output.finish(&mut events, "c", Some("one\ntwo\nthree\n"));
        assert_eq!(read(events), ("two\nthree\none\n".to_owned(), vec!["output_out_of_order".to_owned()]));

        let mut events = Events::new();
        let mut output = Output::new(ms(0));
        output.push(&mut events, "c", b"one\n", ms(2000));
        output.finish(&mut events, "c", Some("one\ntwo\n"));
        assert_eq!(read(events), ("one\ntwo\n".to_owned(), vec![]));

        let mut events = Events::new();
        let mut output = Output::new(ms(0));
        output.push(&mut events, "c", b"all\n", ms(2000));
        output.finish(&mut events, "c", Some("all\n"));
        assert_eq!(read(events), ("all\n".to_owned(), vec![]));
    }

    #[test]
    fn much_output_is_not_kept() {
        let mut output = Output::new(ms(0));
        let mut whole = b"first\n".to_vec();
        for n in 0..20_000u32 {
            let mut events = Events::new();
            let line = format!("line {n}\n");
            whole.extend_from_slice(line.as_bytes());
            output.push(&mut events, "c", line.as_bytes(), ms(1000));
        }
        assert!(output.head.len() <= SAMPLE && output.tail.len() <= SAMPLE);
        let mut events = Events::new();
        // As Codex does it: the middle is left out.
        let cut = [&whole[..6_000], b"[...]", &whole[whole.len() - 1_000..]].concat();
        let missing = output.missing(&cut).unwrap();
        assert_eq!(&cut[missing], b"first\n");
        output.finish(&mut events, "c", Some(std::str::from_utf8(&whole).unwrap()));
        let events = events.pending().events;
        assert!(matches!(&events[0], Event::CommandOutput(chunk) if chunk.bytes == b"first\n"));
    }
}

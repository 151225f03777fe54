//! Output of commands: pieces of bytes become events of text, in the order of their stream and without a gap.

use serde_json::{Value, json};

use super::{MAX_CHUNK, MAX_JOINED, Meaning, Stream, Translator, name, too_large, violation};
use crate::contract::falconer::backend::types as wit;
use crate::fault::Fault;
use crate::run::event::EventType;

impl Translator {
    /// Tells full pieces of a stream together with what follows them: in a flood each event costs more than its bytes.
    ///
    /// Errors: `value_too_large` for a piece that is larger than one may be.
    pub(in crate::run) fn join(events: Vec<wit::Event>) -> Result<Vec<wit::Event>, Fault> {
        let mut joined: Vec<wit::Event> = Vec::with_capacity(events.len());
        for event in events {
            let wit::Event::CommandOutput(next) = event else {
                joined.push(event);
                continue;
            };
            if next.bytes.len() > MAX_CHUNK {
                return Err(too_large("a piece of output", next.bytes.len(), MAX_CHUNK));
            }
            match joined.last_mut() {
                Some(wit::Event::CommandOutput(last)) if goes_on(last, &next) => last.bytes.extend(next.bytes),
                _ => joined.push(wit::Event::CommandOutput(next)),
            }
        }
        Ok(joined)
    }

    /// A piece of output as text. A character that the pieces cut in two is given whole with the later piece.
    pub(super) fn output(&mut self, chunk: wit::CommandChunk) -> Result<Vec<Meaning>, Fault> {
        let id = name("command id", chunk.id)?;
        let stream = match chunk.kind {
            wit::OutputKind::Stdout => "stdout",
            wit::OutputKind::Stderr => "stderr",
        };
        let begun = Stream { next: chunk.offset, half: Vec::new() };
        let at = self.streams.entry((id.clone(), stream)).or_insert(begun);
        let expected = at.next.checked_add(at.half.len() as u64 + chunk.bytes.len() as u64 + MAX_CHUNK as u64);
        let Some(expected) = expected.map(|_| at.next + at.half.len() as u64) else {
            return Err(violation(format!("the backend sent output of `{id}` at an offset that no stream reaches")));
        };
        if expected != chunk.offset {
            return Err(violation(format!("the backend sent output of `{id}` with a gap: offset {} after {expected}", chunk.offset)));
        }
        let offset = at.next;
        let mut bytes = std::mem::take(&mut at.half);
        bytes.extend_from_slice(&chunk.bytes);
        at.half = bytes.split_off(complete_prefix(&bytes));
        at.next += bytes.len() as u64;
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Meaning::Event(EventType::CommandOutput, output_data(&id, stream, offset, bytes))])
    }
}

/// Whether a piece, or what was made of several, was cut for its size alone, and this one is the next of its stream.
fn goes_on(last: &wit::CommandChunk, next: &wit::CommandChunk) -> bool {
    let full = !last.bytes.is_empty() && last.bytes.len().is_multiple_of(MAX_CHUNK);
    let same = last.id == next.id && last.kind == next.kind && last.offset.checked_add(last.bytes.len() as u64) == Some(next.offset);
    full && same && last.bytes.len() + next.bytes.len() <= MAX_JOINED
}

pub(super) fn output_data(id: &str, stream: &str, offset: u64, bytes: Vec<u8>) -> Value {
    let size = bytes.len();
    let text = String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    json!({ "id": id, "stream": stream, "offset": offset, "bytes": size, "text": text })
}

/// How many bytes from the start form whole characters; what follows may be the start of one (at most 3 bytes).
fn complete_prefix(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    for at in (from..bytes.len()).rev() {
        let wanted = match bytes[at] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return bytes.len(),
        };
        return if bytes.len() - at < wanted { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::code;

    fn chunk(offset: u64, bytes: &[u8]) -> wit::Event {
        wit::Event::CommandOutput(wit::CommandChunk { id: "c".into(), kind: wit::OutputKind::Stdout, offset, bytes: bytes.to_vec() })
    }

    #[test]
    fn a_character_cut_in_two_is_given_whole() {
        let text = "aä€😀z".as_bytes();
        for cut in 0..=text.len() {
            let mut translator = Translator::default();
            let mut seen = String::new();
            let mut at = 0;
            for (offset, piece) in [(0, &text[..cut]), (cut as u64, &text[cut..])] {
                for meaning in translator.translate(chunk(offset, piece), std::time::Duration::ZERO).unwrap() {
                    let Meaning::Event(EventType::CommandOutput, data) = meaning else { panic!("{meaning:?}") };
                    assert_eq!(data["offset"], at);
                    at += data["bytes"].as_u64().unwrap();
                    seen.push_str(data["text"].as_str().unwrap());
                }
            }
            assert_eq!(seen, "aä€😀z", "cut at {cut}");
        }
    }

    #[test]
    fn output_goes_on_after_a_restart_in_the_middle_of_a_character() {
        let text = "aä€😀z".as_bytes();
        for cut in 1..text.len() {
            let mut before = Translator::default();
            let mut after = Translator::default();
            let mut seen = String::new();
            let mut told = |translator: &mut Translator, offset: usize, piece: &[u8]| {
                for meaning in translator.translate(chunk(offset as u64, piece), std::time::Duration::ZERO).unwrap() {
                    let Meaning::Event(EventType::CommandOutput, data) = meaning else { panic!("{meaning:?}") };
                    seen.push_str(data["text"].as_str().unwrap());
                }
            };
            told(&mut before, 0, &text[..cut]);
            after.go_on(before.marks());
            let repeated = after.translate(chunk(0, &text[..cut]), std::time::Duration::ZERO).unwrap_err();
            assert_eq!(repeated.code, code::CONTRACT_VIOLATION, "what was told is not told again");
            told(&mut after, cut, &text[cut..]);
            assert_eq!(seen, "aä€😀z", "cut at {cut}");
        }
    }

    #[test]
    fn full_pieces_are_told_with_what_follows_them() {
        let full = vec![b'x'; MAX_CHUNK];
        let at = |pieces: u64| pieces * MAX_CHUNK as u64;
        let shapes = |events: Vec<wit::Event>| -> Vec<(u64, usize)> {
            let shape = |event: &wit::Event| match event {
                wit::Event::CommandOutput(chunk) => (chunk.offset, chunk.bytes.len()),
                _ => (0, 0),
            };
            Translator::join(events).unwrap().iter().map(shape).collect()
        };
        assert_eq!(shapes(vec![chunk(0, &full), chunk(at(1), &full), chunk(at(2), b"end")]), [(0, 2 * MAX_CHUNK + 3)]);
        assert_eq!(shapes(vec![chunk(0, b"a line"), chunk(6, b"another")]), [(0, 6), (6, 7)], "what was cut for a reason stays apart");
        assert_eq!(shapes(vec![chunk(0, &full), chunk(at(3), b"gap")]), [(0, MAX_CHUNK), (at(3), 3)]);
        let flood: Vec<wit::Event> = (0..9).map(|piece| chunk(at(piece), &full)).collect();
        assert_eq!(shapes(flood), [(0, MAX_JOINED), (at(8), MAX_CHUNK)]);
        let other = wit::Event::CommandOutput(wit::CommandChunk {
            id: "c".into(),
            kind: wit::OutputKind::Stderr,
            offset: at(1),
            bytes: b"err".to_vec(),
        });
        assert_eq!(shapes(vec![chunk(0, &full), other]), [(0, MAX_CHUNK), (at(1), 3)]);
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        let mut translator = Translator::default();
        let meanings = translator.translate(chunk(0, b"\xff\xfeok"), std::time::Duration::ZERO).unwrap();
        assert!(matches!(&meanings[..], [Meaning::Event(_, data)] if data["text"] == "\u{fffd}\u{fffd}ok" && data["bytes"] == 4));
    }
}

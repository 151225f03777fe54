//! Lines of JSON, as agents write them.

use serde_json::Value;

use crate::lines::too_long;
use crate::{Failure, LineBuffer, MAX_LINE, PIECE, Polled, Received, Source};

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonLine {
    /// A JSON value.
    Value(Value),
    /// Something else: what it says, lossy. Programs do write such lines; they are worth a notice, not an end.
    Text(String),
}

impl JsonLine {
    /// Reads one line; none if it is empty.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        match serde_json::from_slice(line) {
            Ok(value) => Some(Self::Value(value)),
            Err(_) => Some(Self::Text(String::from_utf8_lossy(line).into_owned())),
        }
    }
}

/// Reads a source as lines of JSON. A line is held whole, up to [`MAX_LINE`]; put large parts of it aside with
/// [`crate::spill`] before they go into events.
#[derive(Debug)]
pub struct JsonLines<S> {
    source: S,
    buffer: LineBuffer,
    ended: bool,
}

impl<S: Source> JsonLines<S> {
    /// The lines of this source.
    pub fn new(source: S) -> Self {
        Self { source, buffer: LineBuffer::new(), ended: false }
    }

    /// The next line that is not empty. Call until it is pending, or the source is not armed and no news comes.
    ///
    /// # Errors
    /// `line_too_long`. The reader is of no use after it.
    pub fn next_line(&mut self) -> Result<Polled<JsonLine>, Failure> {
        loop {
            while let Some((_, line)) = self.buffer.next_line() {
                if let Some(line) = JsonLine::parse(line) {
                    return Ok(Polled::Ready(line));
                }
            }
            if self.buffer.waiting() > MAX_LINE {
                return Err(too_long());
            }
            if self.ended {
                let rest = self.buffer.take_rest().and_then(|(_, line)| JsonLine::parse(&line));
                return Ok(rest.map_or(Polled::End, Polled::Ready));
            }
            match self.source.read(PIECE) {
                Received::Bytes(bytes) => self.buffer.push(&bytes),
                Received::NotYet => return Ok(Polled::Pending),
                Received::End => self.ended = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::process::tests::Script;

    #[test]
    fn values_and_other_lines_are_told_apart() {
        let text = "{\"a\":\"ä\"}\n\n  \nwarning: x\n[1]";
        for size in 1..=text.len() {
            let mut lines = JsonLines::new(Script::cut(text.as_bytes(), size));
            let mut got = Vec::new();
            loop {
                match lines.next_line().unwrap() {
                    Polled::Ready(line) => got.push(line),
                    Polled::Pending => {}
                    Polled::End => break,
                }
            }
            let expected = vec![JsonLine::Value(json!({"a": "ä"})), JsonLine::Text("warning: x".to_owned()), JsonLine::Value(json!([1]))];
            assert_eq!(got, expected, "pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_an_error_and_not_memory() {
        struct Endless;
        impl Source for Endless {
            fn read(&mut self, max: u32) -> Received {
                Received::Bytes(vec![b'x'; max as usize])
            }
        }
        assert_eq!(JsonLines::new(Endless).next_line().unwrap_err().code, "line_too_long");
    }
}

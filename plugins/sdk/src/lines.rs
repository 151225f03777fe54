//! Lines of a program's output, read without blocking and bounded in memory.

use memchr::memchr;

use crate::spill::Blob;
use crate::{Failure, PIECE, Polled, Received, Source};

/// The longest line, in bytes without its end. A longer one is an error (`line_too_long`), never cut in silence.
pub const MAX_LINE: usize = 16 << 20;
/// A line of [`Lines`] that is longer than this is put aside in the host's store while it is read.
pub const SPILL_ABOVE: usize = 1 << 20;
/// What is kept of a line that was put aside.
const HEAD: usize = 64 << 10;

/// Cuts bytes into lines; knows nothing of where they come from. Bytes are kept as they are, so that a character that
/// comes in two pieces is whole in its line.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the first line that was not yet given begins.
    begin: usize,
    /// Up to where there is no line end.
    searched: usize,
    /// In the stream, of `bytes[begin]`.
    offset: u64,
}

impl LineBuffer {
    /// Empty, at the beginning of the stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.begin > 0 {
            self.bytes.drain(..self.begin);
            self.searched -= self.begin;
            self.begin = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line, without its end (`\n` or `\r\n`), and where it began in the stream.
    pub fn next_line(&mut self) -> Option<(u64, &[u8])> {
        let found = memchr(b'\n', &self.bytes[self.searched..]);
        let Some(at) = found.map(|at| self.searched + at) else {
            self.searched = self.bytes.len();
            return None;
        };
        let (begin, offset) = (self.begin, self.offset);
        self.begin = at + 1;
        self.searched = at + 1;
        self.offset += (at + 1 - begin) as u64;
        let line = &self.bytes[begin..at];
        Some((offset, line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// How many bytes wait for their line's end.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.begin
    }

    /// Takes what waits: the last line, when the stream ended without a line end; or a part of a long one.
    pub fn take_rest(&mut self) -> Option<(u64, Vec<u8>)> {
        if self.waiting() == 0 {
            return None;
        }
        let offset = self.offset;
        let rest = self.bytes.split_off(self.begin);
        self.offset += rest.len() as u64;
        self.bytes.clear();
        self.begin = 0;
        self.searched = 0;
        Some((offset, rest))
    }
}

/// Where a long line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spilled {
    /// The blob that holds the whole line, without its end; sealed.
    pub blob: String,
    /// Its size in bytes.
    pub size: u64,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Of its first byte in its stream.
    pub offset: u64,
    /// The line without its end; only its first 64 KiB where it was put aside.
    pub bytes: Vec<u8>,
    /// Where the whole is, if it is longer than [`SPILL_ABOVE`].
    pub spilled: Option<Spilled>,
}

impl Line {
    /// The line as text; what is no UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Reads a source line by line. At most about 1 MiB is held; a longer line goes to a blob while it is read.
#[derive(Debug)]
pub struct Lines<S> {
    source: S,
    buffer: LineBuffer,
    long: Option<LongLine>,
    ended: bool,
}

#[derive(Debug)]
struct LongLine {
    offset: u64,
    head: Vec<u8>,
    blob: Blob,
}

impl<S: Source> Lines<S> {
    /// The lines of this source.
    pub fn new(source: S) -> Self {
        Self { source, buffer: LineBuffer::new(), long: None, ended: false }
    }

    /// The next line. Call until it is pending, or the source is not armed and no news comes.
    ///
    /// # Errors
    /// `line_too_long`, or a long line could not be put aside. The reader is of no use after it.
    pub fn next_line(&mut self) -> Result<Polled<Line>, Failure> {
        loop {
            if let Some((offset, line)) = self.buffer.next_line() {
                return match self.long.take() {
                    None => Ok(Polled::Ready(Line { offset, bytes: line.to_vec(), spilled: None })),
                    Some(long) => Ok(Polled::Ready(long.finish(line)?)),
                };
            }
            if self.buffer.waiting() > if self.long.is_some() { PIECE as usize } else { SPILL_ABOVE } {
                self.put_aside()?;
            }
            if self.ended {
                return self.last_line();
            }
            match self.source.read(PIECE) {
                Received::Bytes(bytes) => self.buffer.push(&bytes),
                Received::NotYet => return Ok(Polled::Pending),
                Received::End => self.ended = true,
            }
        }
    }

    fn last_line(&mut self) -> Result<Polled<Line>, Failure> {
        let rest = self.buffer.take_rest();
        if let Some(long) = self.long.take() {
            let bytes = rest.map(|(_, bytes)| bytes).unwrap_or_default();
            return Ok(Polled::Ready(long.finish(&bytes)?));
        }
        Ok(rest.map_or(Polled::End, |(offset, bytes)| Polled::Ready(Line { offset, bytes, spilled: None })))
    }

    fn put_aside(&mut self) -> Result<(), Failure> {
        let Some((offset, bytes)) = self.buffer.take_rest() else { return Ok(()) };
        let long = match &mut self.long {
            Some(long) => long,
            none => none.insert(LongLine { offset, head: bytes[..bytes.len().min(HEAD)].to_vec(), blob: Blob::create()? }),
        };
        if long.blob.size() + bytes.len() as u64 > MAX_LINE as u64 {
            return Err(too_long());
        }
        long.blob.write(&bytes)
    }
}

impl LongLine {
    fn finish(mut self, rest: &[u8]) -> Result<Line, Failure> {
        self.blob.write(rest)?;
        let size = self.blob.size();
        Ok(Line { offset: self.offset, bytes: self.head, spilled: Some(Spilled { blob: self.blob.seal()?, size }) })
    }
}

pub(crate) fn too_long() -> Failure {
    Failure::new("line_too_long", format!("the program wrote a line of more than {} MiB", MAX_LINE >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::tests::Script;

    fn all(lines: &mut Lines<Script>) -> Vec<(u64, String)> {
        let mut got = Vec::new();
        loop {
            match lines.next_line().unwrap() {
                Polled::Ready(line) => got.push((line.offset, line.text())),
                Polled::Pending => {}
                Polled::End => return got,
            }
        }
    }

    #[test]
    fn lines_are_whole_however_the_bytes_come() {
        let text = "eins\nzwei ä€😀\r\n\n\nlast without end";
        let expected: Vec<(u64, String)> =
            [(0, "eins"), (5, "zwei ä€😀"), (21, ""), (22, ""), (23, "last without end")].map(|(at, line)| (at, line.to_owned())).to_vec();
        for size in 1..=text.len() {
            assert_eq!(all(&mut Lines::new(Script::cut(text.as_bytes(), size))), expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_text_is_kept() {
        let mut lines = Lines::new(Script::cut(b"a\xffb\n\xc3", 2));
        assert_eq!(all(&mut lines), vec![(0, "a\u{fffd}b".to_owned()), (4, "\u{fffd}".to_owned())]);
        assert_eq!(lines.next_line().unwrap(), Polled::End);
    }
}

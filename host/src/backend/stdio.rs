//! A component's stdout and stderr: lines of the run's log, and the last words of stderr for the error message.
//!
//! Nothing is kept but one unfinished line and a short tail, whatever a component writes; the log bounds itself.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::capability::{RedactedStream, Redactor, RunLog};

/// The longest line; a longer one becomes several.
const LINE_BYTES: usize = 8 << 10;
/// How much of stderr is kept for the error message.
const TAIL_BYTES: usize = 4 << 10;
/// The longest error message that is taken from it.
const WORDS_CHARS: usize = 500;
/// What one write may carry.
const WRITE_BYTES: usize = 64 << 10;

/// One of the two streams. Clones write to the same.
#[derive(Clone)]
pub(super) struct Stream {
    lines: Arc<Mutex<Lines>>,
    tail: Option<LastWords>,
}

/// Bytes on their way to the log.
struct Lines {
    origin: &'static str,
    log: RunLog,
    /// Redacts before lines are made: a secret may lie across two.
    redacted: RedactedStream,
    line: Vec<u8>,
}

impl Stream {
    pub(super) fn stdout(log: &RunLog) -> Self {
        Self { lines: Lines::new("stdout", log), tail: None }
    }

    pub(super) fn stderr(log: &RunLog, tail: LastWords) -> Self {
        Self { lines: Lines::new("stderr", log), tail: Some(tail) }
    }

    fn take(&self, bytes: &[u8]) {
        if let Some(tail) = &self.tail {
            tail.add(bytes);
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).take(bytes);
    }
}

impl Lines {
    fn new(origin: &'static str, log: &RunLog) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { origin, log: log.clone(), redacted: log.secrets().stream(), line: Vec::new() }))
    }

    fn take(&mut self, bytes: &[u8]) {
        let bytes = self.redacted.push(bytes.to_vec());
        self.split(&bytes);
    }

    fn split(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            for part in text.chunks(LINE_BYTES) {
                if self.line.len() + part.len() > LINE_BYTES {
                    self.put();
                }
                self.line.extend_from_slice(part);
            }
            if ended {
                self.put();
            }
        }
    }

    fn put(&mut self) {
        self.log.line(self.origin, &String::from_utf8_lossy(&self.line));
        self.line.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let rest = self.redacted.finish();
        self.split(&rest);
        if !self.line.is_empty() {
            self.put();
        }
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this, and it is not linked.
        Box::new(tokio::io::sink())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BYTES {
            return Err(StreamError::Trap(wasmtime::Error::msg("a write to stdout or stderr that is larger than was offered")));
        }
        self.take(&bytes);
        Ok(())
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

/// The last bytes that a component wrote to stderr.
#[derive(Clone, Default)]
pub(super) struct LastWords(Arc<Mutex<Vec<u8>>>);

impl LastWords {
    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        let over = kept.len().saturating_sub(TAIL_BYTES);
        kept.drain(..over);
    }

    /// What a panic said, on one line, without control characters or secrets: `src/lib.rs:3:5: boom`.
    pub(super) fn panic(&self, secrets: &Redactor) -> Option<String> {
        let kept = secrets.whole(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let text = String::from_utf8_lossy(&kept);
        let (_, said) = text.rsplit_once("panicked at ")?;
        let said = said.split("\nnote: run with").next().unwrap_or(said);
        let line = one_line(said, WORDS_CHARS);
        (!line.is_empty()).then_some(line)
    }
}

/// Text of a component as part of a message: one line, no control characters, at most so many characters.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let words = text.split(|char: char| char.is_control() || char.is_whitespace()).filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > most * 4 {
            break;
        }
    }
    match line.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_panic_is_found() {
        let words = LastWords::default();
        words.add(b"thread 'main' (1) panicked at src/lib.rs:3:5:\nno \x1b[1mroom\nnote: run with `RUST_BACKTRACE=1`\n");
        assert_eq!(words.panic(&Redactor::default()).unwrap(), "src/lib.rs:3:5: no [1mroom");
    }

    #[test]
    fn a_secret_is_neither_in_the_message_nor_in_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let file = camino::Utf8Path::from_path(dir.path()).unwrap().join("log");
        let log = RunLog::open(&file, vec![b"hunter2-hunter2".to_vec()]);
        let words = LastWords::default();
        let stream = Stream::stderr(&log, words.clone());
        stream.take(b"panicked at lib.rs: no hunt");
        stream.take(b"er2-hunter2 here\nhunter2-hun");
        assert_eq!(words.panic(log.secrets()).unwrap(), "lib.rs: no *************** here hunter2-hun");
        drop(stream);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("no *************** here") && text.contains("hunter2-hun") && !text.contains("hunter2-hunter2"), "{text}");
    }

    #[test]
    fn only_the_end_of_stderr_is_kept() {
        let words = LastWords::default();
        for _ in 0..100 {
            words.add(&[b'x'; 1000]);
        }
        assert_eq!(words.0.lock().unwrap().len(), TAIL_BYTES);
        assert_eq!(words.panic(&Redactor::default()), None);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(one_line(&"é".repeat(20), 5), "ééééé…");
    }
}

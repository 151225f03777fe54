//! The run's log: what the component and its children say that is no event, one file for each run, bounded.
//!
//! A line is written at once, into the page cache, without waiting for the disk. Nothing here can fail a run: when the
//! file cannot be written the log is over, and says so where it still can.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};

use super::redact::Redactor;
use super::{Host, limits};
use crate::clock::Millis;
use crate::contract::falconer::backend::{log, types};

/// Bytes that one run's log may have.
pub const LOG_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of one line's text; what is longer becomes several lines.
pub const LINE_BYTES: usize = 8 * 1024;

/// Where one run's log lines go: a file in the data directory, bounded, secrets redacted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RunLog {
    secrets: Redactor,
    file: Option<Arc<Bounded>>,
}

#[derive(Debug)]
struct Bounded {
    path: Utf8PathBuf,
    most: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// No line came yet.
    Unopened,
    Open {
        file: File,
        written: u64,
    },
    /// It is full, or could not be written.
    Over,
}

impl RunLog {
    /// A log in this file; made when the first line comes. `redact`: values that are never written. Those of the run's
    /// grant need not be named here: [`Host::new`] adds them.
    #[must_use]
    pub fn open(file: &Utf8Path, redact: Vec<Vec<u8>>) -> Self {
        Self::bounded(file, redact, LOG_BYTES)
    }

    fn bounded(file: &Utf8Path, redact: Vec<Vec<u8>>, most: u64) -> Self {
        let secrets = Redactor::default();
        for value in redact {
            secrets.hide(&value);
        }
        let file = Bounded { path: file.to_owned(), most, state: Mutex::new(State::Unopened) };
        Self { secrets, file: Some(Arc::new(file)) }
    }

    /// A log that keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { secrets: Redactor::default(), file: None }
    }

    /// The values that this run never shows; all clones of the log share them.
    #[must_use]
    pub fn secrets(&self) -> &Redactor {
        &self.secrets
    }

    /// Adds a line, or several where `text` holds line ends; never blocks for long and never fails the run.
    pub fn line(&self, origin: &str, text: &str) {
        let Some(file) = &self.file else { return };
        let text = self.secrets.whole(text.as_bytes());
        let text = String::from_utf8_lossy(&text);
        let now = Millis::now();
        let mut out = String::with_capacity(text.len() + origin.len() + 32);
        for line in text.strip_suffix('\n').unwrap_or(&text).split('\n') {
            let mut rest = line.strip_suffix('\r').unwrap_or(line);
            loop {
                let piece = &rest[..rest.floor_char_boundary(LINE_BYTES)];
                rest = &rest[piece.len()..];
                out.push_str(&now.to_string());
                out.push(' ');
                inert(origin, &mut out);
                out.push(' ');
                inert(piece, &mut out);
                out.push('\n');
                if rest.is_empty() {
                    break;
                }
            }
        }
        file.write(&out);
    }
}

impl Bounded {
    fn write(&self, lines: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Unopened) {
            *state = self.open();
        }
        let State::Open { file, written } = &mut *state else { return };
        let size = lines.len() as u64;
        if *written + size > self.most {
            let _ = writeln!(file, "{} host the log is full ({} bytes); what follows is not kept", Millis::now(), self.most);
            *state = State::Over;
        } else if file.write_all(lines.as_bytes()).is_ok() {
            *written += size;
        } else {
            *state = State::Over;
        }
    }

    fn open(&self) -> State {
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&self.path);
        match opened.and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((written, file)) => State::Open { file, written },
            Err(error) => {
                tracing::warn!(file = %self.path, %error, "a run's log cannot be written");
                State::Over
            }
        }
    }
}

/// Writes control characters, and those that turn the direction of text around, as what they are.
fn inert(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '\t' => out.push('\t'),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.extend(letter.escape_unicode()),
            control if control.is_control() => out.extend(control.escape_unicode()),
            other => out.push(other),
        }
    }
}

impl log::Host for Host {
    fn write(&mut self, severity: types::Severity, message: String) -> wasmtime::Result<()> {
        limits::message("a log message", &message)?;
        let origin = match severity {
            types::Severity::Debug => "backend:debug",
            types::Severity::Info => "backend:info",
            types::Severity::Warning => "backend:warning",
            types::Severity::Error => "backend:error",
        };
        self.log.line(origin, &message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = Utf8PathBuf::from_path_buf(dir.path().join("run.log")).unwrap();
        (dir, file)
    }

    #[test]
    fn lines_have_time_and_origin_and_are_inert() {
        let (_dir, file) = temporary();
        let log = RunLog::open(&file, vec![b"canary-canary".to_vec()]);
        log.line("backend", "red \u{1b}[31m canary-canary \u{202e}x\nsecond");
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        let (time, rest) = lines[0].split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        assert_eq!(rest, "backend red \\u{1b}[31m ************* \\u{202e}x");
        assert!(lines[1].ends_with("Z backend second"));
    }

    #[test]
    fn a_full_log_says_so_once() {
        let (_dir, file) = temporary();
        let log = RunLog::bounded(&file, Vec::new(), 4096);
        for _ in 0..1000 {
            log.line("backend", "some words that fill the log");
        }
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.len() < 4096 + 128);
        assert_eq!(text.matches("the log is full").count(), 1);
        assert!(text.lines().last().unwrap().contains("the log is full"));
    }

    #[test]
    fn long_lines_are_split_between_characters() {
        let (_dir, file) = temporary();
        let log = RunLog::open(&file, Vec::new());
        log.line("backend", &"ä".repeat(LINE_BYTES));
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert_eq!(text.matches('ä').count(), LINE_BYTES);
    }

    #[test]
    fn a_log_that_cannot_be_written_disturbs_nobody() {
        let log = RunLog::open(Utf8Path::new("/nowhere/run.log"), Vec::new());
        log.line("backend", "lost");
        RunLog::none().line("backend", "lost");
    }
}

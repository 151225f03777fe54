//! What the wrapper at the far end says over the link (`docs/far-end.md`), taken apart from what the command says.
//!
//! A [`Link`] is fed with both outputs of the child and gives back the command's own bytes; it knows nothing of where they come
//! from. What came before the wrapper spoke is [noise](Link::noise): the login's own words, which may say why there is no
//! wrapper. Nothing is ever an error here: words that are none of the wrapper's belong to the command.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;

use memchr::memchr;
use memchr::memmem::Finder;

/// What is kept of what came before the wrapper spoke, in bytes.
pub const NOISE: usize = 8 << 10;
/// The longest line of the wrapper, in bytes, without the nonce; a longer one is not the wrapper's.
const LONGEST: usize = 1 << 10;

/// Heartbeat, as a line of the child's input.
pub const BEAT: &[u8] = b".\n";
/// Sends TERM to all of the run, as a line of the child's input.
pub const TERMINATE: &[u8] = b"T\n";
/// Kills all of the run, as a line of the child's input.
pub const KILL: &[u8] = b"K\n";
/// Removes what a detached command has left there, after its end; as a line of the child's input.
pub const FORGET: &[u8] = b"F\n";

/// What every word of the wrapper begins with, so that the command cannot speak for it. It is made up here, for one link, and sent
/// through the child's input, so that it stands in no argument.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// 128 bits from the keys of the standard library's hasher, which are random in every instance of a component.
    #[must_use]
    pub fn random() -> Self {
        let keys = RandomState::new();
        Self::of((u128::from(keys.hash_one(0u8)) << 64) | u128::from(keys.hash_one(1u8)))
    }

    fn of(bits: u128) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        Self(std::array::from_fn(|at| DIGITS[(bits >> (124 - 4 * at)) as usize & 15]))
    }
}

/// It is never shown.
impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

/// How far a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The wrapper has not spoken yet. Nothing but the first line and the command's input may be sent.
    Waiting,
    /// The command has begun (in mode `end`: the wrapper has).
    Begun {
        /// Its process there.
        pid: u32,
    },
    /// It is over, and this is what is known.
    Ended(Trailer),
    /// What a detached command left there was removed.
    Gone,
}

/// The wrapper's last word on a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trailer {
    /// The command has ended.
    Exited {
        /// Its status as a shell says it: 128 and the signal's number, where a signal ended it.
        status: u32,
        /// How many of the run's processes are left.
        left: u32,
        /// How many the wrapper ended after the command's own end.
        killed: u32,
        /// How it looked.
        looked: Looked,
    },
    /// In mode `end`: what was there is ended.
    Ended {
        /// How many of the run's processes are left.
        left: u32,
        /// How many the wrapper ended.
        killed: u32,
        /// How it looked.
        looked: Looked,
    },
    /// The wrapper could not do what it was to do.
    Fail {
        /// `cwd`, `storage`, `input`, `absent`, `vanished`, `exists` or `shell`.
        code: String,
        /// In words.
        detail: String,
    },
}

/// How the wrapper looked for what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// Through all processes of `/proc`.
    Proc,
    /// There is no `/proc`: only the command's process group was looked at.
    Group,
}

/// One link to a wrapper: what came over it, and how far it is.
#[derive(Debug)]
pub struct Link {
    nonce: Nonce,
    /// Finds the line with which the standard output begins.
    marker: Finder<'static>,
    /// Finds the nonce on the standard error.
    word: Finder<'static>,
    /// Whether the standard output's marker has come.
    through: bool,
    /// The end of what came, which may be the beginning of the marker or of a line of the wrapper.
    held_out: Vec<u8>,
    held_err: Vec<u8>,
    noise: Vec<u8>,
    state: State,
}

/// What stands behind a nonce.
enum Word {
    Begin(u32),
    Trailer(Trailer),
    Gone,
}

impl Link {
    /// A link that nothing has come over.
    #[must_use]
    pub fn new(nonce: Nonce) -> Self {
        let mut marker = nonce.0.to_vec();
        marker.push(b'\n');
        Self {
            marker: Finder::new(&marker).into_owned(),
            word: Finder::new(&nonce.0).into_owned(),
            nonce,
            through: false,
            held_out: Vec::new(),
            held_err: Vec::new(),
            noise: Vec::new(),
            state: State::Waiting,
        }
    }

    /// What the child's input begins with; the command's input follows, and nothing else before [`State::Begun`].
    #[must_use]
    pub fn first_line(&self) -> Vec<u8> {
        self.marker.needle().to_vec()
    }

    /// Takes what came on the child's standard output; gives what of it is the command's.
    #[must_use]
    pub fn stdout(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        if self.through {
            return bytes;
        }
        let mut all = joined(&mut self.held_out, bytes);
        if let Some(at) = self.marker.find(&all) {
            self.through = true;
            let rest = all.split_off(at + self.marker.needle().len());
            self.keep_noise(&all[..at]);
            return rest;
        }
        self.held_out = all.split_off(all.len() - beginning(&all, self.marker.needle()));
        self.keep_noise(&all);
        Vec::new()
    }

    /// Takes what came on the child's standard error; gives what of it is the command's.
    #[must_use]
    pub fn stderr(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let mut all = joined(&mut self.held_err, bytes);
        let mut payload = Vec::new();
        // Up to where there is no nonce.
        let mut from = 0;
        while let Some(at) = self.word.find(&all[from..]).map(|at| from + at) {
            let begin = at + self.nonce.0.len();
            let line = &all[begin..];
            let Some(end) = memchr(b'\n', &line[..line.len().min(LONGEST)]) else {
                if line.len() < LONGEST {
                    // The rest of the line is to come.
                    self.held_err = all.split_off(at);
                    return self.given(payload, all);
                }
                from = begin;
                continue;
            };
            let Some(word) = self.heard(&line[..end]) else {
                from = begin;
                continue;
            };
            let rest = all.split_off(begin + end + 1);
            all.truncate(at);
            payload = self.given(payload, all);
            self.take(word);
            all = rest;
            from = 0;
        }
        // What was passed over begins with a whole nonce, whose end is no beginning of another: hex digits, then a blank.
        let held = beginning(&all[from..], &self.nonce.0);
        self.held_err = all.split_off(all.len() - held);
        self.given(payload, all)
    }

    /// Both outputs have ended: what was held back of the standard error and is the command's after all.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        let out = std::mem::take(&mut self.held_out);
        self.keep_noise(&out);
        let err = std::mem::take(&mut self.held_err);
        self.given(Vec::new(), err)
    }

    /// How far it is.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// What came on both outputs before the wrapper spoke, as it came; at most the first [`NOISE`] bytes.
    #[must_use]
    pub fn noise(&self) -> &[u8] {
        &self.noise
    }

    /// These bytes of the standard error are not the wrapper's: the command's, once it has begun.
    fn given(&mut self, mut payload: Vec<u8>, bytes: Vec<u8>) -> Vec<u8> {
        if self.state == State::Waiting {
            self.keep_noise(&bytes);
            return payload;
        }
        if payload.is_empty() {
            return bytes;
        }
        payload.extend_from_slice(&bytes);
        payload
    }

    fn keep_noise(&mut self, bytes: &[u8]) {
        let room = NOISE - self.noise.len();
        self.noise.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// What a line says, if it says something that can come now.
    fn heard(&self, line: &[u8]) -> Option<Word> {
        let line = std::str::from_utf8(line).ok()?.strip_prefix(' ')?;
        match (&self.state, parse(line)?) {
            (State::Waiting, word @ (Word::Begin(_) | Word::Trailer(_)))
            | (State::Begun { .. }, word @ Word::Trailer(_))
            | (State::Ended(_), word @ Word::Gone) => Some(word),
            _ => None,
        }
    }

    fn take(&mut self, word: Word) {
        self.state = match word {
            Word::Begin(pid) => State::Begun { pid },
            Word::Trailer(trailer) => State::Ended(trailer),
            Word::Gone => State::Gone,
        };
    }
}

/// What was held and what came, without a copy where nothing was held.
fn joined(held: &mut Vec<u8>, bytes: Vec<u8>) -> Vec<u8> {
    if held.is_empty() {
        return bytes;
    }
    let mut all = std::mem::take(held);
    all.extend_from_slice(&bytes);
    all
}

/// How many bytes at the end of these may be the beginning of the needle.
fn beginning(bytes: &[u8], needle: &[u8]) -> usize {
    let most = bytes.len().min(needle.len() - 1);
    (1..=most).rev().find(|length| bytes.ends_with(&needle[..*length])).unwrap_or(0)
}

fn parse(line: &str) -> Option<Word> {
    if line == "gone" {
        return Some(Word::Gone);
    }
    let (kind, rest) = line.split_once(' ')?;
    match kind {
        "begin" => Some(Word::Begin(rest.parse().ok()?)),
        "fail" => {
            let (code, detail) = rest.split_once(' ').unwrap_or((rest, ""));
            Some(Word::Trailer(Trailer::Fail { code: code.to_owned(), detail: detail.to_owned() }))
        }
        "end" => {
            let mut words = rest.split(' ');
            let (how, status) = (words.next()?, words.next()?);
            let (left, killed) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let looked = match words.next()? {
                "proc" => Looked::Proc,
                "group" => Looked::Group,
                _ => return None,
            };
            match (how, status, words.next()) {
                ("exited", status, None) => Some(Word::Trailer(Trailer::Exited { status: status.parse().ok()?, left, killed, looked })),
                ("ended", "-", None) => Some(Word::Trailer(Trailer::Ended { left, killed, looked })),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

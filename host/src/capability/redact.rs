//! Secrets out of byte streams: each byte of a secret becomes `*`, so that lengths and offsets stay true.
//!
//! A byte is replaced when any occurrence of any secret covers it, also where occurrences overlap. How the stream was
//! cut into pieces makes no difference: the tail of a piece is held back as long as it could be the beginning of a
//! secret, and no longer. A stream without secrets passes untouched and uncopied.
//!
//! What it does not see: a secret in another form (base64, another line wrap).

use std::sync::{Arc, PoisonError, RwLock};

/// The shortest value that is redacted; shorter ones would hit ordinary text.
pub const MIN_SECRET: usize = 8;

/// One secret, ready to be looked for (Knuth, Morris and Pratt 1977: linear, whatever the text).
struct Pattern {
    bytes: Vec<u8>,
    /// For each length of a match: the length of the longest shorter match that ends at the same place.
    shorter: Vec<u32>,
}

impl Pattern {
    fn new(bytes: Vec<u8>) -> Self {
        let mut shorter = vec![0u32; bytes.len() + 1];
        let mut matched = 0usize;
        for at in 1..bytes.len() {
            while matched > 0 && bytes[at] != bytes[matched] {
                matched = shorter[matched] as usize;
            }
            if bytes[at] == bytes[matched] {
                matched += 1;
            }
            shorter[at + 1] = u32::try_from(matched).unwrap_or(0);
        }
        Self { bytes, shorter }
    }

    /// Goes on with a match of `matched` bytes through `text`, and marks what is covered. `offset`: where `text`
    /// begins in `covered`. Gives the length of the match at the end.
    fn run(&self, mut matched: usize, text: &[u8], offset: usize, covered: &mut [bool]) -> usize {
        let mut at = 0;
        while at < text.len() {
            if matched == 0 {
                match text[at..].iter().position(|byte| *byte == self.bytes[0]) {
                    None => return 0,
                    Some(skipped) => at += skipped,
                }
            }
            while matched > 0 && text[at] != self.bytes[matched] {
                matched = self.shorter[matched] as usize;
            }
            if text[at] == self.bytes[matched] {
                matched += 1;
            }
            at += 1;
            if matched == self.bytes.len() {
                let end = offset + at;
                covered[end - matched..end].fill(true);
                matched = self.shorter[matched] as usize;
            }
        }
        matched
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a secret of {} bytes", self.bytes.len())
    }
}

/// The values that are never shown. Cheap to clone; all clones are the same set. Values are only ever added.
#[derive(Debug, Clone, Default)]
pub struct Redactor(Arc<RwLock<Vec<Arc<Pattern>>>>);

impl Redactor {
    /// Adds a value. Values under [`MIN_SECRET`] bytes are ignored; whoever hands them out must refuse them.
    pub fn hide(&self, value: &[u8]) {
        if value.len() < MIN_SECRET {
            return;
        }
        let mut patterns = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !patterns.iter().any(|pattern| pattern.bytes == value) {
            patterns.push(Arc::new(Pattern::new(value.to_vec())));
        }
    }

    /// Redacts a whole text.
    #[must_use]
    pub fn whole(&self, text: &[u8]) -> Vec<u8> {
        let mut stream = self.stream();
        let mut out = stream.push(text.to_vec());
        out.extend(stream.finish());
        out
    }

    /// Begins a stream.
    #[must_use]
    pub fn stream(&self) -> Stream {
        Stream { secrets: self.clone(), patterns: Vec::new(), matched: Vec::new(), held: Vec::new(), covered: Vec::new() }
    }
}

/// One stream that is being redacted. It holds what may be a secret, so it cannot be shown.
pub struct Stream {
    secrets: Redactor,
    /// As they were at the last piece; those that join later are looked for from then on.
    patterns: Vec<Arc<Pattern>>,
    /// How much of each pattern the stream ends with.
    matched: Vec<usize>,
    /// Bytes that were not given out yet, and whether they are covered.
    held: Vec<u8>,
    covered: Vec<bool>,
}

impl Stream {
    /// Takes the next piece; gives all that is certain.
    pub fn push(&mut self, piece: Vec<u8>) -> Vec<u8> {
        self.refresh();
        if self.patterns.is_empty() {
            return piece;
        }
        let offset = self.held.len();
        let mut text = std::mem::take(&mut self.held);
        if text.is_empty() {
            text = piece;
        } else {
            text.extend_from_slice(&piece);
        }
        self.covered.resize(text.len(), false);
        let mut hold = 0;
        for (pattern, matched) in self.patterns.iter().zip(&mut self.matched) {
            *matched = pattern.run(*matched, &text[offset..], offset, &mut self.covered);
            hold = hold.max(*matched);
        }
        let certain = text.len() - hold;
        for (byte, _) in text.iter_mut().zip(&self.covered).take(certain).filter(|(_, covered)| **covered) {
            *byte = b'*';
        }
        self.held = text.split_off(certain);
        self.covered.drain(..certain);
        text
    }

    /// The end of the stream: gives what was held back.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.held);
        for (byte, _) in rest.iter_mut().zip(&self.covered).filter(|(_, covered)| **covered) {
            *byte = b'*';
        }
        self.covered.clear();
        self.matched.fill(0);
        rest
    }

    fn refresh(&mut self) {
        let secrets = self.secrets.0.read().unwrap_or_else(PoisonError::into_inner);
        for pattern in secrets.iter().skip(self.patterns.len()) {
            self.patterns.push(Arc::clone(pattern));
            self.matched.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor(secrets: &[Vec<u8>]) -> Redactor {
        let redactor = Redactor::default();
        for secret in secrets {
            redactor.hide(secret);
        }
        redactor
    }

    /// The definition, word for word.
    fn expected(secrets: &[Vec<u8>], text: &[u8]) -> Vec<u8> {
        let mut out = text.to_vec();
        for secret in secrets.iter().filter(|secret| secret.len() >= MIN_SECRET) {
            for at in 0..text.len() {
                if text[at..].starts_with(secret) {
                    out[at..at + secret.len()].fill(b'*');
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            secrets in prop::collection::vec(prop::collection::vec(prop::sample::select(&b"ab"[..]), 6..14), 0..4),
            letters in prop::collection::vec(prop::sample::select(&b"aabbc"[..]), 0..80),
            planted in prop::collection::vec((0usize..4, 0usize..80), 0..4),
            cuts in prop::collection::vec(1usize..9, 0..60),
        ) {
            let mut text = letters;
            for (which, at) in planted {
                if let Some(secret) = secrets.get(which) {
                    let at = at.min(text.len());
                    text.splice(at..at, secret.iter().copied());
                }
            }
            let redactor = redactor(&secrets);
            let longest = secrets.iter().map(Vec::len).max().unwrap_or(0);
            let mut stream = redactor.stream();
            let mut out = Vec::new();
            let (mut rest, mut taken) = (&text[..], 0);
            let mut cuts = cuts.into_iter();
            while !rest.is_empty() {
                let cut = cuts.next().unwrap_or(7).min(rest.len());
                out.extend(stream.push(rest[..cut].to_vec()));
                rest = &rest[cut..];
                taken += cut;
                prop_assert!(taken - out.len() < longest.max(1), "held back more than could be a secret");
            }
            out.extend(stream.finish());
            prop_assert_eq!(&out, &expected(&secrets, &text));
            prop_assert_eq!(out, redactor.whole(&text));
        }
    }

    #[test]
    fn a_secret_over_two_pieces_is_caught_and_the_rest_is_not_held() {
        let redactor = redactor(&[b"hunter2-hunter2".to_vec()]);
        let mut stream = redactor.stream();
        assert_eq!(stream.push(b"say hunter".to_vec()), b"say ");
        assert_eq!(stream.push(b"2-hunter2!".to_vec()), b"***************!");
        assert_eq!(stream.push(b"hunt".to_vec()), b"");
        assert_eq!(stream.finish(), b"hunt");
    }

    #[test]
    fn without_secrets_nothing_is_copied() {
        let redactor = redactor(&[b"short".to_vec()]);
        let piece = b"short is not redacted".to_vec();
        let at = piece.as_ptr();
        let out = redactor.stream().push(piece);
        assert_eq!(out.as_ptr(), at);
    }

    #[test]
    fn a_secret_that_comes_late_is_hidden_from_then_on() {
        let redactor = Redactor::default();
        let mut stream = redactor.stream();
        assert_eq!(stream.push(b"canary-canary".to_vec()), b"canary-canary");
        redactor.hide(b"canary-canary");
        // The last word could begin another one, so it is held until the end.
        let mut out = stream.push(b"canary-canary".to_vec());
        out.extend(stream.finish());
        assert_eq!(out, b"*************");
    }

    #[test]
    fn debug_shows_no_secret() {
        let redactor = redactor(&[b"canary-canary".to_vec()]);
        assert!(!format!("{redactor:?}").contains("canary"));
    }
}

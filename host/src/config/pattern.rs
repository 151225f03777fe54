//! Patterns for one argument, one shell line or one name: what a person writes, taken apart.
//!
//! | written | means |
//! |---|---|
//! | `status` | exactly this |
//! | `/var/log/*.log` | a glob: `*` some characters but no `/`, `**` also `/`, `?` one character but no `/` |
//! | `re:[0-9]{1,4}` | a regular expression, for the whole (never a part) |
//! | `\*` | a backslash takes a character as it is, in what is no regular expression |
//!
//! What a wildcard may stand for depends on where it is used and on which side (allow or deny); that is [`crate::policy`]'s.
//! A text that looks like another language's pattern is an error, not a literal that never fits.

use serde::{Serialize, Serializer};

use super::anchored;

/// One pattern. Equal when it is written the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    kind: PatternKind,
}

/// What a pattern is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternKind {
    /// Exactly this.
    Literal(String),
    /// Text with wildcards; neighbouring texts are one.
    Glob(Vec<Piece>),
    /// The source of a regular expression that is sound by itself and between anchors ([`anchored`]).
    Regex(String),
}

/// A part of a glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// `?`
    One,
    /// `*`
    Star,
    /// `**`
    Deep,
}

impl Pattern {
    /// Reads a pattern; what is wrong comes as a message and the way out.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        const QUOTES: &str = "write it in single quotes ('…'), so that a backslash stays one; it must match the whole";
        if text.contains('\0') {
            return Err(("a pattern holds a NUL".into(), "take it out: no argument can hold one".into()));
        }
        for other in ["regex:", "regexp:", "glob:"] {
            if text.starts_with(other) {
                return Err((
                    format!("`{other}` begins no pattern"),
                    "write `re:…` for a regular expression, and a glob without a word before it".into(),
                ));
            }
        }
        let kind = match text.strip_prefix("re:") {
            Some(source) => {
                anchored(source).map_err(|why| (format!("`{text}` holds a bad regular expression: {why}"), QUOTES.into()))?;
                PatternKind::Regex(source.to_owned())
            }
            None => pieces(text)?,
        };
        Ok(Self { text: text.to_owned(), kind })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> &PatternKind {
        &self.kind
    }

    /// The one text that it fits, where there is only one.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match &self.kind {
            PatternKind::Literal(text) => Some(text),
            PatternKind::Glob(_) | PatternKind::Regex(_) => None,
        }
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

fn pieces(text: &str) -> Result<PatternKind, (String, String)> {
    let mut out = Vec::new();
    let mut plain = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let wildcard = match letter {
            '\\' => {
                plain.push(letters.next().ok_or_else(|| {
                    (
                        format!("`{text}` ends in a backslash"),
                        "a backslash takes the next character as it is; write `\\\\` for one".to_owned(),
                    )
                })?);
                continue;
            }
            '*' if letters.peek() == Some(&'*') => {
                while letters.peek() == Some(&'*') {
                    letters.next();
                }
                Piece::Deep
            }
            '*' => Piece::Star,
            '?' => Piece::One,
            letter => {
                plain.push(letter);
                continue;
            }
        };
        if !plain.is_empty() {
            out.push(Piece::Text(std::mem::take(&mut plain)));
        }
        out.push(wildcard);
    }
    if out.is_empty() {
        return Ok(PatternKind::Literal(plain));
    }
    if !plain.is_empty() {
        out.push(Piece::Text(plain));
    }
    Ok(PatternKind::Glob(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_taken_apart() {
        let kind = |text: &str| Pattern::parse(text).unwrap().kind;
        assert_eq!(kind("status"), PatternKind::Literal("status".into()));
        assert_eq!(kind(""), PatternKind::Literal(String::new()));
        assert_eq!(kind(r"a\*b\\"), PatternKind::Literal(r"a*b\".into()));
        assert_eq!(kind(r"\re:x"), PatternKind::Literal("re:x".into()));
        assert_eq!(
            kind("/var/**/a?*.log"),
            PatternKind::Glob(vec![
                Piece::Text("/var/".into()),
                Piece::Deep,
                Piece::Text("/a".into()),
                Piece::One,
                Piece::Star,
                Piece::Text(".log".into())
            ])
        );
        assert_eq!(kind("***"), PatternKind::Glob(vec![Piece::Deep]));
        assert_eq!(kind("re:a*"), PatternKind::Regex("a*".into()));
        assert_eq!(Pattern::parse("a*").unwrap().literal(), None);
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        for (text, message) in [
            ("re:[a-", "holds a bad regular expression"),
            ("re:a)|(b", "holds a bad regular expression"),
            ("re:(?x)a # b", "holds a bad regular expression"),
            ("regex:a", "`regex:` begins no pattern"),
            ("glob:a", "`glob:` begins no pattern"),
            ("a\\", "ends in a backslash"),
            ("a\0", "holds a NUL"),
        ] {
            let (found, hint) = Pattern::parse(text).unwrap_err();
            assert!(found.contains(message) && !hint.is_empty(), "{text}: {found}");
        }
    }
}

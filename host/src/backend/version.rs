//! Versions of programs: dotted numbers, as far as they are numbers.
//!
//! They are compared number by number; what a program prints beside them (its name, `-beta`, a build) counts for nothing.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::stdio::one_line;

/// Numbers of one version that are looked at.
const PARTS: usize = 8;

/// A version such as `2.1.197`. A part that is not there is 0.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    text: String,
    parts: Vec<u64>,
}

impl Version {
    /// The first dotted numbers in what a program printed, e.g. `2.1.197` of `2.1.197 (Claude Code)`; a number alone is none.
    #[must_use]
    pub fn find(printed: &str) -> Option<Self> {
        let mut rest = printed;
        while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
            let from = rest.get(at..)?;
            let len = from.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(from.len());
            let (word, after) = from.split_at(len);
            let word = word.trim_end_matches('.');
            if word.contains('.')
                && let Ok(version) = word.parse()
            {
                return Some(version);
            }
            rest = after;
        }
        None
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` is no version; write dotted numbers, such as 1.12.3", one_line(text, 64));
        let parts: Vec<u64> = text
            .split('.')
            .map(|part| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten())
            .collect::<Option<_>>()
            .ok_or_else(wrong)?;
        if parts.len() > PARTS {
            return Err(wrong());
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.text
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let part = |version: &Self, at: usize| version.parts.get(at).copied().unwrap_or(0);
        (0..PARTS).map(|at| part(self, at).cmp(&part(other, at))).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("2.1.99") < version("2.1.329"));
        assert!(version("0.9") < version("0.160.0"));
        assert_eq!(version("1.2"), version("1.2.0"));
        assert!(
            ["", ".", "1.", "1.x", "-1", "1.2.3.4.5.6.7.8.9", "99999999999999999999"].iter().all(|text| text.parse::<Version>().is_err())
        );
    }

    #[test]
    fn a_version_is_found_in_what_a_program_prints() {
        let found = |printed: &str| Version::find(printed).map(|version| version.to_string());
        assert_eq!(found("2.1.329 (Claude Code)").as_deref(), Some("2.1.329"));
        assert_eq!(found("codex-cli 0.169.0\n").as_deref(), Some("0.169.0"));
        assert_eq!(found("tool2 v1.4.0-beta.3").as_deref(), Some("1.4.0"));
        assert_eq!(found("version 7.").as_deref(), None);
        assert_eq!(found("no number"), None);
    }
}

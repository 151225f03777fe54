//! What is wrong with a configuration, where, and how to mend it.

use std::fmt;
use std::ops::Range;

use camino::{Utf8Path, Utf8PathBuf};

use crate::fault::Fault;

/// The code of a [`Fault`] that a bad configuration makes.
pub const CONFIGURATION_INVALID: &str = "configuration_invalid";

/// A line of the file is shown up to so many characters.
const SHOWN: usize = 160;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file; none: what was given beside one (an argument, the environment).
    pub file: Option<Utf8PathBuf>,
    /// Where in the file; none: all of it.
    pub place: Option<Place>,
    /// What is wrong; lower-case.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// How many characters are meant, at least 1, within the line.
    pub width: usize,
    /// The line, control characters made inert and what may be a secret made stars.
    pub text: String,
}

/// A text of unknown origin for a message: control characters cannot move a terminal's cursor.
#[must_use]
pub fn inert(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl Place {
    /// The place of these bytes of a text; the bytes in `hidden` are not shown.
    #[must_use]
    pub fn of(text: &str, span: Range<usize>, hidden: &[Range<usize>]) -> Self {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let stop = text.floor_char_boundary(span.end.min(end)).max(start);
        let shown = |(at, c): (usize, char)| match c {
            _ if hidden.iter().any(|span| span.contains(&(begin + at))) => '*',
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        };
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[begin..start].chars().count() + 1,
            width: text[start..stop].trim_end().chars().count().max(1),
            text: text[begin..end].trim_end().char_indices().map(shown).take(SHOWN).collect(),
        }
    }
}

impl ConfigError {
    /// Something wrong with the whole file, or with what stands beside it.
    pub fn whole(file: Option<&Utf8Path>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { file: file.map(Utf8Path::to_owned), place: None, message: message.into(), hint: Some(hint.into()) }
    }

    /// `file:line:column: message`, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        match (&self.file, &self.place) {
            (Some(file), Some(place)) => format!("{file}:{}:{}: {}", place.line, place.column, self.message),
            (Some(file), None) => format!("{file}: {}", self.message),
            (None, Some(place)) => format!("{}:{}: {}", place.line, place.column, self.message),
            (None, None) => self.message.clone(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.summary())?;
        if let Some(place) = &self.place {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len());
            write!(f, "\n{margin} |\n{number} | {}", place.text)?;
            let room = SHOWN.saturating_sub(place.column - 1);
            if room > 0 {
                write!(f, "\n{margin} | {}{}", " ".repeat(place.column - 1), "^".repeat(place.width.min(room)))?;
            }
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// All that is wrong with a configuration, in the order of the file; never empty. Printed as it is, `error:` included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(problem: ConfigError) -> Self {
        Self(vec![problem])
    }
}

impl From<ConfigErrors> for Fault {
    /// The first of them, in one line, and how many more there are.
    fn from(errors: ConfigErrors) -> Self {
        let more = errors.0.len().saturating_sub(1);
        let mut problems = errors.0.into_iter();
        let (mut message, hint) =
            problems.next().map_or_else(|| ("the configuration is bad".to_owned(), None), |first| (first.summary(), first.hint));
        if more > 0 {
            message.push_str(&format!(" (and {more} more; `falconer check` shows all)"));
        }
        Self {
            hint: hint.or_else(|| Some("mend the file; `falconer check` shows the place".into())),
            ..Self::new(CONFIGURATION_INVALID, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_with_its_line() {
        let text = "[client]\ncwd_is_workspace = \"yes\"\n";
        let at = text.find("\"yes\"").unwrap();
        let problem = ConfigError {
            file: Some("falconer.toml".into()),
            place: Some(Place::of(text, at..at + 5, &[])),
            message: "not a boolean".into(),
            hint: Some("write true or false".into()),
        };
        assert_eq!(
            problem.to_string(),
            "error: falconer.toml:2:20: not a boolean\n  |\n2 | cwd_is_workspace = \"yes\"\n  |                    ^^^^^\n  hint: write true or false"
        );
    }

    #[test]
    fn a_place_holds_no_terminal_control_and_counts_characters() {
        let text = "ä = \"\u{1b}[31m\"";
        let place = Place::of(text, 3..4, &[]);
        assert_eq!((place.line, place.column), (1, 3));
        assert_eq!(place.text, "ä = \"\u{fffd}[31m\"");
        let end = Place::of(text, text.len() + 5..text.len() + 9, &[]);
        assert_eq!(end.width, 1);
    }

    #[test]
    fn a_fault_is_one_line_and_says_how_many_more() {
        let one = ConfigError::whole(Some("a.toml".into()), "no such file", "make it");
        let fault = Fault::from(ConfigErrors(vec![one.clone(), one]));
        assert_eq!(fault.code, CONFIGURATION_INVALID);
        assert_eq!(fault.message, "a.toml: no such file (and 1 more; `falconer check` shows all)");
        assert_eq!(fault.hint.as_deref(), Some("make it"));
    }
}

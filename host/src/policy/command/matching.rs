//! Patterns made ready, and what a wildcard stands for.
//!
//! On the side that allows, a wildcard stands for as little as can be meant: no control character, no `-` at the beginning (what
//! was meant as a name cannot become an option; an expression fits one only where it begins with `-` itself), at least one
//! character where it is a whole part of a path, nothing that is not in normal form; in a shell's line only letters, digits and
//! `_ . , : @ % + - /`, none of which a shell sees. On the side that denies it stands for anything.

use std::borrow::Cow;

use regex::Regex;

use super::plain::{self, Unplain};
use crate::config::{Commands, ListPattern, Pattern, PatternKind, Piece, Rest, anchored};

/// What a pattern is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// An argument, by a rule that allows.
    Argument,
    /// A shell's line, by a rule that allows.
    Line,
    /// Either, by a rule that denies; or a name, which nobody can slip something into.
    Anything,
}

/// A pattern made ready.
#[derive(Debug)]
pub(super) struct Matcher {
    of: Of,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Literal(String),
    Free {
        regex: Regex,
        /// A glob that begins with a wildcard, or an expression that does not begin with `-`: nor must what fits.
        no_option: bool,
    },
    /// A pattern that could not be compiled (it was checked before): fits nothing where it would allow, everything where it would
    /// deny.
    Broken,
}

/// Why something does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It is something else.
    Other,
    /// It would, were it in normal form.
    Unplain(Unplain),
    /// It begins with `-` where a wildcard stands.
    Option,
}

impl Matcher {
    pub fn new(pattern: &Pattern, of: Of) -> Self {
        let compiled = |source: &str, no_option| match anchored(source) {
            Ok(regex) => Kind::Free { regex, no_option },
            Err(_) => Kind::Broken,
        };
        let kind = match pattern.kind() {
            PatternKind::Literal(text) => Kind::Literal(text.clone()),
            PatternKind::Regex(source) => compiled(source, of == Of::Argument && !source.starts_with('-')),
            PatternKind::Glob(pieces) => {
                let wild = !matches!(pieces.first(), Some(Piece::Text(_)));
                compiled(&source(pieces, of), of == Of::Argument && wild)
            }
        };
        Self { of, kind }
    }

    pub fn fits(&self, text: &str) -> Result<(), Misfit> {
        let (regex, no_option) = match &self.kind {
            Kind::Literal(literal) => return if literal == text { Ok(()) } else { Err(Misfit::Other) },
            Kind::Broken if self.of == Of::Anything => return Ok(()),
            Kind::Broken => return Err(Misfit::Other),
            Kind::Free { regex, no_option } => (regex, *no_option),
        };
        if !regex.is_match(text) {
            return Err(Misfit::Other);
        }
        let unplain = match self.of {
            Of::Argument => plain::unplain(text),
            Of::Line => plain::unplain_line(text),
            Of::Anything => None,
        };
        match unplain {
            Some(unplain) => Err(Misfit::Unplain(unplain)),
            None if no_option && text.starts_with('-') => Err(Misfit::Option),
            None => Ok(()),
        }
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.fits(text).is_ok()
    }

    /// Whether it is this very text, written out.
    pub fn is_literally(&self, text: &str) -> bool {
        matches!(&self.kind, Kind::Literal(literal) if literal == text)
    }
}

/// A pattern for names that a person writes, such as those of machines: its wildcards stand for anything.
#[derive(Debug)]
pub struct Anything(Matcher);

impl Anything {
    /// Makes a pattern ready.
    #[must_use]
    pub fn new(pattern: &Pattern) -> Self {
        Self(Matcher::new(pattern, Of::Anything))
    }

    /// Whether it fits as a whole.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// A glob as a regular expression.
fn source(pieces: &[Piece], of: Of) -> String {
    // Without and with a slash. In a line, `-` is left out where a word begins.
    let (flat, deep) = match of {
        Of::Argument => (r"[^/\p{Cc}]", r"[^\p{Cc}]"),
        Of::Line => ("[A-Za-z0-9_.,:@%+-]", "[A-Za-z0-9_.,:@%+/-]"),
        Of::Anything => ("(?s:.)", "(?s:.)"),
    };
    let first_of = |deep: bool| if deep { "[A-Za-z0-9_.,:@%+/]" } else { "[A-Za-z0-9_.,:@%+]" };
    let mut out = String::new();
    // Whether a word of a line begins here, perhaps behind wildcards that stand for nothing.
    let mut word_begins = true;
    for (at, piece) in pieces.iter().enumerate() {
        let set = if matches!(piece, Piece::Deep) { deep } else { flat };
        let careful = of == Of::Line && word_begins;
        match piece {
            Piece::Text(text) => {
                out.push_str(&regex::escape(text));
                word_begins = text.bytes().next_back().is_none_or(|last| !(last.is_ascii_alphanumeric() || b"_.,:@%+-/=".contains(&last)));
            }
            Piece::One => {
                out.push_str(if careful { first_of(false) } else { set });
                word_begins = false;
            }
            Piece::Star | Piece::Deep => {
                let is_deep = matches!(piece, Piece::Deep);
                let opens = match at.checked_sub(1).map(|at| &pieces[at]) {
                    None => true,
                    Some(Piece::Text(text)) => text.ends_with('/') || (of == Of::Line && word_begins),
                    Some(_) => false,
                };
                let closes = match pieces.get(at + 1) {
                    None => true,
                    Some(Piece::Text(text)) => {
                        text.starts_with('/')
                            || (of == Of::Line
                                && !text.starts_with(|next: char| next.is_ascii_alphanumeric() || "_.,:@%+-=".contains(next)))
                    }
                    Some(_) => false,
                };
                let whole = opens && closes && of != Of::Anything;
                match (careful, whole) {
                    (true, true) => out.push_str(&format!("{}{set}*", first_of(is_deep))),
                    (true, false) => out.push_str(&format!("(?:{}{set}*)?", first_of(is_deep))),
                    (false, true) => out.push_str(&format!("{set}+")),
                    (false, false) => out.push_str(&format!("{set}*")),
                }
            }
        }
    }
    out
}

/// The patterns of a rule, made ready.
#[derive(Debug)]
pub(super) enum Ready {
    Lists(Vec<List>),
    Shell { lines: Vec<Matcher>, control_characters: bool },
}

/// One pattern for an argument list, made ready.
#[derive(Debug)]
pub(super) struct List {
    program: Matcher,
    /// A program that is named by a bare name.
    bare: Option<String>,
    args: Vec<Matcher>,
    rest: More,
    /// Its line in the file.
    pub line: usize,
}

#[derive(Debug)]
enum More {
    Nothing,
    Any,
    Each(Matcher),
}

/// How far a list fits a pattern, and where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Near {
    /// So many arguments fit (the program not counted); none: the program does not.
    pub fitting: Option<usize>,
    pub end: End,
}

/// Why a list does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There are more to come.
    TooFew,
    /// There are more than may be.
    TooMany,
    /// The next one (or the program) does not fit.
    Misfit(Misfit),
}

impl Ready {
    pub fn new(commands: &Commands, denies: bool) -> Self {
        let (list, line) = if denies { (Of::Anything, Of::Anything) } else { (Of::Argument, Of::Line) };
        match commands {
            Commands::Lists(lists) => Self::Lists(lists.iter().map(|pattern| List::new(pattern, list)).collect()),
            Commands::Shell { lines, control_characters } => Self::Shell {
                lines: lines.iter().map(|pattern| Matcher::new(pattern, line)).collect(),
                control_characters: *control_characters,
            },
        }
    }
}

impl List {
    fn new(pattern: &ListPattern, of: Of) -> Self {
        Self {
            program: Matcher::new(&pattern.program, of),
            bare: pattern.program.literal().filter(|name| !name.contains('/')).map(str::to_owned),
            args: pattern.args.iter().map(|pattern| Matcher::new(pattern, of)).collect(),
            rest: match &pattern.rest {
                Rest::Nothing => More::Nothing,
                Rest::Any => More::Any,
                Rest::Each(each) => More::Each(Matcher::new(each, of)),
            },
            line: pattern.line,
        }
    }

    /// Whether this list is allowed by it; else how far it fits, and what is wrong with the argument where it ends.
    pub fn allows(&self, args: &[String]) -> Result<(), Near> {
        let near = |fitting, end| Near { fitting, end };
        let Some((program, args)) = args.split_first() else { return Err(near(None, End::TooFew)) };
        self.program.fits(program).map_err(|misfit| near(None, End::Misfit(misfit)))?;
        for (at, pattern) in self.args.iter().enumerate() {
            let arg = args.get(at).ok_or(near(Some(at), End::TooFew))?;
            pattern.fits(arg).map_err(|misfit| near(Some(at), End::Misfit(misfit)))?;
        }
        let known = self.args.len();
        match &self.rest {
            More::Nothing if args.len() > known => Err(near(Some(known), End::TooMany)),
            More::Nothing | More::Any => Ok(()),
            More::Each(each) => args[known..]
                .iter()
                .enumerate()
                .try_for_each(|(at, arg)| each.fits(arg).map_err(|misfit| near(Some(known + at), End::Misfit(misfit)))),
        }
    }

    /// Whether this list is denied by it: in whatever form its paths are written, and wherever its program lies.
    pub fn denies(&self, args: &[String]) -> bool {
        let Some((program, args)) = args.split_first() else { return false };
        let any = |pattern: &Matcher, forms: &[Cow<'_, str>]| forms.iter().any(|form| pattern.is_match(form));
        let mut names = plain::forms(program);
        if let Some((_, last)) = program.rsplit_once('/')
            && self.bare.as_deref() == Some(last)
        {
            names.push(Cow::Borrowed(last));
        }
        any(&self.program, &names)
            && args.len() >= self.args.len()
            && self.args.iter().zip(args).all(|(pattern, arg)| any(pattern, &plain::forms(arg)))
            && match &self.rest {
                More::Nothing => args.len() == self.args.len(),
                More::Any => true,
                // Who denies files of a kind means any one of them.
                More::Each(each) => args[self.args.len()..].iter().any(|arg| any(each, &plain::forms(arg))),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, of: Of, text: &str) -> bool {
        Matcher::new(&Pattern::parse(pattern).unwrap(), of).is_match(text)
    }

    #[test]
    fn a_wildcard_of_an_allowed_argument_stands_for_little() {
        for (pattern, yes, no) in [
            (
                "/var/log/*",
                &["/var/log/a", "/var/log/.hidden"][..],
                &["/var/log/", "/var/log/a/b", "/var/log/..", "/var/log/.", "/var/log/a\n"][..],
            ),
            ("/var/log/**", &["/var/log/a", "/var/log/a/b"], &["/var/log/", "/var/log/a/../../x", "/var/log//a", "/var/logs/a"]),
            ("*.log", &["a.log", ".log", "ü.log"], &["-a.log", "./a.log", "x/a.log", "a.log\t"]),
            ("*", &["a", "a b"], &["", "-x", ".", "..", "a/b"]),
            ("**", &["a/b", "/etc"], &["", "-x", "../x"]),
            ("?", &["a", "ß"], &["", "ab", "/", "-"]),
            ("--n=*", &["--n=3", "--n="], &["--n=../x", "--m=3"]),
            ("re:[a-z]+", &["abc"], &["", "abc\n", "ab c", "../x"]),
            ("re:.*", &["", "a b"], &["a\nb", "../x", "a//b", "-x"]),
            ("re:[a-z-]+", &["a-b"], &["-h", "--all"]),
            ("re:-[a-z-]+", &["-h", "--all"], &["h"]),
            ("re:--since=[0-9-]+", &["--since=2026-11-21"], &["--since=x"]),
            ("re:(?s).*", &["a\nb"], &["/../"]),
            ("../x", &["../x"], &["x"]),
        ] {
            for text in yes {
                assert!(fits(pattern, Of::Argument, text), "{pattern} {text:?}");
            }
            for text in no {
                assert!(!fits(pattern, Of::Argument, text), "{pattern} {text:?}");
            }
        }
    }

    #[test]
    fn a_wildcard_in_a_line_stands_for_nothing_that_a_shell_sees() {
        let seen = " \t\n;&|<>()$`\\\"'*?[]#~={}!^";
        for letter in seen.chars() {
            for pattern in ["systemctl status *", "cat **", "x=?", "echo \"*\""] {
                let text = pattern.replace("**", "*").replace(['*', '?'], &format!("a{letter}b"));
                assert!(!fits(pattern, Of::Line, &text), "{pattern} {text:?}");
                let text = pattern.replace("**", "*").replace(['*', '?'], &letter.to_string());
                assert!(!fits(pattern, Of::Line, &text), "{pattern} {text:?}");
            }
        }
        assert!(fits("systemctl status *", Of::Line, "systemctl status nginx-1.service"));
        for (pattern, text) in [
            ("systemctl status *", "systemctl status --now"),
            ("systemctl status *", "systemctl status "),
            ("cat *?", "cat -n"),
            ("cat \"*\"", "cat \"-n\""),
            ("cat **", "cat a/../b"),
            ("cat **", "cat ../b"),
            ("cat *", "cat a/b"),
            ("* status", "-x status"),
        ] {
            assert!(!fits(pattern, Of::Line, text), "{pattern} {text:?}");
        }
        assert!(fits("cat a*", Of::Line, "cat a-b") && fits("cat a*", Of::Line, "cat a"));
    }

    #[test]
    fn where_it_denies_it_stands_for_anything() {
        for text in ["rm", "rm\n-rf", "-rm", "x/rm", "../rm", "rm\u{7f}"] {
            assert!(fits("*rm*", Of::Anything, text), "{text:?}");
        }
    }
}

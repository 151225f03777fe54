//! Why a command is refused, and what a person could change.

use super::matching::{End, Misfit, Near};
use super::plain::Unplain;
use super::{Asked, Command, RuleRef};
use crate::config::inert;
use crate::fault::{Fault, code};

/// A text is shown up to so many characters.
const SHOWN: usize = 80;
/// A command that is longer is not written out as a rule.
const SPELLED: usize = 12;

/// A refusal, for a caller, a plan and the ledger. No part of it holds a control character.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Why.
    pub reason: Box<Reason>,
    /// In one line.
    pub message: String,
    /// What the caller or a person could change.
    pub hint: String,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is no command that any rule could allow.
    Malformed(String),
    /// A rule denies it.
    Denied(RuleRef),
    /// No rule allows it; so many allow something else here.
    NoRule {
        /// Rules that allow something on this target.
        allowing: usize,
    },
    /// It is a line for a shell, and the rules here allow argument lists only.
    NoShell,
    /// A rule allows the like of it.
    Near {
        /// The rule, with the line of the pattern.
        rule: RuleRef,
        /// Where it ends.
        near: Miss,
    },
    /// A rule allows lines, and this one fits no pattern of it.
    OtherLine {
        /// The rule.
        rule: RuleRef,
    },
    /// A rule allows lines, but none with a control character.
    ControlCharacter {
        /// The rule.
        rule: RuleRef,
    },
    /// A rule would allow the line, were its paths in normal form.
    UnplainLine {
        /// The rule.
        rule: RuleRef,
        /// What is wrong with them.
        unplain: Unplain,
    },
    /// A rule allows the command, but not in this directory.
    Directory {
        /// The rule.
        rule: RuleRef,
        /// The directory.
        cwd: String,
    },
    /// A rule allows the command, but not with this in its environment.
    Variable {
        /// The rule.
        rule: RuleRef,
        /// Which name.
        name: String,
    },
}

/// Where a command leaves the pattern that it is nearest to. Arguments are counted from 1; 0 is the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// The program is another one.
    Program,
    /// After so many arguments there should be more.
    TooFew(usize),
    /// There may be only so many.
    TooMany(usize),
    /// This one does not fit.
    Argument(usize),
    /// This one is not in normal form.
    Unplain(usize, Unplain),
    /// This one begins with `-`, and the pattern does not.
    Option(usize),
}

impl From<Near> for Miss {
    fn from(near: Near) -> Self {
        let at = near.fitting.map_or(0, |fitting| fitting + 1);
        match near.end {
            End::Misfit(Misfit::Unplain(unplain)) => Self::Unplain(at, unplain),
            End::Misfit(Misfit::Option) => Self::Option(at),
            End::Misfit(Misfit::Other) if at == 0 => Self::Program,
            End::Misfit(Misfit::Other) => Self::Argument(at),
            End::TooFew => Self::TooFew(at.saturating_sub(1)),
            End::TooMany => Self::TooMany(at.saturating_sub(1)),
        }
    }
}

impl Reason {
    /// How near it was to being allowed: the nearest is told.
    pub(super) fn nearness(&self) -> usize {
        match self {
            Self::Malformed(_) | Self::Denied(_) | Self::NoRule { .. } => 0,
            Self::NoShell => 1,
            Self::Near { near, .. } => match near {
                Miss::Program => 0,
                Miss::TooFew(at) | Miss::TooMany(at) | Miss::Argument(at) => 2 + 2 * at,
                Miss::Unplain(at, _) | Miss::Option(at) => 3 + 2 * at,
            },
            Self::OtherLine { .. } => 2,
            Self::ControlCharacter { .. } => 3,
            Self::UnplainLine { .. } => 4,
            Self::Directory { .. } | Self::Variable { .. } => usize::MAX,
        }
    }

    /// The rule that refuses, or that comes nearest.
    #[must_use]
    pub fn rule(&self) -> Option<&RuleRef> {
        match self {
            Self::Denied(rule)
            | Self::Near { rule, .. }
            | Self::OtherLine { rule }
            | Self::ControlCharacter { rule }
            | Self::UnplainLine { rule, .. }
            | Self::Directory { rule, .. }
            | Self::Variable { rule, .. } => Some(rule),
            Self::Malformed(_) | Self::NoRule { .. } | Self::NoShell => None,
        }
    }
}

/// A text for a message: short, and inert.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = inert(&text.chars().take(SHOWN).collect::<String>());
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

impl Refused {
    pub(super) fn new(asked: &Asked<'_>, reason: Reason) -> Self {
        let what = match asked.command {
            Command::List(args) => shown(args.first().map_or("", String::as_str)),
            Command::Shell(line) => shown(line),
        };
        let place = asked.target.map_or_else(String::new, |target| format!(" on target `{}`", target.name));
        let arg = |at: usize| match asked.command {
            Command::List(args) => shown(args.get(at).map_or("", String::as_str)),
            Command::Shell(_) => String::new(),
        };
        let plainly = "write each path in its normal form, without `.`, `..` and `//` as parts";
        let (message, hint) = match &reason {
            Reason::Malformed(why) => (
                format!("this is no command that can be executed at the far end: {why}"),
                "give the program by its bare name or its absolute path, and each argument as an item of its own".to_owned(),
            ),
            Reason::Denied(rule) => (
                format!("{rule} denies `{what}`{place}"),
                "what a rule denies no other rule allows; a person would have to change that rule".to_owned(),
            ),
            Reason::NoRule { allowing: 0 } => (format!("no rule allows anything{place} for backend `{}`", asked.backend), spelled(asked)),
            Reason::NoRule { .. } => (format!("no rule allows `{what}`{place}"), spelled(asked)),
            Reason::NoShell => (
                format!("no rule allows a shell line{place}"),
                "give the command as an argument list, which needs no shell; a person could add a rule with `shell = true`".to_owned(),
            ),
            Reason::OtherLine { rule } => (
                format!("no rule allows the line `{what}`{place}; the nearest is {rule}, and it fits no pattern of that"),
                "a line fits a pattern as a whole, or not at all; give one command as an argument list, which needs no shell".to_owned(),
            ),
            Reason::Near { rule, near } => {
                let (why, hint) = match near {
                    Miss::Program => (format!("`{what}` is another program"), spelled(asked)),
                    Miss::TooFew(at) => {
                        (format!("`{what}` needs more than {at} argument{}", if *at == 1 { "" } else { "s" }), spelled(asked))
                    }
                    Miss::TooMany(at) => (format!("`{what}` may have {at} argument{}", if *at == 1 { "" } else { "s" }), spelled(asked)),
                    Miss::Argument(at) => (format!("argument {at} of `{what}`, `{}`, fits no pattern", arg(*at)), spelled(asked)),
                    Miss::Unplain(at, unplain) => {
                        (format!("argument {at} of `{what}`, `{}`, holds {}", arg(*at), unplain.what()), plainly.to_owned())
                    }
                    Miss::Option(at) => (
                        format!("argument {at} of `{what}`, `{}`, begins with `-`, where the pattern stands for no option", arg(*at)),
                        "write a file of such a name with its directory before it; an option needs a pattern of its own".to_owned(),
                    ),
                };
                (format!("no rule allows this{place}; the nearest is {rule}: {why}"), hint)
            }
            Reason::ControlCharacter { rule } => (
                format!("no rule allows this line{place}: it holds a control character, and {rule} takes none"),
                "write it as one line without tabs; or a person adds `control_characters = true` to a rule with `shell = true`".to_owned(),
            ),
            Reason::UnplainLine { rule, unplain } => (
                format!("no rule allows this line{place}: it holds {}, which no wildcard of {rule} stands for", unplain.what()),
                plainly.to_owned(),
            ),
            Reason::Directory { rule, cwd } => (
                format!("{rule} allows `{what}`{place}, but not in the directory `{}`", shown(cwd)),
                "leave the directory out; or a person adds it to `cwd` of that rule".to_owned(),
            ),
            Reason::Variable { rule, name } => (
                format!("{rule} allows `{what}`{place}, but not with `{name}` in the environment"),
                format!("leave `{name}` out; or a person adds it to `env` of that rule"),
            ),
        };
        Self { reason: Box::new(reason), message, hint }
    }

    /// As an answer to a caller: `not_allowed`, or `invalid_argument` for what is no command.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let code = if matches!(*self.reason, Reason::Malformed(_)) { code::INVALID_ARGUMENT } else { code::NOT_ALLOWED };
        Fault::new(code, self.message.clone()).hint(self.hint.clone())
    }
}

/// The rule that a person could write, where it is short enough to be read. A line is never proposed: it may be anybody's.
fn spelled(asked: &Asked<'_>) -> String {
    // JSON's strings are TOML's; a pattern's own signs are taken as they are.
    let literal = |text: &str| {
        let escaped: String =
            text.chars().flat_map(|letter| matches!(letter, '\\' | '*' | '?').then_some('\\').into_iter().chain([letter])).collect();
        let guarded = ["re:", "regex:", "regexp:", "glob:", "..."].iter().any(|word| escaped.starts_with(word));
        serde_json::Value::from(if guarded { format!("\\{escaped}") } else { escaped }).to_string()
    };
    let place = asked.target.map_or_else(String::new, |target| format!("targets = [\"{}\"], ", target.name));
    let rule = match asked.command {
        Command::List(args) if args.len() <= SPELLED && args.iter().all(|arg| arg.len() <= SHOWN) => {
            format!("allow = [[{}]]", args.iter().map(|arg| literal(arg)).collect::<Vec<_>>().join(", "))
        }
        Command::List(_) => "allow = [[\"PROGRAM\", \"ARGUMENT\"]]".to_owned(),
        Command::Shell(_) => "shell = true, allow = [\"LINE\"]".to_owned(),
    };
    inert(&format!("a person could add to the configuration, under [[rules]]: {place}{rule}"))
}

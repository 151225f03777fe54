//! The command rule: may this be executed at the far end, which rule says so, within which limits.
//!
//! One engine for every backend that names a far-end command. Deny is the default; a rule that denies beats every rule that
//! allows; of those that allow, the first in the file counts. An argument list is matched argument by argument, a line for a
//! shell as a whole and only by rules that say `shell = true`. What is judged is what runs: nothing is rewritten, and only the
//! judge makes a [`FarCommand`]. It knows texts alone; where a name or a symbolic link leads at the far end, and what an allowed
//! program does with its arguments, it cannot know. It fails closed: what cannot be judged is refused, with the reason.

mod far;
mod judge;
mod matching;
mod permitted;
mod plain;
pub mod quote;
mod refusal;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use camino::Utf8PathBuf;

pub use far::FarCommand;
pub use judge::is_loader;
pub use matching::Anything;
pub use permitted::Permitted;
pub use refusal::{Reason, Refused};

use crate::config::{Config, Effect, FarLimits, Rule, Tag, Target};
use judge::{allows, command, surroundings, well_formed};
use matching::{Matcher, Of, Ready};

/// The most that a command may hold in all, in bytes: the contract's limit for a list. (What fits into one argument of a program
/// at the far end is less: 128 KiB on Linux.)
pub const LONGEST: usize = 1 << 20;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// By which backend.
    pub backend: &'a str,
    /// Where; none: the backend knows one place only. Then a rule's `targets` are held against an empty name.
    pub target: Option<&'a Target>,
    /// What.
    pub command: Command<'a>,
    /// The directory at the far end.
    pub cwd: Option<&'a str>,
    /// What is to be set in the environment there.
    pub env: &'a [(String, String)],
}

/// A command that nobody has judged yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// The program and its arguments.
    List(&'a [String]),
    /// A line for a POSIX shell.
    Shell(&'a str),
}

/// What was allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// What may be executed.
    pub command: FarCommand,
    /// The rule that says so.
    pub rule: RuleRef,
    /// Within which limits.
    pub limits: Ceilings,
}

/// The limits that rule, target and tags give together: the least of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// Wall time of the run, and whose limit that is.
    pub wall: Option<(Share, Duration)>,
    /// Bytes of events and artifacts, and whose limit that is.
    pub output: Option<(Share, u64)>,
    /// Each with what it counts; a run needs a place in all of them.
    pub parallel: Vec<(Share, u32)>,
}

/// Who sets a limit; and what a number of runs at once is counted over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Share {
    /// All runs under this rule (by its place among the rules, from 1).
    Rule(usize),
    /// All runs on this target.
    Target(String),
    /// All runs on targets with this tag.
    Tag(String),
}

/// A rule, for messages, receipts and the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRef {
    /// Its place among the rules, from 1.
    pub index: usize,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The file that it stands in.
    pub file: Option<Utf8PathBuf>,
    /// Where `[[rules]]` stands there, from 1; where one pattern decides, its line.
    pub line: usize,
}

impl Allowed {
    /// Who sets a limit, for people.
    #[must_use]
    pub fn source(&self, share: &Share) -> String {
        match share {
            Share::Rule(_) => self.rule.to_string(),
            Share::Target(name) => format!("target `{name}`"),
            Share::Tag(name) => format!("tag `{name}`"),
        }
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "rule `{name}`")?,
            None => write!(f, "rule {}", self.index)?,
        }
        let file = self.file.as_ref().and_then(|file| file.file_name()).unwrap_or("falconer.toml");
        write!(f, " ({file}:{})", self.line)
    }
}

/// All rules of a configuration, made ready.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Prepared>,
    tags: BTreeMap<String, Tag>,
}

#[derive(Debug)]
struct Prepared {
    at: RuleRef,
    backends: Vec<String>,
    targets: Vec<Matcher>,
    tags: Vec<String>,
    effect: Says,
}

#[derive(Debug)]
enum Says {
    Allow { commands: Ready, cwd: Vec<Matcher>, env: Vec<Matcher>, limits: FarLimits },
    Deny(Ready),
    DenyAll,
}

impl Rules {
    /// Makes the rules of a configuration ready.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let prepare = |(at, rule): (usize, &Rule)| Prepared {
            at: RuleRef { index: at + 1, name: rule.name.clone(), file: config.file.clone(), line: rule.line },
            backends: rule.backends.clone(),
            targets: rule.targets.iter().map(|pattern| Matcher::new(pattern, Of::Anything)).collect(),
            tags: rule.tags.clone(),
            effect: match &rule.effect {
                Effect::Allow { commands, cwd, env, limits } => Says::Allow {
                    commands: Ready::new(commands, false),
                    cwd: cwd.iter().map(|pattern| Matcher::new(pattern, Of::Argument)).collect(),
                    env: env.iter().map(|pattern| Matcher::new(pattern, Of::Argument)).collect(),
                    limits: *limits,
                },
                Effect::Deny(commands) => Says::Deny(Ready::new(commands, true)),
                Effect::DenyAll => Says::DenyAll,
            },
        };
        Self { rules: config.rules.iter().enumerate().map(prepare).collect(), tags: config.tags.clone() }
    }

    /// Judges a command.
    pub fn judge(&self, asked: &Asked<'_>) -> Result<Allowed, Refused> {
        well_formed(asked)?;
        let here: Vec<&Prepared> = self.rules.iter().filter(|rule| rule.is_about(asked)).collect();
        if let Some(at) = here.iter().find_map(|rule| rule.denies(&asked.command)) {
            return Err(Refused::new(asked, Reason::Denied(at)));
        }
        let mut nearest: Option<Reason> = None;
        let mut allowing = 0;
        for rule in here {
            let Says::Allow { commands, cwd, env, limits } = &rule.effect else { continue };
            allowing += 1;
            let verdict = allows(rule, commands, &asked.command).and_then(|at| surroundings(&at, cwd, env, asked).map(|()| at));
            match verdict {
                Ok(at) => return Ok(Allowed { command: command(asked), limits: self.limits(&at, limits, asked.target), rule: at }),
                Err(reason) if nearest.as_ref().is_none_or(|best| best.nearness() < reason.nearness()) => nearest = Some(reason),
                Err(_) => {}
            }
        }
        Err(Refused::new(asked, nearest.filter(|reason| reason.nearness() > 0).unwrap_or(Reason::NoRule { allowing })))
    }

    fn limits(&self, rule: &RuleRef, own: &FarLimits, target: Option<&Target>) -> Ceilings {
        let mut all = vec![(Share::Rule(rule.index), *own)];
        if let Some(target) = target {
            all.push((Share::Target(target.name.clone()), target.limits));
            all.extend(target.tags.iter().filter_map(|tag| Some((Share::Tag(tag.clone()), self.tags.get(tag)?.limits))));
        }
        // Of equals the first is told: the rule before the target, that before its tags.
        Ceilings {
            wall: all.iter().filter_map(|(share, limits)| Some((share.clone(), limits.wall?))).min_by_key(|(_, wall)| *wall),
            output: all.iter().filter_map(|(share, limits)| Some((share.clone(), limits.output?))).min_by_key(|(_, output)| *output),
            parallel: all.into_iter().filter_map(|(share, limits)| Some((share, limits.parallel?))).collect(),
        }
    }
}

impl Prepared {
    fn is_about(&self, asked: &Asked<'_>) -> bool {
        let name = asked.target.map_or("", |target| target.name.as_str());
        let tags = asked.target.map_or(&[][..], |target| &target.tags);
        (self.backends.is_empty() || self.backends.iter().any(|backend| backend == asked.backend))
            && (self.targets.is_empty() || self.targets.iter().any(|pattern| pattern.is_match(name)))
            && (self.tags.is_empty() || self.tags.iter().any(|tag| tags.contains(tag)))
    }

    /// The place that denies it.
    fn denies(&self, command: &Command<'_>) -> Option<RuleRef> {
        match (&self.effect, command) {
            (Says::DenyAll, _) => Some(self.at.clone()),
            (Says::Deny(Ready::Lists(lists)), Command::List(args)) => {
                lists.iter().find(|list| list.denies(args)).map(|list| RuleRef { line: list.line, ..self.at.clone() })
            }
            (Says::Deny(Ready::Shell { lines, .. }), Command::Shell(line)) => {
                lines.iter().any(|pattern| pattern.is_match(line)).then(|| self.at.clone())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;

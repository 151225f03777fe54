//! `[[rules]]`: which commands a run may have executed at the far end, where, and within which limits.
//!
//! A rule allows or denies, argument lists or (with `shell = true`) whole lines for a shell. The text is taken apart here, so
//! that every mistake has its line; what fits is judged by [`crate::policy`]'s command rule.

use std::ops::Range;
use std::time::Duration;

use serde::Serialize;
use toml::de::DeValue;

use super::defaults;
use super::document::{Section, kind};
use super::error::Place;
use super::grants;
use super::pattern::Pattern;

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rule {
    /// For messages, receipts and the ledger; unique where it is given.
    pub name: Option<String>,
    /// Where `[[rules]]` stands in the file, from 1. No part of what the configuration means.
    #[serde(skip)]
    pub line: usize,
    /// Names of backends; empty: every backend.
    pub backends: Vec<String>,
    /// Patterns for the target's name; empty: any target (of an allowing rule only where it names tags).
    pub targets: Vec<Pattern>,
    /// The target has one of these; empty: whatever it has.
    pub tags: Vec<String>,
    /// What it says about which commands.
    pub effect: Effect,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// These may be executed, within limits.
    Allow {
        /// Which ones.
        commands: Commands,
        /// Patterns for the directory at the far end that a run may name (absolute); empty: none, which leaves the login's own.
        cwd: Vec<Pattern>,
        /// Patterns for names of environment variables that a run may set at the far end; empty: none.
        env: Vec<Pattern>,
        /// Within which limits.
        limits: FarLimits,
    },
    /// These may not, whatever else allows them.
    Deny(Commands),
    /// Nothing may (`deny = true`).
    DenyAll,
}

/// The commands that a rule is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Commands {
    /// Argument lists.
    Lists(Vec<ListPattern>),
    /// Whole lines for a shell.
    Shell {
        /// One pattern a line.
        lines: Vec<Pattern>,
        /// Whether a line may hold control characters (a newline, a tab …).
        control_characters: bool,
    },
}

/// A pattern for an argument list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListPattern {
    /// The program: a bare name, or an absolute path.
    pub program: Pattern,
    /// One pattern for each argument, in order.
    pub args: Vec<Pattern>,
    /// What may follow.
    pub rest: Rest,
    /// Its line in the file, from 1.
    #[serde(skip)]
    pub line: usize,
}

/// What may follow after the arguments that have a pattern each.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// `...`: any arguments, also none.
    Any,
    /// `... PATTERN`: any number of arguments, also none, each of which fits; in `deny`: of which one fits.
    Each(Pattern),
}

/// Limits of far-end commands, of a rule, a target or a tag. None: as wide as the others let it be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FarLimits {
    /// Wall time of a run.
    pub wall: Option<Duration>,
    /// Bytes of events and artifacts of a run.
    pub output: Option<u64>,
    /// Runs at once under this rule, on this target, on all targets with this tag.
    pub parallel: Option<u32>,
}

/// The limits that stand in a table of their own, or among the keys of a rule.
pub(super) fn limits(section: &Section<'_, '_>) -> FarLimits {
    FarLimits {
        wall: section.duration("wall", defaults::WALL),
        output: section.size("output", defaults::OUTPUT),
        parallel: section.number("parallel", defaults::RUNS),
    }
}

/// Reads all rules.
pub(super) fn read(top: &Section<'_, '_>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for (section, span) in top.tables("rules") {
        let before = section.reading.problems.borrow().len();
        let rule = rule(&section, span);
        if let Some(rule) = rule
            && section.reading.problems.borrow().len() == before
        {
            if let Some(twin) = rules.iter().find(|earlier| earlier.name.is_some() && earlier.name == rule.name)
                && let Some((name, span)) = section.string("name")
            {
                section.reading.problem(span, format!("rule `{name}` is there already, on line {}", twin.line), "give it another name");
            }
            rules.push(rule);
        }
        section.close(|key| match key {
            "backend" => Some("write `backends = [\"ssh\"]`".into()),
            "target" => Some("write `targets = [\"name\"]`".into()),
            "tag" => Some("write `tags = [\"name\"]`".into()),
            "command" | "commands" | "action" => Some("write `allow = [[\"program\", \"argument\"]]`, or `deny = …`".into()),
            _ => None,
        });
    }
    rules
}

fn rule(section: &Section<'_, '_>, span: Range<usize>) -> Option<Rule> {
    let reading = section.reading;
    let name = section.string("name").map(|(name, span)| {
        if name.is_empty() || name.chars().count() > 80 || name.chars().any(char::is_control) {
            reading.problem(span, "`name` is empty, longer than 80 characters, or holds a control character", "take a short name");
        }
        name
    });
    let mut backends = Vec::new();
    for (name, span) in section.strings("backends").unwrap_or_default() {
        if !grants::is_name(&name) {
            reading.problem(span, format!("`{name}` is no name of a backend"), "write names of backends, as in `backends = [\"ssh\"]`");
        }
        backends.push(name);
    }
    let targets = patterns(section, "targets");
    let tags: Vec<String> = section.strings("tags").unwrap_or_default().into_iter().map(|(tag, _)| tag).collect();
    for key in ["backends", "targets", "tags"] {
        // `targets = []` would mean "everywhere", which nobody means who writes it.
        if let Some(value) = section.value(key)
            && matches!(value.get_ref(), DeValue::Array(list) if list.is_empty())
        {
            reading.problem(value.span(), format!("`{key}` is an empty list"), format!("leave `{key}` out, or name some"));
        }
    }
    let shell = section.boolean("shell").unwrap_or(false);
    let control = section.boolean("control_characters");
    if control.is_some() && !shell {
        let place = section.value("control_characters").map_or(span.clone(), toml::Spanned::span);
        reading.problem(place, "`control_characters` is about shell lines", "take it out, or add `shell = true`");
    }
    let given = |key: &'static str| section.value(key).map(|value| (key, value.span()));
    let effect = match (given("allow"), given("deny")) {
        (Some(_), None) => {
            let commands = commands(section, "allow", shell, control.unwrap_or(false))?;
            if targets.is_empty() && tags.is_empty() {
                reading.problem(
                    span.clone(),
                    "a rule that allows must say where",
                    "add `targets = [\"web-*\"]` or `tags = [\"web\"]`; `targets = [\"*\"]` is everywhere",
                );
            }
            Effect::Allow { commands, cwd: directories(section), env: variables(section), limits: limits(section) }
        }
        (None, Some(_)) => {
            for key in ["cwd", "env", "wall", "output", "parallel"] {
                if let Some((key, span)) = given(key) {
                    reading.problem(span, format!("a rule that denies has no `{key}`"), format!("take `{key}` out"));
                }
            }
            match section.value("deny").map(toml::Spanned::get_ref) {
                Some(DeValue::Boolean(true)) => Effect::DenyAll,
                _ => Effect::Deny(commands(section, "deny", shell, true)?),
            }
        }
        (both, _) => {
            let what = if both.is_some() { "both `allow` and `deny`" } else { "neither `allow` nor `deny`" };
            reading.problem(
                span,
                format!("a rule has {what}"),
                "write `allow = [[\"program\", \"argument\"]]`, or `deny = …`: one of the two",
            );
            for key in ["allow", "deny", "cwd", "env", "wall", "output", "parallel"] {
                section.value(key);
            }
            return None;
        }
    };
    Some(Rule { name, line: Place::of(reading.text, span, &[]).line, backends, targets, tags, effect })
}

fn patterns(section: &Section<'_, '_>, key: &'static str) -> Vec<Pattern> {
    let read = section.strings(key).unwrap_or_default().into_iter();
    read.filter_map(|(text, span)| pattern(section, &text, span)).collect()
}

fn pattern(section: &Section<'_, '_>, text: &str, span: Range<usize>) -> Option<Pattern> {
    Pattern::parse(text).map_err(|(message, hint)| section.reading.problem(span, message, hint)).ok()
}

fn directories(section: &Section<'_, '_>) -> Vec<Pattern> {
    let written = section.strings("cwd").unwrap_or_default();
    let mut out = Vec::new();
    for (text, span) in written {
        if text.starts_with('/') || text.starts_with("re:/") || text == "**" {
            out.extend(pattern(section, &text, span));
        } else {
            section.reading.problem(
                span,
                format!("`cwd` holds `{text}`, which is not absolute"),
                "write `\"/srv/app\"` or `\"/srv/**\"`: a directory at the far end",
            );
        }
    }
    out
}

fn variables(section: &Section<'_, '_>) -> Vec<Pattern> {
    let mut out = Vec::new();
    for (text, span) in section.strings("env").unwrap_or_default() {
        if text.contains('=') {
            section.reading.problem(
                span,
                format!("`{text}` is no name of an environment variable"),
                "write the name alone: a run brings the value",
            );
        } else if text.starts_with("FALCONER_") {
            section.reading.problem(span, format!("`{text}` is set by the host alone"), "take it out");
        } else {
            out.extend(pattern(section, &text, span));
        }
    }
    out
}

fn commands(section: &Section<'_, '_>, key: &'static str, shell: bool, control_characters: bool) -> Option<Commands> {
    const LIST: &str =
        "write each command as a list, as in [[\"systemctl\", \"status\", \"nginx\"]]; a line for a shell needs `shell = true`";
    const LINE: &str =
        "with `shell = true` each command is one line in quotes, as in [\"uptime\"]; an argument list needs a rule without it";
    let reading = section.reading;
    let value = section.value(key)?;
    let DeValue::Array(items) = value.get_ref() else {
        let or = if key == "deny" { "; `deny = true` denies all" } else { "" };
        let hint = if shell { LINE } else { LIST };
        reading.problem(value.span(), format!("`{key}` must be a list of commands, not {}", kind(value.get_ref())), format!("{hint}{or}"));
        return None;
    };
    if items.is_empty() {
        reading.problem(value.span(), format!("`{key}` is an empty list"), if shell { LINE } else { LIST });
    }
    if shell {
        let mut lines = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) if text.is_empty() => reading.problem(item.span(), "a line is empty", LINE),
                DeValue::String(text) => lines.extend(pattern(section, text, item.span())),
                other => reading.problem(item.span(), format!("a shell line must be a string, not {}", kind(other)), LINE),
            }
        }
        return Some(Commands::Shell { lines, control_characters });
    }
    let mut lists = Vec::new();
    for item in items.iter() {
        match item.get_ref() {
            DeValue::Array(words) => lists.extend(list(section, words, item.span())),
            other => reading.problem(item.span(), format!("a command must be a list of arguments, not {}", kind(other)), LIST),
        }
    }
    Some(Commands::Lists(lists))
}

fn list(section: &Section<'_, '_>, words: &toml::de::DeArray<'_>, span: Range<usize>) -> Option<ListPattern> {
    let reading = section.reading;
    let mut patterns = Vec::new();
    let mut rest = Rest::Nothing;
    for (at, word) in words.iter().enumerate() {
        let DeValue::String(text) = word.get_ref() else {
            reading.problem(word.span(), format!("an argument must be a string, not {}", kind(word.get_ref())), "put it in quotes");
            return None;
        };
        let Some(after) = text.strip_prefix("...").filter(|after| after.is_empty() || after.starts_with(' ')) else {
            patterns.push(pattern(section, text, word.span())?);
            continue;
        };
        if at == 0 {
            reading.problem(word.span(), "`...` stands in the place of the program", "name the program first, as in [\"df\", \"...\"]");
            return None;
        }
        if at + 1 < words.len() {
            reading.problem(word.span(), "`...` is not at the end", "what follows any arguments cannot be told from them: put `...` last");
            return None;
        }
        rest = match after.trim_start() {
            "" => Rest::Any,
            each => Rest::Each(pattern(section, each, word.span())?),
        };
    }
    if patterns.is_empty() {
        reading.problem(span, "a command is empty", "name the program, as in [\"uptime\"]");
        return None;
    }
    let program = patterns.remove(0);
    if let Some(literal) = program.literal()
        && let Err(why) = is_program(literal)
    {
        reading.problem(span, format!("`{}` {why}", program.text()), "write a bare name, or an absolute path in its normal form");
        return None;
    }
    Some(ListPattern { program, args: patterns, rest, line: Place::of(reading.text, span, &[]).line })
}

/// Whether this can name a program: a bare name that is looked for there, or an absolute path in normal form. Anything else
/// would depend on where the command is started.
pub fn is_program(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        Err("is empty, and names no program")
    } else if text.chars().any(char::is_control) {
        Err("holds a control character, and names no program")
    } else if text.contains(' ') && !text.contains('/') {
        Err("holds a blank: it is a line, and no program (each argument is an item of its own)")
    } else if text.starts_with(['-', '~']) || text == "." || text == ".." {
        Err("is neither a name nor an absolute path of a program")
    } else if !text.contains('/') {
        Ok(())
    } else if !text.starts_with('/') {
        Err("is a relative path, which would depend on the working directory")
    } else if text.ends_with('/') || text[1..].split('/').any(|part| matches!(part, "" | "." | "..")) {
        Err("is a path that is not in its normal form")
    } else {
        Ok(())
    }
}

//! `[backends.NAME.grants]`: what one backend may touch.
//!
//! What the file says is put over the backend's defaults name by name; `false` in the place of a value takes a default away.

use std::ops::Range;

use regex::Regex;
use toml::de::DeValue;

use super::defaults::MAX_ARGS;
use super::document::{Entry, Section, kind};
use super::{EnvSource, Grants, ProgramGrant, SecretSource};

/// The keys of the section, for hints.
pub(super) const KEYS: &[&str] = &["programs", "workspaces", "env", "hosts", "secrets"];

/// A pattern of `allow`, which must match an argument as a whole. Compiled by itself first: a pattern such as `a)|(b` would
/// else break out of its anchors.
pub fn anchored(pattern: &str) -> Result<Regex, String> {
    let one_line = |error: &regex::Error| {
        let text = error.to_string();
        text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
    };
    Regex::new(pattern).map_err(|error| one_line(&error))?;
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| one_line(&error))
}

pub(super) fn read(section: Section<'_, '_>, grants: &mut Grants) {
    if let Some(programs) = section.section("programs") {
        for entry in programs.entries() {
            program(&programs, &entry, grants);
        }
    }
    if let Some(workspaces) = section.strings("workspaces") {
        grants.workspaces = workspaces.into_iter().filter_map(|(text, span)| section.reading.path(&text, span)).collect();
    }
    env(&section, grants);
    if let Some(hosts) = section.strings("hosts") {
        grants.hosts = hosts.into_iter().filter_map(|(text, span)| host(&section, text, span)).collect();
    }
    if let Some(secrets) = section.section("secrets") {
        for entry in secrets.entries() {
            secret(&secrets, &entry, grants);
        }
    }
    section.close(|_| None);
}

/// Letters, digits and `._+-`, not first a `-`: a name that is shown, and never taken for a path or an option.
pub(super) fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
}

/// IEEE Std 1003.1, 8.1: letters, digits and `_`, not first a digit.
fn is_variable(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn program(section: &Section<'_, '_>, entry: &Entry<'_, '_>, grants: &mut Grants) {
    let reading = section.reading;
    if !is_name(entry.key) {
        reading.problem(
            entry.key_span.clone(),
            format!("`{}` is no name for a program", entry.key),
            "take letters, digits and `._+-`; the path goes to the right: `name = \"/path/to/program\"`",
        );
        return;
    }
    let grant = match entry.value {
        DeValue::Boolean(false) => {
            grants.programs.remove(entry.key);
            return;
        }
        DeValue::String(text) => place(section, text, entry.span.clone()).map(ProgramGrant::any),
        DeValue::Table(table) => {
            let inner = Section::new(reading, format!("{}.{}", section.name, entry.key), table);
            let named = inner.string("path");
            if named.is_none() && inner.value("path").is_none() {
                reading.problem(
                    entry.key_span.clone(),
                    format!("program `{}` has no `path`", entry.key),
                    format!("write `path = \"{}\"`, or an absolute path", entry.key),
                );
            }
            let grant = named.and_then(|(text, span)| place(section, &text, span)).map(|program| ProgramGrant {
                program,
                first: inner.strings("first").unwrap_or_default().into_iter().map(|(text, _)| text).collect(),
                allow: patterns(&inner),
                max_args: inner.number("max_args", MAX_ARGS),
            });
            if grant.is_none() {
                // Known, though not read: one mistake is one error.
                for key in ["first", "allow", "max_args"] {
                    inner.value(key);
                }
            }
            inner.close(|_| None);
            grant
        }
        other => {
            reading.problem(
                entry.span.clone(),
                format!("program `{}` must be a path or a table, not {}", entry.key, kind(other)),
                "write `\"/path/to/program\"`, or `{ path = \"…\", first = [], allow = [], max_args = 9 }`",
            );
            None
        }
    };
    if let Some(grant) = grant {
        grants.programs.insert(entry.key.to_owned(), grant);
    }
}

/// A path, made absolute, or a bare name for the search on `path`.
fn place(section: &Section<'_, '_>, text: &str, span: Range<usize>) -> Option<String> {
    if text.contains('/') || text.starts_with('~') {
        return section.reading.path(text, span).map(String::from);
    }
    if is_name(text) {
        return Some(text.to_owned());
    }
    section.reading.problem(
        span,
        format!("`{text}` is neither a path nor the name of a program"),
        "write an absolute path, or one name without blanks; arguments go into `first`",
    );
    None
}

fn patterns(section: &Section<'_, '_>) -> Vec<String> {
    let mut out = Vec::new();
    for (pattern, span) in section.strings("allow").unwrap_or_default() {
        match anchored(&pattern) {
            Ok(_) => out.push(pattern),
            Err(why) => section.reading.problem(
                span,
                format!("`allow` holds a bad regular expression: {why}"),
                "write it in single quotes ('…'), so that a backslash stays one; it must match an argument as a whole",
            ),
        }
    }
    out
}

fn env(section: &Section<'_, '_>, grants: &mut Grants) {
    let reading = section.reading;
    let check = |name: &str, span: Range<usize>| {
        if name == "FALCONER_RUN_ID" {
            reading.problem(span, "`FALCONER_RUN_ID` is set by the host for every child", "take it out");
        } else if is_variable(name) {
            return true;
        } else {
            reading.problem(span, format!("`{name}` is no name of an environment variable"), "take letters, digits and `_`");
        }
        false
    };
    match section.value("env").map(|value| (value.get_ref(), value.span())) {
        None => {}
        Some((DeValue::Array(_), _)) => {
            for (name, span) in section.strings("env").unwrap_or_default() {
                if check(&name, span) {
                    grants.env.insert(name, EnvSource::Client);
                }
            }
        }
        Some((DeValue::Table(table), _)) => {
            let table = Section::new(reading, format!("{}.env", section.name), table);
            for entry in table.entries() {
                if !check(entry.key, entry.key_span.clone()) {
                    continue;
                }
                match entry.value {
                    DeValue::Boolean(false) => {
                        grants.env.remove(entry.key);
                    }
                    DeValue::Boolean(true) => {
                        grants.env.insert(entry.key.to_owned(), EnvSource::Client);
                    }
                    DeValue::String(value) if !value.contains('\0') => {
                        grants.env.insert(entry.key.to_owned(), EnvSource::Value(value.to_string()));
                    }
                    other => reading.problem(
                        entry.span.clone(),
                        format!("the value of `{}` must be a string, true or false, not {}", entry.key, kind(other)),
                        "a string sets it, true passes the client's value on, false takes a default away",
                    ),
                }
            }
        }
        Some((other, span)) => reading.problem(
            span,
            format!("`{}.env` must be a list of names or a table, not {}", section.name, kind(other)),
            "write `env = [\"LANG\"]`, or `env = { LANG = \"C.UTF-8\" }`",
        ),
    }
}

fn host(section: &Section<'_, '_>, text: String, span: Range<usize>) -> Option<String> {
    let fits = text.rsplit_once(':').is_some_and(|(name, port)| {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let name_fits = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)),
        };
        name_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if fits {
        return Some(text.to_ascii_lowercase());
    }
    section.reading.problem(
        span,
        format!("`{text}` is not a host and a port"),
        "write `\"build.example.org:443\"` or `\"[2001:db8::1]:443\"`",
    );
    None
}

fn secret(section: &Section<'_, '_>, entry: &Entry<'_, '_>, grants: &mut Grants) {
    const FORMS: &str = "write `{ env = \"NAME\" }`, `{ file = \"~/path\" }` or `{ command = [\"program\", \"argument\"] }`";
    let reading = section.reading;
    if !is_name(entry.key) {
        reading.problem(entry.key_span.clone(), format!("`{}` is no name for a secret", entry.key), "take letters, digits and `._+-`");
        return;
    }
    let table = match entry.value {
        DeValue::Boolean(false) => {
            grants.secrets.remove(entry.key);
            return;
        }
        DeValue::Table(table) => table,
        DeValue::String(_) => {
            reading.problem(
                entry.key_span.clone(),
                format!("secret `{}` must say where its value comes from; the value itself has no place in this file", entry.key),
                FORMS,
            );
            return;
        }
        other => {
            reading.problem(entry.span.clone(), format!("secret `{}` must be a table, not {}", entry.key, kind(other)), FORMS);
            return;
        }
    };
    let inner = Section::new(reading, format!("{}.{}", section.name, entry.key), table);
    let env = inner.string("env").map(|(name, span)| {
        if !is_variable(&name) {
            reading.problem(span, format!("`{name}` is no name of an environment variable"), "take letters, digits and `_`");
        }
        SecretSource::Env(name)
    });
    let file = inner.path("file").map(SecretSource::File);
    let command = inner.strings("command").and_then(|words| {
        let mut words = words.into_iter();
        let Some((first, span)) = words.next() else {
            reading.problem(entry.span.clone(), format!("the command of secret `{}` is empty", entry.key), FORMS);
            return None;
        };
        let program = place(section, &first, span)?;
        Some(SecretSource::Command(std::iter::once(program).chain(words.map(|(word, _)| word)).collect()))
    });
    let given = ["env", "file", "command"].iter().filter(|key| inner.value(key).is_some()).count();
    if given != 1 {
        let what = if given == 0 { "no source" } else { "more than one source" };
        reading.problem(entry.span.clone(), format!("secret `{}` has {what}", entry.key), FORMS);
    } else if let Some(source) = env.or(file).or(command) {
        grants.secrets.insert(entry.key.to_owned(), source);
    }
    inner.close(|_| None);
}

//! What `falconer check` says: what is granted, what is found, what is missing, and how to mend it.
//!
//! It looks, and changes nothing: no program is started, and of a secret only whether it is there is said.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use camino::Utf8Path;

use super::{Policy, programs, workspace};
use crate::capability::{MIN_SECRET, Program};
use crate::config::units::{show_duration, show_size};
use crate::config::{Allow, Backend, Config, EnvSource, SecretSource};

/// One line of `falconer check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Good, or how bad.
    pub severity: Severity,
    /// What was looked at, e.g. `program claude`.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// The way out, where there is something to mend.
    pub hint: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Works, but look at it.
    Warning,
    /// Does not work.
    Error,
}

pub(super) fn good(subject: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding { severity: Severity::Good, subject: subject.into(), message: message.into(), hint: None }
}

pub(super) fn bad(severity: Severity, subject: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Finding {
    Finding { severity, subject: subject.into(), message: message.into(), hint: Some(hint.into()) }
}

/// Variables through which code gets into a program that loads libraries or modules.
const LOADERS: &[&str] = &["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "NODE_OPTIONS", "PYTHONSTARTUP", "BASH_ENV", "ENV", "PERL5OPT"];

/// All of one backend.
pub(super) fn backend(policy: &Policy, name: &str, client_env: &BTreeMap<String, String>) -> Vec<Finding> {
    let config = policy.config();
    let backend = config.backend(name);
    if !backend.enabled {
        return vec![good("enabled", "no: the configuration turns it off")];
    }
    let mut out = vec![good("enabled", "yes")];
    if let Some(digest) = &backend.digest {
        out.push(good("digest", format!("pinned to {digest}")));
    }
    programs(policy, name, &mut out);
    workspaces(policy, name, backend, &mut out);
    env(name, backend, client_env, &mut out);
    secrets(config, name, backend, client_env, &mut out);
    if !backend.grants.hosts.is_empty() {
        out.push(bad(
            Severity::Warning,
            "hosts",
            format!("{}: this version opens no connections for a backend", backend.grants.hosts.join(", ")),
            format!("take `hosts` out of [backends.{name}.grants]"),
        ));
    }
    out.push(allow(backend));
    let limits = &backend.limits;
    let tree = [
        limits.tree.memory.map(|bytes| format!(", tree_memory {}", show_size(bytes))),
        limits.tree.processes.map(|count| format!(", tree_processes {count}")),
        limits.tree.cpu.map(|cpus| format!(", tree_cpu {cpus}")),
    ];
    out.push(good(
        "limits",
        format!(
            "{} runs at once, wall {}, idle {}, memory {}, output {}, {} events, {} children{}",
            limits.runs,
            show_duration(limits.wall),
            limits.idle.map_or_else(|| "without end".to_owned(), show_duration),
            show_size(limits.memory),
            show_size(limits.output),
            limits.events,
            limits.children,
            tree.into_iter().flatten().collect::<String>()
        ),
    ));
    out
}

fn programs(policy: &Policy, name: &str, out: &mut Vec<Finding>) {
    let grant = policy.grant(name);
    if grant.programs.is_empty() && name == "exec" {
        out.push(bad(
            Severity::Warning,
            "programs",
            "none is granted, so no run can be started",
            "name what runs may start: [backends.exec.grants] programs = { make = \"make\" }",
        ));
    }
    for (key, program) in &grant.programs {
        let subject = format!("program {key}");
        match &program.path {
            Ok(path) => {
                let target = workspace::real(path);
                let place = if target == *path { path.to_string() } else { format!("{path} -> {target}") };
                let place = place + &arguments(program);
                out.push(match std::fs::metadata(path) {
                    Ok(meta) if meta.mode() & 0o002 != 0 => {
                        bad(Severity::Warning, subject, format!("{place}: anyone may write it"), format!("chmod o-w {target}"))
                    }
                    _ => good(subject, place),
                });
            }
            Err(why) => {
                let place = format!("name its place: [backends.{name}.grants] programs = {{ {key} = \"/path/to/{key}\" }}");
                let hint = match (name, key.as_str()) {
                    ("claude", "claude") => {
                        format!(
                            "install Claude Code (npm install -g @anthropic-ai/claude-code), or {place}, or [backends.claude] enabled = false"
                        )
                    }
                    ("codex", "codex") => {
                        format!("install Codex (npm install -g @openai/codex), or {place}, or [backends.codex] enabled = false")
                    }
                    _ => format!("install it, or {place}"),
                };
                out.push(bad(Severity::Error, subject, why, hint));
            }
        }
    }
}

/// A pattern as it was written, without the anchors that make it whole.
fn bare(pattern: &str) -> &str {
    pattern.strip_prefix("^(?:").and_then(|inner| inner.strip_suffix(")$")).unwrap_or(pattern)
}

/// What a program is always told, and what a backend may add, where that is not anything.
fn arguments(program: &Program) -> String {
    let mut out = String::new();
    if !program.first.is_empty() {
        out.push_str(&format!("; always with {}", program.first.join(" ")));
    }
    let most = program.max_args.map_or_else(String::new, |most| format!("at most {most} "));
    if program.would_append() || program.max_args == Some(0) {
        out.push_str("; a backend may add nothing");
    } else if !program.allow.is_empty() {
        let patterns: Vec<&str> = program.allow.iter().map(|pattern| bare(pattern.as_str())).collect();
        out.push_str(&format!("; a backend may add {most}of {}", patterns.join(", ")));
    } else if program.max_args.is_some() {
        out.push_str(&format!("; a backend may add {most}of any kind"));
    }
    out
}

fn workspaces(policy: &Policy, name: &str, backend: &Backend, out: &mut Vec<Finding>) {
    let config = policy.config();
    let home = workspace::real(&config.home);
    for dir in &backend.grants.workspaces {
        let subject = format!("workspace {dir}");
        out.push(match workspace::directory(dir) {
            Ok(real) if real == "/" || real == home || home.starts_with(&real) => bad(
                Severity::Warning,
                subject,
                format!("{real}: it holds your whole home directory, with its keys and settings"),
                format!("name the directories where the work is: [backends.{name}.grants] workspaces = [\"~/src\"]"),
            ),
            Ok(real) if real == *dir => good(subject, "is there"),
            Ok(real) => good(subject, format!("is {real}")),
            Err(why) => {
                bad(Severity::Error, subject, why, format!("mkdir -p {dir}, or take it out of [backends.{name}.grants] workspaces"))
            }
        });
    }
    if config.client.cwd_is_workspace {
        out.push(good("workspace of the client", "its own working directory, where that is no home, system or dot directory"));
    } else if backend.grants.workspaces.is_empty() {
        out.push(bad(
            Severity::Warning,
            "workspaces",
            "none is granted, and the client's own directory is not one ([client] cwd_is_workspace = false)",
            format!("[backends.{name}.grants] workspaces = [\"~/src\"]"),
        ));
    }
}

fn env(name: &str, backend: &Backend, client_env: &BTreeMap<String, String>, out: &mut Vec<Finding>) {
    let passed: Vec<&String> =
        backend.grants.env.iter().filter(|(_, source)| **source == EnvSource::Client).map(|(variable, _)| variable).collect();
    let (here, gone): (Vec<&String>, Vec<&String>) = passed.into_iter().partition(|variable| client_env.contains_key(*variable));
    let list = |names: &[&String]| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    if !here.is_empty() {
        out.push(good("environment", format!("passed on from the client: {}", list(&here))));
    }
    if !gone.is_empty() {
        out.push(good("environment", format!("passed on from the client where it has them; not set here: {}", list(&gone))));
    }
    for (variable, source) in &backend.grants.env {
        if LOADERS.contains(&variable.as_str()) {
            out.push(bad(
                Severity::Warning,
                format!("environment {variable}"),
                "it makes programs load code that no grant names",
                format!("take it out of [backends.{name}.grants] env"),
            ));
        }
        if let EnvSource::Value(_) = source {
            let secret = ["TOKEN", "SECRET", "PASSWORD", "API_KEY"].iter().any(|word| variable.to_ascii_uppercase().contains(word));
            out.push(if secret {
                bad(
                    Severity::Warning,
                    format!("environment {variable}"),
                    "its value stands in the configuration, where nothing redacts it",
                    format!("put it under secrets: [backends.{name}.grants] secrets = {{ {variable} = {{ file = \"~/path\" }} }}"),
                )
            } else {
                good(format!("environment {variable}"), "set by the configuration")
            });
        }
    }
}

fn secrets(config: &Config, name: &str, backend: &Backend, client_env: &BTreeMap<String, String>, out: &mut Vec<Finding>) {
    let mut variables = Vec::new();
    let mut some = false;
    for (key, source) in &backend.grants.secrets {
        let subject = format!("secret {key}");
        match source {
            SecretSource::Env(variable) if client_env.get(variable).is_some_and(|value| (1..MIN_SECRET).contains(&value.len())) => {
                some = true;
                out.push(bad(
                    Severity::Error,
                    subject,
                    format!("${variable} has less than {MIN_SECRET} bytes: it could not be kept out of the output, and counts as not set"),
                    format!("take a longer one; a gateway that wants none takes any, such as `{}`", "x".repeat(MIN_SECRET)),
                ));
            }
            SecretSource::Env(variable) if client_env.get(variable).is_some_and(|value| !value.is_empty()) => {
                some = true;
                out.push(good(subject, format!("${variable} is set here")));
            }
            SecretSource::Env(variable) => variables.push(format!("${variable}")),
            SecretSource::File(file) => {
                some = true;
                out.push(secret_file(subject, file));
            }
            SecretSource::Command(words) => {
                some = true;
                out.push(match words.first().map(|program| programs::find(program, &config.path)) {
                    Some(Ok(path)) => good(subject, format!("printed by {path}, when a run needs it")),
                    Some(Err(why)) => {
                        bad(Severity::Error, subject, why, format!("install it, or change [backends.{name}.grants] secrets.{key}"))
                    }
                    None => bad(Severity::Error, subject, "its command is empty", "write `command = [\"program\", \"argument\"]`"),
                });
            }
        }
    }
    if variables.is_empty() {
        return;
    }
    let list = variables.join(", ");
    out.push(if some {
        good("secrets", format!("not set here: {list}"))
    } else {
        let hint = match name {
            "claude" => "set one of them where the client is started; not needed where `claude` itself is logged in",
            "codex" => "set one of them where the client is started; not needed after `codex login`",
            _ => "set it where the client is started",
        };
        let hint = hint.to_owned();
        bad(Severity::Warning, "secrets", format!("none is set here: {list}"), hint)
    });
}

fn secret_file(subject: String, file: &Utf8Path) -> Finding {
    let meta = match std::fs::metadata(file) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return bad(Severity::Error, subject, format!("{file} does not exist"), format!("write the secret into {file}, mode 0600"));
        }
        Err(error) => return bad(Severity::Error, subject, format!("{file}: {error}"), "make it readable for you"),
    };
    if !meta.is_file() {
        return bad(Severity::Error, subject, format!("{file} is not a file"), "name a file");
    }
    if meta.mode() & 0o077 != 0 {
        return bad(
            Severity::Error,
            subject,
            format!("{file}: others may read or write it (mode {:04o})", meta.mode() & 0o7777),
            format!("chmod 600 {file}"),
        );
    }
    good(subject, format!("in {file}"))
}

fn allow(backend: &Backend) -> Finding {
    let list: Vec<String> = backend
        .allow
        .iter()
        .map(|(key, allow)| match allow {
            Allow::Any => key.clone(),
            Allow::OneOf(values) => format!("{key} ({})", values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        })
        .collect();
    good("a run may choose", if list.is_empty() { "nothing".to_owned() } else { list.join(", ") })
}

/// The host itself.
pub(super) fn host(config: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    match &config.file {
        None => out.push(good("configuration", "no file: the defaults hold")),
        Some(file) => out.push(match writable_by_others(file) {
            Some(why) => bad(
                Severity::Error,
                "configuration",
                format!("{file}: {why}, who could grant themselves anything"),
                format!("chmod go-w {file}"),
            ),
            None => good("configuration", file.to_string()),
        }),
    }
    for (subject, dir) in [("data directory", &config.data_dir), ("plugins directory", &config.plugins_dir)] {
        out.push(match std::fs::metadata(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => good(subject, format!("{dir} (not there yet)")),
            Err(error) => bad(Severity::Error, subject, format!("{dir}: {error}"), "make it a directory of yours"),
            Ok(meta) if !meta.is_dir() => bad(Severity::Error, subject, format!("{dir} is not a directory"), "move the file away"),
            Ok(_) => match writable_by_others(dir) {
                Some(why) => bad(Severity::Error, subject, format!("{dir}: {why}"), format!("chmod go-w {dir}, and make it yours")),
                None => good(subject, dir.to_string()),
            },
        });
    }
    let (here, gone): (Vec<_>, Vec<_>) = config.path.iter().partition(|dir| dir.is_dir());
    let list = |dirs: &[&camino::Utf8PathBuf]| dirs.iter().map(|dir| dir.as_str()).collect::<Vec<_>>().join(", ");
    if here.is_empty() {
        out.push(bad(Severity::Warning, "path", "none of its directories is there", "set `path` at the top of the configuration"));
    } else {
        out.push(good("path", list(&here)));
    }
    if !gone.is_empty() {
        out.push(good("path", format!("not there: {}", list(&gone))));
    }
    out
}

/// Whether someone else could change it: it is another user's (and not root's), or its mode lets others write.
fn writable_by_others(path: &Utf8Path) -> Option<&'static str> {
    let meta = std::fs::metadata(path).ok()?;
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Some("it belongs to another user");
    }
    (meta.mode() & 0o022 != 0).then_some("others may write it")
}

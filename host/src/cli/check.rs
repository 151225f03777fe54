//! `falconer check`: what is granted, what is found, what is missing, and how to mend it. It leaves
//! everything as it was. Programs whose version matters to a backend are asked for it ([`super::check_programs`]). How trees are held is tried: where a cgroup can be made, one is, a process is started in it and
//! killed, and both are taken away again. With `--orphans` it is [`super::orphans`].
//!
//! Exit codes: 0 nothing is wrong (warnings aside); 1 something is; 2 the configuration cannot be read.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use super::exit::Exit;
use super::{Globals, check_limits, check_programs, check_secrets, colours, fail, fail_config, put};
use crate::backend::{Backend, Engine, Registry, State};
use crate::config::{Cgroup, Config};
use crate::contract::falconer::backend::types::Abilities;
use crate::daemon::host::{Places, engine_options};
use crate::daemon::{DirFinding, inspect_dir};
use crate::id::RunId;
use crate::policy::{Finding, Policy, Severity};
use crate::tree::{Ground, Holding};

/// How the finding about the data directory is named.
const DATA_DIR: &str = "data directory";

/// Arguments of `falconer check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Find what an earlier host left behind, and say what it is
    #[arg(long)]
    pub orphans: bool,
    /// End it, and say how it is known that nothing is left
    #[arg(long, requires = "orphans")]
    pub kill: bool,
    /// For a run of which it cannot be proven that nothing is left: you have looked on the machine; its records are taken away
    #[arg(long, requires = "orphans", conflicts_with = "kill", value_name = "RUN")]
    pub forget: Option<RunId>,
}

/// Looks at everything and prints it.
pub async fn run(globals: &Globals, args: Args) -> ExitCode {
    let config = match globals.overrides().and_then(|overrides| Config::read(&overrides)) {
        Ok(config) => Arc::new(config),
        Err(errors) => return fail_config(&errors),
    };
    if args.orphans {
        return match args.forget {
            Some(run) => super::orphans::forget(globals, &config, run),
            None => super::orphans::run(globals, &config, args.kill).await,
        };
    }
    // What was compiled before is used; without a data directory nothing is made.
    let cache = Some(Places::of(&config.data_dir).cache).filter(|dir| inspect_dir(dir) == DirFinding::Private);
    let engine = match Engine::new(engine_options(&config, cache)) {
        Ok(engine) => engine,
        Err(fault) => return fail(&fault),
    };
    let found = Registry::open(engine, &config).list().await;
    let policy = Policy::resolve(&config);
    let client_env: BTreeMap<String, String> =
        policy.client_env_names().into_iter().filter_map(|name| std::env::var(&name).ok().map(|value| (name, value))).collect();

    let mut sections = vec![("host".to_owned(), policy.report_host())];
    // What the daemon demands of its directory is more than what the policy looks at.
    sections[0].1.retain(|finding| finding.subject != DATA_DIR);
    sections[0].1.push(data_dir(&config));
    sections[0].1.push(trees(config.host.cgroup, Ground::probe(config.host.cgroup)));
    let mut granted = policy.report(&client_env);
    let far = |backend: &Backend| {
        matches!(backend.state, State::Ready)
            && backend.description.as_ref().is_some_and(|said| said.abilities.contains(Abilities::TARGETS))
    };
    let far: Vec<&str> = found.iter().filter(|backend| far(backend)).map(|backend| backend.name.as_str()).collect();
    let secrets = check_secrets::findings(&config, &far, &client_env);
    for backend in found {
        let mut findings = vec![component(&backend)];
        findings.extend(settings(&config, &backend));
        findings.append(&mut granted.remove(&backend.name).unwrap_or_default());
        findings.append(&mut check_programs::findings(&policy, &backend, &client_env).await);
        sections.push((format!("backend {}", backend.name), findings));
    }
    for (name, mut findings) in granted {
        if config.backend(&name).enabled {
            let missing = bad(
                "component",
                format!("there is none in {}", config.plugins_dir),
                format!("put {name}.wasm there, or remove [backends.{name}]"),
            );
            findings.insert(0, missing);
        }
        sections.push((format!("backend {name}"), findings));
    }
    // Targets may be there before a backend that can use them.
    let targets = policy.inventory().report().into_iter().chain(secrets).collect();
    for (name, findings) in [("targets", targets), ("rules", policy.inventory().report_rules())] {
        if !findings.is_empty() {
            sections.push((name.to_owned(), findings));
        }
    }
    sections.insert(1, (check_limits::SECTION.to_owned(), check_limits::findings(&config)));
    let errors = count(&sections, Severity::Error);
    if globals.json {
        put(format_args!("{}", as_json(&sections, errors == 0)));
    } else {
        print(&sections);
    }
    if errors == 0 { Exit::Completed } else { Exit::Failed }.into()
}

pub(super) fn bad(subject: &str, message: String, hint: String) -> Finding {
    Finding { severity: Severity::Error, subject: subject.into(), message, hint: Some(hint) }
}

pub(super) fn good(subject: &str, message: String) -> Finding {
    Finding { severity: Severity::Good, subject: subject.into(), message, hint: None }
}

fn component(backend: &Backend) -> Finding {
    let version = backend.description.as_ref().map_or_else(String::new, |description| format!(" {}", description.version));
    let digest = backend.digest.get(..12).unwrap_or(&backend.digest);
    let what = format!("{}{version}, {}, {digest}", backend.name, backend.source);
    match &backend.state {
        State::Ready => good("component", what),
        State::Disabled => good("component", format!("{what}: turned off")),
        State::Failed(fault) => bad(
            "component",
            format!("{what}: {} ({})", fault.message, fault.code),
            fault.hint.clone().unwrap_or_else(|| "replace the file".into()),
        ),
    }
}

/// Whether the backend takes what `config` sets for it, and knows the keys that a run may choose.
fn settings(config: &Config, backend: &Backend) -> Vec<Finding> {
    let Some(description) = &backend.description else { return Vec::new() };
    let own = config.backend(&backend.name);
    let mut findings = Vec::new();
    // What a run has to choose by itself may be missing here.
    let mut schema = description.config_schema.clone();
    schema.as_object_mut().map(|schema| schema.remove("required"));
    if let Ok(schema) = jsonschema::validator_for(&schema) {
        for error in schema.iter_errors(&Value::Object(own.config.clone())) {
            let place = error.instance_path().to_string();
            let at = if place.is_empty() { String::new() } else { format!("at {place}: ") };
            findings.push(bad(
                "config",
                format!("the backend does not take it: {at}{error}"),
                format!("change [backends.{}.config]; `list_backends` shows the config_schema", backend.name),
            ));
        }
    }
    if let Some(keys) = description.config_schema.get("properties").and_then(Value::as_object) {
        for key in own.allow.keys().filter(|key| !keys.contains_key(*key)) {
            let known = keys.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            findings.push(Finding {
                severity: Severity::Warning,
                subject: format!("allow {key}"),
                message: "the backend has no setting of this name".into(),
                hint: Some(format!("take it out of [backends.{}.allow], or name one of: {known}", backend.name)),
            });
        }
    }
    findings
}

fn data_dir(config: &Config) -> Finding {
    let dir = &config.data_dir;
    const ELSEWHERE: &str = "choose another one with data_dir, --data-dir or FALCONER_DATA_DIR";
    match inspect_dir(dir) {
        DirFinding::Private => good(DATA_DIR, format!("{dir}: closed to other users")),
        DirFinding::Missing => good(DATA_DIR, format!("{dir}: will be made")),
        DirFinding::Open { empty: true, .. } => good(DATA_DIR, format!("{dir}: empty, will be closed to other users")),
        DirFinding::Open { mode, .. } => {
            bad(DATA_DIR, format!("{dir}: other users can reach it (mode {mode:o})"), format!("chmod 700 {dir}"))
        }
        DirFinding::NotOurs { owner } => bad(DATA_DIR, format!("{dir}: belongs to user {owner}"), ELSEWHERE.into()),
        DirFinding::Unusable { reason } => bad(DATA_DIR, format!("{dir}: {reason}"), ELSEWHERE.into()),
    }
}

/// How the processes of runs are held.
fn trees(wish: Cgroup, held: Holding) -> Finding {
    const TREES: &str = "trees";
    const WITHOUT: &str = "shims hold them, and a kill walks below those";
    match held {
        Holding::Cgroups(dir) => good(TREES, format!("cgroup v2 at {}: killed at once; shims hold them too", dir.display())),
        Holding::Shims(why) => {
            let delegate = "delegate a cgroup: run falconer as a systemd user service with `Delegate=yes`, or \
                            `systemd-run --user --scope -p Delegate=yes falconer serve`";
            match wish {
                Cgroup::Off => good(TREES, format!("{WITHOUT}; cgroups are {why}")),
                Cgroup::Auto => Finding {
                    severity: Severity::Warning,
                    subject: TREES.into(),
                    message: format!("{WITHOUT}; no cgroup: {why}"),
                    hint: Some(format!("{delegate}; or take it as it is: `cgroup = \"off\"` under `[host]`")),
                },
                Cgroup::Required => bad(
                    TREES,
                    format!("`cgroup = \"required\"` under `[host]`, and there is none: {why}"),
                    format!("{delegate}; or write `cgroup = \"auto\"`"),
                ),
            }
        }
    }
}

type Sections = Vec<(String, Vec<Finding>)>;

fn count(sections: &Sections, severity: Severity) -> usize {
    sections.iter().flat_map(|(_, findings)| findings).filter(|finding| finding.severity == severity).count()
}

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Good => "ok",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn as_json(sections: &Sections, well: bool) -> Value {
    let sections: serde_json::Map<String, Value> = sections
        .iter()
        .map(|(name, findings)| {
            let findings = findings
                .iter()
                .map(|finding| {
                    json!({ "severity": word(finding.severity), "subject": finding.subject, "message": finding.message, "hint": finding.hint })
                })
                .collect();
            (name.clone(), Value::Array(findings))
        })
        .collect();
    json!({ "ok": well, "findings": sections })
}

fn print(sections: &Sections) {
    let colours = colours();
    for (name, findings) in sections {
        if colours {
            put(format_args!("\x1b[1m{name}\x1b[0m"));
        } else {
            put(format_args!("{name}"));
        }
        for finding in findings {
            let mark = word(finding.severity);
            let (on, off) = match finding.severity {
                _ if !colours => ("", ""),
                Severity::Good => ("\x1b[32m", "\x1b[0m"),
                Severity::Warning => ("\x1b[33m", "\x1b[0m"),
                Severity::Error => ("\x1b[31m", "\x1b[0m"),
            };
            put(format_args!("  {on}{mark:<7}{off} {}: {}", finding.subject, finding.message));
            if let Some(hint) = &finding.hint {
                put(format_args!("          hint: {hint}"));
            }
        }
    }
    let (errors, warnings) = (count(sections, Severity::Error), count(sections, Severity::Warning));
    put(format_args!("{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings)));
}

const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_trees_are_held_is_said_with_the_reason() {
        let finding = |wish, held| {
            let finding = trees(wish, held);
            (finding.severity, finding.message, finding.hint.unwrap_or_default())
        };
        let denied = || Holding::Shims("cannot make the cgroup /c: Permission denied".into());
        let (severity, message, _) = finding(Cgroup::Auto, Holding::Cgroups("/sys/fs/cgroup/falconer".into()));
        assert!(severity == Severity::Good && message.contains("/sys/fs/cgroup/falconer"), "{message}");
        let (severity, message, hint) = finding(Cgroup::Auto, denied());
        assert!(
            severity == Severity::Warning && message.contains("Permission denied") && hint.contains("Delegate=yes"),
            "{message} {hint}"
        );
        let (severity, message, hint) = finding(Cgroup::Required, denied());
        assert!(severity == Severity::Error && message.contains("Permission denied") && hint.contains("auto"), "{message} {hint}");
        assert_eq!(finding(Cgroup::Off, Holding::Shims("turned off".into())).0, Severity::Good);
    }

    #[test]
    fn what_is_wrong_is_counted_and_named() {
        let sections = vec![
            ("host".to_owned(), vec![good("data directory", "/d".into())]),
            ("backend x".to_owned(), vec![bad("component", "no".into(), "mend".into())]),
        ];
        assert_eq!((count(&sections, Severity::Error), count(&sections, Severity::Good)), (1, 1));
        let json = as_json(&sections, false);
        assert_eq!(json["findings"]["backend x"][0]["severity"], "error");
        assert_eq!(json["ok"], false);
    }
}

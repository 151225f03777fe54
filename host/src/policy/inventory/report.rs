//! What `falconer check` says about targets and rules: what there is, what is missing, what is wider than it looks.

use std::os::unix::fs::MetadataExt;

use camino::Utf8Path;

use super::{Host, Inventory, Problem};
use crate::config::units::{show_duration, show_size};
use crate::config::{Address, Commands, Config, Effect, FarLimits, HostKey, Pattern, PatternKind, Rest, Rule, Target};
use crate::policy::check::{bad, good};
use crate::policy::command::is_loader;
use crate::policy::network::{NetworkRule, Origin};
use crate::policy::{Finding, Severity};

/// Programs that execute what their arguments say.
const RUNNERS: &[&str] = &[
    "sh",
    "bash",
    "dash",
    "ash",
    "zsh",
    "ksh",
    "fish",
    "busybox",
    "env",
    "sudo",
    "su",
    "doas",
    "nohup",
    "setsid",
    "timeout",
    "nice",
    "ionice",
    "xargs",
    "find",
    "ssh",
    "awk",
    "gawk",
    "sed",
    "perl",
    "python",
    "python3",
    "ruby",
    "node",
    "php",
    "lua",
    "vi",
    "vim",
    "nano",
    "less",
    "man",
    "git",
    "tar",
    "rsync",
    "make",
    "docker",
    "podman",
    "kubectl",
    "systemd-run",
    "at",
    "crontab",
    "screen",
    "tmux",
    "watch",
    "strace",
    "gdb",
    "tee",
    "dd",
];

pub(super) fn targets(inventory: &Inventory) -> Vec<Finding> {
    let network = NetworkRule::of(&inventory.config);
    let mut out = Vec::new();
    for (target, host) in inventory.targets().iter().zip(&inventory.hosts) {
        let subject = format!("target {}", target.name);
        match host {
            Err(Problem { message, hint }) => out.push(bad(Severity::Error, subject, message, hint)),
            Ok(host) => {
                out.push(good(&subject, summary(target, host)));
                missing(&subject, host, &network, &mut out);
                if let Err(fault) = inventory.way(&target.name) {
                    out.push(bad(Severity::Error, &subject, fault.message, fault.hint.unwrap_or_default()));
                }
            }
        }
    }
    for (name, tag) in &inventory.config.tags {
        if !inventory.targets().iter().any(|target| target.tags.contains(name)) {
            out.push(bad(
                Severity::Warning,
                format!("tag {name}"),
                format!("no target has it (line {})", tag.line),
                format!("take [tags.{name}] out, or add `{name}` to the `tags` of a target"),
            ));
        }
    }
    out
}

fn summary(target: &Target, host: &Host) -> String {
    let user = host.user.as_ref().map_or_else(String::new, |user| format!("{user}@"));
    let address = match &host.address {
        Address::Ip(ip) if ip.is_ipv6() => format!("[{ip}]"),
        Address::Scoped(..) => format!("[{}]", host.address),
        address => address.to_string(),
    };
    let mut parts = vec![format!("{user}{address}:{}", host.port)];
    if !target.tags.is_empty() {
        parts.push(format!("tags {}", target.tags.join(", ")));
    }
    parts.extend(host.jump.as_ref().map(|jump| format!("over {jump}")));
    parts.push(match &host.host_key {
        Some(HostKey::KnownHosts(file)) => format!("host key in {file}"),
        Some(HostKey::Pinned(keys)) => format!("host key {}", keys.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(" or ")),
        None => "host key as falconer knows it".to_owned(),
    });
    parts.extend(limits(&target.limits));
    parts.join("; ")
}

fn limits(limits: &FarLimits) -> Option<String> {
    let parts = [
        limits.wall.map(|wall| format!("wall {}", show_duration(wall))),
        limits.output.map(|output| format!("output {}", show_size(output))),
        limits.parallel.map(|parallel| format!("{parallel} at once")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn missing(subject: &str, host: &Host, network: &NetworkRule, out: &mut Vec<Finding>) {
    for file in &host.identity {
        if let Err((why, hint)) = private(file) {
            out.push(bad(Severity::Error, subject, format!("identity {file} {why}"), hint));
        }
    }
    if host.passphrase.is_some() && host.identity.is_empty() {
        out.push(bad(
            Severity::Error,
            subject,
            "`passphrase` is given, and no key file that it opens",
            "name the file with `identity`, or take `passphrase` out",
        ));
    }
    if let Some(HostKey::KnownHosts(file)) = &host.host_key
        && !file.is_file()
    {
        out.push(bad(
            Severity::Error,
            subject,
            format!("known_hosts {file} is not there, so no host key can be checked"),
            format!("`falconer ssh trust {}` asks the machine and writes it; or pin it with `fingerprint`", host.target.name),
        ));
    }
    match &host.address {
        Address::Ip(ip) => {
            if let Err(blocked) = network.judge(*ip, Origin::Written) {
                out.push(bad(Severity::Error, subject, blocked.to_string(), "mend `allow` and `block` under [network], or the address"));
            }
        }
        Address::Name(name) if host.jump.is_some() => {
            if let Err(fault) = network.judge_name(name) {
                out.push(bad(Severity::Error, subject, fault.message, fault.hint.unwrap_or_default()));
            }
        }
        Address::Scoped(..) | Address::Name(_) => {}
    }
}

fn private(file: &Utf8Path) -> Result<(), (String, String)> {
    let meta = std::fs::metadata(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ("is not there".to_owned(), "mend `identity`, or make the key with ssh-keygen".to_owned()),
        _ => (format!("cannot be looked at: {error}"), "make it readable for you".to_owned()),
    })?;
    if !meta.is_file() {
        return Err(("is not a file".into(), "name the file of a key".into()));
    }
    // A public key may stand for one in the agent; ssh(1) refuses a private one that others can read.
    if file.extension() != Some("pub") && meta.mode() & 0o077 != 0 {
        return Err((format!("can be read by others (mode {:04o})", meta.mode() & 0o7777), format!("chmod 600 {file}")));
    }
    Ok(())
}

pub(super) fn rules(config: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    for (at, rule) in config.rules.iter().enumerate() {
        let subject = rule.name.as_ref().map_or_else(|| format!("rule {}", at + 1), |name| format!("rule {name}"));
        out.push(good(&subject, says(rule)));
        wide(&subject, rule, &mut out);
        let about = |target: &Target| {
            (rule.targets.is_empty()
                || rule.targets.iter().any(|pattern| super::super::command::Anything::new(pattern).is_match(&target.name)))
                && (rule.tags.is_empty() || rule.tags.iter().any(|tag| target.tags.contains(tag)))
        };
        if !config.targets.iter().any(about) {
            out.push(bad(Severity::Warning, &subject, "it is about no target that there is", "mend its `targets` or `tags`"));
        }
    }
    if config.rules.is_empty() && !config.targets.is_empty() {
        out.push(bad(
            Severity::Warning,
            "rules",
            "there are targets and no rule, so no command may be executed",
            "write [[rules]]; docs/rules.md shows how",
        ));
    }
    out
}

fn says(rule: &Rule) -> String {
    let count = |commands: &Commands| match commands {
        Commands::Lists(lists) => format!("{} command{}", lists.len(), if lists.len() == 1 { "" } else { "s" }),
        Commands::Shell { lines, .. } => format!("{} shell line{}", lines.len(), if lines.len() == 1 { "" } else { "s" }),
    };
    let what = match &rule.effect {
        Effect::Allow { commands, limits: own, .. } => {
            format!("allows {}{}", count(commands), limits(own).map_or_else(String::new, |limits| format!(" ({limits})")))
        }
        Effect::Deny(commands) => format!("denies {}", count(commands)),
        Effect::DenyAll => "denies everything".to_owned(),
    };
    let list = |what: &str, names: Vec<&str>| if names.is_empty() { String::new() } else { format!("; {what} {}", names.join(", ")) };
    format!(
        "line {}: {what}{}{}{}",
        rule.line,
        list("targets", rule.targets.iter().map(Pattern::text).collect()),
        list("tags", rule.tags.iter().map(String::as_str).collect()),
        list("backends", rule.backends.iter().map(String::as_str).collect())
    )
}

/// Whether a pattern takes nearly anything.
fn is_free(pattern: &Pattern) -> bool {
    match pattern.kind() {
        PatternKind::Literal(_) => false,
        PatternKind::Glob(pieces) => pieces.iter().all(|piece| !matches!(piece, crate::config::Piece::Text(_))),
        PatternKind::Regex(source) => [".*", ".+", "(?s).*", "(?s).+", "[^/]*", "[^/]+", r"\S+", r"\S*"].contains(&source.as_str()),
    }
}

fn wide(subject: &str, rule: &Rule, out: &mut Vec<Finding>) {
    let Effect::Allow { commands, env, .. } = &rule.effect else { return };
    let mut warn = |message: String, hint: &str| out.push(bad(Severity::Warning, subject, message, hint));
    match commands {
        Commands::Lists(lists) => {
            for list in lists {
                let name = list.program.text().rsplit('/').next().unwrap_or_default();
                let free = list.rest == Rest::Any || list.args.iter().any(is_free) || matches!(&list.rest, Rest::Each(each) if is_free(each));
                if is_free(&list.program) {
                    warn(format!("line {}: any program of the far end may be started", list.line), "name the programs");
                } else if free && RUNNERS.contains(&name) {
                    warn(
                        format!("line {}: `{name}` executes or writes what its arguments say, and they are free", list.line),
                        "give each argument a pattern of its own, or allow the programs themselves",
                    );
                }
            }
        }
        Commands::Shell { lines, .. } => {
            for line in lines.iter().filter(|line| matches!(line.kind(), PatternKind::Regex(source) if source.contains(".*") || source.contains(".+") || source.contains("[^"))) {
                warn(
                    format!("`{}` takes what a shell sees: `;`, `|`, `$( )` and the like", line.text()),
                    "write the characters that may stand there, as in [A-Za-z0-9_.-]+, or use `*`, which takes no such thing",
                );
            }
        }
    }
    for name in env.iter().filter_map(Pattern::literal).filter(|name| is_loader(name)) {
        warn(format!("a run may set `{name}`, which changes what programs execute"), "take it out of `env`");
    }
}

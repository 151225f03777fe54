//! `[backends.NAME]`: one backend, its allowances and its limits.

use toml::de::DeValue;

use super::document::{Entry, Section, json, kind};
use super::{Allow, Backend, Limits, defaults, grants};

const LIMITS: &[&str] = &[
    "runs",
    "wall",
    "idle",
    "memory",
    "call_cpu",
    "cpu",
    "events",
    "output",
    "events_per_s",
    "children",
    "tree_memory",
    "tree_processes",
    "tree_cpu",
];

/// Whether this may be the name of a backend: it is the name of its file without `.wasm`.
fn is_backend(name: &str) -> bool {
    grants::is_name(name) && name.len() <= 64 && !name.contains(['+', '.'])
}

/// Reads one backend over its defaults; none where it cannot be read at all.
pub(super) fn read(parent: &Section<'_, '_>, entry: &Entry<'_, '_>) -> Option<Backend> {
    let reading = parent.reading;
    let name = entry.key;
    if !is_backend(name) {
        reading.problem(
            entry.key_span.clone(),
            format!("`{name}` is no name of a backend"),
            "take the name of its file without `.wasm`: letters, digits, `_` and `-`",
        );
        return None;
    }
    let DeValue::Table(table) = entry.value else {
        reading.problem(
            entry.span.clone(),
            format!("`backends.{name}` must be a table, not {}", kind(entry.value)),
            format!("write `[backends.{name}]` on a line of its own, and its keys below"),
        );
        return None;
    };
    let section = Section::new(reading, format!("backends.{name}"), table);
    let mut backend = defaults::backend(name);
    if let Some(enabled) = section.boolean("enabled") {
        backend.enabled = enabled;
    }
    if let Some((text, span)) = section.string("digest") {
        let hex = text.strip_prefix("sha256:").unwrap_or(&text).to_ascii_lowercase();
        if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            backend.digest = Some(hex);
        } else {
            reading.problem(
                span,
                "`digest` is not a SHA-256 in hex",
                "`falconer backends --json` shows the digest of each component: 64 digits",
            );
        }
    }
    if let Some(config) = section.section("config") {
        for entry in config.entries() {
            if let Some(value) = json(reading, entry.value, entry.span) {
                backend.config.insert(entry.key.to_owned(), value);
            }
        }
        backend.config.sort_keys();
    }
    if let Some(grants) = section.section("grants") {
        grants::read(grants, &mut backend.grants);
    }
    if let Some(allow) = section.section("allow") {
        for entry in allow.entries() {
            read_allow(&allow, &entry, &mut backend);
        }
    }
    if let Some(limits) = section.section("limits") {
        read_limits(limits, &mut backend.limits);
    }
    section.close(|key| {
        let part = if grants::KEYS.contains(&key) {
            "grants"
        } else if LIMITS.contains(&key) {
            "limits"
        } else {
            return None;
        };
        Some(format!("`{key}` belongs in [backends.{name}.{part}]"))
    });
    Some(backend)
}

fn read_allow(section: &Section<'_, '_>, entry: &Entry<'_, '_>, backend: &mut Backend) {
    let reading = section.reading;
    match entry.value {
        DeValue::Boolean(true) => {
            backend.allow.insert(entry.key.to_owned(), Allow::Any);
        }
        DeValue::Boolean(false) => {
            backend.allow.remove(entry.key);
        }
        DeValue::Array(values) => {
            let values: Option<Vec<_>> = values.iter().map(|value| json(reading, value.get_ref(), value.span())).collect();
            if let Some(values) = values {
                backend.allow.insert(entry.key.to_owned(), Allow::OneOf(values));
            }
        }
        other => reading.problem(
            entry.span.clone(),
            format!("`{}.{}` must be true, false or a list of values, not {}", section.name, entry.key, kind(other)),
            format!("write `{} = true` for any value, or `{} = [\"…\"]` for these", entry.key, entry.key),
        ),
    }
}

fn read_limits(section: Section<'_, '_>, limits: &mut Limits) {
    macro_rules! take {
        ($field:ident, $read:ident, $bound:ident) => {
            if let Some(value) = section.$read(stringify!($field), defaults::$bound) {
                limits.$field = value;
            }
        };
    }
    take!(runs, number, RUNS);
    take!(wall, duration, WALL);
    limits.idle = section.duration("idle", defaults::IDLE).or(limits.idle);
    take!(memory, size, MEMORY);
    take!(call_cpu, duration, CALL_CPU);
    take!(cpu, duration, CPU);
    take!(events, number, EVENTS);
    take!(output, size, OUTPUT);
    take!(events_per_s, number, EVENTS_PER_S);
    take!(children, number, CHILDREN);
    let tree = &mut limits.tree;
    tree.memory = section.size("tree_memory", defaults::TREE_MEMORY).or(tree.memory);
    tree.processes = section.number("tree_processes", defaults::TREE_PROCESSES).or(tree.processes);
    tree.cpu = section.cpus("tree_cpu", defaults::TREE_CPU).or(tree.cpu);
    section.close(|_| None);
}

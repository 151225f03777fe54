//! `[[targets]]` and `[tags.NAME]`: the machines that runs can be sent to.
//!
//! A tag may say for all who have it what they do not say themselves; two tags that say different things of one target are an
//! error, for nobody could tell which was meant. Whether a key file is there, and what `~/.ssh/config` says about an alias, is
//! looked up by [`crate::policy`]'s inventory.

use std::collections::BTreeMap;
use std::ops::Range;

use camino::Utf8PathBuf;
use serde::Serialize;
use toml::de::DeValue;

use super::address::{Address, is_user};
use super::defaults::Bound;
use super::document::{Section, kind, nearest};
use super::error::Place;
use super::grants::is_name;
use super::rules::{FarLimits, limits};

/// `port`: TCP.
const PORT: Bound<u16> = Bound { default: 22, least: 1, most: u16::MAX };
/// A chain of jumps is at most so long: each is a login of its own.
const JUMPS: usize = 4;
/// What a person says about a target or a tag, in characters.
const DESCRIPTION: usize = 500;

/// One machine, what its tags say filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Unique, whatever its case; letters, digits and `._+-`.
    pub name: String,
    /// Where `[[targets]]` stands in the file, from 1.
    #[serde(skip)]
    pub line: usize,
    /// Where it is; none: as the alias says.
    pub address: Option<Address>,
    /// None: as the alias says, else 22.
    pub port: Option<u16>,
    /// Who logs in; none: as the alias says, else whoever runs falconer.
    pub user: Option<String>,
    /// In the order of the file, each once.
    pub tags: Vec<String>,
    /// For people, and for models that choose one.
    pub description: Option<String>,
    /// Key files; empty: as the alias says, else what the agent has.
    pub identity: Vec<Utf8PathBuf>,
    /// The name of the secret that is its login's password.
    pub password: Option<String>,
    /// The name of the secret that opens its key files.
    pub passphrase: Option<String>,
    /// The target over which the way goes.
    pub jump: Option<String>,
    /// What its host key is held against.
    pub host_key: Option<HostKey>,
    /// Its own limits; those of its tags hold beside them.
    pub limits: FarLimits,
    /// A `Host` of `~/.ssh/config`, of which only certain options are taken.
    pub ssh_alias: Option<String>,
}

/// `[tags.NAME]`: what holds for every target with this tag that does not say it itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tag {
    /// Where it stands in the file, from 1.
    #[serde(skip)]
    pub line: usize,
    /// See [`Target::port`].
    pub port: Option<u16>,
    /// See [`Target::user`].
    pub user: Option<String>,
    /// See [`Target::identity`].
    pub identity: Vec<Utf8PathBuf>,
    /// See [`Target::password`].
    pub password: Option<String>,
    /// See [`Target::passphrase`].
    pub passphrase: Option<String>,
    /// See [`Target::jump`].
    pub jump: Option<String>,
    /// See [`Target::host_key`].
    pub host_key: Option<HostKey>,
    /// They hold beside a target's own; `parallel` counts the runs on all targets with this tag.
    pub limits: FarLimits,
}

/// What a host key is held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostKey {
    /// A file in the form of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
    KnownHosts(Utf8PathBuf),
    /// One of these, and nothing else.
    Pinned(Vec<Fingerprint>),
}

/// `SHA256:` and the digest of a public key in Base64 without padding, as ssh-keygen(1) `-l` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Reads one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // 32 bytes are 43 letters; the last one carries two bits that are no part of them.
        let digest = text.strip_prefix("SHA256:")?;
        let letters = digest.len() == 43 && digest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
        (letters && digest.ends_with(|last: char| "AEIMQUYcgkosw048".contains(last))).then(|| Self(text.to_owned()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads the targets and the tags, and fills in what tags say.
pub(super) fn read(top: &Section<'_, '_>) -> (Vec<Target>, BTreeMap<String, Tag>) {
    let tags = read_tags(top);
    let mut targets: Vec<(Target, Range<usize>)> = Vec::new();
    for (section, span) in top.tables("targets") {
        if let Some(mut target) = target(&section, &span) {
            if let Some((twin, _)) = targets.iter().find(|(earlier, _)| earlier.name.eq_ignore_ascii_case(&target.name)) {
                let place = section.value("name").map_or(span.clone(), toml::Spanned::span);
                section.reading.problem(
                    place,
                    format!("target `{}` is there already, on line {}", target.name, twin.line),
                    "give it another name, or take one of the two out",
                );
            }
            fill(&section, &span, &mut target, &tags);
            targets.push((target, span));
        }
        section.close(|key| match key {
            "host" | "hostname" | "ip" => Some("write `address = \"…\"`".into()),
            "tag" => Some("write `tags = [\"…\"]`".into()),
            "wall" | "output" | "parallel" => Some(format!("write `limits = {{ {key} = … }}`")),
            _ => None,
        });
    }
    jumps(top, &targets);
    (targets.into_iter().map(|(target, _)| target).collect(), tags)
}

fn read_tags(top: &Section<'_, '_>) -> BTreeMap<String, Tag> {
    let mut out = BTreeMap::new();
    let Some(tags) = top.section("tags") else { return out };
    let reading = top.reading;
    for entry in tags.entries() {
        let name = entry.key;
        if !is_name(name) {
            reading.problem(entry.key_span, format!("`{name}` is no name of a tag"), "take letters, digits and `._+-`");
            continue;
        }
        let DeValue::Table(table) = entry.value else {
            let message = format!("`tags.{name}` must be a table, not {}", kind(entry.value));
            reading.problem(entry.span, message, format!("write `[tags.{name}]` on a line of its own, and its keys below"));
            continue;
        };
        let section = Section::new(reading, format!("tags.{name}"), table);
        let tag = Tag {
            line: Place::of(reading.text, entry.key_span, &[]).line,
            port: section.number("port", PORT),
            user: user(&section),
            identity: identity(&section),
            password: secret(&section, "password"),
            passphrase: secret(&section, "passphrase"),
            jump: section.string("jump").map(|(jump, _)| jump),
            host_key: host_key(&section),
            limits: far_limits(&section),
        };
        section.close(|key| match key {
            "address" | "name" | "ssh_alias" => Some(format!("`{key}` belongs to one target, in [[targets]]")),
            _ => None,
        });
        out.insert(name.to_owned(), tag);
    }
    out
}

fn target(section: &Section<'_, '_>, span: &Range<usize>) -> Option<Target> {
    let reading = section.reading;
    let named = section.string("name");
    if named.is_none() && section.value("name").is_none() {
        reading.problem(span.clone(), "a target has no `name`", "write `name = \"web-1.example.org\"`");
    }
    let name = named.and_then(|(name, span)| {
        let fits = is_name(&name);
        if !fits {
            reading.problem(
                span,
                format!("`{name}` is no name of a target"),
                "take letters, digits and `._+-`; an address goes into `address`",
            );
        }
        fits.then_some(name)
    });
    let ssh_alias = section.string("ssh_alias").map(|(alias, span)| {
        if !is_name(&alias) {
            reading.problem(span, format!("`{alias}` is no alias that is taken"), "name one `Host` of ~/.ssh/config, without wildcards");
        }
        alias
    });
    let address = match section.string("address") {
        Some((text, span)) => Address::parse(&text).map_err(|(message, hint)| reading.problem(span, message, hint)).ok(),
        None if ssh_alias.is_some() || section.value("address").is_some() => None,
        None => name.as_deref().and_then(|name| {
            Address::parse(name)
                .map_err(|_| reading.problem(span.clone(), format!("target `{name}` has no address"), "write `address = \"…\"`"))
                .ok()
        }),
    };
    let mut tags: Vec<String> = Vec::new();
    for (tag, span) in section.strings("tags").unwrap_or_default() {
        if !is_name(&tag) {
            reading.problem(span, format!("`{tag}` is no name of a tag"), "take letters, digits and `._+-`");
        } else if tags.contains(&tag) {
            reading.problem(span, format!("tag `{tag}` is named twice"), "take one out");
        } else {
            tags.push(tag);
        }
    }
    let description = section.string("description").map(|(text, span)| {
        if text.chars().count() > DESCRIPTION || text.chars().any(|letter| letter.is_control() && letter != '\n') {
            reading.problem(
                span,
                format!("`description` is longer than {DESCRIPTION} characters, or holds a control character"),
                "shorten it",
            );
        }
        text
    });
    let target = Target {
        line: Place::of(reading.text, span.clone(), &[]).line,
        address,
        port: section.number("port", PORT),
        user: user(section),
        tags,
        description,
        identity: identity(section),
        password: secret(section, "password"),
        passphrase: secret(section, "passphrase"),
        jump: section.string("jump").map(|(jump, _)| jump),
        host_key: host_key(section),
        limits: far_limits(section),
        ssh_alias,
        name: String::new(),
    };
    Some(Target { name: name?, ..target })
}

fn user(section: &Section<'_, '_>) -> Option<String> {
    let (user, span) = section.string("user")?;
    if !is_user(&user) {
        section.reading.problem(span, format!("`{user}` is no login that is taken"), "take letters, digits and `._+@-`");
        return None;
    }
    Some(user)
}

/// The name of a secret. What is no name could be the secret itself, and is not shown.
fn secret(section: &Section<'_, '_>, key: &'static str) -> Option<String> {
    let (name, span) = section.string(key)?;
    if is_name(&name) {
        return Some(name);
    }
    section.reading.problem(
        span,
        format!("`{key}` is no name of a secret; the value itself has no place in this file"),
        format!(
            "write `{key} = \"NAME\"`, and NAME = {{ file = \"~/path\" }}, {{ env = \"…\" }} or {{ command = […] }} under [backends.ssh.grants.secrets]"
        ),
    );
    None
}

/// One path or a list of them.
fn identity(section: &Section<'_, '_>) -> Vec<Utf8PathBuf> {
    match section.value("identity").map(toml::Spanned::get_ref) {
        Some(DeValue::String(_)) => section.path("identity").into_iter().collect(),
        _ => {
            let files = section.strings("identity").unwrap_or_default().into_iter();
            files.filter_map(|(text, span)| section.reading.path(&text, span)).collect()
        }
    }
}

fn host_key(section: &Section<'_, '_>) -> Option<HostKey> {
    let reading = section.reading;
    let written = match section.value("fingerprint") {
        None => Vec::new(),
        Some(value) if matches!(value.get_ref(), DeValue::String(_)) => section.string("fingerprint").into_iter().collect(),
        Some(value) => {
            let list = section.strings("fingerprint").unwrap_or_default();
            if matches!(value.get_ref(), DeValue::Array(items) if items.is_empty()) {
                reading.problem(value.span(), "`fingerprint` is an empty list", "name one, or leave it out");
            }
            list
        }
    };
    let known_hosts = section.path("known_hosts");
    if let (Some(_), Some(value)) = (&known_hosts, section.value("fingerprint")) {
        reading.problem(value.span(), "both `known_hosts` and `fingerprint` are given", "take one of the two: a pinned key needs no file");
        return None;
    }
    let mut pinned = Vec::new();
    for (text, span) in written {
        match Fingerprint::parse(&text) {
            Some(fingerprint) => pinned.push(fingerprint),
            None => reading.problem(
                span,
                format!("`{text}` is no fingerprint of a host key"),
                "write it as `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows it on that machine: SHA256: and 43 letters",
            ),
        }
    }
    match known_hosts {
        Some(file) => Some(HostKey::KnownHosts(file)),
        None => (!pinned.is_empty()).then_some(HostKey::Pinned(pinned)),
    }
}

fn far_limits(section: &Section<'_, '_>) -> FarLimits {
    let Some(table) = section.section("limits") else { return FarLimits::default() };
    let read = limits(&table);
    table.close(|_| None);
    read
}

/// Takes from a target's tags what it does not say itself.
fn fill(section: &Section<'_, '_>, span: &Range<usize>, target: &mut Target, tags: &BTreeMap<String, Tag>) {
    let of: Vec<(&String, &Tag)> = target.tags.iter().filter_map(|name| tags.get_key_value(name)).collect();
    let clash = |key: &str, one: (&String, &Tag), other: (&String, &Tag)| {
        section.reading.problem(
            span.clone(),
            format!("tags `{}` (line {}) and `{}` (line {}) say different things about `{key}`", one.0, one.1.line, other.0, other.1.line),
            format!("write `{key}` into this target, or into one of the tags alone"),
        );
    };
    macro_rules! take {
        ($field:ident, $key:literal, $given:expr, $is:expr) => {
            if !section.value($key).is_some() && !$given {
                let saying: Vec<_> = of.iter().copied().filter(|(_, tag)| $is(&tag.$field)).collect();
                if let Some(first) = saying.first() {
                    if let Some(other) = saying.iter().find(|(_, tag)| tag.$field != first.1.$field) {
                        clash($key, *first, *other);
                    }
                    target.$field = first.1.$field.clone();
                }
            }
        };
    }
    take!(port, "port", false, Option::is_some);
    take!(user, "user", false, Option::is_some);
    take!(identity, "identity", false, |files: &Vec<Utf8PathBuf>| !files.is_empty());
    take!(password, "password", false, Option::is_some);
    take!(passphrase, "passphrase", false, Option::is_some);
    // A jump host may have the tag that says to jump over it; it does not jump over itself.
    let itself = of.iter().any(|(_, tag)| tag.jump.as_ref() == Some(&target.name));
    take!(jump, "jump", itself, Option::is_some);
    take!(host_key, "known_hosts", section.value("fingerprint").is_some(), Option::is_some);
}

/// Every jump is a target, and no way goes in a circle.
fn jumps(top: &Section<'_, '_>, targets: &[(Target, Range<usize>)]) {
    let names: Vec<&str> = targets.iter().map(|(target, _)| target.name.as_str()).collect();
    let find = |name: &str| targets.iter().map(|(target, _)| target).find(|target| target.name == name);
    for (target, span) in targets {
        let Some(jump) = &target.jump else { continue };
        if find(jump).is_none() {
            let hint = nearest(jump, &names).map_or_else(
                || format!("add `[[targets]]` with `name = \"{jump}\"`: a jump host has its own login and host key"),
                |near| format!("did you mean `{near}`?"),
            );
            top.reading.problem(span.clone(), format!("target `{}` jumps over `{jump}`, which is no target", target.name), hint);
            continue;
        }
        let mut way = vec![target.name.as_str()];
        let mut next = find(jump);
        while let Some(over) = next {
            let circle = way.contains(&over.name.as_str());
            way.push(&over.name);
            if circle || way.len() > JUMPS + 1 {
                let what = if circle { "goes in a circle" } else { "is too long" };
                top.reading.problem(
                    span.clone(),
                    format!("the way to target `{}` {what}: {}", target.name, way.join(" over ")),
                    format!("at most {JUMPS} jumps; take a `jump` out"),
                );
                break;
            }
            next = over.jump.as_deref().and_then(find);
        }
    }
}

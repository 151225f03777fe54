//! Finding, reading and checking the file.

use std::cell::RefCell;
use std::fmt::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest, Sha256};
use toml::de::{DeTable, DeValue};

use super::document::{self, Reading, Section, kind};
use super::error::{ConfigError, ConfigErrors, Place, inert};
use super::overrides::{absolute, default_data_dir};
use super::profile::INSTRUCTIONS;
use super::{Cgroup, Config, Overrides, Profile, backend, defaults, grants, network, rules, targets};

/// A file larger than this is not a configuration.
const LARGEST: u64 = 1 << 20;

impl Config {
    /// Finds the file, reads it, checks it and fills in the defaults. No file at the default place: the defaults.
    pub fn read(overrides: &Overrides) -> Result<Self, ConfigErrors> {
        let (file, named) = overrides.file()?;
        match text_of(&file) {
            Ok(text) => Self::parse(&text, Some(&file), overrides),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => Self::parse("", None, overrides),
            Err(error) => {
                let hint = match error.kind() {
                    std::io::ErrorKind::NotFound => {
                        "name a file that is there with --config or FALCONER_CONFIG, or name none: then the defaults hold"
                    }
                    std::io::ErrorKind::PermissionDenied => "make it readable for you",
                    _ => "write a text file of at most 1 MiB in UTF-8; falconer.example.toml shows every key",
                };
                Err(ConfigError::whole(Some(&file), why(&error), hint).into())
            }
        }
    }

    /// Checks the text of a configuration. `file` is where it came from; relative paths begin at its directory (at home
    /// where there is no file).
    pub fn parse(text: &str, file: Option<&Utf8Path>, overrides: &Overrides) -> Result<Self, ConfigErrors> {
        let home = overrides.home()?;
        let (document, errors) = DeTable::parse_recoverable(text);
        let reading = Reading {
            file,
            text,
            home,
            base: file.and_then(Utf8Path::parent).unwrap_or(home),
            hidden: document::secrets_of(document.get_ref()),
            problems: RefCell::default(),
        };
        if !errors.is_empty() {
            // What follows from a text that is no TOML would only hide the cause.
            return Err(ConfigErrors(errors.iter().map(|error| syntax(&reading, error)).collect()));
        }
        let config = top(&reading, document.get_ref(), overrides)?;
        let mut problems = reading.problems.into_inner();
        if problems.is_empty() {
            return Ok(sealed(config));
        }
        problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.line, place.column)));
        Err(ConfigErrors(problems))
    }
}

fn text_of(file: &Utf8Path) -> std::io::Result<String> {
    let meta = std::fs::metadata(file)?;
    if !meta.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    if meta.len() > LARGEST {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    std::fs::read_to_string(file)
}

fn why(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".into(),
        std::io::ErrorKind::PermissionDenied => "may not be read".into(),
        std::io::ErrorKind::InvalidData => "not UTF-8".into(),
        _ => error.to_string(),
    }
}

fn syntax(reading: &Reading<'_>, error: &toml::de::Error) -> ConfigError {
    let message = error.message().lines().map(str::trim).collect::<Vec<_>>().join(", ");
    ConfigError {
        file: reading.file.map(Utf8Path::to_owned),
        place: error.span().map(|span| Place::of(reading.text, span, &reading.hidden)),
        message: inert(&format!("not TOML: {message}")),
        hint: Some("https://toml.io shows the syntax; strings need quotes".into()),
    }
}

/// Reads every section. What is wrong in them is in the reading's problems afterwards; what is wrong beside the file is an error.
fn top(reading: &Reading<'_>, table: &DeTable<'_>, overrides: &Overrides) -> Result<Config, ConfigErrors> {
    let top = Section::new(reading, "", table);
    let data_dir = match (&overrides.data_dir, top.path("data_dir")) {
        (Some(given), _) => absolute(given)?,
        (None, Some(written)) => written,
        (None, None) => default_data_dir(reading.home),
    };
    let plugins_dir = match (&overrides.plugins, top.path("plugins_dir")) {
        (Some(given), _) => absolute(given)?,
        (None, Some(written)) => written,
        (None, None) => data_dir.join("plugins"),
    };
    let mut config = Config {
        file: reading.file.map(Utf8Path::to_owned),
        digest: String::new(),
        scratch: false,
        home: reading.home.to_owned(),
        data_dir,
        plugins_dir,
        path: path(&top),
        client: defaults::client(),
        stop: defaults::stop(),
        host: defaults::host(),
        profiles: Default::default(),
        backends: defaults::BUNDLED.iter().map(|name| ((*name).to_owned(), defaults::backend(name))).collect(),
        network: Default::default(),
        targets: Vec::new(),
        tags: Default::default(),
        rules: Vec::new(),
    };
    client(&top, &mut config);
    stop(&top, &mut config);
    host(&top, &mut config);
    profiles(&top, &mut config);
    if let Some(backends) = top.section("backends") {
        for entry in backends.entries() {
            if let Some(read) = backend::read(&backends, &entry) {
                config.backends.insert(entry.key.to_owned(), read);
            }
        }
    }
    config.network = network::read(&top);
    (config.targets, config.tags) = targets::read(&top);
    config.rules = rules::read(&top);
    top.close(|key| match key {
        "backend" => Some("write `[backends.NAME]`".into()),
        "rule" => Some("write `[[rules]]`".into()),
        "target" => Some("write `[[targets]]`".into()),
        _ if defaults::BUNDLED.contains(&key) => Some(format!("write `[backends.{key}]`")),
        _ => None,
    });
    Ok(config)
}

fn path(top: &Section<'_, '_>) -> Vec<Utf8PathBuf> {
    let Some(written) = top.strings("path") else {
        return defaults::PATH
            .iter()
            .map(|dir| dir.strip_prefix("~/").map_or_else(|| (*dir).into(), |rest| top.reading.home.join(rest)))
            .collect();
    };
    written
        .into_iter()
        .filter_map(|(text, span)| {
            let path = top.reading.path(&text, span.clone())?;
            if path.as_str().contains(':') {
                top.reading.problem(span, format!("`{text}` holds a colon"), "`path` is a list: one directory in each string");
            }
            Some(path)
        })
        .collect()
}

fn client(top: &Section<'_, '_>, config: &mut Config) {
    let Some(section) = top.section("client") else { return };
    if let Some(yes) = section.boolean("cwd_is_workspace") {
        config.client.cwd_is_workspace = yes;
    }
    section.close(|_| None);
}

fn stop(top: &Section<'_, '_>, config: &mut Config) {
    let Some(section) = top.section("stop") else { return };
    let stop = &mut config.stop;
    for (field, key, bound) in [
        (&mut stop.ask, "ask", defaults::ASK),
        (&mut stop.terminate, "terminate", defaults::TERMINATE),
        (&mut stop.drain, "drain", defaults::DRAIN),
        (&mut stop.prove, "prove", defaults::PROVE),
    ] {
        if let Some(value) = section.duration(key, bound) {
            *field = value;
        }
    }
    section.close(|_| None);
}

fn host(top: &Section<'_, '_>, config: &mut Config) {
    let Some(section) = top.section("host") else { return };
    let host = &mut config.host;
    for (field, key, bound) in [
        (&mut host.runs, "runs", defaults::HOST_RUNS),
        (&mut host.queued, "queued", defaults::HOST_QUEUED),
        (&mut host.fan_out, "fan_out", defaults::HOST_FAN_OUT),
        (&mut host.depth, "depth", defaults::HOST_DEPTH),
    ] {
        if let Some(value) = section.number(key, bound) {
            *field = value;
        }
    }
    for (field, key, bound) in [(&mut host.question, "question", defaults::HOST_QUESTION), (&mut host.call, "call", defaults::HOST_CALL)] {
        if let Some(value) = section.duration(key, bound) {
            *field = value;
        }
    }
    if let Some((text, span)) = section.string("cgroup") {
        match text.as_str() {
            "auto" => host.cgroup = Cgroup::Auto,
            "required" => host.cgroup = Cgroup::Required,
            "off" => host.cgroup = Cgroup::Off,
            _ => top.reading.problem(span, format!("`cgroup` is `{text}`"), "write \"auto\", \"required\" or \"off\""),
        }
    }
    section.close(|_| None);
}

fn profiles(top: &Section<'_, '_>, config: &mut Config) {
    let Some(section) = top.section("profiles") else { return };
    let reading = top.reading;
    for entry in section.entries() {
        const FORMS: &str = "write `file = \"~/path.md\"` or `text = \"…\"`, one of the two";
        let name = entry.key;
        if !grants::is_name(name) {
            reading.problem(entry.key_span, format!("`{name}` is no name for a profile"), "take letters, digits and `._+-`");
            continue;
        }
        let DeValue::Table(table) = entry.value else {
            reading.problem(entry.span, format!("`profiles.{name}` must be a table, not {}", kind(entry.value)), FORMS);
            continue;
        };
        let inner = Section::new(reading, format!("profiles.{name}"), table);
        let profile = match (inner.value("file").is_some(), inner.value("text").is_some()) {
            (true, false) => inner.path("file").map(Profile::File),
            (false, true) => inner.string("text").and_then(|(text, span)| {
                if text.len() as u64 > INSTRUCTIONS {
                    reading.problem(span, format!("profile `{name}` is larger than 256 KiB"), "shorten it");
                    return None;
                }
                Some(Profile::Text(text))
            }),
            _ => {
                reading.problem(entry.key_span, format!("profile `{name}` needs a file or a text"), FORMS);
                None
            }
        };
        if let Some(profile) = profile {
            config.profiles.insert(name.to_owned(), profile);
        }
        inner.close(|_| None);
    }
    // Every key is a name here.
}

/// Computes the digest: over what the configuration means, so that comments and order do not count, and the same file under
/// another home does.
fn sealed(mut config: Config) -> Config {
    let mut hash = Sha256::new();
    match serde_json::to_vec(&config) {
        Ok(json) => hash.update(json),
        // Cannot happen (all keys are strings, all numbers finite), and must not make two configurations look the same.
        Err(_) => hash.update(format!("{config:?}")),
    }
    config.digest = hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    config
}

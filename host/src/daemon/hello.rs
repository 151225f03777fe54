//! The first line of a connection and its answer, one JSON object each.
//!
//! `{"control":"stop"}` and `{"control":"status"}` never change: any falconer can end any daemon. Everything else
//! belongs to a [`PROTOCOL`]. No type that holds environment values can be printed.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Identity, PROTOCOL, code};
use crate::clock::Millis;
use crate::config::{Config, EnvSource, SecretSource};
use crate::fault::Fault;

/// Which configuration a process has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its file; none: the defaults.
    pub file: Option<Utf8PathBuf>,
    /// Its digest; equal digests mean the same configuration.
    pub digest: String,
}

impl Mark {
    /// That of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { file: config.file.clone(), digest: config.digest.clone() }
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{file}")?,
            None => write!(f, "the defaults")?,
        }
        write!(f, " ({})", self.digest.get(..12).unwrap_or(&self.digest))
    }
}

/// The environment names whose values a client is to bring: what the grants take from the client. The same as
/// [`crate::policy::Policy::client_env_names`], without looking at the disk, because every client asks this first.
#[must_use]
pub fn env_names(config: &Config) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for backend in config.backends.values().filter(|backend| backend.enabled) {
        names.extend(backend.grants.env.iter().filter(|(_, source)| matches!(source, EnvSource::Client)).map(|(name, _)| name.clone()));
        names.extend(backend.grants.secrets.values().filter_map(|source| match source {
            SecretSource::Env(name) => Some(name.clone()),
            SecretSource::File(_) | SecretSource::Command(_) => None,
        }));
    }
    names
}

/// A client's first line.
#[derive(Clone, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the client.
    pub protocol: u32,
    /// Version of its program.
    pub version: String,
    /// Its process id, for people; the daemon asks the kernel.
    pub pid: u32,
    /// Its working directory, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<Utf8PathBuf>,
    /// Its configuration; none where it could not read one, which only a client inside a run may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Mark>,
    /// The values of the environment names that the configuration lists, where they are set.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its `FALCONER_RUN_ID`: it says that it lives inside a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// Its stdin and stdout come with this line (SCM_RIGHTS); else the connection itself carries what is said.
    #[serde(default)]
    pub handover: bool,
}

/// What is wanted of the daemon itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// To end in order. The answer comes at once, the connection is closed at the end.
    Stop,
    /// To say how it is.
    Status,
}

/// The first line of a connection.
pub enum Opening {
    /// A client.
    Hello(Box<Hello>),
    /// A command.
    Control(Control),
}

#[derive(Serialize, Deserialize)]
struct ControlLine {
    control: Control,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    control: Option<serde_json::Value>,
    #[serde(default)]
    protocol: Option<u32>,
    #[serde(default)]
    version: Option<String>,
}

impl Opening {
    /// Reads a first line. The version is looked at before the rest, which another version may write differently.
    pub fn parse(line: &[u8]) -> Result<Self, Fault> {
        // The parser's own message may quote the line, and the line holds secrets.
        let bad = |what: &str| Fault::new(code::BAD_HELLO, format!("the first line is no hello of this protocol: {what}"));
        let head: Head = serde_json::from_slice(line).map_err(|_| bad("no JSON object of the expected shape"))?;
        if head.control.is_some() {
            let line: ControlLine = serde_json::from_slice(line).map_err(|_| bad("unknown control"))?;
            return Ok(Self::Control(line.control));
        }
        match head.protocol {
            Some(PROTOCOL) => {}
            Some(other) => return Err(mismatch(other, head.version.as_deref().unwrap_or("?"))),
            None => return Err(bad("`protocol` is missing")),
        }
        let hello = serde_json::from_slice(line).map_err(|_| bad("a field is missing or malformed"))?;
        Ok(Self::Hello(Box::new(hello)))
    }

    /// As a line, with its end.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => to_line(hello.as_ref()),
            Self::Control(control) => to_line(&ControlLine { control: *control }),
        }
    }
}

fn mismatch(protocol: u32, version: &str) -> Fault {
    Fault::new(
        code::PROTOCOL_MISMATCH,
        format!(
            "this client is falconer {version} (protocol {protocol}), the daemon is falconer {} (protocol {PROTOCOL})",
            env!("CARGO_PKG_VERSION")
        ),
    )
    .hint("end the daemon with `falconer stop`; the next start brings the installed version")
}

/// Whether the client's configuration is the daemon's.
pub fn check_config(theirs: Option<&Mark>, own: &Identity) -> Result<(), Fault> {
    match theirs {
        Some(theirs) if theirs.digest == own.config.digest => Ok(()),
        theirs => {
            // To name the very file that was edited would be no way out.
            let other = own.config.file.as_ref().filter(|file| theirs.is_none_or(|theirs| theirs.file.as_ref() != Some(*file)));
            let same = other.map_or_else(String::new, |file| format!(", or use --config {file}"));
            let theirs = theirs.map_or_else(|| "none".to_owned(), Mark::to_string);
            Err(Fault::new(
                code::CONFIG_MISMATCH,
                format!("the daemon of {} runs with configuration {}, and this client has {theirs}", own.data_dir, own.config),
            )
            .hint(format!("`falconer stop` ends the daemon, and the next start takes the new configuration{same}")))
        }
    }
}

/// The daemon's line back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The client is let in.
    Welcome {
        /// Version of the daemon's program.
        version: String,
        /// The daemon's process id.
        pid: u32,
    },
    /// The daemon is as follows.
    Status(Box<Status>),
    /// The daemon ends.
    Stopping {
        /// The daemon's process id.
        pid: u32,
    },
    /// Serving has ended in order; only where descriptors were handed over.
    Done {},
    /// The client is not let in.
    Error(Fault),
}

impl Answer {
    /// As a line, with its end.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        to_line(self)
    }

    /// Reads a line.
    pub fn parse(line: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(line).map_err(|error| {
            Fault::new(code::DAEMON_UNREACHABLE, format!("the daemon's answer is none that this falconer knows: {error}"))
                .hint("end the daemon with `falconer stop`; the next start brings the installed version")
        })
    }
}

/// How a daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its process id.
    pub pid: u32,
    /// Version of its program.
    pub version: String,
    /// [`PROTOCOL`] of its program.
    pub protocol: u32,
    /// When it started.
    pub started_at: Millis,
    /// For how long it has been there, in milliseconds.
    pub uptime_ms: u64,
    /// Runs that are alive.
    pub live_runs: usize,
    /// Connected clients.
    pub clients: usize,
    /// What it owns.
    pub data_dir: Utf8PathBuf,
    /// Where it listens.
    pub socket: Utf8PathBuf,
    /// Its configuration.
    pub config: Mark,
}

fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            protocol: PROTOCOL,
            version: "9.9.9".into(),
            pid: 7,
            cwd: Some("/tmp".into()),
            config: Some(Mark { file: Some("/etc/a.toml".into()), digest: "aa".repeat(32) }),
            env: BTreeMap::from([("KEY".into(), "canary".into())]),
            inside: None,
            handover: true,
        }
    }

    #[test]
    fn the_names_are_those_of_the_policy() {
        let text = "[backends.exec]\n[backends.exec.grants]\nenv = [\"ONE\", \"TWO\"]\nsecrets = { t = { env = \"TOKEN\" } }\n\
                    [backends.claude]\nenabled = false\n";
        let config = std::sync::Arc::new(Config::parse(text, None, &crate::config::Overrides::at_home("/home/u")).unwrap());
        let names = env_names(&config);
        assert!(["ONE", "TWO", "TOKEN"].iter().all(|name| names.contains(*name)));
        assert!(names.into_iter().eq(crate::policy::Policy::resolve(&config).client_env_names()));
    }

    #[test]
    fn openings_read_back() {
        let line = Opening::Hello(Box::new(hello())).line();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let Ok(Opening::Hello(back)) = Opening::parse(&line) else { panic!("a hello") };
        assert_eq!((back.env, back.cwd, back.handover), (hello().env, hello().cwd, true));
        assert!(matches!(Opening::parse(br#"{"control":"stop"}"#), Ok(Opening::Control(Control::Stop))));
        assert!(matches!(Opening::parse(br#"{"control":"status","more":1}"#), Ok(Opening::Control(Control::Status))));
    }

    #[test]
    fn another_protocol_is_named_whatever_else_it_says_and_no_value_is_quoted() {
        let fault = Opening::parse(br#"{"protocol":99,"version":"3.1","env":7}"#).err().unwrap();
        assert_eq!(fault.code, code::PROTOCOL_MISMATCH);
        assert!(fault.message.contains("protocol 99") && fault.message.contains("3.1"));
        for line in [&br#"{"protocol":1,"env":{"KEY":["canary"]}}"#[..], b"\"canary", b"{\"control\":\"canary\"}"] {
            let fault = Opening::parse(line).err().unwrap();
            assert_eq!(fault.code, code::BAD_HELLO);
            assert!(!fault.message.contains("canary"), "{}", fault.message);
        }
    }

    #[test]
    fn another_configuration_is_refused_and_both_are_named() {
        let own = Identity {
            data_dir: "/data".into(),
            config: Mark { file: Some("/etc/b.toml".into()), digest: "bb".repeat(32) },
            env_names: BTreeSet::new(),
        };
        assert!(check_config(Some(&own.config), &own).is_ok());
        let moved = Mark { file: Some("/elsewhere".into()), ..own.config.clone() };
        assert!(check_config(Some(&moved), &own).is_ok(), "the digest decides");
        let fault = check_config(hello().config.as_ref(), &own).unwrap_err();
        assert_eq!(fault.code, code::CONFIG_MISMATCH);
        for word in ["/etc/a.toml (aaaaaaaaaaaa)", "/etc/b.toml (bbbbbbbbbbbb)"] {
            assert!(fault.message.contains(word), "{}", fault.message);
        }
        assert!(fault.hint.unwrap().contains("falconer stop"));
        assert_eq!(check_config(None, &own).unwrap_err().code, code::CONFIG_MISMATCH);
    }
}

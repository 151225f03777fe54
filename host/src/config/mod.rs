//! `falconer.toml`: what a person grants and limits.
//!
//! [`Config::read`] finds the file, parses it, checks every key and value, and fills in the defaults. It looks at the file's
//! text alone: whether a program or a directory is there is asked by [`crate::policy`]. A key that is not known, or a value
//! that does not fit, is an error with its line and the way out, and all errors of a file come at once ([`ConfigErrors`]);
//! nothing is guessed and nothing is half taken. The environment is read in one place, [`Overrides::from_env`].

mod address;
mod backend;
pub mod defaults;
mod document;
mod error;
mod grants;
mod network;
mod overrides;
mod pattern;
mod profile;
mod read;
mod rules;
mod targets;
pub mod units;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::fault::{Fault, code};
pub use address::{Address, is_user};
pub use document::nearest;
pub use error::{CONFIGURATION_INVALID, ConfigError, ConfigErrors, Place, inert};
pub use grants::anchored;
pub use network::Network;
pub use overrides::Overrides;
pub use pattern::{Pattern, PatternKind, Piece};
pub use profile::Profile;
pub use rules::{Commands, Effect, FarLimits, ListPattern, Rest, Rule, is_program};
pub use targets::{Fingerprint, HostKey, Tag, Target};

/// The whole configuration, checked, with every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// The file it was read from; none: defaults.
    #[serde(skip)]
    pub file: Option<Utf8PathBuf>,
    /// SHA-256 of all that follows, in hex: two processes with the same digest mean the same configuration.
    #[serde(skip)]
    pub digest: String,
    /// The data directory is removed at the end of the host: nothing can be left in it for a next one.
    #[serde(skip)]
    pub scratch: bool,
    /// The home directory that `~` means.
    pub home: Utf8PathBuf,
    /// Where the ledger and the socket are.
    pub data_dir: Utf8PathBuf,
    /// Where third parties' components are.
    pub plugins_dir: Utf8PathBuf,
    /// Where programs are looked for, in order.
    pub path: Vec<Utf8PathBuf>,
    /// What clients bring.
    pub client: Client,
    /// The rungs of a stop.
    pub stop: Stop,
    /// Ceilings of the whole host.
    pub host: Host,
    /// Standing instructions, by name.
    pub profiles: BTreeMap<String, Profile>,
    /// By name; bundled ones are there even where the file does not name them. Ask [`Config::backend`].
    pub backends: BTreeMap<String, Backend>,
    /// `[network]`: which addresses may be connected to.
    pub network: Network,
    /// `[[targets]]`, in the order of the file, what their tags say filled in.
    pub targets: Vec<Target>,
    /// `[tags.NAME]`
    pub tags: BTreeMap<String, Tag>,
    /// `[[rules]]`, in the order of the file.
    pub rules: Vec<Rule>,
}

impl Config {
    /// What a backend has; one that the file does not name, and that is not bundled, has nothing granted.
    #[must_use]
    pub fn backend(&self, name: &str) -> &Backend {
        static UNNAMED: LazyLock<Backend> = LazyLock::new(|| defaults::backend(""));
        self.backends.get(name).unwrap_or(&UNNAMED)
    }

    /// The standing instructions of a profile, read now.
    pub fn instructions(&self, profile: &str) -> Result<String, Fault> {
        match self.profiles.get(profile) {
            Some(found) => found.instructions(profile),
            None => {
                let known: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
                let hint = match document::nearest(profile, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "none is there; a person adds [profiles.NAME] to the configuration".to_owned(),
                    None => format!("known: {}", known.join(", ")),
                };
                Err(Fault::new(code::INVALID_ARGUMENT, format!("no profile is called `{profile}`")).hint(hint))
            }
        }
    }
}

/// `[client]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Client {
    /// The client's working directory is a workspace of its runs.
    pub cwd_is_workspace: bool,
}

/// `[stop]`: how long each rung may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stop {
    /// The backend's own `cancel`, and the polls after it.
    pub ask: Duration,
    /// TERM, until KILL.
    pub terminate: Duration,
    /// Reading what is left in the pipes.
    pub drain: Duration,
    /// Looking for the proof.
    pub prove: Duration,
}

/// `[host]`: ceilings of the whole host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Live runs at once.
    pub runs: u32,
    /// Queued runs at once.
    pub queued: u32,
    /// Runs of one group at once, where its caller does not say.
    pub fan_out: u32,
    /// Depth of child runs.
    pub depth: u32,
    /// How long a question stays open when the backend does not say.
    pub question: Duration,
    /// Wall time of one call into a component.
    pub call: Duration,
    /// Whether the processes of runs are put into cgroups.
    pub cgroup: Cgroup,
}

/// `[host] cgroup`: whether runs' processes are put into control groups of version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cgroup {
    /// Where they can be made.
    Auto,
    /// The host does not start where they cannot be made.
    Required,
    /// Never: shims alone hold the trees.
    Off,
}

/// `[backends.NAME]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backend {
    /// Whether runs may use it.
    pub enabled: bool,
    /// SHA-256 that its component must have.
    pub digest: Option<String>,
    /// Defaults for the backend's own config.
    pub config: Map<String, Value>,
    /// What it may touch.
    pub grants: Grants,
    /// What a run may choose, by key of the backend's config; a key that is not here cannot be set by a run.
    pub allow: BTreeMap<String, Allow>,
    /// Its limits.
    pub limits: Limits,
}

/// `[backends.NAME.grants]`
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Grants {
    /// Name → program.
    pub programs: BTreeMap<String, ProgramGrant>,
    /// Directories in which a run's working directory may lie; absolute, `~` expanded.
    pub workspaces: Vec<Utf8PathBuf>,
    /// Name → where its value comes from.
    pub env: BTreeMap<String, EnvSource>,
    /// `host:port`.
    pub hosts: Vec<String>,
    /// Name → where its value comes from.
    pub secrets: BTreeMap<String, SecretSource>,
}

/// One granted program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramGrant {
    /// An absolute path, or a name that is looked for on `path`.
    pub program: String,
    /// Arguments that always come first.
    pub first: Vec<String>,
    /// Each argument that the backend adds must match one of these regular expressions, as a whole ([`anchored`]); empty: any.
    pub allow: Vec<String>,
    /// At most so many arguments of the backend.
    pub max_args: Option<u32>,
}

impl ProgramGrant {
    /// This program, with any arguments.
    #[must_use]
    pub fn any(program: impl Into<String>) -> Self {
        Self { program: program.into(), first: Vec::new(), allow: Vec::new(), max_args: None }
    }
}

/// Where the value of an environment variable comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum EnvSource {
    /// The client's environment, as its hello brought it.
    Client,
    /// The configuration.
    Value(String),
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum SecretSource {
    /// A variable of the client's environment, as its hello brought it.
    Env(String),
    /// A file with mode 0600.
    File(Utf8PathBuf),
    /// The first line of a command's output.
    Command(Vec<String>),
}

/// What a run may choose for one key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Allow {
    /// Anything that fits the backend's schema.
    Any,
    /// One of these values; where the run gives a list, each of its items is one of these.
    OneOf(Vec<Value>),
}

/// `[backends.NAME.limits]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Live runs at once.
    pub runs: u32,
    /// Wall time of a run.
    pub wall: Duration,
    /// Time without an event or a byte.
    pub idle: Option<Duration>,
    /// Memory of the component.
    pub memory: u64,
    /// CPU time of one call into the component.
    pub call_cpu: Duration,
    /// CPU time of all calls of a run.
    pub cpu: Duration,
    /// Events of a run.
    pub events: u64,
    /// Bytes of events and artifacts of a run.
    pub output: u64,
    /// Events a second, averaged over ten.
    pub events_per_s: u32,
    /// Children at once.
    pub children: u32,
    /// Of what a run starts, as a whole.
    pub tree: TreeLimits,
}

/// Limits of all native processes of one run together; none: no limit but the machine's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TreeLimits {
    /// `tree_memory`: bytes of memory, without swap.
    pub memory: Option<u64>,
    /// `tree_processes`: processes and threads at once.
    pub processes: Option<u32>,
    /// `tree_cpu`: CPU time.
    pub cpu: Option<units::Cpus>,
}

impl TreeLimits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests;

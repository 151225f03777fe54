//! The one process that owns a data directory, and how others reach it.
//!
//! A daemon holds a lock ([`lock`]), listens on a Unix socket ([`socket`]) and serves each connection with a
//! [`Service`] that is given to it: it knows connections, not what is spoken on them. The other side is
//! [`connect`] (find a daemon, or start one) and [`pipe`] (what `falconer mcp` is).
//!
//! On failure: what cannot be opened is told to whoever waits for the start, with its reason; a fault in one
//! connection ends that connection; the daemon itself ends only when it is told to.

mod cgroup;
pub mod connect;
pub mod detach;
mod dir;
pub mod ending;
mod ephemeral;
mod handover;
pub mod hello;
pub mod host;
pub mod lock;
pub mod log;
mod peer;
pub mod pipe;
mod serve;
pub mod signals;
pub mod socket;
mod start;

use std::collections::BTreeSet;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::id::RunId;
use crate::run::Caller;

pub use dir::{Finding as DirFinding, inspect as inspect_dir, prepare as prepare_dir};
pub use ephemeral::Scratch;
pub use serve::{Ready, run};

/// Version of what is spoken between a client and a daemon, before the service begins.
pub const PROTOCOL: u32 = 1;

/// The lock, within the data directory.
pub const LOCK_FILE: &str = "daemon.lock";
/// The socket, within the data directory.
pub const SOCKET_FILE: &str = "daemon.sock";
/// The log of a detached daemon, within the data directory.
pub const LOG_FILE: &str = "daemon.log";

/// How long a client waits for a daemon that others start, or that is ending, and for the answer to its hello.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long a daemon may take from its start until it can serve (a ledger may have to be migrated).
pub const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection may take to send its hello.
pub const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// The longest hello, in bytes: it carries environment values.
pub const HELLO_BYTES: usize = 1 << 20;
/// How long a service may take to end a connection whose client is gone, before it is dropped.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// How long `falconer mcp` stays after its input has ended.
pub const PIPE_LIMIT: Duration = Duration::from_millis(400);

/// Codes of this module's faults.
pub mod code {
    /// No daemon runs, and none may be started from here.
    pub const NO_DAEMON: &str = "no_daemon";
    /// The daemon could not be started.
    pub const DAEMON_FAILED: &str = "daemon_failed";
    /// A daemon owns the data directory, but does not answer.
    pub const DAEMON_UNREACHABLE: &str = "daemon_unreachable";
    /// The daemon has ended while it served this client.
    pub const DAEMON_LOST: &str = "daemon_lost";
    /// A daemon owns the data directory already.
    pub const DAEMON_RUNS: &str = "daemon_runs";
    /// Client and daemon speak different versions.
    pub const PROTOCOL_MISMATCH: &str = "protocol_mismatch";
    /// Client and daemon have different configurations.
    pub const CONFIG_MISMATCH: &str = "config_mismatch";
    /// The peer is another user.
    pub const OTHER_USER: &str = "other_user";
    /// The data directory cannot be used.
    pub const BAD_DATA_DIR: &str = "bad_data_dir";
    /// The first line is none that this protocol knows.
    pub const BAD_HELLO: &str = "bad_hello";
}

/// What is read from a client.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;
/// What is written to a client.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// One client that was let in.
pub struct Session {
    /// Who it is.
    pub caller: Caller,
    /// What it says; ends when it has nothing more to say.
    pub input: Input,
    /// Where it is answered.
    pub output: Output,
    /// Cancelled when the client is gone or the daemon ends; the service then returns soon.
    pub closing: CancellationToken,
}

/// What a daemon does for its clients.
pub trait Service: Send + Sync + 'static {
    /// The live run in whose tree this process is. May block for as long as the process's memory is locked: never to be
    /// called where others are served.
    fn parent(&self, pid: u32) -> Option<RunId>;
    /// The working directory of a client as a workspace of its runs, where it may be one.
    fn workspace(&self, cwd: &Utf8Path) -> Option<Utf8PathBuf>;
    /// How many runs are alive.
    fn live(&self) -> usize;
    /// Serves one client until its input ends, its output breaks or `closing` is cancelled.
    fn serve(&self, session: Session) -> BoxFuture<'static, ()>;
    /// No new work; what runs is stopped; what is kept is closed. Called once. `within`: in how much time, where it is not
    /// the configuration's.
    fn shut_down(&self, within: Option<Duration>) -> BoxFuture<'static, ()>;
}

/// What a daemon says about itself and checks a hello against.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What it owns.
    pub data_dir: Utf8PathBuf,
    /// Its configuration.
    pub config: hello::Mark,
    /// The environment names whose values a hello may bring.
    pub env_names: BTreeSet<String>,
}

impl Identity {
    /// What follows from a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { data_dir: config.data_dir.clone(), config: hello::Mark::of(config), env_names: hello::env_names(config) }
    }
}

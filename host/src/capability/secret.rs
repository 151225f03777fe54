//! Granted secrets: fetched by the host, put where the component names them, never shown to it.
//!
//! Values come from the client's environment, from a file that only we can read, or from the first line of a command,
//! which the host runs as part of the run's tree while the component goes on. Every value that is got is hidden in the
//! run's output and log from then on. A value that cannot be got is missing, with the reason; the run goes on.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use camino::Utf8Path;
use rustix::io::{Errno, read};
use tokio::io::Interest;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::news::{Bell, News};
use super::redact::MIN_SECRET;
use super::{ClientEnv, Host, RunLog, Setup, limits};
use crate::config::SecretSource;
use crate::contract::falconer::backend::secret;
use crate::tree::{Exit, Plan, Tree, control, register};

/// How long a secret's command may take.
pub const COMMAND_TIME: Duration = Duration::from_secs(10);
/// How long a spawn waits for a secret that is being fetched.
pub const SPAWN_WAIT: Duration = Duration::from_secs(3);
/// Bytes of a secret.
pub const SECRET_BYTES: usize = 64 * 1024;

/// What is known of a secret's value.
#[derive(Clone)]
pub enum Value {
    /// Its command runs.
    Fetching,
    /// Here it is.
    Ready(Arc<[u8]>),
    /// Why there is none.
    Missing(String),
}

/// A run's granted secrets.
pub struct Secrets {
    slots: BTreeMap<String, Arc<Slot>>,
    runtime: Handle,
}

struct Slot {
    value: watch::Sender<Value>,
    bell: Bell,
    /// The variable of the client's that it comes from, if it does: a client may bring it later.
    variable: Option<Variable>,
}

struct Variable {
    name: String,
    env: ClientEnv,
    log: RunLog,
}

impl Variable {
    fn value(&self) -> Result<Option<Arc<[u8]>>, String> {
        match self.env.get(&self.name) {
            Some(value) => checked(value.into_bytes()),
            None => Err(format!("the client brought no {}", self.name)),
        }
    }
}

impl Slot {
    /// Looks again where a client had not brought it.
    fn look_again(&self) {
        if let Some(variable) = &self.variable
            && matches!(*self.value.borrow(), Value::Missing(_))
            && let Ok(Some(bytes)) = variable.value()
        {
            variable.log.secrets().hide(&bytes);
            self.value.send_replace(Value::Ready(bytes));
        }
    }
}

impl Secrets {
    /// Reads what can be read at once, and starts the commands.
    pub(super) fn gather(setup: &Setup, news: &News) -> Self {
        let mut slots = BTreeMap::new();
        for (name, source) in &setup.grant.secrets {
            let variable = match source {
                SecretSource::Env(name) => Some(Variable { name: name.clone(), env: setup.client_env.clone(), log: setup.log.clone() }),
                SecretSource::File(_) | SecretSource::Command(_) => None,
            };
            let value = match (source, &variable) {
                (_, Some(variable)) => variable.value(),
                (SecretSource::File(file), _) => from_file(file).and_then(checked),
                (SecretSource::Command(_) | SecretSource::Env(_), _) => Ok(None),
            };
            let value = match value {
                Ok(Some(bytes)) => {
                    setup.log.secrets().hide(&bytes);
                    Value::Ready(bytes)
                }
                Ok(None) => Value::Fetching,
                Err(why) => Value::Missing(why),
            };
            let slot = Arc::new(Slot { value: watch::Sender::new(value), bell: Bell::new(news), variable });
            if let SecretSource::Command(command) = source {
                setup.tree.handle().spawn(fetch(Arc::clone(&slot), name.clone(), Fetch::new(setup, command)));
            }
            slots.insert(name.clone(), slot);
        }
        Self { slots, runtime: setup.tree.handle().clone() }
    }

    /// These, for tests of who hands them out.
    #[cfg(test)]
    pub fn ready(values: &[(&str, &str)]) -> Self {
        let slot = |value: &str| {
            let value = watch::Sender::new(Value::Ready(value.as_bytes().into()));
            Arc::new(Slot { value, bell: Bell::new(&News::default()), variable: None })
        };
        let slots = values.iter().map(|(name, value)| ((*name).to_owned(), slot(value))).collect();
        Self { slots, runtime: Handle::current() }
    }

    /// Where waiting for them is done.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Whether a secret of this name is granted and has a value now. While it is being fetched, the answer is no, and
    /// the source is armed.
    pub fn available(&self, name: &str) -> bool {
        let Some(slot) = self.slots.get(name) else { return false };
        slot.look_again();
        if matches!(*slot.value.borrow(), Value::Fetching) {
            let _: Poll<()> = slot.bell.arm(|_| Poll::Pending);
        }
        let there = matches!(*slot.value.borrow(), Value::Ready(_));
        if there {
            slot.bell.disarm();
        }
        there
    }

    /// The value, for a child; waits a little for one that is being fetched. None: not granted.
    pub async fn value(&self, name: &str) -> Option<Result<Arc<[u8]>, String>> {
        self.value_within(name, SPAWN_WAIT).await
    }

    /// The same, for who can wait as long as its command may take.
    pub async fn value_at_last(&self, name: &str) -> Option<Result<Arc<[u8]>, String>> {
        self.value_within(name, COMMAND_TIME).await
    }

    async fn value_within(&self, name: &str, limit: Duration) -> Option<Result<Arc<[u8]>, String>> {
        let slot = self.slots.get(name)?;
        slot.look_again();
        let mut value = slot.value.subscribe();
        if matches!(*value.borrow(), Value::Fetching) {
            // On the serving runtime: the guests' has no clock of its own.
            let fetched = self.runtime.spawn(async move {
                let _ = tokio::time::timeout(limit, value.wait_for(|value| !matches!(value, Value::Fetching))).await;
                value
            });
            value = match fetched.await {
                Ok(value) => value,
                Err(_) => return Some(Err("the host is ending".into())),
            };
        }
        let known = value.borrow().clone();
        Some(match known {
            Value::Ready(bytes) => Ok(bytes),
            Value::Missing(why) => Err(why),
            Value::Fetching => Err("it is still being fetched; ask `available` first".into()),
        })
    }
}

/// Why a source would give no value now; a command's is not known before it was run.
#[must_use]
pub fn missing(source: &SecretSource, client_env: &BTreeMap<String, String>) -> Option<String> {
    immediate(source, client_env).err()
}

/// The value of a source that needs no command; none: it needs one.
fn immediate(source: &SecretSource, client_env: &BTreeMap<String, String>) -> Result<Option<Arc<[u8]>>, String> {
    match source {
        SecretSource::Env(variable) => match client_env.get(variable) {
            Some(value) => checked(value.as_bytes().to_vec()),
            None => Err(format!("the client brought no {variable}")),
        },
        SecretSource::File(file) => from_file(file).and_then(checked),
        SecretSource::Command(_) => Ok(None),
    }
}

/// Long enough to be redacted, and fit for an environment.
fn checked(bytes: Vec<u8>) -> Result<Option<Arc<[u8]>>, String> {
    if bytes.is_empty() {
        return Err("it is empty".into());
    }
    if bytes.len() < MIN_SECRET {
        return Err(format!("secret_too_short: values under {MIN_SECRET} bytes cannot be kept out of the output, and are refused"));
    }
    if bytes.len() > SECRET_BYTES {
        return Err(format!("it has more than {SECRET_BYTES} bytes"));
    }
    if bytes.contains(&0) {
        return Err("it holds a NUL".into());
    }
    Ok(Some(bytes.into()))
}

fn from_file(file: &Utf8Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let why = |error: std::io::Error| format!("{file}: {error}");
    // Non-blocking: a FIFO in its place must not hold up the host.
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file).map_err(why)?;
    let meta = opened.metadata().map_err(why)?;
    if !meta.is_file() {
        return Err(format!("{file} is no ordinary file"));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("{file} belongs to another user"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(format!("{file} can be read by others: `chmod 600 {file}`"));
    }
    let mut bytes = Vec::new();
    opened.take(SECRET_BYTES as u64 + 2).read_to_end(&mut bytes).map_err(why)?;
    trim_line_end(&mut bytes);
    Ok(bytes)
}

fn trim_line_end(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}

/// What a secret's command needs.
struct Fetch {
    tree: Tree,
    log: RunLog,
    command: Vec<String>,
    path: String,
    env: Vec<(std::ffi::OsString, std::ffi::OsString)>,
}

impl Fetch {
    /// The command comes from the configuration; its environment is the host's own session and what the backend is
    /// granted.
    fn new(setup: &Setup, command: &[String]) -> Self {
        let mut env: BTreeMap<String, String> = BTreeMap::new();
        for name in ["HOME", "USER", "LOGNAME", "LANG"] {
            env.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
        }
        let granted = setup.grant.env.iter();
        env.extend(granted.filter_map(|(name, source)| Some((name.clone(), setup.value_of(name, source)?))));
        env.insert("PATH".into(), setup.path());
        Self {
            tree: setup.tree.clone(),
            log: setup.log.clone(),
            command: command.to_vec(),
            path: setup.path(),
            env: env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        }
    }
}

async fn fetch(slot: Arc<Slot>, name: String, fetch: Fetch) {
    let log = fetch.log.clone();
    let value = match run(&name, fetch).await.and_then(checked) {
        Ok(Some(bytes)) => {
            log.secrets().hide(&bytes);
            Value::Ready(bytes)
        }
        Ok(None) => Value::Missing("it is empty".into()),
        Err(why) => {
            log.line("host", &format!("the secret `{name}` cannot be had: {why}"));
            Value::Missing(why)
        }
    };
    slot.value.send_replace(value);
    slot.bell.ring();
}

/// Runs the command; its first line.
async fn run(name: &str, fetch: Fetch) -> Result<Vec<u8>, String> {
    let Some((program, args)) = fetch.command.split_first() else { return Err("its command is empty".into()) };
    let (tree, path, wanted) = (fetch.tree, fetch.path, program.clone());
    let program = control(tree.handle(), move || super::grant::find(&wanted, &path)).await.map_err(|error| error.to_string())??;
    let plan = Plan { program, args: args.iter().map(Into::into).collect(), env: fetch.env, cwd: None, stdin: false };
    let mut child = tree.spawn(plan).await.map_err(|error| format!("its command cannot be started: {error}"))?;
    let pid = child.pid;
    let work = async {
        let (out, err) = tokio::join!(all(&tree, child.stdout), all(&tree, child.stderr));
        let exit = child.exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        (out, err, exit)
    };
    let Ok((out, err, exit)) = tokio::time::timeout(COMMAND_TIME, work).await else {
        tree.kill_child(pid);
        return Err(format!("its command took more than {} s", COMMAND_TIME.as_secs()));
    };
    // What the command says may hold the value where it failed half-way: only its shape goes into the log.
    if exit != Some(Exit::Code(0)) {
        let how = match exit {
            Some(Exit::Code(code)) => format!("exit code {code}"),
            Some(Exit::Signalled(signal)) => format!("signal {signal}"),
            Some(Exit::Unknown) | None => "an unknown state".into(),
        };
        return Err(format!("its command ended with {how} (and {} bytes on stderr); run it by hand to see why", err.len()));
    }
    tracing::debug!(secret = name, "fetched");
    let mut line = out;
    if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
        line.truncate(end + 1);
    }
    trim_line_end(&mut line);
    Ok(line)
}

/// Reads to the end; keeps the first 64 KiB and a little more.
async fn all(tree: &Tree, fd: OwnedFd) -> Vec<u8> {
    let mut kept = Vec::new();
    let Ok(pipe) = register(tree.handle(), Arc::new(fd), Interest::READABLE) else { return kept };
    let mut piece = vec![0; 4096];
    loop {
        match read(pipe.get_ref(), &mut piece[..]) {
            Ok(0) => return kept,
            Ok(count) if kept.len() <= SECRET_BYTES => kept.extend_from_slice(&piece[..count]),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let Ok(mut ready) = pipe.readable().await else { return kept };
                // Cleared only if it is still empty after the readiness is known.
                if ready.try_io(|pipe| if is_empty(pipe.get_ref()) { Err(std::io::ErrorKind::WouldBlock.into()) } else { Ok(()) }).is_err()
                {
                    continue;
                }
            }
            Err(_) => return kept,
        }
    }
}

fn is_empty(pipe: &OwnedFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(pipe, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(0))
}

impl secret::Host for Host {
    /// Every grant of this version is for use only.
    fn read(&mut self, name: String) -> wasmtime::Result<Result<Vec<u8>, secret::SecretError>> {
        limits::name("the name of a secret", &name)?;
        Ok(Err(secret::SecretError::Denied))
    }

    fn available(&mut self, name: String) -> wasmtime::Result<bool> {
        limits::name("the name of a secret", &name)?;
        Ok(self.granted.as_ref().is_some_and(|granted| granted.secrets.available(&name)))
    }
}

//! Native programs, for components.
//!
//! A component names a granted program; the host finds it, judges arguments, environment and directory, and starts it
//! in the run's tree. Dropping a [`Child`] closes its pipes and kills nothing: the end of the run does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;
use wasmtime::component::Resource;

use super::news::{Bell, News};
use super::pipe::{Reader, Writer};
use super::told::{Told, Verdict, for_the_record, shown_far};
use super::{Attendant, Granted, Host, Log, RunLog, Violation, grant, limits};
use crate::contract::falconer::backend::process::{self as wit, EnvValue, ExitStatus, SpawnError, StdinMode};
use crate::contract::falconer::backend::types::{Failure, FarCommand, FarWords, IoError, Received};
use crate::fault::code;
use crate::tree::{self, Exit, Plan, Tree, control};

/// Children that one run may start in all; their labels are remembered.
pub const CHILDREN_EVER: usize = 65_536;
/// `LANG` of a child whose backend sets none.
pub const DEFAULT_LANG: &str = "C.UTF-8";

/// A child that a component holds.
pub struct Child {
    label: String,
    pid: u32,
    tree: Tree,
    stdin: Option<Writer>,
    stdout: Reader,
    stderr: Reader,
    /// What the program has to say itself, and what keeps that open until it has ended.
    log: Option<(Reader, Option<OwnedFd>)>,
    exit: ExitSource,
    /// Who waits upon it.
    _attendant: Option<Box<dyn Attendant>>,
}

/// What a child for the far end has besides.
#[derive(Default)]
struct Own {
    log: Option<Log>,
    attendant: Option<Box<dyn Attendant>>,
}

impl Child {
    /// Reads what is left into the log; gives what is left of the budget.
    pub(super) fn drain_into(&mut self, log: &RunLog, mut budget: u64) -> u64 {
        for (pipe, name) in [(&mut self.stdout, "stdout"), (&mut self.stderr, "stderr")] {
            let mut bytes = Vec::new();
            while budget > 0 {
                match pipe.read(u32::try_from(budget).unwrap_or(u32::MAX)) {
                    Received::Bytes(piece) => {
                        budget = budget.saturating_sub(piece.len() as u64);
                        bytes.extend(piece);
                    }
                    Received::NotYet | Received::End => break,
                }
            }
            if !bytes.is_empty() {
                log.line(&format!("{}:{name}", self.label), &String::from_utf8_lossy(&bytes));
            }
        }
        budget
    }

    /// It takes one of the places that a run has for children, though it has ended: its pipes hold descriptors.
    fn is_open(&self) -> bool {
        self.stdout.is_open() || self.stderr.is_open()
    }
}

/// The end of a child, as a source.
struct ExitSource {
    exit: watch::Receiver<Option<Exit>>,
    bell: Bell,
    /// Ends with the child; none: it has ended.
    ended: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl ExitSource {
    /// The source is armed.
    fn new(exit: watch::Receiver<Option<Exit>>, news: &News) -> Self {
        let mut receiver = exit.clone();
        let ended = Box::pin(async move {
            // An error means that the runtime is ending.
            let _ = receiver.wait_for(Option::is_some).await;
        });
        let mut source = Self { exit, bell: Bell::new(news), ended: Some(ended) };
        if source.arm() {
            // It has ended already: that is its one news.
            source.bell.ring();
        }
        source
    }

    /// True: it has ended.
    fn arm(&mut self) -> bool {
        let Some(ended) = &mut self.ended else { return true };
        match self.bell.arm(|context| ended.as_mut().poll(context)) {
            Poll::Pending => false,
            Poll::Ready(()) => {
                self.ended = None;
                true
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    fn get(&mut self) -> Option<Exit> {
        let known = *self.exit.borrow();
        if known.is_some() {
            self.bell.disarm();
            return known;
        }
        if !self.arm() {
            return None;
        }
        self.bell.disarm();
        Some(self.exit.borrow().unwrap_or(Exit::Unknown))
    }
}

/// Refusals of the far end that a rule decided; the others are failures.
const DECIDED: [&str; 3] = [code::ADDRESS_NOT_ALLOWED, code::NOT_ALLOWED, code::INVALID_ARGUMENT];

/// The limits that the contract states for a spawn.
fn check(options: &wit::Options) -> Result<(), Violation> {
    limits::label(&options.label)?;
    limits::name("the name of a program", &options.program)?;
    limits::items("arguments", options.args.len())?;
    limits::at_most("all arguments together", options.args.iter().map(|arg| arg.len() + 1).sum(), limits::ARGS)?;
    limits::items("environment variables", options.env.len())?;
    let mut size = 0;
    for (name, value) in &options.env {
        limits::name("the name of an environment variable", name)?;
        size += name.len() + 2;
        match value {
            EnvValue::Text(text) => size += text.len(),
            EnvValue::Inherited | EnvValue::IfGranted => {}
            EnvValue::Secret(secret) => limits::name("the name of a secret", secret)?,
        }
    }
    limits::at_most("all environment variables together", size, limits::ENV)?;
    if let Some(command) = options.far.as_ref().and_then(far_command) {
        check_far(command)?;
    }
    if let Some(cwd) = &options.cwd {
        limits::at_most("the working directory", cwd.len(), limits::PATH)?;
    }
    Ok(())
}

/// The limits that the contract states for a far-end command.
fn check_far(command: &FarCommand) -> Result<(), Violation> {
    let words = match &command.words {
        FarWords::Args(args) => {
            limits::items("arguments of a far-end command", args.len())?;
            args.iter().map(|arg| arg.len() + 1).sum()
        }
        FarWords::Shell(line) => line.len(),
    };
    limits::items("variables of a far-end command", command.env.len())?;
    let env: usize = command.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    limits::at_most("a far-end command", words + env + command.cwd.as_ref().map_or(0, String::len), limits::ARGS)
}

impl Granted {
    /// The whole environment of a child.
    async fn env(&self, wanted: Vec<(String, EnvValue)>) -> Result<Vec<(OsString, OsString)>, SpawnError> {
        let setup = &self.setup;
        let mut env: BTreeMap<String, OsString> = BTreeMap::new();
        for (name, value) in wanted {
            grant::env_name(&name)?;
            let value: OsString = match &value {
                EnvValue::Text(text) => {
                    grant::env_text(setup, &name)?;
                    if text.contains('\0') {
                        return Err(SpawnError::Other(format!("the value of the variable `{name}` holds a NUL")));
                    }
                    text.into()
                }
                EnvValue::Inherited | EnvValue::IfGranted => match setup.grant.env.get(&name) {
                    Some(source) => match setup.value_of(&name, source) {
                        Some(value) => value.into(),
                        None => continue,
                    },
                    None if matches!(value, EnvValue::IfGranted) => continue,
                    None => {
                        return Err(SpawnError::Denied(format!(
                            "the variable `{name}` is not granted: [backends.{}.grants] env would allow it",
                            setup.backend
                        )));
                    }
                },
                EnvValue::Secret(secret) => {
                    grant::env_loads(setup, &name)?;
                    match self.secrets.value(secret).await {
                        Some(Ok(value)) => OsString::from_vec(value.to_vec()),
                        Some(Err(why)) => return Err(SpawnError::Other(format!("the secret `{secret}` has no value: {why}"))),
                        None => {
                            return Err(SpawnError::Denied(format!(
                                "the secret `{}` is not granted: [backends.{}.grants] secrets would allow it",
                                secret.escape_default(),
                                setup.backend
                            )));
                        }
                    }
                }
            };
            if env.insert(name.clone(), value).is_some() {
                return Err(SpawnError::Other(format!("the variable `{name}` is set twice")));
            }
        }
        // Where this host is: a `falconer mcp` that a child starts finds it by these.
        for (name, source) in setup.grant.env.iter().filter(|(name, _)| name.starts_with(grant::OURS)) {
            if let Some(value) = setup.value_of(name, source) {
                env.insert(name.clone(), value.into());
            }
        }
        env.entry("PATH".into()).or_insert_with(|| setup.path().into());
        env.entry("LANG".into()).or_insert_with(|| DEFAULT_LANG.into());
        Ok(env.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// Judges and starts. The pipes are not registered yet.
    async fn start(&mut self, options: wit::Options, open: usize) -> Result<(tree::Child, Own), Refusal> {
        let setup = &self.setup;
        let (program, path) = grant::program(setup, &options.program)?;
        grant::args(setup, &options.program, program, &options.args)?;
        grant::far(setup, &options.program, program, options.far.is_some())?;
        if self.labels.contains(&options.label) {
            return Err(SpawnError::Limit(format!("the label `{}` is in use", options.label)).into());
        }
        let children = setup.tree.children().max(open);
        if children >= setup.children as usize || self.labels.len() >= CHILDREN_EVER {
            return Err(SpawnError::Limit(format!(
                "the run has {children} children; [backends.{}.limits] children = {} is the most at once, and {CHILDREN_EVER} in all",
                setup.backend, setup.children
            ))
            .into());
        }
        if program.is_far() {
            grant::far_env(setup, &options.program, &options.env)?;
        }
        let mut env = self.env(options.env).await?;
        let far = match (&setup.far, options.far) {
            (Some(far), Some(action)) => {
                let command = far_command(&action).map(shown_far);
                let secrets = Arc::clone(&self.secrets);
                let prepared = far.prepare(options.label.clone(), path.to_owned(), action, secrets).await.map_err(Refusal::Far)?;
                if let (Some(command), Some(rule)) = (command, &prepared.rule) {
                    let verdict = Verdict::Allowed { rule: rule.clone(), address: prepared.address.clone() };
                    let command = for_the_record(command, Some(setup.log.secrets()));
                    setup.told.tell(|| Told { program: options.program.clone(), command, verdict }, false);
                }
                Some(prepared)
            }
            (None, Some(_)) => return Err(Refusal::Far(SpawnError::Denied("the run has no target".into()))),
            (_, None) => None,
        };
        for (name, value) in far.iter().flat_map(|far| &far.env) {
            env.retain(|(known, _)| known != name.as_str());
            env.push((name.into(), value.clone()));
        }
        let cwd = options.cwd.or_else(|| setup.cwd.as_ref().map(|cwd| cwd.as_str().to_owned()));
        let workspaces: Vec<_> = setup.grant.workspaces.iter().chain(&setup.workspaces).cloned().collect();
        let backend = setup.backend.clone();
        let opened = control(setup.tree.handle(), move || match cwd {
            Some(cwd) => grant::directory(&backend, &cwd, &workspaces),
            None => grant::root(),
        });
        let cwd = opened.await.map_err(|error| SpawnError::Other(error.to_string()))??;
        let plan = Plan {
            program: path.to_owned(),
            args: program.arguments(&options.args, far.as_ref()),
            env,
            cwd: Some(cwd),
            stdin: matches!(options.stdin, StdinMode::Piped),
        };
        let child = setup.tree.spawn(plan).await.map_err(refusal)?;
        self.labels.insert(options.label);
        let own = far.map(|far| Own { log: Some(far.log), attendant: far.attendant }).unwrap_or_default();
        if let Some(attendant) = &own.attendant {
            attendant.started(child.pid);
        }
        Ok((child, own))
    }
}

/// Why a child was not started.
enum Refusal {
    /// For a reason of the program here.
    Here(SpawnError),
    /// For a reason of what is asked of the far end.
    Far(SpawnError),
}

impl From<SpawnError> for Refusal {
    fn from(error: SpawnError) -> Self {
        Self::Here(error)
    }
}

/// The command that is to be executed at the far end, if one is.
fn far_command(action: &wit::FarAction) -> Option<&FarCommand> {
    match action {
        wit::FarAction::Run(start) | wit::FarAction::Detach(start) => Some(&start.command),
        wit::FarAction::Attach(_) | wit::FarAction::End(_) => None,
    }
}

/// What the system said, in the words of the contract.
fn refusal(error: tree::SpawnError) -> SpawnError {
    match &error {
        tree::SpawnError::Exec { source, .. } => match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => SpawnError::NotFound(error.to_string()),
            _ => SpawnError::Other(error.to_string()),
        },
        tree::SpawnError::Sealed | tree::SpawnError::System(_) => SpawnError::Other(error.to_string()),
    }
}

impl wit::Host for Host {
    async fn spawn(&mut self, options: wit::Options) -> wasmtime::Result<Result<Resource<Child>, SpawnError>> {
        check(&options)?;
        let open = self
            .table
            .iter_mut()
            .filter(|entry| (&**entry as &dyn std::any::Any).downcast_ref::<Child>().is_some_and(Child::is_open))
            .count();
        let Some(granted) = &mut self.granted else {
            return Ok(Err(SpawnError::Denied("nothing may be asked of the host here".into())));
        };
        let label = options.label.clone();
        let asked = shown(&options);
        let program = options.program.clone();
        let _work = granted.news.work();
        let (child, own) = match granted.start(options, open).await {
            Ok(started) => started,
            Err(refusal) => {
                let (error, verdict): (_, fn(String) -> Verdict) = match refusal {
                    Refusal::Here(error) => (error, Verdict::SpawnRefused),
                    Refusal::Far(error) => (error, Verdict::CommandRefused),
                };
                let refused = match &error {
                    SpawnError::Denied(why) => Some(why),
                    SpawnError::Far(failure) if DECIDED.contains(&&*failure.code) => Some(&failure.message),
                    _ => None,
                };
                if let Some(why) = refused {
                    let secrets = self.log.secrets();
                    let told = || Told {
                        program,
                        command: for_the_record(asked, Some(secrets)),
                        verdict: verdict(String::from_utf8_lossy(&secrets.whole(why.as_bytes())).into_owned()),
                    };
                    granted.setup.told.tell(told, true);
                }
                return Ok(Err(error));
            }
        };
        let (tree, news, pid) = (granted.setup.tree.clone(), &granted.news, child.pid);
        match hold(label, child, own, &tree, news, &self.log) {
            Ok(child) => {
                let kept = self.keep(child);
                if kept.is_err() {
                    tree.kill_child(pid);
                }
                Ok(Ok(kept?))
            }
            Err(error) => {
                // Nobody would read it or learn of its end.
                tree.kill_child(pid);
                Ok(Err(SpawnError::Other(format!("its pipes cannot be watched: {error}"))))
            }
        }
    }
}

/// What is asked for, as it is shown.
fn shown(options: &wit::Options) -> serde_json::Value {
    match options.far.as_ref().and_then(far_command) {
        Some(command) => shown_far(command),
        None => serde_json::json!({ "program": options.program, "args": options.args }),
    }
}

/// Registers its pipes; all sources are armed.
fn hold(label: String, child: tree::Child, own: Own, tree: &Tree, news: &News, log: &RunLog) -> std::io::Result<Child> {
    let runtime = tree.handle();
    let log_pipe = match own.log {
        Some(own) => Some((Reader::new(own.reader, runtime, news, log.secrets().stream())?, Some(own.held))),
        None => None,
    };
    Ok(Child {
        label,
        pid: child.pid,
        stdin: child.stdin.map(|fd| Writer::new(fd, runtime, news)).transpose()?,
        stdout: Reader::new(child.stdout, runtime, news, log.secrets().stream())?,
        stderr: Reader::new(child.stderr, runtime, news, log.secrets().stream())?,
        log: log_pipe,
        _attendant: own.attendant,
        exit: ExitSource::new(child.exit, news),
        tree: tree.clone(),
    })
}

impl wit::HostChild for Host {
    fn pid(&mut self, child: Resource<Child>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&child)?.pid)
    }

    fn read_stdout(&mut self, child: Resource<Child>, max: u32) -> wasmtime::Result<Received> {
        Ok(self.table.get_mut(&child)?.stdout.read(max))
    }

    fn read_stderr(&mut self, child: Resource<Child>, max: u32) -> wasmtime::Result<Received> {
        Ok(self.table.get_mut(&child)?.stderr.read(max))
    }

    fn read_log(&mut self, child: Resource<Child>, max: u32) -> wasmtime::Result<Received> {
        let child = self.table.get_mut(&child)?;
        let Some((log, held)) = &mut child.log else { return Ok(Received::End) };
        // Nobody else will open it.
        if held.is_some() && child.exit.has_ended() {
            *held = None;
        }
        Ok(log.read(max))
    }

    fn write_stdin(&mut self, child: Resource<Child>, bytes: Vec<u8>) -> wasmtime::Result<Result<u32, IoError>> {
        Ok(match &mut self.table.get_mut(&child)?.stdin {
            Some(stdin) => stdin.write(&bytes),
            None => Err(IoError::Closed),
        })
    }

    fn close_stdin(&mut self, child: Resource<Child>) -> wasmtime::Result<()> {
        if let Some(stdin) = &mut self.table.get_mut(&child)?.stdin {
            stdin.close();
        }
        Ok(())
    }

    fn signal(&mut self, child: Resource<Child>, signal: wit::Signal) -> wasmtime::Result<Result<(), IoError>> {
        use rustix::process::Signal;
        let signal = match signal {
            wit::Signal::Interrupt => Signal::INT,
            wit::Signal::Hangup => Signal::HUP,
            wit::Signal::Terminate => Signal::TERM,
            wit::Signal::Kill => Signal::KILL,
            wit::Signal::User1 => Signal::USR1,
            wit::Signal::User2 => Signal::USR2,
        };
        let child = self.table.get(&child)?;
        Ok(child.tree.signal(child.pid, signal).map_err(|error| {
            let message = format!("the child `{}` cannot be signalled: {error}", child.label);
            IoError::Other(Failure { code: "signal_failed".into(), message, retryable: false, hint: None })
        }))
    }

    fn exit(&mut self, child: Resource<Child>) -> wasmtime::Result<Option<ExitStatus>> {
        Ok(self.table.get_mut(&child)?.exit.get().map(|exit| match exit {
            Exit::Code(code) => ExitStatus::Code(code),
            Exit::Signalled(signal) => ExitStatus::Signalled(signal),
            Exit::Unknown => ExitStatus::Unknown,
        }))
    }

    fn drop(&mut self, child: Resource<Child>) -> wasmtime::Result<()> {
        self.table.delete(child)?;
        Ok(())
    }
}

//! The daemon: lets clients in, hands each to the service, and ends in order.
//!
//! It has no timer and does nothing while nobody speaks. A connection is a task of its own; what goes wrong in one ends
//! that one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::detach::Starter;
use super::ephemeral::{self, LAST_CALL};
use super::handover::{self, Received};
use super::hello::{Answer, Control, Hello, Opening, Status, check_config};
use super::lock::Lock;
use super::peer::{self, Peer};
use super::{CLOSE_LIMIT, HELLO_LIMIT, Identity, PROTOCOL, Service, Session, code, signals, socket};
use crate::clock::Millis;
use crate::fault::Fault;
use crate::id::RunId;
use crate::run::Caller;

/// How long nobody new is let in when the system has no descriptor or memory left for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it may take to find out where a client is.
const LOOK_TIME: Duration = Duration::from_secs(5);

/// Whom a daemon is for.
pub enum Ready {
    /// Whoever connects; the process that started it waits to hear that it serves.
    Starter(Starter),
    /// Whoever connects; a person reads stderr.
    Person,
    /// The client at this process' own stdin and stdout, and its runs' children; it ends with that client.
    Stdio,
}

impl Ready {
    /// The daemon cannot start: tells who waits for it, and gives the reason back.
    pub fn refuse(self, fault: Fault) -> Fault {
        if let Self::Starter(starter) = self {
            starter.failed(&fault);
        }
        fault
    }
}

/// Runs a daemon until it is told to end, by a signal or by `falconer stop`. `open` makes the service, inside the runtime.
/// The lock is to be held until the process ends, so that nobody meets what is left of it.
///
/// # Errors
/// When it cannot start; whoever waits for it is told, too.
pub async fn run<S, F>(lock: &mut Lock, identity: Identity, ready: Ready, open: F) -> Result<(), Fault>
where
    S: Service,
    F: FnOnce() -> Result<Arc<S>, Fault>,
{
    let opened = open().and_then(|service| {
        let failed = |error: std::io::Error| {
            Fault::new(code::DAEMON_FAILED, format!("cannot listen on {}: {error}", socket::path(&identity.data_dir)))
        };
        lock.sign().map_err(failed)?;
        let ending = CancellationToken::new();
        signals::watch(ending.clone()).map_err(failed)?;
        let listener = socket::listen(&identity.data_dir).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok((service, UnixListener::from_std(listener).map_err(failed)?, ending))
    });
    let (service, listener, ending) = match opened {
        Ok(opened) => opened,
        Err(fault) => return Err(ready.refuse(fault)),
    };
    tracing::info!(data_dir = %identity.data_dir, config = %identity.config, pid = std::process::id(), "serves");
    let daemon = Arc::new(Daemon {
        service,
        identity,
        ending,
        closing: CancellationToken::new(),
        clients: TaskTracker::new(),
        started: (Instant::now(), Millis::now()),
    });
    let within = match ready {
        Ready::Starter(starter) => {
            starter.ready();
            None
        }
        Ready::Person => None,
        Ready::Stdio => {
            let daemon = Arc::clone(&daemon);
            daemon.clients.clone().spawn(async move { daemon.serve_stdio().await });
            Some(LAST_CALL)
        }
    };
    daemon.accept(listener).await;
    daemon.end(within).await;
    Ok(())
}

struct Daemon<S> {
    service: Arc<S>,
    identity: Identity,
    /// The daemon was told to end.
    ending: CancellationToken,
    /// Nobody is served any more.
    closing: CancellationToken,
    clients: TaskTracker,
    started: (Instant, Millis),
}

impl<S: Service> Daemon<S> {
    async fn accept(self: &Arc<Self>, listener: UnixListener) {
        loop {
            let accepted = tokio::select! {
                () = self.ending.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let daemon = Arc::clone(self);
                    self.clients.spawn(async move { daemon.attend(stream).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot let a client in");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if let Err(error) = socket::remove(&self.identity.data_dir) {
            tracing::warn!(%error, "cannot remove the socket");
        }
    }

    /// Runs are stopped while clients can still see it; then the connections are closed.
    async fn end(&self, within: Option<Duration>) {
        tracing::info!(live_runs = self.service.live(), "stops what runs");
        self.service.shut_down(within).await;
        self.closing.cancel();
        self.clients.close();
        if tokio::time::timeout(CLOSE_LIMIT, self.clients.wait()).await.is_err() {
            tracing::warn!(clients = self.clients.len(), "some connections did not end in time");
        }
        tracing::info!("ended");
    }

    async fn attend(&self, mut stream: UnixStream) {
        let opened = self.open(&stream).await;
        match opened {
            Ok((Opening::Hello(hello), peer, stdio)) => self.serve(stream, *hello, peer, stdio).await,
            Ok((Opening::Control(Control::Status), ..)) => {
                let _ = stream.write_all(&Answer::Status(Box::new(self.status())).line()).await;
            }
            Ok((Opening::Control(Control::Stop), peer, _)) => {
                tracing::info!(pid = peer.pid, "told to stop");
                let _ = stream.write_all(&Answer::Stopping { pid: std::process::id() }.line()).await;
                self.ending.cancel();
                self.closing.cancelled().await;
            }
            Err(fault) => refuse(stream, fault).await,
        }
    }

    /// Serves the client at our own stdin and stdout; the daemon ends with it.
    async fn serve_stdio(&self) {
        let cwd = std::env::current_dir().ok().and_then(|cwd| Utf8PathBuf::from_path_buf(cwd).ok());
        let env = self.identity.env_names.iter().filter_map(|name| std::env::var(name).ok().map(|value| (name.clone(), value)));
        let caller = Caller {
            name: format!("process {}", std::process::id()),
            cwd: cwd.and_then(|cwd| self.service.workspace(&cwd)),
            env: Arc::new(env.collect()),
            parent: None,
        };
        match ephemeral::stdio() {
            Ok((input, output, restore)) => {
                self.service.serve(Session { caller, input, output, closing: self.closing.child_token() }).await;
                drop(restore);
            }
            Err(error) => tracing::error!(%error, "cannot use stdin and stdout"),
        }
        self.ending.cancel();
    }

    async fn open(&self, stream: &UnixStream) -> Result<(Opening, Peer, Option<[std::os::fd::OwnedFd; 2]>), Fault> {
        let peer = peer::check(stream)?;
        let late = || Fault::new(code::BAD_HELLO, format!("no hello came within {} s", HELLO_LIMIT.as_secs()));
        let Received { line, stdio } = tokio::time::timeout(HELLO_LIMIT, handover::receive(stream))
            .await
            .map_err(|_| late())?
            .map_err(|error| Fault::new(code::BAD_HELLO, format!("cannot read the hello: {error}")))?;
        Ok((Opening::parse(&line)?, peer, stdio))
    }

    fn status(&self) -> Status {
        Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL,
            started_at: self.started.1,
            uptime_ms: u64::try_from(self.started.0.elapsed().as_millis()).unwrap_or(u64::MAX),
            live_runs: self.service.live(),
            // Without the one who asks.
            clients: self.clients.len().saturating_sub(1),
            data_dir: self.identity.data_dir.clone(),
            socket: socket::path(&self.identity.data_dir),
            config: self.identity.config.clone(),
        }
    }

    /// Who calls: what the hello says, checked again here.
    async fn caller(&self, hello: Hello, peer: Peer) -> Result<Caller, Fault> {
        let parent = match peer.pid {
            Some(pid) => self.parent(pid).await?,
            None => None,
        };
        if parent.is_none() {
            // What lives inside a run gets that run's configuration, ours, whatever it can read itself.
            check_config(hello.config.as_ref(), &self.identity)?;
        }
        let inside = parent.is_some() || hello.inside.is_some();
        let cwd = hello.cwd.filter(|cwd| !inside && cwd.is_absolute()).and_then(|cwd| self.service.workspace(&cwd));
        let mut env = hello.env;
        env.retain(|name, _| self.identity.env_names.contains(name));
        let pid = peer.pid.unwrap_or(hello.pid);
        Ok(Caller { name: format!("process {pid}"), cwd, env: Arc::new(env), parent })
    }

    /// The run in whose tree a client is. One that cannot be looked at could be inside any, and is turned away.
    async fn parent(&self, pid: u32) -> Result<Option<RunId>, Fault> {
        let service = Arc::clone(&self.service);
        let looked = tokio::task::spawn_blocking(move || service.parent(pid));
        match tokio::time::timeout(LOOK_TIME, looked).await {
            Ok(Ok(parent)) => Ok(parent),
            Ok(Err(error)) => Err(Fault::new(crate::fault::code::INTERNAL, format!("a task of the host failed: {error}"))),
            Err(_) => Err(Fault::new(code::BAD_HELLO, format!("process {pid} or one above it cannot be looked at: its memory is locked"))
                .retryable()
                .hint("try again; a process that hangs like this is stuck in the kernel or holds its own memory")),
        }
    }

    async fn serve(&self, mut stream: UnixStream, hello: Hello, peer: Peer, stdio: Option<[std::os::fd::OwnedFd; 2]>) {
        let handover = hello.handover;
        let prepared = self.caller(hello, peer).await.and_then(|caller| match (handover, stdio) {
            (false, None) => Ok((caller, None)),
            (true, Some(fds)) => match handover::adopt(fds) {
                Ok(adopted) => Ok((caller, Some(adopted))),
                Err(error) => Err(Fault::new(code::BAD_HELLO, format!("cannot use the client's stdin and stdout: {error}"))),
            },
            _ => Err(Fault::new(code::BAD_HELLO, "descriptors and `handover` do not go together")),
        });
        let (caller, adopted) = match prepared {
            Ok(prepared) => prepared,
            Err(fault) => return refuse(stream, fault).await,
        };
        let welcome = Answer::Welcome { version: env!("CARGO_PKG_VERSION").into(), pid: std::process::id() };
        if stream.write_all(&welcome.line()).await.is_err() {
            return;
        }
        tracing::debug!(client = caller.name, parent = ?caller.parent, handover, "serves a client");
        let closing = self.closing.child_token();
        let Some((input, output, restore)) = adopted else {
            let (input, output) = stream.into_split();
            let session = Session { caller, input: Box::new(input), output: Box::new(output), closing };
            return self.service.serve(session).await;
        };
        let session = Session { caller, input, output, closing: closing.clone() };
        let mut serving = self.service.serve(session);
        let (mut from_client, mut to_client) = stream.split();
        let gone = tokio::select! {
            () = &mut serving => false,
            () = end_of(&mut from_client) => true,
        };
        if gone {
            closing.cancel();
            let _ = tokio::time::timeout(CLOSE_LIMIT, &mut serving).await;
        }
        drop(serving);
        drop(restore);
        let _ = to_client.write_all(&Answer::Done {}.line()).await;
    }
}

async fn refuse(mut stream: UnixStream, fault: Fault) {
    tracing::info!(code = %fault.code, "a client was not let in: {}", fault.message);
    let _ = stream.write_all(&Answer::Error(fault).line()).await;
}

/// The client's process has nothing to say after its hello: what can be read is its end.
async fn end_of(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut chunk = [0; 64];
    while matches!(stream.read(&mut chunk).await, Ok(1..)) {}
}

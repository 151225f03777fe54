//! The host that a daemon serves: every part of it made from the configuration, in order.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::AsyncWrite;

use super::{Output, Service, Session, dir};
use crate::backend::{Engine, EngineOptions, Registry};
use crate::config::Config;
use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::ledger::artifact::Artifacts;
use crate::ledger::{Ledger, LedgerError};
use crate::policy::Policy;
use crate::run::{Manager, Parts};
use crate::tree::{Ground, GroundError};

/// What is added to the rungs of a stop for all the rest of an orderly end.
const END_SLACK: Duration = Duration::from_secs(5);

/// What is spoken with a client; the daemon does not know it.
pub type Face = Box<dyn Fn(Manager, Session) -> BoxFuture<'static, ()> + Send + Sync>;

/// Places within a data directory.
#[derive(Debug, Clone)]
pub struct Places {
    /// Logs of the runs.
    pub logs: Utf8PathBuf,
    /// Compiled components.
    pub cache: Utf8PathBuf,
}

impl Places {
    /// Those of a data directory.
    #[must_use]
    pub fn of(data_dir: &Utf8Path) -> Self {
        Self { logs: data_dir.join("logs"), cache: data_dir.join("cache") }
    }
}

/// The options of the engine that follow from a configuration; without a cache directory nothing is kept.
#[must_use]
pub fn engine_options(config: &Config, cache_dir: Option<Utf8PathBuf>) -> EngineOptions {
    EngineOptions {
        instances: config.host.runs,
        memory: config.backends.values().map(|backend| backend.limits.memory).max().unwrap_or(0),
        cache_dir,
        call_wall: config.host.call,
    }
}

/// All parts, ready to serve.
pub struct Host {
    manager: Manager,
    registry: Registry,
    face: Face,
    /// The first answer is out, and the background work has begun.
    warm: Arc<AtomicBool>,
}

impl Host {
    /// Makes or opens everything in the data directory. Must be called inside the serving runtime, by the owner of the lock.
    ///
    /// # Errors
    /// The first part that cannot be made; nothing runs then.
    pub fn open(config: &Arc<Config>, face: Face) -> Result<Arc<Self>, Fault> {
        dir::prepare(&config.data_dir)?;
        let places = Places::of(&config.data_dir);
        for place in [&places.logs, &places.cache] {
            dir::prepare(place)?;
        }
        let refused = |error: LedgerError| {
            let fault = Fault::new(code::LEDGER_FAILED, error.to_string());
            match error {
                LedgerError::Newer { .. } => fault.hint("install the newer falconer again, or use another --data-dir"),
                _ => fault.hint(format!("check the space and the rights of {}", config.data_dir)),
            }
        };
        let ledger = Ledger::open(&config.data_dir).map_err(refused)?;
        let artifacts = Artifacts::open(&config.data_dir).map_err(refused)?;
        let engine = Engine::new(engine_options(config, Some(places.cache)))?;
        let registry = Registry::open(engine, config);
        // Before this process takes in orphans: it may start `ssh -G`, which is no shim.
        let policy = Policy::resolve(config);
        let ground = Ground::open(&config.data_dir, config.host.cgroup).map_err(|error| match error {
            GroundError::NoCgroup(_) => Fault::new(code::CGROUP_UNAVAILABLE, error.to_string())
                .hint("write `cgroup = \"auto\"` under `[host]`, or give falconer a cgroup of version 2 that it may write to; `falconer check` says more"),
            GroundError::System(_) => Fault::new(super::code::BAD_DATA_DIR, format!("data directory {}: {error}", config.data_dir)),
        })?;
        crate::far::scratch::clear(&config.data_dir);
        let manager = Manager::new(Parts {
            policy,
            ledger,
            artifacts,
            registry: registry.clone(),
            logs_dir: places.logs,
            ground: ground.clone(),
            scratch: config.scratch,
        })?;
        // The first child need not wait for the trial of cgroups.
        tokio::task::spawn_blocking(move || ground.base().is_ok());
        tokio::spawn(manager.recover());
        Ok(Arc::new(Self { manager, registry, face, warm: Arc::new(AtomicBool::new(false)) }))
    }

    /// All runs.
    #[must_use]
    pub fn manager(&self) -> &Manager {
        &self.manager
    }
}

impl Service for Host {
    fn parent(&self, pid: u32) -> Option<RunId> {
        self.manager.run_of_process(pid)
    }

    fn workspace(&self, cwd: &Utf8Path) -> Option<Utf8PathBuf> {
        let policy = self.manager.policy();
        if policy.config().client.cwd_is_workspace { policy.client_workspace(cwd) } else { None }
    }

    fn live(&self) -> usize {
        self.manager.live()
    }

    fn serve(&self, mut session: Session) -> BoxFuture<'static, ()> {
        self.manager.greet(&session.caller);
        if !self.warm.load(Ordering::Relaxed) {
            let (warm, registry) = (Arc::clone(&self.warm), self.registry.clone());
            let first = move || {
                if !warm.swap(true, Ordering::Relaxed) {
                    registry.warm();
                }
            };
            session.output = Box::new(AfterFirst { output: session.output, then: Some(Box::new(first)) });
        }
        (self.face)(self.manager.clone(), session)
    }

    fn shut_down(&self, within: Option<Duration>) -> BoxFuture<'static, ()> {
        let manager = self.manager.clone();
        let stop = &manager.policy().config().stop;
        let within = within.unwrap_or(stop.ask + stop.terminate + stop.drain + stop.prove + END_SLACK);
        async move { manager.shut_down(within).await }.boxed()
    }
}

/// An output that starts something once its first bytes are out: no answer waits for what can be done later.
struct AfterFirst {
    output: Output,
    then: Option<Box<dyn FnOnce() + Send>>,
}

impl AfterFirst {
    fn wrote<T>(&mut self, result: Poll<std::io::Result<T>>) -> Poll<std::io::Result<T>> {
        if matches!(result, Poll::Ready(Ok(_)))
            && let Some(then) = self.then.take()
        {
            then();
        }
        result
    }
}

impl AsyncWrite for AfterFirst {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.output).poll_write(cx, bytes);
        self.wrote(result)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.output).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.output).poll_shutdown(cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.output.is_write_vectored()
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[std::io::IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.output).poll_write_vectored(cx, bytes);
        self.wrote(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_comes_after_the_first_bytes_comes_once() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let then: Box<dyn FnOnce() + Send> = Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let mut output = AfterFirst { output: Box::new(ours), then: Some(then) };
        assert_eq!(count.load(Ordering::Relaxed), 0);
        output.write_all(b"one").await.unwrap();
        output.write_all(b"two").await.unwrap();
        drop(output);
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), count.load(Ordering::Relaxed)), ("onetwo", 1));
    }
}

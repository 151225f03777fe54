//! One run's component: made once, called one call at a time, thrown away at the end.
//!
//! The store lives in an actor on the guest runtime; an [`Instance`] is the handle. An idle instance has no timer, no
//! thread and no wake-up: its actor waits for the next call. Dropping the handle cuts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::actor::{Actor, Answer, Call};
use super::engine::Engine;
use super::life::Life;
use super::limits::Account;
use super::registry::Backend;
use super::store::Data;
use super::trap;
use crate::capability::{Host, News, RunLog};
use crate::contract::BackendPre;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};

/// What an instance is made of.
pub struct Made {
    /// Which backend.
    pub backend: Arc<Backend>,
    /// The run's capabilities.
    pub host: Host,
    /// Where they ring.
    pub news: News,
    /// Where the guest's stdout and stderr, and backtraces, go.
    pub log: RunLog,
    /// The run's limits.
    pub limits: crate::config::Limits,
}

/// How an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every call returned; the store was dropped between calls.
    Returned,
    /// A call trapped: by itself, at a limit, or cut while it computed.
    Trapped,
    /// A call was dropped inside the host.
    Dropped,
}

/// What the engine itself needs to know of an instance.
pub(super) struct Spec {
    pub(super) engine: Engine,
    pub(super) backend: String,
    pub(super) pre: Arc<BackendPre<Data>>,
    pub(super) host: Host,
    pub(super) news: News,
    pub(super) log: RunLog,
    pub(super) memory: u64,
    pub(super) account: Account,
}

/// A handle to the store, which lives on the guest runtime. All calls go through it, one at a time; a call that is
/// given up by its caller goes on in the guest until it ends or [`Instance::cut`] is called.
///
/// Faults of a call: `backend_trapped`, `backend_busy`, `backend_blocked`, `cpu_exceeded`, `memory_exceeded`,
/// `handles_exceeded`, `call_too_large`, the code of a [`crate::capability::Violation`], and [`super::CUT`]. After any
/// of them the store is gone or going, and every later call fails with [`super::CUT`].
pub struct Instance {
    engine: Engine,
    backend: String,
    life: Arc<Life>,
    calls: mpsc::UnboundedSender<Box<Call>>,
    news: News,
}

impl Instance {
    /// Instantiates on the guest runtime; compiles the component first where that is not done yet.
    pub async fn new(made: Made) -> Result<Self, Fault> {
        let Made { backend, host, news, log, limits } = made;
        let (engine, pre) = backend.prepared().await?;
        let account = Account::new(limits.call_cpu, limits.cpu);
        Self::with(Spec { engine, backend: backend.name.clone(), pre, host, news, log, memory: limits.memory, account }).await
    }

    pub(super) async fn with(spec: Spec) -> Result<Self, Fault> {
        let Spec { engine, backend, pre, host, news, log, memory, account } = spec;
        let life = Life::new(account);
        let (calls, queue) = mpsc::unbounded_channel();
        let (made, is_made) = oneshot::channel();
        let actor = Actor { engine: engine.clone(), backend: backend.clone(), life: life.clone(), log, memory };
        life.start(engine.guests(), Box::pin(actor.run(pre, host, made, queue)));
        // From here on: if this future is dropped, so is the handle, and that cuts.
        let instance = Self { engine, backend, life, calls, news };
        match is_made.await {
            Ok(Ok(())) => Ok(instance),
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(instance.lost("instantiate")),
        }
    }

    /// The export `start`. The outer error is the component's end (trap, busy, blocked, limit …): nothing can be called after it.
    pub async fn start(&self, job: wit::Job) -> Result<Result<(), wit::Failure>, Fault> {
        self.call("start", |to| Call::Start(job, to)).await
    }
    /// The export `poll`.
    pub async fn poll(&self) -> Result<wit::Step, Fault> {
        self.call("poll", Call::Poll).await
    }
    /// The export `reply`.
    pub async fn reply(&self, answer: wit::Answer) -> Result<Result<(), wit::Failure>, Fault> {
        self.call("reply", |to| Call::Reply(answer, to)).await
    }
    /// The export `cancel`.
    pub async fn cancel(&self, reason: String, within: Duration) -> Result<Result<(), wit::Failure>, Fault> {
        let within = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        self.call("cancel", |to| Call::Cancel(reason, within, to)).await
    }
    pub(super) async fn describe(&self) -> Result<wit::Info, Fault> {
        self.call("describe", Call::Describe).await
    }
    pub(super) async fn plan(&self, job: wit::Job) -> Result<Result<wit::Draft, wit::Failure>, Fault> {
        self.call("plan", |to| Call::Plan(job, to)).await
    }

    /// Whether the call in hand is in the host, which starts a child for it.
    #[must_use]
    pub fn is_in_the_host(&self) -> bool {
        self.news.is_at_work()
    }

    /// Waits until an armed source has news.
    pub async fn news(&self) {
        self.news.heard().await;
    }

    /// Ends the call in hand (flag and epoch bump; drop if it waits) and discards the store, after what is
    /// left in the pipes was drained into the run's log. Returns at once; safe to call twice.
    pub fn cut(&self) {
        if !self.life.is_gone() && self.life.mark_cut() {
            self.engine.wasmtime().increment_epoch();
            self.engine.reaper().take(self.life.clone());
        }
    }

    /// Waits until the store is gone.
    pub async fn gone(&self) -> End {
        self.life.gone().await
    }

    #[cfg(test)]
    pub(super) fn waits(&self) -> Option<super::life::Phase> {
        self.life.waits()
    }

    async fn call<T>(&self, name: &'static str, call: impl FnOnce(Answer<T>) -> Call) -> Result<T, Fault> {
        let (to, answer) = oneshot::channel();
        if self.calls.send(Box::new(call(to))).is_err() {
            return Err(trap::cut(&self.backend, name));
        }
        answer.await.unwrap_or_else(|_| Err(self.lost(name)))
    }

    /// Why there is no answer.
    fn lost(&self, call: &str) -> Fault {
        if self.life.is_cut() {
            return trap::cut(&self.backend, call);
        }
        Fault::new(code::INTERNAL, format!("the host failed in the call `{call}` of backend `{}`", self.backend))
            .hint("falconer's own log says more; this is a fault of falconer")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.cut();
    }
}

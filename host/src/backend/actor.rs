//! The future that owns a store: takes calls one at a time, bounds each, and ends with the first that fails.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use wasmtime::{AsContextMut, Store};

use super::engine::Engine;
use super::life::{Life, Phase};
use super::stdio::{LastWords, one_line};
use super::store::{self, Data};
use super::trap;
use crate::capability::{Host, RunLog};
use crate::contract::BackendPre;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};

/// The name of instantiation in messages.
const INSTANTIATE: &str = "instantiate";
/// The longest backtrace in the log …
const BACKTRACE_LINES: usize = 200;
/// … and its longest line.
const BACKTRACE_CHARS: usize = 400;

/// Where an answer goes. If nobody waits for it any more, it is lost, and the instance goes on.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Fault>>;

/// What waits for an instance. Boxed where it is queued: a job is large, and a queue of jobs would be, too.
pub(super) enum Call {
    Describe(Answer<wit::Info>),
    Plan(wit::Job, Answer<Result<wit::Draft, wit::Failure>>),
    Start(wit::Job, Answer<Result<(), wit::Failure>>),
    Poll(Answer<wit::Step>),
    Reply(wit::Answer, Answer<Result<(), wit::Failure>>),
    Cancel(String, u32, Answer<Result<(), wit::Failure>>),
}

/// What an actor is made of.
pub(super) struct Actor {
    pub(super) engine: Engine,
    /// The backend's name, for messages.
    pub(super) backend: String,
    pub(super) life: Arc<Life>,
    pub(super) log: RunLog,
    pub(super) memory: u64,
}

impl Actor {
    /// Instantiates, says so, then takes calls until there is nobody left to make any, or one fails.
    pub(super) async fn run(
        self,
        pre: Arc<BackendPre<Data>>,
        host: Host,
        made: oneshot::Sender<Result<(), Fault>>,
        mut calls: mpsc::UnboundedReceiver<Box<Call>>,
    ) {
        let words = LastWords::default();
        let store = store::store(self.engine.wasmtime(), host, &self.log, &words, self.memory, self.life.clone());
        let mut store = match store {
            Ok(store) => store,
            Err(error) => {
                let _ = made.send(Err(self.trapped(INSTANTIATE, &error, &words)));
                return;
            }
        };
        arm(&mut store);
        let component = match self.bounded(INSTANTIATE, &words, pre.instantiate_async(&mut store)).await {
            Ok(component) => component,
            Err(fault) => {
                let _ = made.send(Err(fault));
                return;
            }
        };
        drop(pre);
        if made.send(Ok(())).is_err() {
            return;
        }
        let adapter = component.falconer_backend_adapter();
        while let Some(call) = calls.recv().await {
            let store = &mut store;
            arm(store);
            let lives = match *call {
                Call::Poll(to) => give(to, self.bounded("poll", &words, adapter.call_poll(store)).await),
                Call::Start(job, to) => give(to, self.bounded("start", &words, adapter.call_start(store, &job)).await),
                Call::Reply(answer, to) => give(to, self.bounded("reply", &words, adapter.call_reply(store, &answer)).await),
                Call::Cancel(reason, within, to) => {
                    give(to, self.bounded("cancel", &words, adapter.call_cancel(store, &reason, within)).await)
                }
                Call::Describe(to) => give(to, self.bounded("describe", &words, adapter.call_describe(store)).await),
                Call::Plan(job, to) => give(to, self.bounded("plan", &words, adapter.call_plan(store, &job)).await),
            };
            if !lives {
                return;
            }
        }
    }

    /// One call, within its limits. After an error the store is never entered again.
    async fn bounded<T>(
        &self,
        call: &'static str,
        words: &LastWords,
        future: impl Future<Output = wasmtime::Result<T>>,
    ) -> Result<T, Fault> {
        let life = &self.life;
        let wall = self.engine.call_wall();
        let _in_flight = self.engine.ticker().call();
        life.account.begin_call();
        life.set_phase(Phase::Called);
        // A cut that came before the deadline was set raised the epoch too early: look again.
        if life.is_cut() {
            life.set_phase(Phase::Idle);
            return Err(trap::cut(&self.backend, call));
        }
        // The timer is made only where the first turn does not bring the answer.
        match timeout(wall, future).await {
            Ok(Ok(value)) => match life.account.check() {
                Ok(()) => {
                    life.set_phase(Phase::Idle);
                    Ok(value)
                }
                Err(exceeded) => {
                    life.set_phase(Phase::Idle);
                    Err(trap::exceeded(&self.backend, call, &exceeded))
                }
            },
            Ok(Err(error)) => {
                life.set_phase(Phase::Trapped);
                Err(self.trapped(call, &error, words))
            }
            Err(_) => {
                let in_guest = life.phase() == Phase::Yielded;
                let used = life.account.call();
                life.set_phase(if in_guest { Phase::Trapped } else { Phase::Dropped });
                Err(self.too_long(call, in_guest || used > wall / 2, wall, used))
            }
        }
    }

    fn trapped(&self, call: &str, error: &wasmtime::Error, words: &LastWords) -> Fault {
        let fault = trap::fault(&self.backend, call, error, words, self.log.secrets());
        if fault.code != super::CUT {
            self.log.line("host", &fault.message);
            // Not the debug form: it would add the host's own backtrace.
            for cause in error.chain() {
                for line in cause.to_string().lines().take(BACKTRACE_LINES) {
                    self.log.line("host", &one_line(line, BACKTRACE_CHARS));
                }
            }
        }
        fault
    }

    fn too_long(&self, call: &str, busy: bool, wall: Duration, used: Duration) -> Fault {
        let backend = &self.backend;
        let fault = if busy {
            Fault::new(
                code::BACKEND_BUSY,
                format!("backend `{backend}` computed in `{call}` for more than {wall:?} ({used:?} of CPU time)"),
            )
            .hint("a backend does a little in each call and answers `again` where there is more")
        } else {
            Fault::new(code::BACKEND_BLOCKED, format!("backend `{backend}` waited in `{call}` for more than {wall:?}"))
                .hint("a backend never blocks: it answers `pending` and is polled when there is news")
        };
        self.log.line("host", &fault.message);
        fault
    }
}

/// The next tick asks the guest whether it may go on.
fn arm(store: &mut Store<Data>) {
    store.as_context_mut().set_epoch_deadline(1);
}

/// Answers; says whether the instance can be called again.
fn give<T>(to: Answer<T>, result: Result<T, Fault>) -> bool {
    let lives = result.is_ok();
    let _ = to.send(result);
    lives
}

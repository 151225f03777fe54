//! The engine's threads: the guest runtime, the ticker, the reaper.
//!
//! Guests never run on a thread that serves clients: two spinning guests would make everything else there late by
//! tens of milliseconds. All three end with the engine.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread::{self, Thread};

use tokio::runtime::{Builder, Runtime};

use super::life::Life;
use super::limits::TICK;
use crate::fault::{Fault, code};

/// How much nicer than the host's own threads guests are.
const GUEST_NICE: i32 = 5;
/// How much nicer compilation is.
const COMPILE_NICE: i32 = 10;

/// Makes this thread nicer (setpriority(2): on Linux it is per thread). A refusal changes nothing but the speed.
fn nice(by: i32) {
    if let Err(error) = rustix::process::setpriority_process(None, by) {
        tracing::debug!("this thread keeps its priority: {error}");
    }
}

/// What a thread that compiles begins with.
pub(super) fn nice_for_compiling() {
    nice(COMPILE_NICE);
}

pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(2, usize::from)
}

/// Where guests run. It looks at its timers and at calls from outside after every turn of a guest
/// (`event_interval`, `global_queue_interval`), so a well-behaved guest waits one tick behind spinning ones, not a
/// round of all of them.
pub(super) fn guest_runtime() -> Result<Runtime, Fault> {
    Builder::new_multi_thread()
        .worker_threads(cores())
        .event_interval(1)
        .global_queue_interval(1)
        .thread_name("falconer-guest")
        .on_thread_start(|| nice(GUEST_NICE))
        .enable_all()
        .build()
        .map_err(|error| Fault::new(code::INTERNAL, format!("the guest threads cannot be started: {error}")))
}

/// Raises the epoch every [`TICK`] while a call is in flight, so that guests take turns and their CPU time is
/// checked; parked otherwise.
pub(super) struct Ticker {
    shared: Arc<Ticking>,
    thread: Thread,
}

struct Ticking {
    in_flight: AtomicUsize,
    parked: AtomicBool,
    stop: AtomicBool,
}

impl Ticker {
    pub(super) fn start(engine: wasmtime::Engine) -> Result<Self, Fault> {
        let shared = Arc::new(Ticking { in_flight: AtomicUsize::new(0), parked: AtomicBool::new(false), stop: AtomicBool::new(false) });
        let ticking = shared.clone();
        let thread = thread::Builder::new()
            .name("falconer-ticker".into())
            .spawn(move || ticking.run(&engine))
            .map_err(|error| Fault::new(code::INTERNAL, format!("the ticker cannot be started: {error}")))?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    /// A call is in flight until the answer is dropped.
    pub(super) fn call(&self) -> InFlight<'_> {
        self.shared.in_flight.fetch_add(1, SeqCst);
        if self.shared.parked.swap(false, SeqCst) {
            self.thread.unpark();
        }
        InFlight(&self.shared)
    }

    /// Whether it sleeps.
    #[cfg(test)]
    pub(super) fn is_parked(&self) -> bool {
        self.shared.parked.load(SeqCst)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.thread.unpark();
    }
}

impl Ticking {
    fn run(&self, engine: &wasmtime::Engine) {
        while !self.stop.load(SeqCst) {
            if self.in_flight.load(SeqCst) == 0 {
                // A call that begins now either sees `parked` and unparks, or is seen by the second look.
                self.parked.store(true, SeqCst);
                if self.in_flight.load(SeqCst) == 0 && !self.stop.load(SeqCst) {
                    thread::park();
                    continue;
                }
                self.parked.store(false, SeqCst);
            }
            thread::sleep(TICK);
            engine.increment_epoch();
        }
    }
}

/// A call in flight.
pub(super) struct InFlight<'a>(&'a Ticking);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
    }
}

/// Takes stores that were cut away from wherever they wait, so that a stop waits neither for a guest's turn nor for
/// the drop of its memory.
#[derive(Clone)]
pub(super) struct Reaper(mpsc::Sender<Arc<Life>>);

impl Reaper {
    pub(super) fn start(guests: tokio::runtime::Handle) -> Result<Self, Fault> {
        let (to, cut) = mpsc::channel::<Arc<Life>>();
        thread::Builder::new()
            .name("falconer-reaper".into())
            .spawn(move || {
                // What a store holds may belong to a runtime.
                let _context = guests.enter();
                for life in cut {
                    life.reap();
                }
            })
            .map_err(|error| Fault::new(code::INTERNAL, format!("the reaper cannot be started: {error}")))?;
        Ok(Self(to))
    }

    pub(super) fn take(&self, life: Arc<Life>) {
        if let Err(mpsc::SendError(life)) = self.0.send(life) {
            // The engine is ending, and its guests with it.
            life.reap();
        }
    }
}

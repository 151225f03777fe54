//! What one component may use: memory, tables, handles, CPU time. Every number of the engine room is here.
//!
//! [`Limiter`] is asked by wasmtime whenever a component grows; [`Account`] counts CPU time. Both answer with an
//! [`Exceeded`], which ends the call; `trap` turns it into a code. Wall time is the actor's.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

/// Bytes that one call may carry from the component to the host (the contract's 8 MiB).
pub const CALL_BYTES: usize = 8 << 20;
/// Resources that a component may hold at once.
pub const HANDLES: usize = 10_000;
/// Elements of one table. A Python component needs some 15,000.
pub const TABLE_ELEMENTS: usize = 65_536;
/// Core instances in one component. A Python component has 14.
pub const CORE_INSTANCES: u32 = 20;
/// Tables in one component.
pub const TABLES: u32 = 20;
/// Linear memories in one component.
pub const MEMORIES: u32 = 2;
/// Bytes of random numbers that a component may ask for in one call.
pub const RANDOM_BYTES: u64 = 1 << 20;
/// How long one guest keeps a thread while others wait.
pub const TICK: Duration = Duration::from_millis(1);
/// Bytes that are left in the pipes and go to the run's log when a store is thrown away.
pub const DRAIN_BYTES: u64 = 1 << 20;
/// Size of a plugin's file.
pub const PLUGIN_BYTES: u64 = 256 << 20;
/// Live instances beside those of runs: `describe` and `plan`.
pub const SPARE_INSTANCES: u32 = 16;
/// CPU time of `describe` and of `plan`, each with its instantiation.
pub const THROW_AWAY_CPU: Duration = Duration::from_secs(2);
/// How long a listing waits for a plugin that is being compiled for the first time.
pub const LIST_WAIT: Duration = Duration::from_secs(10);

/// A limit that was reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Exceeded {
    #[error("it wants {wanted} bytes of memory; its limit is {limit}")]
    Memory { wanted: u64, limit: u64 },
    #[error("it wants a table of {wanted} elements; the limit is {limit}")]
    Table { wanted: u64, limit: u64 },
    #[error("the call used {used:?} of CPU time; one call may use {limit:?}")]
    CallCpu { used: Duration, limit: Duration },
    #[error("all its calls used {used:?} of CPU time; a run may use {limit:?}")]
    RunCpu { used: Duration, limit: Duration },
    #[error("it was cut")]
    Cut,
}

/// Memory of all linear memories together, and the size of each table.
pub(super) struct Limiter {
    memory: u64,
    used: u64,
    asked: u64,
}

impl Limiter {
    pub(super) fn new(memory: u64) -> Self {
        Self { memory, used: 0, asked: 0 }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.asked = desired.saturating_sub(current) as u64;
        let wanted = self.used.saturating_add(self.asked);
        if wanted > self.memory {
            return Err(wasmtime::Error::new(Exceeded::Memory { wanted, limit: self.memory }));
        }
        // Within our limit, but over the maximum that the component itself declares: its own `memory.grow` says -1.
        if maximum.is_some_and(|most| desired > most) {
            return Ok(false);
        }
        self.used = wanted;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // The host itself is out of memory: the component is told (-1), and what was counted is given back.
        tracing::warn!("a component's memory could not grow: {error:#}");
        self.used = self.used.saturating_sub(std::mem::take(&mut self.asked));
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS {
            return Err(wasmtime::Error::new(Exceeded::Table { wanted: desired as u64, limit: TABLE_ELEMENTS as u64 }));
        }
        Ok(maximum.is_none_or(|most| desired <= most))
    }
}

/// CPU time of one instance: of the call in hand and of all calls. Counted by the thread's own clock around each time
/// that the guest has a thread, so waiting costs it nothing, and a busy machine does not make a guest look busy.
pub(super) struct Account {
    call_limit: Duration,
    run_limit: Duration,
    /// The thread's clock when this turn began; 0 between turns.
    turn: AtomicU64,
    call: AtomicU64,
    run: AtomicU64,
}

impl Account {
    pub(super) fn new(call_limit: Duration, run_limit: Duration) -> Self {
        Self { call_limit, run_limit, turn: AtomicU64::new(0), call: AtomicU64::new(0), run: AtomicU64::new(0) }
    }

    /// The guest gets a thread. Turns of one instance never overlap, and a turn stays on its thread.
    pub(super) fn begin_turn(&self) {
        self.turn.store(thread_cpu_ns(), Relaxed);
    }

    /// It gives the thread back.
    pub(super) fn end_turn(&self) {
        let spent = self.this_turn();
        self.call.fetch_add(spent, Relaxed);
        self.run.fetch_add(spent, Relaxed);
        self.turn.store(0, Relaxed);
    }

    /// A new call begins, within a turn.
    pub(super) fn begin_call(&self) {
        self.call.store(0_u64.wrapping_sub(self.this_turn()), Relaxed);
    }

    /// CPU time of the call in hand.
    pub(super) fn call(&self) -> Duration {
        Duration::from_nanos(self.call.load(Relaxed).wrapping_add(self.this_turn()))
    }

    /// Whether the call in hand, or all calls together, used too much.
    pub(super) fn check(&self) -> Result<(), Exceeded> {
        let now = self.this_turn();
        let call = Duration::from_nanos(self.call.load(Relaxed).wrapping_add(now));
        if call > self.call_limit {
            return Err(Exceeded::CallCpu { used: call, limit: self.call_limit });
        }
        let run = Duration::from_nanos(self.run.load(Relaxed) + now);
        if run > self.run_limit {
            return Err(Exceeded::RunCpu { used: run, limit: self.run_limit });
        }
        Ok(())
    }

    fn this_turn(&self) -> u64 {
        match self.turn.load(Relaxed) {
            0 => 0,
            began => thread_cpu_ns().saturating_sub(began),
        }
    }
}

/// CPU time of this thread (clock_gettime(2), `CLOCK_THREAD_CPUTIME_ID`).
fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_over_all_memories() {
        let mut limiter = Limiter::new(4 << 16);
        assert!(limiter.memory_growing(0, 2 << 16, None).unwrap());
        assert!(limiter.memory_growing(0, 2 << 16, None).unwrap());
        let refused = limiter.memory_growing(2 << 16, 3 << 16, None).unwrap_err();
        assert_eq!(refused.downcast_ref::<Exceeded>(), Some(&Exceeded::Memory { wanted: 5 << 16, limit: 4 << 16 }));
    }

    #[test]
    fn a_components_own_maximum_is_no_fault() {
        let mut limiter = Limiter::new(8 << 16);
        assert!(!limiter.memory_growing(1 << 16, 3 << 16, Some(2 << 16)).unwrap());
    }

    #[test]
    fn only_time_on_a_thread_counts() {
        let account = Account::new(Duration::from_secs(60), Duration::from_secs(60));
        account.begin_turn();
        account.begin_call();
        account.end_turn();
        let between = account.call();
        let mut sum = 0_u64;
        for n in 0..2_000_000_u64 {
            sum = std::hint::black_box(sum ^ n);
        }
        assert_eq!(account.call(), between);
        account.begin_turn();
        for n in 0..2_000_000_u64 {
            sum = std::hint::black_box(sum ^ n);
        }
        account.end_turn();
        assert!(account.call() > between);
    }
}

//! Native process trees: spawn, signal, kill, look.
//!
//! A [`Tree`] is what one run started: each child in a process group of its own, marked with `FALCONER_RUN_ID`. It
//! follows the ends of its children without a thread or a timer, and its signals go to what it holds, never to a bare
//! number. What a program may be started at all is judged in [`crate::capability`]; the rungs of a stop are
//! climbed by the run's supervisor.
//!
//! When something fails: a program that cannot be executed is a [`SpawnError::Exec`] and nothing was started; a
//! process that cannot be killed (another user's, or stuck in the kernel) is named as a survivor.
//! There is no proof of emptiness here: the verdict after a stop is [`Verdict::Unverified`] or [`Verdict::Never`].

mod leftovers;
mod pidfd;
mod proc;
mod prove;
mod readiness;
mod signal;
mod spawn;
mod watch;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use camino::Utf8PathBuf;
use rustix::process::Signal;
use tokio::runtime::Handle;
use tokio::sync::watch as channel;

use self::pidfd::Process;
pub(crate) use self::proc::MARK;
pub(crate) use self::readiness::register;

use crate::id::RunId;

/// What is to be started. Everything in it was judged before.
#[derive(Debug)]
pub struct Plan {
    /// Absolute path of the program.
    pub program: Utf8PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// Its whole environment; `FALCONER_RUN_ID` is added.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory, opened when it was judged, so that nobody can swap it in between.
    pub cwd: Option<OwnedFd>,
    /// Whether stdin is a pipe; else `/dev/null`.
    pub stdin: bool,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With a code.
    Code(i32),
    /// By a signal.
    Signalled(i32),
    /// It was lost before it could be asked.
    Unknown,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The run is being killed: nothing is started any more.
    #[error("the run is being stopped")]
    Sealed,
    /// Not found, or not executable.
    #[error("{program}: {source}")]
    Exec {
        /// The program.
        program: Utf8PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Pipes, threads, memory.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// A process, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id while it lived.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// What is known about a tree after a kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It never had a process.
    Never,
    /// Nothing lives; how that is known.
    Empty(Vec<String>),
    /// Not proven.
    Unverified {
        /// Why.
        reason: String,
        /// What is known to live.
        survivors: Vec<Seen>,
    },
}

/// One run's native processes. Cheap to clone; all clones are the same tree.
#[derive(Debug, Clone)]
pub struct Tree(Arc<Inner>);

/// A child of a tree. Dropping it closes its pipes and kills nothing.
#[derive(Debug)]
pub struct Child {
    /// Its process id.
    pub pid: u32,
    /// Where its stdin is written; non-blocking.
    pub stdin: Option<OwnedFd>,
    /// Where its stdout is read; non-blocking.
    pub stdout: OwnedFd,
    /// Where its stderr is read; non-blocking.
    pub stderr: OwnedFd,
    /// Turns to `Some` when it has ended.
    pub exit: channel::Receiver<Option<Exit>>,
}

#[derive(Debug)]
struct Inner {
    run: RunId,
    /// The serving runtime: watches, and makes the threads that start children.
    handle: Handle,
    /// No process of this run started before: clock ticks after boot.
    since: u64,
    state: Mutex<State>,
    /// Groups, strays and starts that are not over. Changed only under the lock of `state`.
    alive: channel::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing is started any more.
    sealed: bool,
    /// Something was started.
    ever: bool,
    /// Starts in hand.
    starting: usize,
    /// By the number of their first process, which is not reaped while it is here.
    groups: BTreeMap<u32, Process>,
    /// Marked processes outside the groups.
    strays: BTreeMap<u32, Process>,
}

impl Tree {
    /// A tree without a process. To be called on the serving runtime: its threads start the children, and its driver
    /// watches their pipes and their ends.
    ///
    /// # Panics
    /// Outside of a tokio runtime (as [`Handle::current`]).
    #[must_use]
    pub fn new(run: RunId) -> Self {
        Self(Arc::new(Inner {
            run,
            handle: Handle::current(),
            since: proc::ticks_now().saturating_sub(1),
            state: Mutex::default(),
            alive: channel::Sender::new(0),
        }))
    }

    /// The serving runtime, on which this tree was made.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Starts a child; returns when its program runs, or could not be executed. Callable from any runtime. When the
    /// future is dropped, the child is started all the same, belongs to the tree, and its pipes are closed.
    pub async fn spawn(&self, plan: Plan) -> Result<Child, SpawnError> {
        let inner = Arc::clone(&self.0);
        control(&self.0.handle, move || inner.start(plan)).await.map_err(SpawnError::System)?
    }

    /// Sends a signal to one child of this tree, by pidfd; no error when it has ended.
    pub fn signal(&self, pid: u32, signal: Signal) -> std::io::Result<()> {
        let leader = self.0.lock().groups.get(&pid).cloned();
        leader.map_or(Ok(()), |leader| leader.signal(signal))
    }

    /// TERM to the whole tree: to its process groups before this returns its future's first step, then to what a
    /// scan finds outside of them.
    pub async fn terminate(&self) {
        self.0.signal_groups(Signal::TERM);
        // A stopped process takes its TERM only when it goes on.
        self.0.signal_groups(Signal::CONT);
        if self.0.lock().ever {
            Arc::clone(&self.0).terminate_strays().await;
        }
    }

    /// KILL to the whole tree; from now on nothing is started in it. Goes round until a scan finds nothing, at most
    /// 20 times and 1 s; gives what lived.
    pub async fn kill(&self) -> Vec<Seen> {
        let ever = {
            let mut state = self.0.lock();
            state.sealed = true;
            state.ever
        };
        if ever { Arc::clone(&self.0).kill_all().await } else { Vec::new() }
    }

    /// Whether a child (or what is known of its descendants) lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        *self.0.alive.borrow() > 0
    }

    /// Whether a child was ever started.
    #[must_use]
    pub fn was_used(&self) -> bool {
        self.0.lock().ever
    }

    /// KILL to one child and its process group.
    pub(crate) fn kill_child(&self, pid: u32) {
        self.0.signal_group(pid, Signal::KILL);
    }

    /// Children that live or left living processes in their group; for the limit of children at once.
    #[must_use]
    pub fn children(&self) -> usize {
        let state = self.0.lock();
        state.starting + state.groups.len()
    }

    /// Waits until nothing known lives.
    pub async fn empty(&self) {
        // The sender is in `self`, so this cannot fail.
        let _ = self.0.alive.subscribe().wait_for(|alive| *alive == 0).await;
    }

    /// Looks whether anything is left; waits at most so long for it to end.
    pub async fn prove(&self, within: Duration) -> Verdict {
        Arc::clone(&self.0).prove(within).await
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if one did, the state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, state: &State) {
        let now = state.groups.len() + state.strays.len() + state.starting;
        self.alive.send_if_modified(|alive| std::mem::replace(alive, now) != now);
    }

    /// Blocks until the program runs.
    fn start(self: Arc<Self>, plan: Plan) -> Result<Child, SpawnError> {
        {
            let mut state = self.lock();
            if state.sealed {
                return Err(SpawnError::Sealed);
            }
            state.starting += 1;
            self.count(&state);
        }
        let started = spawn::start(self.run, plan);
        let mut state = self.lock();
        state.starting -= 1;
        let started = match started {
            Ok(started) => started,
            Err(error) => {
                self.count(&state);
                return Err(error);
            }
        };
        state.ever = true;
        let process = started.process;
        let watched = match process.watch(&self.handle) {
            Ok(watched) => watched,
            Err(error) => {
                let _ = process.signal(Signal::KILL);
                self.count(&state);
                drop(state);
                spawn::reap_killed(&process);
                return Err(error.into());
            }
        };
        let (ended, exit) = channel::channel(None);
        state.groups.insert(process.pid, process.clone());
        self.count(&state);
        let sealed = state.sealed;
        drop(state);
        let pid = process.pid;
        if sealed {
            // A kill went by while this was being started.
            self.signal_groups(Signal::KILL);
        }
        self.handle.spawn(watch::group(Arc::clone(&self), process, watched, ended));
        if sealed {
            return Err(SpawnError::Sealed);
        }
        Ok(Child { pid, stdin: started.stdin, stdout: started.stdout, stderr: started.stderr, exit })
    }

    /// Reaps its first process. Under the lock: no signal goes to the number after that.
    fn forget_group(&self, leader: &Process) {
        let mut state = self.lock();
        watch::reap(leader);
        state.groups.remove(&leader.pid);
        self.count(&state);
    }

    /// Knows it from now on, until it has ended.
    fn follow(self: &Arc<Self>, process: Process) {
        let mut state = self.lock();
        if state.strays.contains_key(&process.pid) {
            return;
        }
        state.strays.insert(process.pid, process.clone());
        self.count(&state);
        drop(state);
        self.handle.spawn(watch::stray(Arc::clone(self), process));
    }

    fn forget_stray(&self, pid: u32) {
        let mut state = self.lock();
        state.strays.remove(&pid);
        self.count(&state);
    }
}

/// Does blocking work on a thread of the serving runtime. The thread is made there and not by the caller, who may be
/// a guest's thread with another niceness.
pub(crate) async fn control<T: Send + 'static>(handle: &Handle, work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<T> {
    let task = handle.spawn(async move { tokio::task::spawn_blocking(work).await });
    match task.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) | Err(error) => Err(std::io::Error::other(error)),
    }
}

/// Finds processes of these runs (by `FALCONER_RUN_ID`, our uid) and kills them; gives what was found.
pub async fn kill_leftovers(runs: &[RunId], within: Duration) -> Vec<(RunId, Seen)> {
    leftovers::kill(runs, within).await
}

/// The runs whose mark a process or one of its ancestors carries, nearest first.
#[must_use]
pub fn mark_of(pid: u32) -> Vec<RunId> {
    let mut runs = Vec::new();
    for pid in proc::with_ancestors(pid) {
        runs.extend(proc::mark(pid).filter(|run| !runs.contains(run)));
    }
    runs
}

#[cfg(test)]
mod tests;

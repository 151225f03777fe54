//! Native process trees: spawn, signal, kill, prove empty.
//!
//! A [`Tree`] is what one run started. Each child is started by a [`shim`] of its own, which holds whatever the child
//! starts, and lives in a cgroup where one can be made; all of it is marked with `FALCONER_RUN_ID`. The tree follows
//! its shims without a thread or a timer. What a program may be started at all is judged in [`crate::capability`]; the
//! rungs of a stop are climbed by the run's supervisor.
//!
//! A tree is empty when its cgroup is, when every shim said that it has no child left (or, of a shim that was killed,
//! when nothing came to the host), and when a scan finds no process with the run's mark: then the verdict is
//! [`Verdict::Empty`]. A process that cannot be killed (another user's, or stuck in the kernel) is named as a survivor.
//! A program that cannot be executed is a [`SpawnError::Exec`] and nothing was started.

mod adopt;
pub mod carriers;
pub mod cgroup;
mod follow;
mod ground;
mod kill;
mod leftovers;
mod limit;
pub mod lineage;
pub mod orphans;
mod pidfd;
mod proc;
mod prove;
mod readiness;
pub mod records;
mod scan;
pub mod shim;
mod spawn;
mod walk;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::watch as channel;

#[cfg(test)]
pub(crate) use self::adopt::tidy;
use self::cgroup::Group;
pub use self::cgroup::controllers::{Controller, Controllers, Missing, Way};
pub use self::cgroup::limit::Breach;
use self::cgroup::limit::Held;
pub use self::ground::{Ground, GroundError, Holding};
pub use self::leftovers::{By, Left, Living, end_leftovers, examine, forget as forget_leftovers, living};
use self::pidfd::Process;
pub(crate) use self::proc::MARK;
pub(crate) use self::readiness::register;
use self::shim::report::NAMED;

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
    /// Its working directory, opened when it was judged, so that nobody can swap it in between; none: `/`.
    pub cwd: Option<OwnedFd>,
    /// Whether stdin is a pipe; else `/dev/null`.
    pub stdin: bool,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With a code.
    Code(i32),
    /// By a signal.
    #[serde(rename = "signal")]
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// What was killed in a tree.
#[derive(Debug, Clone, Default)]
pub struct Killed {
    /// When the first one was.
    pub at: Option<Instant>,
    /// The first of them, at most [`NAMED`].
    pub named: Vec<Seen>,
    /// How many.
    pub total: u64,
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
    ground: Ground,
    /// The serving runtime: watches, and makes the threads that start children.
    handle: Handle,
    /// No process of this run started before: clock ticks after boot.
    since: u64,
    state: Mutex<State>,
    /// Shims, strays and starts that are not over. Changed only under the lock of `state`.
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
    /// Their shims, which have not said yet that their programs run. Only to be signalled: one that failed may be reaped.
    beginning: BTreeMap<u32, Process>,
    /// By the number of the shim, which is not reaped while it is here.
    shims: BTreeMap<u32, Shim>,
    /// Marked processes outside of the shims' trees.
    strays: BTreeMap<u32, Process>,
    /// Shims that ended without a word: what was below them came to the host.
    orphaned: u32,
    /// Made with the first child.
    group: Option<Group>,
    /// Where the tree has limits.
    held: Option<Arc<Held>>,
    killed: Killing,
}

/// A shim whose tree is not known to be empty.
#[derive(Debug)]
struct Shim {
    process: Process,
    program: Process,
    socket: Arc<OwnedFd>,
}

/// What was killed.
#[derive(Debug, Default)]
struct Killing {
    at: Option<Instant>,
    /// By its number. One that comes again within a stop is counted once.
    known: BTreeMap<u32, String>,
    /// As many as the shims say.
    by_shims: u64,
}

/// Processes that a stop remembers; beyond that they are killed all the same.
const REMEMBERED: usize = 65_536;

impl Killing {
    fn note(&mut self, seen: Seen) {
        self.at.get_or_insert_with(Instant::now);
        if self.known.len() < REMEMBERED {
            self.known.entry(seen.pid).or_insert(seen.name);
        }
    }
}

impl Tree {
    /// A tree without a process. To be called on the serving runtime: its threads start the children, and its driver
    /// watches their pipes and their ends.
    ///
    /// # Panics
    /// Outside of a tokio runtime (as [`Handle::current`]).
    #[must_use]
    pub fn new(run: RunId, ground: Ground) -> Self {
        Self(Arc::new(Inner {
            run,
            ground,
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
        let state = self.0.lock();
        // The newest: a number may come again while an older shim still holds what its program left.
        let program = state.shims.values().rfind(|shim| shim.program.pid == pid && shim.program.lives());
        program.map_or(Ok(()), |shim| shim.program.signal(signal))
    }

    /// TERM to the whole tree, wherever its processes went.
    pub async fn terminate(&self) {
        if self.0.lock().ever {
            Arc::clone(&self.0).terminate_all().await;
        }
    }

    /// KILL to the whole tree; from now on nothing is started in it. Goes round until nothing is found, at most 1 s.
    pub async fn kill(&self) {
        let ever = {
            let mut state = self.0.lock();
            if !std::mem::replace(&mut state.sealed, true) {
                // What was killed before belongs to no stop.
                state.killed = Killing::default();
            }
            state.ever || state.starting > 0
        };
        if ever {
            Arc::clone(&self.0).kill_all().await;
        }
    }

    /// What was killed so far.
    #[must_use]
    pub fn killed(&self) -> Killed {
        let state = self.0.lock();
        let killed = &state.killed;
        let named = killed.known.iter().take(NAMED).map(|(pid, name)| Seen { pid: *pid, name: name.clone() }).collect();
        Killed { at: killed.at, named, total: killed.by_shims.max(killed.known.len() as u64) }
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

    /// KILL to one child and all below it.
    pub(crate) fn kill_child(&self, pid: u32) {
        let state = self.0.lock();
        if let Some(shim) = state.shims.values().rfind(|shim| shim.program.pid == pid) {
            shim.kill();
        }
    }

    /// Children that live or left something alive; for the limit of children at once.
    #[must_use]
    pub fn children(&self) -> usize {
        let state = self.0.lock();
        state.starting + state.shims.len()
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

    /// Takes its records and its cgroup away. For a tree whose verdict is on disk.
    pub async fn forget(&self) {
        let (ever, group, held) = {
            let mut state = self.0.lock();
            (state.ever || state.group.is_some(), state.group.take(), state.held.take())
        };
        let records = self.0.ground.records().join(self.0.run.to_string());
        let ground = self.0.ground.clone();
        adopt::forget(self.0.run);
        if ever || held.is_some() {
            let _ = control(&self.0.handle, move || {
                for group in held.iter().flat_map(|held| held.groups()).chain(&group) {
                    if let Err(error) = group.remove() {
                        tracing::debug!(group = %group.dir().display(), %error, "a cgroup stays");
                    }
                }
                let _ = std::fs::remove_dir_all(records);
                ground.forgot();
            })
            .await;
        }
    }
}

impl Shim {
    /// Tells it to kill its tree, awake or stopped.
    fn kill(&self) {
        let _ = self.process.signal(Signal::CONT);
        let _ = rustix::net::send(&self.socket, &[shim::KILL], rustix::net::SendFlags::NOSIGNAL);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if one did, the state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, state: &State) {
        let now = state.shims.len() + state.strays.len() + state.starting;
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
        let held = self.lock().held.clone();
        let mut begun = None;
        let begins = |shim: &Process| {
            begun = Some(shim.pid);
            self.lock().beginning.insert(shim.pid, shim.clone());
        };
        let started = self.group().and_then(|group| spawn::start(&self.ground, self.run, group.as_ref(), held.as_deref(), plan, begins));
        let mut state = self.lock();
        state.starting -= 1;
        if let Some(pid) = begun {
            state.beginning.remove(&pid);
        }
        let started = match started {
            Ok(started) => started,
            Err(error) => {
                // A shim that failed half-way may have started something, which came to us.
                let half = begun.is_some() && matches!(error, SpawnError::System(_));
                state.ever |= half;
                state.orphaned += u32::from(half);
                self.count(&state);
                drop(state);
                if half {
                    self.handle.spawn(Arc::clone(&self).kill_orphans());
                }
                return Err(error);
            }
        };
        state.ever = true;
        let socket = Arc::new(OwnedFd::from(started.socket));
        let shim = Shim { process: started.shim.clone(), program: started.program.clone(), socket: Arc::clone(&socket) };
        let sealed = state.sealed;
        if sealed {
            // A kill went by while this was being started.
            shim.kill();
        }
        state.shims.insert(started.shim.pid, shim);
        self.count(&state);
        drop(state);
        let (ended, exit) = channel::channel(None);
        let pid = started.program.pid;
        self.handle.spawn(follow::shim(Arc::clone(&self), started.shim, socket, started.rest, ended));
        if sealed {
            return Err(SpawnError::Sealed);
        }
        Ok(Child { pid, stdin: started.stdin, stdout: started.stdout, stderr: started.stderr, exit })
    }

    /// The run's cgroup, where there are cgroups.
    fn group(&self) -> Result<Option<Group>, SpawnError> {
        let Ok(base) = self.ground.base() else { return Ok(None) };
        if let Some(group) = self.lock().group.clone() {
            return Ok(Some(group));
        }
        // Made without the lock: what waits for it serves clients. Who comes second finds it there.
        let group = base.group(&self.run.to_string())?;
        Ok(Some(self.lock().group.get_or_insert(group).clone()))
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
        self.handle.spawn(follow::stray(Arc::clone(self), process));
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

/// The runs in whose trees a process is, nearest first: those whose mark it or one of its ancestors carries, and those
/// whose shims are its ancestors.
#[must_use]
pub fn mark_of(pid: u32) -> Vec<RunId> {
    let mut runs = Vec::new();
    for pid in proc::with_ancestors(pid) {
        for run in [proc::mark(pid), adopt::run_of(pid)].into_iter().flatten() {
            if !runs.contains(&run) {
                runs.push(run);
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests;

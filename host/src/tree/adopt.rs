//! The children of this process: the shims that it started, and what comes to it when one of them is killed.
//!
//! A host is a child subreaper (prctl(2)), so the tree of a shim that was killed becomes its own. A host starts nothing
//! but shims: a child that is none of them was a shim's. The list of shims belongs to the process as a whole, because
//! its children do.

use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};

use super::proc::{self, Stat};
use super::walk;
use crate::id::RunId;

/// The shims that were started and not reaped, and for which runs. Locked while one is born, so that nobody takes it
/// for an orphan.
static SHIMS: Mutex<BTreeMap<u32, Option<RunId>>> = Mutex::new(BTreeMap::new());

/// Shims that ended without a word, until their runs are proven empty.
static LOST: Mutex<BTreeMap<u32, RunId>> = Mutex::new(BTreeMap::new());

/// From now on, orphans below this process become its children.
pub fn become_subreaper() -> io::Result<()> {
    // Any number but 0 turns it on.
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Starts a shim, and knows it; without a run, for a trial.
pub fn bear(command: &mut Command, run: Option<RunId>) -> io::Result<Child> {
    let mut shims = SHIMS.lock().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn()?;
    shims.insert(child.id(), run);
    Ok(child)
}

/// The run of a shim of ours.
pub fn run_of(pid: u32) -> Option<RunId> {
    SHIMS.lock().unwrap_or_else(PoisonError::into_inner).get(&pid).copied().flatten()
}

/// Reaps a shim that has ended, and forgets it.
pub fn bury(pid: u32) {
    let mut shims = SHIMS.lock().unwrap_or_else(PoisonError::into_inner);
    reap(pid);
    shims.remove(&pid);
}

/// Ends a shim that did not do what it was told, waits for that, and forgets it. What it may have started comes to us.
pub fn abandon(shim: &super::pidfd::Process) {
    let _ = shim.signal(rustix::process::Signal::KILL);
    // It is reaped under the lock only: whoever looks for orphans reads a list that must not shrink.
    let _ = waitid(WaitId::PidFd(shim.fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    lose(shim.pid);
}

/// Reaps a shim that ended without a word, and remembers whose it was: its number is the session of what was below it.
pub fn lose(pid: u32) {
    let mut shims = SHIMS.lock().unwrap_or_else(PoisonError::into_inner);
    reap(pid);
    if let Some(Some(run)) = shims.remove(&pid) {
        LOST.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, run);
    }
}

/// A run is over, and proven: nobody asks for its lost shims any more.
pub fn forget(run: RunId) {
    LOST.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, whose| *whose != run);
}

/// The run of an orphan, where that is certain: by its session, which only a shim can have led; or by its mark, where that
/// run has lost a shim. Nobody else's word counts: an orphan may carry any mark.
pub fn whose(orphan: &Stat) -> Option<RunId> {
    let lost = LOST.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let by_session = lost.get(&orphan.session).copied();
    by_session.or_else(|| proc::mark(orphan.pid).filter(|run| lost.values().any(|known| known == run)))
}

/// Ends a shim that was never given a tree.
pub fn end(mut shim: Child) {
    let _ = shim.kill();
    let mut shims = SHIMS.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = shim.wait();
    shims.remove(&shim.id());
}

/// What came to this process: living children that are no shims, and all that lives below them. Those that have ended
/// are reaped, after the look: a list that shrinks while it is read may hide its rest.
///
/// When this is empty, nothing lives of any tree whose shim has ended without a word: whatever was below it has a
/// parent in that tree, or is our child.
pub fn orphans() -> Vec<Stat> {
    let shims = SHIMS.lock().unwrap_or_else(PoisonError::into_inner);
    let me = std::process::id();
    let children: Vec<Stat> = match walk::children(me) {
        Some(pids) => pids.into_iter().filter_map(|pid| proc::stat(pid).ok()).collect(),
        None => proc::all().into_iter().filter(|stat| stat.parent == me).collect(),
    };
    // Shims lead sessions of their own, and nobody can join another's: a child in our session never was below a shim.
    let session = proc::stat(me).map_or(0, |stat| stat.session);
    let mut orphans = Vec::new();
    let mut ended = Vec::new();
    for stat in children.into_iter().filter(|stat| stat.parent == me && stat.session != session && !shims.contains_key(&stat.pid)) {
        if stat.lives() {
            orphans.push(stat);
        } else {
            ended.push(stat.pid);
        }
    }
    for pid in ended {
        reap(pid);
    }
    drop(shims);
    let roots: Vec<u32> = orphans.iter().map(|stat| stat.pid).collect();
    if !roots.is_empty() {
        orphans.extend(walk::below(&roots));
    }
    orphans
}

/// Reaps what came to this process and has ended.
pub fn tidy() {
    orphans();
}

fn reap(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

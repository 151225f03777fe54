//! Waiting for the ends of processes: one pidfd each in the serving runtime's epoll; no thread, no poll, no SIGCHLD.
//!
//! The first process of a group is reaped only when its group is empty: as long as it is a zombie, its number (which
//! is the group's) belongs to nobody else, and a signal to the group cannot hit a stranger.

use std::sync::Arc;

use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::sync::watch;

use super::pidfd::{Process, Watched};
use super::{Exit, Inner, control, proc};

/// Follows one child from its start until its group is empty, then reaps it and forgets the group. Its exit is told
/// when the group was looked at: whoever hears of it can rely on [`super::Tree::is_alive`].
pub async fn group(inner: Arc<Inner>, leader: Process, watched: Watched, exit: watch::Sender<Option<Exit>>) {
    watched.ended().await;
    let how = how(&leader);
    let group = leader.pid;
    let mut left = control(&inner.handle, move || members(group)).await.unwrap_or_default();
    if left.is_empty() {
        inner.forget_group(&leader);
        exit.send_replace(Some(how));
        return;
    }
    exit.send_replace(Some(how));
    while !left.is_empty() {
        for member in left {
            if let Ok(watched) = member.watch(&inner.handle) {
                watched.ended().await;
            }
        }
        left = control(&inner.handle, move || members(group)).await.unwrap_or_default();
    }
    inner.forget_group(&leader);
}

/// Follows a process that a scan found.
pub async fn stray(inner: Arc<Inner>, process: Process) {
    if let Ok(watched) = process.watch(&inner.handle) {
        watched.ended().await;
    }
    inner.forget_stray(process.pid);
}

/// How it ended, leaving it to be reaped.
fn how(leader: &Process) -> Exit {
    match waitid(WaitId::PidFd(leader.fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signalled(signal),
            (None, None) => Exit::Unknown,
        },
        Ok(None) | Err(_) => Exit::Unknown,
    }
}

/// Reaps it; only ever a child of ours that was not reaped before.
pub fn reap(leader: &Process) {
    let _ = waitid(WaitId::PidFd(leader.fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
}

/// The living processes of a group whose first process is held by us.
fn members(group: u32) -> Vec<Process> {
    proc::all()
        .iter()
        .filter(|stat| stat.group == group && stat.lives())
        .filter_map(|stat| Process::found(stat, |now| now.group == group))
        .collect()
}

//! Following shims and strays: one descriptor each in the serving runtime's epoll; no thread, no poll, no SIGCHLD.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::Signal;
use tokio::io::Interest;
use tokio::sync::watch;

use super::pidfd::Process;
use super::shim::report::Report;
use super::{Exit, Inner, adopt, control, register};

/// Longer lines are none of a shim's.
const LINE: usize = 1 << 20;

/// What a shim has said.
#[derive(Default)]
struct Heard {
    exit: Option<Exit>,
    /// Its tree is empty.
    ended: bool,
}

/// Follows one shim until its tree is empty, then reaps it. The exit of its program is told when what the shim said
/// with it was heard: whoever hears of it can rely on [`super::Tree::is_alive`].
///
/// A shim that ends without a word was killed. What was below it came to the host, and is killed at once.
pub async fn shim(inner: Arc<Inner>, shim: Process, socket: Arc<OwnedFd>, mut bytes: Vec<u8>, exit: watch::Sender<Option<Exit>>) {
    let mut heard = Heard::default();
    heard.take(&inner, &mut bytes);
    if let Ok(socket) = register(&inner.handle, socket, Interest::READABLE) {
        let mut chunk = [0u8; 4096];
        while !heard.ended {
            heard.tell(&exit);
            let Ok(mut ready) = socket.readable().await else { break };
            match rustix::io::read(socket.get_ref(), &mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    bytes.extend_from_slice(&chunk[..count]);
                    heard.take(&inner, &mut bytes);
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
    }
    if heard.ended {
        forget(&inner, &shim, false);
        heard.tell(&exit);
    } else {
        // Killed, or stuck; and nothing of it is to go on without it.
        let _ = shim.signal(Signal::KILL);
    }
    match shim.watch(&inner.handle) {
        Ok(watched) => watched.ended().await,
        // Without a descriptor to watch it by: it ends at once, killed or done.
        Err(_) => drop(
            control(&inner.handle, {
                let shim = shim.clone();
                move || adopt::abandon(&shim)
            })
            .await,
        ),
    }
    let (pid, ended) = (shim.pid, heard.ended);
    let _ = control(&inner.handle, move || if ended { adopt::bury(pid) } else { adopt::lose(pid) }).await;
    if !heard.ended {
        Arc::clone(&inner).kill_orphans().await;
        forget(&inner, &shim, true);
        heard.exit.get_or_insert(Exit::Unknown);
        heard.tell(&exit);
    }
}

fn forget(inner: &Inner, shim: &Process, orphaned: bool) {
    let mut state = inner.lock();
    state.shims.remove(&shim.pid);
    state.orphaned += u32::from(orphaned);
    inner.count(&state);
}

impl Heard {
    /// Takes the whole lines.
    fn take(&mut self, inner: &Inner, bytes: &mut Vec<u8>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = bytes.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Report::Exited(exit)) => self.exit = Some(exit),
                Ok(Report::Ended { killed, killed_total, .. }) => {
                    self.ended = true;
                    let mut state = inner.lock();
                    state.killed.by_shims += killed_total;
                    for seen in killed {
                        state.killed.note(seen);
                    }
                }
                Ok(Report::Stray { process, exit }) => {
                    tracing::trace!(run = %inner.run, pid = process.pid, name = process.name, ?exit, "a stray has ended");
                }
                Ok(Report::Shim(_) | Report::Started(_) | Report::Refused { .. }) => {}
                Err(error) => tracing::warn!(run = %inner.run, %error, "a shim said what nobody understands"),
            }
            // What ended may have ended by a limit.
            inner.look_at_limits();
        }
        if bytes.len() > LINE {
            bytes.clear();
        }
    }

    fn tell(&self, exit: &watch::Sender<Option<Exit>>) {
        if let Some(how) = self.exit {
            exit.send_if_modified(|told| told.replace(how).is_none());
        }
    }
}

/// Follows a process that a scan found.
pub async fn stray(inner: Arc<Inner>, process: Process) {
    if let Ok(watched) = process.watch(&inner.handle) {
        watched.ended().await;
    }
    inner.forget_stray(process.pid);
    // One that had come to the host is reaped.
    let _ = control(&inner.handle, adopt::tidy).await;
}

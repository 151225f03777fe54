//! What is known about a tree after a stop.
//!
//! Three looks, and all of them must find nothing. The cgroup: the kernel says whether it is populated. The walk: each
//! shim said that it has no child left, and of a shim that was killed nothing came to the host. The scan: no process of
//! ours that was started after the run has its mark. What one of them finds is killed, and the look begins anew.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::pidfd::Process;
use super::proc::Stat;
use super::{Inner, Seen, Verdict, control};

/// Survivors that are named.
const NAMED: usize = super::shim::report::NAMED;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What the last look may take beyond the time of the proof.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// What a look found.
enum Look {
    Nothing { cgroup: bool },
    Something(Vec<Stat>),
}

impl Inner {
    /// Waits for the end of what is known, looks for what is not, and says what lives.
    pub async fn prove(self: Arc<Self>, within: Duration) -> Verdict {
        {
            let state = self.lock();
            if !state.ever && state.starting == 0 {
                return Verdict::Never;
            }
        }
        let end = Instant::now() + within;
        loop {
            let mut changes = self.alive.subscribe();
            let left = end.saturating_duration_since(Instant::now());
            let in_time = tokio::time::timeout(left, changes.wait_for(|alive| *alive == 0)).await.is_ok();
            let inner = Arc::clone(&self);
            // A file in /proc may hang as long as its process does (its memory is locked): then nothing is known.
            let left = end.saturating_duration_since(Instant::now()) + LAST_LOOK;
            let look = tokio::time::timeout(left, control(&self.handle, move || inner.last_look()));
            match look.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).flatten() {
                Ok(Look::Nothing { cgroup }) if in_time && *self.alive.borrow() == 0 => {
                    let by = cgroup.then_some("cgroup").into_iter().chain(["walk", "scan"]);
                    return Verdict::Empty(by.map(str::to_owned).collect());
                }
                Ok(Look::Nothing { .. }) if Instant::now() < end => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(Look::Something(found)) if Instant::now() < end => {
                    for process in found.iter().filter_map(|stat| Process::found(stat, |_| true)) {
                        if process.reach(Signal::KILL).is_ok_and(|reached| reached) {
                            self.lock().killed.note(process.seen());
                        }
                        self.follow(process);
                    }
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Ok(Look::Nothing { .. }) => {
                    let reason = "a shim has not said that its tree is empty, though nothing of it can be seen".into();
                    return Verdict::Unverified { reason, survivors: Vec::new() };
                }
                Ok(Look::Something(found)) => {
                    let survivors = found.iter().take(NAMED).map(|stat| Seen { pid: stat.pid, name: stat.name.clone() }).collect();
                    let reason = match found.len() {
                        0 => "its cgroup is not empty, though nothing of it can be seen".to_owned(),
                        count => format!("{count} of its processes still live"),
                    };
                    return Verdict::Unverified { reason, survivors };
                }
                Err(error) => {
                    return Verdict::Unverified { reason: format!("the host could not look: {error}"), survivors: Vec::new() };
                }
            }
        }
    }

    fn last_look(&self) -> io::Result<Look> {
        let found = self.find()?;
        if !found.is_empty() {
            return Ok(Look::Something(found));
        }
        let group = self.lock().group.clone();
        Ok(match group.map(|group| group.is_populated()).transpose() {
            Ok(Some(true)) => Look::Something(self.find()?),
            Ok(Some(false)) => Look::Nothing { cgroup: true },
            Ok(None) => Look::Nothing { cgroup: false },
            Err(error) => return Err(io::Error::other(format!("its cgroup does not say whether it is empty: {error}"))),
        })
    }
}

//! What is known about a tree after a stop.
//!
//! Process groups and marks show most of a tree, never all of it: a process can leave its group and wipe its
//! environment. So this never says [`Verdict::Empty`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Inner, Verdict, control};

/// Why there is no proof.
const REASON: &str =
    "only process groups and marked processes were looked at; a process that left its group and changed its environment would not be seen";

impl Inner {
    /// Waits for the end of what is known, looks for what is not, and says what lives. What is found in a tree that
    /// was killed is killed.
    pub async fn prove(self: Arc<Self>, within: Duration) -> Verdict {
        if !self.lock().ever {
            return Verdict::Never;
        }
        let end = Instant::now() + within;
        loop {
            let mut changes = self.alive.subscribe();
            let left = end.saturating_duration_since(Instant::now());
            let in_time = tokio::time::timeout(left, changes.wait_for(|alive| *alive == 0)).await.is_ok();
            let inner = Arc::clone(&self);
            let Ok(scan) = control(&self.handle, move || inner.scan()).await else {
                return Verdict::Unverified { reason: "the host ended while it was looking".into(), survivors: Vec::new() };
            };
            let survivors = scan.seen();
            let sealed = self.lock().sealed;
            for process in scan.strays {
                if sealed {
                    let _ = process.signal(Signal::KILL);
                }
                self.follow(process);
            }
            if survivors.is_empty() && in_time {
                return Verdict::Unverified { reason: REASON.into(), survivors };
            }
            if Instant::now() >= end {
                return Verdict::Unverified { reason: REASON.into(), survivors };
            }
        }
    }
}

//! Processes with the mark of a run, from one look at all processes for all who ask at the same time.
//!
//! A look reads some files for each process of the machine, so a host that ends many runs at once would spend its time
//! on looking. Whoever asks is answered by a look that began after it asked: the one that runs now is never enough.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::proc::{self, Stat};
use crate::id::RunId;

/// How long somebody waits for a look that is not his own.
const PATIENCE: Duration = Duration::from_secs(30);

/// The looks of this process.
static LOOKS: Mutex<Looks> = Mutex::new(Looks { begun: 0, running: false, since: u64::MAX, last: None });
/// A look is over.
static OVER: Condvar = Condvar::new();

/// What lives with a mark, and whose mark that is.
type Marked = Arc<Vec<(RunId, Stat)>>;

struct Looks {
    /// How many were begun.
    begun: u64,
    /// The last one that was begun is not over.
    running: bool,
    /// The earliest start that one of those cares for who wait for the next.
    since: u64,
    /// The last that is over.
    last: Option<Look>,
}

struct Look {
    number: u64,
    /// The earliest start that it cared for.
    since: u64,
    /// `None`: not all could be looked at.
    seen: Option<Marked>,
}

/// What lives anywhere with the mark of this run and was started at this time or later (clock ticks after boot); this
/// process left out. Blocks for some milliseconds.
///
/// # Errors
/// A look that hangs, because the memory of a process is locked: whoever waits for the next one gives up.
pub fn marked(run: RunId, since: u64) -> io::Result<Vec<Stat>> {
    let seen = seen(since)?;
    Ok(seen.iter().filter(|(mark, stat)| *mark == run && stat.start >= since).map(|(_, stat)| stat.clone()).collect())
}

fn seen(since: u64) -> io::Result<Marked> {
    let until = Instant::now() + PATIENCE;
    let mut looks = LOOKS.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = looks.begun + 1;
    loop {
        // One that began after this call, and cared for so early a start: others may have looked twice meanwhile.
        if let Some(last) = &looks.last
            && last.number >= wanted
            && last.since <= since
        {
            return last.seen.clone().ok_or_else(blind);
        }
        looks.since = looks.since.min(since);
        if !looks.running {
            break;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a look at all processes hangs"));
        }
        looks = OVER.wait_timeout(looks, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    looks.begun += 1;
    looks.running = true;
    let number = looks.begun;
    let since = std::mem::replace(&mut looks.since, u64::MAX);
    drop(looks);
    let over = Over;
    let seen = proc::whole(|| look(since)).ok().map(Arc::new);
    LOOKS.lock().unwrap_or_else(PoisonError::into_inner).last = Some(Look { number, since, seen: seen.clone() });
    drop(over);
    seen.ok_or_else(blind)
}

fn blind() -> io::Error {
    io::Error::other("not all processes could be looked at: the host has no descriptors or no memory left")
}

/// However a look ends, the next may begin.
struct Over;

impl Drop for Over {
    fn drop(&mut self) {
        LOOKS.lock().unwrap_or_else(PoisonError::into_inner).running = false;
        OVER.notify_all();
    }
}

fn look(since: u64) -> Vec<(RunId, Stat)> {
    let me = std::process::id();
    let mine = |stat: &Stat| stat.lives() && stat.pid != me && stat.start >= since && proc::is_ours(stat.pid);
    proc::all().into_iter().filter(mine).filter_map(|stat| Some((proc::mark(stat.pid)?, stat))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn who_asks_at_the_same_time_finds_their_own() {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let run = RunId::random();
                    let since = proc::ticks_now().saturating_sub(1);
                    assert!(marked(run, since).unwrap().is_empty());
                    let mut child =
                        Command::new("/bin/sleep").arg("3000").env(proc::MARK, run.to_string()).stdin(Stdio::null()).spawn().unwrap();
                    // A spawn returns a little before the child has left this program's memory.
                    while proc::stat(child.id()).unwrap().name != "sleep" {
                        std::thread::yield_now();
                    }
                    let found = marked(run, since).unwrap();
                    assert_eq!(found.iter().map(|stat| stat.pid).collect::<Vec<_>>(), [child.id()]);
                    assert!(marked(run, found[0].start + 1).unwrap().is_empty());
                    child.kill().unwrap();
                    child.wait().unwrap();
                    assert!(marked(run, since).unwrap().is_empty());
                });
            }
        });
    }
}

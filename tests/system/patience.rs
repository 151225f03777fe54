//! Waiting for a condition, with a limit that only a failure meets.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Generous: the machine may be busy and the build unoptimised.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until there is something, and fails the test, naming what it waited for, when there is nothing for too long.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

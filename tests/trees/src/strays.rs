//! Processes that leave their parents, and one that has lost its head.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::signals::{ignore_requests, in_a_session};
use crate::stand::{Roll, say, stay};
use crate::{Order, Stands, c};

/// Descriptors that a daemon closes, as daemons do.
const DESCRIPTORS: i32 = 1_024;

pub fn session() -> Stands {
    in_a_session(|| ()).map(drop)
}

/// Two forks and a session between, so that its parent is gone; then all descriptors closed, and this program again with
/// nothing in its environment.
pub fn daemon(order: &Order) -> Stands {
    let program = std::env::current_exe().map_err(|error| format!("no program: {error}"))?;
    // Its writing end is closed by the exec, and only then everywhere: that is how the exec is known to be over.
    let roll = Roll::new()?;
    let middle = c::fork();
    if middle == 0 {
        c::setsid();
        if c::fork() != 0 {
            c::_exit(0);
        }
        let kept = roll.descriptors();
        for fd in (0..DESCRIPTORS).filter(|fd| !kept.contains(fd)) {
            c::close(fd);
        }
        let _ = Command::new(program).args(["stay", &order.token]).env_clear().exec();
        c::_exit(127)
    }
    c::wait(middle, 0);
    roll.wait(1);
    Ok(())
}

/// What a process ignores, an exec leaves ignored.
pub fn leaver(order: &Order) -> Stands {
    ignore_requests();
    daemon(order)
}

/// Never returns in the first thread; the second one says `ready` when that has ended.
pub fn headless() -> Stands {
    let second = std::thread::spawn(|| {
        // The state of the process is that of its first thread.
        while !std::fs::read_to_string("/proc/self/stat").is_ok_and(|stat| stat.contains(") Z ")) {
            std::thread::yield_now();
        }
        say("ready");
        stay()
    });
    // Its handle is of no use to a thread that ends.
    std::mem::forget(second);
    c::end_thread()
}

//! Processes that do not hear, and processes that are stopped.

use std::ffi::c_int;

use crate::Stands;
use crate::c;
use crate::stand::{Roll, child, stay};

/// Ignores what asks for an end.
pub fn ignore_requests() {
    for signal in [c::SIGTERM, c::SIGINT, c::SIGHUP, c::SIGQUIT, c::SIGUSR1, c::SIGUSR2] {
        c::ignore(signal);
    }
}

pub fn deaf() -> Stands {
    ignore_requests();
    child(|| ());
    Ok(())
}

pub fn stone() -> Stands {
    for signal in 1..=c::SIGNALS {
        // KILL and STOP cannot be ignored, nor the two that the C library keeps. Ends of children are awaited.
        if signal != c::SIGCHLD {
            c::ignore(signal);
        }
    }
    c::block_all();
    child(|| ());
    Ok(())
}

extern "C" fn tell(_: c_int) {
    c::put(1, b"heard TERM\n");
}

pub fn listener() -> Stands {
    c::hear(c::SIGTERM, tell);
    Ok(())
}

/// A child and a grandchild, both stopped when this returns.
pub fn stopped_children() {
    let middle = child(|| {
        let last = child(|| {
            c::raise(c::SIGSTOP);
        });
        c::wait(last, c::WUNTRACED);
        c::raise(c::SIGSTOP);
    });
    c::wait(middle, c::WUNTRACED);
}

pub fn stopped() -> Stands {
    stopped_children();
    Ok(())
}

pub fn stop_myself() -> ! {
    c::raise(c::SIGSTOP);
    stay()
}

/// A child of a session of its own that stands.
pub fn in_a_session(work: impl FnOnce()) -> Result<i32, String> {
    let roll = Roll::new()?;
    let pid = child(|| {
        c::setsid();
        work();
        roll.here();
    });
    roll.wait(1);
    Ok(pid)
}

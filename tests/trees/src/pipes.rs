//! A writer that nobody reads, a reader that nobody writes to.

use std::io::Read;
use std::time::Instant;

use crate::stand::{LIFE, stay};
use crate::{Stands, c};

/// What a full writer's process is called.
const FULL: &str = "bait-full";
const PIECE: [u8; 4_096] = [b'.'; 4_096];

/// Fills standard output. That nobody reads it cannot be said there; the name of the process says it.
pub fn writer() -> Stands {
    c::set_waiting(1, false);
    let begin = Instant::now();
    while begin.elapsed() < LIFE {
        if !c::put(1, &PIECE) {
            break;
        }
    }
    c::set_waiting(1, true);
    std::fs::write("/proc/self/comm", FULL).map_err(|error| format!("no name: {error}"))
}

pub fn write_on() -> ! {
    let begin = Instant::now();
    while begin.elapsed() < LIFE {
        if !c::put(1, &PIECE) {
            break;
        }
    }
    stay()
}

pub fn reader() -> Stands {
    Ok(())
}

pub fn read_on() -> ! {
    let mut piece = [0; 4_096];
    while std::io::stdin().read(&mut piece).is_ok_and(|count| count > 0) {}
    if let Ok((mut reader, writer)) = std::io::pipe() {
        let _ = reader.read(&mut piece);
        drop(writer);
    }
    stay()
}

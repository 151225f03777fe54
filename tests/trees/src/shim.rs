//! What a program can do to the shim that started it. Only to a shim: the parent of a bait by hand is somebody's shell.

use crate::signals::in_a_session;
use crate::{Stands, c};

const NAME: &str = "falconer-shim";

/// The parent, if it is a shim.
fn shim() -> Result<i32, String> {
    let pid = c::getppid();
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim() == NAME { Ok(pid) } else { Err(format!("the parent {pid} is no {NAME} but {}", name.trim())) }
}

pub fn stopper() -> Stands {
    let shim = shim()?;
    in_a_session(|| ())?;
    c::kill(shim, c::SIGSTOP);
    Ok(())
}

pub fn killer() -> Stands {
    let shim = shim()?;
    in_a_session(|| ())?;
    c::kill(shim, c::SIGKILL);
    while c::getppid() == shim {
        std::thread::yield_now();
    }
    Ok(())
}

//! The processes that say of themselves which run they belong to: shims, by their arguments, and all that carries the
//! mark of a run in its environment, as that was when it was executed.
//!
//! Both are words of the process itself. They find what is to be looked at; what may be killed is decided by who made
//! the run. One look reads each process once, however many runs are asked for.

use std::os::unix::ffi::OsStrExt;

use camino::Utf8PathBuf;

use super::proc::{self, Stat};
use super::{records, shim};
use crate::id::RunId;

/// The variable that tells a child of a run where the host of the run is.
const DATA_DIR: &str = "FALCONER_DATA_DIR";

/// A process of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carrier {
    /// As it was seen.
    pub stat: Stat,
    /// The run.
    pub run: RunId,
    /// It is a shim; else it has the mark.
    pub is_shim: bool,
    /// The data directory that it names. Of a shim, only [`Carrier::data_dir`] knows.
    named: Option<Utf8PathBuf>,
}

impl Carrier {
    /// The data directory of its host, by its own word.
    #[must_use]
    pub fn data_dir(&self) -> Option<Utf8PathBuf> {
        if self.is_shim { records::held_by(self.stat.pid, self.run) } else { self.named.clone() }
    }
}

/// All of our user's (root: everybody's), but this process.
#[must_use]
pub fn all() -> Vec<Carrier> {
    let me = std::process::id();
    proc::all().iter().filter(|stat| stat.lives() && stat.pid != me && proc::is_ours(stat.pid)).filter_map(of).collect()
}

/// What a process says. The environment of a shim is empty, and so is that of the kernel's own threads.
#[must_use]
pub fn of(stat: &Stat) -> Option<Carrier> {
    let environ = environ(stat.pid)?;
    if environ.is_empty() {
        let run = shim_of(stat.pid)?;
        return Some(Carrier { stat: stat.clone(), run, is_shim: true, named: None });
    }
    let run = variable(&environ, proc::MARK)?.parse().ok()?;
    let named = variable(&environ, DATA_DIR).filter(|dir| dir.starts_with('/')).map(Utf8PathBuf::from);
    Some(Carrier { stat: stat.clone(), run, is_shim: false, named })
}

fn environ(pid: u32) -> Option<Vec<u8>> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    if !environ.is_empty() {
        return Some(environ);
    }
    // The first thread may have ended before the others; each of them shows the same.
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    Some(
        tasks
            .flatten()
            .find_map(|task| std::fs::read(task.path().join("environ")).ok().filter(|text| !text.is_empty()))
            .unwrap_or_default(),
    )
}

fn variable<'a>(environ: &'a [u8], name: &str) -> Option<&'a str> {
    let value = environ.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    std::str::from_utf8(value).ok()
}

/// The run whose shim this is.
fn shim_of(pid: u32) -> Option<RunId> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut args = line.split(|byte| *byte == 0).skip(1);
    if args.next()? != shim::COMMAND.as_bytes() {
        return None;
    }
    std::ffi::OsStr::from_bytes(args.next()?).to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environ = b"XFALCONER_DATA_DIR=/x\0FALCONER_DATA_DIRS=/y\0FALCONER_DATA_DIR=/d\0";
        assert_eq!(variable(environ, DATA_DIR), Some("/d"));
        assert_eq!(variable(b"", DATA_DIR), None);
        assert_eq!(variable(b"FALCONER_DATA_DIR=\xff\0", DATA_DIR), None);
    }
}

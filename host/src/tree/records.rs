//! The records of shims, as a host reads them after another one was lost.

use camino::{Utf8Path, Utf8PathBuf};

use super::shim::report::{Begun, Identity, Report, Why};
use super::{Ground, Seen, proc};
use crate::id::RunId;

/// The record of one child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What its host wrote.
    pub begun: Begun,
    /// Its shim; none: it started nothing.
    pub shim: Option<Identity>,
    /// The program; none: it was not started.
    pub started: Option<Identity>,
    /// Its end, where its tree is known to be empty.
    pub ended: Option<Ended>,
}

/// How a tree ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why its shim ended.
    pub why: Why,
    /// What that killed.
    pub killed: Vec<Seen>,
    /// How many.
    pub killed_total: u64,
}

impl Record {
    /// Reads one; none where not even its first line is whole.
    fn read(file: &Utf8Path) -> Option<Self> {
        let text = std::fs::read_to_string(file).ok()?;
        let mut lines = text.lines();
        let begun = serde_json::from_str(lines.next()?).ok()?;
        let mut record = Self { begun, shim: None, started: None, ended: None };
        for line in lines {
            match serde_json::from_str(line) {
                Ok(Report::Shim(shim)) => record.shim = Some(shim),
                Ok(Report::Started(program)) => record.started = Some(program),
                Ok(Report::Refused { .. }) => record.ended = Some(Ended { why: Why::Empty, killed: Vec::new(), killed_total: 0 }),
                Ok(Report::Ended { why, killed, killed_total }) => record.ended = Some(Ended { why, killed, killed_total }),
                Ok(Report::Exited(_) | Report::Stray { .. }) | Err(_) => {}
            }
        }
        Some(record)
    }

    /// Whether it is of a boot that is over: nothing of it can live.
    #[must_use]
    pub fn is_of_another_boot(&self, ground: &Ground) -> bool {
        !ground.boot().is_empty() && self.begun.boot != ground.boot()
    }
}

/// Whether this very process lives.
#[must_use]
pub fn lives(process: Identity) -> bool {
    proc::stat(process.pid).is_ok_and(|stat| stat.start == process.start && stat.lives())
}

/// Where the records of a run are.
#[must_use]
pub fn dir(ground: &Ground, run: RunId) -> Utf8PathBuf {
    ground.records().join(run.to_string())
}

/// The records of a run, in the order of their numbers.
#[must_use]
pub fn of(ground: &Ground, run: RunId) -> Vec<Record> {
    let mut files: Vec<Utf8PathBuf> =
        dir(ground, run).read_dir_utf8().into_iter().flatten().flatten().map(|entry| entry.into_path()).collect();
    files.sort_by_key(|file| file.file_name().and_then(|name| name.parse::<u64>().ok()));
    files.iter().filter_map(|file| Record::read(file)).collect()
}

/// The runs that have records.
#[must_use]
pub fn runs(ground: &Ground) -> Vec<RunId> {
    ground.records().read_dir_utf8().into_iter().flatten().flatten().filter_map(|entry| entry.file_name().parse().ok()).collect()
}

//! The records of shims, as a host reads them after another one was lost.
//!
//! A directory of records may hold anything: it is read without following links, without waiting (a pipe is no record),
//! and up to a size. What cannot be read is said to be so, and never taken for a run that had no process. A group is
//! taken from a record only where it is one that this host would have made for this very run.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Mode, OFlags, open, statfs};
use serde::{Deserialize, Serialize};

use super::cgroup::{Group, SHARED};
use super::shim::report::{Begun, Identity, Report, Why};
use super::{Ground, Seen};
use crate::id::RunId;

/// A record is some hundred bytes and at most [`super::shim::report::NAMED`] names; what is larger is none.
const MOST_BYTES: u64 = 1 << 20;
/// The file beside the records in which is noted what was killed from outside; its last whole line counts.
const KILLED: &str = "killed";
/// `CGROUP2_SUPER_MAGIC` (statfs(2)).
const CGROUP2: i64 = 0x6367_7270;

/// The record of one child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What its host wrote.
    pub begun: Begun,
    /// Its shim; none: it has not come to write of itself.
    pub shim: Option<Identity>,
    /// The program; none: it was not started, or that was not written.
    pub started: Option<Identity>,
    /// Its end, where its tree is known to be empty.
    pub ended: Option<Ended>,
    /// What somebody else ended of it, and how it is known that nothing is left.
    pub cleared: Option<Cleared>,
    /// Nothing follows the first line.
    pub is_bare: bool,
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

/// A run's leftovers were ended from outside, and nothing lives. In the last record of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// How that is known; also of the run's other records.
    pub by: Vec<String>,
    /// What was killed besides what the shims killed; at most [`super::shim::report::NAMED`].
    pub killed: Vec<Seen>,
    /// How many.
    pub killed_total: u64,
}

/// What was killed of a run from outside, whatever is known of its end. It proves nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// Besides what the shims killed; at most [`super::shim::report::NAMED`].
    pub killed: Vec<Seen>,
    /// How many.
    pub killed_total: u64,
}

/// The line of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Note {
    Cleared(Cleared),
}

/// The records of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// In the order of their numbers.
    pub list: Vec<Record>,
    /// The file of the last one.
    last: Option<Utf8PathBuf>,
    /// What should be a record and cannot be read as one, with the reason.
    pub unreadable: Vec<String>,
    /// What was noted as killed.
    pub killed: Killed,
    /// Their directory, where it is there and is one.
    place: Option<Utf8PathBuf>,
}

impl Records {
    /// Whether there is nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.unreadable.is_empty()
    }

    /// What was noted when its leftovers were ended.
    #[must_use]
    pub fn cleared(&self) -> Option<&Cleared> {
        self.list.iter().rev().find_map(|record| record.cleared.as_ref())
    }

    /// Notes what was killed in a file of its own beside the records; nowhere, where there is no directory of them.
    ///
    /// # Errors
    /// What open(2) and write(2) say; the receipt of the run's end will not name it then.
    pub fn note_killed(&self, killed: &Killed) -> io::Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(open(place.join(KILLED).as_std_path(), flags, Mode::RUSR | Mode::WUSR)?);
        let mut line = serde_json::to_vec(killed)?;
        line.insert(0, b'\n');
        line.push(b'\n');
        super::shim::report::append(&file, &line)
    }

    /// Notes it in the last record.
    ///
    /// # Errors
    /// What open(2) and write(2) say; nothing is known to the next host then but what it finds itself.
    pub fn note(&self, cleared: &Cleared) -> io::Result<()> {
        let Some(file) = &self.last else { return Ok(()) };
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(open(file.as_std_path(), flags, Mode::empty())?);
        let mut line = serde_json::to_vec(&Note::Cleared(cleared.clone()))?;
        // On a line of its own, whatever the last writer came to.
        line.insert(0, b'\n');
        line.push(b'\n');
        super::shim::report::append(&file, &line)
    }
}

impl Record {
    /// Reads the text of one. None: its host was lost while it wrote the first line, before anything was started.
    fn parse(text: &[u8]) -> Result<Option<Self>, String> {
        let Some((first, rest)) = text.iter().position(|byte| *byte == b'\n').map(|end| (&text[..end], &text[end + 1..])) else {
            return Ok(None);
        };
        let begun = serde_json::from_slice(first).map_err(|error| format!("its first line is none of a record: {error}"))?;
        let mut record = Self { begun, shim: None, started: None, ended: None, cleared: None, is_bare: rest.is_empty() };
        for line in rest.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Report::Shim(shim)) => record.shim = Some(shim),
                Ok(Report::Started(program)) => record.started = Some(program),
                Ok(Report::Refused { .. }) => record.ended = Some(Ended { why: Why::Empty, killed: Vec::new(), killed_total: 0 }),
                Ok(Report::Ended { why, killed, killed_total }) => record.ended = Some(Ended { why, killed, killed_total }),
                Ok(Report::Exited(_) | Report::Stray { .. }) => {}
                // A line that was torn tells nothing, and takes nothing back.
                Err(_) => {
                    if let Ok(Note::Cleared(cleared)) = serde_json::from_slice(line) {
                        record.cleared = Some(cleared);
                    }
                }
            }
        }
        Ok(Some(record))
    }

    /// Whether it is of a boot that is over: nothing of it can live.
    #[must_use]
    pub fn is_of_another_boot(&self, ground: &Ground) -> bool {
        !ground.boot().is_empty() && !self.begun.boot.is_empty() && self.begun.boot != ground.boot()
    }

    /// Its group, where a host on this ground would have made it for this run, and in this boot.
    #[must_use]
    pub fn group(&self, ground: &Ground) -> Option<Group> {
        let dir = self.begun.cgroup.as_deref().filter(|_| !self.is_of_another_boot(ground))?;
        let group = Group::recorded(dir).filter(|group| is_child_of(group.dir(), ground.tag(), self.begun.run))?;
        let there = group.dir().ancestors().find(|dir| dir.exists())?;
        // What was not made by the kernel is not asked, and nothing is written there.
        #[expect(clippy::unnecessary_cast, reason = "the type of the field is another one on other machines")]
        statfs(there).is_ok_and(|fs| fs.f_type as i64 == CGROUP2).then_some(group)
    }
}

/// Whether a path ends as that of a child's group: `falconer/TAG/RUN/cN`.
fn is_child_of(dir: &Path, tag: &str, run: RunId) -> bool {
    let parts: Vec<&str> =
        dir.components().rev().take(4).filter_map(|part| if let Component::Normal(part) = part { part.to_str() } else { None }).collect();
    let [child, of_run, of_host, shared] = parts[..] else { return false };
    let number = child.strip_prefix('c').is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    number && of_run == run.to_string() && of_host == tag && shared == SHARED
}

/// Where the records of a run are.
#[must_use]
pub fn dir(ground: &Ground, run: RunId) -> Utf8PathBuf {
    ground.records().join(run.to_string())
}

/// The records of a run.
#[must_use]
pub fn of(ground: &Ground, run: RunId) -> Records {
    let dir = dir(ground, run);
    let mut records = Records::default();
    let unreadable = |what: &dyn std::fmt::Display, why: &dyn std::fmt::Display| format!("{what}: {why}");
    match dir.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return records,
        Ok(meta) if !meta.is_dir() => {
            records.unreadable.push(unreadable(&dir, &"it is no directory"));
            return records;
        }
        Ok(_) | Err(_) => {}
    }
    let entries = match dir.as_std_path().read_dir() {
        Ok(entries) => entries,
        Err(error) => {
            records.unreadable.push(unreadable(&dir, &error));
            return records;
        }
    };
    records.killed = killed(&dir.join(KILLED));
    records.place = Some(dir.clone());
    // Other names are of nobody, and tell nothing.
    let mut numbers: Vec<u64> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    for number in numbers {
        let file = dir.join(number.to_string());
        match text(&file).map_err(|error| error.to_string()).and_then(|text| Record::parse(&text)) {
            Ok(Some(record)) if record.begun.run != run => {
                records.unreadable.push(unreadable(&file, &format!("it is of {}", record.begun.run)));
            }
            Ok(Some(record)) => {
                records.list.push(record);
                records.last = Some(file);
            }
            Ok(None) => {}
            Err(why) => records.unreadable.push(unreadable(&file, &why)),
        }
    }
    records
}

/// What is noted there. What cannot be read tells nothing: no proof hangs on it.
fn killed(file: &Utf8Path) -> Killed {
    let text = text(file).unwrap_or_default();
    text.split(|byte| *byte == b'\n').rev().find_map(|line| serde_json::from_slice(line).ok()).unwrap_or_default()
}

/// Makes the directory of a run's records where it has none, so that what is killed of it can be noted there.
///
/// # Errors
/// What mkdir(2) says.
pub fn keep(ground: &Ground, run: RunId) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir(ground, run))
}

/// The bytes of a file that is one.
fn text(file: &Utf8Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(file.as_std_path(), flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file"));
    }
    let mut text = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long for a record"));
    }
    Ok(text)
}

/// What a shim that lives says of itself by the record that it holds open: the data directory of its host, also where
/// that was removed, and whether it was.
#[must_use]
pub fn held_by(shim: u32, run: RunId) -> Option<Utf8PathBuf> {
    let fds = std::fs::read_dir(format!("/proc/{shim}/fd")).ok()?;
    fds.flatten().find_map(|fd| {
        let target = Utf8PathBuf::from_path_buf(std::fs::read_link(fd.path()).ok()?).ok()?;
        let target = target.as_str().strip_suffix(" (deleted)").unwrap_or(target.as_str());
        let (of_run, number) = target.rsplit_once('/')?;
        number.parse::<u64>().ok()?;
        let records = of_run.strip_suffix(&run.to_string())?.strip_suffix('/')?;
        Utf8Path::new(records)
            .parent()
            .filter(|_| Utf8Path::new(records).file_name() == Some(super::ground::RECORDS))
            .map(Utf8Path::to_owned)
    })
}

/// The runs that have records.
#[must_use]
pub fn runs(ground: &Ground) -> Vec<RunId> {
    let mut runs: Vec<RunId> = names(ground).filter_map(|(name, is_dir)| name.parse().ok().filter(|_| is_dir)).collect();
    runs.sort_unstable();
    runs
}

/// What is among the records and belongs to none.
#[must_use]
pub fn strangers(ground: &Ground) -> Vec<String> {
    let mut names: Vec<String> =
        names(ground).filter(|(name, is_dir)| !is_dir || name.parse::<RunId>().is_err()).map(|(name, _)| name).collect();
    names.sort_unstable();
    names
}

fn names(ground: &Ground) -> impl Iterator<Item = (String, bool)> {
    // A directory that is not ours to read has no records of ours.
    let entries = ground.records().as_std_path().read_dir().into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.file_type().is_ok_and(|kind| kind.is_dir())))
}

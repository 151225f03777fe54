//! Whose the runs are of which something lives on this machine: this host's, another's, or nobody's.
//!
//! Looks only. A run that this host has no word of is taken for its own only where all of its processes name its data
//! directory, in the same tree of mounts; so that nothing is ended on the word of one process that another host holds.
//! Nobody's are those whose data directory is gone and whose processes no host is above of.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};

use super::carriers::Carrier;
use super::{Seen, proc};
use crate::id::RunId;

/// Whose a run is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// This data directory's.
    Ours,
    /// That of another one. It is there, or cannot be seen from here.
    Anothers(Utf8PathBuf),
    /// The data directory is gone, and no host can be there.
    Nobodys(Utf8PathBuf),
    /// The data directory is gone, and this process still holds the run.
    Held(Utf8PathBuf, Seen),
    /// Its processes do not say, or do not agree.
    Unknown,
}

/// Sorts the runs of these processes. `known`: this host knows the run by itself. `lock`: the name of the lock in a data
/// directory.
#[must_use]
pub fn sort(carriers: &[Carrier], data_dir: &Utf8Path, lock: &str, known: impl Fn(RunId) -> bool) -> BTreeMap<RunId, Whose> {
    let mut runs: BTreeMap<RunId, Vec<&Carrier>> = BTreeMap::new();
    for carrier in carriers {
        runs.entry(carrier.run).or_default().push(carrier);
    }
    runs.into_iter()
        .map(|(run, carriers)| {
            let whose = if known(run) { Whose::Ours } else { whose(&carriers, data_dir, lock) };
            (run, whose)
        })
        .collect()
}

/// Of a run that this host has no word of.
fn whose(carriers: &[&Carrier], data_dir: &Utf8Path, lock: &str) -> Whose {
    let words: BTreeSet<Utf8PathBuf> = carriers.iter().filter_map(|carrier| carrier.data_dir()).collect();
    let mut words = words.into_iter();
    let (Some(dir), None) = (words.next(), words.next()) else { return Whose::Unknown };
    // A path of another tree of mounts names another directory, or none that can be seen from here.
    let mounts = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let here = mounts(std::process::id());
    if here.is_none() || carriers.iter().any(|carrier| mounts(carrier.stat.pid) != here) {
        return Whose::Anothers(dir);
    }
    if is_same(&dir, data_dir) {
        return Whose::Ours;
    }
    match dir.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match host_above(carriers).or_else(|| holds(&dir.join(lock))) {
            Some(holder) => Whose::Held(dir, holder),
            None => Whose::Nobodys(dir),
        },
        _ => Whose::Anothers(dir),
    }
}

fn is_same(one: &Utf8Path, other: &Utf8Path) -> bool {
    let identity = |dir: &Utf8Path| std::fs::metadata(dir).ok().map(|meta| (meta.dev(), meta.ino()));
    one == other || identity(one).is_some_and(|found| Some(found) == identity(other))
}

/// The living process above the topmost of these, unless it is the one to which the system gives orphans.
fn host_above(carriers: &[&Carrier]) -> Option<Seen> {
    let of_run: BTreeSet<u32> = carriers.iter().map(|carrier| carrier.stat.pid).collect();
    of_run.iter().find_map(|pid| {
        let chain: Vec<u32> = proc::with_ancestors(*pid).collect();
        let top = chain.iter().rposition(|pid| of_run.contains(pid))?;
        let above = proc::stat(*chain.get(top + 1)?).ok()?;
        // The first process, and the manager of a user's session.
        (above.pid > 1 && above.name != "systemd").then_some(Seen { pid: above.pid, name: above.name })
    })
}

/// Who has this file open, which is not there any more.
fn holds(file: &Utf8Path) -> Option<Seen> {
    let wanted = format!("{file} (deleted)");
    proc::all().into_iter().find_map(|stat| {
        let mut fds = std::fs::read_dir(format!("/proc/{}/fd", stat.pid)).ok()?.flatten();
        let has = fds.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()));
        has.then_some(Seen { pid: stat.pid, name: stat.name })
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::super::carriers;
    use super::*;

    /// A process that ends with its test.
    struct Guarded(Child);

    impl Drop for Guarded {
        fn drop(&mut self) {
            // Another test of this process may reap it first, as an orphan.
            let _ = (self.0.kill(), self.0.wait());
        }
    }

    fn start(run: RunId, dir: Option<&str>) -> Guarded {
        let mut command = Command::new("/bin/sleep");
        command.arg("3000").env_clear().env(proc::MARK, run.to_string()).stdin(Stdio::null());
        if let Some(dir) = dir {
            command.env("FALCONER_DATA_DIR", dir);
        }
        Guarded(command.spawn().unwrap())
    }

    #[test]
    fn runs_are_sorted_by_the_words_of_all_their_processes() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dir = |temp: &tempfile::TempDir| temp.path().to_str().unwrap().to_owned();
        let linked = there.path().join("link");
        std::os::unix::fs::symlink(here.path(), &linked).unwrap();
        let [ours, by_link, theirs, silent, torn, known, gone] = std::array::from_fn(|_| RunId::random());
        let children = [
            start(ours, Some(&dir(&here))),
            start(by_link, linked.to_str()),
            start(theirs, Some(&dir(&there))),
            start(silent, None),
            start(torn, Some(&dir(&here))),
            start(torn, Some(&dir(&there))),
            start(known, Some(&dir(&there))),
            start(gone, Some("/nowhere/at/all")),
        ];
        let own = Utf8PathBuf::from(dir(&here));
        let wanted = [ours, by_link, theirs, silent, torn, known, gone];
        let end_at = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let sorted = loop {
            let carriers: Vec<Carrier> = carriers::all().into_iter().filter(|carrier| wanted.contains(&carrier.run)).collect();
            if carriers.len() == children.len() {
                break sort(&carriers, &own, "daemon.lock", |run| run == known);
            }
            assert!(std::time::Instant::now() < end_at, "{carriers:?}");
        };
        assert_eq!(sorted[&ours], Whose::Ours);
        assert_eq!(sorted[&by_link], Whose::Ours);
        assert_eq!(sorted[&theirs], Whose::Anothers(dir(&there).into()));
        assert_eq!(sorted[&silent], Whose::Unknown);
        assert_eq!(sorted[&torn], Whose::Unknown, "one of its processes names another host");
        assert_eq!(sorted[&known], Whose::Ours, "whatever it says");
        assert!(
            matches!(&sorted[&gone], Whose::Held(dir, holder) if dir == "/nowhere/at/all" && holder.pid == std::process::id()),
            "this test is above it: {:?}",
            sorted[&gone]
        );
    }

    #[test]
    fn who_holds_a_removed_file_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(temp.path().join("daemon.lock")).unwrap();
        let file = std::fs::File::create(&path).unwrap();
        assert_eq!(holds(&path), None, "it is there");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(holds(&path).map(|seen| seen.pid), Some(std::process::id()));
        drop(file);
        assert_eq!(holds(&path), None);
    }
}

//! A host's own group within the shared one: made, and held by a lock (`flock(2)` on its directory) for as long as the host
//! lives. What nobody holds is of a host that is gone, and whoever comes next takes it away where nothing is in it.
//!
//! A host whose lock another user keeps busy goes on without it: only its own user, or root, could take its group away then,
//! and those find the lock busy, too.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

use super::{Group, is_gone};

/// What the names of hosts' groups begin with: of hosts, and of `falconer check`.
const TAGS: [&str; 2] = ["host-", "check-"];
/// How often a group is made or locked again, when somebody takes it away or looks at it at that moment.
const TRIES: u32 = 100;
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(2);

/// A group that is held. Clones hold it together.
#[derive(Debug, Clone)]
pub struct Place {
    dir: PathBuf,
    /// Closed by the kernel however the host ends.
    _lock: Option<Arc<File>>,
}

impl Place {
    /// Makes a group, and all above it, and holds it. What is free beside it is taken away.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn make(dir: &Path) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        let mut lock = None;
        for _ in 0..TRIES {
            match hold(dir) {
                Ok(Some(file)) => {
                    lock = Some(Arc::new(file));
                    break;
                }
                // Another host looks whether it is free.
                Ok(None) => {}
                Err(error) if is_taken_away(&error) => last = error,
                Err(error) => return Err(error),
            }
            std::thread::sleep(AGAIN);
        }
        if lock.is_none() && !dir.exists() {
            return Err(last);
        }
        sweep_beside(dir);
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Makes a directory and all above it.
pub fn make_all(dir: &Path) -> io::Result<()> {
    let mut result = std::fs::create_dir_all(dir);
    for _ in 1..TRIES {
        match &result {
            Err(error) if is_taken_away(error) => result = std::fs::create_dir_all(dir),
            _ => break,
        }
    }
    result
}

/// Takes a place away where it is empty, and the shared group where it was the last in it. One that is held stays.
pub fn remove_if_free(dir: &Path) {
    let Some(_lock) = free(dir) else { return };
    remove(dir);
}

/// The same for who holds it.
pub fn remove(dir: &Path) {
    if std::fs::remove_dir(dir).is_ok()
        && let Some(shared) = dir.parent()
    {
        let _ = std::fs::remove_dir(shared);
    }
}

/// What making says while another host takes the group, or the shared one, away: it was not there any more, or was still
/// there and is no more.
fn is_taken_away(error: &io::Error) -> bool {
    is_gone(error) || error.kind() == io::ErrorKind::AlreadyExists
}

/// Makes it and locks it; none where somebody has it at this moment, or has taken it away meanwhile.
fn hold(dir: &Path) -> io::Result<Option<File>> {
    make_all(dir)?;
    let file = File::open(dir)?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    Ok(is_at(&file, dir).then_some(file))
}

/// Whether this is still what is there: it may have been taken away, and made anew, before it was locked.
fn is_at(file: &File, dir: &Path) -> bool {
    matches!((std::fs::metadata(dir), file.metadata()), (Ok(there), Ok(opened)) if there.ino() == opened.ino() && there.dev() == opened.dev())
}

/// A lock on a place that nobody holds and that is ours to take away.
fn free(dir: &Path) -> Option<File> {
    let file = File::open(dir).ok()?;
    let is_ours = file.metadata().is_ok_and(|meta| meta.uid() == geteuid().as_raw());
    let is_free = is_ours && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && is_at(&file, dir);
    is_free.then_some(file)
}

/// Takes away what is empty of the hosts that are gone. What has processes stays.
fn sweep_beside(own: &Path) {
    let Some(shared) = own.parent() else { return };
    for entry in std::fs::read_dir(shared).into_iter().flatten().flatten() {
        let dir = entry.path();
        if dir != own
            && is_tag(&entry.file_name())
            && let Some(_lock) = free(&dir)
        {
            let _ = Group { dir }.remove();
        }
    }
}

fn is_tag(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| TAGS.iter().any(|tag| name.starts_with(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does it until it is so: what another test is just starting has a copy of each lock until its execve.
    fn until(so: impl Fn() -> bool, again: impl Fn()) {
        let begin = std::time::Instant::now();
        while !so() && begin.elapsed() < std::time::Duration::from_secs(60) {
            std::thread::sleep(std::time::Duration::from_millis(5));
            again();
        }
    }

    #[test]
    fn places_of_hosts_that_are_gone_are_taken_away_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let shared = root.path().join("falconer");
        let gone = Place::make(&shared.join("host-gone")).unwrap();
        std::fs::create_dir_all(gone.dir().join("run_x/c0")).unwrap();
        drop(gone);
        let full = Place::make(&shared.join("host-full")).unwrap();
        std::fs::write(full.dir().join("pids"), "1").unwrap();
        drop(full);
        std::fs::create_dir(shared.join("daemons")).unwrap();
        let living = Place::make(&shared.join("host-living")).unwrap();
        let own = Place::make(&shared.join("host-own")).unwrap();
        until(|| !shared.join("host-gone").exists(), || sweep_beside(own.dir()));
        let mut left: Vec<_> = std::fs::read_dir(&shared).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["daemons", "host-full", "host-living", "host-own"]);
        remove_if_free(living.dir());
        assert!(living.dir().exists(), "it is held");
        let again = living.clone();
        drop(living);
        remove_if_free(again.dir());
        assert!(again.dir().exists(), "it is held still");
        let dir = again.dir().to_owned();
        drop(again);
        until(|| !dir.exists(), || remove_if_free(&dir));
        assert!(!dir.exists() && own.dir().exists());
    }

    #[test]
    fn places_are_made_and_held_while_others_are_swept() {
        let root = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for host in 0..4 {
                let dir = root.path().join(format!("falconer/host-{host}"));
                scope.spawn(move || {
                    for round in 0..50 {
                        let place = Place::make(&dir).unwrap();
                        std::fs::create_dir(place.dir().join("run")).unwrap();
                        std::fs::remove_dir(place.dir().join("run")).unwrap();
                        if round % 2 == 0 {
                            remove(place.dir());
                        }
                    }
                });
            }
        });
    }
}

//! Who owns a data directory: an exclusive `flock(2)` on a file in it, not a pid file.
//!
//! The lock belongs to the open file, so it can be handed to a child process, and it is gone with the last process
//! that has the file open, however that process ends. The file itself is never removed (a lock on a removed file would
//! let two owners in). The pid in it is for people.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use camino::Utf8Path;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::LOCK_FILE;

/// The lock of a data directory, held until this and every inherited copy is closed.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, or gives `None` where another process has it. The directory must exist.
    ///
    /// # Errors
    /// What open(2) or flock(2) say.
    pub fn try_take(dir: &Utf8Path) -> io::Result<Option<Self>> {
        let file = open(dir)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes over a lock that another process took and handed on.
    ///
    /// # Errors
    /// When the file is not this directory's lock, or the lock is not held by it.
    pub fn inherited(fd: OwnedFd, dir: &Utf8Path) -> io::Result<Self> {
        let file = File::from(fd);
        let (ours, named) = (file.metadata()?, std::fs::metadata(dir.join(LOCK_FILE))?);
        if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) {
            return Err(io::Error::other("the inherited file is not the lock of this data directory"));
        }
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { file })
    }

    /// Writes this process' id into the file.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn sign(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        writeln!(self.file, "{}", std::process::id())
    }

    /// The open file, to be handed to a child.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }
}

/// The process id that the last owner wrote; it proves nothing.
#[must_use]
pub fn last_owner(dir: &Utf8Path) -> Option<u32> {
    let mut text = String::new();
    File::open(dir.join(LOCK_FILE)).ok()?.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether nobody owns the directory. Writes nothing: where there is no lock file, nobody ever owned it. Holds the lock
/// for a moment where it is free; a start that meets this tries again.
///
/// # Errors
/// What open(2) or flock(2) say.
pub fn is_free(dir: &Utf8Path) -> io::Result<bool> {
    let file = match File::open(dir.join(LOCK_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn open(dir: &Utf8Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(dir.join(LOCK_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        assert!(is_free(dir).unwrap() && is_free(&dir.join("missing")).unwrap());
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "a look writes nothing");
        let mut first = Lock::try_take(dir).unwrap().unwrap();
        first.sign().unwrap();
        assert_eq!(last_owner(dir), Some(std::process::id()));
        assert!(Lock::try_take(dir).unwrap().is_none());
        assert!(!is_free(dir).unwrap());
        drop(first);
        assert!(Lock::try_take(dir).unwrap().is_some());
    }

    #[test]
    fn a_lock_is_handed_on_with_its_file_and_no_other_file_is_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let file = Lock::try_take(dir).unwrap().unwrap().into_file();
        let copy = file.try_clone().unwrap();
        drop(file);
        assert!(!is_free(dir).unwrap());
        let lock = Lock::inherited(copy.into(), dir).unwrap();
        assert!(!is_free(dir).unwrap());
        drop(lock);
        let other = File::create(dir.join("other")).unwrap();
        assert!(Lock::inherited(other.into(), dir).is_err());
    }
}

//! Large values as files, named by the SHA-256 of their bytes.
//!
//! `artifacts/ab/abcdef…` in the data directory, each 0600. A value is written to `artifacts/tmp`, on the same file
//! system, and renamed when it is whole, so a name never stands for half a value. Bytes are written by whoever has
//! them, and the ledger takes only rows. A file that stands under a name but has other bytes (planted, or cut off by a
//! crash) is replaced, never believed. Reading checks no hash: that would read all of it for every piece.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, OFlags, flock};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::LedgerError;
use super::failure::disk;
use super::schema::{private_dir, sync_dir};

/// The folder in the data directory.
const FOLDER: &str = "artifacts";
/// The folder in that for what is not finished. No artifact's folder has this name: those are two hex digits.
const UNFINISHED: &str = "tmp";
/// Bytes read at once where a whole file is read.
const PIECE: usize = 64 << 10;

/// Where a data directory keeps its artifacts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifacts {
    root: Arc<Utf8Path>,
}

/// A finished artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// How many bytes.
    pub size: u64,
}

/// An artifact being written: into a temporary file beside its place, renamed when it is sealed. Dropping it unsealed
/// removes the file. Its calls write to the disk, and so may block for as long as that takes.
pub struct Spool {
    root: Arc<Utf8Path>,
    file: NamedTempFile,
    hash: Sha256,
    size: u64,
    /// Why the file is not what was written.
    failed: Option<LedgerError>,
}

impl Artifacts {
    /// Opens or makes the folder in a data directory, and removes what an earlier host left unfinished.
    pub fn open(data_dir: &Utf8Path) -> Result<Self, LedgerError> {
        let root = data_dir.join(FOLDER);
        let unfinished = root.join(UNFINISHED);
        private_dir(data_dir)?;
        private_dir(&root)?;
        private_dir(&unfinished)?;
        let entries = unfinished.read_dir_utf8().map_err(|error| disk("reading", &unfinished, &error))?;
        for entry in entries.flatten() {
            // What is locked is being written.
            let left = File::open(entry.path()).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
            if left && let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(path = %entry.path(), %error, "an unfinished artifact could not be removed");
            }
        }
        // A folder that was made just before a crash may not be durable yet.
        sync_dir(&root)?;
        Ok(Self { root: root.into() })
    }

    /// Begins an artifact.
    pub fn spool(&self) -> Result<Spool, LedgerError> {
        let folder = self.root.join(UNFINISHED);
        // 0600, as every file of this crate.
        let file = NamedTempFile::new_in(&folder)
            .and_then(|file| {
                flock(&file, FlockOperation::NonBlockingLockExclusive)?;
                Ok(file)
            })
            .map_err(|error| disk("making a file in", &folder, &error))?;
        Ok(Spool { root: Arc::clone(&self.root), file, hash: Sha256::new(), size: 0, failed: None })
    }

    /// Writes one in one go, synchronised: it is on disk when this returns.
    pub fn put(&self, bytes: &[u8]) -> Result<Stored, LedgerError> {
        let stored = Stored { sha256: hex(&Sha256::digest(bytes)), size: bytes.len() as u64 };
        if !holds(&place(&self.root, &stored.sha256), &stored) {
            let mut spool = self.spool()?;
            spool.write(bytes)?;
            spool.seal()?;
        }
        // Also where it was there before: whoever wrote it may not have come to this.
        self.sync(&stored.sha256)?;
        Ok(stored)
    }

    /// Makes a sealed spool durable (fsync of file and folder); done before an event names it.
    pub fn sync(&self, sha256: &str) -> Result<(), LedgerError> {
        let path = self.path(sha256).ok_or_else(|| LedgerError::NoArtifact(sha256.to_owned()))?;
        open(&path).and_then(|file| file.sync_all()).map_err(|error| disk("synchronising", &path, &error))?;
        path.parent().map_or(Ok(()), sync_dir)
    }

    /// The file of an artifact, if it is there.
    #[must_use]
    pub fn path(&self, sha256: &str) -> Option<Utf8PathBuf> {
        if !is_sha256(sha256) {
            return None;
        }
        let path = place(&self.root, sha256);
        path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()).then_some(path)
    }

    /// Reads a piece: fewer bytes than asked for only at the end.
    pub fn read(&self, sha256: &str, offset: u64, max: u32) -> Result<Vec<u8>, LedgerError> {
        let path = self.path(sha256).ok_or_else(|| LedgerError::NoArtifact(sha256.to_owned()))?;
        let read = || {
            let file = open(&path)?;
            let left = file.metadata()?.len().saturating_sub(offset);
            let mut bytes = vec![0; usize::try_from(left.min(u64::from(max))).unwrap_or_default()];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        read().map_err(|error: io::Error| disk("reading", &path, &error))
    }
}

impl Spool {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if let Err(error) = self.file.write_all(bytes) {
            let failed = disk("writing an artifact below", &self.root, &error);
            self.failed = Some(failed.clone());
            return Err(failed);
        }
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes there are so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Names it by its content. It is durable after [`Artifacts::sync`].
    pub fn seal(self) -> Result<Stored, LedgerError> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let stored = Stored { sha256: hex(&self.hash.finalize()), size: self.size };
        let path = place(&self.root, &stored.sha256);
        // What is there and right may be durable already; it stays, and the new file goes.
        if !holds(&path, &stored) {
            make_folder(&self.root, &path)?;
            self.file.persist(&path).map_err(|error| disk("naming", &path, &error.error))?;
        }
        Ok(stored)
    }
}

fn place(root: &Utf8Path, sha256: &str) -> Utf8PathBuf {
    root.join(&sha256[..2]).join(sha256)
}

fn make_folder(root: &Utf8Path, path: &Utf8Path) -> Result<(), LedgerError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => sync_dir(root),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(disk("making", folder, &error)),
    }
}

/// Whether the file is there with these bytes. Its mode is mended on the way.
fn holds(path: &Utf8Path, stored: &Stored) -> bool {
    let same = || {
        let mut file = open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() != stored.size {
            return Ok(false);
        }
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece)? {
                0 => break,
                count => hash.update(&piece[..count]),
            }
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok::<_, io::Error>(hex(&hash.finalize()) == stored.sha256)
    };
    same().unwrap_or(false)
}

/// Never through a link, and never waiting for the other end of a pipe.
fn open(path: &Utf8Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

//! Large values as files, named by the SHA-256 of their bytes.

use camino::{Utf8Path, Utf8PathBuf};

use super::LedgerError;

/// Where a data directory keeps its artifacts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifacts {}

/// A finished artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// How many bytes.
    pub size: u64,
}

/// An artifact being written: into a temporary file beside its place, renamed when it is sealed.
pub struct Spool {}

impl Artifacts {
    /// Opens or makes the folder.
    pub fn open(_dir: &Utf8Path) -> Result<Self, LedgerError> {
        unimplemented!()
    }
    /// Begins an artifact.
    pub fn spool(&self) -> Result<Spool, LedgerError> {
        unimplemented!()
    }
    /// Writes one in one go, synchronised: it is on disk when this returns.
    pub fn put(&self, _bytes: &[u8]) -> Result<Stored, LedgerError> {
        unimplemented!()
    }
    /// Makes a sealed spool durable (fsync of file and folder); done before an event names it.
    pub fn sync(&self, _sha256: &str) -> Result<(), LedgerError> {
        unimplemented!()
    }
    /// The file of an artifact, if it is there.
    #[must_use]
    pub fn path(&self, _sha256: &str) -> Option<Utf8PathBuf> {
        unimplemented!()
    }
    /// Reads a piece: fewer bytes than asked for only at the end.
    pub fn read(&self, _sha256: &str, _offset: u64, _max: u32) -> Result<Vec<u8>, LedgerError> {
        unimplemented!()
    }
}

impl Spool {
    /// Adds bytes.
    pub fn write(&mut self, _bytes: &[u8]) -> Result<(), LedgerError> {
        unimplemented!()
    }
    /// Names it by its content.
    pub fn seal(self) -> Result<Stored, LedgerError> {
        unimplemented!()
    }
}

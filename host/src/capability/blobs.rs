//! Large values, for components: inputs to read by pieces, outputs to spool.
//!
//! A component reads what its run was given and what it wrote itself, nothing else. Sealed blobs are in the page
//! cache; they are synchronised before an event names them, by whoever writes the event.

use std::os::unix::fs::FileExt;

use camino::Utf8Path;
use wasmtime::component::Resource;

use super::{Granted, Host, limits};
use crate::contract::falconer::backend::{blobs, types};
use crate::fault::code;
use crate::ledger::artifact::Spool;

/// Blob writers that one component may hold at once; each has an open file.
pub const OPEN_WRITERS: usize = 16;

/// A blob being written.
pub struct Writer {
    /// None: it was sealed, or could not be written.
    spool: Option<Spool>,
}

fn failure(code: &'static str, message: impl Into<String>) -> types::Failure {
    types::Failure { code: code.into(), message: message.into(), retryable: false, hint: None }
}

fn refused() -> types::Failure {
    failure(code::NOT_ALLOWED, "nothing may be asked of the host here")
}

impl Granted {
    fn read_blob(&self, id: &str, offset: u64, max: u32) -> Result<Vec<u8>, types::Failure> {
        let max = max.min(u32::try_from(limits::READ).unwrap_or(u32::MAX));
        let broken = |error: &dyn std::fmt::Display| failure(code::LEDGER_FAILED, format!("the blob `{id}` cannot be read: {error}"));
        if let Some(file) = self.setup.inputs.get(id) {
            read_file(&file, offset, max).map_err(|error| broken(&error))
        } else if self.setup.sealed.contains(id) {
            self.setup.artifacts.read(id, offset, max).map_err(|error| broken(&error))
        } else {
            Err(failure(code::UNKNOWN_ARTIFACT, format!("no blob of this run has the id `{}`", id.escape_default())))
        }
    }
}

fn read_file(file: &Utf8Path, offset: u64, max: u32) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::open(file)?;
    let mut bytes = vec![0; max as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

impl blobs::Host for Host {
    fn read(&mut self, id: String, offset: u64, max: u32) -> wasmtime::Result<Result<Vec<u8>, types::Failure>> {
        limits::name("the id of a blob", &id)?;
        let Some(granted) = &self.granted else { return Ok(Err(refused())) };
        Ok(granted.read_blob(&id, offset, max))
    }

    fn create(&mut self) -> wasmtime::Result<Result<Resource<Writer>, types::Failure>> {
        let Some(granted) = &mut self.granted else { return Ok(Err(refused())) };
        if granted.writers >= OPEN_WRITERS {
            return Ok(Err(failure(code::LIMIT_REACHED, format!("{OPEN_WRITERS} blobs are being written; seal or drop one first"))));
        }
        let spool = match granted.setup.artifacts.spool() {
            Ok(spool) => spool,
            Err(error) => return Ok(Err(failure(code::LEDGER_FAILED, format!("a blob cannot be made: {error}")))),
        };
        granted.writers += 1;
        Ok(Ok(self.keep(Writer { spool: Some(spool) })?))
    }
}

impl blobs::HostWriter for Host {
    fn write(&mut self, writer: Resource<Writer>, bytes: Vec<u8>) -> wasmtime::Result<Result<(), types::Failure>> {
        let held = self.table.get_mut(&writer)?;
        let Some(granted) = &mut self.granted else { return Ok(Err(refused())) };
        let Some(spool) = &mut held.spool else { return Ok(Err(failure("blob_sealed", "the blob was sealed, or failed before"))) };
        let size = bytes.len() as u64;
        if size > granted.blob_budget {
            let most = granted.setup.blob_bytes;
            return Ok(Err(failure(code::OUTPUT_EXCEEDED, format!("the run may write {most} bytes to blobs, and has written them"))));
        }
        if let Err(error) = spool.write(&bytes) {
            held.spool = None;
            return Ok(Err(failure(code::LEDGER_FAILED, format!("a blob cannot be written: {error}"))));
        }
        granted.blob_budget -= size;
        Ok(Ok(()))
    }

    fn seal(&mut self, writer: Resource<Writer>) -> wasmtime::Result<Result<String, types::Failure>> {
        let Some(spool) = self.table.get_mut(&writer)?.spool.take() else {
            return Ok(Err(failure("blob_sealed", "the blob was sealed, or failed before")));
        };
        let Some(granted) = &mut self.granted else { return Ok(Err(refused())) };
        match spool.seal() {
            Ok(stored) => {
                granted.setup.sealed.insert(stored.sha256.clone());
                Ok(Ok(stored.sha256))
            }
            Err(error) => Ok(Err(failure(code::LEDGER_FAILED, format!("a blob cannot be sealed: {error}")))),
        }
    }

    fn drop(&mut self, writer: Resource<Writer>) -> wasmtime::Result<()> {
        self.table.delete(writer)?;
        if let Some(granted) = &mut self.granted {
            granted.writers = granted.writers.saturating_sub(1);
        }
        Ok(())
    }
}

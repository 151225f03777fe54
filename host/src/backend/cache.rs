//! Compiled components and descriptions on disk, so that a start compiles nothing.
//!
//! Compiled code is machine code that runs in this process, so nothing is loaded from here that this user's falconer
//! did not put here. The folder must be ours and 0700, and each file begins with an HMAC-SHA256 over its name and its
//! bytes, made with a random key that lies beside it (0600). What was planted, renamed, cut short or written with
//! another key is not loaded but made again. A file is read whole, checked, and used from memory: nothing can be put
//! in its place in between. (Who can read the key can act as this user anyway.)
//!
//! Every failure here only costs time: without a cache, components are compiled at each start.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};

/// The key's file.
const KEY_FILE: &str = "key";
/// Length of key and seal.
const SEAL_BYTES: usize = 32;
/// Files that are kept; the oldest go first.
const FILES: usize = 64;
/// The largest file that is read.
const FILE_BYTES: u64 = 1 << 30;
/// In every seal, so that the key is good for nothing else.
const PURPOSE: &[u8] = b"falconer compiled component 1\0";

/// What is kept for a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Machine code.
    Code,
    /// What `describe` said.
    Description,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    dir: Utf8PathBuf,
    /// Compiled code fits only an engine with these settings, this wasmtime and this processor.
    engine: String,
    /// One writer at a time in this process; between processes, renaming decides.
    writing: Mutex<()>,
}

impl Cache {
    /// A cache in this folder, which is made when something is put there.
    pub(super) fn open(dir: &Utf8Path, engine: &wasmtime::Engine) -> Self {
        let mut hasher = Sha(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        Self { dir: dir.to_owned(), engine: hex(&hasher.0.finalize()[..8]), writing: Mutex::new(()) }
    }

    /// What was kept for a component of this digest, if it is whole and ours.
    pub(super) fn get(&self, kind: Kind, digest: &str) -> Option<Vec<u8>> {
        let name = self.name(kind, digest);
        match self.read(&name) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("the cache {} is not used: {error}", self.dir);
                None
            }
        }
    }

    /// Keeps it. A failure is logged and costs nothing but a later compilation.
    pub(super) fn put(&self, kind: Kind, digest: &str, bytes: &[u8]) {
        let name = self.name(kind, digest);
        if let Err(error) = self.write(&name, bytes) {
            tracing::warn!("{name} could not be kept in the cache {}: {error}", self.dir);
        }
    }

    fn name(&self, kind: Kind, digest: &str) -> String {
        let end = match kind {
            Kind::Code => "cwasm",
            Kind::Description => "json",
        };
        format!("{digest}-{}.{end}", self.engine)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        if !self.dir.as_std_path().try_exists()? {
            return Ok(None);
        }
        self.check_dir()?;
        let Some(key) = self.key()? else { return Ok(None) };
        let file = match own(&self.dir.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0));
        file.take(FILE_BYTES).read_to_end(&mut bytes)?;
        if bytes.len() < SEAL_BYTES || !same(&seal(&key, name, &bytes[SEAL_BYTES..]), &bytes[..SEAL_BYTES]) {
            tracing::warn!("{} was not written by this falconer, or is damaged; it is made anew", self.dir.join(name));
            return Ok(None);
        }
        bytes.drain(..SEAL_BYTES);
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_dir()?;
        let key = match self.key()? {
            Some(key) => key,
            None => self.make_key()?,
        };
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.dir)?;
        file.write_all(&seal(&key, name, bytes))?;
        file.write_all(bytes)?;
        file.persist(self.dir.join(name)).map_err(|failed| failed.error)?;
        self.prune()
    }

    /// The folder is made 0700, or taken if it is ours; what others could write to is not used.
    fn make_dir(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let found = fs::symlink_metadata(&self.dir)?;
        if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 != 0 {
            if found.mode() & 0o022 != 0 {
                // Anybody may have put anything here until now.
                for entry in fs::read_dir(&self.dir)? {
                    fs::remove_file(entry?.path())?;
                }
            }
            fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))?;
        }
        self.check_dir()
    }

    fn check_dir(&self) -> io::Result<()> {
        let found = fs::symlink_metadata(&self.dir)?;
        if !found.is_dir() {
            return Err(io::Error::other("it is no directory"));
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to another user"));
        }
        if found.mode() & 0o077 != 0 {
            return Err(io::Error::other(format!("its mode is {:o}, not 0700", found.mode() & 0o7777)));
        }
        Ok(())
    }

    /// The key; none if there is none that is fit to be used.
    fn key(&self) -> io::Result<Option<[u8; SEAL_BYTES]>> {
        let file = match own(&self.dir.join(KEY_FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.metadata()?.mode() & 0o077 != 0 {
            return Ok(None);
        }
        let mut key = Vec::new();
        file.take(SEAL_BYTES as u64 + 1).read_to_end(&mut key)?;
        Ok(key.try_into().ok())
    }

    /// Makes a key, unless another process was faster. What was sealed with a key that is lost is made anew.
    fn make_key(&self) -> io::Result<[u8; SEAL_BYTES]> {
        let path = self.dir.join(KEY_FILE);
        gone(fs::remove_file(&path))?;
        let mut key = [0; SEAL_BYTES];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        // A temporary file is 0600 from the first.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.dir)?;
        file.write_all(&key)?;
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(key),
            Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => {
                self.key()?.ok_or_else(|| io::Error::other("another falconer's key is not fit to be used"))
            }
            Err(failed) => Err(failed.error),
        }
    }

    fn prune(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, std::path::PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name() != KEY_FILE
                && let Ok(found) = entry.metadata()
            {
                files.push((found.modified()?, entry.path()));
            }
        }
        files.sort_unstable();
        let over = files.len().saturating_sub(FILES);
        for (_, path) in files.into_iter().take(over) {
            gone(fs::remove_file(path))?;
        }
        Ok(())
    }
}

/// Removing what another falconer removed at the same time is no failure.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Opens a file that must be ours, and no link.
fn own(path: &Utf8Path) -> io::Result<File> {
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("{path} is not a file of ours")));
    }
    Ok(file)
}

fn seal(key: &[u8], name: &str, bytes: &[u8]) -> [u8; SEAL_BYTES] {
    hmac(key, &[PURPOSE, name.as_bytes(), b"\0", bytes])
}

/// HMAC-SHA256 (RFC 2104) with a key of at most one block (64 bytes).
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; SEAL_BYTES] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        for (at, byte) in key.iter().enumerate() {
            block[at] ^= byte;
        }
        block
    };
    let mut inner = Sha256::new_with_prefix(pad(0x36));
    for part in parts {
        inner.update(part);
    }
    Sha256::new_with_prefix(pad(0x5c)).chain_update(inner.finalize()).finalize().into()
}

/// Compares without telling by its time where the difference is.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// SHA-256 of a component, in hex.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
        text
    })
}

/// Feeds what is hashed to SHA-256: 64 bits are few for something that decides about machine code.
struct Sha(Sha256);

impl Hasher for Sha {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    fn finish(&self) -> u64 {
        let sum = self.0.clone().finalize();
        sum.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(dir: &Utf8Path) -> Cache {
        Cache { dir: dir.join("compiled"), engine: "e".into(), writing: Mutex::new(()) }
    }

    fn temp() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    #[test]
    fn hmac_of_rfc_4231() {
        let tag = hmac(&[0x0b; 20], &[b"Hi ", b"There"]);
        assert_eq!(hex(&tag), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        let tag = hmac(b"Jefe", &[b"what do ya want for nothing?"]);
        assert_eq!(hex(&tag), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn what_was_kept_is_found_and_private() {
        let (_temp, dir) = temp();
        let cache = cache(&dir);
        assert_eq!(cache.get(Kind::Code, "aa"), None);
        cache.put(Kind::Code, "aa", b"code");
        assert_eq!(cache.get(Kind::Code, "aa").unwrap(), b"code");
        assert_eq!(cache.get(Kind::Description, "aa"), None);
        assert_eq!(fs::metadata(&cache.dir).unwrap().mode() & 0o777, 0o700);
        for entry in fs::read_dir(&cache.dir).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_was_planted_is_refused() {
        let (_temp, dir) = temp();
        let cache = cache(&dir);
        cache.put(Kind::Code, "aa", b"code of a");
        cache.put(Kind::Code, "bb", b"code of b");
        // Another one's code under this name, with its good seal.
        fs::copy(cache.dir.join("aa-e.cwasm"), cache.dir.join("bb-e.cwasm")).unwrap();
        assert_eq!(cache.get(Kind::Code, "bb"), None);
        // A changed byte.
        let path = cache.dir.join("aa-e.cwasm");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(cache.get(Kind::Code, "aa"), None);
        // A link.
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(cache.dir.join("bb-e.cwasm"), &path).unwrap();
        assert_eq!(cache.get(Kind::Code, "aa"), None);
    }

    #[test]
    fn a_folder_that_others_could_write_is_not_read_and_is_emptied() {
        let (_temp, dir) = temp();
        let cache = cache(&dir);
        cache.put(Kind::Code, "aa", b"code");
        fs::set_permissions(&cache.dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(cache.get(Kind::Code, "aa"), None);
        cache.put(Kind::Code, "bb", b"more");
        assert_eq!(cache.get(Kind::Code, "aa"), None);
        assert_eq!(cache.get(Kind::Code, "bb").unwrap(), b"more");
    }

    #[test]
    fn without_its_key_nothing_is_loaded() {
        let (_temp, dir) = temp();
        let cache = cache(&dir);
        cache.put(Kind::Code, "aa", b"code");
        fs::remove_file(cache.dir.join(KEY_FILE)).unwrap();
        assert_eq!(cache.get(Kind::Code, "aa"), None);
        cache.put(Kind::Code, "bb", b"more");
        assert_eq!(cache.get(Kind::Code, "aa"), None);
        assert_eq!(cache.get(Kind::Code, "bb").unwrap(), b"more");
    }

    #[test]
    fn the_oldest_files_go() {
        let (_temp, dir) = temp();
        let cache = cache(&dir);
        for number in 0..FILES + 5 {
            cache.put(Kind::Description, &number.to_string(), b"x");
        }
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), FILES + 1);
    }
}

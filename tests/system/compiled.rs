//! Compiled components, lent from one test's host to the next: each test has a data directory of its own, and without this each
//! would compile the same component anew. Kept in memory, so that nothing is left on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::host::Host;

type Files = Vec<(String, Vec<u8>)>;

static KEPT: Mutex<Option<Files>> = Mutex::new(None);

/// While the first host compiles, the others wait here.
pub struct Turn(MutexGuard<'static, Option<Files>>);

/// Puts what was kept into a host that has not begun; the first one gets its turn instead, and keeps what it made.
pub fn lend(host: &Host) -> Option<Turn> {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(files) = kept.as_ref() else { return Some(Turn(kept)) };
    for dir in [host.data(), host.data().join("cache")] {
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    for (name, bytes) in files {
        let file = host.data().join("cache").join(name);
        fs::write(&file, bytes).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    None
}

impl Turn {
    /// Keeps what this host has compiled.
    pub fn keep(mut self, host: &Host) {
        let files = fs::read_dir(host.data().join("cache")).into_iter().flatten().flatten();
        let files = files.filter_map(|file| Some((file.file_name().into_string().ok()?, fs::read(file.path()).ok()?)));
        *self.0 = Some(files.collect());
    }
}

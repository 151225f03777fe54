//! What the trees of one host stand on: where their records are, where their cgroups are made, and which boot this is.
//!
//! Made once. Without cgroups, trees are held by their shims alone, and everything promised still holds; a cgroup only
//! makes it quicker and harder to outrun.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest, Sha256};

use super::cgroup::controllers::Controllers;
use super::cgroup::{self, Base, shared_below};
use super::shim::report::Identity;
use super::{adopt, proc};
use crate::config::Cgroup;

/// Where records are, below the data directory.
pub const RECORDS: &str = "trees";

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ground(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    records: Utf8PathBuf,
    boot: String,
    me: Identity,
    wish: Cgroup,
    /// Tells this host's groups from others'.
    tag: String,
    base: OnceLock<Result<Base, String>>,
    controllers: OnceLock<Controllers>,
    closed: AtomicBool,
}

/// Cgroups are required, and there are none.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// Why.
    #[error("cgroups are required, and cannot be used: {0}")]
    NoCgroup(String),
    /// The directory of the records, or the process itself.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// How the trees of a host would be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// In cgroups, made below this directory, and by shims.
    Cgroups(PathBuf),
    /// By shims alone, and why.
    Shims(String),
}

impl Ground {
    /// For the host of this data directory. The process becomes a child subreaper.
    ///
    /// # Errors
    /// A directory that cannot be made; cgroups that are required and not there.
    pub fn open(data_dir: &Utf8Path, wish: Cgroup) -> Result<Self, GroundError> {
        adopt::become_subreaper()?;
        let ground = Self::with(data_dir, wish)?;
        prepare(ground.records())?;
        if wish == Cgroup::Required {
            ground.base().map_err(|why| GroundError::NoCgroup(why.to_owned()))?;
        }
        Ok(ground)
    }

    /// That of another host, or of one that is no more: to look at what it left. Nothing is made, nothing is started.
    ///
    /// # Errors
    /// Where this process cannot read of itself in `/proc`.
    pub fn of_another(data_dir: &Utf8Path) -> io::Result<Self> {
        Self::with(data_dir, Cgroup::Off)
    }

    fn with(data_dir: &Utf8Path, wish: Cgroup) -> io::Result<Self> {
        let me = std::process::id();
        let me = Identity { pid: me, start: proc::stat(me)?.start };
        let records = data_dir.join(RECORDS);
        Ok(Self(Arc::new(Inner {
            records,
            boot: proc::boot(),
            me,
            wish,
            tag: tag(data_dir),
            base: OnceLock::new(),
            controllers: OnceLock::new(),
            closed: AtomicBool::new(false),
        })))
    }

    /// Finds out how a host with this wish would hold its trees if it were started from here. What is made for that is
    /// taken away again.
    #[must_use]
    pub fn probe(wish: Cgroup) -> Holding {
        if wish == Cgroup::Off {
            return Holding::Shims(TURNED_OFF.to_owned());
        }
        // A name of its own, so that no host is disturbed.
        let tag = format!("check-{}", std::process::id());
        let own = cgroup::own_dir().ok();
        let shared = own.as_deref().map(shared_below);
        let was_there = shared.as_deref().is_some_and(Path::exists);
        let found = Base::probe(&tag);
        if let Some(shared) = shared {
            let _ = std::fs::remove_dir(shared.join(&tag));
            if !was_there {
                // Only where nothing is in it: a host that came meanwhile keeps it.
                let _ = std::fs::remove_dir(&shared);
            }
        }
        match found {
            Ok(base) => Holding::Cgroups(base.dir().parent().unwrap_or(base.dir()).to_owned()),
            Err(why) => Holding::Shims(why),
        }
    }

    /// Where groups are made, or why nowhere. Tried once, by who asks first; that takes some 20 ms.
    pub fn base(&self) -> Result<&Base, &str> {
        let found = self.0.base.get_or_init(|| match self.0.wish {
            Cgroup::Off => Err(TURNED_OFF.to_owned()),
            Cgroup::Auto | Cgroup::Required => Base::probe(&self.0.tag),
        });
        found.as_ref().map_err(String::as_str)
    }

    /// What limits on trees can be held with. Tried once, when the first limit is asked for.
    #[must_use]
    pub fn controllers(&self) -> &Controllers {
        self.0.controllers.get_or_init(|| match (self.0.wish, self.base()) {
            (Cgroup::Off, Err(why)) => Controllers::none(why),
            (_, base) => Controllers::probe(base, &self.0.tag),
        })
    }

    /// Takes away what it made, where nothing is in it, now and after each tree that is forgotten from now on.
    pub fn close(&self) {
        let again = self.0.closed.swap(true, Ordering::Relaxed);
        if let Some(Ok(base)) = self.0.base.get() {
            cgroup::place::remove(base.dir());
        }
        if let Some(controllers) = self.0.controllers.get() {
            controllers.close();
        }
        if !again {
            // What it never came to use, an earlier host of this directory may have left.
            cgroup::forget_host(&self.0.tag);
        }
    }

    /// A tree is gone.
    pub(super) fn forgot(&self) {
        if self.0.closed.load(Ordering::Relaxed) {
            self.close();
        }
    }

    /// Where the records of all runs are.
    #[must_use]
    pub fn records(&self) -> &Utf8Path {
        &self.0.records
    }

    /// This boot.
    #[must_use]
    pub fn boot(&self) -> &str {
        &self.0.boot
    }

    /// This process.
    #[must_use]
    pub fn me(&self) -> Identity {
        self.0.me
    }

    /// The name of this host's groups.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.0.tag
    }
}

const TURNED_OFF: &str = "turned off by `cgroup = \"off\"` under `[host]`";

/// The name of the groups of a data directory's host.
#[must_use]
pub fn tag(data_dir: &Utf8Path) -> String {
    let digest = Sha256::digest(data_dir.as_str());
    format!("host-{}", digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The directory of records, for us alone.
fn prepare(records: &Utf8Path) -> io::Result<()> {
    match records.symlink_metadata() {
        Ok(meta) if meta.is_dir() => {
            if meta.permissions().mode() & 0o077 != 0 {
                std::fs::set_permissions(records, Permissions::from_mode(0o700))?;
            }
            Ok(())
        }
        Ok(_) => Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{records} is no directory: move it away"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => DirBuilder::new().recursive(true).mode(0o700).create(records),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_for_us_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = Utf8Path::from_path(dir.path()).unwrap();
        let records = data.join(RECORDS);
        let mode = || std::fs::metadata(&records).unwrap().permissions().mode() & 0o777;
        Ground::open(data, Cgroup::Off).unwrap();
        assert_eq!(mode(), 0o700);
        std::fs::set_permissions(&records, Permissions::from_mode(0o755)).unwrap();
        Ground::open(data, Cgroup::Off).unwrap();
        assert_eq!(mode(), 0o700);
        std::fs::remove_dir(&records).unwrap();
        std::os::unix::fs::symlink("/", &records).unwrap();
        assert!(Ground::open(data, Cgroup::Off).is_err(), "a link leads elsewhere");
    }

    #[test]
    fn a_probe_leaves_nothing_and_a_look_makes_nothing() {
        let shared = cgroup::own_dir().ok().map(|own| shared_below(&own));
        if let Holding::Cgroups(dir) = Ground::probe(Cgroup::Auto) {
            assert_eq!(Some(&dir), shared.as_ref());
        }
        let left = shared.map(|shared| shared.join(format!("check-{}", std::process::id())));
        assert!(!left.is_some_and(|left| left.exists()));
        assert_eq!(Ground::probe(Cgroup::Off), Holding::Shims(TURNED_OFF.into()));
        let dir = tempfile::tempdir().unwrap();
        Ground::of_another(Utf8Path::from_path(dir.path()).unwrap()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

//! What the trees of one host stand on: where their records are, where their cgroups are made, and which boot this is.
//!
//! Made once. Without cgroups, trees are held by their shims alone, and everything promised still holds; a cgroup only
//! makes it quicker and harder to outrun.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest, Sha256};

use super::cgroup::Base;
use super::cgroup::controllers::Controllers;
use super::shim::report::Identity;
use super::{adopt, proc};
use crate::config::Cgroup;

/// Where records are, below the data directory.
const RECORDS: &str = "trees";

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

impl Ground {
    /// For the host of this data directory. The process becomes a child subreaper.
    ///
    /// # Errors
    /// A directory that cannot be made; cgroups that are required and not there.
    pub fn open(data_dir: &Utf8Path, wish: Cgroup) -> Result<Self, GroundError> {
        adopt::become_subreaper()?;
        let records = data_dir.join(RECORDS);
        std::fs::create_dir_all(&records)?;
        let me = std::process::id();
        let me = Identity { pid: me, start: proc::stat(me)?.start };
        let digest = Sha256::digest(data_dir.as_str());
        let tag = format!("host-{}", digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>());
        let ground = Self(Arc::new(Inner {
            records,
            boot: proc::boot(),
            me,
            wish,
            tag,
            base: OnceLock::new(),
            controllers: OnceLock::new(),
            closed: AtomicBool::new(false),
        }));
        match (wish, ground.base()) {
            (Cgroup::Required, Err(why)) => Err(GroundError::NoCgroup(why.to_owned())),
            _ => Ok(ground),
        }
    }

    /// Where groups are made, or why nowhere. Tried once.
    pub fn base(&self) -> Result<&Base, &str> {
        let found = self.0.base.get_or_init(|| match self.0.wish {
            Cgroup::Off => Err("turned off by `cgroup = \"off\"` under `[host]`".to_owned()),
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
        self.0.closed.store(true, Ordering::Relaxed);
        if let Some(Ok(base)) = self.0.base.get() {
            let _ = std::fs::remove_dir(base.dir());
        }
        if let Some(controllers) = self.0.controllers.get() {
            controllers.close();
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
}

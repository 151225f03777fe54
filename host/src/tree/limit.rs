//! The limits of a tree: held before its first child is started, and heard of when one is reached.

use std::io;
use std::sync::Arc;

use super::cgroup::limit::{Breach, Held};
use super::{Inner, Tree, control};
use crate::config::TreeLimits;

impl Tree {
    /// Holds these limits: every child is started within them. To be called before the first is.
    ///
    /// # Errors
    /// A limit that cannot be held; then none is, and no child may be started.
    pub async fn hold(&self, limits: TreeLimits) -> io::Result<()> {
        if limits.is_none() {
            return Ok(());
        }
        let inner = Arc::clone(&self.0);
        control(&self.0.handle, move || inner.hold(&limits)).await?
    }

    /// Looks whether a limit was reached.
    #[must_use]
    pub fn breached(&self) -> Option<Breach> {
        self.0.look_at_limits()
    }

    /// Waits until a limit is reached; for ever where there is none.
    pub async fn breach(&self) -> Breach {
        let held = self.0.lock().held.clone();
        match held {
            Some(held) => held.breach().await,
            None => std::future::pending().await,
        }
    }
}

impl Inner {
    fn hold(&self, limits: &TreeLimits) -> io::Result<()> {
        let group = self.group().map_err(io::Error::other)?;
        let run = self.run.to_string();
        match Held::hold(self.ground.controllers(), group.as_ref(), &run, limits, &self.handle) {
            Ok(held) => {
                self.lock().held = Some(Arc::new(held));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn look_at_limits(&self) -> Option<Breach> {
        let held = self.lock().held.clone();
        held.and_then(|held| held.look())
    }
}

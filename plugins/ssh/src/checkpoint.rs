//! What a detached run needs to be taken up again: how much of each stream was told, and whether the job there has begun.

use falconer_backend::Failure;
use serde::{Deserialize, Serialize};

use crate::line::Offsets;

/// Committed together with the events that it speaks of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// `command_started` was told.
    pub begun: bool,
    /// Bytes told.
    pub stdout: u64,
    /// Bytes told.
    pub stderr: u64,
    /// The command has ended, all was told, and only what is kept there is left.
    pub ended: Option<Ended>,
    /// The end of the standard output that was told.
    #[serde(default)]
    pub tail: String,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// As the shell there tells it: 128 and more stands for a signal.
    pub status: u32,
    /// Processes of the run that are left.
    pub left: u32,
    /// Whether all processes were looked at.
    pub looked: bool,
}

impl Checkpoint {
    /// As it is stored.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads one.
    ///
    /// # Errors
    /// `checkpoint_invalid`: it is not ours.
    pub fn read(bytes: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(bytes)
            .map_err(|error| Failure::new("checkpoint_invalid", format!("what was kept of the run cannot be read: {error}")))
    }

    /// Where the streams go on.
    #[must_use]
    pub const fn offsets(&self) -> Offsets {
        Offsets { stdout: self.stdout, stderr: self.stderr }
    }
}

//! The one wasmtime engine of a host: its settings, its threads, its epoch.

use std::time::Duration;

use camino::Utf8PathBuf;

use crate::fault::Fault;

/// What the engine is made with.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Live instances at once.
    pub instances: u32,
    /// The most memory that any component may have.
    pub memory: u64,
    /// Where compiled components are kept.
    pub cache_dir: Option<Utf8PathBuf>,
    /// Wall time of one call.
    pub call_wall: Duration,
}

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// Makes the engine, its guest runtime (threads of their own) and its epoch ticker (parked while no guest runs).
    pub fn new(_options: EngineOptions) -> Result<Self, Fault> {
        unimplemented!()
    }
}

//! Which backends there are: the bundled ones, and those of the plugins directory.

use std::sync::Arc;

use serde_json::Value;

use super::engine::Engine;
use crate::config::Config;
use crate::contract::falconer::backend::types as wit;
use crate::fault::Fault;

/// What a backend says of itself, parsed and checked.
#[derive(Debug, Clone)]
pub struct Description {
    /// For people.
    pub title: String,
    /// Its own version.
    pub version: String,
    /// What it does.
    pub description: String,
    /// What it can.
    pub abilities: wit::Abilities,
    /// JSON Schema of its config.
    pub config_schema: Value,
    /// JSON Schema of a target's settings.
    pub target_schema: Option<Value>,
}

/// Whether a backend can be used.
#[derive(Debug, Clone)]
pub enum State {
    /// It can.
    Ready,
    /// The configuration turns it off.
    Disabled,
    /// It cannot, and why.
    Failed(Fault),
}

/// One backend as it was found.
pub struct Backend {
    /// The name of its file, without `.wasm`.
    pub name: String,
    /// `bundled`, or the file.
    pub source: String,
    /// SHA-256 of the component, in hex.
    pub digest: String,
    /// Whether it can be used.
    pub state: State,
    /// What it says of itself; none where it failed before it could.
    pub description: Option<Description>,
}

impl Backend {
    /// Checks a run's config against the backend's schema; the fault names the place.
    pub fn check_config(&self, _config: &Value) -> Result<(), Fault> {
        unimplemented!()
    }
    /// Asks `plan` in a throw-away instance, every import but `log` refused.
    pub async fn plan(&self, _job: wit::Job) -> Result<Result<wit::Draft, wit::Failure>, Fault> {
        unimplemented!()
    }
}

/// All backends of a host. Cheap to clone.
#[derive(Clone)]
pub struct Registry {}

impl Registry {
    /// The bundled backends (known from their embedded descriptions, nothing compiled) and the plugins directory.
    pub fn open(_engine: Engine, _config: &Config) -> Self {
        unimplemented!()
    }
    /// Compiles what is not compiled yet, in the background, at low priority.
    pub fn warm(&self) {
        unimplemented!()
    }
    /// Looks at the plugins directory again (a new build is found by its digest) and gives every backend, by name.
    pub async fn list(&self) -> Vec<Arc<Backend>> {
        unimplemented!()
    }
    /// One backend, as its file is now. A run keeps the build it began with.
    pub async fn get(&self, _name: &str) -> Result<Arc<Backend>, Fault> {
        unimplemented!()
    }
}

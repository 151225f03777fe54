//! Is this allowed, which rule says so, within which limits: the configuration, resolved once and asked often.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map, Value};

use crate::capability::Grant;
use crate::config::{Config, Limits};
use crate::contract::falconer::backend::types as wit;
use crate::fault::Fault;
use crate::run::view::PlannedAction;

/// The configuration with its grants resolved. Cheap to clone.
#[derive(Clone)]
pub struct Policy {}

impl Policy {
    /// Resolves every grant: programs on `path`, workspaces through their symbolic links. What is missing is kept as such.
    #[must_use]
    pub fn resolve(_config: &Arc<Config>) -> Self {
        unimplemented!()
    }
    /// The configuration it was made from.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        unimplemented!()
    }
    /// What a backend may touch.
    #[must_use]
    pub fn grant(&self, _backend: &str) -> Arc<Grant> {
        unimplemented!()
    }
    /// Whether a client's working directory may be a workspace of its runs (DESIGN: never `/`, a home directory itself, a
    /// system or dot directory, or our own directories); gives it with its symbolic links resolved.
    #[must_use]
    pub fn client_workspace(&self, _cwd: &Utf8Path) -> Option<Utf8PathBuf> {
        unimplemented!()
    }
    /// Judges the working directory of a run: what was asked for, else the client's own; inside a granted workspace or the
    /// client's, symbolic links resolved. `None` where nothing was asked for and the client brings none.
    pub fn cwd(&self, _backend: &str, _asked: Option<&str>, _client: Option<&Utf8Path>) -> Result<Option<Utf8PathBuf>, Fault> {
        unimplemented!()
    }
    /// Defaults and the run's own config merged (objects key by key at the top), within `allow`.
    pub fn config_of_run(&self, _backend: &str, _asked: Option<&Map<String, Value>>) -> Result<Value, Fault> {
        unimplemented!()
    }
    /// The limits of a run: what was asked for, under the ceiling of the configuration.
    pub fn limits(&self, _backend: &str, _timeout: Option<Duration>, _idle: Option<Duration>) -> Result<Limits, Fault> {
        unimplemented!()
    }
    /// Judges one action of a plan: the program granted and found, its arguments within the grant's patterns, the cwd inside.
    #[must_use]
    pub fn judge(&self, _backend: &str, _client: Option<&Utf8Path>, _action: &wit::PlannedAction) -> PlannedAction {
        unimplemented!()
    }
    /// The names of environment variables whose values a client's hello is to bring.
    #[must_use]
    pub fn client_env_names(&self) -> Vec<String> {
        unimplemented!()
    }
    /// The standing instructions of a profile.
    pub fn profile(&self, _name: &str) -> Result<String, Fault> {
        unimplemented!()
    }
    /// What `falconer check` shows, by backend.
    #[must_use]
    pub fn report(&self) -> BTreeMap<String, Vec<Finding>> {
        unimplemented!()
    }
}

/// One line of `falconer check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Good, or how bad.
    pub severity: Severity,
    /// What was looked at, e.g. `program claude`.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// The way out, where there is something to mend.
    pub hint: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Works, but look at it.
    Warning,
    /// Does not work.
    Error,
}

//! Is this allowed, which rule says so, within which limits: the configuration, resolved once and asked often.
//!
//! It only judges. The capabilities check each request against the same [`Grant`] when it is made; what a plan says here is
//! what they will do. A program or directory that is missing is no failure of this module: it stays in the grant with the
//! reason, shows in `falconer check`, and makes the runs that need it fail with a code.

mod check;
mod choice;
pub mod command;
pub mod inventory;
mod judge;
mod limit;
pub mod network;
mod programs;
mod workspace;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map, Value};

pub use check::{Finding, Severity};
pub use judge::{Judgement, Run as JudgedRun};
pub use limit::Asked;

use crate::capability::{DEFAULT_LANG, Grant};
use crate::config::{Backend, Config, EnvSource, Limits, SecretSource, inert};
use crate::fault::{Fault, code};
use inventory::Inventory;
use network::NetworkRule;
use workspace::Places;

/// The longest path that Linux takes (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;

/// The configuration with its grants resolved. Cheap to clone.
#[derive(Clone)]
pub struct Policy {
    inner: Arc<Resolved>,
}

struct Resolved {
    config: Arc<Config>,
    places: Places,
    grants: BTreeMap<String, Arc<Grant>>,
    /// Of every backend that the configuration does not name.
    nothing: Arc<Grant>,
    inventory: Inventory,
    commands: command::Rules,
    network: NetworkRule,
}

/// What a path is for, and what its refusals are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// For messages, e.g. `cwd`.
    what: Cow<'static, str>,
    not_found: &'static str,
    not_granted: &'static str,
}

impl Place {
    const CWD: Self = Self { what: Cow::Borrowed("cwd"), not_found: code::CWD_NOT_FOUND, not_granted: code::CWD_NOT_GRANTED };

    /// A directory in a run's config, at this JSON pointer.
    #[must_use]
    pub fn of_config(pointer: &str) -> Self {
        Self {
            what: format!("config at `{}`: the directory", inert(pointer)).into(),
            not_found: code::DIRECTORY_NOT_FOUND,
            not_granted: code::DIRECTORY_NOT_GRANTED,
        }
    }
}

/// A program and how it is asked for its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    /// Where it is.
    pub path: Utf8PathBuf,
    /// All its arguments.
    pub args: Vec<String>,
    /// All its environment.
    pub env: BTreeMap<String, String>,
}

impl Policy {
    /// Resolves every grant: programs on `path`, workspaces through their symbolic links. What is missing is kept as such. Where
    /// targets have aliases of `~/.ssh/config`, `ssh -G` is run for them ([`Inventory::of`]).
    #[must_use]
    pub fn resolve(config: &Arc<Config>) -> Self {
        let grants = config.backends.iter().map(|(name, backend)| (name.clone(), Arc::new(grant(config, backend)))).collect();
        let nothing = Arc::new(grant(config, config.backend("")));
        Self {
            inner: Arc::new(Resolved {
                config: Arc::clone(config),
                places: Places::of(config),
                grants,
                nothing,
                inventory: Inventory::of(config),
                commands: command::Rules::of(config),
                network: NetworkRule::of(config),
            }),
        }
    }

    /// The machines that runs can be sent to.
    #[must_use]
    pub fn inventory(&self) -> &Inventory {
        &self.inner.inventory
    }

    /// Judges a command for the far end: what may be executed, by which rule and within which limits, or why not.
    pub fn command(&self, asked: &command::Asked<'_>) -> Result<command::Allowed, command::Refused> {
        self.inner.commands.judge(asked)
    }

    /// The network rule.
    #[must_use]
    pub fn network(&self) -> &NetworkRule {
        &self.inner.network
    }

    /// The configuration it was made from.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.inner.config
    }

    /// What a backend may touch. A program that was missing is looked for again, so that installing it is enough.
    #[must_use]
    pub fn grant(&self, backend: &str) -> Arc<Grant> {
        let grant = self.inner.grants.get(backend).unwrap_or(&self.inner.nothing);
        if grant.programs.values().all(|program| program.path.is_ok()) {
            return Arc::clone(grant);
        }
        let written = &self.config().backend(backend).grants.programs;
        let mut again = Grant::clone(grant);
        for (name, program) in again.programs.iter_mut().filter(|(_, program)| program.path.is_err()) {
            if let Some(written) = written.get(name) {
                *program = programs::resolve(written, &self.config().path);
            }
        }
        Arc::new(again)
    }

    /// Whether the configuration lets runs use this backend at all.
    pub fn usable(&self, backend: &str) -> Result<(), Fault> {
        if self.config().backend(backend).enabled {
            return Ok(());
        }
        Err(Fault::new(code::BACKEND_UNAVAILABLE, format!("the configuration turns backend `{backend}` off"))
            .hint(format!("a person sets `enabled = true` under [backends.{backend}] in the configuration")))
    }

    /// Whether a client's working directory may be a workspace of its runs (never `/`, a home directory itself, a
    /// system or dot directory, or our own directories); gives it with its symbolic links resolved.
    #[must_use]
    pub fn client_workspace(&self, cwd: &Utf8Path) -> Option<Utf8PathBuf> {
        if !self.config().client.cwd_is_workspace || !cwd.is_absolute() {
            return None;
        }
        let real = workspace::directory(cwd).ok()?;
        self.inner.places.refused_for_client(&real).is_none().then_some(real)
    }

    /// Judges the working directory of a run: what was asked for, else the client's own; inside a granted workspace or the
    /// client's, symbolic links resolved. `None` where nothing was asked for and the client brings none that may be used.
    /// `client` may be the client's bare working directory: whether it is a workspace is judged here again.
    pub fn cwd(&self, backend: &str, asked: Option<&str>, client: Option<&Utf8Path>) -> Result<Option<Utf8PathBuf>, Fault> {
        let Some(asked) = asked else {
            return Ok(client.and_then(|cwd| workspace::directory(cwd).ok()).filter(|dir| self.covers(backend, client, dir).is_some()));
        };
        self.directory(backend, &Place::CWD, asked, client).map(Some)
    }

    /// Judges a directory that a run is to have, by the same rules as its working directory; gives it with its symbolic links resolved.
    pub fn directory(&self, backend: &str, place: &Place, asked: &str, client: Option<&Utf8Path>) -> Result<Utf8PathBuf, Fault> {
        let what = &place.what;
        let path = absolute(what, asked)?;
        let asked = inert(asked);
        let real = workspace::directory(path)
            .map_err(|why| Fault::new(place.not_found, format!("{what} {asked} {why}")).hint("make the directory, or name another one"))?;
        match self.covers(backend, client, &real) {
            Some(_) => Ok(real),
            None => Err(self.not_granted(backend, client, place, &asked, &real)),
        }
    }

    /// Opens a file that a run is to be given: a regular one, inside a granted workspace or the client's, by where it is when it is
    /// open, so that nobody can put another in its place in between. Blocks.
    pub fn file(&self, backend: &str, path: &Utf8Path, client: Option<&Utf8Path>) -> Result<std::fs::File, Fault> {
        let place = Place { what: "the file".into(), not_found: code::FILE_NOT_FOUND, not_granted: code::FILE_NOT_GRANTED };
        let shown = inert(path.as_str());
        absolute(&place.what, path.as_str())?;
        let opened = workspace::file(path).map_err(|why| {
            Fault::new(place.not_found, format!("the file {shown} {why}")).hint("name a file that is there and that you may read")
        })?;
        match self.covers(backend, client, &opened.real) {
            Some(_) => opened.read().map_err(|why| Fault::new(place.not_found, format!("the file {shown} {why}"))),
            None => Err(self.not_granted(backend, client, &place, &shown, &opened.real)),
        }
    }

    /// The rule that lets this directory (resolved) be a working directory.
    #[must_use]
    pub fn covers(&self, backend: &str, client: Option<&Utf8Path>, real: &Utf8Path) -> Option<String> {
        let grant = self.inner.grants.get(backend).unwrap_or(&self.inner.nothing);
        let places = &self.inner.places;
        if let Some(granted) = grant.workspaces.iter().find(|granted| real.starts_with(granted) && !places.ours_within(real, granted)) {
            return Some(format!("backends.{backend}.grants.workspaces: {granted}"));
        }
        let own = client.and_then(|cwd| self.client_workspace(cwd))?;
        (real.starts_with(&own) && !places.is_ours(real)).then(|| format!("client.cwd_is_workspace: {own}"))
    }

    fn not_granted(&self, backend: &str, client: Option<&Utf8Path>, place: &Place, asked: &str, real: &Utf8Path) -> Fault {
        let grant = self.inner.grants.get(backend).unwrap_or(&self.inner.nothing);
        let mut granted: Vec<String> = grant.workspaces.iter().map(ToString::to_string).collect();
        granted.extend(client.and_then(|cwd| self.client_workspace(cwd)).map(|own| format!("{own} (the client's own)")));
        let list = if granted.is_empty() { "none is granted".to_owned() } else { format!("granted: {}", granted.join(", ")) };
        let where_it_is = if asked == real { asked.to_owned() } else { format!("{asked} (which is {})", inert(real.as_str())) };
        let kind = if place.not_granted == code::FILE_NOT_GRANTED { "file" } else { "directory" };
        let hint = if self.inner.places.is_ours(real) {
            "it lies in falconer's own data or plugins directory; take another one".to_owned()
        } else {
            format!(
                "take a {kind} inside one of these; or a person adds to the configuration, under [backends.{backend}.grants]: workspaces = [{}]",
                Value::from(workspace_of(real).as_str())
            )
        };
        Fault::new(place.not_granted, format!("{} {where_it_is} lies in no workspace of `{backend}`; {list}", place.what)).hint(hint)
    }

    /// Defaults and the run's own config merged (objects key by key at the top), within `allow`.
    pub fn config_of_run(&self, backend: &str, asked: Option<&Map<String, Value>>) -> Result<Value, Fault> {
        choice::merge(backend, self.config().backend(backend), asked)
    }

    /// The limits of a run: what was asked for, under the ceiling of the configuration. More than the ceiling is
    /// `invalid_argument`, and names it.
    pub fn limits(&self, backend: &str, asked: &Asked) -> Result<Limits, Fault> {
        limit::of_run(backend, &self.config().backend(backend).limits, asked)
    }

    /// The names of environment variables whose values a client's hello is to bring, in order and each once: those that a
    /// grant passes on, and those that hold a secret. Backends that are turned off want none.
    #[must_use]
    pub fn client_env_names(&self) -> Vec<String> {
        let mut names = std::collections::BTreeSet::new();
        for backend in self.config().backends.values().filter(|backend| backend.enabled) {
            let passed = backend.grants.env.iter().filter(|(_, source)| **source == EnvSource::Client).map(|(name, _)| name);
            let secret = backend.grants.secrets.values().filter_map(|source| match source {
                SecretSource::Env(name) => Some(name),
                SecretSource::File(_) | SecretSource::Command(_) => None,
            });
            names.extend(passed.chain(secret).cloned());
        }
        names.into_iter().collect()
    }

    /// How a granted program is asked for its version: where it is, its arguments after those that the grant puts first, and the
    /// environment of a run's child that names every granted variable. `client_env` as in [`Policy::report`]. The error is the
    /// rule that refuses; none: it is not granted, or not there.
    pub fn asking(
        &self,
        backend: &str,
        program: &str,
        args: &[String],
        client_env: &BTreeMap<String, String>,
    ) -> Option<Result<Asking, String>> {
        let grant = self.grant(backend);
        let granted = grant.programs.get(program)?;
        let path = granted.path.as_ref().ok()?.clone();
        if let Err(rule) = programs::judge(&format!("backends.{backend}.grants.programs.{program}"), granted, args) {
            return Some(Err(rule));
        }
        let value = |(name, source): (&String, &EnvSource)| match source {
            EnvSource::Client => client_env.get(name).map(|value| (name.clone(), value.clone())),
            EnvSource::Value(value) => Some((name.clone(), value.clone())),
        };
        let mut env: BTreeMap<String, String> = grant.env.iter().filter_map(value).collect();
        env.entry("LANG".into()).or_insert_with(|| DEFAULT_LANG.into());
        Some(Ok(Asking { path, args: granted.first.iter().chain(args).cloned().collect(), env }))
    }

    /// What `falconer check` shows, by backend. `client_env`: the values that a client would bring
    /// ([`Policy::client_env_names`]); whether a variable is there is said, never its value.
    #[must_use]
    pub fn report(&self, client_env: &BTreeMap<String, String>) -> BTreeMap<String, Vec<Finding>> {
        self.config().backends.keys().map(|name| (name.clone(), check::backend(self, name, client_env))).collect()
    }

    /// What `falconer check` shows of the host itself: the file, its directories, where programs are looked for.
    #[must_use]
    pub fn report_host(&self) -> Vec<Finding> {
        check::host(self.config())
    }
}

/// A path that may be judged: absolute, and not longer than Linux takes.
fn absolute<'a>(what: &str, asked: &'a str) -> Result<&'a Utf8Path, Fault> {
    let invalid = |why: &str| Fault::new(code::INVALID_ARGUMENT, format!("{what}: {why}")).hint("give an absolute path, with no `~`");
    if asked.is_empty() || asked.len() > LONGEST_PATH || asked.contains('\0') {
        return Err(invalid("it is empty, longer than 4096 bytes, or holds a NUL"));
    }
    let path = Utf8Path::new(asked);
    if !path.is_absolute() {
        return Err(invalid(&format!("`{}` is not absolute", inert(asked))));
    }
    Ok(path)
}

/// The directory that would have to be granted for this to lie in a workspace.
fn workspace_of(real: &Utf8Path) -> &Utf8Path {
    if real.is_dir() { real } else { real.parent().unwrap_or(real) }
}

fn grant(config: &Config, backend: &Backend) -> Grant {
    let written = &backend.grants;
    let mut env = written.env.clone();
    // What every child may know where the file says nothing else: where programs are, and where this host is, so that a
    // `falconer` inside a run reaches the daemon that runs it. None of it depends on the client.
    let path = config.path.iter().map(|dir| dir.as_str()).collect::<Vec<_>>().join(":");
    let host = [
        ("PATH", Some(path)),
        ("FALCONER_DATA_DIR", Some(config.data_dir.to_string())),
        ("FALCONER_PLUGINS", Some(config.plugins_dir.to_string())),
        ("FALCONER_CONFIG", config.file.as_ref().map(ToString::to_string)),
    ];
    for (name, value) in host {
        if let Some(value) = value {
            env.entry(name.to_owned()).or_insert(EnvSource::Value(value));
        }
    }
    Grant {
        programs: written.programs.iter().map(|(name, program)| (name.clone(), programs::resolve(program, &config.path))).collect(),
        workspaces: written.workspaces.iter().map(|dir| workspace::real(dir)).collect(),
        env,
        secrets: written.secrets.clone(),
    }
}

#[cfg(test)]
mod tests;

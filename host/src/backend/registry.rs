//! Which backends there are: the bundled ones, and those of the plugins directory.
//!
//! A bundled backend is known from its embedded description, so listing compiles nothing. A plugin is looked at when
//! its file changes: read, checked, and asked to describe itself in a throw-away instance; what it said is kept by its
//! digest. Whatever is wrong with one plugin is its own state, and disturbs no other.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, join_all};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::cache::{Kind, digest};
use super::code::{Code, Source};
pub use super::describe::Description;
use super::engine::Engine;
use super::limits::LIST_WAIT;
use super::plugins::{self, FileId};
use super::schema::Schema;
use super::store::Data;
use super::{describe, directories, inspect, schema};
use crate::config::Config;
use crate::contract::BackendPre;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};

/// `source` of a backend that is part of this program.
const BUNDLED: &str = "bundled";

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
    /// SHA-256 of the component, in hex; empty where the file could not be read.
    pub digest: String,
    /// Whether it can be used.
    pub state: State,
    /// What it says of itself; none where it failed before it could.
    pub description: Option<Description>,
    engine: Engine,
    parts: Option<Parts>,
}

/// What a backend that can be used is made of.
#[derive(Clone)]
struct Parts {
    code: Arc<Code>,
    schema: Arc<Schema>,
}

impl Backend {
    /// Checks a run's config against the backend's schema; the fault (`invalid_config`) names the place, and shows values of those
    /// keys alone that the run chose.
    pub fn check_config(&self, config: &Value, chosen: Option<&Map<String, Value>>) -> Result<(), Fault> {
        schema::check(&self.name, &self.parts()?.schema, config, chosen)
    }

    /// Puts what `judge` makes of it in the place of each directory of a config that the schema marks as one; `judge` gets its
    /// JSON pointer and the text.
    pub fn replace_directories(&self, config: &mut Value, judge: &mut dyn FnMut(&str, &str) -> Result<String, Fault>) -> Result<(), Fault> {
        match &self.description {
            Some(description) => directories::replace(&description.config_schema, config, judge),
            None => Ok(()),
        }
    }

    /// Asks `plan` in a throw-away instance, every import but `log` refused.
    pub async fn plan(&self, job: wit::Job) -> Result<Result<wit::Draft, wit::Failure>, Fault> {
        describe::plan(&self.engine, &self.name, &self.parts()?.code, job).await.map_err(|fault| self.named(fault))
    }

    /// `backend_unavailable` if its state is not [`State::Ready`].
    pub fn usable(&self) -> Result<(), Fault> {
        match &self.state {
            State::Ready => Ok(()),
            State::Disabled => Err(Fault::new(code::BACKEND_UNAVAILABLE, format!("backend `{}` is turned off", self.name))
                .hint(format!("set `enabled = true` in `[backends.{}]`", self.name))),
            State::Failed(why) => Err(Fault {
                code: code::BACKEND_UNAVAILABLE.into(),
                message: format!("backend `{}` cannot be used: {}", self.name, why.message),
                retryable: why.retryable,
                hint: why.hint.clone(),
            }),
        }
    }

    /// The code, compiled where it is not yet.
    pub(super) async fn prepared(&self) -> Result<(Engine, Arc<BackendPre<Data>>), Fault> {
        let pre = self.parts()?.code.prepared(&self.engine).await.map_err(|fault| self.named(fault))?;
        Ok((self.engine.clone(), pre))
    }

    fn parts(&self) -> Result<&Parts, Fault> {
        self.usable()?;
        self.parts.as_ref().ok_or_else(|| Fault::new(code::INTERNAL, format!("backend `{}` has no code", self.name)))
    }

    /// Faults of code that several names may share say "it".
    fn named(&self, fault: Fault) -> Fault {
        if fault.message.contains(&format!("`{}`", self.name)) {
            return fault;
        }
        Fault { message: format!("backend `{}` cannot be used: {}", self.name, fault.message), ..fault }
    }
}

/// What was found out about one component, whatever the configuration says of it.
struct Facts {
    source: String,
    digest: String,
    said: Result<(Description, Parts), Fault>,
}

type Finding = Shared<BoxFuture<'static, Arc<Facts>>>;

/// All backends of a host. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    engine: Engine,
    bundled: BTreeMap<&'static str, Arc<Facts>>,
    known: Mutex<Known>,
}

/// What changes.
struct Known {
    settings: Settings,
    files: HashMap<String, (FileId, Finding)>,
    /// The backends that were given out, so that the same build is the same [`Backend`].
    given: HashMap<String, (Arc<Facts>, Arc<Backend>)>,
}

/// What the configuration says of backends.
struct Settings {
    plugins_dir: Utf8PathBuf,
    backends: HashMap<String, (bool, Option<String>)>,
}

impl Settings {
    fn of(config: &Config) -> Self {
        let backends = config.backends.iter().map(|(name, backend)| (name.clone(), (backend.enabled, backend.digest.clone())));
        Self { plugins_dir: config.plugins_dir.clone(), backends: backends.collect() }
    }
}

impl Registry {
    /// The bundled backends (known from their embedded descriptions, nothing compiled) and the plugins directory.
    pub fn open(engine: Engine, config: &Config) -> Self {
        let bundled = falconer_bundle::BACKENDS.iter().map(|found| {
            let code = engine.code(found.digest, Source::Bundled(found.wasm));
            let said = Description::from_json(found.description).and_then(|description| with_schema(description, code));
            (found.name, Arc::new(Facts { source: BUNDLED.into(), digest: found.digest.into(), said }))
        });
        let bundled = bundled.collect();
        let known = Known { settings: Settings::of(config), files: HashMap::new(), given: HashMap::new() };
        Self(Arc::new(Inner { engine, bundled, known: Mutex::new(known) }))
    }

    /// Takes another configuration (after a reload). Runs keep what they began with.
    pub fn configure(&self, config: &Config) {
        let mut known = self.known();
        known.settings = Settings::of(config);
        known.given.clear();
    }

    /// Compiles what is not compiled yet, in the background, at low priority.
    pub fn warm(&self) {
        let registry = self.clone();
        self.0.engine.guests().spawn(async move {
            for backend in registry.list().await {
                if backend.usable().is_ok()
                    && let Err(fault) = backend.prepared().await
                {
                    tracing::warn!("{fault}");
                }
            }
        });
    }

    /// Looks at the plugins directory again (a new build is found by its digest) and gives every backend, by name.
    /// A plugin that is still being compiled for its first time after ten seconds is given as failed, retryable.
    pub async fn list(&self) -> Vec<Arc<Backend>> {
        let dir = self.known().settings.plugins_dir.clone();
        let files = plugins::scan(&dir);
        {
            let known = &mut *self.known();
            known.files.retain(|name, _| files.contains_key(name));
            known.given.retain(|name, _| files.contains_key(name) || self.0.bundled.contains_key(name.as_str()));
        }
        let mut found: BTreeMap<String, Arc<Facts>> =
            self.0.bundled.iter().map(|(name, facts)| ((*name).to_owned(), facts.clone())).collect();
        let findings = files.into_iter().map(|(name, (path, id))| {
            let finding = self.finding(&dir, &name, &path, id);
            async move { (name, timeout(LIST_WAIT, finding).await.unwrap_or_else(|_| Arc::new(being_compiled(&path)))) }
        });
        found.extend(join_all(findings).await);
        found.into_iter().map(|(name, facts)| self.backend(&name, facts)).collect()
    }

    /// One backend, as its file is now. A run keeps the build it began with. Faults: `unknown_backend`, and
    /// `backend_unavailable` for one that is turned off or failed.
    pub async fn get(&self, name: &str) -> Result<Arc<Backend>, Fault> {
        let dir = self.known().settings.plugins_dir.clone();
        let file = if plugins::is_name(name) { plugins::find(&dir, name) } else { None };
        let facts = match file {
            Some((path, id)) => self.finding(&dir, name, &path, id).await,
            None => self.0.bundled.get(name).cloned().ok_or_else(|| self.unknown(&dir, name))?,
        };
        let backend = self.backend(name, facts);
        backend.usable()?;
        Ok(backend)
    }

    fn unknown(&self, dir: &Utf8Path, name: &str) -> Fault {
        let mut names: Vec<String> = self.0.bundled.keys().map(|name| (*name).to_owned()).collect();
        names.extend(plugins::scan(dir).into_keys());
        names.sort_unstable();
        names.dedup();
        let hint = if names.is_empty() {
            format!("there is none; plugins are looked for in {dir}")
        } else {
            format!("there are: {}", names.join(", "))
        };
        Fault::new(code::UNKNOWN_BACKEND, format!("there is no backend `{}`", super::stdio::one_line(name, 64))).hint(hint)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a plugin's file, or its being found out. That goes on if nobody waits for it any more.
    fn finding(&self, dir: &Utf8Path, name: &str, path: &Utf8Path, id: FileId) -> Finding {
        let mut known = self.known();
        if let Some((looked_at, finding)) = known.files.get(name)
            && *looked_at == id
        {
            // A failure that may pass is not for keeps.
            let passing = finding.peek().is_some_and(|facts| matches!(&facts.said, Err(fault) if fault.retryable));
            if !passing {
                return finding.clone();
            }
        }
        let looking = self.0.engine.guests().spawn(find_out(self.0.engine.clone(), dir.to_owned(), name.to_owned(), path.to_owned()));
        let source = path.to_string();
        let finding = looking
            .map(|found| {
                found.unwrap_or_else(|error| {
                    let fault = Fault::new(code::INTERNAL, format!("it could not be looked at: {error}")).retryable();
                    Arc::new(Facts { source, digest: String::new(), said: Err(fault) })
                })
            })
            .boxed()
            .shared();
        known.files.insert(name.to_owned(), (id, finding.clone()));
        finding
    }

    /// The facts, and what the configuration says.
    fn backend(&self, name: &str, facts: Arc<Facts>) -> Arc<Backend> {
        let mut known = self.known();
        if let Some((of, backend)) = known.given.get(name)
            && Arc::ptr_eq(of, &facts)
        {
            return backend.clone();
        }
        let (enabled, pinned) = known.settings.backends.get(name).cloned().unwrap_or((true, None));
        let wrong_pin = pinned.filter(|pinned| !facts.digest.is_empty() && !pinned.eq_ignore_ascii_case(&facts.digest));
        let state = match (&facts.said, wrong_pin) {
            _ if !enabled => State::Disabled,
            (Err(fault), _) => State::Failed(fault.clone()),
            (Ok(_), Some(pinned)) => State::Failed(
                Fault::new(code::BACKEND_UNAVAILABLE, format!("its digest is {}, and the configuration pins {pinned}", facts.digest))
                    .hint(format!("check where {} comes from, then change `digest` in `[backends.{name}]`", facts.source)),
            ),
            (Ok(_), None) => State::Ready,
        };
        let said = facts.said.as_ref().ok().cloned();
        let backend = Arc::new(Backend {
            name: name.to_owned(),
            source: facts.source.clone(),
            digest: facts.digest.clone(),
            state,
            description: said.as_ref().map(|(description, _)| description.clone()),
            engine: self.0.engine.clone(),
            parts: said.map(|(_, parts)| parts),
        });
        known.given.insert(name.to_owned(), (facts, backend.clone()));
        backend
    }
}

/// Looks at a plugin's file.
async fn find_out(engine: Engine, dir: Utf8PathBuf, name: String, path: Utf8PathBuf) -> Arc<Facts> {
    let source = path.to_string();
    let read = {
        let (name, path) = (name.clone(), path.clone());
        tokio::task::spawn_blocking(move || plugins::read(&dir, &name, &path).map(|bytes| (digest(&bytes), inspect::check(&bytes)))).await
    };
    let (digest, fits) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(fault)) => return Arc::new(Facts { source, digest: String::new(), said: Err(fault) }),
        Err(error) => {
            let fault = Fault::new(code::INTERNAL, format!("{path} could not be read: {error}")).retryable();
            return Arc::new(Facts { source, digest: String::new(), said: Err(fault) });
        }
    };
    let said = match fits {
        Ok(()) => described(&engine, &name, &path, &digest).await,
        Err(fault) => Err(fault),
    };
    Arc::new(Facts { source, digest, said })
}

/// What it said once, or says now.
async fn described(engine: &Engine, name: &str, path: &Utf8Path, digest: &str) -> Result<(Description, Parts), Fault> {
    let code = engine.code(digest, Source::File(path.to_owned()));
    let kept = engine.cache().and_then(|cache| cache.get(Kind::Description, digest)).and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(description) = kept.and_then(|text| Description::from_json(&text).ok()) {
        return with_schema(description, code);
    }
    let description = describe::ask(engine, name, &code).await?;
    let (description, parts) = with_schema(description, code)?;
    if let Some(cache) = engine.cache() {
        cache.put(Kind::Description, digest, description.to_json().as_bytes());
    }
    Ok((description, parts))
}

/// A schema that is none makes a backend fail here, not at its first run.
fn with_schema(description: Description, code: Arc<Code>) -> Result<(Description, Parts), Fault> {
    let wrong = |which: &str, why: String| Fault::new(code::CONTRACT_VIOLATION, format!("its {which} is no JSON Schema 2020-12: {why}"));
    let schema = Schema::compile(&description.config_schema).map_err(|why| wrong("config_schema", why))?;
    if let Some(target) = &description.target_schema {
        Schema::compile(target).map_err(|why| wrong("target_schema", why))?;
    }
    Ok((description, Parts { code, schema: Arc::new(schema) }))
}

fn being_compiled(path: &Utf8Path) -> Facts {
    let fault =
        Fault::new(code::BACKEND_UNAVAILABLE, "it is being compiled for the first time").retryable().hint("ask again in a little while");
    Facts { source: path.to_string(), digest: String::new(), said: Err(fault) }
}

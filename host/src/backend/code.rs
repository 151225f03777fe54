//! One component's compiled code: taken from the cache or compiled, once, however many ask.
//!
//! Nothing of it happens on a thread that serves clients or runs guests: each compilation has threads of its own, with
//! a low priority, that end with it.

use std::fs::File;
use std::io::Read as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use camino::Utf8PathBuf;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::sync::oneshot;
use wasmtime::component::Component;

use super::cache::{Kind, digest};
use super::engine::Engine;
use super::limits::PLUGIN_BYTES;
use super::store::Data;
use super::{inspect, link, threads};
use crate::contract::BackendPre;
use crate::fault::{Fault, code};

/// Where a component's bytes are.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In this program.
    Bundled(&'static [u8]),
    /// In a file, which must still have the digest when it is read again.
    File(Utf8PathBuf),
}

type Pre = Arc<BackendPre<Data>>;
type Waiting = Shared<BoxFuture<'static, Result<Pre, Fault>>>;

/// See the module.
pub(super) struct Code {
    digest: String,
    source: Source,
    done: OnceLock<Pre>,
    waiting: Mutex<Option<Waiting>>,
}

impl Code {
    pub(super) fn new(digest: String, source: Source) -> Self {
        Self { digest, source, done: OnceLock::new(), waiting: Mutex::new(None) }
    }

    /// The linked code. Faults: `wit_version`, `wasi_version`, `backend_unavailable`; a fault that is not
    /// retryable stays, for this digest.
    pub(super) async fn prepared(self: &Arc<Self>, engine: &Engine) -> Result<Pre, Fault> {
        if let Some(pre) = self.done.get() {
            return Ok(pre.clone());
        }
        match self.waiting(engine).await {
            Ok(pre) => Ok(self.done.get_or_init(|| pre).clone()),
            Err(fault) => {
                if fault.retryable {
                    *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                Err(fault)
            }
        }
    }

    fn waiting(self: &Arc<Self>, engine: &Engine) -> Waiting {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = &*waiting {
            return waiting.clone();
        }
        let (to, done) = oneshot::channel();
        let (code, engine) = (self.clone(), engine.clone());
        let spawned = thread::Builder::new().name("falconer-compile".into()).spawn(move || {
            let _ = to.send(code.load(&engine));
        });
        let shared = async move {
            if let Err(error) = spawned {
                return Err(unavailable(format!("no thread to compile it: {error}")).retryable());
            }
            done.await.unwrap_or_else(|_| Err(unavailable("the compiler panicked".into())))
        }
        .boxed()
        .shared();
        *waiting = Some(shared.clone());
        shared
    }

    fn load(&self, engine: &Engine) -> Result<Pre, Fault> {
        let component = match self.cached(engine) {
            Some(component) => component,
            None => self.compile(engine)?,
        };
        let pre = link::link(engine.linker(), &component)
            .map_err(|error| Fault::new(code::WIT_VERSION, format!("it does not fit the world of a backend: {error:#}")))?;
        Ok(Arc::new(pre))
    }

    #[expect(unsafe_code, reason = "loading compiled code is unsafe by nature")]
    fn cached(&self, engine: &Engine) -> Option<Component> {
        let bytes = engine.cache()?.get(Kind::Code, &self.digest)?;
        // SAFETY: `Component::deserialize` asks for bytes that `Component::serialize` made and nobody changed. These
        // carry the seal that `Cache::put` made over them and over this component's digest, with a key that only this
        // user can read; they were checked in memory, and are used from there. wasmtime itself refuses what was made
        // for another version, processor or settings.
        match unsafe { Component::deserialize(engine.wasmtime(), &bytes) } {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!("the cached code of {} is not used: {error:#}", self.digest);
                None
            }
        }
    }

    fn compile(&self, engine: &Engine) -> Result<Component, Fault> {
        let read;
        let bytes = match &self.source {
            Source::Bundled(bytes) => *bytes,
            Source::File(path) => {
                read = read_file(path)?;
                if digest(&read) != self.digest {
                    return Err(unavailable(format!("{path} was replaced just now")).retryable().hint("ask again"));
                }
                &read
            }
        };
        inspect::check(bytes)?;
        threads::nice_for_compiling();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads::cores())
            .thread_name(|_| "falconer-compile".into())
            .start_handler(|_| threads::nice_for_compiling())
            .build()
            .map_err(|error| unavailable(format!("no threads to compile it: {error}")).retryable())?;
        let component = pool
            .install(|| Component::new(engine.wasmtime(), bytes))
            .map_err(|error| unavailable(format!("it cannot be compiled: {error:#}")))?;
        if let Some(cache) = engine.cache() {
            match component.serialize() {
                Ok(compiled) => cache.put(Kind::Code, &self.digest, &compiled),
                Err(error) => tracing::warn!("the code of {} cannot be kept: {error:#}", self.digest),
            }
        }
        Ok(component)
    }
}

fn unavailable(message: String) -> Fault {
    Fault::new(code::BACKEND_UNAVAILABLE, message)
}

/// Reads a component's file, if it is not too large.
pub(super) fn read_file(path: &camino::Utf8Path) -> Result<Vec<u8>, Fault> {
    let failed = |error: std::io::Error| unavailable(format!("{path} cannot be read: {error}"));
    read_open(File::open(path).map_err(failed)?).map_err(failed)
}

/// The same of an open file.
pub(super) fn read_open(file: File) -> std::io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    if size > PLUGIN_BYTES {
        return Err(std::io::Error::other(format!("it has {size} bytes; a plugin may have {PLUGIN_BYTES}")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(PLUGIN_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

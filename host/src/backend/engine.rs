//! The one wasmtime engine of a host: its settings, its threads, its epoch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use camino::Utf8PathBuf;
use tokio::runtime::{Handle, Runtime};
use wasmtime::component::Linker;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::cache::Cache;
use super::code::{Code, Source};
use super::limits::{CORE_INSTANCES, MEMORIES, SPARE_INSTANCES, TABLE_ELEMENTS, TABLES};
use super::link;
use super::store::Data;
use super::threads::{self, Reaper, Ticker};
use crate::fault::{Fault, code};

/// What the engine is made with.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Live instances at once.
    pub instances: u32,
    /// The most memory that any component may have.
    pub memory: u64,
    /// Where compiled components are kept; none: nowhere.
    pub cache_dir: Option<Utf8PathBuf>,
    /// Wall time of one call.
    pub call_wall: Duration,
}

/// The engine. Cheap to clone. The guest runtime and the threads end with the last clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    wasmtime: wasmtime::Engine,
    linker: Linker<Data>,
    options: EngineOptions,
    cache: Option<Cache>,
    codes: Mutex<HashMap<String, Weak<Code>>>,
    ticker: Ticker,
    reaper: Reaper,
    handle: Handle,
    guests: Option<Runtime>,
}

impl Engine {
    /// Makes the engine, its guest runtime (threads of their own) and its epoch ticker (parked while no guest runs).
    pub fn new(options: EngineOptions) -> Result<Self, Fault> {
        let wrong = |error: wasmtime::Error| Fault::new(code::INTERNAL, format!("the wasm engine cannot be made: {error:#}"));
        let wasmtime = wasmtime::Engine::new(&settings(&options)).map_err(wrong)?;
        let linker = link::linker(&wasmtime).map_err(wrong)?;
        let guests = threads::guest_runtime()?;
        let handle = guests.handle().clone();
        let cache = options.cache_dir.as_deref().map(|dir| Cache::open(dir, &wasmtime));
        Ok(Self(Arc::new(Inner {
            ticker: Ticker::start(wasmtime.clone())?,
            reaper: Reaper::start(handle.clone())?,
            codes: Mutex::default(),
            wasmtime,
            linker,
            options,
            cache,
            handle,
            guests: Some(guests),
        })))
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    pub(super) fn linker(&self) -> &Linker<Data> {
        &self.0.linker
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.0.cache.as_ref()
    }

    pub(super) fn guests(&self) -> &Handle {
        &self.0.handle
    }

    pub(super) fn ticker(&self) -> &Ticker {
        &self.0.ticker
    }

    pub(super) fn reaper(&self) -> &Reaper {
        &self.0.reaper
    }

    pub(super) fn call_wall(&self) -> Duration {
        self.0.options.call_wall
    }

    pub(super) fn memory(&self) -> u64 {
        self.0.options.memory
    }

    /// The code of a component: one for all that ask for the same digest, compiled when first needed.
    pub(super) fn code(&self, digest: &str, source: Source) -> Arc<Code> {
        let mut codes = self.0.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = codes.get(digest).and_then(Weak::upgrade) {
            return code;
        }
        codes.retain(|_, code| code.strong_count() > 0);
        let code = Arc::new(Code::new(digest.to_owned(), source));
        codes.insert(digest.to_owned(), Arc::downgrade(&code));
        code
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(guests) = self.guests.take() {
            // Without waiting: this may be a thread of another runtime.
            guests.shutdown_background();
        }
    }
}

/// Pooled instances with copy-on-write memories: an idle one costs some tens of KiB.
fn settings(options: &EngineOptions) -> Config {
    let live = options.instances.saturating_add(SPARE_INSTANCES);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(live)
        .total_core_instances(live.saturating_mul(CORE_INSTANCES))
        .total_memories(live.saturating_mul(MEMORIES))
        .total_tables(live.saturating_mul(4))
        .total_stacks(live)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .max_memory_size(usize::try_from(options.memory).unwrap_or(usize::MAX).min(4 << 30))
        .table_elements(TABLE_ELEMENTS);
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_init_cow(true)
        .wasm_component_model(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(64));
    config
}

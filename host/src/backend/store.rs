//! One instance's store: what it holds, and its limits.

use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::life::Life;
use super::limits::{CALL_BYTES, DRAIN_BYTES, HANDLES, Limiter, RANDOM_BYTES};
use super::stdio::{LastWords, Stream};
use crate::capability::{Host, RunLog};

/// What the imports work on.
pub(super) struct Data {
    /// The run's capabilities.
    pub(super) host: Host,
    wasi: WasiCtx,
    wasi_table: ResourceTable,
    limiter: Limiter,
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.wasi_table }
    }
}

impl Drop for Data {
    /// However an instance ends: what its children wrote and nobody read is not lost.
    fn drop(&mut self) {
        self.host.drain_into_log(DRAIN_BYTES);
    }
}

/// A store with every limit set and nothing granted by WASI: no directory, no variable, no argument, no network.
pub(super) fn store(
    engine: &wasmtime::Engine,
    host: Host,
    log: &RunLog,
    words: &LastWords,
    memory: u64,
    life: std::sync::Arc<Life>,
) -> wasmtime::Result<Store<Data>> {
    let wasi = WasiCtxBuilder::new()
        .stdout(Stream::stdout(log))
        .stderr(Stream::stderr(log, words.clone()))
        .max_random_size(RANDOM_BYTES)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build();
    let mut wasi_table = ResourceTable::new();
    wasi_table.set_max_capacity(HANDLES);
    let mut store = Store::try_new(engine, Data { host, wasi, wasi_table, limiter: Limiter::new(memory) })?;
    store.limiter(|data| &mut data.limiter);
    store.set_hostcall_fuel(CALL_BYTES);
    store.set_max_component_handles(HANDLES);
    store.epoch_deadline_callback(move |_| {
        life.tick()?;
        Ok(UpdateDeadline::Yield(1))
    });
    Ok(store)
}

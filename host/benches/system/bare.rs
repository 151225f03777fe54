//! The limits: what the machine, wasmtime and rmcp do with nothing of ours around them.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{ServerCapabilities, ServerConfig};
use rmcp::{ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::table::Samples;

/// Set: this program is the echo server.
pub const ECHO: &str = "FALCONER_BENCH_ECHO";

/// One append of this size and an fdatasync, where the data directory is.
pub fn fsync(dir: &Path, count: usize) -> Samples {
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("fsync")).unwrap();
    Samples::of(count, || {
        file.write_all(&[7; 1_024]).unwrap();
        file.sync_data().unwrap();
    })
}

struct Data {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A store and an instance in it, from the pool, of this component; imports that are not WASI's trap.
pub fn instantiate(wasm: &[u8], count: usize) -> Samples {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::default()));
    let engine = Engine::new(&config).unwrap();
    let component = Component::new(&engine, wasm).unwrap();
    let mut linker: Linker<Data> = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    linker.define_unknown_imports_as_traps(&component).unwrap();
    let pre: InstancePre<Data> = linker.instantiate_pre(&component).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    Samples::of(count, || {
        let data = Data { wasi: WasiCtxBuilder::new().build(), table: ResourceTable::new() };
        let mut store = Store::new(&engine, data);
        store.set_epoch_deadline(1);
        runtime.block_on(pre.instantiate_async(&mut store)).unwrap();
    })
}

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Words {
    text: String,
}

#[derive(Clone)]
struct Echo {
    router: ToolRouter<Self>,
}

#[tool_router(router = tool_router)]
impl Echo {
    #[tool(description = "The text back.")]
    async fn echo(&self, Parameters(words): Parameters<Words>) -> Json<Words> {
        Json(words)
    }
}

#[tool_handler(router = self.router)]
impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

/// What this program is when [`ECHO`] is set: rmcp over tokio's stdin and stdout, one tool.
pub fn echo_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let echo = Echo { router: Echo::tool_router() };
        let service = echo.serve((tokio::io::stdin(), tokio::io::stdout())).await.unwrap();
        let _ = service.waiting().await;
    });
}

/// The command that starts it.
pub fn echo() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env_clear().env(ECHO, "1");
    command
}

//! The engine room against real components.

mod calls;
mod guest;
mod measure;
mod plugins;

use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::code::Source;
use super::instance::Spec;
use super::limits::Account;
use super::{Engine, EngineOptions, Instance};
use crate::capability::{Host, News, RunLog};
use crate::contract::falconer::backend::types as wit;
use crate::fault::Fault;

/// Memory of a component in tests.
const MEMORY: u64 = 64 << 20;

/// A room with an engine in it.
struct Room {
    engine: Engine,
    dir: Utf8PathBuf,
    _temp: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut EngineOptions)) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        let mut options = EngineOptions { instances: 64, memory: 256 << 20, cache_dir: None, call_wall: Duration::from_secs(20) };
        change(&mut options);
        Self { engine: Engine::new(options).unwrap(), dir, _temp: temp }
    }

    /// An instance with generous limits.
    async fn instance(&self, component: &[u8]) -> Instance {
        self.try_instance(component, Limits::default()).await.unwrap()
    }

    async fn limited(&self, component: &[u8], limits: Limits) -> Instance {
        self.try_instance(component, limits).await.unwrap()
    }

    async fn try_instance(&self, component: &[u8], limits: Limits) -> Result<Instance, Fault> {
        let digest = super::cache::digest(component);
        let path = self.dir.join(format!("{digest}.bin"));
        std::fs::write(&path, component).unwrap();
        let code = self.engine.code(&digest, Source::File(path));
        Instance::with(Spec {
            engine: self.engine.clone(),
            backend: "guest".into(),
            pre: code.prepared(&self.engine).await?,
            host: Host::refusing(None),
            news: News::default(),
            log: limits.log,
            memory: limits.memory,
            account: Account::new(limits.call_cpu, limits.cpu),
        })
        .await
    }
}

/// Limits of a test.
struct Limits {
    memory: u64,
    call_cpu: Duration,
    cpu: Duration,
    log: RunLog,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: MEMORY, call_cpu: Duration::from_secs(60), cpu: Duration::from_secs(60), log: RunLog::none() }
    }
}

fn job() -> wit::Job {
    wit::Job {
        run_id: "run_0000000000000000".into(),
        life: 1,
        message: vec![wit::Part::Text("go".into())],
        instructions: None,
        cwd: None,
        session: None,
        target: None,
        output_schema: None,
        config: "{}".into(),
        limits: wit::Limits { wall_ms: None, idle_ms: None, ask_ms: 1000, output_bytes: 1 << 20 },
        checkpoint: None,
        only_end: false,
    }
}

/// Waits until something is so; fails after ten seconds.
async fn until(what: &str, so: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(10), "not so after ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn put(dir: &Utf8Path, name: &str, bytes: &[u8]) {
    std::fs::create_dir_all(dir).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let new = dir.join(format!(".new-{name}"));
    std::fs::write(&new, bytes).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::rename(&new, dir.join(format!("{name}.wasm"))).unwrap();
}

fn shared<T>(value: T) -> Arc<T> {
    Arc::new(value)
}

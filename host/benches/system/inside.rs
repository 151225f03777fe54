//! What cannot be seen from outside: the engine room alone, without ledger, daemon and client.

use std::path::Path;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use falconer::backend::{Engine, EngineOptions, Instance, Made, Registry};
use falconer::capability::{Host, News, RunLog};
use falconer::config::{Config, Overrides};

use crate::table::Samples;

/// Makes and discards instances of a bundled backend as runs do; the time until the first call may be made.
pub fn instances(home: &Path, backend: &str, count: usize) -> Samples {
    let home = Utf8PathBuf::from_path_buf(home.to_owned()).unwrap();
    let config = Config::parse("", None, &Overrides::at_home(&home)).unwrap();
    let limits = config.backend(backend).limits.clone();
    let options = EngineOptions { instances: 100, memory: limits.memory, cache_dir: None, call_wall: Duration::from_secs(5) };
    let registry = Registry::open(Engine::new(options).unwrap(), &config);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let times = runtime.block_on(async {
        let found = registry.get(backend).await.unwrap();
        let mut times = Vec::with_capacity(count);
        // The first compiles, and is not counted.
        for round in 0..=count {
            let made = Made {
                backend: found.clone(),
                host: Host::refusing(None),
                news: News::default(),
                log: RunLog::none(),
                limits: limits.clone(),
            };
            let begin = Instant::now();
            let instance = Instance::new(made).await.unwrap();
            if round > 0 {
                times.push(begin.elapsed());
            }
            instance.cut();
            instance.gone().await;
        }
        times
    });
    Samples::new(times)
}

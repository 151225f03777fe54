//! Numbers, not verdicts: `cargo test --workspace --release --lib backend::tests::measure -- --ignored --nocapture`.

use std::time::Instant;

use super::guest::{Guest, SPIN};
use super::*;

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    println!("{what}: p50 {:?}, p99 {:?}, max {:?} (n={})", at(50), at(99), times[times.len() - 1], times.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn instances() {
    let room = Room::with(|options| options.instances = 1100);
    let guest = Guest::new().build();
    let mut times = Vec::new();
    for _ in 0..500 {
        let start = Instant::now();
        let instance = room.instance_of(&guest).await;
        times.push(start.elapsed());
        instance.cut();
        instance.gone().await;
    }
    show("instance, made through the handle", times);
    let instance = room.instance_of(&guest).await;
    let mut times = Vec::new();
    for _ in 0..5000 {
        let start = Instant::now();
        instance.poll().await.unwrap();
        times.push(start.elapsed());
    }
    show("poll through the handle", times);
    let before = resident();
    let mut held = Vec::new();
    for _ in 0..1000 {
        let instance = room.instance_of(&guest).await;
        instance.start(job()).await.unwrap().unwrap();
        instance.poll().await.unwrap();
        held.push(instance);
    }
    println!("resident for each of 1000 idle instances: {} KiB", (resident() - before) / 1000 / 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn cuts() {
    let room = Room::with(|options| options.instances = 200);
    let spin = Guest::new().body("poll", SPIN).build();
    let good = room.instance_of(&Guest::new().build()).await;
    for spinners in [1_usize, 50] {
        let mut held = Vec::new();
        let (mut times, mut beside, mut timers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..if spinners == 1 { 300 } else { 350 } {
            while held.len() < spinners {
                let instance = shared(room.instance_of(&spin).await);
                let spinning = instance.clone();
                tokio::spawn(async move { spinning.poll().await.map(drop) });
                held.push(instance);
            }
            let start = Instant::now();
            tokio::time::sleep(Duration::from_millis(3)).await;
            timers.push(start.elapsed() - Duration::from_millis(3));
            let start = Instant::now();
            good.poll().await.unwrap();
            beside.push(start.elapsed());
            let instance = held.remove(0);
            let start = Instant::now();
            instance.cut();
            instance.gone().await;
            times.push(start.elapsed());
        }
        show(&format!("cut of one of {spinners} spinning"), times);
        show(&format!("poll of another beside {spinners} spinning"), beside);
        show(&format!("timer of the serving runtime late by, beside {spinners} spinning"), timers);
        drop(held);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn refusals() {
    let room = Room::new();
    for (what, count) in [("checkpoint", 100_000_000), ("events", 1_000_000)] {
        let guest = Guest::new().body("poll", &super::calls::step_with(what, count, 2500)).build();
        let limits = Limits { memory: 256 << 20, ..Limits::default() };
        let instance = room.limited(&guest, limits).await;
        let before = resident();
        instance.poll().await.unwrap_err();
        println!("{what} of {count} refused: {} KiB more resident", resident().saturating_sub(before) >> 10);
    }
}

/// A component of any language, by its file in `FALCONER_MEASURE`: `componentize-py`, `jco` …
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_component_of_yours() {
    let Ok(path) = std::env::var("FALCONER_MEASURE") else { return };
    let room = Room::new();
    let component = std::fs::read(path).unwrap();
    let start = Instant::now();
    let code = room.engine.code(&crate::backend::cache::digest(&component), Source::Bundled(component.leak()));
    code.prepared(&room.engine).await.unwrap();
    println!("compiled in {:?}", start.elapsed());
    println!("{:?}", crate::backend::describe::ask(&room.engine, "yours", &code).await.unwrap());
    let before = resident();
    let mut times = Vec::new();
    let mut held = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let pre = code.prepared(&room.engine).await.unwrap();
        let instance = room.with_pre(pre).await;
        instance.start(job()).await.unwrap().unwrap();
        instance.poll().await.unwrap();
        times.push(start.elapsed());
        held.push(instance);
    }
    show("instance, start and poll", times);
    println!("resident for each of 20: {} KiB", (resident() - before) / 20 / 1024);
}

impl Room {
    async fn with_pre(&self, pre: Arc<crate::contract::BackendPre<crate::backend::store::Data>>) -> Instance {
        Instance::with(Spec {
            engine: self.engine.clone(),
            backend: "guest".into(),
            pre,
            host: Host::refusing(None),
            news: News::default(),
            log: RunLog::none(),
            memory: 256 << 20,
            account: Account::new(Duration::from_secs(600), Duration::from_secs(600)),
        })
        .await
        .unwrap()
    }

    /// Without writing a file each time.
    async fn instance_of(&self, component: &[u8]) -> Instance {
        let digest = crate::backend::cache::digest(component);
        let path = self.dir.join(format!("{digest}.bin"));
        if !path.exists() {
            std::fs::write(&path, component).unwrap();
        }
        let code = self.engine.code(&digest, Source::File(path));
        let pre = code.prepared(&self.engine).await.unwrap();
        // As long as the room lives.
        std::mem::forget(code);
        self.with_pre(pre).await
    }
}

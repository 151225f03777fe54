//! Trees alone, without ledger, daemon and component: what a shim adds to a start, and from a kill to its proof.
//!
//! A process that holds trees is a child subreaper and starts shims that are this program again, so it is one of its
//! own, which the bench starts and which prints what it measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use falconer::config::Cgroup;
use falconer::id::RunId;
use falconer::tree::{Ground, Plan, Tree, Verdict};

use crate::forest;
use crate::table::Samples;

/// Set: this program measures trees in the directory that it names.
pub const HOLDER: &str = "FALCONER_BENCH_HOLDER";
/// Set beside it: `required` or `off`.
const WAY: &str = "FALCONER_BENCH_WAY";

/// What one way took.
pub struct Held {
    pub bare: Samples,
    pub shim: Samples,
    /// By the size of the tree.
    pub stops: BTreeMap<usize, Samples>,
}

/// Measures in a process of its own.
pub fn measure(dir: &Path, way: &str) -> Held {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env_clear().env(HOLDER, dir).env(WAY, way).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut read: BTreeMap<String, Vec<u64>> = serde_json::from_slice(&output.stdout).unwrap();
    let mut take = |name: &str| Samples::new(read.remove(name).unwrap().into_iter().map(Duration::from_nanos).collect());
    let (bare, shim) = (take("bare"), take("shim"));
    Held { bare, shim, stops: forest::SIZES.iter().map(|size| (*size, take(&size.to_string()))).collect() }
}

/// What this program is when [`HOLDER`] is set.
pub fn holder() {
    let dir = std::env::var(HOLDER).unwrap();
    let way = if std::env::var(WAY).unwrap() == "off" { Cgroup::Off } else { Cgroup::Required };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut read: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    runtime.block_on(async {
        let ground = Ground::open(Utf8Path::new(&dir), way).unwrap();
        let tree = Tree::new(RunId::random(), ground.clone());
        // In turns, so that both meet the same minute; the first of each is not counted.
        for round in 0..=200 {
            let begin = Instant::now();
            let mut bare =
                Command::new("/bin/true").env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let took = begin.elapsed();
            bare.wait().unwrap();
            let begin = Instant::now();
            let child = tree.spawn(plan("/bin/true", &[])).await.unwrap();
            let with_shim = begin.elapsed();
            tree.empty().await;
            drop(child);
            if round > 0 {
                read.entry("bare".into()).or_default().push(took);
                read.entry("shim".into()).or_default().push(with_shim);
            }
        }
        tree.kill().await;
        tree.prove(Duration::from_secs(5)).await;
        tree.forget().await;
        for size in forest::SIZES {
            for _ in 0..forest::rounds(*size) {
                let run = RunId::random();
                let tree = Tree::new(run, ground.clone());
                let child = tree.spawn(plan("/bin/sh", &["-c", &forest::script(*size)])).await.unwrap();
                forest::grown(&run.to_string(), *size);
                let begin = Instant::now();
                tree.kill().await;
                let verdict = tree.prove(Duration::from_secs(5)).await;
                let took = begin.elapsed();
                assert!(matches!(verdict, Verdict::Empty(_)), "{verdict:?}");
                assert_eq!(tree.killed().total, *size as u64);
                drop(child);
                tree.forget().await;
                read.entry(size.to_string()).or_default().push(took);
            }
        }
        ground.close();
    });
    let read: BTreeMap<_, Vec<u64>> =
        read.into_iter().map(|(name, times)| (name, times.iter().map(|time| u64::try_from(time.as_nanos()).unwrap()).collect())).collect();
    println!("{}", serde_json::to_string(&read).unwrap());
}

fn plan(program: &str, args: &[&str]) -> Plan {
    Plan {
        program: program.into(),
        args: args.iter().map(Into::into).collect(),
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        cwd: None,
        stdin: false,
    }
}

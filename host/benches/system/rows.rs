//! The rows of the table.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::agents;
use crate::bare;
use crate::client::Client;
use crate::host::{Host, USUAL};
use crate::inside;
use crate::patience::until;
use crate::processes::Seen;
use crate::remote;
use crate::table::{Samples, Table, ratio, time};
use crate::trees;
use crate::wire::Wire;

type Row = fn(&mut Table);

pub const ALL: &[(&str, Row)] = &[
    ("start", start),
    ("spawn", spawn),
    ("instance", instance),
    ("stop", stop),
    ("events", events),
    ("idle", idle),
    ("get_run", get_run),
    ("held", trees::held),
    ("cancel", trees::cancel),
    ("private", trees::private),
    ("tree_end", trees::stop_all),
    ("agents", agents::overhead),
    ("ssh", remote::remote),
];

const COUNT: usize = 300;
/// How long a guest spins before it is stopped: from 10 ms on a call counts as a spin, which is cut at once.
const SPUN: Duration = Duration::from_millis(40);
/// Runs of one backend at once, and events of one run, as far as a bench goes.
fn roomy() -> Host {
    let limits = "runs = 2000\nevents = 10000000\nevents_per_s = 10000000\noutput = \"8 GiB\"\ncpu = \"1h\"\nchildren = 4";
    let config = USUAL
        .replace("runs = 500\ncall_cpu = \"500 ms\"\nchildren = 4", &format!("{limits}\ncall_cpu = \"60 s\""))
        .replace("runs = 500\ncall = \"1 s\"", "runs = 2000\ncall = \"60 s\"");
    assert!(config.contains("events_per_s"), "the usual configuration has changed");
    let host = Host::with(&config);
    // Compiled and in the cache before anything is measured.
    let client = host.client();
    assert_eq!(client.run(host.hostile(json!({ "mode": "echo" })))["status"], "completed");
    host
}

fn start(table: &mut Table) {
    let host = roomy();
    let begin = || Wire::ready(host.command(&["mcp"]));
    let there = Samples::of(50, || drop(begin()));
    let bare = Samples::of(50, || drop(Wire::ready(bare::echo())));
    table.row(
        "start to `initialize` answered, daemon there",
        &there,
        "10 ms",
        format!("bare rmcp server: {bare}"),
        ratio(there.p50(), bare.p50()),
    );
    let cold = (0..20).map(|_| {
        host.run(&["stop"]).well();
        let begin = Instant::now();
        let wire = Wire::ready(host.command(&["mcp"]));
        let time = begin.elapsed();
        drop(wire);
        time
    });
    let cold = Samples::new(cold.collect());
    table.row("the same, daemon not there", &cold, "60 ms", "the same", ratio(cold.p50(), bare.p50()));
}

fn spawn(table: &mut Table) {
    let host = roomy();
    let mut wire = Wire::ready(host.command(&["mcp"]));
    let request = host.hostile(json!({ "mode": "idle" }));
    let mut runs = Vec::new();
    let ours = Samples::new(
        (0..COUNT)
            .map(|_| {
                let begin = Instant::now();
                let answer = wire.call("spawn_run", &request);
                let time = begin.elapsed();
                runs.push(answer["run_id"].clone());
                time
            })
            .collect(),
    );
    for run in runs {
        wire.call("cancel_run", &json!({ "run_id": run }));
    }
    let (fsync, instance) = (bare::fsync(&host.path(""), COUNT), bare::instantiate(falconer_hostile::HOSTILE, COUNT));
    let limit = fsync.p50() + instance.p50();
    table.row(
        "`spawn_run` answered, no child",
        &ours,
        "2 ms p50",
        format!("fdatasync {} + instance {}", time(fsync.p50()), time(instance.p50())),
        ratio(ours.p50(), limit),
    );
}

fn instance(table: &mut Table) {
    let home = tempfile::tempdir().unwrap();
    for backend in falconer_bundle::BACKENDS {
        let ours = inside::instances(home.path(), backend.name, 1_000);
        let bare = bare::instantiate(backend.wasm, 1_000);
        table.row(
            &format!("instance of `{}`", backend.name),
            &ours,
            "100 µs p50",
            format!("bare wasmtime: {bare}"),
            ratio(ours.p50(), bare.p50()),
        );
    }
}

fn stop(table: &mut Table) {
    for count in [1, 50] {
        let host = roomy();
        let mut wire = Wire::ready(host.command(&["mcp"]));
        let request = host.hostile(json!({ "mode": "spin_poll" }));
        let ended = AtomicBool::new(false);
        let mut times = Vec::new();
        let mut served = Vec::new();
        let mut other = Wire::ready(host.command(&["mcp"]));
        std::thread::scope(|scope| {
            // A client that is served all the while.
            let beside = scope.spawn(|| {
                let mut times = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    other.quick("list_runs", &json!({ "limit": 1 }));
                    times.push(begin.elapsed());
                    std::thread::sleep(Duration::from_millis(1));
                }
                times
            });
            for _ in 0..if count == 1 { 200 } else { 4 } {
                let runs: Vec<Value> = (0..count).map(|_| wire.call("spawn_run", &request)["run_id"].clone()).collect();
                for run in &runs {
                    until("the guest to spin", || (wire.call("get_run", &json!({ "run_id": run }))["status"] == "running").then_some(()));
                }
                std::thread::sleep(SPUN);
                for run in &runs {
                    let begin = Instant::now();
                    let answer = wire.call("cancel_run", &json!({ "run_id": run }));
                    times.push(begin.elapsed());
                    assert_eq!(answer["status"], "cancelled", "{answer}");
                }
            }
            ended.store(true, Ordering::Relaxed);
            served = beside.join().unwrap();
        });
        let (ours, served) = (Samples::new(times), Samples::new(served));
        let fsync = bare::fsync(&host.path(""), COUNT);
        table.row(
            &format!("`cancel_run` of {count} spinning, to the durable end"),
            &ours,
            "1 ms p50, 20 ms p99",
            format!("fdatasync {fsync}"),
            ratio(ours.p50(), fsync.p50()),
        );
        table.row(&format!("a client's `list_runs` beside {count} spinning"), &served, "served", "", "");
    }
}

fn events(table: &mut Table) {
    for runs in [1, 10] {
        const ALL: u64 = 400_000;
        let host = roomy();
        let mut wire = Wire::ready(host.command(&["mcp"]));
        let each = ALL / runs;
        let config = json!({ "mode": "flood", "n": each, "size": 100, "batch": 512 });
        let begin = Instant::now();
        let runs: Vec<String> =
            (0..runs).map(|_| wire.call("spawn_run", &host.hostile(config.clone()))["run_id"].as_str().unwrap().to_owned()).collect();
        let seen: u64 = std::thread::scope(|scope| {
            let pollers: Vec<_> = runs.iter().map(|run| scope.spawn(|| read_all(Wire::ready(host.command(&["mcp"])), run))).collect();
            pollers.into_iter().map(|poller| poller.join().unwrap()).sum()
        });
        let took = begin.elapsed();
        assert!(seen >= ALL, "{seen} of {ALL} events");
        let rate = seen as f64 / took.as_secs_f64();
        let what = format!("events from component to durable to client, {} run(s)", runs.len());
        table.row(&what, format!("{:.0}/s", rate), "50,000/s in all", "", format!("{:.2} × the reach", rate / 50_000.0));
    }
}

/// Reads a run to its end; how many events there were.
fn read_all(mut wire: Wire, run: &str) -> u64 {
    let mut after = 0;
    loop {
        let request = json!({ "run_id": run, "after_seq": after, "limit": 2_000, "max_chars": 1_000_000, "wait_ms": 10_000 });
        let page = wire.call("poll_events", &request);
        after = page["next_after_seq"].as_u64().unwrap();
        if page["ended"] == json!(true) && page["has_more"] == json!(false) {
            return after;
        }
    }
}

fn idle(table: &mut Table) {
    const RUNS: usize = 1_000;
    const WATCH: Duration = Duration::from_secs(10);
    let host = roomy();
    let client: Client = host.client();
    let daemon = host.daemon().unwrap();
    let before = daemon.memory("VmRSS").unwrap();
    let runs: Vec<String> = (0..RUNS).map(|_| client.spawn(host.hostile(json!({ "mode": "idle" })))).collect();
    for run in &runs {
        client.until_status(run, "running");
    }
    let after = daemon.memory("VmRSS").unwrap();
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    table.row("host with 1,000 idle runs, resident", mib(after), "120 MiB", format!("without runs {}", mib(before)), "");
    table.row("resident for each idle run", format!("{} KiB", after.saturating_sub(before) / RUNS as u64 / 1_024), "100 KiB", "", "");
    // What followed the last start is over: two looks that are the same.
    let mut last = switches(daemon);
    until("the host to be still", || {
        std::thread::sleep(Duration::from_secs(1));
        let now = switches(daemon);
        let same = now == last;
        last = now;
        same.then_some(())
    });
    std::thread::sleep(WATCH);
    let woken: u64 = switches(daemon).into_iter().map(|(thread, count)| count - last.get(&thread).copied().unwrap_or(0)).sum();
    table.row("its wake-ups in 10 s", woken, "0", "", "");
}

/// How often each thread of it was put on a CPU after waiting.
fn switches(daemon: Seen) -> BTreeMap<OsString, u64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid)).unwrap();
    tasks
        .flatten()
        .filter_map(|task| Some((task.file_name(), std::fs::read_to_string(task.path().join("status")).ok()?)))
        .filter_map(|(task, status)| {
            Some((task, status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()?))
        })
        .collect()
}

fn get_run(table: &mut Table) {
    let host = roomy();
    let mut ours = Wire::ready(host.command(&["mcp"]));
    let run = ours.call("spawn_run", &host.hostile(json!({ "mode": "echo" })))["run_id"].clone();
    let arguments = json!({ "run_id": run });
    until("its end", || (ours.call("get_run", &arguments)["status"] == "completed").then_some(()));
    let size = ours.quick("get_run", &arguments);
    let mut echo = Wire::ready(bare::echo());
    let small = json!({ "text": "hello" });
    // The answer holds it twice, as text (quoted) and as structure.
    let large = json!({ "text": "x".repeat((size / 2).saturating_sub(60)) });
    // In turns, so that both meet the same minute.
    let (mut mine, mut bare, mut same) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        let take = |wire: &mut Wire, tool: &str, arguments: &Value, into: &mut Vec<Duration>| {
            for _ in 0..250 {
                let begin = Instant::now();
                wire.quick(tool, arguments);
                into.push(begin.elapsed());
            }
        };
        take(&mut ours, "get_run", &arguments, &mut mine);
        take(&mut echo, "echo", &small, &mut bare);
        take(&mut echo, "echo", &large, &mut same);
    }
    let (mine, bare, same) = (Samples::new(mine), Samples::new(bare), Samples::new(same));
    table.row(
        "`get_run` through pipe and daemon",
        &mine,
        "2 × the echo's p50",
        format!("bare rmcp echo, a word: {bare}"),
        ratio(mine.p50(), bare.p50()),
    );
    table.row("the same", &mine, "", format!("bare rmcp echo of {size} bytes: {same}"), ratio(mine.p50(), same.p50()));
}

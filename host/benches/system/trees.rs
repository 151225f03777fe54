//! The rows about native trees, in both ways of holding them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::forest::{self, RUNS, SIZES, WAYS};
use crate::host::{FALCONER, Host};
use crate::table::{Samples, Table, ratio, time};
use crate::wire::Wire;
use crate::{bare, held, processes};

/// `spawn` through a shim, and from a kill to its proof, without daemon and ledger.
pub fn held(table: &mut Table) {
    for (way, name) in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let held = held::measure(dir.path(), way);
        let added = held.shim.p50().saturating_sub(held.bare.p50());
        table.row(
            &format!("a child started through a shim, {name}"),
            &held.shim,
            "bare spawn + 3 ms p50",
            format!("bare spawn {}", held.bare),
            format!("+ {}", time(added)),
        );
        for (size, samples) in &held.stops {
            table.row(&format!("kill to proof, tree of {size}, {name}"), samples, reach(*size), "", "");
        }
    }
}

fn reach(size: usize) -> &'static str {
    if size < 100 { "10 ms p50" } else { "100 ms p50" }
}

/// `cancel_run`, from outside.
pub fn cancel(table: &mut Table) {
    for (way, name) in WAYS {
        let host = forest::host(way);
        let mut wire = Wire::ready(host.command(&["mcp"]));
        obedient(table, &host, &mut wire, name);
        for size in SIZES {
            killed(table, &host, &mut wire, name, *size);
        }
    }
}

/// A child that ends at TERM; the backend's own `cancel` sends it.
fn obedient(table: &mut Table, host: &Host, wire: &mut Wire, name: &str) {
    let times = (0..100).map(|_| {
        let run = forest::start(host, wire, "exec sleep 1000");
        forest::alone(&run);
        forest::cancel(wire, &run, None).0
    });
    let ours = Samples::new(times.collect());
    let fsync = bare::fsync(&host.path(""), 300);
    table.row(
        &format!("`cancel_run` of a child that obeys TERM, {name}"),
        &ours,
        "30 ms p50",
        format!("fdatasync {fsync}"),
        ratio(ours.p50(), fsync.p50()),
    );
}

/// A tree that is killed without being asked.
fn killed(table: &mut Table, host: &Host, wire: &mut Wire, name: &str, size: usize) {
    let (times, proofs): (Vec<Duration>, Vec<Duration>) = (0..forest::rounds(size))
        .map(|_| {
            let run = forest::start(host, wire, &forest::script(size));
            forest::grown(&run, size);
            let (took, answer) = forest::cancel(wire, &run, Some(0));
            assert_eq!(answer["receipt"]["killed_total"], size, "{answer}");
            (took, between(&answer["receipt"]))
        })
        .unzip();
    table.row(&format!("`cancel_run` with no grace, whole call, tree of {size}, {name}"), Samples::new(times), "", "", "");
    table.row(
        &format!("the same, rung `kill` to rung `prove` in its receipt, {name}"),
        Samples::new(proofs),
        "",
        "whole milliseconds; the proof itself is not in it",
        "",
    );
}

/// Of a receipt.
fn between(receipt: &Value) -> Duration {
    let at = |rung: &str| {
        let rungs = receipt["rungs"].as_array().unwrap();
        rungs.iter().find(|step| step["rung"] == rung).and_then(|step| step["after_ms"].as_u64()).unwrap_or_else(|| panic!("{receipt}"))
    };
    Duration::from_millis(at("prove").saturating_sub(at("kill")))
}

/// What a shim holds for itself while its child sleeps.
pub fn private(table: &mut Table) {
    // What was linked just now is not on disk, and its pages would count as dirty.
    std::fs::File::open(FALCONER).and_then(|file| file.sync_all()).unwrap();
    let host = forest::host("required");
    let mut wire = Wire::ready(host.command(&["mcp"]));
    for _ in 0..10 {
        let run = forest::start(&host, &mut wire, "exec sleep 1000");
        forest::alone(&run);
    }
    let shims = forest::shims(host.daemon().unwrap());
    assert_eq!(shims.len(), 10);
    let most = |field: &str| shims.iter().map(|pid| forest::rollup(*pid, field)).max().unwrap_or(0);
    let (dirty, share) = (most("Private_Dirty"), most("Pss"));
    table.row(
        "private dirty memory of a shim, the largest of 10",
        format!("{dirty} KiB"),
        "2 MiB",
        format!("its share of all: {share} KiB"),
        "",
    );
}

/// The end of a daemon with many runs.
pub fn stop_all(table: &mut Table) {
    for (way, name) in WAYS {
        let host = forest::host(way);
        let mut wire = Wire::ready(host.command(&["mcp"]));
        let runs: Vec<String> = (0..RUNS).map(|_| forest::start(&host, &mut wire, "sleep 1000 & wait")).collect();
        for run in &runs {
            forest::grown(run, 2);
        }
        let daemon = host.daemon().unwrap();
        let begin = Instant::now();
        host.run(&["stop"]).well();
        let took = begin.elapsed();
        assert!(!daemon.lives(), "the command is back before the daemon has ended");
        assert!(runs.iter().all(|run| processes::with_environment(run).is_empty()), "something lives");
        drop(wire);
        // The next daemon reads it from the ledger.
        let mut wire = Wire::ready(host.command(&["mcp"]));
        for run in &runs {
            forest::proven(&wire.call("get_run", &json!({ "run_id": run })));
        }
        table.row(&format!("`falconer stop` with {RUNS} runs of 2 processes, all proven empty, {name}"), time(took), "measured", "", "");
    }
}

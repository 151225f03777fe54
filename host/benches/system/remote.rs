//! The rows about far machines: a command over ssh through Falconer, beside the bare client at the same sshd.
//!
//! Both are driven in turns. The machine, its network and its sshd are those of the tests, so the network is the loopback.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::host::Host;
use crate::sshd::{Bare, Configuration, Setup, Sshd, Target, available};
use crate::table::{Samples, Table, ratio, time};
use crate::wire::Wire;

/// Commands of each, after one that warms the caches.
const ROUNDS: usize = 20;
/// Transfers of each, after one.
const TRANSFERS: usize = 5;
const BYTES: u64 = 100_000_000;

/// `ssh`
pub fn remote(table: &mut Table) {
    if !available("the rows of ssh") {
        return;
    }
    let sshd = Setup::new().start();
    let limits = "[backends.ssh.limits]\noutput = \"8 GiB\"\nevents = 10000000\nevents_per_s = 10000000\ncpu = \"1h\"";
    let host = Host::bare(Configuration::new().target(Target::of("far", &sshd)).any_line().table(limits).text());
    let mut wire = Wire::ready(host.command(&["mcp"]));
    let bare = Bare::to(&sshd);
    first_output(table, &mut wire, &bare);
    let text = format!("yes 'a line of output as programs say them, of usual length' | head -c {BYTES}");
    transfer(table, &mut wire, &bare, &host, &sshd, ("100 MB of text", &text));
    // Each of which is shown as a sign of three bytes.
    transfer(table, &mut wire, &bare, &host, &sshd, ("100 MB of NUL", &format!("head -c {BYTES} /dev/zero")));
    sharing(table, &sshd);
}

/// What a line that is shared would save: the bare client alone, each time anew and over a master that stays (5 s after the last).
fn sharing(table: &mut Table, sshd: &Sshd) {
    let path = tempfile::tempdir().unwrap();
    let master = format!("ControlPath={}/%C", path.path().display());
    let shared = Bare::to(sshd).option(&master).option("ControlMaster=auto").option("ControlPersist=5");
    let anew = Bare::to(sshd);
    let ended = |bare: &Bare| {
        let begin = Instant::now();
        let status = bare.command("true").stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{status}");
        begin.elapsed()
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let times = (ended(&shared), ended(&anew));
        if round > 0 {
            with.push(times.0);
            without.push(times.1);
        }
    }
    let (with, without) = (Samples::new(with), Samples::new(without));
    table.row(
        "bare `ssh HOST true`, a connection each",
        &without,
        "",
        format!("over a shared one {with}"),
        ratio(without.p50(), with.p50()),
    );
}

fn first_output(table: &mut Table, wire: &mut Wire, bare: &Bare) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let times = (spoken(wire), spoken_bare(bare));
        if round > 0 {
            ours.push(times.0);
            theirs.push(times.1);
        }
    }
    let (ours, theirs) = (Samples::new(ours), Samples::new(theirs));
    let over = ours.p50().saturating_sub(theirs.p50());
    table.row(
        "`spawn_run` over ssh to its first output",
        &ours,
        "bare + 50 ms p50",
        format!("bare ssh {theirs}"),
        format!("+ {}", time(over)),
    );
}

fn request(line: &str) -> Value {
    json!({ "backend": "ssh", "target": "far", "config": { "shell": line } })
}

/// From the call to the first output, as a client that polls sees it.
fn spoken(wire: &mut Wire) -> Duration {
    let begin = Instant::now();
    let run = wire.call("spawn_run", &request("echo up; exec sleep 1000"))["run_id"].clone();
    let mut after = 0;
    let took = loop {
        let page = wire.call("poll_events", &json!({ "run_id": run, "after_seq": after, "wait_ms": 20_000 }));
        if page["events"].as_array().unwrap().iter().any(|event| event["type"] == "command_output") {
            break begin.elapsed();
        }
        assert!(page["ended"] != json!(true), "no output: {page}");
        after = page["next_after_seq"].as_u64().unwrap();
    };
    wire.call("cancel_run", &json!({ "run_id": run }));
    took
}

fn spoken_bare(bare: &Bare) -> Duration {
    let begin = Instant::now();
    let mut child = bare.command("echo up; exec sleep 1000").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = [0; 3];
    child.stdout.take().unwrap().read_exact(&mut said).unwrap();
    let took = begin.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    took
}

fn transfer(table: &mut Table, wire: &mut Wire, bare: &Bare, host: &Host, sshd: &Sshd, (what, line): (&str, &str)) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let resident = |host: &Host| host.daemon().and_then(|daemon| daemon.memory("VmRSS")).unwrap_or(0);
    let mut before = 0;
    for round in 0..=TRANSFERS {
        let begin = Instant::now();
        let run = wire.call("spawn_run", &request(line))["run_id"].clone();
        let view = loop {
            let ended = wire.call("wait_runs", &json!({ "run_ids": [run], "wait_ms": 40_000 }));
            if ended["runs"][0]["status"] != "running" && ended["runs"][0]["status"] != "starting" {
                break ended;
            }
        };
        let took = begin.elapsed();
        assert_eq!(view["runs"][0]["status"], "completed", "{view}\n{}", sshd.log());
        let begin = Instant::now();
        let mut child = bare.command(line).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let got = std::io::copy(&mut child.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
        child.wait().unwrap();
        assert_eq!(got, BYTES);
        if round > 0 {
            ours.push(took);
            theirs.push(begin.elapsed());
        } else {
            before = resident(host);
        }
    }
    let after = resident(host);
    let (ours, theirs) = (Samples::new(ours), Samples::new(theirs));
    table.row(
        &format!("{what} over ssh, `spawn_run` to the end"),
        &ours,
        "1.5 times bare",
        format!("bare ssh {theirs}"),
        ratio(ours.p50(), theirs.p50()),
    );
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    table.row(
        &format!("the daemon's memory after {what}; after six times that"),
        format!("{}; {}", mib(before), mib(after)),
        "flat",
        "",
        "",
    );
}

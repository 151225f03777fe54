//! Every end of a run takes the same way, whatever its cause, and its receipt tells it as it was.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::client::Client;
use crate::host::{Host, USUAL};
use crate::patience::until;
use crate::processes::{Seen, carrying};

/// A tree that no TERM ends, with members that left everything; `{token}` marks them all in their arguments.
const STUBBORN: &str =
    "trap '' TERM; env -i setsid sleep {token} & (sleep {token} & sleep {token}) & sleep {token} & touch {up}; wait; wait";

/// A child beside a mode of the hostile component, and how to know its processes.
struct Stubborn {
    token: String,
    up: std::path::PathBuf,
}

impl Stubborn {
    fn new(work: &Path, name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // A number that `sleep` takes and nobody else has: it is in the arguments of every process of the tree.
        let token = format!("3{}.{:06}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { token, up: work.join(format!("{name}.up")) }
    }
    fn beside(&self, mode: &str) -> Value {
        let script = STUBBORN.replace("{token}", &self.token).replace("{up}", self.up.to_str().unwrap());
        json!({ "mode": mode, "program": "sh", "args": ["-c", script] })
    }
    fn is_up(&self) {
        until("the tree to stand", || (self.up.exists() && self.alive().len() >= 5).then_some(()));
    }
    fn alive(&self) -> Vec<Seen> {
        carrying(&self.token)
    }
    #[track_caller]
    fn is_gone(&self, run: &Value, cause: &str) {
        assert_eq!(self.alive(), [], "{run}");
        assert_eq!((&run["receipt"]["cause"], &run["receipt"]["proof"]["outcome"]), (&json!(cause), &json!("empty")), "{run}");
        assert_eq!(run["receipt"]["survivors"], json!([]), "{run}");
    }
    /// The same for one that stood when it was ended: only a kill ends that.
    #[track_caller]
    fn was_killed(&self, run: &Value, cause: &str) {
        self.is_gone(run, cause);
        assert!(run["receipt"]["killed_total"].as_u64().unwrap() > 0, "{run}");
    }
}

fn rungs(run: &Value) -> Vec<&str> {
    run["receipt"]["rungs"].as_array().unwrap().iter().map(|step| step["rung"].as_str().unwrap()).collect()
}

#[test]
fn faults_of_a_component_end_its_tree() {
    let host = Host::usual();
    let client = host.client();
    for (mode, code, component) in [
        ("panic_poll", "backend_trapped", "trapped"),
        ("spin_poll", "backend_busy", "trapped"),
        ("spin_start", "backend_busy", "trapped"),
        ("sleep_poll", "backend_blocked", "dropped"),
        ("sleep_start", "backend_blocked", "dropped"),
        ("fail_start", "start_failed", "returned"),
        ("again", "backend_idling", "returned"),
        ("bad_json", "contract_violation", "returned"),
    ] {
        let tree = Stubborn::new(&host.work(), mode);
        let run = client.run(host.hostile(tree.beside(mode)));
        assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!(code)), "{mode}: {run}");
        assert_eq!(run["receipt"]["component"], component, "{mode}: {run}");
        tree.is_gone(&run, if mode == "fail_start" { "finished" } else { "component" });
        client.events(run["run_id"].as_str().unwrap());
    }
}

#[test]
fn limits_end_a_tree() {
    const EVENTS: u64 = 200;
    let patient = USUAL.replace("call = \"1 s\"", "call = \"60 s\"");
    let host = Host::with(&patient.replace("call_cpu = \"500 ms\"", &format!("call_cpu = \"500 ms\"\nevents = {EVENTS}")));
    let client = host.client();
    for (name, mode, field, code, cause) in [
        ("wall", "idle", "timeout_s", "deadline_exceeded", "deadline"),
        ("quiet", "idle", "idle_timeout_s", "idle_exceeded", "idle"),
        ("many", "tick", "", "output_exceeded", "limit"),
    ] {
        // A machine may be too slow for the tree to stand by then; the next limit is wider.
        let stood = [2, 8, 32, 96].into_iter().any(|seconds| {
            let tree = Stubborn::new(&host.work(), &format!("{name}-{seconds}"));
            let mut config = tree.beside(mode);
            config["every_ms"] = json!(seconds * 1_000 / EVENTS);
            let mut request = host.hostile(config);
            if !field.is_empty() {
                request[field] = json!(seconds);
            }
            let run = client.run(request);
            assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!(code)), "{run}");
            tree.is_gone(&run, cause);
            let stood = tree.up.exists();
            if stood {
                tree.was_killed(&run, cause);
            }
            stood
        });
        assert!(stood, "{name}: no tree stood, however much time it had");
    }
}

#[test]
fn a_backend_that_is_finished_leaves_nothing_behind() {
    let host = Host::usual();
    let client = host.client();
    let tree = Stubborn::new(&host.work(), "finish");
    let run = client.run(host.hostile(tree.beside("finish_early")));
    assert_eq!(run["status"], "completed", "{run}");
    tree.is_gone(&run, "finished");
    assert!(rungs(&run).ends_with(&["cut", "prove"]), "{run}");
}

#[test]
fn rungs_are_climbed_in_order_and_can_be_skipped() {
    let slow = USUAL.replace("ask = \"500 ms\"", "ask = \"100 s\"").replace("terminate = \"500 ms\"", "terminate = \"100 s\"");
    let host = Host::with(&slow);
    let client = host.client();

    // No time at all: nobody is asked.
    let tree = Stubborn::new(&host.work(), "skip");
    let run = client.spawn(host.hostile(tree.beside("deaf")));
    tree.is_up();
    client.call("cancel_run", json!({ "run_id": run, "grace_ms": 0 }));
    let ended = client.ended(&run);
    tree.was_killed(&ended, "requested");
    assert_eq!(rungs(&ended), ["kill", "drain", "cut", "prove"], "{ended}");

    // Some time: each rung, and each takes its part.
    let tree = Stubborn::new(&host.work(), "share");
    let run = client.spawn(host.hostile(tree.beside("deaf")));
    tree.is_up();
    client.call("cancel_run", json!({ "run_id": run, "grace_ms": 400, "reason": "enough" }));
    let ended = client.ended(&run);
    tree.was_killed(&ended, "requested");
    assert_eq!(rungs(&ended), ["ask", "terminate", "kill", "drain", "cut", "prove"], "{ended}");
    assert_eq!(ended["receipt"]["reason"], "enough");
    let after = |rung: &str| {
        let steps = ended["receipt"]["rungs"].as_array().unwrap();
        steps.iter().find(|step| step["rung"] == rung).unwrap()["after_ms"].as_u64().unwrap()
    };
    assert!(after("terminate") >= 200 && after("kill") >= 400, "{ended}");

    // A hundred seconds, until somebody else cannot wait: in the first rung, and in the second.
    for (name, mode, rung) in [("first", "deaf", "ask"), ("second", "panic_cancel", "terminate")] {
        let tree = Stubborn::new(&host.work(), name);
        let run = client.spawn(host.hostile(tree.beside(mode)));
        tree.is_up();
        std::thread::scope(|scope| {
            let patient = host.client();
            let wish = scope.spawn({
                let run = run.clone();
                move || patient.cancel(&run)
            });
            until("the rung", || rungs_so_far(&client, &run).iter().any(|step| step == rung).then_some(()));
            let answer = client.call("cancel_run", json!({ "run_id": run, "grace_ms": 0 }));
            assert_eq!(wish.join().unwrap(), answer, "both are told the same");
        });
        let ended = client.ended(&run);
        assert_eq!(ended["status"], "cancelled", "{ended}");
        tree.was_killed(&ended, "requested");
    }
}

/// The rungs that a run that is being stopped shows.
fn rungs_so_far(client: &Client, run: &str) -> Vec<String> {
    let run = client.get(run);
    let rungs = run["receipt"]["rungs"].as_array().cloned().unwrap_or_default();
    rungs.iter().map(|step| step["rung"].as_str().unwrap().to_owned()).collect()
}

//! The host is killed, or ends in order, while runs are alive.

use serde_json::json;

use crate::host::Host;
use crate::patience::until;
use crate::processes::{Seen, with_environment};

/// Starts a child and a grandchild in a session of its own, says both pids, and waits.
const FAMILY: &str = "setsid sleep 1000 & echo pid $!; echo pid $$; wait";

/// The pids that a run's output names.
fn family(client: &crate::client::Client, run: &str) -> Vec<Seen> {
    let pids = until("two pids in the output", || {
        let output: String = client
            .events(run)
            .iter()
            .filter(|event| event["type"] == "command_output")
            .filter_map(|event| event["data"]["text"].as_str().map(str::to_owned))
            .collect();
        let pids: Vec<u32> = output.lines().filter_map(|line| line.strip_prefix("pid ")?.parse().ok()).collect();
        (pids.len() == 2).then_some(pids)
    });
    pids.into_iter().map(|pid| Seen::of(pid).expect("a living child")).collect()
}

#[test]
fn after_a_crash_runs_are_lost_and_their_processes_are_gone() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "spawn", "program": "sh", "args": ["-c", FAMILY] })));
    let idle = client.spawn(host.hostile(json!({ "mode": "idle" })));
    let done = client.run(host.hostile(json!({ "mode": "echo" })));
    client.until_status(&idle, "running");
    let before = client.events(&run);
    let children = family(&client, &run);
    host.crash();

    let client = host.client();
    for run in [&run, &idle] {
        let view = client.ended(run);
        assert_eq!(view["status"], "lost", "{view}");
        assert_eq!(view["error"]["code"], "host_lost");
        let events = client.events(run);
        assert_eq!(events.last().unwrap()["type"], "run_lost");
    }
    assert!(client.events(&run).starts_with(&before));
    for child in children {
        until("the children of the lost run to be gone", || (!child.lives()).then_some(()));
    }
    assert_eq!(with_environment(&format!("FALCONER_RUN_ID={run}")), []);
    let kept = client.get(done["run_id"].as_str().unwrap());
    assert_eq!((&kept["status"], &kept["result"]), (&json!("completed"), &done["result"]), "what had ended is as it was");
    assert_eq!(client.cancel(&run)["status"], "lost", "cancelling what has ended is no error");
    assert_eq!(client.run(host.hostile(json!({ "mode": "echo" })))["status"], "completed", "and new work is taken");
}

#[test]
fn an_orderly_end_stops_runs_first() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "spawn", "program": "sh", "args": ["-c", FAMILY] })));
    let children = family(&client, &run);
    let daemon = host.daemon().unwrap();
    host.run(&["stop"]).well();
    until("the daemon to end", || (!daemon.lives()).then_some(()));
    for child in children {
        until("the child to be gone", || (!child.lives()).then_some(()));
    }
    let client = host.client();
    let view = client.ended(&run);
    assert_eq!(view["status"], "cancelled", "{view}");
    assert_eq!(view["receipt"]["cause"], "shutdown");
}

#[test]
fn an_ended_session_goes_on_after_a_restart() {
    let host = Host::usual();
    let client = host.client();
    let run = client.run(host.hostile(json!({ "mode": "echo" })));
    host.crash();
    let client = host.client();
    let next = client.call("continue_run", json!({ "run_id": run["run_id"], "message": "still there?", "wait_ms": 30_000 }));
    let view = client.ended(next["run_id"].as_str().unwrap());
    assert_eq!(view["result"]["text"], "still there? (after native-1)", "{view}");
}

//! What would hold a stop up: a ledger that takes nothing, a client that reads nothing, a pipe that is full. The processes
//! end in their time all the same, and the record is right afterwards.

use serde_json::json;

use crate::host::Host;
use crate::patience::until;
use crate::processes::with_environment;

#[test]
fn processes_die_while_the_ledger_takes_nothing() {
    let host = Host::usual();
    let client = host.client();
    let quiet = client.spawn(host.exec(json!({ "program": "sh", "args": ["-c", "echo up; trap '' TERM; sleep 1000 & wait; wait"] })));
    let flood =
        client.spawn(host.exec(
            json!({ "program": "sh", "args": ["-c", "trap '' TERM; while :; do echo 0123456789012345678901234567890123456789; done"] }),
        ));
    for run in [&quiet, &flood] {
        client.event(run, "its output", |event| event["type"] == "command_output");
    }
    let alive = |run: &str| with_environment(&format!("FALCONER_RUN_ID={run}"));
    assert!(!alive(&quiet).is_empty() && !alive(&flood).is_empty());

    // Another program writes, and takes its time: the host's commits wait.
    let mut other = rusqlite::Connection::open(host.data().join("ledger.db")).unwrap();
    let held = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    std::thread::scope(|scope| {
        for run in [&quiet, &flood] {
            let client = host.client();
            scope.spawn(move || client.call("cancel_run", json!({ "run_id": run, "grace_ms": 0 })));
        }
        until("both trees to be gone, though nothing can be written", || {
            (alive(&quiet).is_empty() && alive(&flood).is_empty()).then_some(())
        });
        for run in [&quiet, &flood] {
            let status = client.get(run)["status"].clone();
            assert!(status == "running" || status == "cancelling", "{status}: nothing was committed, so nothing may be shown as over");
        }
        held.rollback().unwrap();
    });
    for run in [&quiet, &flood] {
        let run = client.ended(run);
        assert_eq!(run["status"], "cancelled", "{run}");
        assert_eq!(run["receipt"]["proof"]["outcome"], "empty", "{run}");
        client.events(run["run_id"].as_str().unwrap());
    }
}

#[test]
fn a_client_that_reads_nothing_holds_up_nobodys_stop() {
    use std::io::Write;
    use std::process::Stdio;

    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.exec(json!({ "program": "sh", "args": ["-c", "yes 0123456789"] })));
    client.event(&run, "its output", |event| event["type"] == "command_output");
    // It asks for much, and takes nothing.
    let mut mute = host.command(&["mcp"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = mute.stdin.take().unwrap();
    let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize",
        "params": { "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "mute", "version": "1" } } });
    writeln!(stdin, "{hello}").unwrap();
    writeln!(stdin, "{}", json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).unwrap();
    for id in 1..200 {
        let ask = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": { "name": "poll_events", "arguments": { "run_id": run, "after_seq": 0, "wait_ms": 1000 } } });
        if writeln!(stdin, "{ask}").is_err() {
            break;
        }
    }
    let answer = client.cancel(&run);
    assert_eq!(answer["status"], "cancelled", "{answer}");
    assert_eq!(answer["receipt"]["proof"]["outcome"], "empty", "{answer}");
    assert!(with_environment(&format!("FALCONER_RUN_ID={run}")).is_empty());
    drop(stdin);
    mute.kill().unwrap();
    mute.wait().unwrap();
}

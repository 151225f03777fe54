//! Events: durable before they are seen, numbered without gap or repeat, nothing after the end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::client::{Client, is_end, is_terminal, take_page};
use crate::host::{Host, USUAL};
use crate::patience::until;

const RUNS: usize = 20;
const EVENTS: u64 = 2_000;
/// Clients that share the pollers.
const CLIENTS: usize = 4;

/// Follows a run to its end, by long polls of small pages.
fn follow(client: &Client, run: &str) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let after = events.len() as u64;
        let page =
            client.call("poll_events", json!({ "run_id": run, "after_seq": after, "limit": 500, "max_chars": 100_000, "wait_ms": 10_000 }));
        take_page(&mut events, &page);
        if page["ended"] == json!(true) && page["has_more"] == json!(false) {
            assert!(is_end(events.last().unwrap()), "ended, and the last event is {:?}", events.last());
            return events;
        }
    }
}

#[test]
fn twenty_runs_with_two_pollers_each_see_every_event_once() {
    let host = Host::usual();
    let clients: Vec<Client> = (0..CLIENTS).map(|_| host.client()).collect();
    let runs: Vec<String> =
        (0..RUNS).map(|_| clients[0].spawn(host.hostile(json!({ "mode": "flood", "n": EVENTS, "size": 40, "batch": 16 })))).collect();
    std::thread::scope(|scope| {
        for (number, run) in runs.iter().enumerate() {
            let (one, other) = (&clients[number % CLIENTS], &clients[(number + 1) % CLIENTS]);
            let pollers = [scope.spawn(|| follow(one, run)), scope.spawn(|| follow(other, run))];
            scope.spawn(move || {
                let [one, other] = pollers.map(|poller| poller.join().unwrap());
                assert_eq!(one, other, "two pollers of one run see the same");
                let numbers: Vec<u64> = one.iter().filter(|event| event["type"] == "native").map(number_of).collect();
                assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>(), "all that was written, in order");
            });
        }
    });
    for run in &runs {
        assert_eq!(clients[0].get(run)["status"], "completed");
    }
}

fn number_of(event: &Value) -> u64 {
    event.pointer("/data/data/n").and_then(Value::as_u64).unwrap_or_else(|| panic!("no number in {event}"))
}

#[test]
fn what_was_seen_is_there_after_the_host_was_killed() {
    let host = Host::with(&USUAL.replace("[host]", "[host]\nquestion = \"1h\""));
    let clients: Vec<Client> = (0..CLIENTS).map(|_| host.client()).collect();
    // Long enough that the kill comes in the middle; a flood would be over before.
    let runs: Vec<String> =
        (0..RUNS).map(|_| clients[0].spawn(host.hostile(json!({ "mode": "tick", "n": 1_000_000, "every_ms": 1 })))).collect();

    let far_enough = AtomicUsize::new(0);
    let killed = AtomicBool::new(false);
    let seen: Vec<Vec<Value>> = std::thread::scope(|scope| {
        let pollers: Vec<_> = (0..RUNS * 2)
            .map(|number| {
                let (client, run) = (&clients[number % CLIENTS], &runs[number / 2]);
                let (far_enough, killed) = (&far_enough, &killed);
                scope.spawn(move || follow_until_lost(client, run, far_enough, killed))
            })
            .collect();
        until("every poller to have seen some events", || (far_enough.load(Ordering::SeqCst) == RUNS * 2).then_some(()));
        host.crash();
        killed.store(true, Ordering::SeqCst);
        pollers.into_iter().map(|poller| poller.join().unwrap()).collect()
    });

    let client = host.client();
    for (number, seen) in seen.iter().enumerate() {
        let run = &runs[number / 2];
        let view = client.ended(run);
        assert_eq!((&view["status"], &view["error"]["code"]), (&json!("lost"), &json!("host_lost")), "{view}");
        let now = client.events(run);
        assert!(now.len() > seen.len(), "an end was added");
        assert_eq!(&now[..seen.len()], &seen[..], "what was seen is still there, unchanged");
        assert_eq!(now.last().unwrap()["type"], "run_lost");
    }
}

/// Follows a run until the connection breaks; counts itself once it has seen a hundred events.
fn follow_until_lost(client: &Client, run: &str, far_enough: &AtomicUsize, killed: &AtomicBool) -> Vec<Value> {
    let mut events = Vec::new();
    let mut counted = false;
    while !killed.load(Ordering::SeqCst) {
        let arguments = json!({ "run_id": run, "after_seq": events.len(), "limit": 500, "max_chars": 100_000, "wait_ms": 1_000 });
        let Ok(result) = client.request("tools/call", json!({ "name": "poll_events", "arguments": arguments })) else { break };
        assert_ne!(result["isError"], json!(true), "{result}");
        take_page(&mut events, &result["structuredContent"]);
        if !counted && events.len() >= 100 {
            counted = true;
            far_enough.fetch_add(1, Ordering::SeqCst);
        }
    }
    events
}

#[test]
fn only_the_types_that_were_asked_for() {
    let host = Host::usual();
    let client = host.client();
    let run = client.run(host.hostile(json!({ "mode": "flood", "n": 50 })));
    assert!(is_terminal(&run));
    let page = client.call("poll_events", json!({ "run_id": run["run_id"], "types": ["run_completed"] }));
    assert_eq!(page["events"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(page["next_after_seq"], run["last_seq"], "the others are passed over: {page}");
    assert_eq!(page["ended"], true);
}

#[test]
fn a_budget_of_characters_cuts_the_page_and_nothing_else() {
    let host = Host::usual();
    let client = host.client();
    let run = client.run(host.hostile(json!({ "mode": "flood", "n": 200, "size": 100 })));
    let run = run["run_id"].as_str().unwrap();
    let mut events = Vec::new();
    loop {
        let page = client.call("poll_events", json!({ "run_id": run, "after_seq": events.len(), "max_chars": 500, "limit": 2_000 }));
        assert!(!page["events"].as_array().unwrap().is_empty(), "at least one");
        take_page(&mut events, &page);
        if page["has_more"] == json!(false) {
            break;
        }
    }
    assert_eq!(events, client.events(run));
}

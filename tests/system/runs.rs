//! The life of an ordinary run, in both eras of the protocol.

use serde_json::{Value, json};

use crate::client::{Client, Era, is_end};
use crate::host::Host;

#[test]
fn the_whole_life_in_both_eras() {
    let host = Host::usual();
    for era in [Era::Legacy, Era::Modern] {
        let client = Client::start(host.command(&["mcp"]), era);
        whole_life(&host, &client);
    }
}

fn whole_life(host: &Host, client: &Client) {
    let names: Vec<Value> =
        client.call("list_backends", json!({}))["backends"].as_array().unwrap().iter().map(|b| b["name"].clone()).collect();
    for name in ["claude", "codex", "exec", "hostile"] {
        assert!(names.contains(&json!(name)), "{names:?}");
    }

    let mut request = host.hostile(json!({ "mode": "echo" }));
    request["prompt"] = json!("hello there");
    let plan = client.call("plan_run", request.clone());
    assert_eq!(plan["allowed"], true, "{plan}");
    assert_eq!(plan["cwd"], json!(host.work().canonicalize().unwrap()), "{plan}");

    let run = client.run(request);
    assert_eq!(run["status"], "completed", "{run}");
    assert_eq!(run["result"]["text"], "hello there");
    assert_eq!(run["backend_digest"], plan["backend_digest"]);
    let id = run["run_id"].as_str().unwrap();
    let events = client.events(id);
    assert_eq!(events[0]["type"], "run_started");
    assert_eq!(events.last().unwrap()["type"], "run_completed");
    assert_eq!(run["last_seq"], json!(events.len()));

    let next = client.call("continue_run", json!({ "run_id": id, "message": "and again", "wait_ms": 30_000 }));
    assert_eq!(next["action"], "continued", "{next}");
    assert_eq!(next["session_id"], run["session_id"]);
    assert_ne!(next["run_id"], run["run_id"]);
    let again = client.ended(next["run_id"].as_str().unwrap());
    assert_eq!(again["result"]["text"], "and again (after native-1)", "the session remembers");

    let idle = client.spawn(host.hostile(json!({ "mode": "idle" })));
    client.until_status(&idle, "running");
    let cancelled = client.call("cancel_run", json!({ "run_id": idle, "reason": "enough" }));
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
    assert_eq!(cancelled["receipt"]["reason"], "enough");
    assert_eq!(cancelled["receipt"]["cause"], "requested");
    assert_eq!(client.cancel(&idle)["status"], "cancelled", "cancelling twice is no error");

    let listed = client.call("list_runs", json!({ "backend": "hostile", "limit": 3 }));
    let ids: Vec<&Value> = listed["runs"].as_array().unwrap().iter().map(|run| &run["run_id"]).collect();
    assert_eq!(ids, [&json!(idle), &next["run_id"], &run["run_id"]], "newest first");
}

#[test]
fn a_name_means_the_newest_run_and_belongs_to_one_session() {
    let host = Host::usual();
    let client = host.client();
    let mut request = host.hostile(json!({ "mode": "echo" }));
    request["name"] = json!("walter");
    let first = client.run(request.clone());
    assert_eq!(client.get("walter")["run_id"], first["run_id"]);
    client.refused("spawn_run", request, "name_taken");
    let next = client.call("continue_run", json!({ "run_id": "walter", "message": "more", "wait_ms": 30_000 }));
    assert_eq!(client.get("walter")["run_id"], next["run_id"]);
    client.ended("walter");

    let agents = client.call("list_agents", json!({}));
    assert_eq!(agents["agents"][0]["name"], "walter");
    client.call("send_agent_message", json!({ "to": "walter", "from": "walter", "text": "a word" }));
    let inbox = client.call("fetch_agent_messages", json!({ "name": "walter" }));
    assert_eq!(inbox["messages"][0]["text"], "a word");
    assert_eq!(inbox["messages"][0]["seq"], 1);
    client.refused("send_agent_message", json!({ "to": "nobody", "text": "a word" }), "unknown_agent");
}

#[test]
fn a_request_key_makes_a_retry_safe() {
    let host = Host::usual();
    let client = host.client();
    let mut request = host.hostile(json!({ "mode": "echo" }));
    request["request_key"] = json!("once");
    let first = client.call("spawn_run", request.clone());
    let second = client.call("spawn_run", request.clone());
    assert_eq!((&first["repeated"], &second["repeated"]), (&json!(false), &json!(true)));
    assert_eq!(first["run_id"], second["run_id"]);
    request["prompt"] = json!("something else");
    client.refused("spawn_run", request, "request_key_conflict");
}

#[test]
fn failures_of_a_backend_keep_their_code() {
    let host = Host::usual();
    let client = host.client();
    for (config, status, code) in [
        (json!({ "mode": "fail", "text": "out_of_luck" }), "failed", "out_of_luck"),
        (json!({ "mode": "fail_start" }), "failed", "start_failed"),
        (json!({ "mode": "reject_start" }), "rejected", "rejected"),
    ] {
        let run = client.run(host.hostile(config));
        assert_eq!((&run["status"], &run["error"]["code"]), (&json!(status), &json!(code)), "{run}");
        assert_eq!(client.events(run["run_id"].as_str().unwrap()).last().unwrap()["type"], format!("run_{status}"));
    }
}

#[test]
fn limits_of_time_end_a_run() {
    let host = Host::usual();
    let client = host.client();
    for (field, config, code) in [
        ("timeout_s", json!({ "mode": "tick", "every_ms": 50 }), "deadline_exceeded"),
        ("idle_timeout_s", json!({ "mode": "idle" }), "idle_exceeded"),
    ] {
        let mut request = host.hostile(config);
        request[field] = json!(1);
        let run = client.run(request);
        assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!(code)), "{run}");
    }
}

#[test]
fn checkpoints_are_committed_with_their_events() {
    let host = Host::usual();
    let client = host.client();
    let run = client.run(host.hostile(json!({ "mode": "checkpoint", "n": 50, "size": 65_536 })));
    assert_eq!(run["status"], "completed", "{run}");
    let events = client.events(run["run_id"].as_str().unwrap());
    assert_eq!(events.iter().filter(|event| event["type"] == "native").count(), 50);
    assert!(is_end(events.last().unwrap()));
}

#[test]
fn a_wait_ends_with_the_first_or_with_all() {
    let host = Host::usual();
    let client = host.client();
    let quick = client.spawn(host.hostile(json!({ "mode": "echo" })));
    let slow = client.spawn(host.hostile(json!({ "mode": "idle" })));
    let any = client.call("wait_runs", json!({ "run_ids": [slow, quick], "wait_ms": 45_000 }));
    assert_eq!(any["ready"], true);
    assert_eq!((&any["runs"][0]["ready"], &any["runs"][1]["ready"]), (&json!(false), &json!(true)), "in the order asked for");
    let all = client.call("wait_runs", json!({ "run_ids": [slow, quick], "mode": "all", "wait_ms": 50 }));
    assert_eq!(all["ready"], false);
    client.cancel(&slow);
    assert_eq!(client.call("wait_runs", json!({ "run_ids": [slow, quick], "mode": "all", "wait_ms": 45_000 }))["ready"], true);
}

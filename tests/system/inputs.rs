//! Requests at the edges: each is correct work, or an error with a code and a way out.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::host::Host;

/// A request with these fields over the usual ones; `null` takes a field out.
fn with(mut request: Value, fields: Value) -> Value {
    for (key, value) in fields.as_object().unwrap() {
        if value.is_null() {
            request.as_object_mut().unwrap().remove(key);
        } else {
            request[key] = value.clone();
        }
    }
    request
}

#[test]
fn prompts_of_any_shape_arrive_as_they_are() {
    let host = Host::usual();
    let client = host.client();
    let large = "große Worte, ".repeat(200 * 1_024 / 14);
    for prompt in ["-rf --help", "/exit now", "@/etc/passwd", "", " ", "\"'`$(x)\\\n\t{}", "日本語 🦅", &large] {
        let run = client.run(with(host.hostile(json!({ "mode": "echo" })), json!({ "prompt": prompt })));
        assert_eq!(run["status"], "completed", "{:?}: {}", &prompt[..prompt.len().min(20)], run["error"]);
        let events = client.events(run["run_id"].as_str().unwrap());
        let event = events.iter().find(|event| event["type"] == "agent_message").unwrap();
        let mut text = String::new();
        let mut offset = Some(0);
        while let Some(begin) = offset {
            let arguments = json!({ "run_id": run["run_id"], "seq": event["seq"], "pointer": "/text", "offset": begin, "limit": 262_144 });
            let slice = client.call("get_event_artifact", arguments);
            text.push_str(slice["content"].as_str().unwrap());
            offset = slice["next_offset"].as_u64();
        }
        assert_eq!(text, prompt);
    }
}

#[test]
fn wrong_requests_are_refused_with_a_code() {
    let host = Host::usual();
    let client = host.client();
    std::fs::write(host.work().join("file"), "").unwrap();
    std::fs::create_dir(host.path("elsewhere")).unwrap();
    symlink(host.path("elsewhere"), host.work().join("way-out")).unwrap();
    let good = || host.hostile(json!({ "mode": "echo" }));
    let cases = [
        (json!({ "backend": "nobody" }), "unknown_backend"),
        (json!({ "backend": null }), "invalid_argument"),
        (json!({ "backend": 7 }), "invalid_argument"),
        (json!({ "surprise": true }), "invalid_argument"),
        (json!({ "cwd": host.work().join("not-there") }), "cwd_not_found"),
        (json!({ "cwd": host.work().join("file") }), "cwd_not_found"),
        (json!({ "cwd": host.path("elsewhere") }), "cwd_not_granted"),
        (json!({ "cwd": host.work().join("way-out") }), "cwd_not_granted"),
        (json!({ "cwd": format!("{}/../elsewhere", host.work().display()) }), "cwd_not_granted"),
        (json!({ "cwd": "relative" }), "invalid_argument"),
        (json!({ "config": {} }), "invalid_config"),
        (json!({ "config": { "mode": 7 } }), "invalid_config"),
        (json!({ "config": { "mode": "echo", "surprise": 1 } }), "not_allowed"),
        (json!({ "message": { "parts": [{ "type": "text", "text": "two" }] } }), "conflicting_fields"),
        (json!({ "prompt": null, "message": { "parts": [] } }), "invalid_argument"),
        (json!({ "session_id": "ses_aaaaaaaaaaaaaaaa" }), "unknown_session"),
        (json!({ "session_id": "nonsense" }), "invalid_argument"),
        (json!({ "wait_ms": 45_001 }), "invalid_argument"),
        (json!({ "wait_ms": -1 }), "invalid_argument"),
        (json!({ "timeout_s": 0 }), "invalid_argument"),
        (json!({ "request_key": "" }), "invalid_argument"),
        (json!({ "name": "" }), "invalid_argument"),
        (json!({ "name": "run_aaaaaaaaaaaaaaaa" }), "invalid_argument"),
        (json!({ "backend": "exec", "output_schema": { "type": "object" } }), "unsupported"),
        (json!({ "output_schema": { "properties": { "a": { "type": "objekt" } } } }), "invalid_argument"),
        (json!({ "output_schema": { "$ref": "https://example.org/schema.json" } }), "invalid_argument"),
        (json!({ "output_schema": { "$ref": "file:///etc/passwd" } }), "invalid_argument"),
        (json!({ "fork": true }), "conflicting_fields"),
    ];
    for (fields, code) in cases {
        let refusal = client.refused("spawn_run", with(good(), fields.clone()), code);
        assert!(refusal.message.chars().next().is_some_and(|first| !first.is_uppercase()), "{fields}: {refusal:?}");
        assert!(!refusal.retryable, "{fields}: {refusal:?}");
    }
    assert_eq!(client.call("list_runs", json!({}))["runs"], json!([]), "none of them left a run");
}

#[test]
fn a_plan_says_what_a_spawn_would_refuse() {
    let host = Host::usual();
    let client = host.client();
    let plan = client.call("plan_run", host.hostile(json!({ "mode": "spawn", "program": "nothing-granted" })));
    assert_eq!(plan["allowed"], false, "{plan}");
    assert_eq!(plan["actions"][0]["allowed"], false, "{plan}");
    assert!(["program_not_granted", "not_allowed"].contains(&plan["refusal"]["code"].as_str().unwrap()), "{plan}");
    let plan = client.call("plan_run", host.exec(json!({ "program": "missing" })));
    assert_eq!(plan["allowed"], false, "{plan}");
    assert!(["program_not_found", "not_allowed"].contains(&plan["refusal"]["code"].as_str().unwrap()), "{plan}");
    let plan = client.call("plan_run", host.exec(json!({ "program": "sh", "args": ["-c", "true"] })));
    assert_eq!(plan["allowed"], true, "{plan}");
    assert_eq!(client.call("list_runs", json!({}))["runs"], json!([]), "a plan starts nothing");
}

#[test]
fn wrong_looks_are_refused_with_a_code() {
    let host = Host::usual();
    let client = host.client();
    for (tool, arguments, code) in [
        ("get_run", json!({ "run_id": "run_aaaaaaaaaaaaaaaa" }), "unknown_run"),
        ("get_run", json!({ "run_id": "no-such-name" }), "unknown_run"),
        ("get_run", json!({}), "invalid_argument"),
        ("get_run", json!({ "run_id": "x", "more": 1 }), "invalid_argument"),
        ("poll_events", json!({ "run_id": "run_aaaaaaaaaaaaaaaa" }), "unknown_run"),
        ("poll_events", json!({ "run_id": "x", "limit": 0 }), "invalid_argument"),
        ("poll_events", json!({ "run_id": "x", "limit": 2_001 }), "invalid_argument"),
        ("poll_events", json!({ "run_id": "x", "after_seq": -1 }), "invalid_argument"),
        ("poll_events", json!({ "run_id": "x", "types": ["surprise"] }), "invalid_argument"),
        ("wait_runs", json!({ "run_ids": [] }), "invalid_argument"),
        ("wait_runs", json!({ "run_ids": ["run_aaaaaaaaaaaaaaaa"] }), "unknown_run"),
        ("cancel_run", json!({ "run_id": "run_aaaaaaaaaaaaaaaa" }), "unknown_run"),
        ("cancel_run", json!({ "run_id": "x", "grace_ms": 30_001 }), "invalid_argument"),
        ("continue_run", json!({ "run_id": "run_aaaaaaaaaaaaaaaa", "message": "more" }), "unknown_run"),
        ("continue_run", json!({ "run_id": "run_aaaaaaaaaaaaaaaa" }), "conflicting_fields"),
        ("list_runs", json!({ "limit": 201 }), "invalid_argument"),
        ("list_runs", json!({ "cursor": "made up" }), "invalid_argument"),
        ("fetch_agent_messages", json!({ "name": "nobody" }), "unknown_agent"),
        ("list_targets", json!({ "more": 1 }), "invalid_argument"),
    ] {
        client.refused(tool, arguments, code);
    }
    assert_eq!(client.call("list_targets", json!({}))["targets"], json!([]));
    assert!(client.request("tools/call", json!({ "name": "no_such_tool", "arguments": {} })).is_err());
    assert!(client.request("no/such/method", json!({})).is_err());
}

#[test]
fn a_run_without_a_native_session_cannot_be_continued() {
    let host = Host::usual();
    let client = host.client();
    let run = client.run(host.exec(json!({ "program": "sh", "args": ["-c", "true"] })));
    client.refused("continue_run", json!({ "run_id": run["run_id"], "message": "more" }), "not_continuable");
    let run = client.run(host.hostile(json!({ "mode": "fail_start" })));
    client.refused("continue_run", json!({ "run_id": run["run_id"], "message": "more" }), "not_continuable");
}

#[test]
fn every_tool_has_what_clients_judge_it_by() {
    let host = Host::usual();
    let client = host.client();
    let tools = client.request("tools/list", json!({})).unwrap();
    let names: Vec<&str> = tools["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    let mut expected = [
        "cancel_run",
        "continue_run",
        "fetch_agent_messages",
        "get_event_artifact",
        "get_run",
        "list_agents",
        "list_backends",
        "list_runs",
        "list_targets",
        "plan_run",
        "poll_events",
        "send_agent_message",
        "spawn_run",
        "wait_runs",
    ];
    let mut sorted = names.clone();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    for tool in tools["tools"].as_array().unwrap() {
        let name = &tool["name"];
        assert!(tool["title"].is_string() || tool["annotations"]["title"].is_string(), "{name}");
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            assert!(tool["annotations"][hint].is_boolean(), "{name} {hint}");
        }
        assert!(tool["description"].as_str().is_some_and(|text| (40..=2_048).contains(&text.len())), "{name}");
        for schema in ["inputSchema", "outputSchema"] {
            let schema = &tool[schema];
            assert_eq!(schema["type"], "object", "{name}");
            for root in ["anyOf", "oneOf", "allOf", "$ref"] {
                assert!(schema.get(root).is_none(), "{name} {root}");
            }
        }
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{name}");
        for (property, schema) in tool["inputSchema"]["properties"].as_object().into_iter().flatten() {
            assert!(schema["description"].is_string(), "{name}.{property}");
        }
    }
}

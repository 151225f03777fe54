//! Sessions: who writes, who waits, what a follow-up keeps, forks, and what is said to a live run.

use std::fs;

use serde_json::{Value, json};

use crate::host::{Host, USUAL};

#[test]
fn a_session_has_one_writer_and_a_waiting_line() {
    let host = Host::usual();
    let client = host.client();
    let first = client.run(host.hostile(json!({ "mode": "echo" })));
    let session = &first["session_id"];
    let mut request = host.hostile(json!({ "mode": "idle" }));
    request["session_id"] = session.clone();
    let second = client.spawn(request.clone());
    client.until_status(&second, "running");
    let third = client.spawn(request);
    assert_eq!(client.get(&third)["status"], "queued");
    assert_eq!(client.cancel(&second)["status"], "cancelled");
    client.until_status(&third, "running");
    assert_eq!(client.cancel(&third)["status"], "cancelled");
}

#[test]
fn a_live_run_is_steered() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "idle" })));
    client.until_status(&run, "running");
    let steered = client.call("continue_run", json!({ "run_id": run, "message": "to the left" }));
    assert_eq!(steered["action"], "steered");
    assert_eq!(steered["run_id"], json!(run));
    client.event(&run, "the word of the steering", |event| event["data"]["text"] == "steered to the left");
    client.cancel(&run);
}

#[test]
fn the_backends_refusal_of_a_message_is_the_callers() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "idle" })));
    client.until_status(&run, "running");
    let refusal = client.refused("continue_run", json!({ "run_id": run, "message": "refuse this" }), "not_now");
    assert_eq!(refusal.message, "told to refuse");
    assert_eq!(client.get(&run)["status"], "running", "the run goes on");
    client.call("continue_run", json!({ "run_id": run, "message": "take this" }));
    let said = |event: &Value| event["data"]["text"] == "steered take this";
    client.event(&run, "what was taken", said);
    client.cancel(&run);
    assert!(!client.events(&run).iter().any(|event| event["type"] == "notice"), "nobody else needs to know");
    let run = client.run(host.exec(json!({ "program": "sh", "args": ["-c", "true"] })));
    let live = client.spawn(host.exec(json!({ "program": "sh", "args": ["-c", "sleep 60"] })));
    client.until_status(&live, "running");
    client.refused("continue_run", json!({ "run_id": live, "message": "x" }), "unsupported");
    client.refused(
        "continue_run",
        json!({ "run_id": run["run_id"], "message": "x", "parts": [{ "type": "text", "text": "x" }] }),
        "conflicting_fields",
    );
    client.cancel(&live);
}

#[test]
fn a_retry_of_a_message_is_said_once() {
    let host = Host::usual();
    let client = host.client();
    let mut request = host.hostile(json!({ "mode": "idle" }));
    request["name"] = json!("walter");
    let run = client.spawn(request);
    client.until_status(&run, "running");
    let steer = json!({ "run_id": "walter", "message": "to the left", "request_key": "k1" });
    for _ in 0..2 {
        let steered = client.call("continue_run", steer.clone());
        assert_eq!((&steered["action"], &steered["run_id"]), (&json!("steered"), &json!(run)));
    }
    client.event(&run, "the word of the steering", |event| event["data"]["text"] == "steered to the left");
    let other = json!({ "run_id": "walter", "message": "to the right", "request_key": "k1" });
    client.refused("continue_run", other, "request_key_conflict");
    client.cancel(&run);
    let said = client.events(&run).iter().filter(|event| event["data"]["text"] == "steered to the left").count();
    assert_eq!(said, 1);
    let steered = client.call("continue_run", steer);
    assert_eq!((&steered["action"], &steered["run_id"]), (&json!("steered"), &json!(run)), "also after its end");

    // A name means the newest run: a retry finds the run that its first call began.
    let mut request = host.hostile(json!({ "mode": "echo" }));
    request["name"] = json!("ann");
    let first = client.run(request);
    let go_on = json!({ "run_id": "ann", "message": "more", "request_key": "k2" });
    let began = client.call("continue_run", go_on.clone());
    let again = client.call("continue_run", go_on);
    assert_eq!((&began["run_id"], &began["action"]), (&again["run_id"], &again["action"]));
    assert_ne!(began["run_id"], first["run_id"]);
}

#[test]
fn retries_that_come_at_once_are_said_once() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "idle" })));
    client.until_status(&run, "running");
    let steer = json!({ "run_id": run, "message": "to the left", "request_key": "k1" });
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(client.call("continue_run", steer.clone())["action"], "steered"));
        }
    });
    client.call("continue_run", json!({ "run_id": run, "message": "enough" }));
    let enough = |event: &Value| event["data"]["text"].as_str().is_some_and(|text| text.contains("enough"));
    client.event(&run, "the last word", enough);
    let texts: Vec<Value> = client.events(&run).iter().map(|event| event["data"]["text"].clone()).collect();
    assert_eq!(Value::from(texts).to_string().matches("to the left").count(), 1);
    client.cancel(&run);
}

/// What a follow-up keeps, with a profile for its instructions.
fn kept(host: &Host) -> Value {
    let mut request = host.hostile(json!({ "mode": "echo", "size": 77 }));
    for (key, value) in json!({
        "profile": "reviewer", "role": "worker", "metadata": { "ticket": 7 }, "timeout_s": 99, "idle_timeout_s": 98,
        "output_schema": { "type": "object" },
    })
    .as_object()
    .unwrap()
    {
        request[key] = value.clone();
    }
    request
}

#[test]
fn a_follow_up_keeps_all_but_the_message_after_any_end() {
    let host = Host::bare("");
    host.configure(&format!("{USUAL}\n[profiles.reviewer]\nfile = \"{{dir}}/reviewer.md\"\n"));
    host.plugin("hostile", falconer_hostile::HOSTILE);
    fs::write(host.path("reviewer.md"), "be strict").unwrap();
    let client = host.client();
    let same = |old: &Value, new: &Value| {
        for key in ["profile", "role", "metadata", "timeout_s", "idle_timeout_s", "output_schema", "config", "cwd"] {
            assert_eq!(old["request"][key], new["request"][key], "{key}");
        }
        assert_eq!((&old["metadata"], &old["role"], &old["session_id"]), (&new["metadata"], &new["role"], &new["session_id"]));
    };

    // Failed: an echo gives no structured answer, which its schema wants. It has a conversation all the same.
    let mut request = kept(&host);
    request["name"] = json!("walter");
    let failed = client.run(request);
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("output_invalid")), "{failed}");
    let next = client.call("continue_run", json!({ "run_id": "walter", "message": "again" }));
    let next = client.ended(next["run_id"].as_str().unwrap());
    same(&failed, &next);
    assert_eq!(next["error"]["code"], "output_invalid", "the schema holds for the follow-up too");
    assert_eq!((&next["name"], &next["request"]["prompt"]), (&json!("walter"), &json!("again")));

    // Cancelled, in the middle of a run of the same session.
    let mut request = kept(&host);
    request["config"] = json!({ "mode": "idle" });
    request["session_id"] = failed["session_id"].clone();
    let idle = client.spawn(request);
    client.until_status(&idle, "running");
    client.cancel(&idle);
    let cancelled = client.get(&idle);
    let next = client.call("continue_run", json!({ "run_id": idle, "message": "go on" }));
    let next = next["run_id"].as_str().unwrap();
    client.until_status(next, "running");
    same(&cancelled, &client.get(next));

    // Lost with its host, and proven to have left nothing.
    client.kill();
    host.crash();
    let client = host.client();
    let lost = client.ended(next);
    assert_eq!(lost["status"], "lost", "{lost}");
    let after = client.call("continue_run", json!({ "run_id": next, "message": "and on" }));
    let after = after["run_id"].as_str().unwrap();
    client.until_status(after, "running");
    same(&lost, &client.get(after));
    client.cancel(after);
}

#[test]
fn a_session_goes_on_where_it_was() {
    let host = Host::usual();
    fs::create_dir(host.work().join("deep")).unwrap();
    let client = host.client();
    let mut request = host.hostile(json!({ "mode": "echo" }));
    request["cwd"] = json!(host.work().join("deep"));
    let first = client.run(request.clone());
    request.as_object_mut().unwrap().remove("cwd");
    request["session_id"] = first["session_id"].clone();
    assert_eq!(client.run(request)["cwd"], first["cwd"], "its agent looks for its conversation there");
}

#[test]
fn a_fork_knows_the_session_and_leaves_it_as_it_is() {
    let host = Host::usual();
    let client = host.client();
    let mut request = host.hostile(json!({ "mode": "echo" }));
    request["name"] = json!("walter");
    let first = client.run(request);
    // While the session is in use: a fork does not wait in line behind it.
    let mut request = host.hostile(json!({ "mode": "idle" }));
    request["session_id"] = first["session_id"].clone();
    let idle = client.spawn(request);
    client.until_status(&idle, "running");

    let forked = client.call("continue_run", json!({ "run_id": first["run_id"], "message": "aside", "fork": true }));
    assert_eq!(forked["action"], "forked");
    assert_ne!(forked["session_id"], first["session_id"]);
    let fork = client.ended(forked["run_id"].as_str().unwrap());
    assert_eq!(fork["result"]["text"], "aside (beside native-1)", "{fork}");
    assert_eq!(fork["name"], Value::Null, "the name stays with the old session");
    let events = client.events(fork["run_id"].as_str().unwrap());
    assert_eq!(events[0]["data"]["forked_from"], first["session_id"]);
    let said = events.iter().find(|event| event["type"] == "session_started").unwrap();
    assert_eq!((&said["data"]["native_id"], &said["data"]["session_id"]), (&json!("forked-2"), &fork["session_id"]));

    // A live run is forked too, and the new session goes on by itself, as itself.
    let live = client.call("continue_run", json!({ "run_id": idle, "message": "aside", "fork": true }));
    assert_eq!(live["action"], "forked");
    client.until_status(live["run_id"].as_str().unwrap(), "running");
    client.cancel(live["run_id"].as_str().unwrap());
    let next = client.call("continue_run", json!({ "run_id": fork["run_id"], "message": "more" }));
    assert_eq!((&next["action"], &next["session_id"]), (&json!("continued"), &fork["session_id"]));
    assert_eq!(client.ended(next["run_id"].as_str().unwrap())["result"]["text"], "more (after forked-2)");

    // By spawn_run, with a name of its own; the old session is what it was.
    let mut request = host.hostile(json!({ "mode": "echo" }));
    for (key, value) in [("session_id", first["session_id"].clone()), ("fork", json!(true)), ("name", json!("walter"))] {
        request[key] = value;
    }
    client.refused("spawn_run", request.clone(), "name_taken");
    request["name"] = json!("ann");
    assert_eq!(client.run(request)["name"], "ann");
    assert_eq!(client.get("walter")["run_id"], json!(idle));
    client.cancel(&idle);
    let after = client.call("continue_run", json!({ "run_id": first["run_id"], "message": "back" }));
    assert_eq!(client.ended(after["run_id"].as_str().unwrap())["result"]["text"], "back (after native-1)", "nothing was added to it");
}

#[test]
fn what_cannot_be_forked_is_refused() {
    let host = Host::usual();
    let client = host.client();
    let idle = client.spawn(host.hostile(json!({ "mode": "idle" })));
    client.until_status(&idle, "running");
    client.refused("continue_run", json!({ "run_id": idle, "message": "x", "fork": true }), "not_continuable");
    let mut request = host.hostile(json!({ "mode": "echo" }));
    request["session_id"] = client.get(&idle)["session_id"].clone();
    request["fork"] = json!(true);
    client.refused("spawn_run", request, "not_continuable");
    client.cancel(&idle);
    let asking = client.spawn(host.hostile(json!({ "mode": "ask" })));
    let question = client.until_status(&asking, "input_required")["question"].clone();
    let answer = json!({ "question_id": question["question_id"], "details_hash": question["details_hash"], "choices": ["yes"] });
    client.refused("continue_run", json!({ "run_id": asking, "answer": answer, "fork": true }), "conflicting_fields");
    client.cancel(&asking);
}

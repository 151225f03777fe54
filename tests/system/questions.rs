//! Questions of runs: asked, answered once, withdrawn, expired, several at once, and why an answer that comes too late is refused.

use serde_json::{Value, json};

use crate::client::Client;
use crate::host::{Host, USUAL};

/// An answer to a question as `get_run` shows it.
fn answer(run: &str, question: &Value, choice: &str) -> Value {
    json!({ "run_id": run, "answer": { "question_id": question["question_id"], "details_hash": question["details_hash"], "choices": [choice] } })
}

/// The events that close questions: which, and how.
fn closed(client: &Client, run: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let events = client.events(run);
    let closed = events.iter().filter(|event| event["type"] == "input_resolved");
    closed.map(|event| (text(&event["data"]["question_id"]), text(&event["data"]["how"]))).collect()
}

#[test]
fn a_question_is_asked_answered_and_closed() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "ask" })));
    let view = client.until_status(&run, "input_required");
    let question = &view["question"];
    let answer = |hash: &Value, choice: &str| json!({ "run_id": run, "wait_ms": 30_000, "answer": { "question_id": question["question_id"], "details_hash": hash, "choices": [choice] } });
    client.refused("continue_run", answer(&json!("0".repeat(64)), "yes"), "stale_answer");
    client.refused("continue_run", answer(&question["details_hash"], "perhaps"), "invalid_argument");
    let answered = client.call("continue_run", answer(&question["details_hash"], "yes"));
    assert_eq!(answered["action"], "answered");
    let ended = client.ended(&run);
    assert_eq!(ended["result"]["text"].as_str().unwrap().trim(), "chosen yes");
    let types: Vec<Value> = client.events(&run).iter().map(|event| event["type"].clone()).collect();
    let asked = types.iter().position(|kind| kind == "input_required").unwrap();
    let resolved = types.iter().position(|kind| kind == "input_resolved").unwrap();
    assert!(asked < resolved, "{types:?}");
    client.refused("continue_run", answer(&question["details_hash"], "yes"), "question_answered");
}

#[test]
fn a_question_whose_time_is_over_takes_its_default_or_is_dismissed() {
    let host = Host::usual();
    let client = host.client();
    for (config, said, choice) in [
        (json!({ "mode": "ask", "text": "default", "n": 50 }), "chosen no", json!("no")),
        (json!({ "mode": "ask", "n": 50 }), "dismissed nobody answered in time", Value::Null),
    ] {
        let run = client.run(host.hostile(config));
        assert_eq!(run["result"]["text"].as_str().unwrap().trim(), said, "{run}");
        let id = run["run_id"].as_str().unwrap();
        let events = client.events(id);
        let asked = events.iter().find(|event| event["type"] == "input_required").unwrap();
        let resolved = events.iter().find(|event| event["type"] == "input_resolved").unwrap();
        assert_eq!((&resolved["data"]["how"], &resolved["data"]["choice"]), (&json!("expired"), &choice));
        let refusal = client.refused("continue_run", answer(id, &asked["data"], "yes"), "question_expired");
        assert!(refusal.message.contains("q1"), "{refusal:?}");
    }
}

#[test]
fn several_questions_are_open_at_once_and_each_is_answered_by_its_id() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "ask_many", "n": 3, "text": "auth" })));
    let view = client.until_status(&run, "auth_required");
    assert_eq!((&view["open_questions"], &view["question"]), (&json!(3), &view["questions"][0]), "{view}");
    let questions = view["questions"].as_array().unwrap().clone();
    assert_eq!(questions.iter().map(|question| question["question_id"].as_str().unwrap()).collect::<Vec<_>>(), ["q1", "q2", "q3"]);
    // Each tells its own event, and none takes another one's hash.
    for question in &questions {
        let event = &client.events(&run)[question["seq"].as_u64().unwrap() as usize - 1];
        assert_eq!(event["data"]["question_id"], question["question_id"]);
    }
    let mut crossed = answer(&run, &questions[1], "yes");
    crossed["answer"]["details_hash"] = questions[0]["details_hash"].clone();
    client.refused("continue_run", crossed, "stale_answer");
    assert_eq!(client.call("continue_run", answer(&run, &questions[2], "yes"))["status"], "input_required", "no login is wanted any more");
    assert_eq!(client.get(&run)["questions"].as_array().unwrap().len(), 2);
    client.call("continue_run", answer(&run, &questions[0], "no"));
    client.refused("continue_run", answer(&run, &questions[0], "yes"), "question_answered");
    client.refused("continue_run", answer(&run, &json!({ "question_id": "q9", "details_hash": "0" }), "yes"), "unknown_question");
    client.call("continue_run", answer(&run, &questions[1], "yes"));
    let ended = client.ended(&run);
    assert_eq!(ended["result"]["text"], "q3 yes, q1 no, q2 yes", "{ended}");
    assert_eq!((&ended["question"], &ended["questions"]), (&Value::Null, &json!([])));
    let all = ["q3", "q1", "q2"].map(|id| (id.to_owned(), "answered".to_owned()));
    assert_eq!(closed(&client, &run), all);
    client.refused("continue_run", answer(&run, &questions[1], "yes"), "question_answered");
}

#[test]
fn an_answer_to_a_withdrawn_question_is_refused() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "ask_many", "n": 2, "text": "withdraw", "every_ms": 50 })));
    let asked = client.event(&run, "the first question", |event| event["data"]["question_id"] == "q1");
    let withdrawn = client.event(&run, "its end", |event| event["type"] == "input_resolved");
    assert_eq!((&withdrawn["data"]["how"], &withdrawn["data"]["reason"]), (&json!("withdrawn"), &json!("not needed any more")));
    client.refused("continue_run", answer(&run, &asked["data"], "yes"), "question_withdrawn");
    let view = client.get(&run);
    assert_eq!((&view["status"], &view["question"]["question_id"]), (&json!("input_required"), &json!("q2")), "the other one is open");
    client.call("continue_run", answer(&run, &view["question"], "yes"));
    assert_eq!(client.ended(&run)["result"]["text"], "q2 yes");
    client.refused("continue_run", answer(&run, &asked["data"], "yes"), "question_withdrawn");
}

#[test]
fn an_approval_wants_a_choice() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "ask" })));
    let question = client.until_status(&run, "input_required")["question"].clone();
    let mut bare = answer(&run, &question, "yes");
    bare["answer"]["choices"] = Value::Null;
    bare["answer"]["text"] = json!("well");
    let refusal = client.refused("continue_run", bare, "invalid_argument");
    assert!(refusal.hint.unwrap().contains("yes, no"));
    client.call("continue_run", answer(&run, &question, "no"));
    assert_eq!(client.ended(&run)["result"]["text"].as_str().unwrap().trim(), "chosen no");
}

#[test]
fn what_is_open_at_a_stop_or_an_end_is_closed() {
    let host = Host::usual();
    let client = host.client();
    for (text, status, how) in [("", "cancelled", "cancelled"), ("finish", "completed", "ended")] {
        let run = client.spawn(host.hostile(json!({ "mode": "leave_open", "text": text })));
        let asked = client.event(&run, "the question", |event| event["type"] == "input_required");
        if text.is_empty() {
            let view = client.until_status(&run, "input_required");
            assert_eq!(view["usage"]["input_tokens"], 25, "the newest one stands, and is seen while it lives: {view}");
            client.cancel(&run);
        }
        let ended = client.ended(&run);
        assert_eq!((&ended["status"], &ended["usage"]["input_tokens"]), (&json!(status), &json!(25)), "{ended}");
        assert_eq!((&ended["questions"], &ended["open_questions"]), (&json!([]), &json!(0)));
        assert_eq!(closed(&client, &run), [("q1".to_owned(), how.to_owned())]);
        let events = client.events(&run);
        for (kind, id) in [("command_finished", "c1"), ("tool_finished", "t1")] {
            let ends: Vec<&Value> = events.iter().filter(|event| event["type"] == kind).collect();
            assert_eq!(ends.len(), 1, "{events:?}");
            assert_eq!((&ends[0]["data"]["id"], &ends[0]["data"]["status"]), (&json!(id), &json!("interrupted")));
        }
        client.refused("continue_run", answer(&run, &asked["data"], "yes"), "question_closed");
    }
}

#[test]
fn a_question_of_a_run_that_was_lost_with_its_host_is_closed() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "ask" })));
    let question = client.until_status(&run, "input_required")["question"].clone();
    client.kill();
    host.crash();
    let client = host.client();
    let lost = client.ended(&run);
    assert_eq!((&lost["status"], &lost["questions"]), (&json!("lost"), &json!([])), "{lost}");
    assert_eq!(closed(&client, &run), [("q1".to_owned(), "ended".to_owned())]);
    client.refused("continue_run", answer(&run, &question, "yes"), "question_closed");
}

#[test]
fn a_retry_of_an_answer_gets_the_first_calls_answer() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "ask_many", "n": 2 })));
    let questions = client.until_status(&run, "input_required")["questions"].clone();
    let with_key = |choice: &str| {
        let mut call = answer(&run, &questions[0], choice);
        call["request_key"] = json!("k1");
        call
    };
    for _ in 0..2 {
        assert_eq!(client.call("continue_run", with_key("yes"))["action"], "answered");
    }
    client.refused("continue_run", with_key("no"), "request_key_conflict");
    client.call("continue_run", answer(&run, &questions[1], "yes"));
    assert_eq!(client.ended(&run)["result"]["text"], "q1 yes, q2 yes");
    assert_eq!(client.call("continue_run", with_key("yes"))["status"], "completed", "also after its end");
}

#[test]
fn a_run_that_may_write_no_more_still_closes_its_questions() {
    let host = Host::bare("");
    // Run, start, run, six questions and the status that they bring.
    host.configure(&USUAL.replace("call_cpu =", "events = 10\ncall_cpu ="));
    host.plugin("hostile", falconer_hostile::HOSTILE);
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "ask_many", "n": 6 })));
    client.event(&run, "the last question", |event| event["data"]["question_id"] == "q6");
    let first = client.get(&run)["question"].clone();
    client.call("continue_run", answer(&run, &first, "yes"));
    let ended = client.ended(&run);
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!("output_exceeded")), "{ended}");
    let closed = closed(&client, &run);
    assert_eq!((closed.len(), closed[0].1.as_str(), closed[1].1.as_str()), (6, "answered", "cancelled"), "{closed:?}");
}

#[test]
fn long_details_are_shown_cut_and_read_whole() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "ask", "size": 100_000 })));
    let question = client.until_status(&run, "input_required")["question"].clone();
    assert!(question["details"].to_string().len() < 5_000, "{question}");
    let (mut whole, mut offset) = (String::new(), Some(0));
    while let Some(at) = offset {
        let place = json!({ "run_id": run, "seq": question["seq"], "pointer": "/details", "offset": at, "limit": 60_000 });
        let slice = client.call("get_event_artifact", place);
        whole.push_str(slice["content"].as_str().unwrap());
        offset = slice["next_offset"].as_u64();
    }
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole, json!({ "what": "everything", "input": { "content": "x".repeat(100_000) } }));
    client.cancel(&run);
    let run = client.spawn(host.hostile(json!({ "mode": "ask", "size": 50_000, "text": "wide" })));
    let question = client.until_status(&run, "input_required")["question"].clone();
    assert!(question["details"].to_string().len() < 5_000, "{question}");
    client.cancel(&run);
}

#[test]
fn an_answer_that_is_too_large_is_refused() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "ask" })));
    let question = client.until_status(&run, "input_required")["question"].clone();
    for (field, value) in [("data", json!({ "input": "x".repeat(2 << 20) })), ("text", json!("x".repeat(3 << 20)))] {
        let mut call = answer(&run, &question, "yes");
        call["answer"][field] = value;
        client.refused("continue_run", call, "invalid_argument");
    }
    client.call("continue_run", answer(&run, &question, "yes"));
    assert_eq!(client.ended(&run)["status"], "completed");
}

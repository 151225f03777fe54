//! Sessions: carried on, forked, unknown; what each run used.

use serde_json::{Value, json};

use super::{Stage, all, of_type, script};

/// The mock answers by the newest directive and the number of turns after it: only a conversation that holds the first run can lead
/// to the second turn of its script.
fn remembering() -> String {
    script(
        json!([[{ "text": "I shall remember the mouse." }], [{ "text": "It was a mouse." }], [{ "text": "A small one." }], [{ "text": "Grey." }]]),
    )
}

#[test]
fn a_session_is_carried_on_and_each_run_counts_its_own() {
    let Some(stage) = Stage::set("sessions of codex") else { return };
    let (first, events) = stage.completed(stage.request(&remembering()));
    assert_eq!(first["result"]["text"], "I shall remember the mouse.");
    let native = of_type(&events, "session_started")["data"].clone();
    let (second, events) = stage.continued(&first, "what was it?");
    assert_eq!(second["result"]["text"], "It was a mouse.", "{second}");
    assert_eq!(second["session_id"], first["session_id"]);
    assert_eq!(of_type(&events, "session_started")["data"], native);
    let (third, _) = stage.continued(&second, "of what size?");
    assert_eq!(third["result"]["text"], "A small one.", "{third}");
    // One request each, of about the same size: what came before is not counted again.
    let used = |run: &Value| (run["usage"]["input_tokens"].as_u64().unwrap(), run["usage"]["turns"].as_u64().unwrap());
    let (one, two, three) = (used(&first), used(&second), used(&third));
    assert_eq!((one.1, two.1, three.1), (1, 1, 1), "{one:?} {two:?} {three:?}");
    assert!(two.0 < one.0 * 3 / 2 && three.0 < one.0 * 3 / 2 && one.0 > 0, "{one:?} {two:?} {three:?}");
    assert!(first["usage"]["output_tokens"].as_u64().is_some_and(|count| count > 0), "{first}");
}

#[test]
fn a_cancelled_session_is_carried_on() {
    let Some(stage) = Stage::set("a cancelled session of codex") else { return };
    let run = stage.client.spawn(stage.request("the mouse is called Walter; MOCK:hang"));
    stage.client.event(&run, "the answer to begin", |event| event["type"] == "agent_message");
    assert_eq!(stage.client.cancel(&run)["status"], "cancelled");
    let (view, _) = stage.continued(&stage.client.get(&run), "MOCK:hello");
    assert_eq!(view["status"], "completed", "{view}");
    assert!(stage.mock.bodies("").pop().unwrap().to_string().contains("the mouse is called Walter"));
}

#[test]
fn a_fork_knows_and_leaves_the_first_as_it_is() {
    let Some(stage) = Stage::set("a fork of codex") else { return };
    let (first, _) = stage.completed(stage.request(&remembering()));
    let forked = stage.client.call("continue_run", json!({ "run_id": first["run_id"], "message": "and?", "fork": true }));
    assert_ne!(forked["session_id"], first["session_id"], "{forked}");
    let (fork, events) = stage.ended(forked["run_id"].as_str().unwrap());
    assert_eq!(fork["result"]["text"], "It was a mouse.", "{fork}");
    assert_eq!((all(&events, "session_started").len(), fork["usage"]["turns"].as_u64()), (1, Some(1)), "{fork}");
    // The first one knows nothing of it.
    let (second, _) = stage.continued(&first, "what was it?");
    assert_eq!(second["result"]["text"], "It was a mouse.", "{second}");
    let (further, _) = stage.continued(&fork, "and then?");
    assert_eq!(further["result"]["text"], "A small one.", "{further}");
}

#[test]
fn a_session_that_codex_forgot_is_told() {
    let Some(stage) = Stage::set("a forgotten session of codex") else { return };
    let (first, _) = stage.completed(stage.request("MOCK:hello"));
    std::fs::remove_dir_all(stage.codex_home()).unwrap();
    let next = stage.client.call("continue_run", json!({ "run_id": first["run_id"], "message": "and?" }));
    let (view, _) = stage.ended(next["run_id"].as_str().unwrap());
    assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!("session_not_found")), "{view}");
    assert!(view["error"]["hint"].is_string(), "{view}");
}

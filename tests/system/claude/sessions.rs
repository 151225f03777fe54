//! Sessions: resumed, forked, counted run by run.

use serde_json::{Value, json};

use super::{Stage, of_type, script, text};

/// The mock answers by the newest directive and the number of turns after it: a message without one, of a conversation that
/// holds the first, leads to the next turn of its script. No other conversation can.
fn memory() -> String {
    script(&json!([
        [{ "text": "I shall remember the mouse." }],
        [{ "text": "It was a mouse." }],
        [{ "text": "A mouse, as I said." }],
    ]))
}

impl Stage {
    /// Carries on; the new run.
    #[track_caller]
    fn goes_on(&self, run: &Value, more: &[(&str, Value)]) -> Value {
        let mut request = json!({ "run_id": run["run_id"], "message": "what was it?" });
        for (name, value) in more {
            request[*name] = value.clone();
        }
        let next = self.client.call("continue_run", request);
        self.completes(next["run_id"].as_str().unwrap()).0
    }
}

#[test]
fn a_resumed_session_remembers_and_each_run_has_its_own_usage() {
    let Some(stage) = Stage::usual("a resumed session of claude") else { return };
    let (first, _) = stage.completed(stage.request(&memory()));
    assert_eq!(text(&first), "I shall remember the mouse.");
    let second = stage.goes_on(&first, &[]);
    assert_eq!((text(&second), &second["session_id"]), ("It was a mouse.", &first["session_id"]));
    let third = stage.goes_on(&second, &[]);
    assert_eq!(text(&third), "A mouse, as I said.");
    let mut sums = Vec::new();
    for run in [&first, &second, &third] {
        let usage = &run["usage"];
        assert_eq!(usage["turns"], 1, "{usage}");
        sums.push((usage["output_tokens"].as_u64().unwrap(), usage["cost_microdollars"].as_u64().unwrap()));
    }
    // Each said a handful of words; a running total would be the sum of all before it.
    assert!(sums.iter().all(|(output, cost)| (2..20).contains(output) && *cost > 0), "{sums:?}");
    assert!(sums[2].1 < sums[0].1 + sums[1].1, "a cost of its own: {sums:?}");
}

#[test]
fn a_fork_remembers_and_leaves_the_session_as_it_is() {
    let Some(stage) = Stage::usual("a forked session of claude") else { return };
    let (first, events) = stage.completed(stage.request(&memory()));
    let fork = stage.goes_on(&first, &[("fork", true.into())]);
    assert_eq!(text(&fork), "It was a mouse.", "it knows what was said before");
    assert_ne!(fork["session_id"], first["session_id"], "{fork}");
    let native = |events: &[Value]| of_type(events, "session_started")["data"]["native_id"].clone();
    let of_fork = stage.client.events(fork["run_id"].as_str().unwrap());
    assert_ne!(native(&of_fork), native(&events));
    // The old one has not heard the question, and asks the model for its second turn again.
    let second = stage.goes_on(&first, &[]);
    assert_eq!((text(&second), &second["session_id"]), ("It was a mouse.", &first["session_id"]));
    let further = stage.goes_on(&fork, &[]);
    assert_eq!((text(&further), &further["session_id"]), ("A mouse, as I said.", &fork["session_id"]));
}

#[test]
fn a_cancelled_run_is_carried_on_with_what_it_was_told() {
    let Some(stage) = Stage::usual("a cancelled session of claude") else { return };
    let mut request = stage.choosing("MOCK:hang", json!({ "model": "claude-haiku-4-5" }));
    request["instructions"] = "Always speak of mice.".into();
    request["metadata"] = json!({ "mouse": "grey" });
    let run = stage.client.spawn(request);
    stage.client.event(&run, "the first word", |event| event["type"] == "agent_message");
    assert_eq!(stage.client.cancel(&run)["status"], "cancelled");
    let (view, _) = stage.finished(&run);
    let next = stage.goes_on(&view, &[("message", "MOCK:hello".into())]);
    assert_eq!(text(&next), "Hello from the mock model.");
    assert_eq!((&next["metadata"], &next["session_id"]), (&json!({ "mouse": "grey" }), &view["session_id"]));
    let last = stage.mock.bodies("Always speak of mice.").pop().unwrap();
    assert_eq!(last["model"], "claude-haiku-4-5");
    assert!(last["system"].to_string().contains("Always speak of mice."), "{}", last["system"]);
}

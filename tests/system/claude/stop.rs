//! The stop: in the middle of anything, and when the host is gone.

use serde_json::{Value, json};

use super::{KEY, Stage, asked, bash, of_type};
use crate::patience::until;
use crate::processes::with_environment;

impl Stage {
    /// Cancels, and looks whether all of it is gone.
    #[track_caller]
    fn stopped(&self, run: &str) -> (Value, Vec<Value>) {
        let answer = self.client.call("cancel_run", json!({ "run_id": run, "reason": "enough" }));
        assert_eq!(answer["status"], "cancelled", "{answer}");
        assert_eq!(answer["receipt"]["survivors"], json!([]), "{answer}");
        let (view, events) = self.finished(run);
        assert_eq!(view["status"], "cancelled");
        (view, events)
    }
}

/// Whether the agent ended by itself, without a signal.
fn was_polite(view: &Value) -> bool {
    !view["receipt"]["rungs"].as_array().unwrap().iter().any(|step| step["rung"] == "terminate")
}

#[test]
fn a_cancel_in_mid_answer_ends_the_request_too() {
    let Some(stage) = Stage::usual("a cancel of claude in mid-answer") else { return };
    let run = stage.client.spawn(stage.request("a cancel in mid-answer: MOCK:hang"));
    stage.client.event(&run, "the first word", |event| event["type"] == "agent_message");
    let (view, _) = stage.stopped(&run);
    assert!(was_polite(&view), "{}", view["receipt"]);
    assert!(view["result"]["text"].as_str().is_some_and(|text| text.starts_with("Starting")), "what there is is kept: {view}");
    let gone = || (stage.mock.outcome("a cancel in mid-answer")? == "client_gone").then_some(());
    until("the mock to see that its client has gone", gone);
}

#[test]
fn a_cancel_in_mid_command_leaves_no_child() {
    let Some(stage) = Stage::usual("a cancel of claude in mid-command") else { return };
    // One in a session of its own, one that does not hear TERM, and the command itself.
    let stubborn = "sh -c 'trap \"\" TERM; while :; do read -t 1 <> /dev/zero || true; tail -f /dev/null; done'";
    let run = stage.client.spawn(stage.request(&bash(&format!("setsid tail -f /dev/null & {stubborn} & touch up; tail -f /dev/null"))));
    until("the command to stand", || stage.work.join("up").exists().then_some(()));
    assert!(with_environment(&format!("FALCONER_RUN_ID={run}")).len() >= 4);
    let (_, events) = stage.stopped(&run);
    assert_eq!(of_type(&events, "command_finished")["data"]["status"], "interrupted");
}

#[test]
fn a_cancel_with_an_open_question_closes_it() {
    let Some(stage) = Stage::usual("a cancel of claude with a question open") else { return };
    let run = stage.client.spawn(stage.choosing(&bash("touch x"), asked()));
    let question = stage.question(&run, &[]);
    let (view, events) = stage.stopped(&run);
    assert!(was_polite(&view), "{}", view["receipt"]);
    assert_eq!(of_type(&events, "input_resolved")["data"]["question_id"], question["question_id"]);
    assert!(!stage.work.join("x").exists());
}

#[test]
fn a_cancel_at_once_is_as_good_as_any() {
    let Some(stage) = Stage::usual("a cancel of claude at once") else { return };
    for _ in 0..2 {
        let run = stage.client.spawn(stage.request("MOCK:hang"));
        stage.stopped(&run);
    }
    // As soon as there is a process.
    let run = stage.client.spawn(stage.request("MOCK:hang"));
    stage.client.until_status(&run, "running");
    stage.stopped(&run);
    stage.completed(stage.request("MOCK:hello"));
}

#[test]
fn a_host_that_is_killed_leaves_nothing_and_says_what_it_does_not_know() {
    let Some(stage) = Stage::with("a killed host of claude", KEY, "") else { return };
    let busy = stage.client.spawn(stage.request(&bash("setsid tail -f /dev/null & tail -f /dev/null")));
    stage.client.event(&busy, "the command", |event| event["type"] == "command_started");
    let asking = stage.client.spawn(stage.choosing(&bash("touch x"), asked()));
    stage.question(&asking, &[]);
    stage.host.crash();
    for run in [&busy, &asking] {
        until("nothing of the run to live", || with_environment(&format!("FALCONER_RUN_ID={run}")).is_empty().then_some(()));
    }
    let client = stage.host.client();
    for run in [&busy, &asking] {
        let view = client.ended(run);
        assert_eq!((&view["status"], &view["error"]["code"]), (&json!("lost"), &json!("host_lost")), "{view}");
        assert_eq!(client.events(run).last().unwrap()["type"], "run_lost");
    }
}

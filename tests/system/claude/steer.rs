//! Messages into a live run.

use std::fs;

use serde_json::{Value, json};

use super::{Stage, all, asked, bash, of_type, script, text};
use crate::patience::until;

/// A turn of one text.
fn says(what: &str) -> String {
    script(&json!([[{ "text": what }]]))
}

impl Stage {
    #[track_caller]
    fn steer(&self, run: &str, message: &str, timing: &str) {
        let answer = self.client.call("continue_run", json!({ "run_id": run, "message": message, "timing": timing }));
        assert_eq!((&answer["action"], &answer["run_id"]), (&json!("steered"), &json!(run)), "{answer}");
    }

    /// A run whose answer is being written.
    fn writing(&self) -> String {
        let words = "one two three four five six seven eight nine ten eleven twelve";
        let run = self.client.spawn(self.request(&script(&json!([[{ "text": words, "delay_ms": 100 }]]))));
        self.client.event(&run, "the first word", |event| event["type"] == "agent_message");
        run
    }
}

/// The messages that joined.
fn joined(events: &[Value]) -> Vec<&str> {
    all(events, "message_added").iter().map(|event| event["data"]["text"].as_str().unwrap()).collect()
}

#[test]
fn a_message_cuts_a_text_or_follows_it() {
    let Some(stage) = Stage::usual("messages to a writing claude") else { return };
    let run = stage.writing();
    stage.steer(&run, &says("cut short"), "now");
    let (view, events) = stage.completes(&run);
    assert_eq!(text(&view), "cut short");
    assert_eq!(joined(&events), [says("cut short")], "told once");
    assert!(!json!(events).to_string().contains("twelve"), "{events:#?}");
    assert_eq!(view["usage"]["turns"], 2, "{view}");

    let run = stage.writing();
    stage.steer(&run, &says("and then"), "after_step");
    stage.steer(&run, &says("at last"), "after_step");
    let (view, events) = stage.completes(&run);
    assert_eq!((text(&view), joined(&events).len()), ("at last", 2));
    assert!(json!(events).to_string().contains("twelve"), "what was being said is said to its end");
}

#[test]
fn a_message_cuts_a_command_or_joins_after_it() {
    let Some(stage) = Stage::usual("messages to a busy claude") else { return };
    let busy = |command: &str| {
        let run = stage.client.spawn(stage.request(&bash(command)));
        stage.client.event(&run, "the command", |event| event["type"] == "command_started");
        run
    };
    let run = busy("tail -f /dev/null");
    stage.steer(&run, &says("leave it"), "now");
    let (view, events) = stage.completes(&run);
    assert_eq!(text(&view), "leave it");
    assert_eq!(of_type(&events, "command_finished")["data"]["status"], "interrupted", "{events:#?}");

    let run = busy("until [ -e go ]; do read -t 0.1 <> <(:); done; echo went");
    stage.steer(&run, &says("joined"), "after_step");
    fs::write(stage.work.join("go"), "").unwrap();
    let (view, events) = stage.completes(&run);
    assert_eq!((text(&view), joined(&events)), ("joined", vec![says("joined").as_str()]));
    assert_eq!(of_type(&events, "command_finished")["data"]["status"], "succeeded");
    assert_eq!(view["usage"]["turns"], 2, "one turn answers both: {view}");
}

/// The program takes a message otherwise while a command is announced, judged and started than while it runs.
#[test]
fn a_message_cuts_a_command_whenever_it_comes() {
    let Some(stage) = Stage::usual("messages to claude at any time of a command") else { return };
    for round in 0..10 {
        let up = stage.work.join(format!("up-{round}"));
        let run = stage.client.spawn(stage.request(&bash(&format!("touch {}; tail -f /dev/null", up.display()))));
        stage.client.event(&run, "the command", |event| event["type"] == "command_started");
        if round % 2 == 1 {
            until("the command to run", || up.exists().then_some(()));
        }
        stage.steer(&run, &says("leave it"), "now");
        let (view, events) = stage.completes(&run);
        assert_eq!((text(&view), joined(&events)), ("leave it", vec![says("leave it").as_str()]), "{round}: {events:#?}");
        assert_eq!(of_type(&events, "command_finished")["data"]["status"], "interrupted", "{round}: {events:#?}");
        assert_eq!(view["usage"]["turns"], 2, "{round}: {view}");
    }
}

#[test]
fn a_message_cuts_a_text_and_leaves_the_agents_in_the_background() {
    let Some(stage) = Stage::usual("a message to claude beside an agent of its own") else { return };
    let waits =
        json!({ "command": "touch up; until [ -e go ]; do read -t 0.1 <> <(:); done; echo went", "description": "d", "timeout": 600_000 });
    let agent = script(&json!([[{ "tool": "Bash", "input": waits }], [{ "text": "it {{tool_result}}" }]]));
    let task = json!({ "description": "d", "subagent_type": "general-purpose", "prompt": agent });
    let words = "one two three four five six seven eight nine ten eleven twelve";
    let slow = json!({ "text": words.repeat(20), "delay_ms": 100 });
    let run = stage.client.spawn(stage.request(&script(&json!([[{ "tool": "Task", "input": task }], [slow]]))));
    stage.client.event(&run, "the words of the main agent", |event| {
        event["type"] == "agent_message" && event["data"]["text"].as_str().is_some_and(|text| text.starts_with("one"))
    });
    until("the agent's command to run", || stage.work.join("up").exists().then_some(()));
    stage.steer(&run, &says("cut short"), "now");
    stage.client.event(&run, "the answer", |event| event["data"]["text"] == "cut short" && event["data"]["whole"] == true);
    fs::write(stage.work.join("go"), "").unwrap();
    let (_, events) = stage.completes(&run);
    assert_eq!(of_type(&events, "command_finished")["data"]["status"], "succeeded", "{events:#?}");
    assert_eq!(of_type(&events, "tool_finished")["data"]["status"], "succeeded", "{events:#?}");
}

#[test]
fn a_message_beside_an_open_question_waits_for_its_answer() {
    let Some(stage) = Stage::usual("a message beside a question of claude") else { return };
    let run = stage.client.spawn(stage.choosing(&bash("echo ran"), json!({ "permission_mode": "ask", "allowed_tools": [] })));
    // `echo` needs no question; what writes does.
    stage.completes(&run);
    let run = stage.client.spawn(stage.choosing(&bash("touch asked"), asked()));
    let question = stage.question(&run, &[]);
    stage.steer(&run, &says("heard"), "after_step");
    stage.answer(&run, &question, json!({ "choices": ["allow"] }));
    let (view, events) = stage.completes(&run);
    assert_eq!((text(&view), joined(&events).len()), ("heard", 1));
    assert!(stage.work.join("asked").exists());
}

#[test]
fn a_message_after_the_end_goes_on_with_the_session() {
    let Some(stage) = Stage::usual("a message after the end of claude") else { return };
    let (first, _) = stage.completed(stage.request("MOCK:hello"));
    let next = stage.client.call("continue_run", json!({ "run_id": first["run_id"], "message": says("still here"), "timing": "now" }));
    assert_eq!((&next["action"], &next["session_id"]), (&json!("continued"), &first["session_id"]), "{next}");
    assert_eq!(text(&stage.completes(next["run_id"].as_str().unwrap()).0), "still here");
}

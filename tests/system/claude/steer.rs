//! Messages into a live run.

use serde_json::{Value, json};

use super::{Stage, all, asked, bash, of_type, script, text};

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
    std::fs::write(stage.work.join("go"), "").unwrap();
    let (view, events) = stage.completes(&run);
    assert_eq!((text(&view), joined(&events)), ("joined", vec![says("joined").as_str()]));
    assert_eq!(of_type(&events, "command_finished")["data"]["status"], "succeeded");
    assert_eq!(view["usage"]["turns"], 2, "one turn answers both: {view}");
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

//! Lines that were made up, for what no recorded stream has.

use std::time::Duration;

use falconer_backend::{Effects, Event, ExitStatus, ItemStatus, JsonLine, Outcome, Part, QuestionAnswer, Steering, Timing};
use serde_json::{Value, json};

use super::{Replay, code, order};
use crate::session::Session;

#[test]
fn answers_are_given_once_and_changed_input_is_refused() {
    let mut replay = Replay::working(json!({}));
    let asked = json!({"method": "item/commandExecution/requestApproval", "id": 0, "params": {"threadId": "main", "turnId": "t1", "command": "rm x", "cwd": "/w"}});
    replay.line(asked, Duration::ZERO);
    let answer = |id: &str, data: Option<&str>| QuestionAnswer {
        question: id.to_owned(),
        choices: vec!["allow".to_owned()],
        text: None,
        data: data.map(str::to_owned),
        reason: None,
    };
    replay.act(Duration::ZERO, |session, out| {
        assert_eq!(session.reply(&answer("q1", Some(r#"{"input":{"command":"ls"}}"#)), out).unwrap_err().code, "unsupported");
    });
    assert_eq!(replay.questions().iter().map(|question| question.id.as_str()).collect::<Vec<_>>(), ["q1", "q2"]);
    replay.act(Duration::ZERO, |session, out| {
        assert_eq!(session.reply(&answer("q1", None), out).unwrap_err().code, "unknown_question");
        session.reply(&answer("q2", None), out).unwrap();
        assert_eq!(session.reply(&answer("q2", None), out).unwrap_err().code, "unknown_question");
    });
    assert_eq!(replay.written.last().unwrap(), &json!({"id": 0, "result": {"decision": "accept"}}));
    // That it was answered is no withdrawal.
    replay.tell("serverRequest/resolved", json!({"threadId": "main", "requestId": 0}));
    assert!(!replay.events.iter().any(|event| matches!(event, Event::Withdrawn(_))));
}

#[test]
fn permissions_are_asked_and_given_for_the_turn_or_the_session() {
    for (choice, scope) in [("allow", "turn"), ("allow_session", "session"), ("deny", "turn")] {
        let mut replay = Replay::working(json!({}));
        let wanted = json!({"network": {"enabled": true}, "fileSystem": null});
        let params = json!({"threadId": "main", "turnId": "t1", "cwd": "/w", "reason": "to fetch", "permissions": wanted});
        replay.line(json!({"method": "item/permissions/requestApproval", "id": 7, "params": params}), Duration::ZERO);
        assert!(replay.questions()[0].prompt.contains("to fetch"));
        let answer = QuestionAnswer { question: "q1".into(), choices: vec![choice.into()], text: None, data: None, reason: None };
        replay.act(Duration::ZERO, |session, out| session.reply(&answer, out).unwrap());
        let given = if choice == "deny" { json!({}) } else { json!({"network": {"enabled": true}}) };
        assert_eq!(replay.written.last().unwrap(), &json!({"id": 7, "result": {"permissions": given, "scope": scope}}));
    }
}

#[test]
fn what_nobody_is_asked_is_refused_and_unknown_requests_are_answered() {
    let mut replay = Replay::working(json!({"permission_mode": "never_ask_deny"}));
    for (id, method) in
        ["item/commandExecution/requestApproval", "item/tool/requestUserInput", "item/tool/call", "later/added"].iter().enumerate()
    {
        let params = json!({"threadId": "main", "questions": [{"id": "a", "question": "?"}]});
        replay.line(json!({"method": method, "id": id, "params": params}), Duration::ZERO);
    }
    let answers: Vec<&Value> = replay.written.iter().filter(|line| line["method"].is_null()).collect();
    assert_eq!(answers[0], &json!({"id": 0, "result": {"decision": "decline"}}));
    assert_eq!(answers[1], &json!({"id": 1, "result": {"answers": {}}}));
    assert_eq!((&answers[2]["error"]["code"], &answers[3]["error"]["code"]), (&json!(-32601), &json!(-32601)));
    let codes: Vec<&str> = replay
        .events
        .iter()
        .filter_map(|event| if let Event::Notice(notice) = event { Some(notice.code.as_str()) } else { None })
        .collect();
    assert_eq!(codes, ["permission_denied", "question_declined"]);
}

#[test]
fn a_message_that_the_turn_does_not_take_begins_another() {
    let mut replay = Replay::working(json!({}));
    let steering = Steering { id: "msg_1".to_owned(), message: vec![Part::Text("and this".to_owned())], timing: Timing::AfterStep };
    replay.act(Duration::ZERO, |session, out| session.steer(&steering, Duration::ZERO, out).unwrap());
    assert_eq!(replay.methods().last(), Some(&"turn/steer"));
    // The turn ended before it came.
    replay.answered("turn/steer", json!({"error": {"code": -32600, "message": "no active turn to steer"}}), Duration::ZERO);
    replay.tell("turn/completed", json!({"threadId": "main", "turn": {"id": "t1", "status": "completed"}}));
    let last = replay.written.last().unwrap();
    assert_eq!((&last["method"], &last["params"]["clientUserMessageId"]), (&json!("turn/start"), &json!("msg_1")));
}

#[test]
fn an_early_cancel_closes_at_once_and_a_later_one_interrupts() {
    let mut early = Replay::begun(json!({}));
    early.act(Duration::ZERO, |session, out| session.cancel(Duration::ZERO, out));
    assert!(early.closed);
    assert_eq!(code(&early.session.outcome(Some(ExitStatus::Code(0)))), "stopped");

    // The turn was asked for and has no id yet: the interrupt waits for it.
    let mut starting = Replay::begun(json!({}));
    starting.answer("thread/start", &json!({"thread": {"id": "main"}, "model": "m"}));
    starting.act(Duration::ZERO, |session, out| session.cancel(Duration::ZERO, out));
    assert_eq!(starting.methods().last(), Some(&"turn/start"));
    starting.answer("turn/start", &json!({"turn": {"id": "t1"}}));
    assert_eq!(starting.methods().last(), Some(&"turn/interrupt"));
    starting.tell("turn/completed", json!({"threadId": "main", "turn": {"id": "t1", "status": "interrupted"}}));
    assert!(starting.closed);

    // A program that answers nothing: each step has its time.
    let mut silent = Replay::working(json!({}));
    silent.act(Duration::ZERO, |session, out| session.cancel(Duration::ZERO, out));
    let mut ends = 0;
    while !silent.session.overdue(Duration::from_secs(ends)) {
        ends += 1;
        silent.act(Duration::from_secs(ends), |_, _| {});
        assert!(ends < 5, "interrupt, clean, close: one second each");
    }
    assert_eq!(code(&silent.session.outcome(None)), "stopped");
}

#[test]
fn a_login_that_is_missing_is_told_before_a_thread_is_opened() {
    let mut out = Effects::default();
    let mut session = Session::new(order(json!({})), &mut out);
    let line = |value: Value| JsonLine::parse(value.to_string().as_bytes()).unwrap();
    for answer in [
        json!({"id": 1, "result": {"userAgent": "falconer/0.169.0 (x)"}}),
        json!({"id": 2, "result": {"config": {}}}),
        json!({"id": 3, "result": {"account": null, "requiresOpenaiAuth": true}}),
    ] {
        session.line(line(answer), Duration::ZERO, &mut out);
    }
    assert!(out.close && !out.lines.iter().any(|line| line.contains("thread/start")));
    let Outcome::Failed(failure) = session.outcome(Some(ExitStatus::Code(0))) else { panic!("no failure") };
    assert_eq!(failure.code, "auth_required");
    assert!(failure.hint.unwrap().contains("codex login"));
}

#[test]
fn what_is_kept_of_a_long_run_is_bounded() {
    let mut replay = Replay::working(json!({}));
    for n in 0..10_000u64 {
        let (thread, id) = (if n % 10 == 0 { format!("child-{n}") } else { "main".to_owned() }, format!("item-{n}"));
        let command = json!({"type": "commandExecution", "id": id, "command": "x", "status": "inProgress"});
        replay.tell("item/started", json!({"threadId": thread, "turnId": "t1", "item": command}));
        replay.tell("item/commandExecution/outputDelta", json!({"threadId": thread, "itemId": id, "delta": "line\n"}));
        let ended = json!({"type": "commandExecution", "id": id, "command": "x", "status": "completed", "aggregatedOutput": "line\n"});
        replay.tell("item/completed", json!({"threadId": thread, "turnId": "t1", "item": ended}));
        let total = json!({"inputTokens": n * 10, "outputTokens": n});
        replay
            .tell("thread/tokenUsage/updated", json!({"threadId": thread, "turnId": "t1", "tokenUsage": {"total": total, "last": total}}));
        replay.tell("thread/started", json!({"thread": {"id": thread, "parentThreadId": "main"}}));
        replay.tell("turn/completed", json!({"threadId": format!("child-{n}"), "turn": {"id": "c", "status": "completed"}}));
        replay.line(json!({"method": "item/tool/call", "id": n, "params": {}}), Duration::ZERO);
        replay.events.clear();
        replay.written.clear();
        replay.open.clear();
    }
    let kept = format!("{:?}", replay.session).len();
    assert!(kept < 60_000, "{kept} bytes");
}

#[test]
fn an_interrupted_tool_call_is_closed_with_its_turn() {
    let mut replay = Replay::working(json!({}));
    let call = json!({"type": "mcpToolCall", "id": "c", "server": "s", "tool": "t", "arguments": {}, "status": "inProgress"});
    replay.tell("item/started", json!({"threadId": "main", "item": call}));
    replay.tell("turn/completed", json!({"threadId": "main", "turn": {"id": "t1", "status": "interrupted"}}));
    assert!(replay.events.iter().any(|event| matches!(event, Event::ToolFinished(end) if end.status == ItemStatus::Interrupted)));
    assert_eq!(code(&replay.session.outcome(None)), "interrupted");
}

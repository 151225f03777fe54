//! The state machine alone: what keeps a run alive, what ends it, and what it keeps meanwhile.

use falconer_backend::{Answer, Event, ExitStatus, JsonLine, Outcome, Part, Steering, Timing, Withdrawal};

use super::*;

/// A session as most tests want it.
fn session(setup: Setup) -> Session {
    let background_wait = if setup.background_wait.is_zero() { Duration::from_secs(600) } else { setup.background_wait };
    Session::new(Setup { run: "run_test".to_owned(), background_wait, ..setup })
}

/// A line of the program.
fn line(value: &Value) -> JsonLine {
    JsonLine::parse(value.to_string().as_bytes()).unwrap()
}

#[test]
fn silence_after_a_result_is_the_end() {
    let mut session = session(Setup { background_wait: Duration::from_secs(5), ..Setup::default() });
    let mut out = Effects::default();
    let at = Duration::from_secs;
    session.line(line(&json!({"type":"system","subtype":"init","session_id":"s"})), at(1), &mut out);
    assert_eq!(session.deadline(), None);
    session.line(line(&json!({"type":"result","subtype":"success","result":"yes"})), at(2), &mut out);
    let until = session.deadline().unwrap();
    session.tick(until, &mut out);
    assert!(out.close);
    assert!(!session.overdue(until));
    assert!(session.overdue(session.deadline().unwrap()));
    assert!(matches!(session.outcome(None, &mut out.events), Outcome::Completed(done) if done.text.as_deref() == Some("yes")));
}

#[test]
fn what_never_ends_in_the_background_is_stopped() {
    let mut session = session(Setup { background_wait: Duration::from_secs(5), ..Setup::default() });
    let mut out = Effects::default();
    let at = Duration::from_secs;
    session.line(line(&json!({"type":"system","subtype":"background_tasks_changed","tasks":[{}]})), at(1), &mut out);
    session.line(line(&json!({"type":"result","subtype":"success","result":"yes"})), at(2), &mut out);
    session.line(line(&json!({"type":"system","subtype":"session_state_changed","state":"idle"})), at(2), &mut out);
    assert_eq!(session.deadline(), Some(at(7)));
    session.tick(at(7), &mut out);
    assert!(out.lines[0].contains("end_session"));
    assert!(matches!(session.outcome(Some(ExitStatus::Code(0)), &mut out.events), Outcome::Completed(_)));
}

#[test]
fn a_message_that_is_not_answered_yet_keeps_the_run_alive() {
    let mut session = session(Setup::default());
    let mut out = Effects::default();
    let at = Duration::from_secs;
    session.begin(vec![json!({ "type": "text", "text": "one" })], &mut out);
    let sent: Value = serde_json::from_str(&out.lines[0]).unwrap();
    assert_eq!((&sent["client_composed"], &sent["message"]["content"][0]["text"]), (&json!(true), &json!("one")));
    let steering = |id: &str| Steering { id: id.to_owned(), message: vec![Part::Text("two".to_owned())], timing: Timing::AfterStep };
    session.steer(steering("m1"), vec![json!({ "type": "text", "text": "two" })], at(1), &mut out).unwrap();
    let steered: Value = serde_json::from_str(&out.lines[1]).unwrap();
    assert_eq!(steered["priority"], "next");
    session.line(
        line(&json!({ "type": "result", "subtype": "success", "result": "first", "user_message_uuids": [sent["uuid"]] })),
        at(2),
        &mut out,
    );
    session.line(line(&json!({ "type": "system", "subtype": "session_state_changed", "state": "idle" })), at(2), &mut out);
    assert!(!out.close, "the second message is on its way");
    session.line(line(&json!({ "type": "system", "subtype": "init", "session_id": "s" })), at(3), &mut out);
    session.line(
        line(&json!({ "type": "result", "subtype": "success", "result": "second", "user_message_uuids": [steered["uuid"]] })),
        at(4),
        &mut out,
    );
    session.line(line(&json!({ "type": "system", "subtype": "session_state_changed", "state": "idle" })), at(4), &mut out);
    assert!(out.close);
    let refused = session.steer(steering("m2"), Vec::new(), at(4), &mut out).unwrap_err();
    assert_eq!(refused.code, "run_ending");
    assert!(matches!(session.outcome(None, &mut out.events), Outcome::Completed(done) if done.text.as_deref() == Some("second")));
    let added = out.events.pending().events.iter().filter(|event| matches!(event, Event::MessageAdded(_))).count();
    assert_eq!(added, 1);
}

#[test]
fn a_message_that_the_program_never_takes_up_costs_no_answer() {
    let mut session = session(Setup::default());
    let mut out = Effects::default();
    let at = Duration::from_secs;
    session.begin(vec![json!({ "type": "text", "text": "one" })], &mut out);
    let sent: Value = serde_json::from_str(&out.lines[0]).unwrap();
    session.line(line(&json!({ "type": "system", "subtype": "session_state_changed", "state": "running" })), at(1), &mut out);
    session.line(
        line(&json!({ "type": "result", "subtype": "success", "result": "first", "user_message_uuids": [sent["uuid"]] })),
        at(2),
        &mut out,
    );
    let steering = Steering { id: "m1".to_owned(), message: vec![Part::Text("two".to_owned())], timing: Timing::AfterStep };
    session.steer(steering, Vec::new(), at(3), &mut out).unwrap();
    let until = session.deadline().unwrap();
    assert!(until > at(5), "it is waited for");
    session.tick(until, &mut out);
    assert!(out.close);
    assert!(matches!(session.outcome(None, &mut out.events), Outcome::Completed(done) if done.text.as_deref() == Some("first")));
    let told = |event: &Event| matches!(event, Event::Notice(notice) if notice.code == "message_not_delivered");
    assert!(out.events.pending().events.iter().any(told));
}

/// The requests and messages among the lines, by their subtype or type.
fn written(out: &Effects) -> Vec<String> {
    let lines = out.lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["request"]["subtype"].as_str().or(line["priority"].as_str()).unwrap_or("first").to_owned()).collect()
}

#[test]
fn an_interrupt_goes_before_a_message_that_cuts() {
    let mut session = session(Setup::default());
    let mut out = Effects::default();
    let at = Duration::from_secs;
    let steering = |id: &str, timing| Steering { id: id.to_owned(), message: vec![Part::Text(id.to_owned())], timing };
    session.begin(Vec::new(), &mut out);
    session.steer(steering("m1", Timing::AfterStep), Vec::new(), at(1), &mut out).unwrap();
    session.steer(steering("m2", Timing::Now), Vec::new(), at(1), &mut out).unwrap();
    assert_eq!(written(&out), ["first", "next", "interrupt", "now"]);
    let interrupt: Value = serde_json::from_str(&out.lines[2]).unwrap();
    assert_eq!(interrupt["request"].get("cancel_queued"), None, "what waits is answered all the same");
    // After the answer nothing is to be cut.
    session.line(line(&json!({ "type": "result", "subtype": "success", "result": "first" })), at(2), &mut out);
    session.steer(steering("m3", Timing::Now), Vec::new(), at(3), &mut out).unwrap();
    assert_eq!(written(&out)[4..], ["now"]);
}

#[test]
fn subagents_in_the_background_outlive_a_cut_where_they_can() {
    let at = Duration::from_secs;
    let call = |id: &str| json!({ "type": "tool_use", "id": id, "name": "Bash", "input": { "command": "x" } });
    let says = |parent: Option<&str>, id: &str| {
        let message = json!({ "id": format!("of-{id}"), "content": [call(id)] });
        line(&json!({ "type": "assistant", "parent_tool_use_id": parent, "message": message }))
    };
    let started = |id: &str, background: bool| {
        let task = json!({ "task_id": format!("task-{id}"), "tool_use_id": id, "is_backgrounded": background });
        let mut value = json!({ "type": "system", "subtype": "task_started" });
        value.as_object_mut().unwrap().extend(task.as_object().unwrap().clone());
        line(&value)
    };
    let tasks = |kind: &str| line(&json!({ "type": "system", "subtype": "background_tasks_changed", "tasks": [{ "task_type": kind }] }));
    let steering = || Steering { id: "m".to_owned(), message: vec![Part::Text("m".to_owned())], timing: Timing::Now };
    // An agent in the background, which runs a command.
    let with_agent = || {
        let (mut session, mut out) = (session(Setup::default()), Effects::default());
        session.line(says(None, "agent"), at(1), &mut out);
        session.line(tasks("local_agent"), at(1), &mut out);
        session.line(started("agent", true), at(1), &mut out);
        session.line(says(Some("agent"), "inner"), at(1), &mut out);
        session
    };

    // The message goes alone; a command that began before it was read is stopped, those of the agent are not.
    let (mut session, mut out) = (with_agent(), Effects::default());
    session.steer(steering(), Vec::new(), at(2), &mut out).unwrap();
    assert_eq!(written(&out), ["now"]);
    let sent: Value = serde_json::from_str(&out.lines[0]).unwrap();
    let lifecycle = |state: &str| line(&json!({ "type": "command_lifecycle", "command_uuid": sent["uuid"], "state": state }));
    let mut out = Effects::default();
    session.line(lifecycle("queued"), at(2), &mut out);
    session.line(says(None, "outer"), at(2), &mut out);
    session.line(started("inner", false), at(3), &mut out);
    assert!(out.lines.is_empty(), "{:?}", out.lines);
    session.line(started("outer", false), at(3), &mut out);
    assert_eq!(written(&out), ["stop_task"]);
    assert!(out.lines[0].contains("task-outer"), "{:?}", out.lines);
    // What begins when the message has been read is not.
    session.line(lifecycle("started"), at(4), &mut out);
    session.line(says(None, "later"), at(4), &mut out);
    session.line(started("later", false), at(4), &mut out);
    assert_eq!(out.lines.len(), 1, "{:?}", out.lines);

    // Where a call is open only the interrupt ends it; commands in the background outlive it.
    for (kind, busy) in [("local_agent", true), ("local_bash", false)] {
        let (mut session, mut out) = (with_agent(), Effects::default());
        session.line(tasks(kind), at(1), &mut out);
        if busy {
            session.line(says(None, "outer"), at(1), &mut out);
        }
        session.steer(steering(), Vec::new(), at(2), &mut out).unwrap();
        assert_eq!(written(&out), ["interrupt", "now"], "{kind}");
    }
}

#[test]
fn a_message_that_never_arrives_is_told() {
    let mut session = session(Setup::default());
    let mut out = Effects::default();
    session.begin(vec![json!({ "type": "text", "text": "one" })], &mut out);
    let steering = Steering { id: "m1".to_owned(), message: vec![Part::Text("two".to_owned())], timing: Timing::Now };
    session.steer(steering, Vec::new(), Duration::ZERO, &mut out).unwrap();
    let outcome = session.outcome(Some(ExitStatus::Signalled(9)), &mut out.events);
    assert!(matches!(outcome, Outcome::Failed(failure) if failure.code == "killed_by_signal"));
    let told =
        out.events.pending().events.iter().any(|event| matches!(event, Event::Notice(notice) if notice.code == "message_not_delivered"));
    assert!(told);
}

#[test]
fn too_many_tokens_end_the_run_politely() {
    let mut session = session(Setup { max_tokens: Some(100), ..Setup::default() });
    let mut out = Effects::default();
    let at = Duration::from_secs;
    let usage = |output: u64| {
        let event =
            json!({ "type": "message_delta", "usage": { "input_tokens": 10, "cache_read_input_tokens": 5_000, "output_tokens": output } });
        line(&json!({ "type": "stream_event", "event": event }))
    };
    session.line(usage(50), at(1), &mut out);
    assert!(out.lines.is_empty(), "60 of 100");
    session.line(usage(50), at(2), &mut out);
    assert!(out.lines[0].contains("interrupt"), "{:?}", out.lines);
    session.line(line(&json!({ "type": "result", "subtype": "success", "terminal_reason": "aborted_streaming" })), at(3), &mut out);
    assert!(out.lines[1].contains("end_session") && out.close);
    let outcome = session.outcome(Some(ExitStatus::Code(1)), &mut out.events);
    assert!(matches!(outcome, Outcome::Failed(failure) if failure.code == "max_tokens" && failure.message.contains("120")));
}

#[test]
fn a_long_run_keeps_nothing_that_is_over() {
    let mut session = session(Setup { asks: true, ..Setup::default() });
    let at = Duration::from_secs;
    let mut asked = 0;
    for n in 0..2_500 {
        let mut out = Effects::default();
        let id = format!("toolu_{n}");
        let parent = format!("toolu_task_{n}");
        let task = json!({ "type": "tool_use", "id": parent, "name": "Task", "input": {} });
        let bash = json!({ "type": "tool_use", "id": id, "name": "Bash", "input": { "command": "true" } });
        let lines = [
            json!({ "type": "assistant", "message": { "id": format!("m{n}"), "content": [task] } }),
            json!({ "type": "assistant", "parent_tool_use_id": parent, "message": { "id": format!("s{n}"), "content": [bash] } }),
            json!({ "type": "stream_event", "parent_tool_use_id": parent, "event": { "type": "message_start", "message": { "id": format!("x{n}") } } }),
            json!({ "type": "control_request", "request_id": format!("r{n}"), "request": { "subtype": "can_use_tool", "tool_name": "Bash", "input": {}, "tool_use_id": id } }),
            json!({ "type": "system", "subtype": "permission_denied", "tool_use_id": format!("never-{n}") }),
        ];
        for value in &lines {
            session.line(line(value), at(n), &mut out);
        }
        session.stderr(format!("line {n}"), &mut out);
        let steering = Steering { id: format!("msg-{n}"), message: Vec::new(), timing: Timing::AfterStep };
        session.steer(steering, Vec::new(), at(n), &mut out).unwrap();
        let steered: Value = serde_json::from_str(out.lines.last().unwrap()).unwrap();
        for event in out.events.pending().events {
            if let Event::Asked(question) = event {
                asked += 1;
                let gone = Answer::Dismissed(Withdrawal { question: question.id, reason: "x".to_owned() });
                session.answer(gone, at(n), &mut Effects::default()).unwrap();
            }
        }
        let result = |id: &str| json!({ "type": "user", "message": { "content": [{ "type": "tool_result", "tool_use_id": id, "content": "x", "is_error": true }] } });
        let mut out = Effects::default();
        // Every other call never gets its result.
        if n % 2 == 0 {
            session.line(line(&result(&id)), at(n), &mut out);
            session.line(line(&result(&parent)), at(n), &mut out);
        }
        session.line(line(&json!({ "type": "result", "subtype": "success", "user_message_uuids": [steered["uuid"]] })), at(n), &mut out);
    }
    assert_eq!(asked, 2_500);
    let (open, positions, questions, messages) = session.kept();
    assert!(open <= 2 && positions <= 2 && questions == 0 && messages == 0, "{:?}", session.kept());
}

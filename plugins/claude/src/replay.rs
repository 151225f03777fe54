//! Recorded streams of the real program (2.1.329), replayed: every type is known, every item closes, every outcome is right.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use falconer_backend::{Answer, ChangeKind, Effects, Event, ExitStatus, ItemStatus, JsonLine, Lost, Outcome, QuestionAnswer};
use serde_json::{Value, json};

use crate::session::{Session, Setup};

/// What a stream left behind.
#[derive(Debug)]
struct Replay {
    events: Vec<Event>,
    written: Vec<Value>,
    closed: bool,
    outcome: Outcome,
}

impl Replay {
    fn of(name: &str) -> Self {
        Self::read(&stream(name))
    }

    fn read(file: &Path) -> Self {
        Self::with(file, true)
    }

    /// `asks`: what the program asks becomes a question, which is answered as the recorded client did.
    fn with(file: &Path, asks: bool) -> Self {
        let mut session = session(Setup { asks, ..Setup::default() });
        let (mut events, mut written, mut closed, mut exit) = (Vec::new(), Vec::new(), false, None);
        let (mut asked, mut latest) = (Vec::new(), String::new());
        for row in fs::read_to_string(file).unwrap().lines() {
            let mut row: Value = serde_json::from_str(row).unwrap();
            let now = Duration::from_secs_f64(row["t"].as_f64().unwrap());
            let message = row["msg"].take();
            let mut out = Effects::default();
            match row["dir"].as_str().unwrap() {
                "out" => {
                    if message["type"] == "control_request" {
                        message["request_id"].as_str().unwrap().clone_into(&mut latest);
                    }
                    let line = JsonLine::parse(message.to_string().as_bytes()).unwrap();
                    session.line(line, now, &mut out);
                }
                "err" => session.stderr(message.as_str().map_or_else(|| message.to_string(), str::to_owned), &mut out),
                "in" if message["request"]["subtype"] == "interrupt" => session.cancel(now, &mut out),
                // What was sent after the session was told to end is not ours.
                "in" if message["type"] == "user" && closed => break,
                "in" if message["type"] == "user" => message["uuid"].as_str().into_iter().for_each(|uuid| session.sent(uuid)),
                "in" if message["type"] == "control_response" => answer(&mut session, &message, &asked, now, &mut out),
                "meta" => exit = message["exit"].as_i64().map(|code| i32::try_from(code).unwrap()).or(exit),
                _ => {}
            }
            session.tick(now, &mut out);
            closed |= out.close;
            written.extend(out.lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()));
            for event in out.events.pending().events {
                if let Event::Asked(question) = &event {
                    asked.push((latest.clone(), question.id.clone()));
                }
                events.push(event);
            }
        }
        let status = exit.map(|code| if code < 0 { ExitStatus::Signalled(-code) } else { ExitStatus::Code(code) });
        let mut last = Effects::default();
        let outcome = session.outcome(status, &mut last.events);
        events.extend(last.events.pending().events);
        Self { events, written, closed, outcome }
    }

    fn code(&self) -> &str {
        match &self.outcome {
            Outcome::Completed(_) => "completed",
            Outcome::Failed(failure) | Outcome::Rejected(failure) => &failure.code,
            Outcome::Stopped(_) => "stopped",
            Outcome::Lost(_) => "lost",
        }
    }

    fn text(&self) -> &str {
        match &self.outcome {
            Outcome::Completed(done) => done.text.as_deref().unwrap_or_default(),
            Outcome::Stopped(stopped) | Outcome::Lost(Lost { stopped, .. }) => stopped.partial.text.as_deref().unwrap_or_default(),
            Outcome::Failed(failure) | Outcome::Rejected(failure) => &failure.message,
        }
    }
}

/// A recorded stream.
fn stream(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams").join(format!("{name}.jsonl"))
}

/// A session as most tests want it.
fn session(setup: Setup) -> Session {
    let background_wait = if setup.background_wait.is_zero() { Duration::from_secs(600) } else { setup.background_wait };
    Session::new(Setup { run: "run_test".to_owned(), background_wait, ..setup })
}

/// Answers as the recorded client did.
fn answer(session: &mut Session, response: &Value, asked: &[(String, String)], now: Duration, out: &mut Effects) {
    let response = &response["response"];
    let Some((_, question)) = asked.iter().find(|(request, _)| response["request_id"] == **request) else { return };
    let said = &response["response"];
    let allowed = said["behavior"] == "allow";
    let choice = match (said["action"].as_str(), allowed, said["updatedPermissions"].is_array()) {
        (Some(action), _, _) => action,
        (None, true, true) => "allow_session",
        (None, true, false) => "allow",
        (None, false, _) => "deny",
    };
    let input = Some(&said["updatedInput"]).filter(|input| allowed && input.is_object());
    let data = input.map(|input| json!({ "input": input })).or_else(|| said.get("content").cloned());
    let chosen = QuestionAnswer {
        question: question.clone(),
        choices: vec![choice.to_owned()],
        text: said["message"].as_str().map(str::to_owned),
        data: data.map(|data| data.to_string()),
        reason: None,
    };
    session.answer(Answer::Chosen(chosen), now, out).unwrap();
}

/// What holds of every stream: ids are unique and closed once, output has no gap, nothing is over its limit.
fn check_events(name: &str, events: &[Event]) {
    let (mut open, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut offset = 0;
    for event in events {
        match event {
            Event::CommandStarted(start) => {
                assert!(seen.insert(&start.id), "{name}: {} twice", start.id);
                open.insert(&start.id);
                offset = 0;
            }
            Event::ToolStarted(start) => {
                assert!(seen.insert(&start.id), "{name}: {} twice", start.id);
                serde_json::from_str::<Value>(&start.input).unwrap();
                open.insert(&start.id);
            }
            Event::CommandOutput(chunk) => {
                assert!(open.contains(&chunk.id), "{name}");
                if chunk.offset > 0 {
                    assert_eq!(chunk.offset, offset, "{name}");
                }
                offset = chunk.offset + chunk.bytes.len() as u64;
            }
            Event::CommandFinished(end) => assert!(open.remove(&end.id), "{name}: {} was not open", end.id),
            Event::ToolFinished(end) => {
                assert!(open.remove(&end.id), "{name}: {} was not open", end.id);
                serde_json::from_str::<Value>(&end.output).unwrap();
            }
            Event::AgentMessage(message) | Event::Reasoning(message) | Event::MessageAdded(message) => {
                assert!(!message.id.is_empty() && message.id.len() <= 128, "{name}: {}", message.id);
            }
            Event::Native(native) => {
                serde_json::from_str::<Value>(&native.data).unwrap();
            }
            _ => {}
        }
    }
}

#[test]
fn every_stream_ends_as_it_should() {
    let expected = |name: &str| match name {
        // A turn that was cut short by nobody here: what steered it is not this version's.
        "ctl-deny-interrupt" | "endsession-new-bash" | "endsession-new-response" | "sig-bash-SIGINT" | "sig-response-SIGINT" => {
            "interrupted"
        }
        "ctl-pending-interrupt" | "sig-bash-control-interrupt" | "sig-response-control-interrupt" => "stopped",
        "bgstop-interrupt" | "interrupt-at-once" => "stopped",
        "err-400" => "bad_request",
        "err-401" | "ctl-pending-sigterm" | "sess-killed" => "no result",
        "err-maxbudget" => "budget_exceeded",
        "err-maxturns" => "max_turns",
        "err-nokey" => "auth_required",
        "err-resume-unknown" | "sess-resume-nopersist" => "session_not_found",
        "err-unreachable" => "api_unreachable",
        "feat-schema-bad" | "schema-wrong" => "output_invalid",
        "feat-schema-invalid-schema" => "invalid_argument",
        "sess-dup-session-id" => "session_in_use",
        name if name.starts_with("sig-") => "no result",
        _ => "completed",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams");
    let mut count = 0;
    let mut wrong = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let replay = Replay::read(&file);
        check_events(&name, &replay.events);
        let (code, expected) = (replay.code(), expected(&name));
        let fits = match expected {
            "no result" => ["killed_by_signal", "agent_exited"].contains(&code),
            _ => code == expected,
        };
        if !fits {
            wrong.push(format!("{name}: {code} ({}), not {expected}", replay.text()));
        }
        count += 1;
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(count >= 94, "{count} streams");
}

#[test]
fn output_that_is_kept_back_is_told() {
    let replay = Replay::of("feat-bash-bigout");
    let told = replay.events.iter().find_map(|event| match event {
        Event::Notice(notice) if notice.code == "output_truncated" => Some(&notice.message),
        _ => None,
    });
    assert!(told.is_some_and(|text| text.contains("all 1288895 bytes") && text.contains(".txt")), "{told:?}");
}

#[test]
fn a_command_with_its_output() {
    let replay = Replay::of("feat-bash-fail");
    let mut story = Vec::new();
    for event in &replay.events {
        match event {
            Event::SessionStarted(_) => story.push("session".to_owned()),
            Event::AgentMessage(message) => story.push(format!("says {:?}", message.text)),
            Event::CommandStarted(start) => story.push(format!("runs {:?}", start.command)),
            Event::CommandOutput(chunk) => story.push(format!("{:?} {:?}", chunk.kind, String::from_utf8_lossy(&chunk.bytes))),
            Event::CommandFinished(end) => story.push(format!("{:?} {:?}", end.status, end.exit_code)),
            Event::Usage(usage) => story.push(format!("{} turns", usage.turns)),
            Event::Native(native) => story.push(native.kind.clone()),
            other => story.push(format!("{other:?}")),
        }
    }
    let expected = [
        "session",
        "init",
        "says \"Running a command.\"",
        "runs \"echo out; echo err >&2; exit 3\"",
        "OutputKind::Stdout \"out\\nerr\"",
        "ItemStatus::Failed Some(3)",
        "says \"Command said: Exit code 3\\nout\\nerr\"",
        "2 turns",
    ];
    assert_eq!(story, expected);
}

#[test]
fn changed_files_have_diffs() {
    let replay = Replay::of("feat-edit");
    let changes: Vec<_> =
        replay.events.iter().filter_map(|event| if let Event::FileChanged(change) = event { Some(change) } else { None }).collect();
    assert_eq!(changes.len(), 2);
    assert_eq!((changes[0].kind, changes[1].kind), (ChangeKind::Modified, ChangeKind::Created));
    assert!(changes[0].diff.as_deref().unwrap().ends_with("@@ -1,3 +1,3 @@\n a\n-b\n+B2\n c\n"));
    assert!(changes[1].diff.as_deref().unwrap().ends_with("@@ -0,0 +1,1 @@\n+new\n"));
    assert_eq!(replay.text(), "ok");
}

#[test]
fn pieces_and_the_whole_have_one_id() {
    let replay = Replay::of("feat-think-partial");
    let (mut thought, mut said) = (Vec::new(), Vec::new());
    for event in &replay.events {
        match event {
            Event::Reasoning(piece) => thought.push((piece.id.clone(), piece.whole, piece.text.clone())),
            Event::AgentMessage(piece) => said.push((piece.id.clone(), piece.whole, piece.text.clone())),
            _ => {}
        }
    }
    for (pieces, whole) in [(thought, "Let me think about this."), (said, "I thought about it.")] {
        let joined: String = pieces.iter().filter(|piece| !piece.1).map(|piece| piece.2.as_str()).collect();
        assert_eq!(joined, whole);
        assert_eq!(pieces.last().unwrap().2, whole);
        assert!(pieces.iter().all(|piece| piece.0 == pieces[0].0));
        assert_eq!(pieces.iter().filter(|piece| piece.1).count(), 1);
    }
    let live = replay.events.iter().filter(|event| matches!(event, Event::Usage(_))).count();
    assert_eq!(live, 2);
}

#[test]
fn the_answer_waits_for_what_runs_in_the_background() {
    for (name, answer) in [("feat-state-bash", "notified"), ("feat-state-task", "script finished")] {
        let replay = Replay::of(name);
        assert!(replay.closed, "{name}");
        assert_eq!(replay.text(), answer);
        let last = replay.events.iter().rev().find(|event| matches!(event, Event::CommandFinished(_) | Event::ToolFinished(_)));
        assert!(last.is_some(), "{name}");
    }
    let replay = Replay::of("feat-state-bash");
    let end = replay.events.iter().find_map(|event| if let Event::CommandFinished(end) = event { Some(end) } else { None }).unwrap();
    assert_eq!((end.status, end.exit_code), (ItemStatus::Succeeded, Some(0)));
}

#[test]
fn an_interrupt_is_followed_by_the_end_of_the_session() {
    let replay = Replay::of("sig-response-control-interrupt");
    let subtypes: Vec<_> = replay.written.iter().map(|line| line["request"]["subtype"].as_str().unwrap()).collect();
    assert_eq!(subtypes, ["interrupt", "end_session"]);
    assert_eq!(replay.text(), "Starting a long answer (hanging)");
    assert!(replay.closed);
}

#[test]
fn what_needs_a_permission_is_refused_at_once_where_nobody_is_asked() {
    let replay = Replay::with(&stream("feat-state-ask"), false);
    let answer = &replay.written[0]["response"]["response"];
    assert_eq!(answer["behavior"], "deny");
    assert!(answer["message"].as_str().unwrap().contains("obody can be asked"));
    let declined = replay.events.iter().any(|event| matches!(event, Event::CommandFinished(end) if end.status == ItemStatus::Declined));
    assert!(declined);
    assert!(replay.events.iter().any(|event| matches!(event, Event::Notice(notice) if notice.code == "permission_denied")));
    assert!(!replay.events.iter().any(|event| matches!(event, Event::Asked(_))));
}

#[test]
fn retries_are_told_and_a_recovery_is_a_success() {
    for name in ["err-429-once", "err-529-once"] {
        let replay = Replay::of(name);
        assert_eq!(replay.code(), "completed");
        assert!(replay.events.iter().any(|event| matches!(event, Event::Notice(notice) if notice.code == "api_retry")), "{name}");
    }
}

#[test]
fn what_the_agent_asks_is_asked_and_answered() {
    let replay = Replay::of("ask-allow-session");
    let question = replay.events.iter().find_map(|event| if let Event::Asked(question) = event { Some(question) } else { None }).unwrap();
    assert_eq!(question.choices.iter().map(|choice| choice.id.as_str()).collect::<Vec<_>>(), ["allow", "allow_session", "deny"]);
    let answer = &replay.written[0]["response"]["response"];
    assert_eq!(answer["behavior"], "allow");
    let permissions = answer["updatedPermissions"].as_array().unwrap();
    assert!(permissions.iter().all(|one| one["destination"] == "session" && one["type"] != "setMode"), "{permissions:?}");

    for (name, action) in [("ask-elicit-form", "accept"), ("ask-elicit-url", "accept")] {
        let replay = Replay::of(name);
        assert_eq!(replay.written[0]["response"]["response"]["action"], action, "{name}");
        assert_eq!(replay.code(), "completed");
    }
}

#[test]
fn a_message_that_cuts_a_turn_leaves_one_answer() {
    for (name, how) in [("steer-text-now", None), ("steer-tool-now", Some(ItemStatus::Interrupted)), ("steer-question-now", None)] {
        let replay = Replay::of(name);
        assert_eq!((replay.code(), replay.text()), ("completed", "steered"), "{name}");
        let withdrawn = replay.events.iter().filter(|event| matches!(event, Event::Withdrawn(_))).count();
        assert_eq!(withdrawn, usize::from(name == "steer-question-now"), "{name}");
        let ends: Vec<_> = replay
            .events
            .iter()
            .filter_map(|event| if let Event::CommandFinished(end) = event { Some(end.status) } else { None })
            .collect();
        if let Some(how) = how {
            // Nobody told this session that it cuts; the program's own words are a failure then.
            assert!(ends.len() == 1 && [how, ItemStatus::Failed].contains(&ends[0]), "{name}: {ends:?}");
        }
    }
    // Two results, or one that answers both: the run ends after the last.
    for name in ["steer-text-next", "steer-tool-next", "steer-question-next"] {
        let replay = Replay::of(name);
        assert_eq!((replay.code(), replay.text()), ("completed", "steered"), "{name}");
        assert!(replay.closed, "{name}");
    }
}

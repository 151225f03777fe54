//! Recorded streams of the real program (0.169.0), replayed: every type is known and in the table of `docs/codex.md`, every item
//! closes, every outcome is right.

mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use falconer_backend::{ChangeKind, Effects, Event, ExitStatus, Job, JsonLine, Limits, Lost, Outcome, Part, Question, Steering, Timing};
use serde_json::{Value, json};

use crate::config::Config;
use crate::incoming::{Incoming, Note};
use crate::input;
use crate::mcp::Servers;
use crate::order::Order;
use crate::session::Session;

const TABLE: &str = include_str!("../../../../docs/codex.md");

/// A session, and what it did.
struct Replay {
    session: Session,
    events: Vec<Event>,
    written: Vec<Value>,
    closed: bool,
    /// Requests of the session that have no answer yet, by method.
    open: BTreeMap<String, Vec<u64>>,
    /// Commands that run, as the stream says.
    running: BTreeSet<String>,
}

fn order(config: Value) -> Order {
    let job = Job {
        run_id: "run_a".to_owned(),
        life: 1,
        message: vec![Part::Text("go".to_owned())],
        instructions: None,
        cwd: Some("/w".to_owned()),
        session: None,
        target: None,
        output_schema: None,
        config: config.to_string(),
        limits: Limits { wall_ms: None, idle_ms: None, ask_ms: 1, output_bytes: 1 },
        checkpoint: None,
        only_end: false,
    };
    let config: Config = job.config().unwrap();
    let servers = Servers::of(&config).unwrap();
    Order::of(&job, &config, servers, input::of(&job.message).unwrap(), None).unwrap()
}

impl Replay {
    /// A session that was just begun.
    fn begun(config: Value) -> Self {
        let mut out = Effects::default();
        let session = Session::new(order(config), &mut out);
        let mut replay =
            Self { session, events: Vec::new(), written: Vec::new(), closed: false, open: BTreeMap::new(), running: BTreeSet::new() };
        replay.take(out, Duration::ZERO);
        replay
    }

    /// One whose turn runs.
    fn working(config: Value) -> Self {
        let mut replay = Self::begun(config);
        replay.answer("thread/start", &json!({"thread": {"id": "main"}, "model": "m"}));
        replay.answer("turn/start", &json!({"turn": {"id": "t1"}}));
        replay.tell("turn/started", json!({"threadId": "main", "turn": {"id": "t1"}}));
        replay
    }

    fn of(name: &str) -> (Self, Outcome) {
        Self::read(&folder().join(format!("{name}.jsonl")))
    }

    fn read(file: &Path) -> (Self, Outcome) {
        let mut replay = Self::begun(json!({}));
        let (mut exit, mut asked) = (None, BTreeMap::<u64, String>::new());
        for row in fs::read_to_string(file).unwrap().lines() {
            let mut row: Value = serde_json::from_str(row).unwrap();
            let now = Duration::from_secs_f64(row["t"].as_f64().unwrap());
            let message = row["msg"].take();
            match row["dir"].as_str().unwrap() {
                "in" => {
                    let method = message["method"].as_str().unwrap_or_default();
                    // What was asked of a program that we had closed is not ours.
                    if replay.closed && method == "turn/start" {
                        break;
                    }
                    if let Some(id) = message["id"].as_u64() {
                        asked.insert(id, method.to_owned());
                    }
                    match method {
                        "turn/interrupt" => replay.act(now, |session, out| session.cancel(now, out)),
                        "turn/steer" => {
                            let text = message["params"]["input"][0]["text"].as_str().unwrap().to_owned();
                            let steering = Steering { id: "msg_1".to_owned(), message: vec![Part::Text(text)], timing: Timing::AfterStep };
                            replay.act(now, |session, out| session.steer(&steering, now, out).unwrap());
                        }
                        _ => {}
                    }
                }
                "out" => {
                    check_known(&message);
                    if message["method"].is_null() {
                        let method = message["id"].as_u64().and_then(|id| asked.get(&id)).cloned().unwrap_or_default();
                        replay.answered(&method, message, now);
                    } else {
                        replay.follow(&message);
                        replay.line(message, now);
                    }
                }
                "err" => {
                    let text = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
                    replay.act(now, |session, out| session.stderr(&text, out));
                }
                "meta" => exit = message["exit"].as_i64().map(|code| i32::try_from(code).unwrap()).or(exit),
                _ => {}
            }
        }
        let status = exit.map(|code| if code < 0 { ExitStatus::Signalled(-code) } else { ExitStatus::Code(code) });
        let outcome = replay.session.outcome(status);
        (replay, outcome)
    }

    /// Which commands run, for the answers that the stream does not have.
    fn follow(&mut self, message: &Value) {
        let item = &message["params"]["item"];
        let id = item["id"].to_string();
        match message["method"].as_str() {
            Some("item/started") if item["type"] == "commandExecution" => _ = self.running.insert(id),
            Some("item/completed") => _ = self.running.remove(&id),
            _ => {}
        }
    }

    fn act(&mut self, now: Duration, act: impl FnOnce(&mut Session, &mut Effects)) {
        let mut out = Effects::default();
        act(&mut self.session, &mut out);
        self.session.tick(now, &mut out);
        self.take(out, now);
    }

    fn line(&mut self, message: Value, now: Duration) {
        let line = JsonLine::parse(message.to_string().as_bytes()).unwrap();
        self.act(now, |session, out| session.line(line, now, out));
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.line(json!({ "method": method, "params": params }), Duration::ZERO);
    }

    fn answer(&mut self, method: &str, result: &Value) {
        self.answered(method, json!({ "result": result }), Duration::ZERO);
    }

    /// An answer of the stream, to the session's own request of that method.
    fn answered(&mut self, method: &str, mut message: Value, now: Duration) {
        if let Some(id) = self.open.get_mut(method).and_then(|ids| (!ids.is_empty()).then(|| ids.remove(0))) {
            message["id"] = json!(id);
            self.line(message, now);
        }
    }

    fn take(&mut self, out: Effects, now: Duration) {
        self.closed |= out.close;
        self.events.extend(out.events.pending().events);
        let mut own = Vec::new();
        for line in &out.lines {
            let value: Value = serde_json::from_str(line).unwrap();
            if let (Some(id), Some(method)) = (value["id"].as_u64(), value["method"].as_str()) {
                self.open.entry(method.to_owned()).or_default().push(id);
                own.push(method.to_owned());
            }
            self.written.push(value);
        }
        // What these streams were made without.
        for method in own {
            let result = match method.as_str() {
                "config/read" => json!({ "config": { "mcp_servers": { "mine": {} } } }),
                "account/read" => json!({ "account": null, "requiresOpenaiAuth": false }),
                "thread/backgroundTerminals/list" => json!({ "data": self.running }),
                "thread/backgroundTerminals/clean" => json!({}),
                _ => continue,
            };
            self.answered(&method, json!({ "result": result }), now);
        }
    }

    fn methods(&self) -> Vec<&str> {
        self.written.iter().filter_map(|line| line["method"].as_str()).collect()
    }

    fn questions(&self) -> Vec<&Question> {
        self.events.iter().filter_map(|event| if let Event::Asked(question) = event { Some(question) } else { None }).collect()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams")
}

fn in_table(name: &str) -> bool {
    TABLE.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{name}`")))
}

/// The method, and the item's type, are known and in the table.
fn check_known(message: &Value) {
    let Some(method) = message["method"].as_str() else { return };
    assert!(in_table(method), "{method} is not in docs/codex.md");
    if let Some(kind) = message["params"]["item"]["type"].as_str() {
        assert!(in_table(kind), "{kind} is not in docs/codex.md");
    }
    if let Incoming::Told(Note::Unknown(_)) = Incoming::read(message.clone()) {
        panic!("{message}");
    }
}

fn code(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Completed(_) => "completed",
        Outcome::Failed(failure) | Outcome::Rejected(failure) => &failure.code,
        Outcome::Stopped(_) => "stopped",
        Outcome::Lost(_) => "lost",
    }
}

fn text(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Completed(done) => done.text.as_deref().unwrap_or_default(),
        Outcome::Stopped(stopped) | Outcome::Lost(Lost { stopped, .. }) => stopped.partial.text.as_deref().unwrap_or_default(),
        Outcome::Failed(failure) | Outcome::Rejected(failure) => &failure.message,
    }
}

/// What holds of every stream: ids are unique and closed once, output has no gap, nothing is over its limit.
fn check_events(name: &str, events: &[Event]) {
    let (mut open, mut seen, mut questions) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for event in events {
        match event {
            Event::CommandStarted(start) => {
                assert!(seen.insert(&start.id), "{name}: {} twice", start.id);
                open.insert(&start.id, 0);
            }
            Event::ToolStarted(start) => {
                assert!(seen.insert(&start.id), "{name}: {} twice", start.id);
                serde_json::from_str::<Value>(&start.input).unwrap();
                open.insert(&start.id, 0);
            }
            Event::CommandOutput(chunk) => {
                let offset = open.get_mut(&chunk.id).unwrap();
                assert_eq!(chunk.offset, *offset, "{name}");
                *offset += chunk.bytes.len() as u64;
            }
            Event::CommandFinished(end) => assert!(open.remove(&end.id).is_some(), "{name}: {} was not open", end.id),
            Event::ToolFinished(end) => {
                assert!(open.remove(&end.id).is_some(), "{name}: {} was not open", end.id);
                serde_json::from_str::<Value>(&end.output).unwrap();
            }
            Event::AgentMessage(message) | Event::Reasoning(message) | Event::MessageAdded(message) => {
                assert!(!message.id.is_empty() && message.id.len() <= 128, "{name}: {}", message.id);
            }
            Event::Asked(question) => {
                assert!(questions.insert(&question.id), "{name}: {} twice", question.id);
                serde_json::from_str::<Value>(&question.details).unwrap();
            }
            Event::Withdrawn(withdrawn) => assert!(questions.contains(&withdrawn.question), "{name}"),
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
        "err-401" => "auth_failed",
        "err-badrequest" => "bad_request",
        "err-overloaded" => "overloaded",
        "err-ratelimit" => "rate_limited",
        "err-drop" => "api_error",
        // These were interrupted, too.
        "bgterm-archive" | "bgterm-clean" | "bgterm-sandboxed-clean" | "bgterm-terminate" | "bgterm-unsubscribe" => "stopped",
        "mcp-interrupt" | "sig-bash-interrupt" | "sig-bash-sandboxed-interrupt" | "sig-response-interrupt" => "stopped",
        "mcp-sigkill" | "mcp-sigterm" | "resume3" => "no turn",
        name if name.starts_with("sig-") => "no turn",
        _ => "completed",
    };
    let (mut count, mut wrong) = (0, Vec::new());
    for file in fs::read_dir(folder()).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let (replay, outcome) = Replay::read(&file);
        check_events(&name, &replay.events);
        let (code, expected) = (code(&outcome), expected(&name));
        let fits = match expected {
            "no turn" => ["killed_by_signal", "agent_exited"].contains(&code),
            _ => code == expected,
        };
        if !fits {
            wrong.push(format!("{name}: {code} ({}), not {expected}", text(&outcome)));
        }
        count += 1;
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(count >= 40, "{count} streams");
}

#[test]
fn every_row_of_the_table_is_known() {
    let mut seen = 0;
    for line in TABLE.lines().filter(|line| line.starts_with("| `")) {
        let name = line.split('`').nth(1).unwrap();
        // Items have no slash and an item's table of their own; `error` and `warning` are methods.
        if name.contains('/') || ["error", "warning", "configWarning", "deprecationNotice", "guardianWarning"].contains(&name) {
            let read = Incoming::read(json!({ "method": name, "params": {} }));
            let is_request = line.contains("question") || line.contains("-32601");
            assert!(is_request || !matches!(read, Incoming::Told(Note::Unknown(_))), "{name} is in the table and unknown");
            seen += 1;
        }
    }
    assert!(seen > 80, "{seen}");
}

#[test]
fn a_command_with_its_output() {
    let (replay, outcome) = Replay::of("long-cmd");
    let output: Vec<u8> = replay
        .events
        .iter()
        .filter_map(|event| if let Event::CommandOutput(chunk) = event { Some(chunk.bytes.as_slice()) } else { None })
        .flatten()
        .copied()
        .collect();
    assert!(!output.is_empty());
    assert_eq!(code(&outcome), "completed");
    assert_eq!(replay.methods()[..6], ["initialize", "initialized", "config/read", "account/read", "thread/start", "turn/start"]);
    let opened = replay.written.iter().find(|line| line["method"] == "thread/start").unwrap();
    assert_eq!(opened["params"]["config"]["mcp_servers"], json!({ "mine": { "enabled": false } }));
}

#[test]
fn a_change_of_files_is_judged_whole() {
    let (replay, _) = Replay::of("patch");
    let questions = replay.questions();
    let change = questions.iter().find(|question| question.prompt.contains("change files")).unwrap();
    assert!(change.details.contains(r#""diff":"hello\n""#), "{}", change.details);
    assert_eq!(change.default_choice.as_deref(), Some("deny"));
    let changed = replay.events.iter().find_map(|event| if let Event::FileChanged(change) = event { Some(change) } else { None }).unwrap();
    assert_eq!(changed.kind, ChangeKind::Created);
    assert!(changed.diff.as_deref().unwrap().ends_with("@@ -0,0 +1,1 @@\n+hello\n"));
}

#[test]
fn questions_that_were_not_answered_are_withdrawn() {
    for name in ["userinput-plan", "mcp-elicit", "mcp-approval-accept"] {
        let (replay, _) = Replay::of(name);
        let withdrawn = replay.events.iter().filter(|event| matches!(event, Event::Withdrawn(_))).count();
        assert_eq!((replay.questions().len() - withdrawn, replay.questions().is_empty()), (0, false), "{name}");
    }
}

#[test]
fn an_interrupt_is_followed_by_the_end_of_commands_and_program() {
    let (replay, outcome) = Replay::of("sig-bash-interrupt");
    let methods = replay.methods();
    assert_eq!(methods[methods.len() - 2..], ["turn/interrupt", "thread/backgroundTerminals/clean"]);
    assert!(replay.closed);
    assert_eq!(code(&outcome), "stopped");
}

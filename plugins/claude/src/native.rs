//! The table of native events in `docs/claude.md`, held against recorded streams and against the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use falconer_backend::{Effects, Event, JsonLine};
use serde_json::{Value, json};

use crate::session::{Session, Setup};

const DOCUMENT: &str = include_str!("../../../docs/claude.md");
/// What an event of the program may become.
const WORDS: [&str; 20] = [
    "session_started",
    "agent_message",
    "message_added",
    "reasoning",
    "command_started",
    "command_output",
    "command_finished",
    "tool_started",
    "tool_finished",
    "file_changed",
    "todo_updated",
    "usage",
    "notice",
    "input_required",
    "input_resolved",
    "native",
    "state",
    "outcome",
    "answer",
    "ignored",
];

/// The rows: what each native event becomes.
fn table() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let (_, rest) = DOCUMENT.split_once("<!-- native events: begin -->").unwrap();
    let (rows, _) = rest.split_once("<!-- native events: end -->").unwrap();
    let mut table = BTreeMap::new();
    for row in rows.lines().filter(|row| row.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let words: BTreeSet<&str> = cells[2].split(',').map(|word| word.trim().trim_matches('`')).collect();
        assert!(!words.is_empty() && words.iter().all(|word| WORDS.contains(word)), "an unknown word: {row}");
        let twice = table.insert(cells[1].trim_matches('`'), words);
        assert!(twice.is_none(), "twice: {row}");
    }
    table
}

/// What the table calls a line: by type and subtype; of messages, one for each block.
fn names(line: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let kind = text(&line["type"]);
    let below = match kind.as_str() {
        "system" | "result" => vec![text(&line["subtype"])],
        "control_request" => vec![text(&line["request"]["subtype"])],
        "control_response" => vec![text(&line["response"]["subtype"])],
        "command_lifecycle" => vec![text(&line["state"])],
        "assistant" | "user" => match &line["message"]["content"] {
            Value::Array(blocks) => blocks.iter().map(|block| text(&block["type"])).collect(),
            _ => vec!["text".to_owned()],
        },
        "stream_event" => {
            let event = &line["event"];
            let part = match event["type"].as_str() {
                Some("content_block_start") => format!("/{}", text(&event["content_block"]["type"])),
                Some("content_block_delta") => format!("/{}", text(&event["delta"]["type"])),
                _ => String::new(),
            };
            vec![format!("{}{part}", text(&event["type"]))]
        }
        _ => return vec![kind],
    };
    below.into_iter().map(|below| format!("{kind}/{below}")).collect()
}

/// What the table calls an event of the run.
fn word(event: &Event) -> &'static str {
    match event {
        Event::SessionStarted(_) => "session_started",
        Event::AgentMessage(_) => "agent_message",
        Event::MessageAdded(_) => "message_added",
        Event::Reasoning(_) => "reasoning",
        Event::CommandStarted(_) => "command_started",
        Event::CommandOutput(_) => "command_output",
        Event::CommandFinished(_) => "command_finished",
        Event::ToolStarted(_) => "tool_started",
        Event::ToolFinished(_) => "tool_finished",
        Event::FileChanged(_) => "file_changed",
        Event::TodoUpdated(_) => "todo_updated",
        Event::ArtifactAdded(_) => "artifact_added",
        Event::Usage(_) => "usage",
        Event::Notice(_) => "notice",
        Event::Asked(_) => "input_required",
        Event::Withdrawn(_) => "input_resolved",
        Event::Native(_) => "native",
    }
}

#[test]
fn every_recorded_event_is_in_the_table_and_becomes_what_it_says() {
    let table = table();
    let mut wrong = BTreeSet::new();
    let mut met = BTreeSet::new();
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams")).unwrap() {
        let mut session = Session::new(Setup { asks: true, background_wait: Duration::from_secs(600), ..Setup::default() });
        for row in fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            let mut row: Value = serde_json::from_str(row).unwrap();
            if row["dir"] != "out" {
                continue;
            }
            let line = row["msg"].take();
            let names = names(&line);
            let mut said: BTreeSet<&str> = BTreeSet::new();
            for name in &names {
                match table.get(name.as_str()) {
                    Some(words) => said.extend(words),
                    None => _ = wrong.insert(format!("{name} is not in the table")),
                }
                met.insert(name.clone());
            }
            let mut out = Effects::default();
            session.line(JsonLine::parse(line.to_string().as_bytes()).unwrap(), Duration::from_secs(1), &mut out);
            for event in out.events.pending().events {
                // What a turn leaves open is closed with its result.
                let closes = matches!(event, Event::CommandFinished(_) | Event::ToolFinished(_)) && said.contains("outcome");
                if !said.contains(word(&event)) && !closes {
                    wrong.insert(format!("{names:?} becomes {}", word(&event)));
                }
            }
        }
    }
    assert_eq!(wrong, BTreeSet::new());
    assert!(met.len() > 40, "{met:?}");
}

#[test]
fn a_request_that_is_not_known_is_answered_and_what_is_ignored_says_nothing() {
    let mut session = Session::new(Setup { asks: true, ..Setup::default() });
    let mut say = |line: &Value| {
        let mut out = Effects::default();
        session.line(JsonLine::parse(line.to_string().as_bytes()).unwrap(), Duration::ZERO, &mut out);
        (out.events.len(), out.lines)
    };
    for (name, words) in table() {
        let (kind, subtype) = name.split_once('/').unwrap_or((name, ""));
        if kind == "control_request" && words.len() == 1 {
            let (events, lines) = say(&json!({ "type": kind, "request_id": "r", "request": { "subtype": subtype } }));
            assert_eq!((events, lines.len()), (0, 1), "{name}");
            assert!(lines[0].contains("\"error\""), "{name}");
        } else if words.len() == 1 && words.contains("ignored") && kind != "user" && kind != "assistant" {
            assert_eq!(say(&json!({ "type": kind, "subtype": subtype, "content": "x" })), (0, vec![]), "{name}");
        }
    }
}

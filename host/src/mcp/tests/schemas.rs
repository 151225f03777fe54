//! The table of tools as clients see it.

use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::Millis;
use crate::fault::Fault;
use crate::id::{GroupId, RunId, SessionId};
use crate::mcp::server::INSTRUCTIONS;
use crate::mcp::tool::MAX_DESCRIPTION;
use crate::mcp::tools::table;
use crate::run::event::{Choice, Event, EventType, Question, QuestionKind};
use crate::run::receipt::{Cause, ComponentEnd, FarEnd, ProcessSeen, Proof, Receipt, Rung, Step};
use crate::run::request::{Message, SpawnRequest};
use crate::run::status::{Completion, Status};
use crate::run::view::{Cancelled, EventPage, Member, RunView, Spawned, Stopped, WaitPage, Waited};

#[test]
fn the_instructions_are_shorter_than_what_clients_cut() {
    assert!(INSTRUCTIONS.chars().count() <= 2_048, "{}", INSTRUCTIONS.chars().count());
}

#[test]
fn the_tools_are_these_and_sorted() {
    let names: Vec<&str> = table().rows().map(|row| row.tool.name.as_ref()).collect();
    let expected = [
        "cancel_run",
        "continue_run",
        "fetch_agent_messages",
        "get_event_artifact",
        "get_run",
        "list_agents",
        "list_backends",
        "list_runs",
        "list_targets",
        "plan_run",
        "poll_events",
        "send_agent_message",
        "spawn_run",
        "wait_runs",
    ];
    assert_eq!(names, expected);
    assert!(names.iter().all(|name| table().get(name).is_some()));
    assert!(table().get("unknown").is_none());
}

#[test]
fn every_tool_says_what_it_is() {
    for row in table().rows() {
        let tool = &row.tool;
        let description = tool.description.as_ref().unwrap();
        let length = description.chars().count();
        assert!((100..=MAX_DESCRIPTION).contains(&length), "{}: {length} characters", tool.name);
        assert!(!description.contains("  "), "{}", tool.name);
        assert!(tool.title.is_some());
        let hints = tool.annotations.as_ref().unwrap();
        assert!(hints.read_only_hint.is_some() && hints.destructive_hint.is_some());
        assert!(hints.idempotent_hint.is_some() && hints.open_world_hint.is_some());
    }
    let main: Vec<&str> = table().rows().filter(|row| row.tool.meta.is_some()).map(|row| row.tool.name.as_ref()).collect();
    assert_eq!(main, ["cancel_run", "get_run", "poll_events", "spawn_run", "wait_runs"]);
}

/// Every schema inside a schema, with its place.
fn walk(at: &str, schema: &Value, seen: &mut dyn FnMut(&str, &Value)) {
    seen(at, schema);
    for (name, of) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{at}.{name}"), of, seen);
    }
    for part in ["items", "additionalProperties"] {
        if schema[part].is_object() {
            walk(&format!("{at}[]"), &schema[part], seen);
        }
    }
}

#[test]
fn every_schema_is_flat_and_described() {
    for row in table().rows() {
        let input = Value::Object(row.tool.input_schema.as_ref().clone());
        let output = Value::Object(row.tool.output_schema.as_ref().unwrap().as_ref().clone());
        assert_eq!(input["additionalProperties"], false, "{}", row.tool.name);
        for (side, schema) in [("in", &input), ("out", &output)] {
            let name = format!("{} {side}", row.tool.name);
            assert_eq!(schema["type"], "object", "{name}");
            walk(&name, schema, &mut |at, schema| {
                for word in ["anyOf", "oneOf", "allOf", "$ref", "$defs", "format", "const", "title", "$schema"] {
                    assert!(schema.get(word).is_none(), "{at}: {word}");
                }
                assert!(schema.is_object(), "{at} is {schema}");
                for (property, of) in schema["properties"].as_object().into_iter().flatten() {
                    assert!(of["description"].is_string(), "{at}.{property} has no description");
                    assert!(property.len() <= 64, "{at}.{property}");
                }
            });
        }
    }
}

#[test]
fn every_schema_is_valid() {
    for row in table().rows() {
        for schema in [&row.tool.input_schema, row.tool.output_schema.as_ref().unwrap()] {
            let schema = Value::Object(schema.as_ref().clone());
            jsonschema::draft202012::meta::validate(&schema).unwrap();
            jsonschema::validator_for(&schema).unwrap();
        }
    }
}

#[test]
fn the_list_is_small_enough_for_a_prompt() {
    let inputs: usize = table().rows().map(|row| serde_json::to_string(&row.tool.input_schema).unwrap().len()).sum();
    let outputs: usize = table().rows().map(|row| serde_json::to_string(&row.tool.output_schema).unwrap().len()).sum();
    assert!(inputs < 18_000 && outputs < 42_000, "{inputs} {outputs}");
}

fn question() -> Question {
    Question {
        question_id: "q1".to_owned(),
        kind: QuestionKind::Approval,
        prompt: "May I?".to_owned(),
        choices: vec![Choice { id: "yes".to_owned(), label: "Yes".to_owned(), description: None }],
        multiple: false,
        details: json!({ "command": "rm" }),
        details_hash: "ab".to_owned(),
        form: Some(json!(true)),
        default_choice: None,
        expires_at: Millis(0),
        seq: 4,
    }
}

fn receipt(proof: Option<Proof>) -> Receipt {
    let mut receipt = Receipt::begun("test", Cause::Requested, Some("enough".to_owned()));
    receipt.rungs = vec![Step { rung: Rung::Ask, after_ms: 0 }, Step { rung: Rung::Prove, after_ms: 9 }];
    receipt.component = Some(ComponentEnd::Returned);
    receipt.killed = vec![ProcessSeen { pid: 1, name: "sh".to_owned() }];
    receipt.proof = proof;
    receipt.far_end = Some(FarEnd { state: "unknown".to_owned(), detail: None });
    receipt
}

/// What `get_run` answers at its fullest, or at its barest.
fn view(full: bool) -> RunView {
    let text = || full.then(|| "text".to_owned());
    let completion = Completion { text: text(), structured: full.then(|| json!([1, "two", null])) };
    RunView {
        run_id: RunId::random(),
        session_id: SessionId::random(),
        backend: "exec".to_owned(),
        backend_digest: "ab".to_owned(),
        name: text(),
        status: Status::Failed,
        role: text(),
        cwd: text(),
        target: text(),
        parent_run_id: full.then(RunId::random),
        group_id: None,
        created_at: Millis(0),
        started_at: full.then_some(Millis(1)),
        ended_at: None,
        last_seq: 5,
        summary: text(),
        metadata: full.then(|| [("a".to_owned(), json!(null))].into_iter().collect()),
        request: SpawnRequest { message: full.then(|| Message::text("hello")), ..SpawnRequest::default() },
        result: full.then_some(completion),
        error: full.then(|| Fault::new("c", "m").hint("h")),
        limits: full.then(|| json!({ "wall_s": 60, "wall_by": "target `web-1`" })),
        usage: full.then(|| json!({ "turns": 1 })),
        question: full.then(question),
        questions: full.then(question).into_iter().collect(),
        open_questions: 1,
        receipt: full.then(|| receipt(Some(Proof::Empty { by: vec!["walk".to_owned()] }))),
        durable: true,
    }
}

fn fits<T: Serialize>(tool: &str, answer: &T) {
    let schema = Value::Object(table().get(tool).unwrap().tool.output_schema.as_ref().unwrap().as_ref().clone());
    let answer = serde_json::to_value(answer).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&answer).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    assert!(errors.is_empty(), "{tool}: {errors:?}");
}

#[test]
fn answers_fit_the_schemas_that_clients_check_them_with() {
    for full in [false, true] {
        let view = view(full);
        fits("get_run", &view);
        let member = Member {
            run_id: view.run_id,
            target: view.target.clone(),
            status: view.status,
            result: view.result.clone(),
            error: view.error.clone(),
        };
        let spawned = Spawned {
            run_id: full.then_some(view.run_id),
            session_id: full.then_some(view.session_id),
            status: full.then_some(view.status),
            group_id: (!full).then(GroupId::random),
            run_ids: vec![view.run_id],
            runs: vec![member],
            repeated: full,
            result: view.result.clone(),
            error: view.error.clone(),
        };
        fits("spawn_run", &spawned);
        let waited = Waited {
            run_id: view.run_id,
            target: view.target.clone(),
            status: view.status,
            ready: true,
            last_seq: 1,
            summary: view.summary,
            question: view.question,
            open_questions: 1,
            result: view.result,
            error: view.error,
        };
        fits("wait_runs", &WaitPage { ready: true, runs: vec![waited] });
    }
    for proof in [None, Some(Proof::NoProcesses), Some(Proof::Unverified { reason: "no walk".to_owned() })] {
        let (one, none) = (receipt(proof), Vec::new());
        let run = Stopped { run_id: RunId::random(), target: None, status: Status::Cancelled, receipt: Some(one.clone()) };
        let (run_id, status) = (Some(run.run_id), Some(run.status));
        fits("cancel_run", &Cancelled { run_id, status, receipt: Some(one), group_id: None, runs: none, shortened: false });
        let (group_id, runs) = (Some(GroupId::random()), vec![run]);
        fits("cancel_run", &Cancelled { run_id: None, status: None, receipt: None, group_id, runs, shortened: true });
    }
    let events = EventType::ALL.into_iter().map(|kind| Event { seq: 1, ts: Millis(0), kind, data: json!({ "any": 1 }) }).collect();
    let page = EventPage { run_id: RunId::random(), status: Status::Running, ended: false, events, next_after_seq: 1, has_more: false };
    fits("poll_events", &page);
    for row in table().rows() {
        fits(&row.tool.name, &json!({ "code": "c", "message": "m", "retryable": true, "hint": "h" }));
    }
}

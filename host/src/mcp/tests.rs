//! The protocol over raw JSON lines, and the table of tools as clients see it.

use std::collections::VecDeque;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::call::Call;
use super::serve_table;
use super::server::INSTRUCTIONS;
use super::tool::{Hints, MAX_DESCRIPTION, Row, Table, Tool};
use super::tools::table;
use crate::fault::{Fault, code};

/// Longer than anything here takes; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Text {
    /// Anything.
    text: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Said {
    /// The same.
    text: String,
    /// How it ended.
    broken_off: bool,
}

/// Gives back what it gets.
struct Echo;

impl Tool<()> for Echo {
    const NAME: &'static str = "echo";
    const TITLE: &'static str = "Echo";
    const DESCRIPTION: &'static str = "Give the text back.";
    const HINTS: Hints = Hints::LOOK;
    type Request = Text;
    type Answer = Said;

    async fn call(_: &Call<()>, request: Text) -> Result<Said, Fault> {
        Ok(Said { text: request.text, broken_off: false })
    }
}

/// Never ends by itself.
struct Hold;

impl Tool<()> for Hold {
    const NAME: &'static str = "hold";
    const TITLE: &'static str = "Hold";
    const DESCRIPTION: &'static str = "Wait for ever.";
    const HINTS: Hints = Hints::LOOK;
    type Request = Text;
    type Answer = Said;

    fn lasts(_: &Text) -> bool {
        true
    }

    async fn call(call: &Call<()>, request: Text) -> Result<Said, Fault> {
        let over = call.unless_over(std::future::pending::<()>()).await;
        Ok(Said { text: request.text, broken_off: over.is_none() })
    }
}

/// Always refuses.
struct Refuse;

impl Tool<()> for Refuse {
    const NAME: &'static str = "refuse";
    const TITLE: &'static str = "Refuse";
    const DESCRIPTION: &'static str = "Refuse.";
    const HINTS: Hints = Hints::LOOK;
    type Request = Text;
    type Answer = Said;

    async fn call(_: &Call<()>, request: Text) -> Result<Said, Fault> {
        Err(Fault::new(code::NOT_ALLOWED, format!("no {}", request.text)).hint("ask a person"))
    }
}

fn small() -> &'static Table<()> {
    Box::leak(Box::new(Table::new(vec![Row::of::<Refuse>(), Row::of::<Hold>(), Row::of::<Echo>()])))
}

struct Client {
    output: WriteHalf<DuplexStream>,
    input: Lines<BufReader<ReadHalf<DuplexStream>>>,
    seen: VecDeque<Value>,
    server: JoinHandle<()>,
}

impl Client {
    fn new() -> Self {
        Self::with_room(1 << 20)
    }

    fn with_room(bytes: usize) -> Self {
        let (ours, theirs) = tokio::io::duplex(bytes);
        let (input, output) = tokio::io::split(theirs);
        let server = tokio::spawn(serve_table(small(), (), input, output, CancellationToken::new()));
        let (input, output) = tokio::io::split(ours);
        Self { output, input: BufReader::new(input).lines(), seen: VecDeque::new(), server }
    }

    async fn legacy() -> Self {
        let mut client = Self::new();
        client.send(&initialize("2025-06-18")).await;
        client.answer(0).await;
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        client
    }

    async fn send(&mut self, message: &Value) {
        let line = format!("{message}\n");
        tokio::time::timeout(PATIENCE, self.output.write_all(line.as_bytes())).await.unwrap().unwrap();
    }

    async fn next(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(PATIENCE, self.input.next_line()).await.unwrap().unwrap()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// The message with this id; others are kept for later.
    async fn answer(&mut self, id: i64) -> Value {
        if let Some(at) = self.seen.iter().position(|message| message["id"] == id) {
            return self.seen.remove(at).unwrap();
        }
        loop {
            let message = self.next().await.expect("an answer before the end");
            if message["id"] == id {
                return message;
            }
            self.seen.push_back(message);
        }
    }

    async fn call(&mut self, id: i64, tool: &str, arguments: Value) -> Value {
        self.send(&call(id, tool, arguments)).await;
        self.answer(id).await
    }

    async fn end_input(&mut self) {
        self.output.shutdown().await.unwrap();
    }
}

fn initialize(version: &str) -> Value {
    let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } });
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })
}

fn call(id: i64, tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

fn modern(id: i64, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

#[tokio::test]
async fn initialize_takes_every_older_version_and_offers_the_newest_of_them() {
    for (asked, given) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let mut client = Client::new();
        client.send(&initialize(asked)).await;
        let answer = client.answer(0).await;
        assert_eq!(answer["result"]["protocolVersion"], given, "{asked}");
        assert_eq!(answer["result"]["serverInfo"]["name"], "falconer");
        assert_eq!(answer["result"]["capabilities"], json!({ "tools": {} }));
        assert_eq!(answer["result"]["instructions"], INSTRUCTIONS);
    }
}

#[tokio::test]
async fn discover_and_a_call_need_no_initialize() {
    let mut client = Client::new();
    client.send(&modern(1, "server/discover", json!({}))).await;
    let answer = client.answer(1).await;
    let versions = answer["result"]["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")) && versions.contains(&json!("2025-06-18")));
    client.send(&modern(2, "tools/list", json!({}))).await;
    let answer = client.answer(2).await;
    let names: Vec<&str> = answer["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["echo", "hold", "refuse"]);
    assert_eq!(answer["result"]["resultType"], "complete");
    client.send(&modern(3, "tools/call", json!({ "name": "echo", "arguments": { "text": "hello" } }))).await;
    let answer = client.answer(3).await;
    assert_eq!(answer["result"]["structuredContent"]["text"], "hello");
    assert_eq!(answer["result"]["resultType"], "complete");
}

#[tokio::test]
async fn a_probe_may_be_followed_by_initialize() {
    let mut client = Client::new();
    client.send(&modern(1, "server/discover", json!({}))).await;
    client.answer(1).await;
    client.send(&initialize("2025-11-25")).await;
    assert_eq!(client.answer(0).await["result"]["protocolVersion"], "2025-11-25");
    let answer = client.call(2, "echo", json!({ "text": "hello" })).await;
    assert_eq!(answer["result"]["structuredContent"]["text"], "hello");
    assert_eq!(answer["result"].get("resultType"), None, "unknown to that version");
}

#[tokio::test]
async fn text_and_structured_content_say_the_same() {
    let mut client = Client::legacy().await;
    for (tool, failed) in [("echo", json!(false)), ("refuse", json!(true))] {
        let result = client.call(1, tool, json!({ "text": "\"quoted\"\n… ünïcode" })).await["result"].take();
        assert_eq!(result["isError"], failed);
        let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(text, result["structuredContent"]);
    }
}

#[tokio::test]
async fn a_refusal_is_a_tool_error_with_its_code() {
    let mut client = Client::legacy().await;
    let result = client.call(1, "refuse", json!({ "text": "way" })).await["result"].take();
    let expected = json!({ "code": "not_allowed", "message": "no way", "retryable": false, "hint": "ask a person" });
    assert_eq!(result["structuredContent"], expected);
}

#[tokio::test]
async fn wrong_arguments_are_tool_errors_and_unknown_tools_are_not() {
    let mut client = Client::legacy().await;
    for arguments in [json!({}), json!({ "text": 1 }), json!({ "text": "x", "more": 1 })] {
        let result = client.call(1, "echo", arguments).await["result"].take();
        assert_eq!(result["isError"], true);
        assert_eq!(result["structuredContent"]["code"], code::INVALID_ARGUMENT);
    }
    let answer = client.call(2, "ehco", json!({})).await;
    assert_eq!(answer["error"]["code"], -32602);
    let mut bare = call(3, "echo", json!({}));
    bare["params"].as_object_mut().unwrap().remove("arguments");
    client.send(&bare).await;
    assert_eq!(client.answer(3).await["result"]["structuredContent"]["message"], "echo needs `text`");
}

#[tokio::test]
async fn at_the_end_of_input_every_call_is_answered_and_waits_end_at_once() {
    let mut client = Client::legacy().await;
    for id in 1..=20 {
        client.send(&call(id, if id % 2 == 0 { "hold" } else { "echo" }, json!({ "text": "x" }))).await;
    }
    client.end_input().await;
    for id in 1..=20 {
        assert_eq!(client.answer(id).await["result"]["structuredContent"]["broken_off"], id % 2 == 0);
    }
    assert_eq!(client.next().await, None);
    tokio::time::timeout(PATIENCE, client.server).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_cancelled_request_ends_its_wait_alone() {
    let mut client = Client::legacy().await;
    client.send(&call(1, "hold", json!({ "text": "first" }))).await;
    client.send(&call(2, "hold", json!({ "text": "second" }))).await;
    client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
    let answer = client.call(3, "echo", json!({ "text": "after" })).await;
    assert_eq!(answer["result"]["structuredContent"]["text"], "after");
    client.end_input().await;
    let mut ids = Vec::new();
    while let Some(message) = client.next().await {
        ids.push(message["id"].clone());
    }
    assert_eq!(ids, [json!(2)], "nothing is sent for a cancelled request");
}

#[tokio::test]
async fn too_many_waits_are_refused_and_leave_room_for_calls() {
    let mut client = Client::legacy().await;
    let most = i64::try_from(super::tool::MAX_WAITS).unwrap();
    for id in 1..=most + 1 {
        client.send(&call(id, "hold", json!({ "text": "x" }))).await;
    }
    // Which of them is refused is not said: handlers run side by side.
    let refused = client.next().await.unwrap();
    assert_eq!(refused["result"]["structuredContent"]["code"], code::LIMIT_REACHED);
    assert_eq!(refused["result"]["structuredContent"]["retryable"], true);
    let answer = client.call(1_000, "echo", json!({ "text": "still here" })).await;
    assert_eq!(answer["result"]["structuredContent"]["text"], "still here");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_read_from() {
    let mut client = Client::with_room(64 << 10);
    client.send(&initialize("2025-06-18")).await;
    client.answer(0).await;
    // It writes and writes, and reads nothing: at some point a write waits.
    let mut sent = 0;
    let text = "x".repeat(1_000);
    loop {
        let line = format!("{}\n", call(sent + 1, "echo", json!({ "text": text })));
        match tokio::time::timeout(Duration::from_millis(500), client.output.write_all(line.as_bytes())).await {
            Ok(written) => written.unwrap(),
            // The line is in part in the pipe; nothing more is written.
            Err(_) => break,
        }
        sent += 1;
        assert!(sent < 20_000, "nothing holds the client up");
    }
    // It reads again, and nothing that was taken is lost.
    for id in 1..=sent {
        assert_eq!(client.answer(id).await["result"]["structuredContent"]["text"], text);
    }
}

#[tokio::test]
async fn the_closing_token_ends_a_connection() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (input, output) = tokio::io::split(theirs);
    let closing = CancellationToken::new();
    let server = tokio::spawn(serve_table(small(), (), input, output, closing.clone()));
    let (_input, mut output) = tokio::io::split(ours);
    output.write_all(format!("{}\n{}\n", initialize("2025-06-18"), call(1, "hold", json!({ "text": "x" }))).as_bytes()).await.unwrap();
    let other = closing.child_token();
    closing.cancel();
    tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap();
    assert!(other.is_cancelled());
}

#[tokio::test]
async fn the_end_of_one_connection_does_not_cancel_the_token_it_was_given() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (input, output) = tokio::io::split(theirs);
    let closing = CancellationToken::new();
    let server = tokio::spawn(serve_table(small(), (), input, output, closing.clone()));
    drop(ours);
    tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap();
    assert!(!closing.is_cancelled());
}

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
    assert!(inputs < 14_000 && outputs < 40_000, "{inputs} {outputs}");
}

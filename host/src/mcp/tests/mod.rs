//! Tests of the protocol, with small tools and a client that writes its lines by hand.

mod protocol;
mod schemas;

use std::collections::VecDeque;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::call::{Call, PROGRESS_GAP};
use super::serve_table;
use super::tool::{Hints, Row, Table, Tool};
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

/// Panics.
struct BreakDown;

impl Tool<()> for BreakDown {
    const NAME: &'static str = "break_down";
    const TITLE: &'static str = "Break down";
    const DESCRIPTION: &'static str = "Break down.";
    const HINTS: Hints = Hints::LOOK;
    type Request = Text;
    type Answer = Said;

    async fn call(_: &Call<()>, request: Text) -> Result<Said, Fault> {
        panic!("{}", request.text)
    }
}

/// Tells something on the way.
struct Tell;

impl Tool<()> for Tell {
    const NAME: &'static str = "tell";
    const TITLE: &'static str = "Tell";
    const DESCRIPTION: &'static str = "Tell.";
    const HINTS: Hints = Hints::LOOK;
    type Request = Text;
    type Answer = Said;

    async fn call(call: &Call<()>, request: Text) -> Result<Said, Fault> {
        if let Some(mut progress) = call.progress() {
            for _ in 0..2 {
                tokio::time::sleep(PROGRESS_GAP).await;
                assert!(progress.tell(&request.text).await);
            }
        }
        Ok(Said { text: request.text, broken_off: false })
    }
}

fn small() -> &'static Table<()> {
    Box::leak(Box::new(Table::new(vec![
        Row::of::<Refuse>(),
        Row::of::<Hold>(),
        Row::of::<Echo>(),
        Row::of::<BreakDown>(),
        Row::of::<Tell>(),
    ])))
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

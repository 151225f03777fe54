//! A small MCP client over the stdio of `falconer mcp`: raw lines, nothing hidden. Calls may overlap.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::patience::{PATIENCE, until};

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// `initialize`, version 2025-11-25.
    Legacy,
    /// Stateless, version 2026-07-28: each request says who asks.
    Modern,
}

type Waiting = Arc<Mutex<Option<HashMap<u64, Sender<Value>>>>>;

pub struct Client {
    child: Child,
    stdin: Mutex<Option<ChildStdin>>,
    waiting: Waiting,
    next: AtomicU64,
    era: Era,
    stderr: Arc<Mutex<String>>,
}

/// A tool's refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub code: String,
    pub message: String,
    pub retryable: bool,
    pub hint: Option<String>,
}

impl Client {
    /// Starts the server and says hello.
    pub fn start(mut command: Command, era: Era) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let stderr = Arc::new(Mutex::new(String::new()));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn({
            let waiting = Arc::clone(&waiting);
            move || {
                for line in stdout.lines().map_while(Result::ok) {
                    let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                    let Some(id) = message["id"].as_u64() else { continue };
                    let sender = waiting.lock().unwrap().as_mut().and_then(|map| map.remove(&id));
                    if let Some(sender) = sender {
                        let _ = sender.send(message);
                    }
                }
                // Whoever waits now waits in vain: their channels close.
                *waiting.lock().unwrap() = None;
            }
        });
        let mut errors = child.stderr.take().unwrap();
        std::thread::spawn({
            let stderr = Arc::clone(&stderr);
            move || {
                let mut piece = [0; 4_096];
                while let Ok(count @ 1..) = errors.read(&mut piece) {
                    stderr.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..count]));
                }
            }
        });
        let stdin = Mutex::new(child.stdin.take());
        let client = Self { child, stdin, waiting, next: AtomicU64::new(1), era, stderr };
        client.hello();
        client
    }

    fn hello(&self) {
        let answer = match self.era {
            Era::Legacy => {
                let who = json!({ "name": "falconer-tests", "version": "1" });
                let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": who });
                let answer = self.request("initialize", hello);
                self.write(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
                answer
            }
            Era::Modern => self.request("server/discover", json!({})),
        };
        if let Err(error) = answer {
            panic!("no hello: {error}");
        }
    }

    fn write(&self, message: &Value) {
        let mut line = message.to_string();
        line.push('\n');
        let mut stdin = self.stdin.lock().unwrap();
        if let Some(stdin) = stdin.as_mut() {
            // A server that is gone shows where its answer is waited for.
            let _ = stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush());
        }
    }

    /// One request and its answer; the error as JSON-RPC has it, or `null` with the reason where the server went away.
    pub fn request(&self, method: &str, mut params: Value) -> Result<Value, Value> {
        if self.era == Era::Modern {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": { "name": "falconer-tests", "version": "1" },
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = channel();
        match self.waiting.lock().unwrap().as_mut() {
            Some(map) => map.insert(id, sender),
            None => return Err(json!({ "gone": self.errors() })),
        };
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        let answer = receiver.recv_timeout(PATIENCE).map_err(|error| json!({ "gone": error.to_string(), "stderr": self.errors() }))?;
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(answer["result"].clone()),
        }
    }

    /// Calls a tool; what it answers is checked to be the same as text and as structure.
    #[track_caller]
    pub fn try_call(&self, tool: &str, arguments: Value) -> Result<Value, Refusal> {
        let result = self
            .request("tools/call", json!({ "name": tool, "arguments": arguments }))
            .unwrap_or_else(|error| panic!("{tool} broke the protocol: {error}"));
        let structure = result["structuredContent"].clone();
        let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{tool} answers no text: {result}"));
        let same: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        assert_eq!(same, structure, "{tool} says one thing as text and another as structure");
        if result["isError"] != json!(true) {
            return Ok(structure);
        }
        Err(Refusal {
            code: structure["code"].as_str().unwrap_or_else(|| panic!("{tool} fails without a code: {structure}")).into(),
            message: structure["message"].as_str().unwrap().into(),
            retryable: structure["retryable"].as_bool().unwrap(),
            hint: structure["hint"].as_str().map(Into::into),
        })
    }

    /// Calls a tool that must succeed.
    #[track_caller]
    pub fn call(&self, tool: &str, arguments: Value) -> Value {
        match self.try_call(tool, arguments) {
            Ok(answer) => answer,
            Err(refusal) => panic!("{tool}: {refusal:?}\nstderr: {}", self.errors()),
        }
    }

    /// Calls a tool that must refuse with this code.
    #[track_caller]
    pub fn refused(&self, tool: &str, arguments: Value, code: &str) -> Refusal {
        match self.try_call(tool, arguments.clone()) {
            Ok(answer) => panic!("{tool} took {arguments}: {answer}"),
            Err(refusal) => {
                assert_eq!(refusal.code, code, "{tool} {arguments}: {refusal:?}");
                refusal
            }
        }
    }

    /// `spawn_run`: the run's id.
    #[track_caller]
    pub fn spawn(&self, request: Value) -> String {
        self.call("spawn_run", request)["run_id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn get(&self, run: &str) -> Value {
        self.call("get_run", json!({ "run_id": run }))
    }

    /// Waits for the end of a run, and gives its whole state.
    #[track_caller]
    pub fn ended(&self, run: &str) -> Value {
        until(&format!("the end of {run}"), || {
            let page = self.call("wait_runs", json!({ "run_ids": [run], "wait_ms": 5_000 }));
            let run = self.get(page["runs"][0]["run_id"].as_str().unwrap());
            is_terminal(&run).then_some(run)
        })
    }

    /// Spawns, and waits for the end.
    #[track_caller]
    pub fn run(&self, request: Value) -> Value {
        let run = self.spawn(request);
        self.ended(&run)
    }

    /// Waits until a run is in this status.
    #[track_caller]
    pub fn until_status(&self, run: &str, status: &str) -> Value {
        until(&format!("{run} to be {status}"), || {
            let view = self.get(run);
            assert!(view["status"] == status || !is_terminal(&view), "{run} ended instead of being {status}: {view}");
            (view["status"] == status).then_some(view)
        })
    }

    /// All events there are now, with their order checked.
    #[track_caller]
    pub fn events(&self, run: &str) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            let page = self.page(run, events.len() as u64, 0);
            take_page(&mut events, &page);
            if page["has_more"] != json!(true) {
                return events;
            }
        }
    }

    /// One page of events.
    #[track_caller]
    pub fn page(&self, run: &str, after: u64, wait_ms: u64) -> Value {
        self.call("poll_events", json!({ "run_id": run, "after_seq": after, "limit": 2_000, "max_chars": 1_000_000, "wait_ms": wait_ms }))
    }

    /// Waits for the first event that fits.
    #[track_caller]
    pub fn event(&self, run: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut after = 0;
        until(&format!("{what} in {run}"), || {
            let page = self.page(run, after, 2_000);
            after = page["next_after_seq"].as_u64().unwrap();
            let found = page["events"].as_array().unwrap().iter().find(|event| fits(event)).cloned();
            assert!(
                found.is_some() || page["ended"] != json!(true) || page["has_more"] == json!(true),
                "{run} ended without {what}: {}",
                self.get(run)
            );
            found
        })
    }

    #[track_caller]
    pub fn cancel(&self, run: &str) -> Value {
        self.call("cancel_run", json!({ "run_id": run }))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    pub fn errors(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Closes its stdin, and waits for its end.
    pub fn close(&mut self) -> std::process::ExitStatus {
        self.stdin.lock().unwrap().take();
        until("the client's pipe to end", || self.child.try_wait().unwrap())
    }

    /// Kills it, as a crash of the client would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn is_terminal(run: &Value) -> bool {
    run["status"].as_str().is_some_and(|status| ["completed", "failed", "cancelled", "rejected", "lost"].contains(&status))
}

/// Adds a page: its numbers go on where the events stop, and nothing follows an end.
#[track_caller]
pub fn take_page(events: &mut Vec<Value>, page: &Value) {
    for event in page["events"].as_array().unwrap() {
        if let Some(last) = events.last() {
            assert!(!is_end(last), "an event follows the end: {event}");
        }
        assert_eq!(event["seq"], json!(events.len() + 1), "a gap or a repeat: {event}");
        events.push(event.clone());
    }
    assert_eq!(page["next_after_seq"], json!(events.len()), "{}", page["next_after_seq"]);
}

pub fn is_end(event: &Value) -> bool {
    event["type"].as_str().is_some_and(|kind| ["run_completed", "run_failed", "run_cancelled", "run_rejected", "run_lost"].contains(&kind))
}

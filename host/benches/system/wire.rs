//! The fastest client there is: one thread that writes a line and reads lines until the answer comes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

pub struct Wire {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    next: u64,
    line: String,
}

impl Wire {
    /// Starts a server; nothing is said yet.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout, next: 0, line: String::new() }
    }

    /// Starts a server and says hello.
    pub fn ready(command: Command) -> Self {
        let mut wire = Self::start(command);
        wire.hello();
        wire
    }

    pub fn hello(&mut self) {
        let who = json!({ "name": "bench", "version": "1" });
        self.answer(&self.request("initialize", &json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": who })));
        writeln!(self.stdin, "{}", json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).unwrap();
    }

    fn request(&self, method: &str, params: &Value) -> String {
        format!("{}\n", json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params }))
    }

    /// Writes a line and reads until its answer is there, unparsed.
    fn answer(&mut self, request: &str) {
        let mark = format!("\"id\":{}", self.next);
        self.next += 1;
        self.stdin.write_all(request.as_bytes()).unwrap();
        loop {
            self.line.clear();
            assert!(self.stdout.read_line(&mut self.line).unwrap() > 0, "the server is gone");
            let rest = self.line.find(&mark).and_then(|at| self.line.as_bytes().get(at + mark.len()));
            if rest.is_some_and(|next| !next.is_ascii_digit()) {
                return;
            }
        }
    }

    /// Calls a tool; the answer stays unparsed. Its size in bytes.
    pub fn quick(&mut self, tool: &str, arguments: &Value) -> usize {
        let request = self.request("tools/call", &json!({ "name": tool, "arguments": arguments }));
        self.answer(&request);
        self.line.len()
    }

    /// Calls a tool that must succeed.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        self.quick(tool, arguments);
        let answer: Value = serde_json::from_str(&self.line).unwrap();
        assert!(answer["result"]["isError"] != json!(true) && answer.get("error").is_none(), "{tool}: {answer}");
        answer["result"]["structuredContent"].clone()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

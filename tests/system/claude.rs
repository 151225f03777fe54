//! The bundled backend `claude` with the real `claude` 2.1.329, against the mock of the Messages API.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::client::{Client, Era};
use crate::fetched;
use crate::host::Host;
use crate::patience::until;
use crate::processes::with_environment;

/// At least eight bytes, so that it may be a secret.
pub const KEY: &str = "mock-key-0123456789";

const CONFIG: &str = r#"
path = ["/usr/local/bin", "/usr/bin", "/bin"]

[stop]
prove = "60 s"
ask = "2 s"
terminate = "2 s"

[backends.claude]
config = { permission_mode = "acceptEdits", max_retries = 2, allowed_tools = ["Bash"] }
[backends.claude.grants]
programs = { claude = "{claude}" }
workspaces = ["{work}"]
env = { HOME = "{dir}/home", ANTHROPIC_BASE_URL = "{url}" }
secrets = { ANTHROPIC_API_KEY = { env = "ANTHROPIC_API_KEY" } }

{more}
"#;

/// The mock, until it is dropped.
pub struct Mock {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Mock {
    fn start(python: PathBuf, log: PathBuf) -> Self {
        let mut command = Command::new(python);
        command.arg(fetched::of_tests("fixtures/mock_anthropic.py")).args(["--port", "0", "--key", KEY, "--log"]).arg(&log);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self { child, url: ready["base_url"].as_str().unwrap().into(), log }
    }
    /// Whether it has noted this.
    fn noted(&self, word: &str) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|text| text.contains(word))
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The order is the order of the ends: the client, the host with its daemon, the mock.
pub struct Stage {
    pub client: Client,
    pub host: Host,
    mock: Mock,
}

impl Stage {
    fn set(test: &str, key: &str) -> Option<Self> {
        Self::with(test, key, "")
    }

    /// With more in the configuration.
    pub fn with(test: &str, key: &str, more: &str) -> Option<Self> {
        let (claude, python) = (fetched::claude(test)?, fetched::plain_python(test)?);
        let host = Host::bare("");
        let mock = Mock::start(python, host.path("mock.log"));
        host.configure(&CONFIG.replace("{claude}", claude.to_str().unwrap()).replace("{url}", &mock.url).replace("{more}", more));
        let mut command = host.command(&["mcp"]);
        command.env("ANTHROPIC_API_KEY", key);
        let client = Client::start(command, Era::Legacy);
        Some(Self { client, host, mock })
    }

    pub fn request(&self, prompt: &str) -> Value {
        json!({ "backend": "claude", "cwd": self.host.work(), "prompt": prompt })
    }

    #[track_caller]
    fn completed(&self, request: Value) -> (Value, Vec<Value>) {
        let run = self.client.run(request);
        assert_eq!(run["status"], "completed", "{run}\n{:#?}", self.client.events(run["run_id"].as_str().unwrap()));
        let events = self.client.events(run["run_id"].as_str().unwrap());
        (run, events)
    }
}

#[track_caller]
fn of_type<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    events.iter().find(|event| event["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {events:#?}"))
}

#[test]
fn a_plain_answer() {
    let Some(stage) = Stage::set("a plain answer of claude", KEY) else { return };
    let (run, events) = stage.completed(stage.request("MOCK:hello"));
    assert_eq!(run["result"]["text"], "Hello from the mock model.", "{run}");
    assert!(of_type(&events, "agent_message")["data"]["text"].is_string());
    of_type(&events, "session_started");
    assert!(run["usage"]["output_tokens"].as_u64().is_some_and(|count| count > 0), "{}", run["usage"]);
    assert_eq!(run["usage"]["turns"], 1, "{}", run["usage"]);

    // The key was used and is nowhere.
    assert!(!json!(events).to_string().contains(KEY) && !run.to_string().contains(KEY));
    let holding = stage.host.data_holding(KEY.as_bytes());
    assert!(holding.is_empty(), "{holding:?}");

    let (run, events) = stage.completed(stage.request("MOCK:think"));
    assert_eq!(run["result"]["text"], "I thought about it.");
    of_type(&events, "reasoning");
}

#[test]
fn a_command_with_its_output_and_a_file() {
    let Some(stage) = Stage::set("tools of claude", KEY) else { return };
    let (run, events) = stage.completed(stage.request("MOCK:bash {\"command\":\"echo a mouse, a vole\"}"));
    assert!(run["result"]["text"].as_str().unwrap().contains("a mouse, a vole"), "{run}");
    let started = of_type(&events, "command_started");
    assert!(started["data"]["command"].as_str().unwrap().contains("echo a mouse"), "{started}");
    assert!(of_type(&events, "command_output")["data"]["text"].as_str().unwrap().contains("a mouse, a vole"));
    let finished = of_type(&events, "command_finished");
    assert_eq!(finished["data"]["id"], started["data"]["id"]);
    assert_eq!(finished["data"]["status"], "succeeded", "{finished}");

    let file = stage.host.work().join("note.txt");
    let prompt = format!("MOCK:write {}", json!({ "path": file, "content": "caught\n" }));
    let (_, events) = stage.completed(stage.request(&prompt));
    assert_eq!(fs::read_to_string(&file).unwrap(), "caught\n");
    let changed = of_type(&events, "file_changed");
    assert_eq!((&changed["data"]["path"], &changed["data"]["kind"]), (&json!(file), &json!("created")), "{changed}");
}

#[test]
fn a_resumed_session_remembers() {
    let Some(stage) = Stage::set("a resumed session of claude", KEY) else { return };
    // The mock answers by the newest directive and the number of turns after it: the second run says nothing of a mouse,
    // and only a conversation that holds the first one can lead to the second turn of its script.
    let script = "MOCK[[{\"text\":\"I shall remember the mouse.\"}],[{\"text\":\"It was a mouse.\"}]]";
    let (first, _) = stage.completed(stage.request(script));
    assert_eq!(first["result"]["text"], "I shall remember the mouse.");
    let next = stage.client.call("continue_run", json!({ "run_id": first["run_id"], "message": "what was it?", "wait_ms": 45_000 }));
    assert_eq!(next["session_id"], first["session_id"]);
    let second = stage.client.ended(next["run_id"].as_str().unwrap());
    assert_eq!((&second["status"], &second["result"]["text"]), (&json!("completed"), &json!("It was a mouse.")), "{second}");
    // Its usage is its own, not the session's.
    assert_eq!(second["usage"]["turns"], 1, "{}", second["usage"]);
}

#[test]
fn errors_of_the_api_end_or_recover_as_they_should() {
    let Some(stage) = Stage::set("errors of the API", KEY) else { return };
    let (run, _) = stage.completed(stage.request("MOCK:overloaded-once"));
    assert_eq!(run["result"]["text"], "Recovered after 529.");
    let run = stage.client.run(stage.request("MOCK:overloaded"));
    assert_eq!(run["status"], "failed", "{run}");
    assert_eq!(run["error"]["retryable"], true, "{run}");
    assert!(run["error"].to_string().contains("529") || run["error"]["code"].as_str().unwrap().contains("overloaded"), "{run}");
    let run = stage.client.run(stage.request("MOCK:badrequest"));
    assert_eq!((&run["status"], &run["error"]["retryable"]), (&json!("failed"), &json!(false)), "{run}");
}

#[test]
fn a_wrong_key_is_a_failure_that_says_so() {
    let Some(stage) = Stage::set("a wrong key", "another-key-0123456789") else { return };
    let run = stage.client.run(stage.request("MOCK:hello"));
    assert_eq!(run["status"], "failed", "{run}");
    let error = run["error"].to_string();
    assert!(error.contains("401") || error.contains("auth"), "{error}");
    assert!(run["error"]["hint"].is_string(), "{error}");
}

#[test]
fn a_cancel_in_mid_answer_ends_claude_and_its_request() {
    let Some(stage) = Stage::set("a cancel of claude", KEY) else { return };
    for (prompt, started) in [("MOCK:hang", "agent_message"), ("MOCK:bash-hang {\"command\":\"tail -f /dev/null\"}", "command_started")] {
        let run = stage.client.spawn(stage.request(prompt));
        // Deltas may be off: then the message is not there before its end, and the request itself is the sign.
        until("claude to be in the middle", || {
            let begun = stage.client.events(&run).iter().any(|event| event["type"] == started);
            (begun || (started == "agent_message" && stage.mock.noted("\"scenario\": \"hang\""))).then_some(())
        });
        let answer = stage.client.call("cancel_run", json!({ "run_id": run, "reason": "enough" }));
        assert_eq!(answer["status"], "cancelled", "{prompt}: {answer}");
        assert_eq!(with_environment(&format!("FALCONER_RUN_ID={run}")), [], "{prompt}");
        let events = stage.client.events(&run);
        assert_eq!(events.last().unwrap()["type"], "run_cancelled");
        let open = |from: &str, to: &str| {
            let ids = |kind: &str| {
                events.iter().filter(|event| event["type"] == kind).map(|event| event["data"]["id"].clone()).collect::<Vec<_>>()
            };
            assert_eq!(ids(from), ids(to), "every open item is closed: {events:#?}");
        };
        open("command_started", "command_finished");
        open("tool_started", "tool_finished");
    }
    until("the mock to see that its client has gone", || stage.mock.noted("client_gone").then_some(()));

    // A session that was cut is carried on.
    let (run, _) = stage.completed(stage.request("MOCK:hello"));
    assert_eq!(run["status"], "completed");
}

#[test]
fn prompts_are_texts_and_never_commands_of_claude() {
    let Some(stage) = Stage::set("odd prompts to claude", KEY) else { return };
    fs::write(stage.host.work().join("secret.txt"), "inlined").unwrap();
    for prompt in ["/help MOCK:hello", "@secret.txt MOCK:hello", "-p MOCK:hello", "--help MOCK:hello"] {
        let (run, _) = stage.completed(stage.request(prompt));
        assert_eq!(run["result"]["text"], "Hello from the mock model.", "{prompt}");
    }
    let large = format!("MOCK:hello {}", "many words ".repeat(20_000));
    let (run, _) = stage.completed(stage.request(&large));
    assert_eq!(run["result"]["text"], "Hello from the mock model.");
    let run = stage.client.run(stage.request(""));
    assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!("invalid_argument")), "{run}");
}

#[test]
fn a_missing_key_is_told_before_anything_starts() {
    let Some(stage) = Stage::set("a missing key", "") else { return };
    let run = stage.client.run(stage.request("MOCK:hello"));
    assert!(["failed", "auth_required"].contains(&run["status"].as_str().unwrap()), "{run}");
    assert!(run["error"]["hint"].is_string(), "{run}");
}

//! The bundled backend `claude` with the real `claude` 2.1.329, against the mock of the Messages API.
//!
//! Here is the stage; each concern has a file. Tests that want nothing special share one host, each with a directory of its own:
//! it ends with the last that holds it. After each run [`Stage::finished`] looks whether it ended as every run must:
//! one terminal event, the last; every item and question closed; nothing of it alive.

mod background;
mod choices;
mod failures;
mod message;
mod plain;
mod questions;
mod sessions;
mod steer;
mod stop;
mod structured;
mod tools;

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Value, json};

use crate::client::{Client, Era, is_end};
use crate::fetched;
use crate::host::Host;
use crate::mock::{KEY, Mock};
use crate::processes::with_environment;

/// Edits and commands need no question, unless a run says otherwise; a run may choose all that the tests choose.
const CONFIG: &str = r#"
path = ["/usr/local/bin", "/usr/bin", "/bin"]

[stop]
prove = "60 s"
ask = "5 s"
terminate = "2 s"

[backends.claude.config]
permission_mode = "accept_edits"
max_retries = 1
allowed_tools = ["Bash"]
[backends.claude.config.mcp_catalog.asking]
command = "{python}"
args = ["{fixtures}/asking_mcp.py"]
env = { GIVEN = "${MCP_TOKEN}", MCP_PLAIN = true }
[backends.claude.config.mcp_catalog.other]
url = "http://127.0.0.1:9/mcp"
headers = { X-Key = { env = "MCP_TOKEN" } }
[backends.claude.grants]
programs = { claude = "{claude}" }
workspaces = ["{work}"]
env = { HOME = "{dir}/home", ANTHROPIC_BASE_URL = "{url}", MCP_PLAIN = "from-the-grant"{env} }
secrets = { ANTHROPIC_API_KEY = { env = "ANTHROPIC_API_KEY" }, MCP_TOKEN = { env = "MCP_TOKEN" } }
[backends.claude.allow]
model = true
effort = true
permission_mode = true
allowed_tools = true
disallowed_tools = true
max_turns = true
max_tokens = true
max_budget_usd = true
max_retries = true
add_dirs = true
mcp_servers = true
settings = true
expand_prompt = true
scrub_env = true
background_wait_s = true

{more}
"#;

/// What a run chooses that is to be asked about everything.
fn asked() -> Value {
    json!({ "permission_mode": "ask", "allowed_tools": [] })
}

/// A script for the mock: a list of turns, each a list of steps.
fn script(turns: &Value) -> String {
    format!("MOCK{turns}")
}

/// A turn that runs a command, and one that repeats what came back.
fn bash(command: &str) -> String {
    script(&json!([
        [{ "tool": "Bash", "input": { "command": command, "description": "a command of the test", "timeout": 600_000 } }],
        [{ "text": "got {{tool_result}}" }]
    ]))
}

/// A host with its client and its mock. The order is the order of the ends.
pub struct Set {
    pub client: Client,
    pub host: Host,
    mock: Mock,
}

/// The set that tests share while one of them runs.
static SHARED: Mutex<Weak<Set>> = Mutex::new(Weak::new());

/// A set, and a directory in which this test alone works.
pub struct Stage {
    set: Arc<Set>,
    work: PathBuf,
}

impl Deref for Stage {
    type Target = Set;
    fn deref(&self) -> &Set {
        &self.set
    }
}

/// What differs from the usual stage.
#[derive(Debug, Clone, Copy)]
struct Props<'a> {
    key: &'a str,
    /// More of the granted environment, as TOML.
    env: &'a str,
    /// More of the file.
    more: &'a str,
}

impl Default for Props<'_> {
    fn default() -> Self {
        Self { key: KEY, env: "", more: "" }
    }
}

impl Set {
    fn of(test: &str, props: Props<'_>) -> Option<Self> {
        let (claude, python) = (fetched::claude(test)?, fetched::plain_python(test)?);
        let host = Host::bare("");
        let mock = Mock::anthropic(&python, host.path("mock.log"));
        let config = CONFIG
            .replace("{more}", props.more)
            .replace("{env}", props.env)
            .replace("{claude}", claude.to_str().unwrap())
            .replace("{python}", python.to_str().unwrap())
            .replace("{fixtures}", fetched::of_tests("fixtures").to_str().unwrap())
            .replace("{url}", &mock.url);
        host.configure(&config);
        let mut command = host.command(&["mcp"]);
        command.env("ANTHROPIC_API_KEY", props.key).env("MCP_TOKEN", "mcp-secret-0123456789");
        let client = Client::start(command, Era::Legacy);
        Some(Self { client, host, mock })
    }
}

impl Stage {
    /// The usual one; none where something is missing. Others may work on it at the same time, in other directories.
    fn usual(test: &str) -> Option<Self> {
        let set = {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            match shared.upgrade() {
                Some(set) => set,
                None => {
                    let set = Arc::new(Set::of(test, Props::default())?);
                    *shared = Arc::downgrade(&set);
                    set
                }
            }
        };
        let work = set.host.work().join(test.replace(' ', "-"));
        fs::create_dir_all(&work).unwrap();
        Some(Self { set, work })
    }

    /// One of its own, with more in the configuration.
    pub fn with(test: &str, key: &str, more: &str) -> Option<Self> {
        Self::of(test, Props { key, more, ..Props::default() })
    }

    /// One of its own.
    fn of(test: &str, props: Props<'_>) -> Option<Self> {
        let set = Arc::new(Set::of(test, props)?);
        Some(Self { work: set.host.work(), set })
    }

    pub fn request(&self, prompt: &str) -> Value {
        json!({ "backend": "claude", "cwd": self.work, "prompt": prompt })
    }

    /// The same, with choices.
    fn choosing(&self, prompt: &str, config: Value) -> Value {
        let mut request = self.request(prompt);
        request["config"] = config;
        request
    }

    /// A run that completes.
    #[track_caller]
    fn completed(&self, request: Value) -> (Value, Vec<Value>) {
        self.completes(&self.client.spawn(request))
    }

    /// The same, of one that runs.
    #[track_caller]
    fn completes(&self, run: &str) -> (Value, Vec<Value>) {
        let (view, events) = self.finished(run);
        assert_eq!(view["status"], "completed", "{view}\n{events:#?}");
        (view, events)
    }

    /// A run that fails with this code.
    #[track_caller]
    fn fails(&self, request: Value, code: &str) -> (Value, Vec<Value>) {
        let (view, events) = self.finished(&self.client.spawn(request));
        assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!(code)), "{view}\n{events:#?}");
        (view, events)
    }

    /// Waits for the end, and looks whether it is whole.
    #[track_caller]
    fn finished(&self, run: &str) -> (Value, Vec<Value>) {
        let view = self.client.ended(run);
        let events = self.client.events(run);
        let ends: Vec<&Value> = events.iter().filter(|event| is_end(event)).collect();
        assert!(ends.len() == 1 && is_end(events.last().unwrap()), "{events:#?}");
        assert_eq!(events.last().unwrap()["type"], format!("run_{}", view["status"].as_str().unwrap()));
        for (from, to, name) in [
            ("command_started", "command_finished", "id"),
            ("tool_started", "tool_finished", "id"),
            ("input_required", "input_resolved", "question_id"),
        ] {
            let ids = |kind: &str| {
                let mut ids: Vec<String> = all(&events, kind).iter().map(|event| event["data"][name].to_string()).collect();
                ids.sort();
                ids
            };
            assert_eq!(ids(from), ids(to), "each {from} is closed once: {events:#?}");
        }
        assert_eq!(with_environment(&format!("FALCONER_RUN_ID={run}")), [], "something of {run} lives");
        (view, events)
    }

    /// Waits for an open question, besides those that were seen.
    #[track_caller]
    fn question(&self, run: &str, seen: &[&str]) -> Value {
        let is_new = |event: &Value| event["type"] == "input_required" && !seen.iter().any(|id| event["data"]["question_id"] == **id);
        self.client.event(run, "a question", is_new)["data"].take()
    }

    /// Answers a question: `said` has choices, text or data.
    #[track_caller]
    fn answer(&self, run: &str, question: &Value, said: Value) -> Value {
        self.client.call("continue_run", json!({ "run_id": run, "answer": answer_to(question, said) }))
    }
}

/// An answer that names what was judged.
fn answer_to(question: &Value, mut said: Value) -> Value {
    said["question_id"] = question["question_id"].clone();
    said["details_hash"] = question["details_hash"].clone();
    said
}

/// All events of a type.
fn all<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// The first event of a type.
#[track_caller]
fn of_type<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    events.iter().find(|event| event["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {events:#?}"))
}

/// The first notice with a code.
#[track_caller]
fn notice<'a>(events: &'a [Value], code: &str) -> &'a Value {
    let is_it = |event: &&Value| event["type"] == "notice" && event["data"]["code"] == code;
    events.iter().find(is_it).unwrap_or_else(|| panic!("no notice {code} in {events:#?}"))
}

/// What a run answered.
#[track_caller]
fn text(run: &Value) -> &str {
    run["result"]["text"].as_str().unwrap_or_else(|| panic!("no text in {run}"))
}

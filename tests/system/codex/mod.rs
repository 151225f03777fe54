//! The bundled backend `codex` with the real `codex` 0.169.0, against the mock of the Responses API. One file a concern.

mod background;
mod choices;
mod failures;
mod message;
mod plain;
mod protocol;
mod questions;
mod sessions;
mod steer;
mod stop;
mod structured;
mod tools;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::client::{Client, Era, is_end};
use crate::compiled;
use crate::fetched;
use crate::host::Host;
use crate::mock::{KEY, Mock};
use crate::patience::until;
use crate::processes::with_environment;

/// `{config}` goes over the backend's own config, `{more}` to the end.
const CONFIG: &str = r#"
path = ["/usr/local/bin", "/usr/bin", "/bin"]

[stop]
prove = "60 s"
ask = "4 s"
terminate = "2 s"

[backends.codex.config]
model = "mock-model"
max_retries = 1
{settings}
{config}
[backends.codex.grants]
programs = { codex = "{codex}" }
workspaces = ["{work}", "{workspace}"]
{env}
secrets = { OPENAI_API_KEY = { env = "OPENAI_API_KEY" } }
[backends.codex.allow]
background_wait_s = true
env = true
web_search = true
{allow}
{more}
"#;

/// What a stage is set with.
#[derive(Default)]
pub struct Props<'a> {
    /// The key of the client; the right one where none is said.
    pub key: Option<&'a str>,
    /// Lines of the backend's config.
    pub config: &'a str,
    /// Lines of what a run may choose.
    pub allow: &'a str,
    /// The config brings its `settings` itself.
    pub own_settings: bool,
    /// Instead of the mock's address.
    pub url: Option<&'a str>,
    pub more: &'a str,
    /// A further one.
    pub workspace: Option<&'a str>,
    /// Instead of the usual environment.
    pub env: Option<&'a str>,
}

/// The order is the order of the ends: the client, the host with its daemon, the mock.
pub struct Stage {
    pub client: Client,
    pub host: Host,
    pub mock: Mock,
}

impl Stage {
    pub fn set(test: &str) -> Option<Self> {
        Self::with(test, Props::default())
    }

    pub fn with(test: &str, props: Props) -> Option<Self> {
        let (codex, python) = (fetched::codex(test)?, fetched::plain_python(test)?);
        let host = Host::bare("");
        let mock = Mock::openai(&python, host.path("mock.log"));
        let text = CONFIG
            .replace("{codex}", codex.to_str().unwrap())
            .replace("{settings}", if props.own_settings { "" } else { "settings = { openai_base_url = \"{url}\" }" })
            .replace("{config}", props.config)
            .replace("{allow}", props.allow)
            .replace("{more}", props.more)
            .replace("{workspace}", props.workspace.unwrap_or("{work}"))
            .replace("{env}", props.env.unwrap_or("env = { HOME = \"{dir}/home\", SEEN = \"by-commands\" }"))
            .replace("{url}", props.url.unwrap_or(&mock.url))
            .replace("{tests}", fetched::of_tests("").to_str().unwrap());
        host.configure(&text);
        let turn = compiled::lend(&host);
        let mut command = host.command(&["mcp"]);
        command.env("OPENAI_API_KEY", props.key.unwrap_or(KEY));
        let stage = Self { client: Client::start(command, Era::Legacy), host, mock };
        if let Some(turn) = turn {
            stage.client.call("plan_run", stage.request("MOCK:hello"));
            turn.keep(&stage.host);
        }
        Some(stage)
    }

    pub fn request(&self, prompt: &str) -> Value {
        json!({ "backend": "codex", "cwd": self.host.work(), "prompt": prompt })
    }

    /// With choices.
    pub fn choosing(&self, prompt: &str, config: Value) -> Value {
        let mut request = self.request(prompt);
        request["config"] = config;
        request
    }

    /// Waits for the end of a run, and checks what holds of every end.
    #[track_caller]
    pub fn ended(&self, run: &str) -> (Value, Vec<Value>) {
        let view = self.client.ended(run);
        let events = self.client.events(run);
        let ends = events.iter().filter(|event| is_end(event)).count();
        assert!(ends == 1 && events.last().is_some_and(is_end), "one end, and nothing after it: {events:#?}");
        let kind = events.last().unwrap()["type"].as_str().unwrap();
        assert_eq!(kind, format!("run_{}", view["status"].as_str().unwrap()), "{view}");
        for (from, to) in [("command_started", "command_finished"), ("tool_started", "tool_finished")] {
            let ids = |kind: &str| {
                let mut ids: Vec<String> =
                    events.iter().filter(|event| event["type"] == kind).map(|event| event["data"]["id"].to_string()).collect();
                ids.sort();
                ids
            };
            assert_eq!(ids(from), ids(to), "every item is closed once: {events:#?}");
        }
        // Its id is the run's, also where a name was given.
        let id = view["run_id"].as_str().unwrap();
        assert_eq!(with_environment(&format!("FALCONER_RUN_ID={id}")), [], "something of {id} lives");
        (view, events)
    }

    #[track_caller]
    pub fn run(&self, request: Value) -> (Value, Vec<Value>) {
        let run = self.client.spawn(request);
        self.ended(&run)
    }

    #[track_caller]
    pub fn completed(&self, request: Value) -> (Value, Vec<Value>) {
        let (run, events) = self.run(request);
        assert_eq!(run["status"], "completed", "{run}\n{events:#?}");
        (run, events)
    }

    #[track_caller]
    pub fn failed(&self, request: Value, code: &str) -> (Value, Vec<Value>) {
        let (run, events) = self.run(request);
        assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!(code)), "{run}\n{events:#?}");
        (run, events)
    }

    /// Waits for an open question.
    #[track_caller]
    pub fn question(&self, run: &str) -> Value {
        self.client.until_status(run, "input_required")["question"].clone()
    }

    /// Answers it.
    #[track_caller]
    pub fn answer(&self, run: &str, question: &Value, answer: Value) {
        let answered = self.client.call("continue_run", answering(run, question, answer));
        assert_eq!(answered["action"], "answered", "{answered}");
    }

    /// Carries a run on, and waits for the end.
    #[track_caller]
    pub fn continued(&self, run: &Value, message: &str) -> (Value, Vec<Value>) {
        let next = self.client.call("continue_run", json!({ "run_id": run["run_id"], "message": message }));
        assert_eq!(next["action"], "continued", "{next}");
        self.ended(next["run_id"].as_str().unwrap())
    }

    /// Steers a live run.
    #[track_caller]
    pub fn steer(&self, run: &str, message: &str, timing: &str) {
        let steered = self.client.call("continue_run", json!({ "run_id": run, "message": message, "timing": timing }));
        assert_eq!(steered["action"], "steered", "{steered}");
    }

    /// Waits until the mock has noted this.
    #[track_caller]
    pub fn until_noted(&self, word: &str) {
        until(&format!("the mock to note {word}"), || self.mock.noted(word).then_some(()));
    }

    /// Codex's own home.
    pub fn codex_home(&self) -> PathBuf {
        self.host.path("home/.codex")
    }
}

/// `continue_run` with an answer to a question.
pub fn answering(run: &str, question: &Value, mut answer: Value) -> Value {
    answer["question_id"] = question["question_id"].clone();
    answer["details_hash"] = question["details_hash"].clone();
    json!({ "run_id": run, "answer": answer })
}

#[track_caller]
pub fn of_type<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    events.iter().find(|event| event["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {events:#?}"))
}

/// The data of all events of a type.
pub fn all<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).map(|event| &event["data"]).collect()
}

/// Whether there is a notice of this code.
pub fn noticed(events: &[Value], code: &str) -> bool {
    all(events, "notice").iter().any(|notice| notice["code"] == code)
}

/// The whole output of the only command.
pub fn output(events: &[Value]) -> String {
    all(events, "command_output").iter().map(|chunk| chunk["text"].as_str().unwrap()).collect()
}

/// The mock's script: turns of steps.
pub fn script(turns: Value) -> String {
    format!("MOCK{turns}")
}

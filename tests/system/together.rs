//! Many agents at once, of both kinds, on whatever the machine has: all end well, and each session's runs in their line.

use serde_json::{Value, json};

use crate::client::{Client, Era};
use crate::fetched;
use crate::host::Host;
use crate::mock::{KEY, Mock};

/// Sessions of each agent; each has two runs, the second of which waits for the first.
const SESSIONS: usize = 5;

/// Both agents, each with its mock.
const CONFIG: &str = r#"
path = ["/usr/local/bin", "/usr/bin", "/bin"]
[stop]
prove = "60 s"
[backends.claude.grants]
programs = { claude = "{claude}" }
workspaces = ["{work}"]
env = { HOME = "{dir}/home", ANTHROPIC_BASE_URL = "{anthropic}" }
secrets = { ANTHROPIC_API_KEY = { env = "MOCK_KEY" } }
[backends.codex.config]
model = "mock-model"
settings = { openai_base_url = "{openai}" }
[backends.codex.grants]
programs = { codex = "{codex}" }
workspaces = ["{work}"]
env = { HOME = "{dir}/home" }
secrets = { OPENAI_API_KEY = { env = "MOCK_KEY" } }
"#;

/// The second turn of the script is played only in a conversation that holds the first.
const SCRIPT: &str = r#"MOCK[[{"text":"first of its line"}],[{"text":"second of its line"}]]"#;

#[test]
fn ten_runs_of_each_agent_at_once_keep_their_lines() {
    let test = "many agents at once";
    let (Some(claude), Some(codex), Some(python)) = (fetched::claude(test), fetched::codex(test), fetched::plain_python(test)) else {
        return;
    };
    let host = Host::bare("");
    let (anthropic, openai) = (Mock::anthropic(&python, host.path("anthropic.log")), Mock::openai(&python, host.path("openai.log")));
    host.configure(
        &CONFIG
            .replace("{claude}", claude.to_str().unwrap())
            .replace("{codex}", codex.to_str().unwrap())
            .replace("{anthropic}", &anthropic.url)
            .replace("{openai}", &openai.url),
    );
    let mut command = host.command(&["mcp"]);
    command.env("MOCK_KEY", KEY);
    let client = Client::start(command, Era::Legacy);

    let request = |backend: &str, prompt: &str| json!({ "backend": backend, "cwd": host.work(), "prompt": prompt });
    let spawn = |request: Value| client.call("spawn_run", request);
    // All of them before any is waited for.
    let lines: Vec<[String; 2]> = (0..2 * SESSIONS)
        .map(|number| {
            let backend = ["claude", "codex"][number % 2];
            let first = spawn(request(backend, SCRIPT));
            let mut second = request(backend, "and now?");
            second["session_id"] = first["session_id"].clone();
            let second = spawn(second);
            assert_eq!(second["session_id"], first["session_id"]);
            [&first, &second].map(|run| run["run_id"].as_str().unwrap().to_owned())
        })
        .collect();
    for line in &lines {
        let [first, second] = line.each_ref().map(|run| client.ended(run));
        for (run, text) in [(&first, "first of its line"), (&second, "second of its line")] {
            assert_eq!((&run["status"], &run["result"]["text"]), (&json!("completed"), &json!(text)), "{run}");
            assert_eq!(run["receipt"]["proof"]["outcome"], "empty", "{run}");
        }
        // RFC 3339 in UTC with milliseconds: the order of the texts is that of the times.
        assert!(second["started_at"].as_str() >= first["ended_at"].as_str(), "{first}\n{second}");
    }
}

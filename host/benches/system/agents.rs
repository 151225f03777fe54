//! The rows about agents: what a run of one takes, beside the bare program with the same prompt and the same mock.
//!
//! Both are driven in turns, so that they meet the same minute of the machine. "The first event" is the session's, which
//! comes of the program's own first words; `run_started` is there at once and would flatter.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fetched;
use crate::host::Host;
use crate::mock::{KEY, Mock};
use crate::table::{Samples, Table, time};
use crate::wire::Wire;

/// Runs of each, after one that warms the caches.
const ROUNDS: usize = 15;
const PROMPT: &str = "MOCK:hello";

/// An agent's program.
struct Agent {
    backend: &'static str,
    program: PathBuf,
    mock: fn(&Path, PathBuf) -> Mock,
    /// Of the configuration, after the common part.
    config: &'static str,
    bare: fn(&Path, &Path, &str) -> Times,
}

/// From the start.
struct Times {
    first: Duration,
    end: Duration,
}

/// `agents`
pub fn overhead(table: &mut Table) {
    for agent in agents().into_iter().flatten() {
        measure(table, &agent);
    }
}

fn agents() -> [Option<Agent>; 2] {
    let claude = fetched::claude("the row of claude").map(|program| Agent {
        backend: "claude",
        program,
        mock: Mock::anthropic,
        config: "env = { HOME = \"{dir}/home\", ANTHROPIC_BASE_URL = \"{url}\" }\n\
                 secrets = { ANTHROPIC_API_KEY = { env = \"MOCK_KEY\" } }\n",
        bare: bare_claude,
    });
    let codex = fetched::codex("the row of codex").map(|program| Agent {
        backend: "codex",
        program,
        mock: Mock::openai,
        config: "env = { HOME = \"{dir}/home\" }\nsecrets = { OPENAI_API_KEY = { env = \"MOCK_KEY\" } }\n\
                 [backends.codex.config]\nmodel = \"mock-model\"\nsettings = { openai_base_url = \"{url}\" }\n",
        bare: bare_codex,
    });
    [claude, codex]
}

fn measure(table: &mut Table, agent: &Agent) {
    let Some(python) = fetched::plain_python("an agent's row") else { return };
    let host = Host::bare("");
    let mock = (agent.mock)(&python, host.path("mock.log"));
    let config = format!(
        "path = [\"/usr/local/bin\", \"/usr/bin\", \"/bin\"]\n[backends.{0}.grants]\nprograms = {{ {0} = \"{1}\" }}\nworkspaces = [\"{{work}}\"]\n{2}",
        agent.backend,
        agent.program.display(),
        agent.config.replace("{url}", &mock.url),
    );
    host.configure(&config);
    let mut command = host.command(&["mcp"]);
    command.env("MOCK_KEY", KEY);
    let mut wire = Wire::ready(command);
    let request = json!({ "backend": agent.backend, "cwd": host.work(), "prompt": PROMPT });
    let home = host.path("bare-home");
    std::fs::create_dir(&home).unwrap();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let times = (run(&mut wire, &request), (agent.bare)(&agent.program, &home, &mock.url));
        if round > 0 {
            ours.push(times.0);
            bare.push(times.1);
        }
    }
    for (what, of) in [("first event", (|times| times.first) as fn(&Times) -> Duration), ("end", |times| times.end)] {
        let (ours, bare) = (Samples::new(ours.iter().map(of).collect()), Samples::new(bare.iter().map(of).collect()));
        let (over, reach) = (ours.p50().saturating_sub(bare.p50()), Duration::from_millis(50) + bare.p50() / 20);
        table.row(
            &format!("`spawn_run` of {} to its {what}", agent.backend),
            &ours,
            "bare + 50 ms + 5 % p50",
            format!("bare program {bare}"),
            format!("+ {} of {}", time(over), time(reach)),
        );
    }
}

/// One run, as a client that polls sees it.
fn run(wire: &mut Wire, request: &Value) -> Times {
    let begin = Instant::now();
    let run = wire.call("spawn_run", request)["run_id"].clone();
    let mut after = 0;
    let first = loop {
        let page = wire.call("poll_events", &json!({ "run_id": run, "after_seq": after, "wait_ms": 20_000 }));
        let events = page["events"].as_array().unwrap();
        if events.iter().any(|event| event["type"] == "session_started") {
            break begin.elapsed();
        }
        assert!(page["ended"] != json!(true), "no session: {page}");
        after = page["next_after_seq"].as_u64().unwrap();
    };
    let ended = wire.call("wait_runs", &json!({ "run_ids": [run], "wait_ms": 40_000 }));
    let end = begin.elapsed();
    assert_eq!(ended["runs"][0]["status"], "completed", "{ended}");
    Times { first, end }
}

/// What the backend does, without the backend: the same flags, one message, the end of the input after the result.
fn bare_claude(program: &Path, home: &Path, url: &str) -> Times {
    let mut command = Command::new(program);
    command
        .args(["-p", "--input-format=stream-json", "--output-format=stream-json", "--verbose", "--include-partial-messages"])
        .args(["--permission-prompt-tool=stdio", "--strict-mcp-config"])
        .env_clear()
        .envs([("HOME", home.to_str().unwrap()), ("ANTHROPIC_BASE_URL", url), ("ANTHROPIC_API_KEY", KEY), ("PATH", "/usr/bin:/bin")])
        .envs([
            ("CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS", "1"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("DISABLE_AUTOUPDATER", "1"),
        ]);
    let message = json!({
        "type": "user", "client_composed": true,
        "message": { "role": "user", "content": [{ "type": "text", "text": PROMPT }] },
    });
    bare(command, home, |stdin| say(stdin, &message), "\"subtype\":\"init\"", "\"state\":\"idle\"", |_, _| {})
}

/// The same for codex: a thread, one turn, the end of the input after it.
fn bare_codex(program: &Path, home: &Path, url: &str) -> Times {
    let provider =
        format!("model_providers.mock={{ name = \"mock\", base_url = \"{url}\", wire_api = \"responses\", env_key = \"OPENAI_API_KEY\" }}");
    let codex_home = home.join(".codex");
    std::fs::create_dir_all(&codex_home).unwrap();
    let mut command = Command::new(program);
    command
        .args(["app-server", "-c", "check_for_update_on_startup=false", "-c", "analytics.enabled=false", "-c", "web_search=\"disabled\""])
        .args(["-c", &provider, "-c", "model_provider=\"mock\""])
        .env_clear()
        .envs([("HOME", home.to_str().unwrap()), ("OPENAI_API_KEY", KEY), ("PATH", "/usr/bin:/bin")]);
    let cwd = home.to_str().unwrap().to_owned();
    let hello = json!({ "clientInfo": { "name": "bench", "version": "1" }, "capabilities": { "experimentalApi": true } });
    bare(
        command,
        home,
        |stdin| {
            say(stdin, &json!({ "id": 0, "method": "initialize", "params": hello }));
            say(stdin, &json!({ "method": "initialized" }));
            let params = json!({ "cwd": cwd, "model": "mock-model", "approvalPolicy": "on-request", "sandbox": "workspace-write" });
            say(stdin, &json!({ "id": 1, "method": "thread/start", "params": params }));
        },
        "\"method\":\"thread/started\"",
        "\"method\":\"turn/completed\"",
        |line, stdin| {
            if line.contains("\"id\":1,") {
                let answer: Value = serde_json::from_str(line).unwrap();
                let input = json!([{ "type": "text", "text": PROMPT, "text_elements": [] }]);
                let params = json!({ "threadId": answer["result"]["thread"]["id"], "input": input });
                say(stdin, &json!({ "id": 2, "method": "turn/start", "params": params }));
            }
        },
    )
}

/// Starts a program, says the first words, and reads until its input is closed and it has ended. `between` may answer.
fn bare(
    mut command: Command,
    cwd: &Path,
    greet: impl FnOnce(&mut ChildStdin),
    first: &str,
    last: &str,
    mut between: impl FnMut(&str, &mut ChildStdin),
) -> Times {
    let begin = Instant::now();
    let mut child = command.current_dir(cwd).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take();
    greet(stdin.as_mut().unwrap());
    let mut seen = None;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if seen.is_none() && line.contains(first) {
            seen = Some(begin.elapsed());
        }
        if let Some(stdin) = &mut stdin {
            between(&line, stdin);
        }
        if line.contains(last) {
            stdin = None;
        }
    }
    assert!(child.wait().unwrap().success(), "the bare program failed");
    Times { first: seen.unwrap(), end: begin.elapsed() }
}

fn say(stdin: &mut ChildStdin, value: &Value) {
    writeln!(stdin, "{value}").unwrap();
}

//! `falconer demo`: the main job, from end to end, with nothing installed and nothing left behind.
//!
//! A host of its own (`falconer mcp --ephemeral`) is started in a temporary directory and driven as any MCP client
//! drives it, over its standard input and output: a job runs and is followed, and one that will not stop is stopped.

use std::fs::File;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::Globals;
use super::client::Client;
use super::exit::{Exit, end};
use super::follow::closed;
use super::show::{self, elapsed, gist, inert};
use crate::fault::{Fault, code};
use crate::run::event::{Event, EventType};
use crate::run::request::{CancelRequest, PollRequest, SpawnRequest};
use crate::run::status::Status;
use crate::run::view::{BackendPage, Cancelled, EventPage, Plan, RunView, Spawned};

/// Show on an example what the host does: a job that is followed, and one that is called back.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask Claude this too; needs `claude` on the path and its key in the environment.
    #[arg(long, value_name = "PROMPT")]
    pub claude: Option<String>,
}

/// How long the host may take to end after its input has ended.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How long the whole may take, without Claude.
const LIMIT: Duration = Duration::from_secs(60);
/// How long Claude may take.
const CLAUDE_LIMIT: Duration = Duration::from_secs(180);
/// How long the job that will not stop is asked before it is killed.
const GRACE_MS: u64 = 1_000;

/// Where `claude` finds its key.
const CLAUDE_KEYS: [&str; 3] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];

/// A job that takes two seconds and says what it does.
const JOB: &str = "for n in 1 2 3 4; do echo \"step $n of 4\"; sleep 0.5; done; echo 'a warning' >&2; echo done";
/// A job of an hour, with a child, that both ignore TERM.
const STUBBORN: &str = "trap '' TERM INT HUP; echo 'TERM does nothing to me'; sleep 3600 & while :; do sleep 3600; done";

/// The command.
pub async fn run(_globals: &Globals, args: Args) -> ExitCode {
    let limit = if args.claude.is_some() { LIMIT + CLAUDE_LIMIT } else { LIMIT };
    let shown = tokio::time::timeout(limit, show(args));
    end(shown.await.unwrap_or_else(|_| Err(failed(format!("the demo did not end within {}", elapsed(limit))))))
}

fn failed(message: String) -> Fault {
    Fault::new("demo_failed", message)
}

fn say(text: &str) -> Result<(), Fault> {
    show::print(&format!("{text}\n")).map_err(|error| closed(&error))
}

async fn show(args: Args) -> Result<Exit, Fault> {
    let began = Instant::now();
    let dir =
        tempfile::Builder::new().prefix("falconer-demo-").tempdir().map_err(|error| failed(format!("no temporary directory: {error}")))?;
    let dir = Utf8Path::from_path(dir.path()).ok_or_else(|| failed("the temporary directory's name is no UTF-8".to_owned()))?;
    say(&format!("falconer {}: a demonstration. All of it happens in {dir}, which is removed at the end.", env!("CARGO_PKG_VERSION")))?;
    let mut host = Host::start(dir).await?;
    let shown = scenes(&host, args.claude.as_deref()).await;
    let ended = host.end().await;
    match (shown, ended) {
        (Err(fault), _) => Err(host.explain(fault)),
        (Ok(()), Err(fault)) => Err(host.explain(fault)),
        (Ok(()), Ok(took)) => {
            say(&format!(
                "\nThe host ended {} after its client left. All went as it should, in {}.",
                elapsed(took),
                elapsed(began.elapsed())
            ))?;
            Ok(Exit::Completed)
        }
    }
}

async fn scenes(host: &Host, claude: Option<&str>) -> Result<(), Fault> {
    backends(host).await?;
    job(host).await?;
    spinner(host).await?;
    stubborn(host).await?;
    match claude {
        Some(prompt) => ask_claude(host, prompt).await,
        None => Ok(()),
    }
}

/// A host of the demo's own, and the connection to it.
struct Host {
    client: Option<Client>,
    child: Child,
    work: Utf8PathBuf,
    log: Utf8PathBuf,
    answered: Duration,
}

impl Host {
    async fn start(dir: &Utf8Path) -> Result<Self, Fault> {
        let wrong = |what: &str, error: std::io::Error| failed(format!("{what}: {error}"));
        let (work, config, log) = (dir.join("work"), dir.join("falconer.toml"), dir.join("host.log"));
        std::fs::create_dir(&work).map_err(|error| wrong("the workspace cannot be made", error))?;
        spinner_file(&dir.join("plugins")).map_err(|error| wrong("the plugins directory cannot be made", error))?;
        std::fs::write(&config, configuration(dir, &work)).map_err(|error| wrong("the configuration cannot be written", error))?;
        let errors = File::create(&log).map_err(|error| wrong("the log cannot be made", error))?;
        let program = std::env::current_exe().map_err(|error| wrong("this program's file is not known", error))?;
        let began = Instant::now();
        let mut child = Command::new(program)
            .args(["mcp", "--ephemeral", "--config", config.as_str()])
            .env_remove("FALCONER_CONFIG")
            .env_remove("FALCONER_DATA_DIR")
            .env_remove("FALCONER_PLUGINS")
            .current_dir(&work)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| wrong("the host cannot be started", error))?;
        let (Some(output), Some(input)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("the host has no pipes".to_owned()));
        };
        let client = Client::over(input, output).await;
        let answered = began.elapsed();
        let mut host = Self { client: None, child, work, log, answered };
        match client {
            Ok(client) => host.client = Some(client),
            Err(fault) => return Err(host.explain(fault)),
        }
        Ok(host)
    }

    fn client(&self) -> Result<&Client, Fault> {
        self.client.as_ref().ok_or_else(|| failed("the connection to the host is closed".to_owned()))
    }

    /// Closes the connection; gives how long the host took to end.
    async fn end(&mut self) -> Result<Duration, Fault> {
        let began = Instant::now();
        if let Some(client) = self.client.take() {
            client.close().await;
        }
        match tokio::time::timeout(END_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(began.elapsed()),
            Ok(Ok(status)) => Err(failed(format!("the host ended with {status}"))),
            Ok(Err(error)) => Err(failed(format!("the end of the host cannot be seen: {error}"))),
            Err(_) => Err(failed(format!("the host did not end within {} of its client's leaving", elapsed(END_LIMIT)))),
        }
    }

    /// A fault with the last words of the host.
    fn explain(&self, fault: Fault) -> Fault {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        if last.is_empty() || fault.hint.is_some() && fault.code != super::exit::HOST_UNREACHABLE {
            return fault;
        }
        let last: Vec<String> = last.into_iter().rev().map(inert).collect();
        fault.hint(format!("the host's last words:\n  {}", last.join("\n  ")))
    }
}

/// Grants `sh` and the workspace to exec, and the workspace to claude.
fn configuration(dir: &Utf8Path, work: &Utf8Path) -> String {
    format!(
        "plugins_dir = \"{dir}/plugins\"\n[backends.exec.grants]\nprograms = {{ sh = \"/bin/sh\" }}\nworkspaces = [\"{work}\"]\n\n[backends.claude.grants]\nworkspaces = [\"{work}\"]\n"
    )
}

async fn backends(host: &Host) -> Result<(), Fault> {
    say("\n1. A host of our own")?;
    let page: BackendPage = host.client()?.call("list_backends", &json!({})).await?;
    let names: Vec<String> = page.backends.iter().map(|backend| format!("{} ({})", backend.name, backend.state)).collect();
    say(&format!("   `falconer mcp --ephemeral` answered after {} ms; backends: {}", host.answered.as_millis(), names.join(", ")))?;
    if page.backends.iter().any(|backend| backend.name == "exec" && backend.state == "ready") {
        return Ok(());
    }
    Err(failed("the backend exec is not ready".to_owned()))
}

fn shell(host: &Host, script: &str, name: &str) -> SpawnRequest {
    let config = json!({ "program": "sh", "args": ["-c", script] });
    SpawnRequest {
        backend: "exec".to_owned(),
        config: config.as_object().cloned(),
        cwd: Some(host.work.to_string()),
        name: Some(name.to_owned()),
        ..SpawnRequest::default()
    }
}

async fn spawn(host: &Host, request: &SpawnRequest) -> Result<String, Fault> {
    let began = Instant::now();
    let spawned: Spawned = host.client()?.call("spawn_run", request).await?;
    let run = spawned.run_id.map(|run| run.to_string()).ok_or_else(|| failed("no run was started".to_owned()))?;
    say(&format!("   spawn_run: {run} after {} ms", began.elapsed().as_millis()))?;
    Ok(run)
}

async fn job(host: &Host) -> Result<(), Fault> {
    say("\n2. A job, followed as it goes")?;
    let request = shell(host, JOB, "job");
    let plan: Plan = host.client()?.call("plan_run", &request).await?;
    say(&format!("   plan_run: {}; {}", if plan.allowed { "allowed" } else { "refused" }, inert(&plan.summary)))?;
    if let Some(refusal) = plan.refusal {
        return Err(refusal);
    }
    let run = spawn(host, &request).await?;
    let output = follow(host, &run, |_| false).await?;
    let ended = ended(host, &run).await?;
    expect(&ended, Status::Completed)?;
    if !(output.contains("step 4 of 4") && output.contains("a warning") && output.contains("done")) {
        return Err(failed(format!("the job's output is not whole: {}", inert(&output))));
    }
    let (Some(started), Some(over)) = (ended.started_at, ended.ended_at) else { return Err(failed(format!("{run} has no times"))) };
    say(&format!("   completed; it took {} ms", over.0 - started.0))
}

/// A plugins directory with the component that loops for ever.
fn spinner_file(plugins: &Utf8Path) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    std::fs::DirBuilder::new().mode(0o700).create(plugins)?;
    let file = plugins.join("spinner.wasm");
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(falconer_bundle::SPINNER)
}

async fn spinner(host: &Host) -> Result<(), Fault> {
    say("\n3. A component that loops for ever, called back")?;
    let request = SpawnRequest {
        backend: "spinner".to_owned(),
        prompt: Some("never answer".to_owned()),
        cwd: Some(host.work.to_string()),
        ..SpawnRequest::default()
    };
    let run = spawn(host, &request).await?;
    follow(host, &run, |event| event.kind == EventType::StatusChanged && event.data["to"] == "running").await?;
    call_back(host, &run).await
}

async fn stubborn(host: &Host) -> Result<(), Fault> {
    say("\n4. A job of an hour that will not stop, called back")?;
    let run = spawn(host, &shell(host, STUBBORN, "stubborn")).await?;
    follow(host, &run, |event| event.kind == EventType::CommandOutput).await?;
    call_back(host, &run).await
}

/// Cancels a run, and shows what that took.
async fn call_back(host: &Host, run: &str) -> Result<(), Fault> {
    let began = Instant::now();
    let request = CancelRequest { run_id: run.to_owned(), grace_ms: Some(GRACE_MS), reason: Some("the demo has seen enough".to_owned()) };
    let stopped: Cancelled = host.client()?.call("cancel_run", &request).await?;
    say(&format!("   cancel_run: {} after {}", stopped.status.map(Status::word).unwrap_or_default(), elapsed(began.elapsed())))?;
    let Some(receipt) = stopped.receipt else { return Err(failed("the stop has no receipt".to_owned())) };
    for line in show::receipt(&receipt) {
        say(&format!("   {line}"))?;
    }
    expect(&ended(host, run).await?, Status::Cancelled)?;
    if receipt.survivors.is_empty() { Ok(()) } else { Err(failed("something of it still lives".to_owned())) }
}

async fn ask_claude(host: &Host, prompt: &str) -> Result<(), Fault> {
    say("\n5. Claude")?;
    let found = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("claude").is_file()));
    if !found {
        return Err(Fault::new(code::PROGRAM_NOT_FOUND, "`claude` is not on the path").hint("install Claude Code, or leave out --claude"));
    }
    if !CLAUDE_KEYS.iter().any(|key| std::env::var_os(key).is_some()) {
        return Err(
            failed("there is no key for Claude in the environment".to_owned()).hint(format!("set one of {}", CLAUDE_KEYS.join(", ")))
        );
    }
    let request = SpawnRequest {
        backend: "claude".to_owned(),
        prompt: Some(prompt.to_owned()),
        cwd: Some(host.work.to_string()),
        name: Some("claude".to_owned()),
        ..SpawnRequest::default()
    };
    let run = spawn(host, &request).await?;
    follow(host, &run, |_| false).await?;
    let ended = ended(host, &run).await?;
    expect(&ended, Status::Completed)?;
    let text = ended.result.and_then(|result| result.text).unwrap_or_default();
    say(&format!("   Claude says: {}", inert(&text).replace('\n', "\n   ")))
}

/// Shows a run's events until it ends or one is the last that is wanted; gives all output.
async fn follow(host: &Host, run: &str, last: impl Fn(&Event) -> bool) -> Result<String, Fault> {
    let began = Instant::now();
    let mut output = String::new();
    let mut request = PollRequest { run_id: run.to_owned(), wait_ms: Some(20_000), ..PollRequest::default() };
    loop {
        let page: EventPage = host.client()?.call("poll_events", &request).await?;
        for event in &page.events {
            say(&format!("   {:>6}  {:<16}  {}", elapsed(began.elapsed()), event.kind.word(), gist(event)))?;
            if event.kind == EventType::CommandOutput {
                output.push_str(event.data.get("text").and_then(Value::as_str).unwrap_or_default());
            }
            if last(event) {
                return Ok(output);
            }
        }
        if page.ended && !page.has_more {
            return Ok(output);
        }
        request.after_seq = page.next_after_seq;
    }
}

async fn ended(host: &Host, run: &str) -> Result<RunView, Fault> {
    host.client()?.call("get_run", &json!({ "run_id": run })).await
}

fn expect(run: &RunView, wanted: Status) -> Result<(), Fault> {
    if run.status == wanted {
        return Ok(());
    }
    let why = run.error.as_ref().map(|error| format!(": {} ({})", error.message, error.code)).unwrap_or_default();
    Err(failed(format!("{} is {}, not {}{why}", run.run_id, run.status.word(), wanted.word())))
}

//! `falconer runs`: which runs there are and were, and all of one.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::Globals;
use super::client::{self, Client};
use super::exit::{Exit, end};
use super::follow::{asked, closed};
use super::show;
use crate::fault::Fault;
use crate::id::GroupId;
use crate::run::request::ListRequest;
use crate::run::status::Status;
use crate::run::view::{RunPage, RunSummary, RunView};

/// List runs, newest first; or show one: what it is, what came of it, and the receipt of its stop.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run id or session name: show this one; group id: list its runs. Without it: list.
    #[arg(conflicts_with_all = ["status", "backend", "session", "group", "parent", "limit"])]
    pub run: Option<String>,
    /// Only runs of these statuses, e.g. `running,queued`.
    #[arg(long, value_delimiter = ',', value_parser = status)]
    pub status: Vec<Status>,
    /// Only runs of this backend.
    #[arg(long)]
    pub backend: Option<String>,
    /// Only runs of this session, by id or name.
    #[arg(long)]
    pub session: Option<String>,
    /// Only runs of this group.
    #[arg(long, value_name = "grp_…")]
    pub group: Option<String>,
    /// Only runs that were started by this one.
    #[arg(long, value_name = "run_…")]
    pub parent: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 30)]
    pub limit: u32,
}

fn status(word: &str) -> Result<Status, String> {
    Status::from_word(word).ok_or_else(|| format!("there is no status `{word}`; one of: {}", Status::ALL.map(Status::word).join(", ")))
}

/// The command.
pub async fn run(globals: &Globals, args: Args) -> ExitCode {
    end(match args.run.clone() {
        None => list(globals, args).await,
        // All of them: a group is not larger than a wait.
        Some(group) if group.parse::<GroupId>().is_ok() => list(globals, Args { group: Some(group), limit: PAGE, ..args }).await,
        Some(run) => one(globals, &run).await,
    })
}

/// Runs of one page.
const PAGE: u32 = 100;
/// The column of the target.
const TARGET: usize = 3;
/// The longest part of a prompt that is shown, in characters.
const PROMPT: usize = 100;
/// The longest part of a config that is shown, in characters.
const CONFIG: usize = 500;

async fn list(globals: &Globals, args: Args) -> Result<Exit, Fault> {
    let client = client::connect(globals).await?;
    let mut runs: Vec<RunSummary> = Vec::new();
    let mut request = ListRequest {
        status: Some(args.status).filter(|status| !status.is_empty()),
        backend: args.backend,
        session: args.session,
        group_id: args.group,
        parent_run_id: args.parent,
        ..ListRequest::default()
    };
    let mut left = args.limit;
    while left > 0 {
        request.limit = Some(left.min(PAGE));
        let page: RunPage = client.call("list_runs", &request).await?;
        left = left.saturating_sub(u32::try_from(page.runs.len()).unwrap_or(u32::MAX));
        runs.extend(page.runs);
        request.cursor = page.next_cursor;
        if request.cursor.is_none() {
            break;
        }
    }
    client.close().await;
    let text = if globals.json {
        runs.iter().map(|run| format!("{}\n", serde_json::to_string(run).unwrap_or_default())).collect()
    } else if runs.is_empty() {
        "no runs\n".to_owned()
    } else {
        // Where there is nothing but this machine, it is not named in every line.
        let targets = runs.iter().any(|run| run.target.is_some());
        let mut head = ["RUN", "STATUS", "BACKEND", "NAME", "CREATED", "EVENTS", "SUMMARY"].map(str::to_owned).to_vec();
        if targets {
            head.insert(TARGET, "TARGET".to_owned());
        }
        let rows: Vec<_> = std::iter::once(head).chain(runs.iter().map(|run| row(run, targets))).collect();
        show::table(&rows)
    };
    show::print(&text).map_err(|error| closed(&error))?;
    Ok(Exit::Completed)
}

async fn one(globals: &Globals, run: &str) -> Result<Exit, Fault> {
    let client = client::connect(globals).await?;
    let text = shown(&client, run, globals.json).await;
    client.close().await;
    show::print(&text?).map_err(|error| closed(&error))?;
    Ok(Exit::Completed)
}

async fn shown(client: &Client, run: &str, as_json: bool) -> Result<String, Fault> {
    let request = json!({ "run_id": run });
    if as_json {
        let run: Value = client.call_value("get_run", &request).await?;
        return Ok(format!("{run}\n"));
    }
    Ok(whole(&client.call("get_run", &request).await?))
}

/// A run, for people: a field a line, what it gave back last.
fn whole(run: &RunView) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("{name:<9} {}\n", show::inert(value.trim_end()).replace('\n', "\n          ")));
        }
    };
    let lines = |lines: Vec<String>| Some(lines.join("\n"));
    field("run", Some(run.run_id.to_string()));
    field("status", Some(run.status.word().to_owned()));
    field("why", run.error.as_ref().map(show::fault).and_then(lines));
    for question in &run.questions {
        field("question", Some(asked(&run.run_id.to_string(), question)));
    }
    field("backend", Some(run.backend.clone()));
    field("name", run.name.clone());
    field("session", Some(run.session_id.to_string()));
    field("role", run.role.clone());
    field("parent", run.parent_run_id.map(|run| run.to_string()));
    field("group", run.group_id.map(|group| group.to_string()));
    field("cwd", run.cwd.clone());
    field("target", run.target.clone());
    field("prompt", run.request.prompt.as_deref().map(|prompt| show::line(prompt, PROMPT)));
    field("config", run.request.config.as_ref().map(|config| show::line(&Value::Object(config.clone()).to_string(), CONFIG)));
    field("limits", run.limits.as_ref().and_then(super::run::limits));
    field("created", Some(run.created_at.to_string()));
    field("started", run.started_at.map(|at| at.to_string()));
    field("ended", run.ended_at.map(|at| at.to_string()));
    field("events", Some(run.last_seq.to_string()));
    field("usage", run.usage.as_ref().map(Value::to_string));
    field("receipt", run.receipt.as_ref().map(show::receipt).and_then(lines));
    field("note", (!run.durable).then(|| "this is from memory: the ledger cannot be written".to_owned()));
    let structured = run.result.as_ref().and_then(|result| result.structured.as_ref()).map(Value::to_string);
    field("data", structured);
    field("result", run.result.as_ref().and_then(|result| result.text.clone()).filter(|text| !text.is_empty()));
    text
}

fn row(run: &RunSummary, targets: bool) -> Vec<String> {
    let summary: String = run.summary.as_deref().unwrap_or_default().lines().next().unwrap_or_default().chars().take(60).collect();
    let mut cells = [
        run.run_id.to_string(),
        run.status.word().to_owned(),
        run.backend.clone(),
        run.name.clone().unwrap_or_else(|| "-".to_owned()),
        run.created_at.to_string(),
        run.last_seq.to_string(),
        summary,
    ]
    .map(|cell| show::inert(&cell))
    .to_vec();
    if targets {
        cells.insert(TARGET, run.target.as_deref().map_or_else(|| "-".to_owned(), show::inert));
    }
    cells
}

//! `falconer runs`: which runs there are and were.

use std::process::ExitCode;

use super::Globals;
use super::client;
use super::exit::{Exit, end};
use super::follow::closed;
use super::show;
use crate::fault::Fault;
use crate::run::request::ListRequest;
use crate::run::status::Status;
use crate::run::view::{RunPage, RunSummary};

/// List runs, newest first.
#[derive(Debug, clap::Args)]
pub struct Args {
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
    end(list(globals, args).await)
}

/// Runs of one page.
const PAGE: u32 = 100;

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
        let head = ["RUN", "STATUS", "BACKEND", "NAME", "CREATED", "EVENTS", "SUMMARY"].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(head).chain(runs.iter().map(row)).collect();
        show::table(&rows)
    };
    show::print(&text).map_err(|error| closed(&error))?;
    Ok(Exit::Completed)
}

fn row(run: &RunSummary) -> Vec<String> {
    let summary: String = run.summary.as_deref().unwrap_or_default().lines().next().unwrap_or_default().chars().take(60).collect();
    [
        run.run_id.to_string(),
        run.status.word().to_owned(),
        run.backend.clone(),
        run.name.clone().unwrap_or_else(|| "-".to_owned()),
        run.created_at.to_string(),
        run.last_seq.to_string(),
        summary,
    ]
    .map(|cell| show::inert(&cell))
    .to_vec()
}

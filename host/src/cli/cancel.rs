//! `falconer cancel`: stop a run.

use std::process::ExitCode;

use super::Globals;
use super::client;
use super::exit::{Exit, end};
use super::follow::closed;
use super::show;
use crate::fault::Fault;
use crate::run::request::CancelRequest;
use crate::run::status::Status;
use crate::run::view::Cancelled;

/// Stop a run and all that it started, and print the receipt.
///
/// Ends with 0 when nothing of the run lives, 5 when that cannot be known, 1 when it is not stopped yet.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run id or session name.
    pub run: String,
    /// How long it may end by itself before it is killed, in milliseconds.
    #[arg(long)]
    pub grace_ms: Option<u64>,
    /// Why; kept in the receipt.
    #[arg(long)]
    pub reason: Option<String>,
}

/// The command.
pub async fn run(globals: &Globals, args: Args) -> ExitCode {
    end(stop(globals, args).await)
}

async fn stop(globals: &Globals, args: Args) -> Result<Exit, Fault> {
    let client = client::connect(globals).await?;
    let request = CancelRequest { run_id: args.run, grace_ms: args.grace_ms, reason: args.reason };
    let stopped = client.call::<_, Cancelled>("cancel_run", &request).await;
    client.close().await;
    let stopped = stopped?;
    let text = if globals.json {
        format!("{}\n", serde_json::to_string(&stopped).unwrap_or_default())
    } else {
        let lines = stopped.receipt.as_ref().map(show::receipt).unwrap_or_default();
        let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
        format!("{} {}\n{lines}", stopped.run_id, stopped.status.word())
    };
    show::print(&text).map_err(|error| closed(&error))?;
    Ok(match stopped.status {
        Status::Lost => Exit::Lost,
        status if status.is_terminal() => Exit::Completed,
        _ => Exit::Failed,
    })
}

//! `falconer cancel`: stop a run.

use std::process::ExitCode;

use serde_json::json;

use super::Globals;
use super::client;
use super::exit::{Exit, end};
use super::follow::closed;
use super::show;
use crate::clock::Millis;
use crate::fault::Fault;
use crate::run::receipt::Proof;
use crate::run::request::CancelRequest;
use crate::run::status::Status;
use crate::run::view::{Cancelled, RunView, Stopped};

/// Stop a run and all that it started, and print the receipt: of a run that has ended already, that of its end.
///
/// Ends with 0 when nothing of the run lives, 5 when that cannot be known, 1 when it is not stopped yet. Of a group all runs are
/// stopped; those are shown whole of which something may live.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run id, session name or group id.
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
    let called = Millis::now();
    let stopped = client.call::<_, Cancelled>("cancel_run", &request).await;
    let view = match &stopped {
        // The stop is done; an answer that lacks the error is better than none.
        Ok(stopped) if !globals.json && stopped.status.is_some_and(Status::is_terminal) => {
            client.call::<_, RunView>("get_run", &json!({ "run_id": stopped.run_id })).await.ok()
        }
        _ => None,
    };
    client.close().await;
    let stopped = stopped?;
    let text = if globals.json {
        format!("{}\n", serde_json::to_string(&stopped).unwrap_or_default())
    } else if stopped.group_id.is_some() {
        stopped.runs.iter().map(member).collect()
    } else {
        told(&stopped, view.as_ref(), called)
    };
    show::print(&text).map_err(|error| closed(&error))?;
    let statuses: Vec<Status> = stopped.status.into_iter().chain(stopped.runs.iter().map(|run| run.status)).collect();
    Ok(match statuses {
        lost if lost.contains(&Status::Lost) => Exit::Lost,
        ended if ended.iter().all(|status| status.is_terminal()) => Exit::Completed,
        _ => Exit::Failed,
    })
}

/// A run of a group that was stopped: in a line, and with its receipt where not all is well.
fn member(run: &Stopped) -> String {
    let proven = run.receipt.as_ref().is_some_and(|receipt| matches!(receipt.proof, Some(Proof::NoProcesses | Proof::Empty { .. })));
    let well = proven && run.status.is_terminal() && run.status != Status::Lost;
    let mut text = format!("{} {} {}", run.run_id, show::inert(run.target.as_deref().unwrap_or("-")), run.status.word());
    // The proof, and the word of the far end.
    let lines = run.receipt.iter().filter(|_| well).flat_map(show::receipt);
    for line in lines.filter(|line| !["cause: ", "steps: ", "killed: "].iter().any(|other| line.starts_with(other))) {
        text.push_str(&format!("; {}", crate::config::inert(&line)));
    }
    text.push('\n');
    for line in run.receipt.iter().filter(|_| !well).flat_map(show::receipt) {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// What a stop that was asked for at `called` came to, for people.
fn told(stopped: &Cancelled, view: Option<&RunView>, called: Millis) -> String {
    let before = view.and_then(|view| view.ended_at).is_some_and(|ended| ended < called);
    let already = if before { ": it had ended already" } else { "" };
    let run = stopped.run_id.map(|run| run.to_string()).unwrap_or_default();
    let mut text = format!("{run} {}{already}\n", stopped.status.map(Status::word).unwrap_or_default());
    let error = view.and_then(|view| view.error.as_ref()).map(show::fault).unwrap_or_default();
    let receipt = stopped.receipt.as_ref().map(show::receipt).unwrap_or_default();
    for line in error.iter().chain(&receipt) {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

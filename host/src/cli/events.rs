//! `falconer events`: what a run did, event by event.

use std::process::ExitCode;

use super::Globals;
use super::client::{self, Client};
use super::exit::{Exit, end};
use super::follow::{Interrupts, closed};
use super::show;
use crate::fault::Fault;
use crate::run::event::EventType;
use crate::run::request::PollRequest;
use crate::run::view::EventPage;

/// Show the events of a run, with their numbers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run id or session name.
    pub run: String,
    /// Only events after this number.
    #[arg(long, default_value_t = 0)]
    pub after: u64,
    /// Go on until the run has ended; Ctrl-C ends the looking and not the run.
    #[arg(long)]
    pub follow: bool,
    /// Only these types, e.g. `agent_message,command_output`.
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    pub types: Vec<EventType>,
}

fn kind(word: &str) -> Result<EventType, String> {
    EventType::from_word(word)
        .ok_or_else(|| format!("there is no event type `{word}`; one of: {}", EventType::ALL.map(EventType::word).join(", ")))
}

/// The command.
pub async fn run(globals: &Globals, args: Args) -> ExitCode {
    end(list(globals, args).await)
}

async fn list(globals: &Globals, args: Args) -> Result<Exit, Fault> {
    let client = client::connect(globals).await?;
    let mut interrupts = Interrupts::new()?;
    let exit = tokio::select! {
        exit = print(&client, &args, globals.json) => exit,
        () = interrupts.next() => Ok(Exit::Left),
    };
    client.close().await;
    exit
}

async fn print(client: &Client, args: &Args, json: bool) -> Result<Exit, Fault> {
    let mut request = PollRequest {
        run_id: args.run.clone(),
        after_seq: args.after,
        limit: Some(1_000),
        max_chars: Some(400_000),
        types: Some(args.types.clone()).filter(|types| !types.is_empty()),
        wait_ms: Some(if args.follow { 30_000 } else { 0 }),
    };
    loop {
        let page: EventPage = client.call("poll_events", &request).await?;
        let line = |event| if json { serde_json::to_string(event).unwrap_or_default() } else { show::numbered(event) };
        let text: String = page.events.iter().map(|event| format!("{}\n", line(event))).collect();
        show::print(&text).map_err(|error| closed(&error))?;
        if !page.has_more && (page.ended || !args.follow) {
            return Ok(Exit::Completed);
        }
        request.after_seq = page.next_after_seq;
        // A name means its newest run, and another may begin meanwhile: this one is meant.
        request.run_id = page.run_id.to_string();
    }
}

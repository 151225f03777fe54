//! `fetch_agent_messages`

use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use super::super::wait::{self, Budget};
use super::super::{Host, answer};
use super::list_runs::fewer;
use crate::fault::Fault;
use crate::run::request::FetchRequest;
use crate::run::view::Inbox;

/// Reads an inbox.
pub struct FetchAgentMessages;

/// Messages in an answer, when its caller does not say.
const DEFAULT_LIMIT: u32 = 50;

impl Tool<Host> for FetchAgentMessages {
    const NAME: &'static str = "fetch_agent_messages";
    const TITLE: &'static str = "Fetch messages of an agent";
    const DESCRIPTION: &'static str = "Read the inbox of a named agent: messages that send_agent_message put there, after a given number, waiting for the first one if you \
        like. Use it as the agent itself, to see what others wrote, or to look into another's inbox; use poll_events for what a run does and says. \
        Start with after_seq 0 and give next_after_seq of each answer to the next call. wait_ms (at most 45000) waits for the first message. \
        Gives 50 messages unless you give limit (at most 500), fewer where 50 would be long; has_more says that others are there. \
        Reading removes nothing, and the same call gives the same messages again.";
    const HINTS: Hints = Hints::LOOK;
    type Request = FetchRequest;
    type Answer = Inbox;

    fn lasts(request: &FetchRequest) -> bool {
        request.wait_ms.is_some_and(|ms| ms > 0)
    }

    async fn call(call: &Call<Host>, request: FetchRequest) -> Result<Inbox, Fault> {
        let asked = request.limit;
        let request = FetchRequest { limit: Some(asked.unwrap_or(DEFAULT_LIMIT)), ..request };
        let inbox = waited(call, request.clone()).await?;
        match (asked, fewer(inbox.messages.len(), answer::size(&inbox))) {
            (None, Some(limit)) => call.host.manager.fetch_messages(FetchRequest { limit: Some(limit), wait_ms: Some(0), ..request }).await,
            _ => Ok(inbox),
        }
    }
}

async fn waited(call: &Call<Host>, mut request: FetchRequest) -> Result<Inbox, Fault> {
    let budget = Budget::of_ms(request.wait_ms.unwrap_or_default());
    let mut progress = call.progress();
    loop {
        request.wait_ms = wait::ms(budget.part(progress.as_ref()));
        let Some(inbox) = call.unless_over(call.host.manager.fetch_messages(request.clone())).await else {
            request.wait_ms = Some(0);
            return call.host.manager.fetch_messages(request).await;
        };
        let inbox = inbox?;
        if !inbox.messages.is_empty() || budget.left().is_zero() {
            return Ok(inbox);
        }
        wait::tell(&mut progress, &format!("no message for {} yet", inbox.name)).await;
    }
}

//! Waits: bounded, told of on the way, and over at once when the request or the connection is.
//!
//! A wait that is broken off answers with the state as it is then: on a connection that ends, calls read before the end
//! are answered; for a cancelled request the answer is dropped by the protocol.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::future::{Either, select, select_all};

use super::Host;
use super::call::{Call, PROGRESS_EVERY, Progress};
use crate::fault::Fault;
use crate::run::event::EventType;
use crate::run::request::{PollRequest, WaitRequest};
use crate::run::view::WaitPage;

/// The default of `wait_runs`.
pub const DEFAULT_WAIT_MS: u64 = 25_000;

/// Runs whose changes of status are told of within one wait.
const WATCHED: usize = 8;

/// Time that is left of a wait.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    until: Instant,
}

impl Budget {
    /// So many milliseconds from now.
    #[must_use]
    pub fn of_ms(ms: u64) -> Self {
        Self { until: Instant::now() + Duration::from_millis(ms) }
    }

    /// What is left.
    #[must_use]
    pub fn left(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// How long the next part of the wait may last: all of it, or until the client wants to hear of it.
    #[must_use]
    pub fn part(self, progress: Option<&Progress>) -> Duration {
        if progress.is_some() { self.left().min(PROGRESS_EVERY) } else { self.left() }
    }
}

/// A duration as a request has it.
#[must_use]
pub fn ms(duration: Duration) -> Option<u64> {
    Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// Tells something, and gives up on a client that does not read.
pub async fn tell(progress: &mut Option<Progress>, news: &str) {
    if let Some(teller) = progress
        && !teller.tell(news).await
    {
        *progress = None;
    }
}

/// `wait_runs`, for every tool that waits for runs.
pub async fn for_runs(call: &Call<Host>, request: WaitRequest) -> Result<WaitPage, Fault> {
    let budget = Budget::of_ms(request.wait_ms.unwrap_or(DEFAULT_WAIT_MS));
    let mut progress = call.progress();
    let at_once = WaitRequest { wait_ms: Some(0), ..request.clone() };
    if progress.is_none() {
        return match call.unless_over(call.host.manager.wait(request)).await {
            Some(page) => page,
            None => call.host.manager.wait(at_once).await,
        };
    }
    loop {
        let page = call.host.manager.wait(at_once.clone()).await?;
        let part = budget.part(progress.as_ref());
        if page.ready || part.is_zero() {
            return Ok(page);
        }
        tell(&mut progress, &news(&page)).await;
        let ready = call.host.manager.wait(WaitRequest { wait_ms: ms(part), ..request.clone() });
        let (ready, changed) = (pin!(ready), pin!(changed(call, &page, part)));
        match call.unless_over(select(ready, changed)).await {
            Some(Either::Left((Ok(page), _))) if page.ready => return Ok(page),
            Some(Either::Left((Err(fault), _))) => return Err(fault),
            Some(_) => {}
            None => return call.host.manager.wait(at_once).await,
        }
    }
}

/// Ends when one of the runs has another status.
async fn changed(call: &Call<Host>, page: &WaitPage, within: Duration) {
    let polls: Vec<_> = page
        .runs
        .iter()
        .filter(|run| !run.ready)
        .take(WATCHED)
        .map(|run| {
            let request = PollRequest {
                run_id: run.run_id.to_string(),
                after_seq: run.last_seq,
                limit: Some(1),
                types: Some(vec![EventType::StatusChanged]),
                wait_ms: ms(within),
                ..PollRequest::default()
            };
            Box::pin(async move {
                if !call.host.manager.poll(request).await.is_ok_and(|page| !page.events.is_empty()) {
                    std::future::pending::<()>().await;
                }
            })
        })
        .collect();
    if polls.is_empty() {
        std::future::pending::<()>().await;
    }
    select_all(polls).await;
}

/// What is told of a wait for runs.
fn news(page: &WaitPage) -> String {
    let ready = page.runs.iter().filter(|run| run.ready).count();
    let mut text = format!("{ready} of {} ready", page.runs.len());
    for run in page.runs.iter().filter(|run| !run.ready).take(4) {
        text.push_str(&format!("; {} {}, {} events", run.run_id, run.status.word(), run.last_seq));
    }
    text
}

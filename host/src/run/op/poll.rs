//! `poll_events`: events after a number, with a long poll.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::get::status_of;
use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::ledger::EventRow;
use crate::run::event::{Event, EventType};
use crate::run::inert;
use crate::run::live::Progress;
use crate::run::manager::{Found, Manager};
use crate::run::record::ledger_fault;
use crate::run::request::PollRequest;
use crate::run::view::EventPage;

/// Events a page has when the caller does not say.
const PAGE: u32 = 100;
/// Characters a page has when the caller does not say.
const CHARS: u32 = 8_000;
/// What an event costs besides its data.
const ENVELOPE: usize = 90;

impl Manager {
    /// `poll_events`; waits as long as the request says. Dropping the future ends the wait and nothing else.
    pub async fn poll(&self, request: PollRequest) -> Result<EventPage, Fault> {
        let until = Instant::now() + Duration::from_millis(request.wait_ms.unwrap_or(0));
        let found = self.find(&request.run_id).await?;
        let kinds: Vec<&str> = request.types.iter().flatten().map(|kind| kind.word()).collect();
        let limit = request.limit.unwrap_or(PAGE);
        let chars = request.max_chars.unwrap_or(CHARS) as usize;
        let mut after = request.after_seq;
        match &found {
            Found::Ended(row) => {
                let progress = Progress { status: status_of(&row.status), last_seq: row.last_seq, ended: true };
                beyond(after, progress, found.id())?;
                self.page(found.id(), after, limit, chars, &kinds, progress)
            }
            Found::Live(live) => {
                let mut follow = live.follow();
                beyond(after, *follow.borrow(), live.id)?;
                loop {
                    let progress = *follow.borrow_and_update();
                    let page = self.page(live.id, after, limit, chars, &kinds, progress)?;
                    if !page.events.is_empty() || progress.ended {
                        return Ok(page);
                    }
                    after = page.next_after_seq;
                    let more = tokio::time::timeout_at(until, follow.changed()).await;
                    if !matches!(more, Ok(Ok(()))) {
                        return Ok(page);
                    }
                }
            }
        }
    }

    fn page(&self, run: RunId, after: u64, limit: u32, chars: usize, kinds: &[&str], progress: Progress) -> Result<EventPage, Fault> {
        // What is not yet published may be on disk already; it is given with the next page, when it is published.
        let rows = if after >= progress.last_seq {
            Vec::new()
        } else {
            self.inner.ledger.events(run, after, limit.saturating_add(1), chars as u64 + 1, kinds).map_err(|error| ledger_fault(&error))?
        };
        let mut events: Vec<Event> = Vec::with_capacity(rows.len());
        let mut used = 0;
        let mut full = false;
        for row in rows.into_iter().take_while(|row| row.seq <= progress.last_seq) {
            let size = row.data.len() + ENVELOPE;
            if events.len() >= limit as usize || (!events.is_empty() && used + size > chars) {
                full = true;
                break;
            }
            used += size;
            events.push(shown(row, chars));
        }
        // The reader stops at its own measure: with a filter, only it can say whether more of these types follow.
        let cut = match events.last() {
            Some(last) if !full && !kinds.is_empty() => {
                let next = self.inner.ledger.events(run, last.seq, 1, 0, kinds).map_err(|error| ledger_fault(&error))?;
                next.first().is_some_and(|row| row.seq <= progress.last_seq)
            }
            _ => false,
        };
        let has_more = full || cut || events.last().is_some_and(|event| kinds.is_empty() && event.seq < progress.last_seq);
        let next_after_seq = match events.last() {
            Some(event) if has_more || kinds.is_empty() => event.seq,
            // With a filter, everything up to here was looked at.
            _ => after.max(progress.last_seq),
        };
        Ok(EventPage { run_id: run, status: progress.status, ended: progress.ended, events, next_after_seq, has_more })
    }
}

fn beyond(after: u64, progress: Progress, run: RunId) -> Result<(), Fault> {
    if after > progress.last_seq {
        return Err(Fault::new(
            code::INVALID_ARGUMENT,
            format!("after_seq is {after}, but the last event of {run} is {}", progress.last_seq),
        )
        .hint("give `next_after_seq` of the page before, or 0"));
    }
    Ok(())
}

/// An event as it is shown: whole, or with its large texts cut where it alone is over the budget.
fn shown(row: EventRow, chars: usize) -> Event {
    let mut data: Value = serde_json::from_str(&row.data).unwrap_or(Value::Null);
    let mut max = chars / 2;
    // Its length as it is stored: writing it again, to measure it, is for the few that are too long.
    let mut size = row.data.len();
    while size + ENVELOPE > chars && max > 40 {
        inert::shorten(&mut data, max);
        max /= 2;
        size = data.to_string().len();
    }
    Event { seq: row.seq, ts: row.ts, kind: EventType::from_word(&row.kind).unwrap_or(EventType::Native), data }
}

//! `poll_events`

use super::super::Host;
use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use super::super::wait::{self, Budget};
use crate::fault::Fault;
use crate::run::request::PollRequest;
use crate::run::view::EventPage;

/// The events of a run.
pub struct PollEvents;

/// Characters of events in an answer, when its caller does not say.
const DEFAULT_CHARS: u32 = 8_000;

impl Tool<Host> for PollEvents {
    const NAME: &'static str = "poll_events";
    const TITLE: &'static str = "Poll events of a run";
    const DESCRIPTION: &'static str = "Read what a run did, said and printed, as numbered events after a given number, and wait for new ones if you like. Use it to follow \
        the output or the steps of one run; use wait_runs when only the end matters or there are several runs, and get_run for the result alone. \
        Start with after_seq 0 and give next_after_seq of each page to the next call: no event is missed or repeated. wait_ms (at most 45000) \
        waits for the first event and ends at once when the run has ended; ending the call early ends nothing but the wait. A page holds at most \
        100 events and 8000 characters unless you ask for more, at least one event; has_more says that others are there already. Values too large \
        for an event come as a preview with a reference for get_event_artifact. types selects, e.g. [\"agent_message\", \"command_output\"]. Changes nothing.";
    const HINTS: Hints = Hints::LOOK;
    const MAIN: bool = true;
    type Request = PollRequest;
    type Answer = EventPage;

    fn lasts(request: &PollRequest) -> bool {
        request.wait_ms.is_some_and(|ms| ms > 0)
    }

    async fn call(call: &Call<Host>, mut request: PollRequest) -> Result<EventPage, Fault> {
        request.max_chars.get_or_insert(DEFAULT_CHARS);
        let budget = Budget::of_ms(request.wait_ms.unwrap_or_default());
        let mut progress = call.progress();
        loop {
            let part = budget.part(progress.as_ref());
            request.wait_ms = wait::ms(part);
            let Some(page) = call.unless_over(call.host.manager.poll(request.clone())).await else {
                request.wait_ms = Some(0);
                return call.host.manager.poll(request).await;
            };
            let page = page?;
            if !page.events.is_empty() || page.ended || page.has_more || budget.left().is_zero() {
                return Ok(page);
            }
            request.after_seq = page.next_after_seq;
            wait::tell(&mut progress, &format!("{} is {}; no new event after {}", page.run_id, page.status.word(), page.next_after_seq))
                .await;
        }
    }
}

//! `cancel_run`: stops a run for certain, and tells what that took.

use std::time::Duration;

use crate::fault::Fault;
use crate::run::live::StopWish;
use crate::run::manager::{Caller, Found, Manager};
use crate::run::receipt::Cause;
use crate::run::request::CancelRequest;
use crate::run::view::Cancelled;

use super::get::status_of;

/// Within this time `cancel_run` answers, also when the stop is not over.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

impl Manager {
    /// `cancel_run`. Cancelling twice, or what has ended, is no error: the answer is the state as it is.
    pub async fn cancel(&self, caller: &Caller, request: CancelRequest) -> Result<Cancelled, Fault> {
        let found = self.find(&request.run_id).await?;
        if let Found::Live(live) = &found {
            live.stop(StopWish {
                by: caller.name.clone(),
                cause: Cause::Requested,
                reason: request.reason.map(|text| crate::run::inert::preview(&text, 1024)),
                grace: request.grace_ms.map(Duration::from_millis),
            });
            let _ = tokio::time::timeout(ANSWER_WITHIN, live.ended()).await;
        }
        let view = found.view();
        Ok(Cancelled { run_id: view.row.id, status: status_of(&view.row.status), receipt: view.outline.receipt })
    }
}

//! `cancel_run`: stops a run, or all runs of a group, for certain, and tells what that took.

use std::time::Duration;

use futures::future::join_all;
use futures::stream::StreamExt;
use serde::Serialize;
use tokio::time::Instant;

use super::get::status_of;
use crate::fault::Fault;
use crate::id::GroupId;
use crate::run::live::{StopWish, View};
use crate::run::manager::{Caller, Found, Manager};
use crate::run::receipt::{Cause, Receipt};
use crate::run::request::CancelRequest;
use crate::run::view::{Cancelled, Stopped};

/// Within this time `cancel_run` answers, also when the stop is not over.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// Far ends that one call looks at side by side.
const LOOKS_AT_ONCE: usize = 10;
/// More characters than this, and the receipts of a group lose their details.
const LONG: usize = 9_000;

impl Manager {
    /// `cancel_run`. Cancelling twice, or what has ended, is no error: the answer is the state as it is.
    pub async fn cancel(&self, caller: &Caller, request: CancelRequest) -> Result<Cancelled, Fault> {
        let (group, found) = self.named_to_stop(&request.run_id).await?;
        let wish = StopWish {
            by: caller.name.clone(),
            cause: Cause::Requested,
            reason: request.reason.map(|text| crate::run::inert::preview(&text, 1024)),
            grace: request.grace_ms.map(Duration::from_millis),
        };
        // All hear of it before any gives its place to another of them.
        let lives: Vec<_> = found
            .iter()
            .filter_map(|found| match found {
                Found::Live(live) => Some(live),
                Found::Ended(_) => None,
            })
            .collect();
        lives.iter().for_each(|live| live.stop(wish.clone()));
        let until = Instant::now() + ANSWER_WITHIN;
        let _ = tokio::time::timeout_at(until, join_all(lives.iter().map(|live| live.ended()))).await;
        // What was lost may be known now; whoever asks again wants to know. A look that takes longer goes on all the same.
        let (manager, asking) = (self.clone(), caller.clone());
        let known = told(group, &found);
        let looks = tokio::spawn(async move {
            let looks = found.into_iter().map(|found| manager.look_again(&asking, found));
            let found: Vec<Found> = futures::stream::iter(looks).buffered(LOOKS_AT_ONCE).collect().await;
            told(group, &found)
        });
        Ok(match tokio::time::timeout_at(until, looks).await {
            Ok(Ok(told)) => told,
            Ok(Err(_)) | Err(_) => known,
        })
    }

    /// What a stop of this run or group has come to, without stopping anything.
    pub async fn stopped(&self, text: &str) -> Result<Cancelled, Fault> {
        let (group, found) = self.named_to_stop(text).await?;
        Ok(told(group, &found))
    }

    async fn named_to_stop(&self, text: &str) -> Result<(Option<GroupId>, Vec<Found>), Fault> {
        match text.parse::<GroupId>() {
            Ok(group) => Ok((Some(group), self.members(group).await?)),
            Err(_) => Ok((None, vec![self.find(text).await?])),
        }
    }
}

fn told(group: Option<GroupId>, found: &[Found]) -> Cancelled {
    let mut views = found.iter().map(Found::view);
    let nothing = Cancelled { run_id: None, status: None, receipt: None, group_id: group, runs: Vec::new(), shortened: false };
    match (group, views.next()) {
        (None, Some(view)) => {
            Cancelled { run_id: Some(view.row.id), status: Some(status_of(&view.row.status)), receipt: view.outline.receipt, ..nothing }
        }
        (_, first) => shortened(Cancelled { runs: first.into_iter().chain(views).map(stopped).collect(), ..nothing }),
    }
}

fn stopped(view: View) -> Stopped {
    Stopped { run_id: view.row.id, target: view.row.target, status: status_of(&view.row.status), receipt: view.outline.receipt }
}

/// The receipts of many runs, without what is only of interest for one.
fn shortened(mut cancelled: Cancelled) -> Cancelled {
    if size(&cancelled) <= LONG {
        return cancelled;
    }
    for Receipt { rungs, killed, .. } in cancelled.runs.iter_mut().filter_map(|run| run.receipt.as_mut()) {
        rungs.clear();
        killed.clear();
    }
    Cancelled { shortened: true, ..cancelled }
}

fn size(answer: &impl Serialize) -> usize {
    serde_json::to_string(answer).map_or(0, |text| text.len())
}

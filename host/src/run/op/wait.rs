//! `wait_runs`: one call instead of many polls.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::get::{cut, cut_question, status_of};
use crate::fault::{Fault, code};
use crate::id::{GroupId, RunId};
use crate::run::live::View;
use crate::run::manager::{Found, Manager};
use crate::run::request::{WaitFor, WaitRequest};
use crate::run::view::{WaitPage, Waited};

/// Runs that one call may wait for.
const MAX_RUNS: usize = 100;
/// How long a call waits when the caller does not say.
const WAIT: Duration = Duration::from_secs(25);
/// All results of a page together, so that many runs stay readable.
const RESULT_CHARS: usize = 6_000;

impl Manager {
    /// `wait_runs`
    pub async fn wait(&self, request: WaitRequest) -> Result<WaitPage, Fault> {
        let until = Instant::now() + request.wait_ms.map_or(WAIT, Duration::from_millis);
        let runs = self.named(&request.run_ids).await?;
        let wanted = match request.mode {
            WaitFor::Any => 1,
            WaitFor::All => runs.len(),
        };
        let mut waiting: FuturesUnordered<_> = runs.iter().map(ready).collect();
        let mut done = 0;
        while done < wanted {
            match tokio::time::timeout_at(until, waiting.next()).await {
                Ok(Some(())) => done += 1,
                Ok(None) | Err(_) => break,
            }
        }
        drop(waiting);
        let share = (RESULT_CHARS / runs.len().max(1)).max(200);
        let mut page = Vec::with_capacity(runs.len());
        for run in runs {
            // A run may have been retired while we waited: the ledger knows it then.
            page.push(waited(self.found(run.id()).await?.view(), share));
        }
        let count = page.iter().filter(|run| run.ready).count();
        Ok(WaitPage { ready: count >= wanted, runs: page })
    }

    /// The runs that these ids, names and groups mean.
    async fn named(&self, texts: &[String]) -> Result<Vec<Found>, Fault> {
        if texts.is_empty() {
            return Err(Fault::new(code::INVALID_ARGUMENT, "`run_ids` is empty").hint("give 1 to 100 run ids, session names or group ids"));
        }
        let mut runs: Vec<Found> = Vec::new();
        let mut seen: Vec<RunId> = Vec::new();
        for text in texts {
            let found = match text.parse::<GroupId>() {
                Err(_) => vec![self.find(text).await?],
                Ok(group) => self.members(group).await?,
            };
            for run in found {
                if !seen.contains(&run.id()) {
                    seen.push(run.id());
                    runs.push(run);
                }
            }
        }
        if runs.len() > MAX_RUNS {
            return Err(Fault::new(code::INVALID_ARGUMENT, format!("{} runs are too many to wait for; at most {MAX_RUNS}", runs.len())));
        }
        Ok(runs)
    }
}

/// Ends when the run has ended or needs an answer.
async fn ready(run: &Found) {
    if let Found::Live(live) = run {
        let _ = live.follow().wait_for(|progress| progress.ended || progress.status.needs_answer()).await;
    }
}

fn waited(view: View, share: usize) -> Waited {
    let View { row, mut outline, .. } = view;
    let status = status_of(&row.status);
    Waited {
        run_id: row.id,
        target: row.target,
        status,
        ready: status.is_terminal() || status.needs_answer(),
        last_seq: row.last_seq,
        summary: row.summary,
        open_questions: u32::try_from(outline.questions.len()).unwrap_or(u32::MAX),
        question: outline.questions.drain(..).next().map(|question| cut_question(question, share)),
        result: outline.result.map(|result| cut(result, share)),
        error: outline.error,
    }
}

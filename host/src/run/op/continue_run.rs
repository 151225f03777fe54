//! `continue_run`: answers a question, steers a live run, or carries an ended one on.

use std::time::Duration;

use camino::Utf8PathBuf;

use super::get::{cut, status_of};
use super::spawn::detached;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::ledger::RunRow;
use crate::run::live::Control;
use crate::run::manager::{Caller, Found, Manager};
use crate::run::request::{ContinueRequest, SpawnRequest};
use crate::run::status::Status;
use crate::run::view::{ContinueAction, Continued};

/// What a result may have in an answer that waited for it.
const RESULT_TEXT: usize = 6 * 1024;

impl Manager {
    /// `continue_run`
    pub async fn continue_run(&self, caller: &Caller, request: ContinueRequest) -> Result<Continued, Fault> {
        let wait = request.wait_ms;
        let (run, action) = match (request.message.clone(), request.answer.clone()) {
            (Some(_), Some(_)) => {
                return Err(Fault::new(code::CONFLICTING_FIELDS, "`message` and `answer` were both given").hint("give one of them"));
            }
            (None, None) => {
                return Err(Fault::new(code::CONFLICTING_FIELDS, "neither `message` nor `answer` was given")
                    .hint("give `answer` for an open question, else `message`"));
            }
            (None, Some(answer)) => match self.find(&request.run_id).await? {
                Found::Live(live) => {
                    live.say(|reply| Control::Answer(Box::new(answer), reply)).await?;
                    (live.id, ContinueAction::Answered)
                }
                Found::Ended(row) => {
                    return Err(Fault::new(code::UNKNOWN_QUESTION, format!("run {} has ended; it has no open question", row.id))
                        .hint("carry it on with `message`"));
                }
            },
            (Some(message), None) => match self.find(&request.run_id).await? {
                Found::Live(live) => {
                    self.may_steer(&live.with_view(|view| view.row.backend.clone()), live.id, live.progress().status).await?;
                    live.say(|reply| Control::Steer(message, request.timing.unwrap_or_default(), reply)).await?;
                    (live.id, ContinueAction::Steered)
                }
                Found::Ended(row) => (self.carry_on(caller, *row, message, request.request_key).await?, ContinueAction::Continued),
            },
        };
        if let (Some(live), Some(ms)) = (self.find_live(run), wait.filter(|ms| *ms > 0)) {
            let _ = tokio::time::timeout(Duration::from_millis(ms), live.ended()).await;
        }
        let view = self.find(&run.to_string()).await?.view();
        Ok(Continued {
            run_id: run,
            session_id: view.row.session,
            action,
            status: status_of(&view.row.status),
            result: view.outline.result.map(|result| cut(result, RESULT_TEXT)),
            error: view.outline.error,
        })
    }

    async fn may_steer(&self, backend: &str, run: RunId, status: Status) -> Result<(), Fault> {
        let backend = self.inner.registry.get(backend).await?;
        let able = backend.description.as_ref().is_some_and(|description| description.abilities.contains(wit::Abilities::STEER));
        let can = able && matches!(status, Status::Running | Status::InputRequired | Status::AuthRequired);
        if can {
            return Ok(());
        }
        let why = if able {
            format!("run {run} is {}", status.word())
        } else {
            format!("backend `{}` takes no message while it runs", backend.name)
        };
        Err(Fault::new(code::UNSUPPORTED, why).hint("wait for the end of the run (wait_runs), then continue it; or stop it (cancel_run)"))
    }

    /// A new run of the same session, its request kept but for the message.
    async fn carry_on(&self, caller: &Caller, row: RunRow, message: String, request_key: Option<String>) -> Result<RunId, Fault> {
        let session = self.session(row.session);
        if session.as_ref().and_then(|session| session.native_id.as_ref()).is_none() {
            return Err(Fault::new(code::NOT_CONTINUABLE, format!("run {} has no conversation that could be carried on", row.id))
                .hint("start a new run with spawn_run"));
        }
        let mut request: SpawnRequest =
            serde_json::from_str(&row.request).map_err(|error| Fault::new(code::INTERNAL, error.to_string()))?;
        request.prompt = Some(message);
        request.message = None;
        request.session_id = Some(row.session.to_string());
        request.name = None;
        request.request_key = request_key;
        request.cwd.clone_from(&row.cwd);
        let prior = row.cwd.map(Utf8PathBuf::from);
        let (manager, caller) = (self.clone(), caller.clone());
        let (run, _) = detached(async move { manager.begin(&caller, request, prior.as_deref()).await }).await?;
        Ok(run)
    }
}

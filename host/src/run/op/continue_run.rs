//! `continue_run`: answers a question, steers a live run, carries an ended one on, or forks its session.

use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Serialize;

use super::get::{cut, status_of};
use super::message::{MAX_JSON, MAX_TEXT, Parts, Taker, bounded, json_size};
use super::spawn::{Outcome, detached};
use crate::clock::Millis;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::ledger::{KeyRow, Op, RunRow};
use crate::run::live::{Control, Live, Steering};
use crate::run::manager::{Caller, Found, Manager};
use crate::run::request::{Answer, ContinueRequest, Message, MessagePart, PartKind, SpawnRequest, Timing};
use crate::run::status::Status;
use crate::run::translate::hash;
use crate::run::view::{ContinueAction, Continued};

/// What a result may have in an answer that waited for it.
const RESULT_TEXT: usize = 6 * 1024;

/// What a caller wants of a run.
enum Wish {
    Answer(Answer),
    Say { message: Message, fork: bool },
}

impl Wish {
    fn of(request: &ContinueRequest) -> Result<Self, Fault> {
        let conflict = |what: &str, hint: &str| Err(Fault::new(code::CONFLICTING_FIELDS, what.to_owned()).hint(hint));
        let fork = request.fork.unwrap_or(false);
        let message = match (&request.message, &request.parts) {
            (Some(_), Some(_)) => {
                return conflict("`message` and `parts` were both given", "give one: `message` for text, `parts` for several parts");
            }
            (Some(text), None) => Some(Message::text(text)),
            (None, Some(parts)) if parts.is_empty() => return Err(Fault::new(code::INVALID_ARGUMENT, "`parts` is empty")),
            (None, Some(parts)) => Some(Message { parts: parts.clone() }),
            (None, None) => None,
        };
        match (message, request.answer.clone()) {
            (Some(_), Some(_)) => conflict("a message and `answer` were both given", "give one of them"),
            (None, None) => {
                conflict("neither a message nor `answer` was given", "give `answer` for an open question, else `message` or `parts`")
            }
            (None, Some(_)) if fork => conflict("`answer` and `fork` were both given", "a question is answered where it was asked"),
            (None, Some(answer)) => Ok(Self::Answer(answer)),
            (Some(message), None) => Ok(Self::Say { message, fork }),
        }
    }
}

impl Manager {
    /// `continue_run`
    pub async fn continue_run(&self, caller: &Caller, request: ContinueRequest) -> Result<Continued, Fault> {
        let wait = request.wait_ms;
        let wish = Wish::of(&request)?;
        let found = self.find(&request.run_id).await?;
        let (manager, key) = (self.clone(), request.request_key);
        let (run, action) = match (wish, found) {
            // A caller that goes away meanwhile takes nothing back: what was said is said, and its key is kept.
            (Wish::Answer(answer), found) => {
                (detached(async move { manager.answer(found, answer, key).await }).await?, ContinueAction::Answered)
            }
            (Wish::Say { message, fork: true }, found) => {
                (self.carry_on(caller, found.view().row, message, true, key).await?, ContinueAction::Forked)
            }
            // Its end may be published a moment before it is forgotten.
            (Wish::Say { message, .. }, Found::Live(live)) if !live.progress().ended => {
                let timing = request.timing.unwrap_or_default();
                detached(async move { manager.steer(&live, message, timing, key).await }).await?
            }
            (Wish::Say { message, .. }, found) => match self.steered_before(found.id(), &message, key.as_deref())? {
                Some(before) => before,
                None => (self.carry_on(caller, found.view().row, message, false, key).await?, ContinueAction::Continued),
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

    async fn answer(&self, found: Found, answer: Answer, key: Option<String>) -> Result<RunId, Fault> {
        let (run, question) = (found.id(), answer.question_id.clone());
        bounded("`answer.text`", answer.text.as_ref().map_or(0, String::len), MAX_TEXT)?;
        bounded("`answer.data`", answer.data.as_ref().map_or(0, json_size), MAX_JSON)?;
        let key = key.map(|key| (format!("answer:{key}"), said(run, &answer)));
        let live = match found {
            Found::Live(live) => Some(live),
            Found::Ended(_) => None,
        };
        // One retry after the other: the second finds what the first has left.
        let _turn = match (&live, &key) {
            (Some(live), Some(_)) => Some(live.saying().await),
            _ => None,
        };
        if let Some((key, arguments)) = &key
            && let Some(run) = self.known(key, arguments)?
        {
            return Ok(run);
        }
        let Some(live) = &live else { return Err(self.why_not(run, &question, None)) };
        match live.say(|reply| Control::Answer(Box::new(answer), reply)).await {
            Ok(_) => self.keep(run, key).await,
            Err(fault) => return Err(self.why_not(run, &question, Some(fault))),
        }
        Ok(run)
    }

    /// What a retry of a message to a run did the first time, if it steered it.
    fn steered_before(&self, run: RunId, message: &Message, key: Option<&str>) -> Result<Option<(RunId, ContinueAction)>, Fault> {
        let Some(key) = key else { return Ok(None) };
        Ok(self.known(&steer_key(key), &said(run, message))?.map(|run| (run, ContinueAction::Steered)))
    }

    /// What a retry of a message to this live run did the first time: it steered it, or it began it (a name means the newest run).
    fn said_before(&self, live: &Live, message: &Message, key: Option<&str>) -> Result<Option<(RunId, ContinueAction)>, Fault> {
        let Some(key) = key else { return Ok(None) };
        if let Some(before) = self.steered_before(live.id, message, Some(key))? {
            return Ok(Some(before));
        }
        let began = carried(&live.view().row, message.clone(), false, Some(key.to_owned()))?;
        Ok(self.repeated(&began)?.map(|run| (run, ContinueAction::Continued)))
    }

    /// Says something to a live run, and waits for what its backend says to it. A retry, also one that comes meanwhile, says nothing.
    async fn steer(&self, live: &Live, message: Message, timing: Timing, key: Option<String>) -> Result<(RunId, ContinueAction), Fault> {
        let _turn = match &key {
            Some(_) => Some(live.saying().await),
            None => None,
        };
        if let Some(before) = self.said_before(live, &message, key.as_deref())? {
            return Ok(before);
        }
        let key = key.map(|key| (steer_key(&key), said(live.id, &message)));
        let (backend, cwd) = live.with_view(|view| (view.row.backend.clone(), view.row.cwd.clone()));
        let abilities = self.may_steer(&backend, live.id, live.progress().status).await?;
        // Where the run works, it may be given files; a client that stands elsewhere opens nothing to it.
        let client = cwd.map(Utf8PathBuf::from);
        let taker = Taker { backend, abilities, policy: self.policy().clone(), client, artifacts: self.inner.artifacts.clone() };
        let Parts { parts, inputs } = taker.take(message).await?;
        live.say(|reply| Control::Steer(Box::new(Steering { parts, inputs, timing }), reply)).await?;
        self.keep(live.id, key).await;
        Ok((live.id, ContinueAction::Steered))
    }

    /// Keeps the key of what was said to a run, with what stands for its arguments.
    async fn keep(&self, run: RunId, key: Option<(String, String)>) {
        let Some((key, arguments)) = key else { return };
        let outcome = serde_json::to_string(&Outcome { run }).unwrap_or_default();
        let row = KeyRow { key, arguments, outcome, created_at: Millis::now() };
        // What was said is said, also where that cannot be noted.
        if let Err(error) = self.inner.ledger.commit(None, vec![Op::PutKey(row)]).await {
            tracing::warn!(%run, %error, "a request key could not be kept");
        }
    }

    async fn may_steer(&self, backend: &str, run: RunId, status: Status) -> Result<wit::Abilities, Fault> {
        let backend = self.inner.registry.get(backend).await?;
        let abilities = backend.description.as_ref().map_or_else(wit::Abilities::empty, |description| description.abilities);
        let able = abilities.contains(wit::Abilities::STEER);
        if able && matches!(status, Status::Starting | Status::Running | Status::InputRequired | Status::AuthRequired) {
            return Ok(abilities);
        }
        let why = if able {
            format!("run {run} is {}", status.word())
        } else {
            format!("backend `{}` takes no message while it runs", backend.name)
        };
        Err(Fault::new(code::UNSUPPORTED, why).hint(
            "wait for the end of the run (wait_runs), then continue it; or stop it (cancel_run); or give `fork` for a session of its own",
        ))
    }

    /// A new run of the same session, or of a fork of it, its request kept but for the message.
    async fn carry_on(
        &self,
        caller: &Caller,
        row: RunRow,
        message: Message,
        fork: bool,
        request_key: Option<String>,
    ) -> Result<RunId, Fault> {
        let session = self.session(row.session);
        if session.as_ref().and_then(|session| session.native_id.as_ref()).is_none() {
            return Err(Fault::new(code::NOT_CONTINUABLE, format!("run {} has no conversation that could be carried on", row.id))
                .hint("start a new run with spawn_run"));
        }
        let request = carried(&row, message, fork, request_key)?;
        let prior = row.cwd.map(Utf8PathBuf::from);
        let (manager, caller) = (self.clone(), caller.clone());
        let (run, _) = detached(async move { manager.begin(&caller, request, prior.as_deref()).await }).await?;
        Ok(run)
    }
}

/// The request of a run that carries this one on.
fn carried(row: &RunRow, message: Message, fork: bool, request_key: Option<String>) -> Result<SpawnRequest, Fault> {
    let mut request: SpawnRequest = serde_json::from_str(&row.request).map_err(|error| Fault::new(code::INTERNAL, error.to_string()))?;
    // A text alone is kept as one, so that what is kept reads as it was said.
    (request.prompt, request.message) = match message.parts.as_slice() {
        [MessagePart { kind: PartKind::Text, text: Some(text), .. }] => (Some(text.clone()), None),
        _ => (None, Some(message)),
    };
    request.session_id = Some(row.session.to_string());
    request.fork = fork.then_some(true);
    request.name = None;
    request.request_key = request_key;
    if row.target.is_none() {
        request.cwd.clone_from(&row.cwd);
    }
    Ok(request)
}

fn steer_key(key: &str) -> String {
    format!("steer:{key}")
}

/// What stands for a message or an answer to a run, to know it again.
fn said(run: RunId, what: &impl Serialize) -> String {
    hash(&format!("{run}{}", serde_json::to_string(what).unwrap_or_default()))
}

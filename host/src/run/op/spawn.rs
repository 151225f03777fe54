//! `spawn_run`: judges a request, makes it durable, and gives it to a supervisor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::gate::Gate;
use super::get::{cut, without_bytes};
use super::group::{here_only, lone};
use super::message::{Taker, message_of};
use super::resume::files_of;
use super::session::name_taken;
use crate::backend::{Backend, Schema, State};
use crate::capability::{ClientEnv, FarEnd, RunLog};
use crate::clock::Millis;
use crate::config::Limits;
use crate::contract::falconer::backend::types as wit;
use crate::far::Remote;
use crate::fault::{Fault, code};
use crate::id::{RunId, SessionId};
use crate::ledger::{DecisionRow, EventRow, KeyRow, LedgerError, Op, RunRow, RunUpdate, SessionRow};
use crate::policy::Place;
use crate::policy::command::Permitted;
use crate::policy::inventory::{Selected, Selection};
use crate::run::assignment::{Assignment, Permits, Turn};
use crate::run::decision::Matter;
use crate::run::event::EventType;
use crate::run::limits::{HeldBy, asked, can_be_held, shown};
use crate::run::live::{Control, Live, Outline, StopWish};
use crate::run::manager::{Caller, Manager};
use crate::run::places::Want;
use crate::run::planned::OnlyPlanned;
use crate::run::receipt::Cause;
use crate::run::record::ledger_fault;
use crate::run::request::SpawnRequest;
use crate::run::revive::Resumed;
use crate::run::status::Status;
use crate::run::supervisor::supervise;
use crate::run::translate::hash;
use crate::run::view::Spawned;

/// What a result may have in an answer that waited for it.
const RESULT_TEXT: usize = 6 * 1024;
/// A caller's metadata.
const MAX_METADATA: usize = 16 * 1024;

/// A request that was judged.
pub(super) struct Accepted {
    pub(super) request: SpawnRequest,
    pub(super) backend: Arc<Backend>,
    pub(super) session: SessionRow,
    pub(super) job: wit::Job,
    pub(super) inputs: BTreeMap<String, Utf8PathBuf>,
    pub(super) limits: Limits,
    /// Who set them, where that was no limit of the backend.
    pub(super) held_by: HeldBy,
    /// The commands that it may execute at its target.
    pub(super) far: Permitted,
    /// What was allowed; to be written with the run.
    pub(super) decisions: Vec<DecisionRow>,
    pub(super) matter: Matter,
    pub(super) output_schema: Option<Value>,
    pub(super) workspaces: Vec<Utf8PathBuf>,
    pub(super) parent: Option<Arc<Live>>,
    pub(super) resumed: Option<Resumed>,
}

/// What a request key led to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) run: RunId,
}

impl Manager {
    /// `spawn_run`. The run is durable when this answers; a caller that goes away meanwhile leaves it running.
    pub async fn spawn(&self, caller: &Caller, request: SpawnRequest) -> Result<Spawned, Fault> {
        let wait = request.wait_ms;
        let (manager, caller) = (self.clone(), caller.clone());
        let (run, repeated) = detached(async move {
            if request.is_group() { manager.begin_group(&caller, request).await } else { manager.begin(&caller, request, None).await }
        })
        .await?;
        self.spawned(run, repeated, wait).await
    }

    /// Waits as long as the caller wants, and tells what there is.
    pub(super) async fn spawned(&self, run: RunId, repeated: bool, wait_ms: Option<u64>) -> Result<Spawned, Fault> {
        if let (Some(live), Some(ms)) = (self.find_live(run), wait_ms.filter(|ms| *ms > 0)) {
            let _ = tokio::time::timeout(Duration::from_millis(ms), live.ended()).await;
        }
        let view = self.found(run).await?.view();
        if let Some(group) = view.row.group {
            return self.spawned_group(group, repeated).await;
        }
        Ok(Spawned {
            run_id: Some(run),
            session_id: Some(view.row.session),
            status: Some(super::get::status_of(&view.row.status)),
            group_id: None,
            run_ids: vec![run],
            runs: Vec::new(),
            repeated,
            result: view.outline.result.map(|result| cut(result, RESULT_TEXT)),
            error: view.outline.error,
        })
    }

    /// Judges, writes and starts. `prior_cwd` is the working directory of the run that this one carries on: what was
    /// granted to the session stays granted.
    pub(super) async fn begin(
        &self,
        caller: &Caller,
        mut request: SpawnRequest,
        prior_cwd: Option<&Utf8Path>,
    ) -> Result<(RunId, bool), Fault> {
        request.wait_ms = None;
        if self.is_closing() {
            return Err(Fault::new(code::SHUTTING_DOWN, "the host is ending and takes no new work").retryable());
        }
        // A fork only reads what the session has written; it needs no line and no proof.
        if !request.fork.unwrap_or(false)
            && let Some(session) = request.session_id.as_deref().and_then(|text| text.parse().ok())
        {
            self.reopen(session).await?;
        }
        let key = request.request_key.as_ref().map(|key| format!("spawn:{key}"));
        let arguments = hash(&serde_json::to_string(&request).unwrap_or_default());
        if let Some(run) = self.repeated(&request)? {
            return Ok((run, true));
        }
        lone(&request)?;
        self.room_for(1)?;
        // The same call may come twice at once: the other one may have been first, and that is no error.
        let known = |fault: Fault| match key.as_deref().map(|key| self.known(key, &arguments)) {
            Some(Ok(Some(run))) => Ok((run, true)),
            _ => Err(fault),
        };
        let accepted = match self.accept(caller, request, prior_cwd).await {
            Ok(accepted) => accepted,
            Err(fault) => return known(fault),
        };
        let row = self.row_of(&accepted);
        let forked_from = accepted.job.session.as_ref().filter(|prior| prior.fork).map(|prior| prior.id.as_str());
        let mut ops = ops_of(&accepted.session, &row, forked_from, key.as_deref(), &arguments);
        ops.push(Op::PutDecisions(accepted.decisions.clone()));
        ops.extend(files_of(&accepted.job, row.id));
        // In the list before it is on disk: whoever finds its row finds it alive.
        let run = row.id;
        let (live, ear) = Live::new(row);
        self.enlist(&live);
        if let Err(error) = self.inner.ledger.commit(Some(run), ops).await {
            self.strike(run);
            return known(match error {
                LedgerError::NameTaken(name) => name_taken(&name),
                error => ledger_fault(&error),
            });
        }
        live.publish(|view| view.row.last_seq = 1);
        self.launch(caller, accepted, live, ear, None).await;
        Ok((run, false))
    }

    /// The run that this very request led to before, if it has a key that is known.
    pub(super) fn repeated(&self, request: &SpawnRequest) -> Result<Option<RunId>, Fault> {
        let Some(key) = &request.request_key else { return Ok(None) };
        self.known(&format!("spawn:{key}"), &hash(&serde_json::to_string(request).unwrap_or_default()))
    }

    /// The run that a request key led to, if it is known.
    pub(super) fn known(&self, key: &str, arguments: &str) -> Result<Option<RunId>, Fault> {
        let Some(row) = self.inner.ledger.key(key).map_err(|error| ledger_fault(&error))? else { return Ok(None) };
        if row.arguments != arguments {
            return Err(Fault::new(code::REQUEST_KEY_CONFLICT, "the request key was used with other arguments")
                .hint("use a new key for a new request, and the same arguments for a retry"));
        }
        let outcome: Outcome = serde_json::from_str(&row.outcome).map_err(|error| Fault::new(code::INTERNAL, error.to_string()))?;
        Ok(Some(outcome.run))
    }

    /// Judges all of a request but what its backend would do.
    pub(super) async fn prepare(&self, caller: &Caller, request: SpawnRequest, prior_cwd: Option<&Utf8Path>) -> Result<Accepted, Fault> {
        let policy = self.policy();
        let backend = self.usable(&request.backend).await?;
        let abilities = backend.description.as_ref().map_or_else(wit::Abilities::empty, |description| description.abilities);
        let parent = self.parent(caller)?;
        let target = self.target(&request, &backend)?;
        let able = |flag, what: &str| {
            if abilities.contains(flag) {
                Ok(())
            } else {
                Err(Fault::new(code::UNSUPPORTED, format!("backend `{}` cannot {what}", backend.name)))
            }
        };
        let output_schema = request.output_schema.clone().map(Value::Object);
        if let Some(schema) = &output_schema {
            Schema::compile(schema)
                .map_err(|why| Fault::new(code::INVALID_ARGUMENT, format!("`output_schema` is no JSON Schema 2020-12: {why}")))?;
            able(wit::Abilities::STRUCTURED_OUTPUT, "give structured output")?;
        }
        if request.metadata.as_ref().is_some_and(|map| serde_json::to_string(map).is_ok_and(|text| text.len() > MAX_METADATA)) {
            return Err(Fault::new(code::INVALID_ARGUMENT, format!("`metadata` is larger than {MAX_METADATA} bytes")));
        }
        let instructions = self.instructions(&request)?;
        // Inside a run the client's own directory counts for nothing: the parent's is the ceiling.
        let parent_cwd = parent.as_ref().and_then(|parent| parent.with_view(|view| view.row.cwd.clone())).map(Utf8PathBuf::from);
        let prior_cwd = prior_cwd.map(Utf8Path::to_owned).or_else(|| self.cwd_of_session(&request));
        let client = match (&parent, prior_cwd) {
            (Some(_), _) => parent_cwd,
            (None, Some(prior)) => Some(prior),
            (None, None) => caller.cwd.clone(),
        };
        let cwd = policy.cwd(&backend.name, request.cwd.as_deref(), client.as_deref())?;
        let here = !abilities.contains(wit::Abilities::TARGETS);
        if here && cwd.is_none() && !policy.grant(&backend.name).programs.is_empty() {
            return Err(Fault::new(code::CWD_REQUIRED, "the run needs a working directory, and the client's own cannot be one")
                .hint("give `cwd`: an absolute directory inside a granted workspace"));
        }
        let has_its_own = |schema: &Value| schema.pointer("/properties/cwd").is_some();
        if !here && request.cwd.is_some() && backend.description.as_ref().is_some_and(|known| has_its_own(&known.config_schema)) {
            let message = format!("`cwd` is a directory of this machine, and `{}` works at a target", backend.name);
            return Err(Fault::new(code::INVALID_ARGUMENT, message).hint("give the directory there as `config.cwd`"));
        }
        let mut config = policy.config_of_run(&backend.name, request.config.as_ref())?;
        backend.check_config(&config, request.config.as_ref())?;
        backend.replace_directories(&mut config, &mut |pointer, text| {
            policy.directory(&backend.name, &Place::of_config(pointer), text, client.as_deref()).map(Utf8PathBuf::into_string)
        })?;
        let limits = policy.limits(&backend.name, &asked(&request))?;
        can_be_held(&self.inner.ground, &backend.name, &limits.tree).await?;
        let (session, prior) = self.session_for(&request, &backend)?;
        match &prior {
            Some(prior) if prior.fork => able(wit::Abilities::FORK_SESSION, "fork a session")?,
            Some(_) => able(wit::Abilities::RESUME, "continue a session")?,
            None => {}
        }
        let message = message_of(request.prompt.as_deref(), request.message.as_ref())?;
        let taker = Taker {
            backend: backend.name.clone(),
            abilities,
            policy: policy.clone(),
            client: client.clone(),
            artifacts: self.inner.artifacts.clone(),
        };
        let parts = taker.take(message).await?;
        let ask_ms = u32::try_from(policy.config().stop.ask.as_millis()).unwrap_or(u32::MAX);
        let run = RunId::random();
        let matter = Matter::of(caller, &backend.name, target.as_ref().map(|target| target.name.as_str()));
        let matter = Matter { run: Some(run), ..matter };
        let job = wit::Job {
            run_id: run.to_string(),
            life: 1,
            message: parts.parts,
            instructions,
            cwd: cwd.as_ref().map(ToString::to_string),
            session: prior,
            target,
            output_schema: output_schema.as_ref().map(ToString::to_string),
            config: config.to_string(),
            limits: wit::Limits {
                wall_ms: u64::try_from(limits.wall.as_millis()).ok(),
                idle_ms: limits.idle.and_then(|idle| u64::try_from(idle.as_millis()).ok()),
                ask_ms,
                output_bytes: limits.output,
            },
            checkpoint: None,
            only_end: false,
        };
        let workspaces = client.into_iter().collect();
        Ok(Accepted {
            request,
            backend,
            session,
            job,
            inputs: parts.inputs,
            limits,
            held_by: HeldBy::default(),
            far: Permitted::default(),
            decisions: Vec::new(),
            matter,
            output_schema,
            workspaces,
            parent,
            resumed: None,
        })
    }

    /// Where the run is to work, if its backend works at targets.
    fn target(&self, request: &SpawnRequest, backend: &Backend) -> Result<Option<wit::Target>, Fault> {
        let abilities = backend.description.as_ref().map_or_else(wit::Abilities::empty, |description| description.abilities);
        let asked =
            Selection { target: request.target.as_deref(), targets: request.targets.as_deref(), tag: request.target_tag.as_deref() };
        if !abilities.contains(wit::Abilities::TARGETS) {
            return if asked == Selection::default() { Ok(None) } else { Err(here_only(&backend.name)) };
        }
        let inventory = self.policy().inventory();
        let target = match inventory.select(&asked)? {
            Selected::One(target) => target,
            // Several are taken one by one (`begin_group`).
            Selected::Many(_) | Selected::Nothing => {
                return Err(Fault::new(code::INVALID_ARGUMENT, format!("backend `{}` needs a target", backend.name))
                    .hint("give `target`; list_targets shows the names"));
            }
        };
        // Whether it can be reached at all is said now.
        inventory.way(&target.name)?;
        Ok(Some(wit::Target { name: target.name.clone(), tags: target.tags.clone(), settings: "{}".into() }))
    }

    pub(super) async fn usable(&self, name: &str) -> Result<Arc<Backend>, Fault> {
        let backend = self.inner.registry.get(name).await?;
        match &backend.state {
            State::Ready => Ok(backend),
            State::Failed(fault) => Err(fault.clone()),
            State::Disabled => Err(Fault::new(code::BACKEND_UNAVAILABLE, format!("backend `{name}` is turned off"))
                .hint(format!("a person can set `enabled = true` under `[backends.{name}]` in the configuration"))),
        }
    }

    /// The run in whose tree the caller lives; children are not nested for ever.
    fn parent(&self, caller: &Caller) -> Result<Option<Arc<Live>>, Fault> {
        let Some(id) = caller.parent else { return Ok(None) };
        let parent = self.find_live(id).ok_or_else(|| {
            Fault::new(code::UNKNOWN_RUN, format!("run {id}, from which this call comes, has ended")).hint("nothing can be started from it")
        })?;
        if parent.progress().ended || matches!(parent.progress().status, Status::Cancelling) {
            return Err(Fault::new(code::LIMIT_REACHED, format!("run {id}, from which this call comes, is being stopped")));
        }
        let depth = self.policy().config().host.depth;
        if parent.depth + 1 > depth {
            return Err(Fault::new(code::LIMIT_REACHED, format!("runs may be nested {depth} deep"))
                .hint("a person can raise `depth` under `[host]`"));
        }
        Ok(Some(parent))
    }

    fn instructions(&self, request: &SpawnRequest) -> Result<Option<String>, Fault> {
        match (&request.profile, &request.instructions) {
            (Some(_), Some(_)) => {
                Err(Fault::new(code::CONFLICTING_FIELDS, "`profile` and `instructions` were both given").hint("give one of them"))
            }
            (None, text) => Ok(text.clone()),
            (Some(name), None) => {
                let profiles = &self.policy().config().profiles;
                let profile = profiles.get(name).ok_or_else(|| {
                    let names: Vec<_> = profiles.keys().map(String::as_str).collect();
                    Fault::new(code::INVALID_ARGUMENT, format!("no profile is called `{name}`"))
                        .hint(format!("there are: {}", names.join(", ")))
                })?;
                profile.instructions(name).map(Some)
            }
        }
    }

    pub(super) fn row_of(&self, accepted: &Accepted) -> RunRow {
        let request = &accepted.request;
        RunRow {
            id: accepted.job.run_id.parse().unwrap_or_else(|_| RunId::random()),
            session: accepted.session.id,
            group: None,
            parent: accepted.parent.as_ref().map(|parent| parent.id),
            depth: accepted.parent.as_ref().map_or(0, |parent| parent.depth + 1),
            backend: accepted.backend.name.clone(),
            digest: accepted.backend.digest.clone(),
            role: request.role.clone(),
            cwd: accepted.job.cwd.clone(),
            target: accepted.job.target.as_ref().map(|target| target.name.clone()),
            life: 1,
            status: Status::Queued.word().to_owned(),
            created_at: Millis::now(),
            started_at: None,
            ended_at: None,
            last_seq: 0,
            summary: None,
            request: serde_json::to_string(&without_bytes(request)).unwrap_or_else(|_| "{}".into()),
            state: serde_json::to_string(&Outline { limits: Some(shown(&accepted.limits, &accepted.held_by)), ..Outline::default() })
                .unwrap_or_else(|_| "{}".into()),
            metadata: request.metadata.as_ref().and_then(|map| serde_json::to_string(map).ok()),
        }
    }

    /// Gives a durable run to a supervisor. `gate`: that of its group.
    pub(super) async fn launch(
        &self,
        caller: &Caller,
        accepted: Accepted,
        live: Arc<Live>,
        ear: mpsc::UnboundedReceiver<Control>,
        gate: Option<Arc<Gate>>,
    ) {
        let Accepted { backend, session, job, inputs, limits, held_by, far, matter, output_schema, workspaces, parent, resumed, .. } =
            accepted;
        let log = RunLog::open(&self.inner.logs_dir.join(format!("{}.log", live.id)), Vec::new());
        if let Some(parent) = parent
            && !parent.adopt(&live)
        {
            let reason = Some(format!("its parent {} ends", parent.id));
            live.stop(StopWish { by: parent.id.to_string(), cause: Cause::Parent, reason, grace: None });
        }
        if self.is_closing() {
            let reason = Some("the host ends".into());
            self.park(&live, StopWish { by: "host".into(), cause: Cause::Shutdown, reason, grace: None });
        }
        // A child takes no place of the host: its parent, which has one, may be waiting for it. Those of a target it takes.
        let here = (live.depth == 0).then(|| self.wants(&backend.name, limits.runs)).into_iter().flatten();
        let wants = here.chain(held_by.wants()).collect();
        let turn = self.turn(live.id, session.id, wants, gate, resumed.is_some()).await;
        let far = job.target.as_ref().map(|target| -> Arc<dyn FarEnd> {
            let (policy, backend, target) = (self.policy().clone(), backend.name.clone(), target.name.clone());
            let way = Arc::new(Remote::new(live.id, &backend, &target, policy.clone(), log.clone(), job.life > 1));
            Arc::new(OnlyPlanned { policy, backend, target, permitted: far, way })
        });
        let config = self.policy().config();
        let assignment = Assignment {
            ground: self.inner.ground.clone(),
            live: live.clone(),
            ear,
            turn,
            grant: self.policy().grant(&backend.name),
            backend,
            far,
            workspaces,
            client_env: if resumed.is_some() { self.inner.brought.clone() } else { ClientEnv::of(&caller.env) },
            resumed,
            inputs,
            job,
            output_schema,
            session,
            limits,
            held_by,
            matter,
            stop: config.stop.clone(),
            question_time: config.host.question,
            ledger: self.inner.ledger.clone(),
            artifacts: self.inner.artifacts.clone(),
            log,
        };
        let manager = self.clone();
        tokio::spawn(async move {
            // A task of its own: a defect of the host in one run ends that run, and is told as such.
            if let Err(defect) = tokio::spawn(supervise(assignment)).await {
                manager.end_abandoned(&live, &defect).await;
            }
            manager.retire(&live);
        });
    }

    /// What a run waits for. It is polled once here, so that runs stand in line in the order in which they were taken. One that
    /// is taken up again is at work already: it has its places.
    async fn turn(&self, run: RunId, session: SessionId, wants: Vec<Want>, gate: Option<Arc<Gate>>, at_work: bool) -> Turn {
        let line = self.line(session);
        let manager = self.clone();
        let mut turn: Turn = Box::pin(async move {
            let (own, waited) = match Arc::clone(&line).try_lock_owned() {
                Ok(own) => (own, false),
                Err(_) => (line.lock_owned().await, true),
            };
            // First, so that a group keeps no place of others from them while it waits for its own.
            let group = match &gate {
                Some(gate) => gate.place().acquire_owned().await.ok(),
                None => None,
            };
            let held = match at_work {
                true => Some(manager.inner.places.take(run, wants)),
                false => manager.inner.places.ask(run, wants).await,
            };
            // Whoever waited did so for a run that may have ended without a proof.
            if waited {
                manager.reopen(session).await?;
            }
            if let Some(gate) = gate {
                gate.pass().await;
            }
            Ok(Permits { session: Some(own), group, places: held })
        });
        match futures::poll!(turn.as_mut()) {
            std::task::Poll::Ready(permits) => Box::pin(std::future::ready(permits)),
            std::task::Poll::Pending => turn,
        }
    }
}

/// Runs to its end even when the caller goes away.
pub(super) async fn detached<T: Send + 'static>(work: impl Future<Output = Result<T, Fault>> + Send + 'static) -> Result<T, Fault> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Fault::new(code::INTERNAL, format!("a task of the host failed: {error}"))),
    }
}

pub(super) fn ops_of(session: &SessionRow, row: &RunRow, forked_from: Option<&str>, key: Option<&str>, arguments: &str) -> Vec<Op> {
    let first = EventRow {
        run: row.id,
        seq: 1,
        ts: row.created_at,
        kind: EventType::RunStarted.word().to_owned(),
        data: json!({
            "backend": row.backend, "backend_digest": row.digest, "session_id": row.session, "status": row.status,
            "cwd": row.cwd, "target": row.target, "group_id": row.group, "parent_run_id": row.parent, "life": row.life, "forked_from": forked_from,
        })
        .to_string(),
    };
    let update = RunUpdate {
        id: row.id,
        life: row.life,
        status: row.status.clone(),
        started_at: None,
        ended_at: None,
        last_seq: 1,
        summary: None,
        state: None,
    };
    // A session that is known keeps what was learnt of it meanwhile.
    let mut ops = vec![
        Op::PutSession(session.clone()),
        Op::InsertRun(Box::new(row.clone())),
        Op::AppendEvents(vec![first]),
        Op::UpdateRun(Box::new(update)),
    ];
    if let Some(key) = key {
        let outcome = serde_json::to_string(&Outcome { run: row.id }).unwrap_or_default();
        ops.insert(0, Op::PutKey(KeyRow { key: key.to_owned(), arguments: arguments.to_owned(), outcome, created_at: row.created_at }));
    }
    ops
}

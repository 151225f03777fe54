//! All runs of a host: who is alive, whose turn it is, and the operations that callers ask for (one file each in `op`).
//!
//! A live run is looked at in memory, an ended one in the ledger; both say the same. A call whose caller goes away
//! goes on where it changes something, and ends where it only waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use camino::Utf8PathBuf;
use tokio::sync::watch;
use tokio::time::Instant;

use super::live::{Live, Outline, StopWish, View};
use super::places::{Place, Places, Want};
use super::receipt::Cause;
use super::record::ledger_fault;
use super::status::Status;
use crate::backend::Registry;
use crate::capability::ClientEnv;
use crate::fault::{Fault, code};
use crate::id::{GroupId, RunId, SessionId};
use crate::ledger::artifact::Artifacts;
use crate::ledger::{Ledger, RunRow, SessionRow};
use crate::policy::Policy;
use crate::tree::{Ground, Tree};

/// What an orderly end keeps back of its time, so that what does not end by itself is killed.
const KILL_TIME: Duration = Duration::from_millis(1500);

/// Who calls: what the hello of a connection said, checked.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// For people, and for receipts: the client's name and version.
    pub name: String,
    /// Its working directory, where that may be a workspace.
    pub cwd: Option<Utf8PathBuf>,
    /// The values of the environment names that the configuration lists.
    pub env: Arc<BTreeMap<String, String>>,
    /// The run in whose tree the caller lives.
    pub parent: Option<RunId>,
}

/// What runs are made with.
pub struct Parts {
    /// The configuration, resolved.
    pub policy: Policy,
    /// The record.
    pub ledger: Ledger,
    /// Large values.
    pub artifacts: Artifacts,
    /// The backends.
    pub registry: Registry,
    /// Where the runs' logs are kept.
    pub logs_dir: Utf8PathBuf,
    /// What the runs' processes stand on.
    pub ground: Ground,
    /// The data directory is removed at the end: nothing can be left to a next host.
    pub scratch: bool,
}

/// All runs of a host. Cheap to clone.
#[derive(Clone)]
pub struct Manager {
    pub(super) inner: Arc<Inner>,
}

/// What the clones of a manager share.
pub(super) struct Inner {
    pub(super) policy: Policy,
    pub(super) ledger: Ledger,
    pub(super) artifacts: Artifacts,
    pub(super) registry: Registry,
    pub(super) logs_dir: Utf8PathBuf,
    pub(super) ground: Ground,
    scratch: bool,
    /// What the hellos of this host's clients brought, the newest value of each name: for runs of an earlier host.
    pub(super) brought: ClientEnv,
    live: RwLock<HashMap<RunId, Arc<Live>>>,
    /// One lock a session: a run holds it while it is alive, the others wait in line (tokio's lock is fair).
    lines: Mutex<HashMap<SessionId, Weak<tokio::sync::Mutex<()>>>>,
    pub(super) places: Places,
    /// Rings for those who wait for messages.
    pub(super) mail: watch::Sender<u64>,
    closing: watch::Sender<bool>,
    recovered: watch::Sender<bool>,
}

impl Manager {
    /// Takes the parts over; `recover` does the rest beside serving. Must be called inside the serving runtime.
    pub fn new(parts: Parts) -> Result<Self, Fault> {
        let inner = Inner {
            policy: parts.policy,
            ledger: parts.ledger,
            artifacts: parts.artifacts,
            registry: parts.registry,
            logs_dir: parts.logs_dir,
            ground: parts.ground,
            scratch: parts.scratch,
            brought: ClientEnv::default(),
            live: RwLock::default(),
            lines: Mutex::default(),
            places: Places::default(),
            mail: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            recovered: watch::Sender::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The configuration, resolved.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    /// How many runs are alive, those that wait for their turn included.
    #[must_use]
    pub fn live(&self) -> usize {
        self.inner.live.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether the host is ending.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        *self.inner.closing.borrow()
    }

    /// The live run in whose tree this process is, if it is in one: its own `FALCONER_RUN_ID`, or that of an ancestor.
    #[must_use]
    pub fn run_of_process(&self, pid: u32) -> Option<RunId> {
        crate::tree::mark_of(pid).into_iter().find(|run| self.find_live(*run).is_some())
    }

    /// A client came: what it brought serves the runs of an earlier host too. Not what a client inside a run brings.
    pub fn greet(&self, caller: &Caller) {
        if caller.parent.is_none() {
            self.inner.brought.add(&caller.env);
        }
    }

    /// Leaves a run to the next host, where there will be one and the run can go on, and stops it else.
    pub(super) fn park(&self, run: &Live, wish: StopWish) {
        if self.inner.scratch { run.stop(wish) } else { run.park(wish) }
    }

    /// No new work; every run is stopped, or left to the next host; the ledger is closed. Waits at most so long.
    pub async fn shut_down(&self, within: Duration) {
        self.inner.closing.send_replace(true);
        let until = Instant::now() + within;
        // So much of the time is for killing, draining and proving.
        let stop = &self.inner.policy.config().stop;
        let grace = within.saturating_sub(stop.drain + KILL_TIME).min(stop.ask + stop.terminate);
        let runs: Vec<Arc<Live>> = self.inner.live.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for run in &runs {
            let reason = Some("the host ends".to_owned());
            self.park(run, StopWish { by: "host".into(), cause: Cause::Shutdown, reason, grace: Some(grace) });
        }
        let mut late = Vec::new();
        for run in runs {
            if tokio::time::timeout_at(until, run.ended_or_parked()).await.is_err() {
                tracing::warn!(run = %run.id, "a run did not end in time; its processes are killed");
                late.push(run);
            }
        }
        futures::future::join_all(late.iter().filter_map(|run| run.tree()).map(Tree::kill)).await;
        self.inner.ground.close();
        self.inner.ledger.close(until.saturating_duration_since(Instant::now()).max(Duration::from_secs(1))).await;
    }

    pub(super) fn find_live(&self, id: RunId) -> Option<Arc<Live>> {
        self.inner.live.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(super) fn enlist(&self, live: &Arc<Live>) {
        self.inner.live.write().unwrap_or_else(PoisonError::into_inner).insert(live.id, live.clone());
    }

    /// Forgets a run that could not be made durable.
    pub(super) fn strike(&self, run: RunId) {
        self.inner.live.write().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    /// Forgets a run that has ended, unless memory is all that knows it, or it has not ended here.
    pub(super) fn retire(&self, live: &Arc<Live>) {
        if !live.is_parked() && live.with_view(|view| view.durable) {
            self.inner.live.write().unwrap_or_else(PoisonError::into_inner).remove(&live.id);
        }
    }

    /// How many wait for their turn.
    pub(super) fn queued(&self) -> usize {
        let live = self.inner.live.read().unwrap_or_else(PoisonError::into_inner);
        live.values().filter(|run| run.progress().status == Status::Queued).count()
    }

    /// Whether so many more may wait for their turn.
    pub(super) fn room_for(&self, more: usize) -> Result<(), Fault> {
        let (queued, most) = (self.queued(), self.policy().config().host.queued as usize);
        if queued + more <= most {
            return Ok(());
        }
        Err(Fault::new(code::LIMIT_REACHED, format!("{queued} runs wait for their turn already; at most {most} may"))
            .retryable()
            .hint("wait for some of them to end, or raise `queued` under `[host]`"))
    }

    /// The lock of a session.
    pub(super) fn line(&self, session: SessionId) -> Arc<tokio::sync::Mutex<()>> {
        let mut lines = self.inner.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(&session).and_then(Weak::upgrade) {
            return line;
        }
        lines.retain(|_, line| line.strong_count() > 0);
        let line = Arc::new(tokio::sync::Mutex::new(()));
        lines.insert(session, Arc::downgrade(&line));
        line
    }

    /// The places that a run of a backend needs in the host.
    pub(super) fn wants(&self, backend: &str, runs: u32) -> [Want; 2] {
        let host = self.inner.policy.config().host.runs;
        [Want { place: Place::Backend(backend.to_owned()), of: runs }, Want { place: Place::Host, of: host }]
    }

    /// A run and those it was started from, the nearest first.
    pub(super) fn lineage(&self, run: &Live) -> Vec<RunId> {
        let mut line = vec![run.id];
        let mut parent = run.with_view(|view| view.row.parent);
        while let Some(id) = parent {
            line.push(id);
            parent = self.find_live(id).and_then(|live| live.with_view(|view| view.row.parent));
        }
        line
    }

    pub(super) fn mark_recovered(&self) {
        self.inner.recovered.send_replace(true);
    }

    pub(super) async fn recovered(&self) {
        let _ = self.inner.recovered.subscribe().wait_for(|done| *done).await;
    }

    /// Finds a run by id or by the name of its session. A group is none.
    pub(super) async fn find(&self, text: &str) -> Result<Found, Fault> {
        if let Ok(id) = text.parse::<RunId>() {
            return self.found(id).await;
        }
        if let Ok(group) = text.parse::<GroupId>() {
            return Err(self.not_one_run(group).await);
        }
        let session = self.inner.ledger.session_named(text).map_err(|error| ledger_fault(&error))?.ok_or_else(|| unknown(text))?;
        let id = self.newest_run(session.id)?.ok_or_else(|| unknown(text))?;
        self.found(id).await
    }

    /// Finds a run by its id.
    pub(super) async fn found(&self, id: RunId) -> Result<Found, Fault> {
        let unknown = || unknown(&id.to_string());
        if let Some(live) = self.find_live(id) {
            return Ok(Found::Live(live));
        }
        let mut row = self.inner.ledger.run(id).map_err(|error| ledger_fault(&error))?.ok_or_else(unknown)?;
        if Status::from_word(&row.status).is_none_or(|status| !status.is_terminal()) {
            // Its end is being looked for, after a restart; or it ended between the two looks.
            self.recovered().await;
            if let Some(live) = self.find_live(id) {
                return Ok(Found::Live(live));
            }
            row = self.inner.ledger.run(id).map_err(|error| ledger_fault(&error))?.ok_or_else(unknown)?;
            if Status::from_word(&row.status).is_none_or(|status| !status.is_terminal()) {
                // Its end could not be written; nobody drives it, so nothing better can be said.
                row.status = Status::Lost.word().to_owned();
            }
        }
        Ok(Found::Ended(Box::new(row)))
    }

    fn newest_run(&self, session: SessionId) -> Result<Option<RunId>, Fault> {
        Ok(self.inner.ledger.newest_run(session).map_err(|error| ledger_fault(&error))?.map(|row| row.id))
    }

    /// The name of a session.
    pub(super) fn name_of(&self, session: SessionId) -> Option<String> {
        self.session(session).and_then(|row| row.name)
    }

    pub(super) fn session(&self, session: SessionId) -> Option<SessionRow> {
        self.inner.ledger.session(session).ok().flatten()
    }
}

fn unknown(text: &str) -> Fault {
    Fault::new(code::UNKNOWN_RUN, format!("no run or session is called `{}`", super::inert::preview(text, 200)))
        .hint("list_runs shows the runs, list_agents the names")
}

/// A run, wherever it is.
pub(super) enum Found {
    /// In memory.
    Live(Arc<Live>),
    /// In the ledger.
    Ended(Box<RunRow>),
}

impl Found {
    /// Its id.
    pub(super) fn id(&self) -> RunId {
        match self {
            Self::Live(live) => live.id,
            Self::Ended(row) => row.id,
        }
    }

    /// What is known of it.
    pub(super) fn view(&self) -> View {
        match self {
            Self::Live(live) => live.view(),
            Self::Ended(row) => view_of(row.as_ref().clone()),
        }
    }
}

/// What a row says.
pub(super) fn view_of(row: RunRow) -> View {
    let outline: Outline = serde_json::from_str(&row.state).unwrap_or_default();
    View { row, outline, durable: true }
}

//! A run that lives, as the rest of the host sees it: what is committed of it, and a way to speak to its supervisor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::assignment::Permits;
use super::event::Question;
use super::receipt::{Cause, Receipt};
use super::request::{Answer, Timing};
use super::status::{Completion, Status};
use super::timing::Rungs;
use crate::config;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::ledger::RunRow;
use crate::tree::Tree;

/// What a run has besides the columns of its row; kept as JSON in the ledger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outline {
    /// What it gave back, in whole or in part.
    pub result: Option<Completion>,
    /// Why it did not complete.
    pub error: Option<Fault>,
    /// Tokens, turns, cost.
    pub usage: Option<Value>,
    /// Open questions, oldest first.
    pub questions: Vec<Question>,
    /// What its stop did, so far.
    pub receipt: Option<Receipt>,
    /// Its limits, and who set them.
    pub limits: Option<Value>,
    /// While it is being stopped for a fault: which. For whoever takes the stop up after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Fault>,
    /// Of what it told up to this event, no process lives any more: that was proven.
    #[serde(skip_serializing_if = "is_zero")]
    pub proven: u64,
}

/// Up to which event nothing that a run told of lives: that was proven, and its records were taken away.
#[must_use]
pub fn proven_up_to(row: &RunRow) -> u64 {
    serde_json::from_str::<Outline>(&row.state).map_or(0, |outline| outline.proven)
}

fn is_zero(seq: &u64) -> bool {
    *seq == 0
}

/// What is committed of a live run.
#[derive(Debug, Clone)]
pub struct View {
    /// Its row, as it is on disk.
    pub row: RunRow,
    /// The rest of it.
    pub outline: Outline,
    /// False once the ledger could not be written: then this is all there is.
    pub durable: bool,
}

/// How far a run is, for those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is.
    pub status: Status,
    /// The number of its last committed event.
    pub last_seq: u64,
    /// Nothing follows.
    pub ended: bool,
}

/// A wish to stop a run.
#[derive(Debug, Clone, PartialEq)]
pub struct StopWish {
    /// Who asks.
    pub by: String,
    /// Why.
    pub cause: Cause,
    /// In the asker's words.
    pub reason: Option<String>,
    /// Time for asking and terminating together; none: configured.
    pub grace: Option<Duration>,
}

/// What is said to a supervisor.
#[derive(Debug)]
pub enum Control {
    /// Stop. A second wish changes nothing.
    Stop(StopWish),
    /// The host ends: leave the run to the next host if it has a checkpoint, else stop it.
    Park(StopWish),
    /// Answer a question; once. The reply comes when the answer is durable.
    Answer(Box<Answer>, oneshot::Sender<Result<Status, Fault>>),
    /// Say something while it runs. The reply comes when the backend has taken it, or refused to.
    Steer(Box<Steering>, oneshot::Sender<Result<Status, Fault>>),
}

/// A message for a live run.
#[derive(Debug)]
pub struct Steering {
    /// What is said.
    pub parts: Vec<wit::Part>,
    /// Its files, by blob id.
    pub inputs: BTreeMap<String, Utf8PathBuf>,
    /// When it counts.
    pub timing: Timing,
}

/// A live run.
#[derive(Debug)]
pub struct Live {
    /// Its id.
    pub id: RunId,
    /// How deep it is below a run that a client started.
    pub depth: u32,
    /// To its supervisor.
    control: mpsc::UnboundedSender<Control>,
    /// What waits for it.
    progress: watch::Sender<Progress>,
    view: RwLock<View>,
    children: Mutex<Children>,
    /// Its processes, from its turn on, and how long asking and terminating take where nobody says otherwise.
    tree: OnceLock<(Tree, Patience)>,
    /// It was left to the next host: nothing more comes of it here.
    parked: watch::Sender<bool>,
    /// When its processes are to be dead at the latest; none: it is not being stopped.
    doom: watch::Sender<Option<Instant>>,
    /// Held while something is said to it with a request key, so that a retry waits for what the first call leaves.
    saying: tokio::sync::Mutex<()>,
    /// Its session and its places. Here, so that they outlive a supervisor that breaks down.
    permits: Mutex<Permits>,
}

/// Runs that were started from inside a run.
#[derive(Debug, Default)]
struct Children {
    /// The run ends: nothing more is started from it.
    closed: bool,
    runs: Vec<Weak<Live>>,
}

/// How long a run's stop may take.
#[derive(Debug)]
pub(super) struct Patience {
    pub(super) stop: config::Stop,
    pub(super) at_target: bool,
}

impl Live {
    /// A run that was just accepted, and the ear of its supervisor.
    #[must_use]
    pub fn new(row: RunRow) -> (Arc<Self>, mpsc::UnboundedReceiver<Control>) {
        let (control, ear) = mpsc::unbounded_channel();
        let status = Status::from_word(&row.status).unwrap_or(Status::Queued);
        let (progress, _) = watch::channel(Progress { status, last_seq: row.last_seq, ended: status.is_terminal() });
        let live = Self {
            id: row.id,
            depth: row.depth,
            control,
            progress,
            view: RwLock::new(View { outline: serde_json::from_str(&row.state).unwrap_or_default(), row, durable: true }),
            children: Mutex::default(),
            tree: OnceLock::new(),
            parked: watch::Sender::new(false),
            doom: watch::Sender::new(None),
            saying: tokio::sync::Mutex::default(),
            permits: Mutex::default(),
        };
        (Arc::new(live), ear)
    }

    /// What is committed of it.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at what is committed without a copy.
    pub fn with_view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How far it is now.
    #[must_use]
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Follows how far it is.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Publishes what was committed. Only the run's own writer calls this.
    pub(super) fn publish(&self, change: impl FnOnce(&mut View)) {
        let progress = {
            let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
            change(&mut view);
            let status = Status::from_word(&view.row.status).unwrap_or(Status::Lost);
            Progress { status, last_seq: view.row.last_seq, ended: status.is_terminal() }
        };
        self.progress.send_if_modified(|old| std::mem::replace(old, progress) != progress);
    }

    /// Asks its supervisor to stop it. Nothing happens when it has ended.
    pub fn stop(&self, wish: StopWish) {
        self.dooming(&wish);
        let _ = self.control.send(Control::Stop(wish));
    }

    /// Asks its supervisor to leave it to the next host, or, where no other could go on with it, to stop it.
    pub fn park(&self, wish: StopWish) {
        self.dooming(&wish);
        let _ = self.control.send(Control::Park(wish));
    }

    fn dooming(&self, wish: &StopWish) {
        // Before its turn there is nothing to kill.
        if let Some((_, Patience { stop, at_target })) = self.tree.get() {
            self.doom_by(Instant::now() + Rungs::of(stop, *at_target, wish.grace).whole());
        }
    }

    /// It is left to the next host.
    pub(super) fn set_parked(&self) {
        self.parked.send_replace(true);
    }

    /// Whether it was left to the next host.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        *self.parked.borrow()
    }

    /// Its processes are to be dead by then. That may be said again: what is sooner counts.
    pub(super) fn doom_by(&self, at: Instant) {
        self.doom.send_if_modified(|known| {
            let sooner = known.is_none_or(|known| at < known);
            if sooner {
                *known = Some(at);
            }
            sooner
        });
    }

    /// Follows when its processes are to be dead.
    pub(super) fn doom(&self) -> watch::Receiver<Option<Instant>> {
        self.doom.subscribe()
    }

    /// Gives it its processes, once.
    pub(super) fn plant(&self, tree: Tree, patience: Patience) {
        let _ = self.tree.set((tree, patience));
    }

    /// Gives it what it waited for.
    pub(super) fn hold(&self, permits: Permits) {
        *self.permits.lock().unwrap_or_else(PoisonError::into_inner) = permits;
    }

    /// Gives back what it held, so that the next in line can begin.
    pub(super) fn release(&self) {
        self.hold(Permits::default());
    }

    /// Its processes; none: its turn has not come.
    #[must_use]
    pub fn tree(&self) -> Option<&Tree> {
        self.tree.get().map(|(tree, _)| tree)
    }

    /// The turn of those who say something to it with a request key.
    pub async fn saying(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.saying.lock().await
    }

    /// Speaks to its supervisor, and waits for the answer.
    pub async fn say(&self, make: impl FnOnce(oneshot::Sender<Result<Status, Fault>>) -> Control) -> Result<Status, Fault> {
        let (reply, answer) = oneshot::channel();
        let gone = || {
            Fault::new(code::RUN_ENDED, format!("run {} ended before it took that", self.id))
                .retryable()
                .hint("look at it with get_run; the same call again carries it on, where it has a conversation")
        };
        self.control.send(make(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Waits until it has ended.
    pub async fn ended(&self) {
        let _ = self.follow().wait_for(|progress| progress.ended).await;
    }

    /// Waits until it has ended, or was left to the next host.
    pub async fn ended_or_parked(&self) {
        let mut parked = self.parked.subscribe();
        tokio::select! {
            () = self.ended() => {}
            _ = parked.wait_for(|parked| *parked) => {}
        }
    }

    /// Remembers a run that was started from inside this one. False: this one is ending already.
    pub fn adopt(&self, child: &Arc<Live>) -> bool {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.runs.retain(|child| child.strong_count() > 0);
        children.runs.push(Arc::downgrade(child));
        !children.closed
    }

    /// Takes no more runs from inside this one, and gives those that are still alive.
    #[must_use]
    pub fn close_children(&self) -> Vec<Arc<Live>> {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.closed = true;
        children.runs.iter().filter_map(Weak::upgrade).filter(|child| !child.progress().ended).collect()
    }
}

//! What the ledger keeps, as rows. Texts in JSON are written and read by the callers; the ledger looks into none.

use crate::clock::Millis;
use crate::id::{GroupId, MessageId, RunId, SessionId};

/// A run. The columns are what runs are looked up and listed by; `request` and `state` are JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// Its session.
    pub session: SessionId,
    /// The group it was started in.
    pub group: Option<GroupId>,
    /// The run it was started from.
    pub parent: Option<RunId>,
    /// 0 for a run that a client started, its parent's plus one for a child.
    pub depth: u32,
    /// Its backend's name.
    pub backend: String,
    /// SHA-256 of its component, in hex.
    pub digest: String,
    /// Its label.
    pub role: Option<String>,
    /// Its working directory.
    pub cwd: Option<String>,
    /// Where it runs.
    pub target: Option<String>,
    /// Grows each time it is taken up again after a restart; 1 at first.
    pub life: u32,
    /// Its status as a word.
    pub status: String,
    /// When it was accepted.
    pub created_at: Millis,
    /// When its backend was started.
    pub started_at: Option<Millis>,
    /// When it ended.
    pub ended_at: Option<Millis>,
    /// The number of its last event.
    pub last_seq: u64,
    /// The newest thing worth reading.
    pub summary: Option<String>,
    /// The whole request, JSON.
    pub request: String,
    /// The rest of its state (result, error, usage, questions, receipt), JSON.
    pub state: String,
    /// The caller's metadata, JSON.
    pub metadata: Option<String>,
}

/// What changes of a run while it lives.
#[derive(Debug, Clone, PartialEq)]
pub struct RunUpdate {
    /// Which run.
    pub id: RunId,
    /// Its life.
    pub life: u32,
    /// Its status as a word.
    pub status: String,
    /// When its backend was started.
    pub started_at: Option<Millis>,
    /// When it ended.
    pub ended_at: Option<Millis>,
    /// The number of its last event.
    pub last_seq: u64,
    /// The newest thing worth reading.
    pub summary: Option<String>,
    /// The rest of its state, JSON; none: as it was.
    pub state: Option<String>,
}

impl RunUpdate {
    /// That nothing changes.
    #[must_use]
    pub fn of(row: &RunRow) -> Self {
        Self {
            id: row.id,
            life: row.life,
            status: row.status.clone(),
            started_at: row.started_at,
            ended_at: row.ended_at,
            last_seq: row.last_seq,
            summary: row.summary.clone(),
            state: None,
        }
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// Its run.
    pub run: RunId,
    /// Its number.
    pub seq: u64,
    /// When it was committed.
    pub ts: Millis,
    /// Its type as a word.
    pub kind: String,
    /// Its data, JSON.
    pub data: String,
}

/// A field of an event that is kept as an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactRow {
    /// The run.
    pub run: RunId,
    /// The event.
    pub seq: u64,
    /// JSON pointer of the field within the event's data.
    pub pointer: String,
    /// SHA-256 of the bytes, in hex; the name of the file that holds them.
    pub sha256: String,
    /// How many bytes.
    pub size: u64,
    /// Their media type.
    pub mime: String,
}

/// A session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// Its backend.
    pub backend: String,
    /// Its name; unique among sessions.
    pub name: Option<String>,
    /// The backend's own id of it, once known.
    pub native_id: Option<String>,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last used.
    pub updated_at: Millis,
}

/// A message in an inbox. Its number is given by the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxRow {
    /// 1, 2, 3 … within its inbox; 0 before it is stored.
    pub seq: u64,
    /// Its id.
    pub id: MessageId,
    /// The session whose inbox it is in.
    pub to: SessionId,
    /// Who wrote it.
    pub from: Option<String>,
    /// When it was sent.
    pub created_at: Millis,
    /// The text.
    pub text: String,
    /// What the sender gave, JSON.
    pub metadata: Option<String>,
}

/// A request key and what it led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// `tool:key`.
    pub key: String,
    /// SHA-256 over the arguments, in hex.
    pub arguments: String,
    /// What the first call led to, JSON.
    pub outcome: String,
    /// When.
    pub created_at: Millis,
}

/// What was allowed or refused, by which rule, to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRow {
    /// 1, 2, 3 … in the order of the ledger; 0 before it is stored.
    pub n: u64,
    /// When.
    pub at: Millis,
    /// The client that asked: the name that it gives itself, or its process.
    pub caller: String,
    /// The run in whose tree that client lives.
    pub parent: Option<RunId>,
    /// The run that it is about; none: nothing was started.
    pub run: Option<RunId>,
    /// For which backend.
    pub backend: String,
    /// Where.
    pub target: Option<String>,
    /// What was asked for: `spawn_run`, `plan_run`, `spawn` (by a component), `trust` …
    pub what: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// The code of the refusal.
    pub code: Option<String>,
    /// The rule that says so, with its place in the configuration; of a refusal, its message.
    pub rule: String,
    /// The address that was judged, where one was.
    pub address: Option<String>,
    /// What would be executed, JSON; cut where it is long.
    pub command: Option<String>,
}

/// One change. Changes that are committed together stand or fall together.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// A new run.
    InsertRun(Box<RunRow>),
    /// A run goes on.
    UpdateRun(Box<RunUpdate>),
    /// Events, numbered by the run's one writer.
    AppendEvents(Vec<EventRow>),
    /// Fields of those events.
    PutArtifacts(Vec<ArtifactRow>),
    /// The last checkpoint of a run; it is removed with the run's end.
    PutCheckpoint {
        /// Which run.
        run: RunId,
        /// The backend's bytes (at most 64 KiB), and where the host was then.
        bytes: Vec<u8>,
    },
    /// A run is taken up by another build of its backend.
    PutDigest {
        /// Which run.
        run: RunId,
        /// SHA-256 of the component, in hex.
        digest: String,
    },
    /// A new or changed session. A name that belongs to another session fails the commit with `NameTaken`. Of a known
    /// session, a name or native id that is not given stays as it is: two runs may write it at once.
    PutSession(SessionRow),
    /// A message into an inbox.
    PutMessage(InboxRow),
    /// A request key. A known key fails the commit with `KeyTaken`.
    PutKey(KeyRow),
    /// Decisions, in order. The ledger keeps the newest [`KEPT_DECISIONS`].
    PutDecisions(Vec<DecisionRow>),
}

/// Decisions that are kept; where more come, the oldest go. Each takes at most some 10 KiB.
pub const KEPT_DECISIONS: u32 = 100_000;

/// The statuses after which nothing of a run changes; `run::Status` says the same, and a test compares them.
const LAST_STATUSES: [&str; 5] = ["completed", "failed", "cancelled", "rejected", "lost"];

/// Whether nothing follows this status.
pub(super) fn is_last_status(status: &str) -> bool {
    LAST_STATUSES.contains(&status)
}

/// Whether nothing follows an event of this type.
pub(super) fn is_last_event(kind: &str) -> bool {
    kind.strip_prefix("run_").is_some_and(is_last_status)
}

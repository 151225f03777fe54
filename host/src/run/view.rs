//! What a caller gets to see: the answers of the tools.
//!
//! These types are the output schemas of the MCP tools.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::{Event, Question};
use super::receipt::Receipt;
use super::request::SpawnRequest;
use super::status::{Completion, Status};
use crate::clock::Millis;
use crate::fault::Fault;
use crate::id::{GroupId, MessageId, RunId, SessionId};

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    /// Its id.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// Its backend.
    pub backend: String,
    /// The name of its session.
    pub name: Option<String>,
    /// What it is now.
    pub status: Status,
    /// Its label.
    pub role: Option<String>,
    /// Its working directory.
    pub cwd: Option<String>,
    /// Where it runs.
    pub target: Option<String>,
    /// The run it was started from.
    pub parent_run_id: Option<RunId>,
    /// The group it was started in.
    pub group_id: Option<GroupId>,
    /// When it was accepted.
    pub created_at: Millis,
    /// When its backend was started.
    pub started_at: Option<Millis>,
    /// When it ended.
    pub ended_at: Option<Millis>,
    /// The number of its last event.
    pub last_seq: u64,
    /// The newest thing worth reading, in a line.
    pub summary: Option<String>,
    /// What the caller gave.
    pub metadata: Option<Map<String, Value>>,
}

/// The whole state of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// Its id.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// Its backend.
    pub backend: String,
    /// SHA-256 of the component it runs, in hex.
    pub backend_digest: String,
    /// The name of its session.
    pub name: Option<String>,
    /// What it is now.
    pub status: Status,
    /// Its label.
    pub role: Option<String>,
    /// Its working directory.
    pub cwd: Option<String>,
    /// Where it runs.
    pub target: Option<String>,
    /// The run it was started from.
    pub parent_run_id: Option<RunId>,
    /// The group it was started in.
    pub group_id: Option<GroupId>,
    /// When it was accepted.
    pub created_at: Millis,
    /// When its backend was started.
    pub started_at: Option<Millis>,
    /// When it ended.
    pub ended_at: Option<Millis>,
    /// The number of its last event.
    pub last_seq: u64,
    /// The newest thing worth reading, in a line.
    pub summary: Option<String>,
    /// What the caller gave.
    pub metadata: Option<Map<String, Value>>,
    /// What was asked, as `spawn_run` takes it; texts over 2 KiB are cut to a preview.
    #[schemars(with = "Map<String, Value>")]
    pub request: SpawnRequest,
    /// What it gave back; in part where the run did not complete. Texts over 6 KiB are cut; the terminal event's artifact has the whole.
    pub result: Option<Completion>,
    /// Why it did not complete.
    pub error: Option<Fault>,
    /// Tokens, turns and cost since it began.
    pub usage: Option<Value>,
    /// What it may use, and which rule, target or tag says so; `parallel`: the places that it waits for.
    pub limits: Option<Value>,
    /// The oldest open question.
    pub question: Option<Question>,
    /// All open questions, oldest first. Details over 4 KiB, of all together, are cut; `get_event_artifact` reads them whole
    /// (`seq` of the question, `/details`).
    pub questions: Vec<Question>,
    /// How many questions are open.
    pub open_questions: u32,
    /// What its stop did.
    pub receipt: Option<Receipt>,
    /// False: this answer comes from memory, because the ledger cannot be written.
    pub durable: bool,
}

/// The answer of `spawn_run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spawned {
    /// The new run; null for a group.
    pub run_id: Option<RunId>,
    /// Its session; null for a group.
    pub session_id: Option<SessionId>,
    /// What it is now; null for a group.
    pub status: Option<Status>,
    /// The group that was started: wait_runs, list_runs and cancel_run take it.
    pub group_id: Option<GroupId>,
    /// The new run, or those of the group, in the order of the targets.
    pub run_ids: Vec<RunId>,
    /// Of a group: each run, in the same order.
    pub runs: Vec<Member>,
    /// True: the request key was known, and this is what the first call started.
    pub repeated: bool,
    /// What it gave back, when it ended within `wait_ms`.
    pub result: Option<Completion>,
    /// Why it did not complete, when it ended within `wait_ms`.
    pub error: Option<Fault>,
}

/// One run of a group, in the answer of `spawn_run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// Its id.
    pub run_id: RunId,
    /// Where it runs.
    pub target: Option<String>,
    /// What it is now.
    pub status: Status,
    /// What it gave back, when it ended within `wait_ms`; cut to a preview.
    pub result: Option<Completion>,
    /// Why it did not complete, when it ended within `wait_ms`.
    pub error: Option<Fault>,
}

/// What a plan says about one thing that would be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedAction {
    /// `spawn`, `connect` or `request`.
    pub kind: String,
    /// What exactly. At a target also the command there, the limits that come with it, and what the network rule says.
    pub detail: Value,
    /// Whether grants and rules allow it.
    pub allowed: bool,
    /// Which rule says so.
    pub rule: String,
    /// What a person could change, where it is refused.
    pub hint: Option<String>,
}

/// The answer of `plan_run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Whether `spawn_run` would take it.
    pub allowed: bool,
    /// The first refusal, with what a person could change.
    pub refusal: Option<Fault>,
    /// In a line.
    pub summary: String,
    /// What would be done.
    pub actions: Vec<PlannedAction>,
    /// What cannot be known beforehand.
    pub unknown: Vec<String>,
    /// The working directory it would have.
    pub cwd: Option<String>,
    /// The backend's settings, with defaults merged; lists and objects that only the configuration may set are not shown.
    pub config: Value,
    /// The limits it would run under.
    pub limits: Value,
    /// SHA-256 of the component it would run.
    pub backend_digest: String,
}

/// The answer of `list_runs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunPage {
    /// Newest first.
    pub runs: Vec<RunSummary>,
    /// For the next page; none: this is the last.
    pub next_cursor: Option<String>,
}

/// The answer of `poll_events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventPage {
    /// The run.
    pub run_id: RunId,
    /// What it is now.
    pub status: Status,
    /// No event follows the last one of the run.
    pub ended: bool,
    /// In order.
    pub events: Vec<Event>,
    /// Give this as `after_seq` next time.
    pub next_after_seq: u64,
    /// More events are there already.
    pub has_more: bool,
}

/// One run in the answer of `wait_runs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Waited {
    /// The run.
    pub run_id: RunId,
    /// Where it runs.
    pub target: Option<String>,
    /// What it is now.
    pub status: Status,
    /// It has ended, or needs an answer.
    pub ready: bool,
    /// The number of its last event.
    pub last_seq: u64,
    /// The newest thing worth reading, in a line.
    pub summary: Option<String>,
    /// The oldest open question.
    pub question: Option<Question>,
    /// How many questions are open; `get_run` shows all of them.
    pub open_questions: u32,
    /// What it gave back, cut to a preview.
    pub result: Option<Completion>,
    /// Why it did not complete.
    pub error: Option<Fault>,
}

/// The answer of `wait_runs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WaitPage {
    /// The condition was met; false: the time was over.
    pub ready: bool,
    /// In the order asked for; a group stands for its runs.
    pub runs: Vec<Waited>,
}

/// What `continue_run` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContinueAction {
    /// A question was answered.
    Answered,
    /// A message went into the live run.
    Steered,
    /// A new run of the same session was started.
    Continued,
    /// A run of a new session that knows the old one was started.
    Forked,
}

/// The answer of `continue_run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Continued {
    /// The run that goes on; a new one where an ended run was carried on, or a session was forked.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// What was done.
    pub action: ContinueAction,
    /// What the run is now.
    pub status: Status,
    /// What it gave back, when it ended within `wait_ms`.
    pub result: Option<Completion>,
    /// Why it did not complete, when it ended within `wait_ms`.
    pub error: Option<Fault>,
}

/// The answer of `cancel_run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelled {
    /// The run; null for a group.
    pub run_id: Option<RunId>,
    /// What it is now; null for a group.
    pub status: Option<Status>,
    /// What the stop did; none where the run lives and is not being stopped yet.
    pub receipt: Option<Receipt>,
    /// The group that was stopped.
    pub group_id: Option<GroupId>,
    /// Of a group: each run, in the order of its targets.
    pub runs: Vec<Stopped>,
    /// True: there are many runs, so `rungs` and `killed` of their receipts are left empty here (`killed_total` is not); get_run
    /// has the whole of each.
    pub shortened: bool,
}

/// One run of a group, in the answer of `cancel_run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stopped {
    /// The run.
    pub run_id: RunId,
    /// Where it runs.
    pub target: Option<String>,
    /// What it is now.
    pub status: Status,
    /// What its stop did.
    pub receipt: Option<Receipt>,
}

/// The answer of `get_event_artifact`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slice {
    /// The run.
    pub run_id: RunId,
    /// The event.
    pub seq: u64,
    /// The field.
    pub pointer: String,
    /// Media type of the whole.
    pub mime: String,
    /// SHA-256 of the whole, in hex.
    pub sha256: String,
    /// Size of the whole in bytes.
    pub total_bytes: u64,
    /// First byte of `content` within the whole.
    pub offset: u64,
    /// How many bytes `content` stands for.
    pub returned_bytes: u64,
    /// Where the next slice begins; none: this is the last.
    pub next_offset: Option<u64>,
    /// `utf-8`, or `base64` where the bytes are no text.
    pub encoding: String,
    /// The bytes.
    pub content: String,
}

/// One agent: a named session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// Its session.
    pub session_id: SessionId,
    /// Its backend.
    pub backend: String,
    /// The label of its newest run.
    pub role: Option<String>,
    /// Its newest run.
    pub run_id: Option<RunId>,
    /// What that is now.
    pub status: Option<Status>,
    /// The working directory of that.
    pub cwd: Option<String>,
    /// When it was last used.
    pub updated_at: Millis,
    /// Messages in its inbox.
    pub messages: u64,
}

/// The answer of `list_agents`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentPage {
    /// Most recently used first.
    pub agents: Vec<AgentView>,
}

/// One message in an inbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InboxMessage {
    /// 1, 2, 3 … within its inbox.
    pub seq: u64,
    /// Its id.
    pub message_id: MessageId,
    /// Who wrote it, if an agent did.
    pub from: Option<String>,
    /// Whose inbox it is in.
    pub to: String,
    /// When it was sent.
    pub created_at: Millis,
    /// The text.
    pub text: String,
    /// What the sender gave.
    pub metadata: Option<Map<String, Value>>,
}

/// The answer of `send_agent_message`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    /// Its id.
    pub message_id: MessageId,
    /// Its number in the inbox.
    pub seq: u64,
    /// Whose inbox it is in.
    pub to: String,
    /// When it was sent.
    pub created_at: Millis,
}

/// The answer of `fetch_agent_messages`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Inbox {
    /// Whose inbox.
    pub name: String,
    /// In order.
    pub messages: Vec<InboxMessage>,
    /// Give this as `after_seq` next time.
    pub next_after_seq: u64,
    /// More messages are there already.
    pub has_more: bool,
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackendView {
    /// Its name.
    pub name: String,
    /// `ready`, `disabled` or `failed`.
    pub state: String,
    /// Why, where it is not ready.
    pub reason: Option<Fault>,
    /// `bundled` or the file it was loaded from.
    pub source: String,
    /// SHA-256 of the component, in hex.
    pub digest: Option<String>,
    /// For people.
    pub title: Option<String>,
    /// Its own version.
    pub version: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// What it can: `resume`, `steer`, `ask` …
    pub capabilities: Vec<String>,
    /// JSON Schema of its `config`.
    pub config_schema: Option<Value>,
    /// The programs that it relies on; `falconer check` tells which versions are here.
    pub programs: Vec<ProgramView>,
}

/// A program that a backend relies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProgramView {
    /// The name of its grant.
    pub name: String,
    /// The oldest version that the backend was tested with.
    pub tested_from: String,
    /// The newest one, included.
    pub tested_to: String,
}

/// The answer of `list_backends`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackendPage {
    /// By name.
    pub backends: Vec<BackendView>,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetView {
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What it is.
    pub description: Option<String>,
    /// Backends that can run there.
    pub backends: Vec<String>,
}

/// The answer of `list_targets`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetPage {
    /// By name.
    pub targets: Vec<TargetView>,
}

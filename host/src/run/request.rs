//! What a caller asks of a run: the requests of the tools, parsed once.
//!
//! These types are the input schemas of the MCP tools. Ranges and exclusions that a schema cannot say flatly are
//! checked where the request is taken (`conflicting_fields`, `invalid_argument`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::EventType;
use super::status::Status;

/// The kind of a message part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// `text`
    Text,
    /// `data`
    Data,
    /// `bytes_base64` or `uri`
    File,
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessagePart {
    /// Which of the other fields counts: `text`, `data`, or `file` (bytes_base64 or uri).
    #[serde(rename = "type")]
    pub kind: PartKind,
    /// For `text`: the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// For `data`: any JSON value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// For `file`: `file:///…` inside a granted workspace; read when the call is taken, at most 16 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// For `file`: the bytes themselves, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_base64: Option<String>,
    /// For `file`: its media type. Without it, it is told by the first bytes (images, PDF, text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// For `file`: its name; of a `uri` the last part of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A message of several parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// At least one, at most 64.
    #[schemars(length(min = 1, max = 64))]
    pub parts: Vec<MessagePart>,
}

impl MessagePart {
    /// A part of this kind, with nothing in it.
    #[must_use]
    pub const fn of(kind: PartKind) -> Self {
        Self { kind, text: None, data: None, uri: None, bytes_base64: None, mime_type: None, name: None }
    }

    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::of(PartKind::Text) }
    }
}

impl Message {
    /// A message of one text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { parts: vec![MessagePart::text(text)] }
    }
}

/// Limits of all native processes of a run together. One that this machine cannot hold is refused; a run that wants more
/// fails with `tree_memory_exceeded` or `tree_processes_exceeded`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunLimits {
    /// Bytes of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576, max = 70_368_744_177_664_u64))]
    pub tree_memory_bytes: Option<u64>,
    /// Processes and threads at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_194_304))]
    pub tree_processes: Option<u32>,
    /// CPUs, e.g. 1.5: more is slowed down, not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.05, max = 1_024))]
    pub tree_cpu: Option<f64>,
}

/// `spawn_run` and `plan_run`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpawnRequest {
    /// Name of the backend, as `list_backends` gives it, e.g. `claude` or `exec`.
    pub backend: String,
    /// What is to be done, as text. Give this or `message`; a backend that takes its job from `config` needs neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The same in several parts (text, data, files).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// The backend's own settings; `list_backends` gives the schema. For `exec`: {program, args?, stdin?, env?}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// Absolute working directory, inside a granted workspace. Default: the client's own working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Continue this session (`ses_…`) instead of a new one; waits in line while another run of it is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// With `session_id`: leave that session as it is, and begin a new one that knows it. Does not wait in line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<bool>,
    /// Where to run, by name; `list_targets` gives the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Several targets, at most 100: one run each, as a group (`grp_…`). If one is refused, none is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub targets: Option<Vec<String>>,
    /// All targets with this tag: one run each, as a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_tag: Option<String>,
    /// Of a group: at most so many runs at once. Default: as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub parallel: Option<u32>,
    /// Of a group: the first run that does not complete stops the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_on_failure: Option<bool>,
    /// A name for the session, unique; every tool that takes a run id takes it too and means its newest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A label, e.g. `planner`, `worker`, `reviewer`; it changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Standing instructions from a profile of the configuration, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Standing instructions as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// JSON Schema 2020-12 that the structured answer must fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Map<String, Value>>,
    /// Anything of yours; kept and given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Stop the run after so many seconds; at most, and by default, the configured ceiling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub timeout_s: Option<u64>,
    /// Stop the run when nothing happened in it for so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub idle_timeout_s: Option<u64>,
    /// Of all its processes together; at most, and by default, what is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<RunLimits>,
    /// Makes a retry safe: a second call with the same key and arguments answers with the first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub request_key: Option<String>,
    /// Wait up to so many milliseconds for the end before answering. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 45_000))]
    pub wait_ms: Option<u64>,
}

impl SpawnRequest {
    /// Whether it is for several targets: a run for each.
    #[must_use]
    pub const fn is_group(&self) -> bool {
        self.targets.is_some() || self.target_tag.is_some()
    }
}

/// `list_runs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRequest {
    /// Only runs of these statuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Vec<Status>>,
    /// Only runs of this backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Only runs of this session (`ses_…`) or session name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Only runs of this group (`grp_…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// Only children of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_run_id: Option<String>,
    /// Only runs with this working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// At most so many, newest first. Default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 200))]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// `poll_events`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PollRequest {
    /// Run id or session name.
    pub run_id: String,
    /// Give events after this number; 0 for all.
    #[serde(default)]
    pub after_seq: u64,
    /// At most so many events. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_000))]
    pub limit: Option<u32>,
    /// At most so many characters of JSON. Default 8000. The first event is always given, cut to a preview where it is larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 500, max = 1_000_000))]
    pub max_chars: Option<u32>,
    /// Only these types; the numbers of the others are passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<EventType>>,
    /// Wait up to so many milliseconds for the first event. Default 0; answers at once when the run has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 45_000))]
    pub wait_ms: Option<u64>,
}

/// What `wait_runs` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// One of them has ended or needs an answer.
    #[default]
    Any,
    /// Each of them has ended or needs an answer.
    All,
}

/// `wait_runs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// Run ids, session names or group ids; 1 to 100.
    #[schemars(length(min = 1, max = 100))]
    pub run_ids: Vec<String>,
    /// `any` (default) or `all`.
    #[serde(default)]
    pub mode: WaitFor,
    /// At most so many milliseconds. Default 25000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 45_000))]
    pub wait_ms: Option<u64>,
}

/// The answer to a question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Which question.
    pub question_id: String,
    /// The hash that the question came with: proof that this very input was judged.
    pub details_hash: String,
    /// The ids of the chosen answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<String>>,
    /// A free answer, or the reason of a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A free answer that fits the question's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// When a steering message counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// At once, also in the middle of a step.
    Now,
    /// After the step in hand.
    #[default]
    AfterStep,
}

/// `continue_run`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContinueRequest {
    /// Run id or session name.
    pub run_id: String,
    /// What to say: steers a live run, carries an ended one on. Give this, `parts` or `answer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The same in several parts (text, data, files), as in the `message` of `spawn_run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub parts: Option<Vec<MessagePart>>,
    /// With `message` or `parts`: begin a new session that knows this one, and leave this one as it is, also where it is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<bool>,
    /// The answer to an open question. Give this or a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// For a live run: `after_step` (default) or `now`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
    /// Makes a retry safe, as in `spawn_run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub request_key: Option<String>,
    /// Wait up to so many milliseconds for the end of the run. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 45_000))]
    pub wait_ms: Option<u64>,
}

/// `cancel_run`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Run id, session name or group id (all its runs).
    pub run_id: String,
    /// How long the backend and its processes may take to end by themselves before they are killed. Default: configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 30_000))]
    pub grace_ms: Option<u64>,
    /// Why; kept in the receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `get_event_artifact`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactRequest {
    /// Run id or session name.
    pub run_id: String,
    /// Number of the event.
    #[schemars(range(min = 1))]
    pub seq: u64,
    /// JSON pointer (RFC 6901) of the field within the event's data, e.g. `/text`.
    pub pointer: String,
    /// First byte. Default 0. Moved back to the start of a character where it falls inside one.
    #[serde(default)]
    pub offset: u64,
    /// At most so many bytes. Default 8192.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4, max = 262_144))]
    pub limit: Option<u32>,
}

/// `list_agents`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentsRequest {
    /// Only agents of this backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Only agents whose newest run has this working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// At most so many, most recently used first. Default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 200))]
    pub limit: Option<u32>,
}

/// `send_agent_message`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// Name of the agent (of a session) that is to read it, as `list_agents` gives it.
    pub to: String,
    /// Name of the agent that writes, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The text; at most 65536 characters.
    #[schemars(length(max = 65_536))]
    pub text: String,
    /// Anything of yours; kept and given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Makes a retry safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub request_key: Option<String>,
}

/// `fetch_agent_messages`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FetchRequest {
    /// Name of the agent whose inbox is read.
    pub name: String,
    /// Messages after this number; 0 for all.
    #[serde(default)]
    pub after_seq: u64,
    /// At most so many. Default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u32>,
    /// Wait up to so many milliseconds for the first one. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 45_000))]
    pub wait_ms: Option<u64>,
}

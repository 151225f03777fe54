//! What a client sees of a run: numbered events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::inert;
use crate::clock::Millis;
use crate::fault::{Fault, code};

/// Ids of the contract are no longer than this.
const MAX_ID: usize = 128;

/// The type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// The first event, when the run is accepted: backend, digest, session, where.
    RunStarted,
    /// The run went from one status to another.
    StatusChanged,
    /// The backend's own session is known: from here on the run can be continued.
    SessionStarted,
    /// The agent says something: a piece, or the whole message.
    AgentMessage,
    /// A message joined the conversation (a person's, a tool's).
    MessageAdded,
    /// The agent thinks aloud.
    Reasoning,
    /// A command began.
    CommandStarted,
    /// A piece of a command's output.
    CommandOutput,
    /// A command ended.
    CommandFinished,
    /// A tool call began.
    ToolStarted,
    /// A tool call ended.
    ToolFinished,
    /// A file was created, changed, renamed or deleted.
    FileChanged,
    /// The agent's list of things to do.
    TodoUpdated,
    /// A large value was put aside.
    ArtifactAdded,
    /// Tokens, turns and cost since the run began.
    Usage,
    /// Something worth knowing that is no error of the run.
    Notice,
    /// A question is open.
    InputRequired,
    /// A question is closed.
    InputResolved,
    /// A login or a key is wanted.
    AuthRequired,
    /// What has no type of its own.
    Native,
    /// The end: well.
    RunCompleted,
    /// The end: with an error.
    RunFailed,
    /// The end: stopped.
    RunCancelled,
    /// The end: refused.
    RunRejected,
    /// The end: unknown.
    RunLost,
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 25] = [
        Self::RunStarted,
        Self::StatusChanged,
        Self::SessionStarted,
        Self::AgentMessage,
        Self::MessageAdded,
        Self::Reasoning,
        Self::CommandStarted,
        Self::CommandOutput,
        Self::CommandFinished,
        Self::ToolStarted,
        Self::ToolFinished,
        Self::FileChanged,
        Self::TodoUpdated,
        Self::ArtifactAdded,
        Self::Usage,
        Self::Notice,
        Self::InputRequired,
        Self::InputResolved,
        Self::AuthRequired,
        Self::Native,
        Self::RunCompleted,
        Self::RunFailed,
        Self::RunCancelled,
        Self::RunRejected,
        Self::RunLost,
    ];

    /// What a run says only of a process that it started, by the host: each of those has a record in the data directory.
    pub const OF_A_CHILD: [Self; 3] = [Self::CommandStarted, Self::CommandOutput, Self::CommandFinished];

    /// The word, as it stands in JSON and in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::RunStarted => "run_started",
            Self::StatusChanged => "status_changed",
            Self::SessionStarted => "session_started",
            Self::AgentMessage => "agent_message",
            Self::MessageAdded => "message_added",
            Self::Reasoning => "reasoning",
            Self::CommandStarted => "command_started",
            Self::CommandOutput => "command_output",
            Self::CommandFinished => "command_finished",
            Self::ToolStarted => "tool_started",
            Self::ToolFinished => "tool_finished",
            Self::FileChanged => "file_changed",
            Self::TodoUpdated => "todo_updated",
            Self::ArtifactAdded => "artifact_added",
            Self::Usage => "usage",
            Self::Notice => "notice",
            Self::InputRequired => "input_required",
            Self::InputResolved => "input_resolved",
            Self::AuthRequired => "auth_required",
            Self::Native => "native",
            Self::RunCompleted => "run_completed",
            Self::RunFailed => "run_failed",
            Self::RunCancelled => "run_cancelled",
            Self::RunRejected => "run_rejected",
            Self::RunLost => "run_lost",
        }
    }

    /// The type that this word means.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// One event as a client gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// 1, 2, 3 … within its run, without gap or repeat.
    pub seq: u64,
    /// When it was committed.
    pub ts: Millis,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Its data; the shape depends on the type.
    pub data: Value,
}

/// What kind of answer a question wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuestionKind {
    /// May something be done?
    Approval,
    /// A free answer or a choice.
    Input,
    /// A login or a key.
    Auth,
}

/// One of the answers offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    /// What an answer names.
    pub id: String,
    /// For people.
    pub label: String,
    /// More of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// An open question of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// Unique in its run.
    pub question_id: String,
    /// What kind of answer it wants.
    pub kind: QuestionKind,
    /// For people.
    pub prompt: String,
    /// The answers offered; empty for a free answer.
    pub choices: Vec<Choice>,
    /// Whether several may be chosen.
    pub multiple: bool,
    /// The whole input that is to be judged.
    pub details: Value,
    /// SHA-256 of `details`, in hex; an answer names it, so that nobody approves what they did not see.
    pub details_hash: String,
    /// JSON Schema of a free answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Value>,
    /// What is chosen when the time is over; without it the question is dismissed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_choice: Option<String>,
    /// When the time is over.
    pub expires_at: Millis,
    /// The number of the event that asked it; `get_event_artifact` reads a long `/details` there.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub seq: u64,
}

fn is_unknown(seq: &u64) -> bool {
    *seq == 0
}

/// How a question was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Closed {
    /// A client answered it.
    Answered,
    /// Nobody did in its time: its default was taken, or it was dismissed.
    Expired,
    /// The backend needs no answer any more.
    Withdrawn,
    /// Its run was being stopped.
    Cancelled,
    /// Its run ended.
    Ended,
}

impl Closed {
    /// The word, as it stands in `input_resolved`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Cancelled => "cancelled",
            Self::Ended => "ended",
        }
    }

    /// Why an answer that comes now is refused.
    #[must_use]
    pub fn refusal(self, question: &str) -> Fault {
        let question = inert::preview(question, MAX_ID);
        let (code, why, hint) = match self {
            Self::Answered => (code::QUESTION_ANSWERED, "was answered already", "an answer counts once; poll_events shows what came of it"),
            Self::Expired => (
                code::QUESTION_EXPIRED,
                "has expired: nobody answered it in time, and its default was taken",
                "its `input_resolved` event shows the default; `question` under `[host]` is the time there is",
            ),
            Self::Withdrawn => (
                code::QUESTION_WITHDRAWN,
                "was withdrawn: the backend needs no answer any more",
                "get_run shows the questions that are open",
            ),
            Self::Cancelled => {
                (code::QUESTION_CLOSED, "was closed when its run was stopped", "carry the run on with a message when it has ended")
            }
            Self::Ended => (code::QUESTION_CLOSED, "was closed when its run ended", "carry the run on with a message"),
        };
        Fault::new(code, format!("question `{question}` {why}")).hint(hint)
    }
}

impl Question {
    /// Makes its texts harmless to show. Ids stay as they are: the backend must know them again.
    pub fn make_inert(&mut self) {
        let texts = self.choices.iter_mut().flat_map(|choice| std::iter::once(&mut choice.label).chain(&mut choice.description));
        for text in std::iter::once(&mut self.prompt).chain(texts) {
            *text = inert::inert(std::mem::take(text));
        }
        inert::inert_value(&mut self.details);
        self.form.iter_mut().for_each(inert::inert_value);
    }

    /// Whether a login or a key is wanted.
    #[must_use]
    pub fn is_auth(&self) -> bool {
        self.kind == QuestionKind::Auth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for kind in EventType::ALL {
            assert_eq!(EventType::from_word(kind.word()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
    }
}

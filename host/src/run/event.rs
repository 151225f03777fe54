//! What a client sees of a run: numbered events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Millis;

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
}

impl Question {
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

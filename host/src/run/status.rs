//! What a run can be, and from where it can get there.
//!
//! [`Status`] is the word that leaves the host; [`State`] is the same with its data, so that an ended run
//! cannot lack its outcome and a waiting one cannot lack its question.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Question;
use super::receipt::Receipt;
use crate::fault::Fault;

/// The status of a run, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted and durable; waits for its session or for room.
    Queued,
    /// The component is being made and started.
    Starting,
    /// At work.
    Running,
    /// Waits for an answer to a question.
    InputRequired,
    /// Waits for a login or a key.
    AuthRequired,
    /// Being stopped.
    Cancelling,
    /// Ended well.
    Completed,
    /// Ended with an error.
    Failed,
    /// Stopped: nothing of it lives.
    Cancelled,
    /// Refused before it began.
    Rejected,
    /// We cannot know how it ended.
    Lost,
}

impl Status {
    /// Every status, in the order of a run's life.
    pub const ALL: [Self; 11] = [
        Self::Queued,
        Self::Starting,
        Self::Running,
        Self::InputRequired,
        Self::AuthRequired,
        Self::Cancelling,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Rejected,
        Self::Lost,
    ];

    /// The word, as it stands in JSON and in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::InputRequired => "input_required",
            Self::AuthRequired => "auth_required",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Lost => "lost",
        }
    }

    /// The status that this word means.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }

    /// No event follows, and the status never changes again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Rejected | Self::Lost)
    }

    /// The run waits for a person or a client.
    #[must_use]
    pub const fn needs_answer(self) -> bool {
        matches!(self, Self::InputRequired | Self::AuthRequired)
    }

    /// Whether a run may go from here to there.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        use Status::{AuthRequired, Cancelled, Cancelling, Completed, Failed, InputRequired, Lost, Queued, Rejected, Running, Starting};
        match self {
            // A queued run has started nothing: it can be cancelled without a stop.
            Queued => matches!(next, Starting | Cancelled | Failed | Rejected | Lost),
            Starting => matches!(next, Running | InputRequired | AuthRequired | Cancelling | Completed | Failed | Rejected | Lost),
            Running => matches!(next, InputRequired | AuthRequired | Cancelling | Completed | Failed | Rejected | Lost),
            InputRequired => matches!(next, Running | AuthRequired | Cancelling | Completed | Failed | Rejected | Lost),
            AuthRequired => matches!(next, Running | InputRequired | Cancelling | Completed | Failed | Rejected | Lost),
            Cancelling => matches!(next, Cancelled | Completed | Failed | Rejected | Lost),
            Completed | Failed | Cancelled | Rejected | Lost => false,
        }
    }
}

/// What a run gave back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Completion {
    /// The answer as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The answer as a value; valid against the run's `output_schema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<Value>,
}

impl Completion {
    /// Nothing was given back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_none() && self.structured.is_none()
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Ending {
    /// Well.
    Completed {
        /// What it gave back.
        result: Completion,
        /// How its processes ended.
        receipt: Receipt,
    },
    /// With an error; what had been given back until then is kept.
    Failed {
        /// Why.
        error: Fault,
        /// What there was until then.
        partial: Completion,
        /// How its processes ended.
        receipt: Receipt,
    },
    /// Stopped on request.
    Cancelled {
        /// What there was until then.
        partial: Completion,
        /// What the stop did.
        receipt: Receipt,
    },
    /// Refused by the other side before it began.
    Rejected {
        /// Why.
        error: Fault,
        /// How its processes ended.
        receipt: Receipt,
    },
    /// Unknown.
    Lost {
        /// Why it cannot be known.
        error: Fault,
        /// What there was until then.
        partial: Completion,
        /// What a stop tried, where there was one.
        receipt: Option<Receipt>,
    },
}

impl Ending {
    /// The word for it.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Completed { .. } => Status::Completed,
            Self::Failed { .. } => Status::Failed,
            Self::Cancelled { .. } => Status::Cancelled,
            Self::Rejected { .. } => Status::Rejected,
            Self::Lost { .. } => Status::Lost,
        }
    }

    /// What it gave back, in whole or in part.
    #[must_use]
    pub const fn result(&self) -> Option<&Completion> {
        match self {
            Self::Completed { result, .. } => Some(result),
            Self::Failed { partial, .. } | Self::Cancelled { partial, .. } | Self::Lost { partial, .. } => Some(partial),
            Self::Rejected { .. } => None,
        }
    }

    /// Why it ended so, where that is an error.
    #[must_use]
    pub const fn error(&self) -> Option<&Fault> {
        match self {
            Self::Failed { error, .. } | Self::Rejected { error, .. } | Self::Lost { error, .. } => Some(error),
            Self::Completed { .. } | Self::Cancelled { .. } => None,
        }
    }

    /// How its processes ended.
    #[must_use]
    pub const fn receipt(&self) -> Option<&Receipt> {
        match self {
            Self::Completed { receipt, .. }
            | Self::Failed { receipt, .. }
            | Self::Cancelled { receipt, .. }
            | Self::Rejected { receipt, .. } => Some(receipt),
            Self::Lost { receipt, .. } => receipt.as_ref(),
        }
    }
}

/// The state of a run, with the data that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Waits for its turn.
    Queued,
    /// Its component is being started.
    Starting,
    /// At work.
    Running,
    /// At least one question is open; `auth_required` where any of them wants a login or a key.
    Waiting {
        /// In the order in which they were asked; never empty.
        open: Vec<Question>,
    },
    /// Being stopped.
    Cancelling {
        /// The receipt so far.
        receipt: Receipt,
    },
    /// Over.
    Ended(Box<Ending>),
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Queued => Status::Queued,
            Self::Starting => Status::Starting,
            Self::Running => Status::Running,
            Self::Waiting { open } => {
                if open.iter().any(Question::is_auth) {
                    Status::AuthRequired
                } else {
                    Status::InputRequired
                }
            }
            Self::Cancelling { .. } => Status::Cancelling,
            Self::Ended(ending) => ending.status(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_an_end() {
        for from in Status::ALL {
            for to in Status::ALL {
                if from.is_terminal() {
                    assert!(!from.may_become(to), "{from:?} -> {to:?}");
                }
                assert!(!(to == Status::Queued && from.may_become(to)), "{from:?} -> queued");
            }
            assert!(from.is_terminal() || from.may_become(Status::Lost), "{from:?} can be lost");
        }
    }

    #[test]
    fn only_a_stop_or_a_queue_leads_to_cancelled() {
        for from in Status::ALL {
            assert_eq!(from.may_become(Status::Cancelled), matches!(from, Status::Queued | Status::Cancelling), "{from:?}");
        }
    }

    #[test]
    fn words_read_back() {
        for status in Status::ALL {
            assert_eq!(Status::from_word(status.word()), Some(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.word());
        }
    }
}

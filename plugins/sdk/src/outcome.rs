//! Making outcomes.

use crate::{Completion, Failure, Lost, Outcome, RemoteProof, Stopped};

impl Completion {
    /// A result of text alone.
    pub fn of_text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), structured: None }
    }

    /// No result.
    #[must_use]
    pub const fn none() -> Self {
        Self { text: None, structured: None }
    }
}

impl Outcome {
    /// It ended well, with this text.
    pub fn completed(text: impl Into<String>) -> Self {
        Self::Completed(Completion::of_text(text))
    }

    /// It failed.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self::Failed(failure)
    }

    /// It was stopped, and nothing was started outside the host's own process tree. Only after `cancel`.
    #[must_use]
    pub fn stopped(partial: Completion) -> Self {
        Self::Stopped(Stopped { remote: None, detail: None, partial })
    }

    /// It was stopped; this is what is known of the far end. Only after `cancel`.
    pub fn stopped_remotely(remote: RemoteProof, detail: impl Into<String>, partial: Completion) -> Self {
        Self::Stopped(Stopped { remote: Some(remote), detail: Some(detail.into()), partial })
    }

    /// What became of the work at the far end cannot be known: why, and how far it is known.
    pub fn lost(failure: Failure, remote: RemoteProof, detail: impl Into<String>, partial: Completion) -> Self {
        Self::Lost(Lost { failure, stopped: Stopped { remote: Some(remote), detail: Some(detail.into()), partial } })
    }
}

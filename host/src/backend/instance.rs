//! One run's component: made once, called one call at a time, thrown away at the end.

use std::sync::Arc;

use super::registry::Backend;
use crate::capability::{Host, News, RunLog};
use crate::contract::falconer::backend::types as wit;
use crate::fault::Fault;

/// What an instance is made of.
pub struct Made {
    /// Which backend.
    pub backend: Arc<Backend>,
    /// The run's capabilities.
    pub host: Host,
    /// Where they ring.
    pub news: News,
    /// Where the guest's stdout and stderr, and backtraces, go.
    pub log: RunLog,
    /// The run's limits.
    pub limits: crate::config::Limits,
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Every call returned; the store was dropped between calls.
    Returned,
    /// A call trapped.
    Trapped,
    /// A call was dropped inside the host.
    Dropped,
}

/// A handle to the store, which lives on the guest runtime. All calls go through it, one at a time; a call that is
/// given up by its caller goes on in the guest until it ends or [`Instance::cut`] is called.
pub struct Instance {}

impl Instance {
    /// Instantiates on the guest runtime.
    pub async fn new(_made: Made) -> Result<Self, Fault> {
        unimplemented!()
    }
    /// The export `start`. The outer error is the component's end (trap, busy, blocked, limit …): nothing can be called after it.
    pub async fn start(&self, _job: wit::Job) -> Result<Result<(), wit::Failure>, Fault> {
        unimplemented!()
    }
    /// The export `poll`.
    pub async fn poll(&self) -> Result<wit::Step, Fault> {
        unimplemented!()
    }
    /// The export `reply`.
    pub async fn reply(&self, _answer: wit::Answer) -> Result<Result<(), wit::Failure>, Fault> {
        unimplemented!()
    }
    /// The export `cancel`.
    pub async fn cancel(&self, _reason: String) -> Result<Result<(), wit::Failure>, Fault> {
        unimplemented!()
    }
    /// Waits until an armed source has news.
    pub async fn news(&self) {
        unimplemented!()
    }
    /// Ends the call in hand (flag and epoch bump; drop if it is inside the host) and discards the store, after what is
    /// left in the pipes was drained into the run's log. Returns at once; safe to call twice.
    pub fn cut(&self) {
        unimplemented!()
    }
    /// Waits until the store is gone.
    pub async fn gone(&self) -> End {
        unimplemented!()
    }
}

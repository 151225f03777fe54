//! All runs of a host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;

use super::request::{
    AgentsRequest, ArtifactRequest, CancelRequest, ContinueRequest, FetchRequest, ListRequest, PollRequest, SendRequest, SpawnRequest,
    WaitRequest,
};
use super::view::{
    AgentPage, BackendPage, Cancelled, Continued, EventPage, Inbox, Plan, RunPage, RunView, Sent, Slice, Spawned, TargetPage, WaitPage,
};
use crate::backend::Registry;
use crate::fault::Fault;
use crate::id::RunId;
use crate::ledger::Ledger;
use crate::ledger::artifact::Artifacts;
use crate::policy::Policy;

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
}

/// All runs of a host. Cheap to clone.
#[derive(Clone)]
pub struct Manager {}

impl Manager {
    /// Takes the parts over; `recover` does the rest beside serving. Must be called inside the serving runtime.
    pub fn new(_parts: Parts) -> Result<Self, Fault> {
        unimplemented!()
    }
    /// The configuration, resolved.
    pub fn policy(&self) -> &Policy {
        unimplemented!()
    }
    /// The live run in whose tree this process is, if it is in one (its `FALCONER_RUN_ID`, or an ancestor, is ours).
    pub fn run_of_process(&self, _pid: u32) -> Option<RunId> {
        unimplemented!()
    }
    /// Ends what an earlier host left behind.
    pub async fn recover(&self) {
        unimplemented!()
    }
    /// No new work; every run is stopped; the ledger is closed. Waits at most so long.
    pub async fn shut_down(&self, _within: Duration) {
        unimplemented!()
    }
    /// How many runs are alive.
    pub fn live(&self) -> usize {
        unimplemented!()
    }
    /// `list_backends`
    pub async fn backends(&self) -> BackendPage {
        unimplemented!()
    }
    /// `list_targets`
    pub async fn targets(&self) -> TargetPage {
        unimplemented!()
    }
    /// `plan_run`
    pub async fn plan(&self, _caller: &Caller, _request: SpawnRequest) -> Result<Plan, Fault> {
        unimplemented!()
    }
    /// `spawn_run`
    pub async fn spawn(&self, _caller: &Caller, _request: SpawnRequest) -> Result<Spawned, Fault> {
        unimplemented!()
    }
    /// `get_run`
    pub async fn get(&self, _run: &str) -> Result<RunView, Fault> {
        unimplemented!()
    }
    /// `list_runs`
    pub async fn list(&self, _request: ListRequest) -> Result<RunPage, Fault> {
        unimplemented!()
    }
    /// `poll_events`; waits as long as the request says. Dropping the future ends the wait and nothing else.
    pub async fn poll(&self, _request: PollRequest) -> Result<EventPage, Fault> {
        unimplemented!()
    }
    /// `wait_runs`
    pub async fn wait(&self, _request: WaitRequest) -> Result<WaitPage, Fault> {
        unimplemented!()
    }
    /// `continue_run`
    pub async fn continue_run(&self, _caller: &Caller, _request: ContinueRequest) -> Result<Continued, Fault> {
        unimplemented!()
    }
    /// `cancel_run`
    pub async fn cancel(&self, _caller: &Caller, _request: CancelRequest) -> Result<Cancelled, Fault> {
        unimplemented!()
    }
    /// `get_event_artifact`
    pub async fn artifact(&self, _request: ArtifactRequest) -> Result<Slice, Fault> {
        unimplemented!()
    }
    /// `list_agents`
    pub async fn agents(&self, _request: AgentsRequest) -> Result<AgentPage, Fault> {
        unimplemented!()
    }
    /// `send_agent_message`
    pub async fn send_message(&self, _caller: &Caller, _request: SendRequest) -> Result<Sent, Fault> {
        unimplemented!()
    }
    /// `fetch_agent_messages`
    pub async fn fetch_messages(&self, _request: FetchRequest) -> Result<Inbox, Fault> {
        unimplemented!()
    }
}

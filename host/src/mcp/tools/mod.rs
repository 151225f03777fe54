//! The tools, one file each: name, title, description, hints, and the one call into [`crate::run::Manager`].

mod cancel_run;
mod continue_run;
mod fetch_agent_messages;
mod get_event_artifact;
mod get_run;
mod list_agents;
mod list_backends;
mod list_runs;
mod list_targets;
mod plan_run;
mod poll_events;
mod send_agent_message;
mod spawn_run;
mod wait_runs;

use std::sync::OnceLock;

use super::Host;
use super::tool::{Row, Table};
use crate::fault::{Fault, code};

/// Every tool, with its schemas; made when it is first asked for.
#[must_use]
pub fn table() -> &'static Table<Host> {
    static TABLE: OnceLock<Table<Host>> = OnceLock::new();
    TABLE.get_or_init(|| {
        Table::new(vec![
            Row::of::<cancel_run::CancelRun>(),
            Row::of::<continue_run::ContinueRun>(),
            Row::of::<fetch_agent_messages::FetchAgentMessages>(),
            Row::of::<get_event_artifact::GetEventArtifact>(),
            Row::of::<get_run::GetRun>(),
            Row::of::<list_agents::ListAgents>(),
            Row::of::<list_backends::ListBackends>(),
            Row::of::<list_runs::ListRuns>(),
            Row::of::<list_targets::ListTargets>(),
            Row::of::<plan_run::PlanRun>(),
            Row::of::<poll_events::PollEvents>(),
            Row::of::<send_agent_message::SendAgentMessage>(),
            Row::of::<spawn_run::SpawnRun>(),
            Row::of::<wait_runs::WaitRuns>(),
        ])
    })
}

/// At most one of these fields may be given.
fn exclusive(tool: &str, fields: &[(&str, bool)]) -> Result<(), Fault> {
    let given: Vec<&str> = fields.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    match given.as_slice() {
        [] | [_] => Ok(()),
        [one, other, ..] => Err(Fault::new(code::CONFLICTING_FIELDS, format!("{tool} takes `{one}` or `{other}`, not both"))
            .hint(format!("leave out all but one of {}", given.join(", ")))),
    }
}

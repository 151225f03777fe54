//! `list_agents`

use super::super::Host;
use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use crate::fault::Fault;
use crate::run::request::AgentsRequest;
use crate::run::view::AgentPage;

/// Named sessions.
pub struct ListAgents;

impl Tool<Host> for ListAgents {
    const NAME: &'static str = "list_agents";
    const TITLE: &'static str = "List agents";
    const DESCRIPTION: &'static str = "List the agents: sessions that were given a name, most recently used first, each with its newest run and the size of its inbox. \
        Use it to find whom to write to with send_agent_message, or a named agent to go on with through continue_run; use list_runs for runs, named \
        or not, and list_backends for kinds of agents. A name comes from `name` of spawn_run and stays with the session. Gives 50 unless you give \
        limit (at most 200); filter by backend or cwd. Answers at once and changes nothing.";
    const HINTS: Hints = Hints::LOOK;
    type Request = AgentsRequest;
    type Answer = AgentPage;

    async fn call(call: &Call<Host>, request: AgentsRequest) -> Result<AgentPage, Fault> {
        call.host.manager.agents(request).await
    }
}

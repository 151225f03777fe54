//! `send_agent_message`

use super::super::Host;
use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use crate::fault::Fault;
use crate::run::request::SendRequest;
use crate::run::view::Sent;

/// Puts a message into an inbox.
pub struct SendAgentMessage;

impl Tool<Host> for SendAgentMessage {
    const NAME: &'static str = "send_agent_message";
    const TITLE: &'static str = "Send a message to an agent";
    const DESCRIPTION: &'static str = "Put a message into the inbox of a named agent, which reads it when it calls fetch_agent_messages. Use it between agents that work side \
        by side (hand over results, ask a colleague); it does not interrupt: to give a live run something to act on now, or to go on with one that \
        ended, use continue_run. The agent must have a name (see list_agents), else the code is unknown_agent. Text at most 65536 characters; \
        the message is kept with the session, in order, also after its runs end. Give request_key to make a retry safe. \
        Starts and stops nothing.";
    const HINTS: Hints = Hints::ADD;
    type Request = SendRequest;
    type Answer = Sent;

    async fn call(call: &Call<Host>, request: SendRequest) -> Result<Sent, Fault> {
        call.host.manager.send_message(&call.caller(), request).await
    }
}

//! `get_run`

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::Host;
use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use crate::fault::Fault;
use crate::run::view::RunView;

/// The whole state of one run.
pub struct GetRun;

/// Which run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Run id (`run_…`) or session name; a name means its newest run.
    run_id: String,
}

impl Tool<Host> for GetRun {
    const NAME: &'static str = "get_run";
    const TITLE: &'static str = "Get a run";
    const DESCRIPTION: &'static str = "Get the whole state of one run: status, request, result (text and structured), error, usage, open questions, and the receipt of \
        its stop. Use it after wait_runs or poll_events said that a run ended or needs an answer, or to look once; do not call it in a loop: \
        wait_runs waits for you, and poll_events tells what happened on the way. list_runs finds runs whose id you do not know. \
        Answers at once and changes nothing. Long texts are cut (request 2 KiB, result 6 KiB); get_event_artifact reads the whole result from the \
        last event. Statuses: queued, starting, running, input_required, auth_required, cancelling; over: completed, failed, cancelled, rejected, \
        lost. durable false: the ledger cannot be written, and the answer comes from memory.";
    const HINTS: Hints = Hints::LOOK;
    const MAIN: bool = true;
    type Request = Request;
    type Answer = RunView;

    async fn call(call: &Call<Host>, request: Request) -> Result<RunView, Fault> {
        call.host.manager.get(&request.run_id).await
    }
}

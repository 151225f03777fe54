//! `cancel_run`

use super::super::Host;
use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use crate::fault::{Fault, code};
use crate::run::request::CancelRequest;
use crate::run::view::Cancelled;

/// Stops a run.
pub struct CancelRun;

impl Tool<Host> for CancelRun {
    const NAME: &'static str = "cancel_run";
    const TITLE: &'static str = "Stop a run";
    const DESCRIPTION: &'static str = "Stop a run and everything it started: the backend is asked, then its processes are terminated, then killed, until that is proven. \
        Use it when a job is no longer wanted, hangs or does harm; nothing else stops a run (ending a wait or disconnecting does not). Runs that it \
        started are stopped with it. A group id (grp_…) stops all runs of the group, and gives a receipt for each. The answer carries the receipt: which steps were needed, what was killed, what may still live, how that is \
        known, and what the far end said. grace_ms is how long the run may end by itself (0 kills at once, at most 30000). Answers within 40 s, \
        else with status cancelling and the receipt so far: get_run then has the rest. What the run gave until then is kept. Stopping a run that \
        has ended, or stopping twice, is no error: the answer is the state as it is. It cannot be undone; continue_run may carry the session on.";
    const HINTS: Hints = Hints::END;
    const MAIN: bool = true;
    type Request = CancelRequest;
    type Answer = Cancelled;

    fn lasts(_: &CancelRequest) -> bool {
        true
    }

    async fn call(call: &Call<Host>, request: CancelRequest) -> Result<Cancelled, Fault> {
        let run = request.run_id.clone();
        // In a task of its own: the stop goes on when the caller does not wait for it.
        let (manager, caller) = (call.host.manager.clone(), call.caller());
        let stop = tokio::spawn(async move { manager.cancel(&caller, request).await });
        match call.unless_over(stop).await {
            Some(Ok(stopped)) => stopped,
            Some(Err(error)) => Err(Fault::new(code::INTERNAL, format!("the stop of {run} broke off: {error}")).hint("call it again")),
            None => call.host.manager.stopped(&run).await,
        }
    }
}

//! `continue_run`

use super::super::Host;
use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use super::super::wait;
use crate::fault::{Fault, code};
use crate::run::request::{ContinueRequest, WaitFor, WaitRequest};
use crate::run::view::Continued;

/// Answers, steers or carries on.
pub struct ContinueRun;

impl Tool<Host> for ContinueRun {
    const NAME: &'static str = "continue_run";
    const TITLE: &'static str = "Continue a run";
    const DESCRIPTION: &'static str = "Answer a run's open question, steer a live run with a message, carry the session of an ended run on, or fork it. \
        Use it when wait_runs or get_run shows input_required or auth_required, or to go on with the same agent and its memory; use spawn_run for \
        work that needs no memory. Give exactly one of message, parts (files too) and answer. answer takes question_id and details_hash from a question \
        you read, so that nothing is approved unseen. `action` says what was done: answered; steered; continued, a new run_id of the same session \
        with the old request kept but for the message; forked (fork true), a new run_id of a new session that knows the old one, which goes on unchanged. \
        Like spawn_run it lets a backend act; wait_ms (at most 45000) waits for the end. Refused: not_continuable without a memory, unsupported where the \
        backend cannot, stale_answer, question_answered, question_expired, question_withdrawn, question_closed.";
    const HINTS: Hints = Hints::WORK;
    type Request = ContinueRequest;
    type Answer = Continued;

    fn lasts(request: &ContinueRequest) -> bool {
        request.wait_ms.is_some_and(|ms| ms > 0)
    }

    async fn call(call: &Call<Host>, mut request: ContinueRequest) -> Result<Continued, Fault> {
        check(&request)?;
        let wait_ms = request.wait_ms.take().filter(|ms| *ms > 0);
        let mut continued = call.host.manager.continue_run(&call.caller(), request).await?;
        if let Some(wait_ms) = wait_ms {
            let request = WaitRequest { run_ids: vec![continued.run_id.to_string()], mode: WaitFor::All, wait_ms: Some(wait_ms) };
            // What was done stays done, whatever becomes of the wait.
            if let Some(run) = wait::for_runs(call, request).await.ok().and_then(|page| page.runs.into_iter().next()) {
                continued.status = run.status;
                continued.result = run.result.filter(|_| run.status.is_terminal());
                continued.error = run.error;
            }
        }
        Ok(continued)
    }
}

/// What a flat schema cannot say.
fn check(request: &ContinueRequest) -> Result<(), Fault> {
    let given = [("message", request.message.is_some()), ("parts", request.parts.is_some()), ("answer", request.answer.is_some())];
    super::exclusive(ContinueRun::NAME, &given)?;
    if given.iter().all(|(_, given)| !given) {
        return Err(Fault::new(code::CONFLICTING_FIELDS, "continue_run needs `message`, `parts` or `answer`")
            .hint("give `message` or `parts` to steer or carry on, `answer` to answer a question that get_run shows"));
    }
    Ok(())
}

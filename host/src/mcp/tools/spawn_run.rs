//! `spawn_run`

use super::super::Host;
use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use super::super::wait;
use crate::fault::Fault;
use crate::run::request::{SpawnRequest, WaitFor, WaitRequest};
use crate::run::view::{Spawned, Waited};

/// Starts a run.
pub struct SpawnRun;

impl Tool<Host> for SpawnRun {
    const NAME: &'static str = "spawn_run";
    const TITLE: &'static str = "Start a run";
    const DESCRIPTION: &'static str = "Start a long-running background job (a coding agent such as Claude, a shell command, any backend) and get its run_id at \
        once. Use it for work that takes longer than a few seconds or is to go on beside yours; then wait_runs or poll_events, and get_run for the \
        result. Use plan_run first to see whether it would be allowed; use continue_run, not this, to answer or carry on an existing run. \
        The run does what its backend was granted (runs programs, changes files in cwd) and goes on until it ends, its time is over or cancel_run \
        stops it, also when you disconnect. Give request_key to make a retry safe. wait_ms (at most 45000) waits for the end of short jobs. \
        targets or target_tag start a group (group_id), one run each, parallel at once. Refusals are errors with a code and a hint, e.g. unknown_backend, not_allowed.";
    const HINTS: Hints = Hints::WORK;
    const MAIN: bool = true;
    type Request = SpawnRequest;
    type Answer = Spawned;

    fn lasts(request: &SpawnRequest) -> bool {
        request.wait_ms.is_some_and(|ms| ms > 0)
    }

    async fn call(call: &Call<Host>, mut request: SpawnRequest) -> Result<Spawned, Fault> {
        check(Self::NAME, &request)?;
        // The wait is no part of the run: it is done here, and not kept with the request.
        let wait_ms = request.wait_ms.take().filter(|ms| *ms > 0);
        let mut spawned = call.host.manager.spawn(&call.caller(), request).await?;
        if let Some(wait_ms) = wait_ms {
            let run_ids = spawned.run_ids.iter().map(ToString::to_string).collect();
            let request = WaitRequest { run_ids, mode: WaitFor::All, wait_ms: Some(wait_ms) };
            // The run is there, whatever becomes of the wait: its id must reach the caller.
            for run in wait::for_runs(call, request).await.map(|page| page.runs).unwrap_or_default() {
                enter(&mut spawned, run);
            }
        }
        Ok(spawned)
    }
}

/// What became of a run while it was waited for.
fn enter(spawned: &mut Spawned, run: Waited) {
    let result = run.result.filter(|_| run.status.is_terminal());
    if let Some(member) = spawned.runs.iter_mut().find(|member| member.run_id == run.run_id) {
        (member.status, member.result, member.error) = (run.status, result, run.error);
    } else if spawned.run_id == Some(run.run_id) {
        (spawned.status, spawned.result, spawned.error) = (Some(run.status), result, run.error);
    }
}

/// What a flat schema cannot say.
pub(super) fn check(tool: &str, request: &SpawnRequest) -> Result<(), Fault> {
    super::exclusive(tool, &[("prompt", request.prompt.is_some()), ("message", request.message.is_some())])?;
    super::exclusive(tool, &[("profile", request.profile.is_some()), ("instructions", request.instructions.is_some())])?;
    let targets =
        [("target", request.target.is_some()), ("targets", request.targets.is_some()), ("target_tag", request.target_tag.is_some())];
    super::exclusive(tool, &targets)
}

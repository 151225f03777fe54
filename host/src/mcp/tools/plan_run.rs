//! `plan_run`

use super::super::Host;
use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use crate::fault::Fault;
use crate::run::request::SpawnRequest;
use crate::run::view::Plan;

/// A dry run.
pub struct PlanRun;

impl Tool<Host> for PlanRun {
    const NAME: &'static str = "plan_run";
    const TITLE: &'static str = "Plan a run";
    const DESCRIPTION: &'static str = "Dry run of spawn_run: say what a job would do, whether it is allowed, by which rule, in which directory and within which \
        limits, without starting anything. Use it before spawn_run when you are not sure that a backend, program, cwd or config is allowed, or to \
        show a person what is about to happen; skip it for a job like one that ran before. Takes the same arguments as spawn_run and keeps nothing. \
        `allowed` false comes with `refusal` {code, message, hint}: what a person could change in the configuration. `unknown` lists what cannot \
        be known beforehand. A plan is no promise: grants, limits and free places are judged again when the run starts.";
    const HINTS: Hints = Hints::LOOK;
    type Request = SpawnRequest;
    type Answer = Plan;

    async fn call(call: &Call<Host>, request: SpawnRequest) -> Result<Plan, Fault> {
        super::spawn_run::check(Self::NAME, &request)?;
        call.host.manager.plan(&call.caller(), request).await
    }
}

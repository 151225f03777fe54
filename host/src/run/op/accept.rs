//! Whether a run may begin: its request, and, at a target, all that its backend would do there.
//!
//! What is refused here starts nothing, and is in the ledger when the caller hears of it. What is allowed is written with the run.

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::spawn::Accepted;
use crate::fault::{Fault, code};
use crate::policy::command::{Allowed, Permitted};
use crate::policy::{JudgedRun, Judgement};
use crate::run::decision::{MAX_PLANNED, Matter};
use crate::run::limits::{lower, shown};
use crate::run::manager::{Caller, Manager};
use crate::run::places::Want;
use crate::run::request::SpawnRequest;
use crate::run::translate::from_failure;

/// How decisions about this call are called.
const SPAWN_RUN: &str = "spawn_run";

/// What a backend would do, judged.
pub(super) struct Planned {
    pub(super) summary: String,
    pub(super) unknown: Vec<String>,
    pub(super) judged: Vec<Judgement>,
}

impl Manager {
    /// Judges a request, and what its backend would do at its target. Nothing is written but files of its message, and refusals.
    pub(super) async fn accept(&self, caller: &Caller, request: SpawnRequest, prior_cwd: Option<&Utf8Path>) -> Result<Accepted, Fault> {
        let matter = Matter::of(caller, &request.backend, request.target.as_deref());
        let mut accepted = match self.prepare(caller, request, prior_cwd).await {
            Ok(accepted) => accepted,
            Err(fault) => {
                self.note_refusal(&matter, SPAWN_RUN, &fault).await;
                return Err(fault);
            }
        };
        if accepted.job.target.is_none() {
            // What it starts here is judged when it starts it.
            let row = accepted.matter.decided(SPAWN_RUN, Ok(&self.rule_here(&accepted)), None);
            accepted.decisions.push(row);
            return Ok(accepted);
        }
        let planned = match self.planned(&accepted).await {
            Ok(planned) => planned,
            Err(fault) => {
                self.note_refusal(&matter, SPAWN_RUN, &fault).await;
                return Err(fault);
            }
        };
        if let Some(refused) = planned.judged.iter().find(|judged| judged.refusal.is_some())
            && let Some(fault) = &refused.refusal
        {
            self.note(vec![matter.planned(SPAWN_RUN, refused)]).await;
            return Err(fault.clone());
        }
        accepted.bind(planned);
        if let Err(fault) = self.would_wait_for_itself(&accepted) {
            self.note_refusal(&matter, SPAWN_RUN, &fault).await;
            return Err(fault);
        }
        Ok(accepted)
    }

    /// What lets a run work on this machine.
    fn rule_here(&self, accepted: &Accepted) -> String {
        let backend = &accepted.backend.name;
        let rule = accepted.job.cwd.as_deref().and_then(|cwd| {
            let client = accepted.workspaces.first().map(Utf8PathBuf::as_path);
            self.policy().covers(backend, client, Utf8Path::new(cwd))
        });
        rule.unwrap_or_else(|| format!("backends.{backend}.enabled"))
    }

    /// What the backend would do, each action judged.
    pub(super) async fn planned(&self, accepted: &Accepted) -> Result<Planned, Fault> {
        let draft = accepted.backend.plan(accepted.job.clone()).await?.map_err(from_failure)?;
        if accepted.job.target.is_some() && draft.actions.len() > MAX_PLANNED {
            let message = format!("the backend plans {} actions for a target; at most {MAX_PLANNED} are taken", draft.actions.len());
            return Err(Fault::new(code::VALUE_TOO_LARGE, message).hint("ask for less in one run"));
        }
        let run = JudgedRun {
            backend: &accepted.backend.name,
            client: accepted.workspaces.first().map(Utf8PathBuf::as_path),
            target: accepted.job.target.as_ref().map(|target| target.name.as_str()),
        };
        let judged = draft.actions.iter().map(|action| self.policy().judge(run, action)).collect();
        Ok(Planned { summary: draft.summary, unknown: draft.unknown, judged })
    }

    /// A run inside another one must not wait for a place that only those have that wait for it.
    fn would_wait_for_itself(&self, accepted: &Accepted) -> Result<(), Fault> {
        let Some(parent) = &accepted.parent else { return Ok(()) };
        let wants: Vec<Want> = accepted.held_by.wants().collect();
        let Some(place) = self.inner.places.all_held_by(&wants, &self.lineage(parent)) else { return Ok(()) };
        let by = accepted.held_by.source(&place).unwrap_or("a rule");
        Err(Fault::new(code::LIMIT_REACHED, format!("the run from which this call comes has the last place of {by}"))
            .hint("start it when that run has ended; or a person raises `parallel` there"))
    }
}

impl Accepted {
    /// Holds the run to what its plan named, and to the limits that come with it.
    fn bind(&mut self, planned: Planned) {
        self.decisions.extend(planned.judged.iter().map(|judged| self.matter.planned(SPAWN_RUN, judged)));
        if self.decisions.is_empty() {
            self.decisions.push(self.matter.decided(SPAWN_RUN, Ok("its plan names no command, so it may execute none"), None));
        }
        let far: Vec<Allowed> = planned.judged.into_iter().filter_map(|judged| judged.far).collect();
        self.held_by = lower(&mut self.limits, &far);
        self.job.limits.wall_ms = u64::try_from(self.limits.wall.as_millis()).ok();
        self.job.limits.output_bytes = self.limits.output;
        self.far = Permitted::new(&self.backend.name, self.job.target.as_ref().map(|target| target.name.as_str()), far);
    }

    /// As [`Accepted::bind`], for a plan that is only shown.
    pub(super) fn limits_of(&self, planned: &Planned) -> Value {
        let far: Vec<Allowed> = planned.judged.iter().filter_map(|judged| judged.far.clone()).collect();
        let mut limits = self.limits.clone();
        let by = lower(&mut limits, &far);
        shown(&limits, &by)
    }
}

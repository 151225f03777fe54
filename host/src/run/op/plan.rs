//! `plan_run`: what `spawn_run` would do, without doing it.

use serde_json::Value;

use super::group::lone;
use crate::fault::Fault;
use crate::policy::Judgement;
use crate::run::decision::{MAX_PLANNED, Matter};
use crate::run::limits::shown;
use crate::run::manager::{Caller, Manager};
use crate::run::request::SpawnRequest;
use crate::run::view::{Plan, PlannedAction};

/// How decisions about this call are called.
const PLAN_RUN: &str = "plan_run";

impl Manager {
    /// `plan_run`. A request that would be refused is no error here: the plan says why. What was decided is in the ledger.
    pub async fn plan(&self, caller: &Caller, request: SpawnRequest) -> Result<Plan, Fault> {
        if request.is_group() { self.plan_group(caller, request).await } else { self.plan_one(caller, request).await }
    }

    /// The plan of one run.
    pub(super) async fn plan_one(&self, caller: &Caller, request: SpawnRequest) -> Result<Plan, Fault> {
        if let Err(fault) = lone(&request) {
            return Ok(refused(fault));
        }
        let name = request.backend.clone();
        let matter = Matter::of(caller, &name, request.target.as_deref());
        let accepted = match self.prepare(caller, request, None).await {
            Ok(accepted) => accepted,
            Err(fault) => {
                self.note_refusal(&matter, PLAN_RUN, &fault).await;
                return Ok(refused(fault));
            }
        };
        let cwd = accepted.job.cwd.clone();
        let config = self.shown_config(&name, &accepted.job.config);
        let digest = accepted.backend.digest.clone();
        let planned = match self.planned(&accepted).await {
            Ok(planned) => planned,
            Err(fault) => {
                self.note_refusal(&matter, PLAN_RUN, &fault).await;
                let limits = shown(&accepted.limits, &accepted.held_by);
                return Ok(Plan { cwd, config, limits, backend_digest: digest, ..refused(fault) });
            }
        };
        let limits = accepted.limits_of(&planned);
        // Those that were refused first: they are written, however long the plan is.
        let (bad, good): (Vec<&Judgement>, Vec<&Judgement>) = planned.judged.iter().partition(|judged| judged.refusal.is_some());
        self.note(bad.iter().chain(&good).take(MAX_PLANNED).map(|judged| matter.planned(PLAN_RUN, judged)).collect()).await;
        let refusal = bad.first().and_then(|judged| judged.refusal.clone());
        let action = |judged: Judgement| PlannedAction {
            kind: judged.kind.to_owned(),
            detail: judged.detail,
            allowed: judged.refusal.is_none(),
            rule: judged.rule,
            hint: judged.refusal.and_then(|fault| fault.hint),
        };
        Ok(Plan {
            allowed: refusal.is_none(),
            refusal,
            summary: crate::run::inert::inert(planned.summary),
            actions: planned.judged.into_iter().map(action).collect(),
            unknown: planned.unknown,
            cwd,
            config,
            limits,
            backend_digest: digest,
        })
    }
}

impl Manager {
    /// The config of a plan. What a run cannot choose is the operator's, and may hold what is for nobody else: it is named, not shown.
    fn shown_config(&self, backend: &str, config: &str) -> Value {
        let mut config: Value = serde_json::from_str(config).unwrap_or(Value::Null);
        let allow = &self.policy().config().backend(backend).allow;
        for (key, value) in config.as_object_mut().into_iter().flatten() {
            if !allow.contains_key(key) && (value.is_object() || value.is_array()) {
                *value = Value::from("set by the configuration");
            }
        }
        config
    }
}

pub(super) fn refused(fault: Fault) -> Plan {
    Plan {
        allowed: false,
        summary: format!("refused: {}", fault.message),
        refusal: Some(fault),
        actions: Vec::new(),
        unknown: Vec::new(),
        cwd: None,
        config: Value::Null,
        limits: Value::Null,
        backend_digest: String::new(),
    }
}

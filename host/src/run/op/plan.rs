//! `plan_run`: what `spawn_run` would do, without doing it.

use serde_json::{Value, json};

use super::group::lone;
use crate::config::units::Cpus;
use crate::fault::Fault;
use crate::run::manager::{Caller, Manager};
use crate::run::request::SpawnRequest;
use crate::run::view::{Plan, PlannedAction};

impl Manager {
    /// `plan_run`. A request that would be refused is no error here: the plan says why.
    pub async fn plan(&self, caller: &Caller, request: SpawnRequest) -> Result<Plan, Fault> {
        if request.is_group() { self.plan_group(caller, request).await } else { self.plan_one(caller, request).await }
    }

    /// The plan of one run.
    pub(super) async fn plan_one(&self, caller: &Caller, request: SpawnRequest) -> Result<Plan, Fault> {
        if let Err(fault) = lone(&request) {
            return Ok(refused(fault));
        }
        let name = request.backend.clone();
        let accepted = match self.accept(caller, request, None).await {
            Ok(accepted) => accepted,
            Err(fault) => return Ok(refused(fault)),
        };
        let cwd = accepted.job.cwd.clone();
        let config = self.shown_config(&name, &accepted.job.config);
        let limits = &accepted.limits;
        let limits = json!({
            "wall_s": limits.wall.as_secs(), "idle_s": limits.idle.map(|idle| idle.as_secs()), "memory_bytes": limits.memory,
            "events": limits.events, "output_bytes": limits.output, "runs": limits.runs,
            "tree_memory_bytes": limits.tree.memory, "tree_processes": limits.tree.processes,
            "tree_cpu": limits.tree.cpu.map(Cpus::get),
        });
        let digest = accepted.backend.digest.clone();
        let client = accepted.workspaces.first().cloned();
        let draft = match accepted.backend.plan(accepted.job).await? {
            Ok(draft) => draft,
            Err(failure) => {
                let fault = Fault { code: failure.code.into(), message: failure.message, retryable: failure.retryable, hint: failure.hint };
                return Ok(Plan { cwd, config, limits, backend_digest: digest, ..refused(fault) });
            }
        };
        let mut actions = Vec::with_capacity(draft.actions.len());
        let mut refusal = None;
        for action in &draft.actions {
            let judged = self.policy().judge(&name, client.as_deref(), action);
            if !judged.allowed && refusal.is_none() {
                let fault = Fault::new(judged.code, format!("the backend would be refused: {}", judged.rule));
                refusal = Some(fault.hint("a person can change the grants in the configuration; `falconer check` shows them"));
            }
            actions.push(PlannedAction { kind: judged.kind.to_owned(), detail: judged.detail, allowed: judged.allowed, rule: judged.rule });
        }
        Ok(Plan {
            allowed: refusal.is_none(),
            refusal,
            summary: crate::run::inert::inert(draft.summary),
            actions,
            unknown: draft.unknown,
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

//! Groups: one run for each of several targets, side by side up to a cap.
//!
//! Every run of a group is an ordinary run: a session, events and an end of its own. What makes them a group stands in their
//! rows and nowhere else, so a group is known, and its state true, also after a restart. All of them are judged before any is
//! written, and all are written in one transaction: half a group never starts. The cap is the [`Gate`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::gate::Gate;
use super::get::{cut, status_of};
use super::plan::refused as refused_plan;
use super::resume::files_of;
use super::session::name_taken;
use super::spawn::{Accepted, ops_of};
use crate::clock::Millis;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::id::{GroupId, RunId};
use crate::ledger::{LedgerError, Op, RunFilter};
use crate::policy::inventory::{Selected, Selection};
use crate::run::live::Live;
use crate::run::manager::{Caller, Found, Manager};
use crate::run::record::ledger_fault;
use crate::run::request::SpawnRequest;
use crate::run::status::Status;
use crate::run::translate::hash;
use crate::run::view::{Member, Plan, Spawned};

/// Runs of one group; `wait_runs` takes as many.
pub(super) const MAX_MEMBERS: usize = 100;
/// All results of an answer about a group together, so that many runs stay readable.
const RESULT_CHARS: usize = 6_000;
/// Refusals of targets that are told in full; of the others the names are.
const TOLD: usize = 8;

impl Manager {
    /// Judges, writes and starts a group. Gives its first run, and whether the request key was known.
    pub(super) async fn begin_group(&self, caller: &Caller, mut request: SpawnRequest) -> Result<(RunId, bool), Fault> {
        request.wait_ms = None;
        if self.is_closing() {
            return Err(Fault::new(code::SHUTTING_DOWN, "the host is ending and takes no new work").retryable());
        }
        if let Some(run) = self.repeated(&request)? {
            return Ok((run, true));
        }
        // The same call may come twice at once: the other one may have been first, and that is no error.
        let known = |fault: Fault| match self.repeated(&request) {
            Ok(Some(run)) => Ok((run, true)),
            _ => Err(fault),
        };
        let accepted = match self.accept_all(caller, &request).await {
            Ok(accepted) => accepted,
            Err(fault) => return known(fault),
        };
        let key = request.request_key.as_ref().map(|key| format!("spawn:{key}"));
        let arguments = hash(&serde_json::to_string(&request).unwrap_or_default());
        let (group, now) = (GroupId::random(), Millis::now());
        let (mut ops, mut members) = (Vec::new(), Vec::with_capacity(accepted.len()));
        for (at, accepted) in accepted.into_iter().enumerate() {
            let mut row = self.row_of(&accepted);
            (row.group, row.created_at) = (Some(group), now);
            // The key stands for the whole group, by its first run.
            ops.extend(ops_of(&accepted.session, &row, None, key.as_deref().filter(|_| at == 0), &arguments));
            ops.push(Op::PutDecisions(accepted.decisions.clone()));
            ops.extend(files_of(&accepted.job, row.id));
            let (live, ear) = Live::new(row);
            members.push((accepted, live, ear));
        }
        let lives: Vec<Arc<Live>> = members.iter().map(|(_, live, _)| Arc::clone(live)).collect();
        let Some(first) = lives.first().map(|live| live.id) else {
            return Err(Fault::new(code::INTERNAL, "a group of no runs"));
        };
        // In the list before they are on disk: whoever finds a row finds its run alive.
        lives.iter().for_each(|live| self.enlist(live));
        if let Err(error) = self.inner.ledger.commit(Some(first), ops).await {
            lives.iter().for_each(|live| self.strike(live.id));
            return known(match error {
                LedgerError::NameTaken(name) => name_taken(&name),
                error => ledger_fault(&error),
            });
        }
        lives.iter().for_each(|live| live.publish(|view| view.row.last_seq = 1));
        let stops = request.stop_on_failure.unwrap_or(false);
        let gate = Gate::new(lives, self.parallel(&request), stops);
        for (accepted, live, ear) in members {
            self.launch(caller, accepted, live, ear, Some(Arc::clone(&gate))).await;
        }
        Ok((first, false))
    }

    /// How many runs of a group may run at once.
    fn parallel(&self, request: &SpawnRequest) -> usize {
        request.parallel.unwrap_or(self.policy().config().host.fan_out) as usize
    }

    /// Judges the request for every target; a refusal of one is a refusal of all, and names every one that is refused.
    async fn accept_all(&self, caller: &Caller, request: &SpawnRequest) -> Result<Vec<Accepted>, Fault> {
        let targets = self.targets_of(request).await?;
        self.room_for(targets.len())?;
        let (mut accepted, mut refused) = (Vec::with_capacity(targets.len()), Vec::new());
        for target in &targets {
            match self.accept(caller, member(request, target), None).await {
                Ok(taken) => accepted.push(taken),
                Err(fault) => refused.push((target.as_str(), fault)),
            }
        }
        if refused.is_empty() { Ok(accepted) } else { Err(all_refused(&refused, targets.len())) }
    }

    /// The names of the targets, in order, each once.
    async fn targets_of(&self, request: &SpawnRequest) -> Result<Vec<String>, Fault> {
        fits(request)?;
        let backend = self.usable(&request.backend).await?;
        let abilities = backend.description.as_ref().map_or_else(wit::Abilities::empty, |description| description.abilities);
        if !abilities.contains(wit::Abilities::TARGETS) {
            return Err(here_only(&backend.name));
        }
        let asked =
            Selection { target: request.target.as_deref(), targets: request.targets.as_deref(), tag: request.target_tag.as_deref() };
        let names: Vec<String> = match (self.policy().inventory().select(&asked), &request.targets) {
            (Ok(Selected::Many(targets)), _) => targets.into_iter().map(|target| target.name.clone()).collect(),
            // Each unknown one is to be named, not the first alone: it is refused where it is judged.
            (Err(fault), Some(names)) if fault.code == code::UNKNOWN_TARGET => names.clone(),
            (Err(fault), _) => return Err(fault),
            (Ok(_), _) => return Err(Fault::new(code::INVALID_ARGUMENT, "the group has no targets").hint("list_targets shows them")),
        };
        if names.len() > MAX_MEMBERS {
            let many = names.len();
            return Err(Fault::new(code::LIMIT_REACHED, format!("{many} targets are too many for one group; at most {MAX_MEMBERS}"))
                .hint("name fewer in `targets`, or a tag that fewer have"));
        }
        Ok(names)
    }

    /// `plan_run` of a group: the plan of the first run, with all actions, and every refusal.
    pub(super) async fn plan_group(&self, caller: &Caller, request: SpawnRequest) -> Result<Plan, Fault> {
        let targets = match self.targets_of(&request).await {
            Ok(targets) => targets,
            Err(fault) => return Ok(refused_plan(fault)),
        };
        let (mut whole, mut refusals): (Option<Plan>, Vec<(&str, Fault)>) = (None, Vec::new());
        for target in &targets {
            let plan = self.plan_one(caller, member(&request, target)).await?;
            refusals.extend(plan.refusal.clone().map(|fault| (target.as_str(), fault)));
            match &mut whole {
                None => whole = Some(plan),
                Some(whole) => {
                    for action in plan.actions {
                        if !whole.actions.contains(&action) {
                            whole.actions.push(action);
                        }
                    }
                    for unknown in plan.unknown {
                        if !whole.unknown.contains(&unknown) {
                            whole.unknown.push(unknown);
                        }
                    }
                }
            }
        }
        let Some(mut plan) = whole else { return Ok(refused_plan(Fault::new(code::INTERNAL, "a group of no runs"))) };
        if !refusals.is_empty() {
            let fault = all_refused(&refusals, targets.len());
            (plan.allowed, plan.summary, plan.refusal) = (false, format!("refused: {}", fault.message), Some(fault));
            return Ok(plan);
        }
        let most = self.parallel(&request).min(targets.len());
        plan.summary = format!("{} runs, at most {most} at once, at {}; each: {}", targets.len(), targets.join(", "), plan.summary);
        Ok(plan)
    }

    /// The runs of a group, in the order of its targets.
    pub(super) async fn members(&self, group: GroupId) -> Result<Vec<Found>, Fault> {
        let filter = RunFilter { group: Some(group), limit: MAX_MEMBERS as u32, ..RunFilter::default() };
        let rows = self.inner.ledger.runs(&filter).map_err(|error| ledger_fault(&error))?;
        if rows.is_empty() {
            return Err(Fault::new(code::UNKNOWN_RUN, format!("no group is called `{group}`")).hint("list_runs shows the runs"));
        }
        let mut members = Vec::with_capacity(rows.len());
        // Rows come newest first.
        for row in rows.into_iter().rev() {
            members.push(self.found(row.id).await?);
        }
        Ok(members)
    }

    /// What is said where one run is wanted and a group is named.
    pub(in crate::run) async fn not_one_run(&self, group: GroupId) -> Fault {
        let members = match self.members(group).await {
            Ok(members) => members,
            Err(fault) => return fault,
        };
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for run in &members {
            let status = status_of(&run.view().row.status);
            *counts.entry(Status::ALL.iter().position(|one| *one == status).unwrap_or_default()).or_default() += 1;
        }
        let counts: Vec<String> =
            counts.into_iter().filter_map(|(at, count)| Some(format!("{count} {}", Status::ALL.get(at)?.word()))).collect();
        Fault::new(code::INVALID_ARGUMENT, format!("{group} is a group of {} runs ({}), and one run is wanted", members.len(), counts.join(", ")))
            .hint("name one of its runs: list_runs with `group_id`, or wait_runs with `wait_ms` 0, shows them; wait_runs and cancel_run take the group")
    }

    /// The answer of a `spawn_run` that made this group.
    pub(super) async fn spawned_group(&self, group: GroupId, repeated: bool) -> Result<Spawned, Fault> {
        let members = self.members(group).await?;
        let share = (RESULT_CHARS / members.len().max(1)).max(200);
        let runs: Vec<Member> = members
            .iter()
            .map(|run| {
                let view = run.view();
                let status = status_of(&view.row.status);
                let ended = status.is_terminal();
                Member {
                    run_id: view.row.id,
                    target: view.row.target,
                    status,
                    result: view.outline.result.filter(|_| ended).map(|result| cut(result, share)),
                    error: view.outline.error.filter(|_| ended),
                }
            })
            .collect();
        Ok(Spawned {
            run_id: None,
            session_id: None,
            status: None,
            group_id: Some(group),
            run_ids: runs.iter().map(|run| run.run_id).collect(),
            runs,
            repeated,
            result: None,
            error: None,
        })
    }
}

/// Refuses what only a group can have.
pub(super) fn lone(request: &SpawnRequest) -> Result<(), Fault> {
    let field = match (request.parallel, request.stop_on_failure) {
        (Some(_), _) => "parallel",
        (None, Some(true)) => "stop_on_failure",
        (None, _) => return Ok(()),
    };
    Err(Fault::new(code::CONFLICTING_FIELDS, format!("`{field}` was given without `targets` or `target_tag`"))
        .hint("it is for a group: name several targets, or leave it out"))
}

/// Refuses a target for a backend that has none.
pub(super) fn here_only(backend: &str) -> Fault {
    Fault::new(code::UNSUPPORTED, format!("backend `{backend}` runs on this machine only and takes no target"))
        .hint("leave `target`, `targets` and `target_tag` out; list_targets shows where others can run")
}

/// Refuses what only one run can have.
fn fits(request: &SpawnRequest) -> Result<(), Fault> {
    let conflict = |field: &str, why: &str| {
        Err(Fault::new(code::CONFLICTING_FIELDS, format!("`{field}` was given with `targets` or `target_tag`")).hint(why.to_owned()))
    };
    if request.session_id.is_some() || request.fork == Some(true) {
        return conflict(
            "session_id",
            "each run of a group has a session of its own; carry one run on with `target`, or with continue_run",
        );
    }
    if request.name.is_some() {
        return conflict(
            "name",
            "a name is for one session, and each run of a group has its own; the group's id names all, `role` labels them",
        );
    }
    Ok(())
}

/// The request of one run of a group: what would have started it alone.
fn member(request: &SpawnRequest, target: &str) -> SpawnRequest {
    SpawnRequest {
        target: Some(target.to_owned()),
        targets: None,
        target_tag: None,
        parallel: None,
        stop_on_failure: None,
        // It is the key of the group.
        request_key: None,
        ..request.clone()
    }
}

/// One refusal for all. What every target is refused for in the same words is no matter of targets.
fn all_refused(refused: &[(&str, Fault)], of: usize) -> Fault {
    let Some((_, first)) = refused.first() else { return Fault::new(code::INTERNAL, "nothing was refused") };
    if refused.len() == of && refused.iter().all(|(_, fault)| fault.code == first.code && fault.message == first.message) {
        return first.clone();
    }
    let told: Vec<String> = refused.iter().take(TOLD).map(|(target, fault)| format!("`{target}`: {}", fault.message)).collect();
    let mut message = format!("{} of {of} targets are refused, so no run was started: {}", refused.len(), told.join("; "));
    let more: Vec<String> = refused.iter().skip(TOLD).map(|(target, _)| format!("`{target}`")).collect();
    if !more.is_empty() {
        message.push_str(&format!("; and {}", more.join(", ")));
    }
    let mut hints: Vec<&str> = refused.iter().take(TOLD).filter_map(|(_, fault)| fault.hint.as_deref()).collect();
    hints.dedup();
    let hint = format!("leave them out, or: {}", if hints.is_empty() { "plan_run says more of each" } else { hints[0] });
    let fault = Fault::new(first.code.clone(), message).hint(hint);
    if refused.iter().all(|(_, fault)| fault.retryable) { fault.retryable() } else { fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_are_refused_for_is_told_once_and_what_some_are_with_their_names() {
        let same = Fault::new(code::INVALID_CONFIG, "`program` is missing").hint("give it");
        assert_eq!(all_refused(&[("a", same.clone()), ("b", same.clone())], 2), same);
        let some = all_refused(&[("b", same.clone())], 2);
        assert_eq!(some.message, "1 of 2 targets are refused, so no run was started: `b`: `program` is missing");
        assert_eq!((some.code.as_ref(), some.hint.as_deref()), (code::INVALID_CONFIG, Some("leave them out, or: give it")));
        let names: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
        let many: Vec<(&str, Fault)> =
            names.iter().map(|name| (name.as_str(), Fault::new("c", format!("no {name}")).retryable())).collect();
        let many = all_refused(&many, 12);
        assert!(many.retryable && names.iter().all(|name| many.message.contains(&format!("`{name}`"))), "{}", many.message);
    }

    #[test]
    fn a_group_is_no_place_for_what_is_one_runs() {
        let group = SpawnRequest { target_tag: Some("web".into()), ..SpawnRequest::default() };
        assert!(fits(&group).is_ok() && lone(&SpawnRequest { stop_on_failure: Some(false), ..SpawnRequest::default() }).is_ok());
        for request in [
            SpawnRequest { name: Some("n".into()), ..group.clone() },
            SpawnRequest { session_id: Some("ses_a".into()), ..group.clone() },
            SpawnRequest { fork: Some(true), ..group.clone() },
        ] {
            assert_eq!(fits(&request).unwrap_err().code, code::CONFLICTING_FIELDS);
        }
        let one = member(&SpawnRequest { parallel: Some(3), request_key: Some("k".into()), ..group }, "web-1");
        assert!(lone(&one).is_ok() && !one.is_group() && one.request_key.is_none() && one.target.as_deref() == Some("web-1"));
        assert!(lone(&SpawnRequest { parallel: Some(3), ..SpawnRequest::default() }).is_err());
    }
}

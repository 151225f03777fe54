//! What was allowed and what was refused, as it stands in the ledger: who asked, for what, where, and which rule said so.
//!
//! Decisions about a run that is made are committed with it; those about a run that is not are committed by themselves, and a
//! ledger that cannot take them is logged and changes no answer. What a component asked for while it ran is committed with the
//! run's next step.

use serde_json::{Value, json};

use super::event::EventType;
use super::inert;
use super::limits::shown;
use super::manager::{Caller, Manager};
use super::supervisor::Supervisor;
use crate::capability::told::{Told, Verdict, for_the_record};
use crate::clock::Millis;
use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::ledger::{DecisionRow, Op};
use crate::policy::Judgement;

/// What a component asks for while it runs.
const SPAWN: &str = "spawn";
/// A command for the far end was refused.
const COMMAND_REFUSED: &str = "command_refused";
/// The grant refused a start.
const SPAWN_REFUSED: &str = "spawn_refused";
/// How many more were refused.
const REFUSED_MORE: &str = "refused_more";
/// Actions of one plan that are written. Who plans more is refused, and of a dry run the refused ones are written first.
pub(super) const MAX_PLANNED: usize = 100;
/// The longest rule or message that is kept, in bytes.
const MAX_RULE: usize = 4 * 1024;
/// Decisions may wait so long for the ledger; a broken disk must not hold up an answer for longer.
const LEDGER_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// What is the same for all decisions of one call, or of one run.
#[derive(Debug, Clone)]
pub(super) struct Matter {
    pub caller: String,
    pub parent: Option<RunId>,
    pub run: Option<RunId>,
    pub backend: String,
    pub target: Option<String>,
}

impl Matter {
    /// Of a call that has made no run yet.
    pub fn of(caller: &Caller, backend: &str, target: Option<&str>) -> Self {
        let short = |text: &str| inert::preview(&inert::inert(text.to_owned()), 200);
        Self { caller: caller.name.clone(), parent: caller.parent, run: None, backend: short(backend), target: target.map(short) }
    }

    /// The decision with this outcome. `refused`: the code and the message.
    pub fn decided(&self, what: &str, outcome: Result<&str, (&str, &str)>, command: Option<String>) -> DecisionRow {
        let (rule, code) = match outcome {
            Ok(rule) => (rule, None),
            Err((code, message)) => (message, Some(code.to_owned())),
        };
        DecisionRow {
            n: 0,
            at: Millis::now(),
            caller: self.caller.clone(),
            parent: self.parent,
            run: self.run,
            backend: self.backend.clone(),
            target: self.target.clone(),
            what: what.to_owned(),
            allowed: outcome.is_ok(),
            code,
            rule: inert::preview(&inert::inert(rule.to_owned()), MAX_RULE),
            address: None,
            command,
        }
    }

    /// A call that was refused.
    pub fn refused(&self, what: &str, fault: &Fault) -> DecisionRow {
        self.decided(what, Err((&fault.code, &fault.message)), None)
    }

    /// One action of a plan.
    pub fn planned(&self, what: &str, judged: &Judgement) -> DecisionRow {
        let outcome = match &judged.refusal {
            None => Ok(judged.rule.as_str()),
            Some(fault) => Err((&*fault.code, fault.message.as_str())),
        };
        let row = self.decided(what, outcome, Some(words(judged)));
        DecisionRow { address: judged.address.clone(), ..row }
    }
}

/// What an action would execute: at the far end where it says so, else here.
fn words(judged: &Judgement) -> String {
    let detail = &judged.detail;
    let shown = match &detail["command"] {
        Value::Null if judged.kind == "spawn" => json!({ "program": detail["program"], "args": detail["args"] }),
        Value::Null => detail.clone(),
        far => far.clone(),
    };
    let mut shown = for_the_record(shown, None);
    inert::inert_value(&mut shown);
    shown.to_string()
}

impl Supervisor {
    /// Writes what the component was allowed and refused since this was called last.
    pub(super) async fn hear(&mut self) -> Result<(), Fault> {
        let mut heard = Ok(());
        let mut some = false;
        while let Some(told) = self.hearing.take() {
            some = true;
            let (row, notice) = self.decided(&told);
            self.record.with(Op::PutDecisions(vec![row]));
            // The ledger has them all, also where the run may write no event any more.
            if heard.is_ok() {
                heard = self.record.event(EventType::Notice, notice).await;
            }
        }
        if some {
            self.record.submit().await;
        }
        heard
    }

    /// The same at the end, when the component is gone; and how many refusals there were besides.
    pub(super) async fn hear_the_rest(&mut self) {
        let mut notices = Vec::new();
        while let Some(told) = self.hearing.take() {
            let (row, notice) = self.decided(&told);
            self.record.with(Op::PutDecisions(vec![row]));
            notices.push(notice);
        }
        let untold = self.hearing.untold();
        if untold > 0 {
            let message = format!("{untold} more starts were refused; they are not told one by one");
            self.record.with(Op::PutDecisions(vec![self.matter.decided(SPAWN, Err((REFUSED_MORE, &message)), None)]));
            notices.push(json!({ "severity": "warning", "code": REFUSED_MORE, "message": message }));
        }
        for notice in notices {
            if let Err(fault) = self.record.closing(EventType::Notice, notice).await {
                tracing::warn!(run = %self.live.id, %fault, "a decision could not be told");
            }
        }
    }

    /// As it stands in the ledger, and in the run's history.
    fn decided(&self, told: &Told) -> (DecisionRow, Value) {
        let mut command = told.command.clone();
        inert::inert_value(&mut command);
        let words = Some(command.to_string());
        let target = &self.matter.target;
        match &told.verdict {
            Verdict::Allowed { rule, address } => {
                let row = DecisionRow { address: address.clone(), ..self.matter.decided(SPAWN, Ok(rule), words) };
                let place = target.as_ref().map_or_else(String::new, |target| format!(" on target `{target}`"));
                let message = format!("{rule} allows the command{place}");
                let limits = shown(&self.limits, &self.held_by);
                let limits = json!({
                    "wall_s": limits["wall_s"], "wall_by": limits["wall_by"],
                    "output_bytes": limits["output_bytes"], "output_by": limits["output_by"], "parallel": limits["parallel"],
                });
                let notice = json!({
                    "severity": "info", "code": "command_allowed", "message": message,
                    "rule": rule, "target": target, "command": command, "limits": limits,
                });
                (row, notice)
            }
            Verdict::CommandRefused(why) => self.refused(COMMAND_REFUSED, why, words, &command),
            Verdict::SpawnRefused(why) => self.refused(SPAWN_REFUSED, why, words, &command),
        }
    }

    fn refused(&self, code: &str, why: &str, words: Option<String>, command: &Value) -> (DecisionRow, Value) {
        let row = self.matter.decided(SPAWN, Err((code, why)), words);
        let notice = json!({ "severity": "warning", "code": code, "message": why, "target": self.matter.target, "command": command });
        (row, notice)
    }
}

/// Whether a refusal is a decision, and no failure of the host itself.
fn is_decision(fault: &Fault) -> bool {
    ![code::INTERNAL, code::LEDGER_FAILED, code::SHUTTING_DOWN].contains(&&*fault.code)
}

impl Manager {
    /// Writes the refusal of a call.
    pub(super) async fn note_refusal(&self, matter: &Matter, what: &str, fault: &Fault) {
        if is_decision(fault) {
            self.note(vec![matter.refused(what, fault)]).await;
        }
    }

    /// Writes decisions that belong to no run's step. A ledger that does not take them is logged.
    pub async fn note(&self, rows: Vec<DecisionRow>) {
        if rows.is_empty() {
            return;
        }
        let count = rows.len();
        match tokio::time::timeout(LEDGER_WAIT, self.inner.ledger.commit(None, vec![Op::PutDecisions(rows)])).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(count, %error, "decisions could not be written"),
            Err(_) => tracing::error!(count, "decisions could not be written: the ledger takes nothing"),
        }
    }
}

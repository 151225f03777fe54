//! One action of a plan, held against all that will be asked when it is done: the grant of the program, the command rule, the
//! network rule as far as it can be told without looking a name up.

use camino::Utf8Path;
use serde_json::{Value, json};

use super::command::{Allowed, Asked, Command};
use super::network::Foreseen;
use super::{Policy, programs};
use crate::capability::Program;
use crate::capability::told::shown_far;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};

/// Whose plan it is.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Its backend.
    pub backend: &'a str,
    /// Its client's own directory.
    pub client: Option<&'a Utf8Path>,
    /// Its target, by name; none: it works on this machine.
    pub target: Option<&'a str>,
}

/// What was judged of one action of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// `spawn`, `connect` or `request`.
    pub kind: &'static str,
    /// What exactly: for `spawn` `{ program, path, args, cwd, command }` (the arguments with those of the grant, places such as
    /// `{target}` not filled); where it goes to a target also `{ target, limits, network }`, and `command` is
    /// `{ args | shell, cwd, env }`. For `connect` `{ host, port }`, for `request` `{ url }`.
    pub detail: Value,
    /// Which rule allows it, by its place in the configuration; or what refuses it.
    pub rule: String,
    /// The refusal, with what a person could change.
    pub refusal: Option<Fault>,
    /// The command for the far end that was allowed.
    pub far: Option<Allowed>,
    /// Of what goes to a target: its address, where that is given in digits. For the record, not for callers.
    pub address: Option<String>,
}

impl Judgement {
    fn refused(kind: &'static str, detail: Value, fault: Fault) -> Self {
        let rule = fault.message.strip_prefix(WOULD_BE).unwrap_or(&fault.message).to_owned();
        Self { kind, detail, rule, refusal: Some(fault), far: None, address: None }
    }
}

/// What stands before the rule in the message of a refusal.
const WOULD_BE: &str = "the backend would be refused: ";
/// What a person can change where a grant refuses.
const GRANTS: &str = "a person can change the grants in the configuration; `falconer check` shows them";

impl Policy {
    /// Judges one action of a plan: the program granted and found, its arguments within the grant's patterns, the cwd inside; of a
    /// command for the far end also the command rule, and whether its target may be connected to.
    #[must_use]
    pub fn judge(&self, run: Run<'_>, action: &wit::PlannedAction) -> Judgement {
        let closed = |kind, detail, what: &str| {
            let fault = Fault::new(code::NOT_ALLOWED, format!("this version opens no {what} for a backend"));
            Judgement::refused(kind, detail, fault.hint("nobody can change that; use a backend that starts programs"))
        };
        match action {
            wit::PlannedAction::Spawn(command) => self.judge_spawn(run, command),
            wit::PlannedAction::Connect(to) => closed("connect", json!({ "host": to.host, "port": to.port }), "connections"),
            wit::PlannedAction::Request(url) => closed("request", json!({ "url": url }), "HTTP requests"),
        }
    }

    fn judge_spawn(&self, run: Run<'_>, command: &wit::PlannedCommand) -> Judgement {
        let backend = run.backend;
        let grant = self.grant(backend);
        let program = grant.programs.get(&command.program);
        let is_far = program.is_some_and(Program::is_far);
        let args: Vec<String> = match program {
            Some(program) => program.arguments(&command.args, None).iter().map(|arg| arg.to_string_lossy().into_owned()).collect(),
            None => command.args.clone(),
        };
        let mut detail = json!({
            "program": command.program,
            "path": program.and_then(|program| program.path.as_ref().ok()),
            "args": args,
            "cwd": command.cwd,
            "command": command.command.as_ref().map(shown_far),
        });
        let local = self.local(run, program, command);
        let far = match (local, is_far) {
            (Err(fault), _) => return Judgement::refused("spawn", detail, fault),
            (Ok(rule), false) => return Judgement { kind: "spawn", detail, rule, refusal: None, far: None, address: None },
            (Ok(_), true) => self.judge_far(run, command, &mut detail),
        };
        match far {
            Ok((far, address)) => {
                let rule = match &far {
                    Some(allowed) => allowed.rule.to_string(),
                    None => format!("backends.{backend}.grants.programs.{}: no command but the host's own is executed there", command.program),
                };
                Judgement { kind: "spawn", detail, rule, refusal: None, far, address }
            }
            Err(fault) => Judgement::refused("spawn", detail, fault),
        }
    }

    /// The rule of the grant that allows the program here.
    fn local(&self, run: Run<'_>, program: Option<&Program>, command: &wit::PlannedCommand) -> Result<String, Fault> {
        let backend = run.backend;
        let refused = |code, rule: String| Err(Fault::new(code, format!("{WOULD_BE}{rule}")).hint(GRANTS));
        let Some(program) = program else {
            return refused(code::PROGRAM_NOT_GRANTED, format!("backends.{backend}.grants.programs: `{}` is not granted", command.program));
        };
        let place = format!("backends.{backend}.grants.programs.{}", command.program);
        let code = if program.path.is_err() { code::PROGRAM_NOT_FOUND } else { code::NOT_ALLOWED };
        let rule = match programs::judge(&place, program, &command.args) {
            Ok(rule) => rule,
            Err(why) => return refused(code, why),
        };
        if let Some(cwd) = &command.cwd
            && let Err(fault) = self.cwd(backend, Some(cwd), run.client)
        {
            return refused(code::NOT_ALLOWED, fault.message);
        }
        match (program.is_far(), &command.command, run.target) {
            (false, Some(_), _) => {
                refused(code::NOT_ALLOWED, format!("{place}: it says neither `{{command}}` nor `{{target}}`, which far-end commands need"))
            }
            (true, _, None) => refused(code::NOT_ALLOWED, format!("{place}: it is for commands at a target, and the run has none")),
            (true, _, Some(_)) | (false, None, _) => Ok(rule),
        }
    }

    /// What goes to a target: the command, where there is one, and the target's address.
    fn judge_far(
        &self,
        run: Run<'_>,
        planned: &wit::PlannedCommand,
        detail: &mut Value,
    ) -> Result<(Option<Allowed>, Option<String>), Fault> {
        let name = run.target.unwrap_or_default();
        detail["target"] = name.into();
        let target = self.inventory().target(name)?;
        let allowed = match &planned.command {
            None => None,
            Some(command) => {
                let words = match &command.words {
                    wit::FarWords::Args(args) => Command::List(args),
                    wit::FarWords::Shell(line) => Command::Shell(line),
                };
                let asked = Asked {
                    backend: run.backend,
                    target: Some(target),
                    command: words,
                    cwd: command.cwd.as_deref(),
                    env: &command.env,
                };
                let allowed = self.command(&asked).map_err(|refused| refused.fault())?;
                detail["limits"] = shown_limits(&allowed);
                Some(allowed)
            }
        };
        let way = self.inventory().way(name)?;
        let mut said = Vec::new();
        for (at, host) in way.iter().enumerate() {
            let foreseen = self.network().foresee(&host.address, at > 0)?;
            said.push(json!({ "target": host.target.name, "rule": foreseen.to_string() }));
        }
        detail["network"] = said.into();
        let address = way.last().and_then(|host| match self.network().foresee(&host.address, way.len() > 1) {
            Ok(Foreseen::Passes(_)) => Some(host.address.to_string()),
            _ => None,
        });
        Ok((allowed, address))
    }
}

/// The limits that come with an allowed command, each with who sets it.
fn shown_limits(allowed: &Allowed) -> Value {
    let limits = &allowed.limits;
    let by = |share| allowed.source(share);
    json!({
        "wall": limits.wall.as_ref().map(|(share, wall)| json!({ "seconds": wall.as_secs_f64(), "by": by(share) })),
        "output": limits.output.as_ref().map(|(share, bytes)| json!({ "bytes": bytes, "by": by(share) })),
        "parallel": limits.parallel.iter().map(|(share, runs)| json!({ "runs": runs, "by": by(share) })).collect::<Vec<_>>(),
    })
}

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
                    None => {
                        format!("backends.{backend}.grants.programs.{}: no command but the host's own is executed there", command.program)
                    }
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
                let asked =
                    Asked { backend: run.backend, target: Some(target), command: words, cwd: command.cwd.as_deref(), env: &command.env };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, Overrides};

    const TEXT: &str = "
path = ['/usr/bin', '/bin']
[[targets]]
name = 'web-1'
address = '203.0.113.7'
tags = ['web']
limits = { wall = '1m', parallel = 2 }
[[targets]]
name = 'named'
address = 'named.example.org'
[[targets]]
name = 'inner'
address = 'inner.internal'
jump = 'web-1'
[[targets]]
name = 'metadata'
address = '198.51.100.9'
[network]
block = ['198.51.100.0/24']
[[rules]]
name = 'look'
targets = ['*']
allow = [['uptime'], ['tail', '/var/log/**']]
cwd = ['/srv']
env = ['LANG']
output = '1 MiB'
[backends.ssh.grants]
programs = { ssh = { path = '/bin/sh', first = ['-F', '{config}', '{args}', '--', '{target}', '{command}'], allow = ['-C'], max_args = 1 }, sh = '/bin/sh' }
";

    fn policy() -> Policy {
        let file = Utf8Path::new("/etc/falconer.toml");
        Policy::resolve(&Arc::new(Config::parse(TEXT, Some(file), &Overrides::at_home("/home/u")).map_err(|all| all.to_string()).unwrap()))
    }

    fn planned(program: &str, args: &[&str], words: Option<wit::FarWords>) -> wit::PlannedAction {
        let command =
            words.map(|words| wit::FarCommand { words, cwd: Some("/srv".into()), env: vec![("LANG".into(), "secret value".into())] });
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        wit::PlannedAction::Spawn(wit::PlannedCommand { program: program.into(), args, cwd: None, command })
    }

    fn words(args: &[&str]) -> Option<wit::FarWords> {
        Some(wit::FarWords::Args(args.iter().map(|arg| (*arg).to_owned()).collect()))
    }

    fn at<'a>(target: &'a str) -> Run<'a> {
        Run { backend: "ssh", client: None, target: Some(target) }
    }

    #[test]
    fn a_command_for_a_target_is_judged_by_rule_and_address() {
        let policy = policy();
        let good = policy.judge(at("web-1"), &planned("ssh", &["-C"], words(&["uptime"])));
        assert_eq!((good.refusal, good.rule.as_str()), (None, "rule `look` (falconer.toml:23)"));
        assert_eq!(good.address.as_deref(), Some("203.0.113.7"));
        assert_eq!(good.far.unwrap().command.args().unwrap(), ["uptime"]);
        assert_eq!(
            good.detail,
            json!({
                "program": "ssh", "path": "/bin/sh", "args": ["-F", "{config}", "-C", "--", "{target}", "{command}"], "cwd": null,
                "command": { "args": ["uptime"], "cwd": "/srv", "env": ["LANG"] },
                "target": "web-1",
                "limits": {
                    "wall": { "seconds": 60.0, "by": "target `web-1`" },
                    "output": { "bytes": 1_048_576, "by": "rule `look` (falconer.toml:23)" },
                    "parallel": [{ "runs": 2, "by": "target `web-1`" }],
                },
                "network": [{ "target": "web-1", "rule": "the inventory gives this address, and nothing blocks it" }],
            })
        );
        let named = policy.judge(at("named"), &planned("ssh", &[], words(&["uptime"])));
        assert_eq!(named.detail["network"][0]["rule"], "its name is looked up when it runs, and what comes is judged then");
        assert_eq!((named.refusal, named.address), (None, None));
        let inner = policy.judge(at("inner"), &planned("ssh", &[], words(&["uptime"])));
        assert_eq!(inner.detail["network"].as_array().unwrap().len(), 2, "{}", inner.detail);
        let end = policy.judge(at("web-1"), &planned("ssh", &[], None));
        assert!(end.refusal.is_none() && end.far.is_none(), "what ends or attaches executes no command: {end:?}");
    }

    #[test]
    fn what_refuses_says_what_a_person_could_change() {
        let policy = policy();
        let fault = |target, action: &wit::PlannedAction| {
            let judged = policy.judge(at(target), action);
            assert!(judged.far.is_none());
            judged.refusal.unwrap()
        };
        let rule = fault("web-1", &planned("ssh", &[], words(&["id"])));
        assert_eq!((&*rule.code, rule.message.as_str()), (code::NOT_ALLOWED, "no rule allows `id` on target `web-1`"));
        assert!(rule.hint.unwrap().contains("under [[rules]]: targets = [\"web-1\"], allow = [[\"id\"]]"));
        let malformed = fault("web-1", &planned("ssh", &[], words(&[])));
        assert_eq!(malformed.code, code::INVALID_ARGUMENT);
        let shell = fault("web-1", &planned("ssh", &[], Some(wit::FarWords::Shell("uptime; id".into()))));
        assert!(shell.message.contains("shell line"), "{shell}");
        let blocked = fault("metadata", &planned("ssh", &[], words(&["uptime"])));
        assert_eq!(blocked.code, code::ADDRESS_NOT_ALLOWED);
        for (action, part) in [
            (planned("ssh", &["-oProxyCommand=id"], words(&["uptime"])), "programs.ssh.allow: argument 1 matches no pattern"),
            (planned("ssh", &["-C", "-C"], words(&["uptime"])), "max_args: 2 arguments, at most 1"),
            (planned("sh", &[], words(&["uptime"])), "neither `{command}` nor `{target}`"),
            (planned("id", &[], words(&["uptime"])), "`id` is not granted"),
        ] {
            let refused = fault("web-1", &action);
            assert!(refused.message.contains(part) && refused.hint.is_some(), "{refused}");
        }
        let here = Run { target: None, ..at("web-1") };
        assert!(policy.judge(here, &planned("ssh", &[], words(&["uptime"]))).refusal.is_some(), "a run without a target");
    }

    /// Arguments of ssh(1) that execute, forward, include, or lead elsewhere, in the forms in which getopt(3) takes them.
    #[test]
    fn the_bundled_grant_of_ssh_takes_nothing_but_compression() {
        let config = Config::parse("path = ['/usr/bin', '/bin']\n", None, &Overrides::at_home("/home/u")).unwrap();
        let policy = Policy::resolve(&Arc::new(config));
        let grant = policy.grant("ssh");
        let program = &grant.programs["ssh"];
        assert!(program.is_far() && !program.would_append());
        let judged = |args: &[&str]| {
            // Whether ssh is installed here is another matter.
            let program = Program { path: Ok("/bin/true".into()), ..program.clone() };
            programs::judge("ssh", &program, &args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
        };
        assert!(judged(&[]).is_ok() && judged(&["-C"]).is_ok());
        for bad in [
            "-oProxyCommand=id",
            "-o",
            "-oLocalCommand=id",
            "-oPermitLocalCommand=yes",
            "-oInclude=/tmp/x",
            "-oKnownHostsCommand=id",
            "-oPKCS11Provider=/tmp/x.so",
            "-oSecurityKeyProvider=/tmp/x.so",
            "-oStrictHostKeyChecking=no",
            "-oUserKnownHostsFile=/dev/null",
            "-o ProxyCommand=id",
            "-OCheck",
            "-O",
            "-F",
            "-F/tmp/config",
            "-Fnone",
            "-E",
            "-E/tmp/log",
            "-W",
            "-Wa:22",
            "-L",
            "-L1:a:2",
            "-R",
            "-R1:a:2",
            "-D",
            "-D1080",
            "-J",
            "-Jhost",
            "-S",
            "-S/tmp/socket",
            "-M",
            "-N",
            "-f",
            "-A",
            "-X",
            "-Y",
            "-g",
            "-w",
            "-w0:0",
            "-I",
            "-I/tmp/x.so",
            "-i",
            "-i/tmp/key",
            "-l",
            "-lroot",
            "-p",
            "-p2222",
            "-b",
            "-B",
            "-c",
            "-m",
            "-e",
            "-Q",
            "-P",
            "-G",
            "-V",
            "-K",
            "-k",
            "-t",
            "-tt",
            "-n",
            "-q",
            "-s",
            "-y",
            "-v",
            "-4",
            "-6",
            "-a",
            "-CA",
            "-Cf",
            "-CoProxyCommand=id",
            "-C\n",
            "-C\0",
            " -C",
            "-C ",
            "--",
            "",
            "-",
            "host",
            "user@host",
            "Include",
            "{command}",
            "{config}",
            "-C{config}",
            "\u{2010}C",
        ] {
            assert!(judged(&[bad]).is_err(), "{bad:?}");
        }
        assert!(judged(&["-C", "-oProxyCommand=id"]).is_err() && judged(&["-C", "-C"]).is_err());
    }
}

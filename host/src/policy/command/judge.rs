//! The parts of a verdict: whether it is a command at all, whether a rule's patterns fit, whether its surroundings do.

use super::matching::{Matcher, Misfit, Near, Ready};
use super::{Asked, Command, FarCommand, LONGEST, Prepared, Reason, Refused, RuleRef, plain, refusal};
use crate::config::is_program;

/// What no rule could allow, because it has no meaning or one that depends on where it is executed.
pub(super) fn well_formed(asked: &Asked<'_>) -> Result<(), Refused> {
    let wrong = |why: String| Err(Refused::new(asked, Reason::Malformed(why)));
    let texts = |bytes: usize, nul: Option<String>| match nul {
        Some(which) => wrong(format!("{which} holds a NUL, which no argument can")),
        None if bytes > LONGEST => wrong(format!("the command is longer than {} KiB", LONGEST >> 10)),
        None => Ok(()),
    };
    match asked.command {
        Command::List([]) => return wrong("the argument list is empty".into()),
        Command::List(args) => {
            texts(
                args.iter().map(|arg| arg.len() + 1).sum(),
                args.iter().position(|arg| arg.contains('\0')).map(|at| format!("argument {at}")),
            )?;
            if let Err(why) = is_program(&args[0]) {
                return wrong(format!("`{}` {why}", refusal::shown(&args[0])));
            }
        }
        Command::Shell(line) => {
            texts(line.len(), line.contains('\0').then(|| "the line".to_owned()))?;
            if line.trim().is_empty() {
                return wrong("the line is empty".into());
            }
        }
    }
    if let Some(cwd) = asked.cwd
        && (!cwd.starts_with('/') || plain::unplain(cwd).is_some() || cwd.chars().any(char::is_control))
    {
        return wrong(format!("the directory `{}` is not absolute, or not in its normal form", refusal::shown(cwd)));
    }
    for (at, (name, value)) in asked.env.iter().enumerate() {
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if !first || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return wrong(format!("`{}` is no name of an environment variable", refusal::shown(name)));
        }
        if name.starts_with("FALCONER_") {
            return wrong(format!("`{name}` is set by the host alone"));
        }
        if value.contains('\0') || value.len() > LONGEST {
            return wrong(format!("the value of `{name}` holds a NUL, or is longer than {} KiB", LONGEST >> 10));
        }
        if asked.env[..at].iter().any(|(earlier, _)| earlier == name) {
            return wrong(format!("`{name}` is set twice"));
        }
    }
    Ok(())
}

/// The place that allows it; else why this rule does not.
pub(super) fn allows(rule: &Prepared, commands: &Ready, command: &Command<'_>) -> Result<RuleRef, Reason> {
    match (commands, command) {
        (Ready::Lists(lists), Command::List(args)) => {
            let mut nearest: Option<(Near, usize)> = None;
            for list in lists {
                match list.allows(args) {
                    Ok(()) => return Ok(RuleRef { line: list.line, ..rule.at.clone() }),
                    Err(near) if nearest.is_none_or(|(best, _)| best.fitting < near.fitting) => nearest = Some((near, list.line)),
                    Err(_) => {}
                }
            }
            Err(nearest.map_or(Reason::NoRule { allowing: 1 }, |(near, line)| Reason::Near {
                rule: RuleRef { line, ..rule.at.clone() },
                near: near.into(),
            }))
        }
        (Ready::Shell { lines, control_characters }, Command::Shell(line)) => {
            if !control_characters && line.chars().any(char::is_control) {
                return Err(Reason::ControlCharacter { rule: rule.at.clone() });
            }
            let mut unplain = None;
            for pattern in lines {
                match pattern.fits(line) {
                    Ok(()) => return Ok(rule.at.clone()),
                    Err(Misfit::Unplain(why)) => unplain = Some(why),
                    Err(_) => {}
                }
            }
            let rule = rule.at.clone();
            Err(match unplain {
                Some(unplain) => Reason::UnplainLine { rule, unplain },
                None => Reason::OtherLine { rule },
            })
        }
        (Ready::Lists(_), Command::Shell(_)) => Err(Reason::NoShell),
        (Ready::Shell { .. }, Command::List(_)) => Err(Reason::NoRule { allowing: 1 }),
    }
}

/// The directory and the environment are a part of what runs.
pub(super) fn surroundings(rule: &RuleRef, cwd: &[Matcher], env: &[Matcher], asked: &Asked<'_>) -> Result<(), Reason> {
    if let Some(dir) = asked.cwd
        && !cwd.iter().any(|pattern| pattern.is_match(dir))
    {
        return Err(Reason::Directory { rule: rule.clone(), cwd: dir.to_owned() });
    }
    let may = |name: &str| env.iter().any(|pattern| if is_loader(name) { pattern.is_literally(name) } else { pattern.is_match(name) });
    match asked.env.iter().find(|(name, _)| !may(name)) {
        Some((name, _)) => Err(Reason::Variable { rule: rule.clone(), name: name.clone() }),
        None => Ok(()),
    }
}

/// Variables that change which code a program runs. No wildcard of a rule stands for one of them.
#[must_use]
pub fn is_loader(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "PATH",
        "ENV",
        "BASH_ENV",
        "SHELLOPTS",
        "BASHOPTS",
        "IFS",
        "PS4",
        "PROMPT_COMMAND",
        "CDPATH",
        "HOME",
        "SHELL",
        "EDITOR",
        "VISUAL",
        "PAGER",
        "LESSOPEN",
        "LESSCLOSE",
        "MANPAGER",
        "BROWSER",
        "CLASSPATH",
        "GCONV_PATH",
        "LOCPATH",
        "NLSPATH",
        "TERMINFO",
        "TERMCAP",
        "HOSTALIASES",
        "RES_OPTIONS",
        "MALLOC_TRACE",
        "XDG_CONFIG_HOME",
    ];
    const BEGINNINGS: &[&str] = &[
        "LD_",
        "DYLD_",
        "BASH_FUNC_",
        "PYTHON",
        "PERL",
        "RUBY",
        "NODE_",
        "JAVA_",
        "_JAVA",
        "JDK_",
        "LUA_",
        "PHP",
        "GIT_",
        "SSH_",
        "SUDO_",
        "SYSTEMD_",
        "RUSTC",
        "CARGO_",
        "NPM_",
        "npm_",
        "PIP_",
        "GLIBC_",
    ];
    NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

pub(super) fn command(asked: &Asked<'_>) -> FarCommand {
    let (cwd, env) = (asked.cwd.map(str::to_owned), asked.env.to_vec());
    match asked.command {
        Command::List(args) => FarCommand::list(args.to_vec(), cwd, env),
        Command::Shell(line) => FarCommand::shell(line.to_owned(), cwd, env),
    }
}

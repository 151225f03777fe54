//! What a child for the far end is started with; made by whoever knows targets and rules ([`FarEnd`]).
//!
//! The grant of such a program says where things go: `{target}`, `{command}`, and, where it wants them, `{config}` (a file that says
//! how the target is reached), `{log}` (what the program has to say itself) and `{args}` (what the component adds; else at the end).
//! A place can stand within an argument, once. Nothing that a component gives is ever looked through for places.

use std::ffi::OsString;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use camino::Utf8PathBuf;

use crate::contract::falconer::backend::process::{FarAction, SpawnError};

use super::{Program, Secrets};

/// Names of places.
const TARGET: &str = "{target}";
const COMMAND: &str = "{command}";
const CONFIG: &str = "{config}";
const LOG: &str = "{log}";
const ARGS: &str = "{args}";

/// What is being prepared.
pub type Preparing<'a> = Pin<Box<dyn Future<Output = Result<Prepared, SpawnError>> + Send + 'a>>;

/// Judges what is asked of the far end, and makes it ready. One for each run that has a target.
pub trait FarEnd: Send + Sync {
    /// Whether something of the run may have been started there: a start was prepared, in this life of the run or an earlier one.
    fn has_begun(&self) -> bool;
    /// `program` is where the child's program is. An error is `far` with the rule's code, and where the target
    /// cannot be reached from here (a name that leads nowhere). `secrets`: those of the run, for who is asked for one by the child.
    fn prepare(&self, label: String, program: Utf8PathBuf, action: FarAction, secrets: Arc<Secrets>) -> Preparing<'_>;
}

/// Somebody who waits upon a child from its start until nobody holds it any more.
pub trait Attendant: Send + Sync {
    /// It runs, and this is its number.
    fn started(&self, pid: u32);
}

/// What a child for the far end is started with.
pub struct Prepared {
    /// For `{target}`: never begins with `-`.
    pub target: String,
    /// For `{command}`: what the shell there is to execute.
    pub command: String,
    /// For `{config}`: a file.
    pub config: String,
    /// For `{log}`.
    pub log: Log,
    /// What is set besides what the component may set; goes before it.
    pub env: Vec<(String, OsString)>,
    /// The rule that allows the command, for the record; none: no command is executed ([`FarAction::Attach`], [`FarAction::End`]).
    pub rule: Option<String>,
    /// The address that was judged, for the record, where it is known.
    pub address: Option<String>,
    /// Told of the start; dropped with the component's hold on the child, or where it could not be started.
    pub attendant: Option<Box<dyn Attendant>>,
}

/// A named pipe for what a program has to say itself.
#[derive(Debug)]
pub struct Log {
    /// Where it is.
    pub path: String,
    /// Non-blocking.
    pub reader: OwnedFd,
    /// Keeps it from being at its end before the program has opened it; to be closed when the program has ended.
    pub held: OwnedFd,
}

impl Program {
    /// Whether its grant has places that only the far end can fill.
    #[must_use]
    pub fn is_far(&self) -> bool {
        self.first.iter().any(|arg| [TARGET, COMMAND, CONFIG, LOG].iter().any(|place| arg.contains(place)))
    }

    /// All its arguments: those of the grant, places filled, with those of the component where it says.
    #[must_use]
    pub fn arguments(&self, own: &[String], far: Option<&Prepared>) -> Vec<OsString> {
        let mut out: Vec<OsString> = Vec::new();
        let mut placed = false;
        for arg in &self.first {
            if arg == ARGS && !placed {
                placed = true;
                out.extend(own.iter().map(Into::into));
            } else {
                out.push(far.map_or_else(|| arg.clone(), |far| far.fill(arg)).into());
            }
        }
        if !placed {
            out.extend(own.iter().map(Into::into));
        }
        out
    }

    /// Whether what a component adds would stand behind `{command}`, where a program such as ssh(1) takes it for a part of the command.
    #[must_use]
    pub fn would_append(&self) -> bool {
        let at = |place: &str| self.first.iter().position(|arg| arg.contains(place));
        at(COMMAND).is_some_and(|command| at(ARGS).is_none_or(|args| args > command))
    }
}

impl Prepared {
    /// One place of one argument is filled, and what fills it is not looked at again.
    fn fill(&self, arg: &str) -> String {
        let places = [(TARGET, &self.target), (COMMAND, &self.command), (CONFIG, &self.config), (LOG, &self.log.path)];
        let first = places.iter().filter_map(|(place, value)| Some((arg.find(place)?, place, value))).min_by_key(|(at, ..)| *at);
        match first {
            Some((at, place, value)) => format!("{}{value}{}", &arg[..at], &arg[at + place.len()..]),
            None => arg.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(first: &[&str]) -> Program {
        Program {
            path: Err("nowhere".into()),
            first: first.iter().map(|arg| (*arg).to_owned()).collect(),
            allow: Vec::new(),
            max_args: None,
        }
    }

    fn prepared() -> Prepared {
        let (reader, held) = rustix::pipe::pipe().unwrap();
        Prepared {
            target: "web".into(),
            command: "echo {target} {args}".into(),
            config: "/c".into(),
            log: Log { path: "/l".into(), reader, held },
            env: Vec::new(),
            rule: None,
            address: None,
            attendant: None,
        }
    }

    #[test]
    fn places_are_filled_once_and_not_again() {
        let ssh = program(&["-F", "{config}", "-oX={log}", "{args}", "--", "{target}", "{command}"]);
        let given = ssh.arguments(&["-C".into(), "{command}".into()], Some(&prepared()));
        assert_eq!(given, ["-F", "/c", "-oX=/l", "-C", "{command}", "--", "web", "echo {target} {args}"]);
        assert!(ssh.is_far() && !ssh.would_append());
        assert!(program(&["{target}", "{command}"]).would_append());
        assert!(program(&["{command}", "{args}"]).would_append());
        let plain = program(&["-e"]);
        assert_eq!((plain.arguments(&["x".into()], None), plain.is_far()), (vec!["-e".into(), "x".into()], false));
    }
}

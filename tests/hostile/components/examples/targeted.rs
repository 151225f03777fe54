//! A backend that works at targets. It has no way to any machine: it runs `program` here, with `{target}` in `args` replaced by
//! the target's name, gives its output, and fails where the program does.

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "backend" });
}

use std::cell::RefCell;

use bindings::exports::falconer::backend::adapter::{Answer, Draft, Failure, Guest, Info, Job, Step};
use bindings::falconer::backend::process;
use bindings::falconer::backend::types::{
    Abilities, CommandChunk, CommandEnd, CommandStart, Completion, Event, ItemStatus, Next, Outcome, OutputKind, PlannedAction,
    PlannedCommand, Received, Stopped,
};
use serde::Deserialize;

/// Bytes asked of a pipe at once.
const PIECE: u32 = 64 << 10;

const SCHEMA: &str = r#"{
  "type": "object",
  "required": ["program"],
  "additionalProperties": false,
  "properties": {
    "program": { "type": "string" },
    "args": { "type": "array", "items": { "type": "string" } }
  }
}"#;

#[derive(Deserialize)]
struct Config {
    program: String,
    #[serde(default)]
    args: Vec<String>,
}

struct Work {
    target: String,
    program: String,
    args: Vec<String>,
    child: process::Child,
    started: bool,
    offsets: [u64; 2],
    ended: [bool; 2],
    said: Vec<u8>,
    cancelled: bool,
}

thread_local! {
    static WORK: RefCell<Option<Work>> = const { RefCell::new(None) };
}

struct Backend;

impl Guest for Backend {
    fn describe() -> Info {
        Info {
            title: "Targeted".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            description: "Runs a program of this machine for each target. For tests.".into(),
            abilities: Abilities::TARGETS,
            config_schema: SCHEMA.into(),
            target_schema: None,
            programs: Vec::new(),
        }
    }

    fn plan(job: Job) -> Result<Draft, Failure> {
        let (target, config) = parsed(&job)?;
        let action = PlannedCommand { program: config.program, args: filled(&config.args, &target), cwd: None, command: None };
        Ok(Draft { summary: format!("would run at {target}"), actions: vec![PlannedAction::Spawn(action)], unknown: Vec::new() })
    }

    fn start(job: Job) -> Result<(), Failure> {
        let (target, config) = parsed(&job)?;
        let args = filled(&config.args, &target);
        let options = process::Options {
            label: "child".into(),
            program: config.program.clone(),
            args: args.clone(),
            far: None,
            env: Vec::new(),
            cwd: None,
            stdin: process::StdinMode::Null,
        };
        let child = process::spawn(&options).map_err(|error| failure("not_started", format!("{error:?}")))?;
        let work = Work {
            target,
            program: config.program,
            args,
            child,
            started: false,
            offsets: [0; 2],
            ended: [false; 2],
            said: Vec::new(),
            cancelled: false,
        };
        WORK.with_borrow_mut(|slot| *slot = Some(work));
        Ok(())
    }

    fn poll() -> Step {
        WORK.with_borrow_mut(|work| match work {
            Some(work) => work.poll(),
            None => Step { events: Vec::new(), checkpoint: None, next: Next::Pending(None) },
        })
    }

    fn reply(_answer: Answer) -> Result<(), Failure> {
        Err(failure("never", "it asks nothing"))
    }

    fn cancel(_reason: String, _within_ms: u32) -> Result<(), Failure> {
        WORK.with_borrow_mut(|work| work.iter_mut().for_each(|work| work.cancelled = true));
        Ok(())
    }
}

impl Work {
    fn poll(&mut self) -> Step {
        let mut events = Vec::new();
        if !self.started {
            self.started = true;
            let (command, args) = (self.program.clone(), self.args.clone());
            events.push(Event::CommandStarted(CommandStart { id: "child".into(), command, args: Some(args), cwd: None, parent: None }));
        }
        for (stream, kind) in [OutputKind::Stdout, OutputKind::Stderr].into_iter().enumerate() {
            while !self.ended[stream] {
                let received = match kind {
                    OutputKind::Stdout => self.child.read_stdout(PIECE),
                    OutputKind::Stderr => self.child.read_stderr(PIECE),
                };
                match received {
                    Received::Bytes(bytes) => {
                        let offset = self.offsets[stream];
                        self.offsets[stream] += bytes.len() as u64;
                        self.said.extend_from_slice(&bytes);
                        events.push(Event::CommandOutput(CommandChunk { id: "child".into(), kind, offset, bytes }));
                    }
                    Received::NotYet => break,
                    Received::End => self.ended[stream] = true,
                }
            }
        }
        let next = self.next(&mut events);
        Step { events, checkpoint: None, next }
    }

    fn next(&self, events: &mut Vec<Event>) -> Next {
        let text = Some(format!("{}: {}", self.target, String::from_utf8_lossy(&self.said).trim()));
        let completion = Completion { text, structured: None };
        if self.cancelled {
            return Next::Finished(Outcome::Stopped(Stopped { remote: None, detail: None, partial: completion }));
        }
        let Some(exit) = self.child.exit() else { return Next::Pending(None) };
        if self.ended != [true; 2] {
            return Next::Pending(None);
        }
        let code = match exit {
            process::ExitStatus::Code(code) => Some(code),
            _ => None,
        };
        let status = if code == Some(0) { ItemStatus::Succeeded } else { ItemStatus::Failed };
        events.push(Event::CommandFinished(CommandEnd { id: "child".into(), status, exit_code: code, signal: None, duration_ms: None }));
        Next::Finished(match code {
            Some(0) => Outcome::Completed(completion),
            code => Outcome::Failed(failure("exit_nonzero", format!("it ended with {code:?} at {}", self.target))),
        })
    }
}

fn parsed(job: &Job) -> Result<(String, Config), Failure> {
    let config = serde_json::from_str(&job.config).map_err(|error| failure("invalid_config", error.to_string()))?;
    let target = job.target.as_ref().ok_or_else(|| failure("invalid_config", "there is no target"))?;
    Ok((target.name.clone(), config))
}

fn filled(args: &[String], target: &str) -> Vec<String> {
    args.iter().map(|arg| arg.replace("{target}", target)).collect()
}

fn failure(code: &str, message: impl Into<String>) -> Failure {
    Failure { code: code.into(), message: message.into(), retryable: false, hint: None }
}

#[cfg(target_family = "wasm")]
bindings::export!(Backend with_types_in bindings);

//! The backend `claude`: a prompt for Claude Code, and what becomes of it.
//!
//! `claude -p` is driven over bidirectional stream-json: [`argv`] and [`environment`] start it, [`incoming`] reads its lines,
//! [`session`] is the state machine, [`question`] and [`steer`] are what people say to a live run, [`map`] and [`usage`] make
//! events, [`verdict`] makes failures, [`outgoing`] writes lines. This file joins them to the host. It leaves to the host what
//! may be started and touched, and the end of what does not end politely. Failures have codes such as `auth_required`,
//! `rate_limited`, `api_unreachable`, `max_turns`, `agent_exited`. `docs/claude.md` has what becomes of each native event.

mod argv;
mod base64;
mod config;
mod environment;
mod incoming;
mod map;
mod mcp;
mod message;
#[cfg(test)]
mod native;
mod outgoing;
mod patch;
mod question;
#[cfg(test)]
mod replay;
mod schema;
mod session;
mod steer;
mod usage;
mod verdict;

use std::time::Duration;

use falconer_backend::bindings::falconer::backend::blobs;
use falconer_backend::{
    Answer, Backend, BlobRef, Command, Dialog, Draft, Effects, Events, ExitStatus, Failure, Info, Job, JsonLine, Outcome, PIECE, Step,
    Talk, secret,
};

use crate::config::{Config, PermissionMode};
use crate::schema::Schema;
use crate::session::{Session, Setup};

/// One run of claude.
#[derive(Debug)]
pub struct Claude(Dialog<Session>);

impl Backend for Claude {
    fn describe() -> Info {
        Info::from_json(include_str!("../backend.json"))
    }

    fn plan(job: &Job) -> Result<Draft, Failure> {
        let config: Config = job.config()?;
        message::check(&job.message)?;
        let (command, _) = command(job, &config.shown(), |_| false)?;
        let verb = match &job.session {
            Some(session) if session.fork => "forks a session of Claude Code and gives it",
            Some(_) => "continues a session of Claude Code with",
            None => "gives Claude Code",
        };
        let size = message::shown(&job.message).len();
        let how = match config.permission_mode {
            PermissionMode::Ask => "what its rules do not allow is asked",
            PermissionMode::AcceptEdits => "it edits files by itself; what else its rules do not allow is asked",
            PermissionMode::Plan => "it changes nothing before its plan is approved",
            PermissionMode::NeverAskDeny => "what its rules do not allow is refused",
            PermissionMode::Bypass => "it may do anything that its user may, unasked",
        };
        Ok(Draft {
            summary: format!("{verb} a message of {size} bytes; {how}"),
            actions: vec![command.planned()],
            unknown: vec!["which tools the agent will use, within its permission mode".to_owned()],
        })
    }

    fn start(job: Job) -> Result<Self, Failure> {
        let config: Config = job.config()?;
        let content = message::content(&job.message, blob)?;
        let (command, schema) = command(&job, &config, secret::available)?;
        let mut session = Session::new(Setup {
            run: job.run_id,
            continued: job.session.is_some(),
            asks: config.permission_mode.asks(),
            expand: config.expand_prompt,
            background_wait: Duration::from_secs(config.background_wait_s()),
            max_turns: config.max_turns,
            max_tokens: config.max_tokens,
            schema,
        });
        let process = command.spawn()?;
        let mut first = Effects::default();
        session.begin(content, &mut first);
        Ok(Self(Dialog::begin(process, session, first)))
    }

    fn poll(&mut self) -> Step {
        self.0.poll()
    }

    fn reply(&mut self, answer: Answer) -> Result<(), Failure> {
        self.0.say(|session, now, out| match answer {
            Answer::Message(steering) => {
                message::content(&steering.message, blob).and_then(|content| session.steer(steering, content, now, out))
            }
            answer => session.answer(answer, now, out),
        })
    }

    fn cancel(&mut self, _reason: &str, _within: Duration) -> Result<(), Failure> {
        self.0.cancel();
        Ok(())
    }
}

impl Talk for Session {
    fn line(&mut self, line: JsonLine, now: Duration, out: &mut Effects) {
        self.line(line, now, out);
    }
    fn stderr(&mut self, text: String, out: &mut Effects) {
        self.stderr(text, out);
    }
    fn tick(&mut self, now: Duration, out: &mut Effects) {
        self.tick(now, out);
    }
    fn deadline(&self) -> Option<Duration> {
        self.deadline()
    }
    fn overdue(&self, now: Duration) -> bool {
        self.overdue(now)
    }
    fn cancel(&mut self, now: Duration, out: &mut Effects) {
        self.cancel(now, out);
    }
    fn outcome(&mut self, exit: Option<ExitStatus>, events: &mut Events) -> Outcome {
        self.outcome(exit, events)
    }
}

/// The start for this job, and the schema of its answer. `available` tells whether a secret is granted and has a value.
fn command(job: &Job, config: &Config, available: impl Fn(&str) -> bool) -> Result<(Command, Option<Schema>), Failure> {
    let servers = mcp::servers(config)?;
    let schema = job.output_schema.as_deref().map(Schema::of).transpose()?;
    let arguments = argv::arguments(job, config, &servers, schema.as_ref())?;
    let command = Command::new(argv::PROGRAM).args(arguments).piped_stdin();
    Ok((environment::with(command, config, &servers.names, available), schema))
}

/// The whole of a file that came with a message.
fn blob(file: &BlobRef) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::with_capacity(usize::try_from(file.size).unwrap_or(0));
    loop {
        let piece = blobs::read(&file.id, bytes.len() as u64, PIECE)?;
        if piece.is_empty() {
            return Ok(bytes);
        }
        bytes.extend(piece);
    }
}

falconer_backend::export!(Claude);

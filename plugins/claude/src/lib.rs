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
mod effects;
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

use std::time::{Duration, Instant};

use falconer_backend::bindings::falconer::backend::blobs;
use falconer_backend::{
    Answer, Backend, BlobRef, Command, Draft, ExitStatus, Failure, Info, Job, JsonLines, Lines, Outbox, Outcome, PIECE, Pipe, Polled,
    Process, Severity, Step, log, secret,
};

use crate::config::{Config, PermissionMode};
use crate::effects::Effects;
use crate::schema::Schema;
use crate::session::{Session, Setup};

/// After the program ended, how long others may keep its output open.
const LINGER: Duration = Duration::from_secs(1);

/// One run of claude.
#[derive(Debug)]
pub struct Claude {
    process: Process,
    stdin: Outbox,
    stdout: JsonLines<Pipe>,
    stderr: Lines<Pipe>,
    session: Session,
    begun: Instant,
    /// How the program ended, and when that was seen.
    exit: Option<(ExitStatus, Duration)>,
    /// What `reply` and `cancel` have to tell, for the next poll.
    pending: Effects,
}

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
        let mut pending = Effects::default();
        session.begin(content, &mut pending);
        let mut run = Self {
            stdout: JsonLines::new(process.stdout()),
            stderr: Lines::new(process.stderr()),
            process,
            stdin: Outbox::new(),
            session,
            begun: Instant::now(),
            exit: None,
            pending: Effects::default(),
        };
        run.write(&mut pending);
        run.pending = pending;
        Ok(run)
    }

    fn poll(&mut self) -> Step {
        let now = self.begun.elapsed();
        let mut out = std::mem::take(&mut self.pending);
        // Asked before reading: what was written before the end is then in the pipes.
        if self.exit.is_none() {
            self.exit = self.process.exit().map(|status| (status, now));
        }
        let read = self.read(now, &mut out);
        let ended = match read {
            Ok(ended) => ended,
            Err(failure) => return out.events.finish(Outcome::failed(failure)),
        };
        self.session.tick(now, &mut out);
        for line in out.log.drain(..) {
            log::write(Severity::Warning, &line);
        }
        self.write(&mut out);
        if out.events.is_full() {
            return out.events.again();
        }
        let linger = self.exit.map(|(_, seen)| seen + LINGER);
        let over = self.session.overdue(now) || self.exit.is_some() && (ended || linger.is_some_and(|until| now >= until));
        if over {
            let outcome = self.session.outcome(self.exit.map(|(status, _)| status), &mut out.events);
            return out.events.finish(outcome);
        }
        match self.session.deadline().into_iter().chain(linger).min() {
            Some(until) => {
                out.events.pending_for(u32::try_from(until.saturating_sub(now).as_millis()).unwrap_or(u32::MAX).saturating_add(1))
            }
            None => out.events.pending(),
        }
    }

    fn reply(&mut self, answer: Answer) -> Result<(), Failure> {
        let now = self.begun.elapsed();
        let mut out = std::mem::take(&mut self.pending);
        let taken = match answer {
            Answer::Message(steering) => {
                message::content(&steering.message, blob).and_then(|content| self.session.steer(steering, content, now, &mut out))
            }
            answer => self.session.answer(answer, now, &mut out),
        };
        self.write(&mut out);
        self.pending = out;
        taken
    }

    fn cancel(&mut self, _reason: &str) -> Result<(), Failure> {
        let now = self.begun.elapsed();
        let mut out = std::mem::take(&mut self.pending);
        self.session.cancel(now, &mut out);
        self.write(&mut out);
        self.pending = out;
        Ok(())
    }
}

impl Claude {
    /// Reads both outputs until they are pending or the step is full; whether the standard output is at its end.
    fn read(&mut self, now: Duration, out: &mut Effects) -> Result<bool, Failure> {
        let mut ended = false;
        while !out.events.is_full() {
            match self.stdout.next_line()? {
                Polled::Ready(line) => self.session.line(line, now, out),
                Polled::Pending => break,
                Polled::End => {
                    ended = true;
                    break;
                }
            }
        }
        while !out.events.is_full() {
            match self.stderr.next_line()? {
                Polled::Ready(line) => self.session.stderr(line.text(), out),
                Polled::Pending | Polled::End => break,
            }
        }
        Ok(ended)
    }

    /// Writes what there is room for. A program that reads no more is about to end, and its end says more.
    fn write(&mut self, out: &mut Effects) {
        for line in out.lines.drain(..) {
            self.stdin.push(line);
        }
        if std::mem::take(&mut out.close) {
            self.stdin.close();
        }
        if let Err(failure) = self.stdin.flush(&mut self.process) {
            log::write(Severity::Debug, &failure.message);
        }
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

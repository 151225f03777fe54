//! The backend `codex`: a message for Codex, and what becomes of it.
//!
//! `codex app-server` is driven over its standard input and output, one process a run: [`argv`] starts it, [`incoming`] and
//! [`item`] read its lines, [`session`] is the state machine, [`order`] has what the run wants, [`map`], [`output`], [`patch`] and
//! [`usage`] make events, [`question`] has what is asked, [`verdict`] makes failures, [`outgoing`] writes lines. This file joins
//! them to the host. It leaves to the host what may be started and touched, and the end of what does not end politely.
//! Failures have codes such as `auth_required`, `rate_limited`, `api_unreachable`, `max_turns`, `agent_exited`.

mod argv;
mod config;
mod incoming;
mod input;
mod item;
mod map;
mod mcp;
mod order;
mod outgoing;
mod output;
mod patch;
mod permission;
mod question;
#[cfg(test)]
mod replay;
mod session;
mod toml;
mod usage;
mod verdict;

use std::time::{Duration, Instant};

use falconer_backend::{
    Answer, Backend, Draft, ExitStatus, Failure, Info, Job, JsonLines, Lines, Outbox, Outcome, Pipe, Polled, Process, Severity, Step, log,
    secret,
};

use crate::argv::Key;
use crate::config::Config;
use crate::mcp::Servers;
use crate::order::Order;
use crate::permission::Mode;
use crate::session::{Effects, Session};

/// After the program ended, how long others may keep its output open.
const LINGER: Duration = Duration::from_secs(1);

/// One run of Codex.
#[derive(Debug)]
pub struct Codex {
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

impl Backend for Codex {
    fn describe() -> Info {
        Info::from_json(include_str!("../backend.json"))
    }

    fn plan(job: &Job) -> Result<Draft, Failure> {
        let config: Config = job.config()?;
        let size = input::check(&job.message)?;
        let servers = Servers::of(&config)?;
        let command = argv::command(job, &config.shown(), &servers, |_| false)?;
        Order::of(job, &config, servers, Vec::new(), None)?;
        let verb = match &job.session {
            Some(session) if session.fork => "forks a session of Codex and gives it",
            Some(_) => "continues a session of Codex with",
            None => "gives Codex",
        };
        let how = match config.permission_mode {
            Mode::Ask => "commands and changes of files are asked",
            Mode::AcceptEdits => "what its sandbox does not allow is asked",
            Mode::Plan => "it changes nothing and gives a plan",
            Mode::NeverAskDeny => "what its sandbox does not allow is refused",
            Mode::Bypass => "nothing is asked",
        };
        let sandbox = config.sandbox().word();
        Ok(Draft {
            summary: format!("{verb} a message of {size} bytes; {how}; the sandbox is {sandbox}"),
            actions: vec![command.planned()],
            unknown: vec![
                "which commands the agent will run and which files it will change, within its permission mode and sandbox".to_owned(),
            ],
        })
    }

    fn start(job: Job) -> Result<Self, Failure> {
        let config: Config = job.config()?;
        let servers = Servers::of(&config)?;
        let command = argv::command(&job, &config, &servers, secret::available)?;
        let order = Order::of(&job, &config, servers, input::of(&job.message)?, Key::of(secret::available))?;
        let process = command.spawn()?;
        let mut pending = Effects::default();
        let session = Session::new(order, &mut pending);
        Ok(Self {
            stdout: JsonLines::new(process.stdout()),
            stderr: Lines::new(process.stderr()),
            process,
            stdin: Outbox::new(),
            session,
            begun: Instant::now(),
            exit: None,
            pending,
        })
    }

    fn poll(&mut self) -> Step {
        let now = self.begun.elapsed();
        let mut out = std::mem::take(&mut self.pending);
        // Asked before reading: what was written before the end is then in the pipes.
        if self.exit.is_none() {
            self.exit = self.process.exit().map(|status| (status, now));
        }
        let ended = match self.read(now, &mut out) {
            Ok(ended) => ended,
            Err(failure) => return out.events.finish(Outcome::failed(failure)),
        };
        self.session.tick(now, &mut out);
        for line in out.log.drain(..) {
            log::write(Severity::Debug, &line);
        }
        self.write(&mut out);
        if out.events.is_full() {
            return out.events.again();
        }
        let linger = self.exit.map(|(_, seen)| seen + LINGER);
        let over = self.session.overdue(now) || self.exit.is_some() && (ended || linger.is_some_and(|until| now >= until));
        if over {
            self.session.give_up(&mut out.events);
            let outcome = self.session.outcome(self.exit.map(|(status, _)| status));
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
            Answer::Chosen(answer) => self.session.reply(&answer, &mut out),
            Answer::Dismissed(dismissed) => self.session.dismiss(&dismissed.question, &mut out),
            Answer::Message(steering) => self.session.steer(&steering, now, &mut out),
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

impl Codex {
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
                Polled::Ready(line) => self.session.stderr(&line.text(), out),
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

falconer_backend::export!(Codex);

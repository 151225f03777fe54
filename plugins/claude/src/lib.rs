//! The backend `claude`: a prompt for Claude Code, and what becomes of it.
//!
//! `claude -p` is driven over bidirectional stream-json: [`argv`] starts it, [`incoming`] reads its lines, [`session`] is the
//! state machine, [`map`] and [`usage`] make events, [`verdict`] makes failures, [`outgoing`] writes lines. This file joins
//! them to the host. It leaves to the host what may be started and touched, and the end of what does not end politely.
//! Failures have codes such as `auth_required`, `rate_limited`, `api_unreachable`, `max_turns`, `agent_exited`.

mod argv;
mod config;
mod incoming;
mod map;
mod outgoing;
mod patch;
#[cfg(test)]
mod replay;
mod session;
mod usage;
mod verdict;

use std::time::{Duration, Instant};

use falconer_backend::{
    Backend, Draft, ExitStatus, Failure, Info, Job, JsonLines, Lines, Outbox, Outcome, Pipe, Polled, Process, Severity, Step, log, secret,
};

use crate::config::Config;
use crate::session::{Effects, Session};

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
    /// What `cancel` has to tell, for the next poll.
    pending: Effects,
}

impl Backend for Claude {
    fn describe() -> Info {
        Info::from_json(include_str!("../backend.json"))
    }

    fn plan(job: &Job) -> Result<Draft, Failure> {
        let config: Config = job.config()?;
        let prompt = prompt(job)?;
        let command = argv::command(job, &config, |_| false)?;
        let verb = match &job.session {
            Some(session) if session.fork => "forks a session of Claude Code and gives it",
            Some(_) => "continues a session of Claude Code with",
            None => "gives Claude Code",
        };
        Ok(Draft {
            summary: format!("{verb} a message of {} bytes", prompt.len()),
            actions: vec![command.planned()],
            unknown: vec!["which tools the agent will use, within its permission mode".to_owned()],
        })
    }

    fn start(job: Job) -> Result<Self, Failure> {
        let config: Config = job.config()?;
        let prompt = prompt(&job)?;
        let process = argv::command(&job, &config, secret::available)?.spawn()?;
        let mut stdin = Outbox::new();
        stdin.push(outgoing::user_message(&prompt));
        Ok(Self {
            stdout: JsonLines::new(process.stdout()),
            stderr: Lines::new(process.stderr()),
            process,
            stdin,
            session: Session::new(job.session.is_some(), Duration::from_secs(config.background_wait_s())),
            begun: Instant::now(),
            exit: None,
            pending: Effects::default(),
        })
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

/// The message as text; an agent needs one.
fn prompt(job: &Job) -> Result<String, Failure> {
    let prompt = job.prompt()?;
    if prompt.trim().is_empty() {
        return Err(Failure::new("invalid_argument", "the message is empty; claude needs one that says something"));
    }
    Ok(prompt)
}

falconer_backend::export!(Claude);

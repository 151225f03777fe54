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

use std::time::Duration;

use falconer_backend::{
    Answer, Backend, Dialog, Draft, Effects, Events, ExitStatus, Failure, Info, Job, JsonLine, Outcome, Step, Talk, secret,
};

use crate::argv::Key;
use crate::config::Config;
use crate::mcp::Servers;
use crate::order::Order;
use crate::permission::Mode;
use crate::session::Session;

/// One run of Codex.
#[derive(Debug)]
pub struct Codex(Dialog<Session>);

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
        let mut first = Effects::default();
        let session = Session::new(order, &mut first);
        Ok(Self(Dialog::begin(process, session, first)))
    }

    fn poll(&mut self) -> Step {
        self.0.poll()
    }

    fn reply(&mut self, answer: Answer) -> Result<(), Failure> {
        self.0.say(|session, now, out| match answer {
            Answer::Chosen(answer) => session.reply(&answer, out),
            Answer::Dismissed(dismissed) => session.dismiss(&dismissed.question, out),
            Answer::Message(steering) => session.steer(&steering, now, out),
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
        self.stderr(&text, out);
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
        self.give_up(events);
        self.outcome(exit)
    }
}

falconer_backend::export!(Codex);

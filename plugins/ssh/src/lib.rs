//! The backend `ssh`: one command on a machine of the inventory, over the user's own OpenSSH client.
//!
//! It leaves to the host which machines there are, what may be executed there, how ssh is called and what the far end is told to
//! execute; it says what is to be done, drives the line, and reads what comes back. It fails with the command's end, with ssh's own
//! failure, or with what the far end says; where nobody says anything, it looks, and says `lost` rather than guess.

mod checkpoint;
mod config;
mod line;
mod log;
mod parting;
mod run;
mod verdict;

use std::time::Duration;

use falconer_backend::{Backend, Command, Draft, Failure, FarAction, FarStart, FarWords, Info, Job, Step};

use crate::config::Config;
use crate::run::Run;

/// One run of a command.
#[derive(Debug)]
pub struct Ssh(Run);

impl Backend for Ssh {
    fn describe() -> Info {
        Info::from_json(include_str!("../backend.json"))
    }

    fn plan(job: &Job) -> Result<Draft, Failure> {
        let config = Config::of(job)?;
        let start = FarStart { command: config.command.clone(), input_bytes: config.input_bytes(), link_s: config.link_s };
        let action = if config.detach { FarAction::Detach(start) } else { FarAction::Run(start) };
        let words = match &config.command.words {
            FarWords::Args(args) => args.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" "),
            FarWords::Shell(line) => format!("the line {line:?}"),
        };
        let place = job.target.as_ref().map(|target| target.name.as_str()).unwrap_or("its target");
        let cut = words.floor_char_boundary(2_000);
        let more = if cut < words.len() { "…" } else { "" };
        let how = if config.detach { ", detached" } else { "" };
        let summary = format!("runs {}{more} on {place}{how}", &words[..cut]);
        Ok(Draft { summary, actions: vec![Command::new("ssh").far(action).planned()], unknown: Vec::new() })
    }

    fn start(job: Job) -> Result<Self, Failure> {
        Run::start(&job).map(Self)
    }

    fn poll(&mut self) -> Step {
        self.0.poll()
    }

    fn cancel(&mut self, _reason: &str, within: Duration) -> Result<(), Failure> {
        self.0.cancel(within);
        Ok(())
    }
}

falconer_backend::export!(Ssh);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_sound() {
        let info = Ssh::describe();
        assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
        assert!(info.config_schema.contains("additionalProperties"));
    }
}

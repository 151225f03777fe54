//! The backend `exec`: one granted program with arguments; its output as events, its exit code as outcome.
//!
//! It leaves to the host which programs there are, what they may be told, and their end. It fails with the code of the
//! start (`program_not_found`, `spawn_denied` …), with `exit_nonzero`, or with `killed_by_signal`.

mod config;

use std::time::{Duration, Instant};

use falconer_backend::{
    Backend, CommandOutput, Completion, Cut, Draft, Event, Events, ExitStatus, Failure, Info, Job, Outbox, Outcome, Pipe, Process,
    Severity, Step,
};

use crate::config::Config;

/// The id of the one command in its events.
const COMMAND: &str = "command";
/// After the program ended, how long others may keep its pipes open without writing.
const QUIET: Duration = Duration::from_secs(1);
/// And how long in all.
const LINGER: Duration = Duration::from_secs(30);

/// One run of a program.
#[derive(Debug)]
pub struct Exec {
    config: Config,
    process: Process,
    stdin: Outbox,
    stdout: CommandOutput<Pipe>,
    stderr: CommandOutput<Pipe>,
    begun: Instant,
    life: Life,
    /// `cancel` came while the program lived.
    cancelled: bool,
    /// Which stream is read first; they take turns, so that neither is starved by the other.
    stderr_first: bool,
}

/// Where the program is.
#[derive(Debug, Clone, Copy)]
enum Life {
    /// Started, and not yet told.
    Started,
    /// It runs, as far as is known.
    Running,
    /// It has ended; what is left in its pipes is being read.
    Ended { status: ExitStatus, at: Instant, last_byte: Instant },
}

impl Backend for Exec {
    fn describe() -> Info {
        Info::from_json(include_str!("../backend.json"))
    }

    fn plan(job: &Job) -> Result<Draft, Failure> {
        let config = Config::of(job)?;
        let words = std::iter::once(&config.program).chain(&config.args).map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ");
        let cut = words.floor_char_boundary(2_000);
        let summary = if cut < words.len() { format!("runs {}…", &words[..cut]) } else { format!("runs {words}") };
        Ok(Draft { summary, actions: vec![config.command().planned()], unknown: Vec::new() })
    }

    fn start(job: Job) -> Result<Self, Failure> {
        let config = Config::of(&job)?;
        let process = config.command().spawn()?;
        let mut stdin = Outbox::new();
        if let Some(text) = &config.stdin {
            stdin.push(text.as_bytes());
            stdin.close();
        }
        let cut = if config.lines { Cut::Lines } else { Cut::Pieces };
        let [stdout, stderr] = CommandOutput::both(&process, COMMAND, cut);
        Ok(Self {
            stdout,
            stderr,
            config,
            process,
            stdin,
            begun: Instant::now(),
            life: Life::Started,
            cancelled: false,
            stderr_first: false,
        })
    }

    fn poll(&mut self) -> Step {
        let mut events = Events::new();
        if matches!(self.life, Life::Started) {
            events.push(Event::command_started(COMMAND, &self.config.program, &self.config.args));
            self.life = Life::Running;
        }
        // A program may end, or close its input, without reading all of it; that is no error.
        if let Err(failure) = self.stdin.flush(&mut self.process) {
            events.push(Event::notice(Severity::Info, "stdin_closed", failure.message));
        }
        // Asked before reading: what was written before the end is then in the pipes.
        if let (Life::Running, Some(status)) = (self.life, self.process.exit()) {
            let now = Instant::now();
            self.life = Life::Ended { status, at: now, last_byte: now };
        }
        let read = self.read(&mut events);
        if events.is_full() {
            return events.again();
        }
        match self.life {
            Life::Started | Life::Running => events.pending(),
            Life::Ended { status, .. } if self.stdout.is_done() && self.stderr.is_done() => self.finish(events, status),
            Life::Ended { status, at, mut last_byte } => {
                let now = Instant::now();
                if read > 0 {
                    last_byte = now;
                    self.life = Life::Ended { status, at, last_byte };
                }
                let until = (last_byte + QUIET).min(at + LINGER);
                if now < until {
                    return events.pending_for((until - now).as_millis() as u32 + 1);
                }
                let message = format!(
                    "{} ended, but a process it started holds its output open; what that one writes is not read",
                    self.config.program
                );
                events.push(Event::notice(Severity::Warning, "output_left_open", message));
                self.finish(events, status)
            }
        }
    }

    fn cancel(&mut self, _reason: &str, _within: Duration) -> Result<(), Failure> {
        if !matches!(self.life, Life::Ended { .. }) {
            self.cancelled = true;
            self.process.terminate()?;
        }
        Ok(())
    }
}

impl Exec {
    /// Reads both streams until neither has more or the step is full; how many bytes came.
    fn read(&mut self, events: &mut Events) -> usize {
        self.stderr_first = !self.stderr_first;
        let mut streams = [&mut self.stdout, &mut self.stderr];
        if self.stderr_first {
            streams.reverse();
        }
        streams.into_iter().map(|stream| stream.read_all(events)).sum()
    }

    fn finish(&mut self, mut events: Events, status: ExitStatus) -> Step {
        let duration = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        events.push(Event::command_finished(COMMAND, status, Some(duration)));
        let tail = Some(self.stdout.tail()).filter(|text| !text.is_empty());
        let result = Completion { text: tail, structured: None };
        let outcome = match status {
            _ if self.cancelled => Outcome::stopped(result),
            ExitStatus::Code(0) => Outcome::Completed(result),
            other => {
                let mut failure = Failure::of_exit(&self.config.program, other);
                if let Some(line) = self.stderr.last_line() {
                    failure.message = format!("{}: {}", failure.message, &line[..line.floor_char_boundary(500)]);
                }
                Outcome::failed(failure)
            }
        };
        events.finish(outcome)
    }
}

falconer_backend::export!(Exec);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_sound() {
        let info = Exec::describe();
        assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
        assert!(info.config_schema.contains("additionalProperties"));
    }
}

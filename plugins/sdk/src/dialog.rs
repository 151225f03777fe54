//! A program that is talked to in lines: JSON from its standard output, lines to its standard input, for as long as it lives.
//!
//! [`Dialog`] has the pipes, the clock and the end; a [`Talk`] is the state machine behind it, which knows no host and is tested
//! with recorded lines. A program that ended may have left others with its output: they are listened to for [`LINGER`].

use std::time::{Duration, Instant};

use crate::{Events, ExitStatus, Failure, JsonLine, JsonLines, Lines, Outbox, Outcome, Pipe, Polled, Process, Severity, Step, log};

/// After the program ended, how long others may keep its output open.
pub const LINGER: Duration = Duration::from_secs(1);

/// What a call has to tell and to write.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the host.
    pub events: Events,
    /// For the program's input.
    pub lines: Vec<String>,
    /// The input ends after `lines`.
    pub close: bool,
    /// For the run's log.
    pub log: Vec<String>,
}

/// One side of a dialog: lines and time in, [`Effects`] out. Times are since the dialog began.
pub trait Talk {
    /// A line of the standard output.
    fn line(&mut self, line: JsonLine, now: Duration, out: &mut Effects);
    /// A line of the standard error.
    fn stderr(&mut self, text: String, out: &mut Effects);
    /// Time has passed.
    fn tick(&mut self, now: Duration, out: &mut Effects);
    /// When [`Talk::tick`] has something to do, if nothing is heard before.
    fn deadline(&self) -> Option<Duration>;
    /// The program was told to end and did not in its time: the dialog is over all the same.
    fn overdue(&self, now: Duration) -> bool;
    /// Asks for the end, politely.
    fn cancel(&mut self, now: Duration, out: &mut Effects);
    /// How it ended: all was read, or nothing more is waited for. Last events go into `events`.
    fn outcome(&mut self, exit: Option<ExitStatus>, events: &mut Events) -> Outcome;
}

/// A program and the state of the talk with it.
#[derive(Debug)]
pub struct Dialog<T> {
    process: Process,
    stdin: Outbox,
    stdout: JsonLines<Pipe>,
    stderr: Lines<Pipe>,
    talk: T,
    begun: Instant,
    /// How the program ended, and when that was seen.
    exit: Option<(ExitStatus, Duration)>,
    /// What was said between polls has to tell.
    pending: Effects,
}

impl<T: Talk> Dialog<T> {
    /// Begins with the first words, which are written at once.
    pub fn begin(process: Process, talk: T, mut first: Effects) -> Self {
        let mut dialog = Self {
            stdout: JsonLines::new(process.stdout()),
            stderr: Lines::new(process.stderr()),
            process,
            stdin: Outbox::new(),
            talk,
            begun: Instant::now(),
            exit: None,
            pending: Effects::default(),
        };
        dialog.write(&mut first);
        dialog.pending = first;
        dialog
    }

    /// What happened since the last call; the answer of a backend's `poll`.
    pub fn poll(&mut self) -> Step {
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
        self.talk.tick(now, &mut out);
        for line in out.log.drain(..) {
            log::write(Severity::Info, &line);
        }
        self.write(&mut out);
        if out.events.is_full() {
            return out.events.again();
        }
        let linger = self.exit.map(|(_, seen)| seen + LINGER);
        if self.talk.overdue(now) || self.exit.is_some() && (ended || linger.is_some_and(|until| now >= until)) {
            let outcome = self.talk.outcome(self.exit.map(|(status, _)| status), &mut out.events);
            return out.events.finish(outcome);
        }
        match self.talk.deadline().into_iter().chain(linger).min() {
            Some(until) => {
                out.events.pending_for(u32::try_from(until.saturating_sub(now).as_millis()).unwrap_or(u32::MAX).saturating_add(1))
            }
            None => out.events.pending(),
        }
    }

    /// Has something said between polls: an answer, a message. It is written at once, its events come with the next poll.
    pub fn say<R>(&mut self, act: impl FnOnce(&mut T, Duration, &mut Effects) -> R) -> R {
        let now = self.begun.elapsed();
        let mut out = std::mem::take(&mut self.pending);
        let said = act(&mut self.talk, now, &mut out);
        self.write(&mut out);
        self.pending = out;
        said
    }

    /// Asks for the end; the answer of a backend's `cancel`.
    pub fn cancel(&mut self) {
        self.say(T::cancel);
    }

    /// Reads both outputs until they are pending or the step is full; whether the standard output is at its end.
    fn read(&mut self, now: Duration, out: &mut Effects) -> Result<bool, Failure> {
        let mut ended = false;
        while !out.events.is_full() {
            match self.stdout.next_line()? {
                Polled::Ready(line) => self.talk.line(line, now, out),
                Polled::Pending => break,
                Polled::End => {
                    ended = true;
                    break;
                }
            }
        }
        while !out.events.is_full() {
            match self.stderr.next_line()? {
                Polled::Ready(line) => self.talk.stderr(line.text(), out),
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

//! The run: which line there is, what its end means, and how a stop is proven.
//!
//! An attached command lives as long as its line. When the line goes without a word about the command's end, another one asks the
//! far end to end it and looks whether anything is left; what nobody answers for is `lost`. A detached command outlives lines: the
//! run takes a new one from the byte where it was. A stop asks over the line that there is, then over one of its own.

mod ending;
mod outcome;

use std::time::{Duration, Instant};

use falconer_backend::far::{self, Looked, State, Trailer};
use falconer_backend::{Event, Events, Failure, FarAction, FarPlace, FarStart, Job, Outcome, RemoteProof, Severity, Step};

use crate::checkpoint::{Checkpoint, Ended};
use crate::config::Config;
use crate::line::{COMMAND, Line, Offsets};
use crate::verdict;

/// Of the time that a stop may ask: when TERM is followed by KILL; and, of all that there is for the proof, how long after it the
/// line is given up for one of its own.
const KILL_AFTER: f64 = 0.5;
const LOOK_AFTER: f64 = 0.2;
/// What is left of it in the end to say what is known.
const SPARE: Duration = Duration::from_millis(250);
/// Between TERM and KILL where nobody waits.
const GRACE_S: u32 = 2;
/// A far end that does not answer is asked again after this, then after twice as long, and so on.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// A far end whose line was lost is asked for so much longer than it takes to notice by itself.
const LOOK_BEYOND: Duration = Duration::from_secs(30);
/// The result is the end of the standard output, in bytes.
const TAIL: usize = 8 << 10;
/// What is kept of a detached command is taken away in this time, or left with a notice.
const FORGET: Duration = Duration::from_secs(10);

/// One run.
#[derive(Debug)]
pub struct Run {
    config: Config,
    target: String,
    /// All that there is for a stop and its proof.
    ask: Duration,
    phase: Phase,
    /// Told once, when the command has begun.
    started: Option<Event>,
    begun_at: Option<Instant>,
    at: Offsets,
    labels: u32,
    life: u32,
    stop: Option<Stop>,
    /// The last words of the command, and those before the line that there is.
    tail: String,
    before: String,
    last_line: Option<String>,
    /// What is wrong with the far end, as it was told last.
    trouble: Option<String>,
}

/// Where the run is.
#[derive(Debug)]
enum Phase {
    /// A detached run begins: that it may have something there goes to the disk first.
    Announcing,
    /// The command runs, or is followed.
    On(Box<Line>),
    /// No line; a new one is taken at this time.
    Away { at: Instant, wait: Duration },
    /// The far end is asked to end it.
    Ending { line: Option<Box<Line>>, at: Instant, wait: Duration, until: Instant, why: Failure },
    /// A detached command has ended, all is told; what is kept there is taken away.
    Forgetting { line: Box<Line>, said: bool, until: Instant, ended: Ended },
}

/// A stop that was asked for.
#[derive(Debug, Clone, Copy)]
struct Stop {
    at: Instant,
    /// When TERM is followed by KILL.
    kill: Instant,
    /// TERM was said over the line.
    told: bool,
    /// KILL was.
    killed: bool,
}

/// What a phase leads to.
enum Then {
    /// To be polled again at this time, or at news.
    Wait(Option<Instant>),
    Again,
    Finish(Box<Outcome>),
}

impl Run {
    /// Begins; an attached command is started at once.
    ///
    /// # Errors
    /// What the host or the config says.
    pub fn start(job: &Job) -> Result<Self, Failure> {
        let config = Config::of(job)?;
        let (program, args) = config.shown();
        let started = Event::CommandStarted(falconer_backend::CommandStart {
            id: COMMAND.to_owned(),
            command: program,
            args,
            cwd: config.command.cwd.clone(),
            parent: None,
        });
        let now = Instant::now();
        let mut run = Self {
            target: job.target.as_ref().map(|target| target.name.clone()).unwrap_or_default(),
            ask: Duration::from_millis(u64::from(job.limits.ask_ms)),
            phase: Phase::Announcing,
            started: Some(started),
            begun_at: None,
            at: Offsets::default(),
            labels: 0,
            life: job.life,
            stop: None,
            tail: String::new(),
            before: String::new(),
            last_line: None,
            trouble: None,
            config,
        };
        if job.only_end {
            // The stop follows.
            run.phase = Phase::Away { at: now + LAST_RETRY, wait: LAST_RETRY };
        } else if let Some(checkpoint) = &job.checkpoint {
            let checkpoint = Checkpoint::read(checkpoint)?;
            run.at = checkpoint.offsets();
            run.before.clone_from(&checkpoint.tail);
            run.tail.clone_from(&checkpoint.tail);
            if checkpoint.begun {
                run.started = None;
            }
            run.phase = match checkpoint.ended {
                None => Phase::Away { at: now, wait: FIRST_RETRY },
                Some(ended) => run.ending(now + FORGET, ended.failure()),
            };
        } else if !run.config.detach {
            run.phase = Phase::On(Box::new(run.open(FarAction::Run(run.first()))?));
        }
        Ok(run)
    }

    fn first(&self) -> FarStart {
        FarStart { command: self.config.command.clone(), input_bytes: self.config.input_bytes(), link_s: self.config.link_s }
    }

    /// Takes a line.
    fn open(&mut self, action: FarAction) -> Result<Line, Failure> {
        self.labels += 1;
        self.before.clone_from(&self.tail);
        let input = match action {
            FarAction::Run(_) | FarAction::Detach(_) => self.config.input.as_slice(),
            FarAction::Attach(_) | FarAction::End(_) => &[],
        };
        Line::open(self.labels, &self.target, action, input, self.config.link_s, self.at)
    }

    /// What happened since the last call.
    pub fn poll(&mut self) -> Step {
        let mut events = Events::new();
        let then = match std::mem::replace(&mut self.phase, Phase::Announcing) {
            Phase::Announcing => self.announce(&mut events),
            Phase::On(line) => self.follow(line, &mut events),
            Phase::Away { at, wait } => self.come_back(at, wait, &mut events),
            Phase::Ending { line, at, wait, until, why } => self.look(line, at, wait, until, why, &mut events),
            Phase::Forgetting { line, said, until, ended } => self.forget(line, said, until, ended, &mut events),
        };
        if self.config.detach && !events.is_empty() {
            events.checkpoint(self.checkpoint().bytes());
        }
        match then {
            Then::Finish(outcome) => events.finish(*outcome),
            Then::Again => events.again(),
            Then::Wait(None) => events.pending(),
            Then::Wait(Some(at)) => {
                let ms = at.saturating_duration_since(Instant::now()).as_millis();
                events.pending_for(u32::try_from(ms).unwrap_or(u32::MAX).saturating_add(1))
            }
        }
    }

    /// Asks for the end. However short the time that the command is given: the proof has all that the host gives it.
    pub fn cancel(&mut self, within: Duration) {
        self.ask = self.ask.max(within);
        let at = Instant::now();
        let mut stop = Stop { at, kill: at + within.mul_f64(KILL_AFTER), told: false, killed: false };
        if let Phase::On(line) = &mut self.phase {
            if line.has_begun() {
                line.say(far::TERMINATE);
                stop.told = true;
            } else {
                line.hang_up();
            }
        }
        self.stop = Some(stop);
    }

    fn checkpoint(&self) -> Checkpoint {
        let ended = match &self.phase {
            Phase::Forgetting { ended, .. } => Some(*ended),
            Phase::Announcing | Phase::On(_) | Phase::Away { .. } | Phase::Ending { .. } => None,
        };
        Checkpoint { begun: self.started.is_none(), stdout: self.at.stdout, stderr: self.at.stderr, ended, tail: self.tail.clone() }
    }

    fn announce(&mut self, events: &mut Events) -> Then {
        if self.stop.is_some() {
            return finish(Outcome::stopped(self.result()));
        }
        events.checkpoint(self.checkpoint().bytes());
        self.phase = Phase::Away { at: Instant::now(), wait: FIRST_RETRY };
        Then::Again
    }

    /// The line that there is.
    fn follow(&mut self, mut line: Box<Line>, events: &mut Events) -> Then {
        let began = self.started.is_none();
        if let Err(failure) = line.poll(events, &mut self.started) {
            line.hang_up();
            return self.lost_line(line, failure, events);
        }
        if !began && self.started.is_none() {
            self.begun_at = Some(Instant::now());
        }
        if line.has_begun() && self.trouble.take().is_some() {
            events.push(Event::notice(Severity::Info, "link_restored", "the far end answers again"));
        }
        self.remember(&line);
        if events.is_full() {
            // A flood must not keep a stop from going on.
            if self.hurry(&mut line).is_err() {
                return self.give_up(line);
            }
            self.phase = Phase::On(line);
            return Then::Again;
        }
        match line.state() {
            State::Ended(Trailer::Exited { status, left, looked, totals, .. }) => {
                let ended = Ended { status, left, looked: looked == Looked::Proc };
                let all = totals.is_none_or(|(out, err)| (out, err) == (self.at.stdout, self.at.stderr));
                if self.config.detach && all {
                    return self.all_told(line, ended, events);
                }
                if line.is_over() {
                    if self.config.detach {
                        return self.lost_line(line, verdict::link_lost("it ended before all output was fetched"), events);
                    }
                    return self.ended(ended, events);
                }
            }
            State::Ended(Trailer::Fail { code, detail }) if line.is_over() => return self.refused_there(&code, &detail),
            State::Ended(_) | State::Waiting | State::Begun { .. } | State::Gone if line.is_over() => {
                let failure = verdict::of(&line);
                return self.without_a_word(line, failure, events);
            }
            State::Ended(_) | State::Waiting | State::Begun { .. } | State::Gone => {}
        }
        let Ok(wake) = self.hurry(&mut line) else { return self.give_up(line) };
        let wake = wake.into_iter().chain(line.deadline()).min();
        self.phase = Phase::On(line);
        Then::Wait(wake)
    }

    /// A stop was not heard, or not answered, over this line: another one asks.
    fn give_up(&mut self, mut line: Box<Line>) -> Then {
        line.hang_up();
        let until = self.stop.map_or_else(Instant::now, |stop| stop.at + self.ask.saturating_sub(SPARE));
        self.phase = self.ending(until, verdict::link_lost("the far end did not say that it ended the command"));
        Then::Again
    }

    /// Goes on with a stop over the line; when there is something to do next. An error: the line is to be given up.
    fn hurry(&mut self, line: &mut Line) -> Result<Option<Instant>, ()> {
        let Some(stop) = &mut self.stop else { return Ok(None) };
        let (kill, look) = (stop.kill, stop.kill + self.ask.mul_f64(LOOK_AFTER));
        let now = Instant::now();
        if now >= look {
            return Err(());
        }
        if now >= kill && !stop.killed {
            stop.killed = true;
            line.say(far::KILL);
        }
        Ok(Some(if stop.killed { look } else { kill }))
    }

    fn remember(&mut self, line: &Line) {
        self.at = line.offsets();
        let mut tail = format!("{}{}", self.before, line.tail());
        tail.drain(..tail.ceil_char_boundary(tail.len().saturating_sub(TAIL)));
        self.tail = tail;
        self.last_line = line.last_line().or(self.last_line.take());
    }

    /// The far end said why it did not begin.
    fn refused_there(&mut self, code: &str, detail: &str) -> Then {
        // A detached run that is taken up again may find that it never began, or that nothing of it lives.
        if self.config.detach && code == "exists" {
            return self.come_back_at(Instant::now(), FIRST_RETRY);
        }
        let failure = verdict::refused(code, detail);
        // That nothing is kept there says nothing of what lives there, or is about to: a login may be under way. It is looked at.
        if self.config.detach && matches!(code, "absent" | "vanished") {
            let until = match self.stop {
                Some(stop) => stop.at + self.ask.saturating_sub(SPARE),
                None => Instant::now() + Duration::from_secs(u64::from(self.config.link_s)) + LOOK_BEYOND,
            };
            self.phase = self.ending(until, failure);
            return Then::Again;
        }
        if self.stop.is_some() {
            return finish(Outcome::stopped_remotely(RemoteProof::Confirmed, "the command had not begun", self.result()));
        }
        finish(Outcome::failed(failure))
    }

    /// ssh ended, and the far end had not said how the command did.
    fn without_a_word(&mut self, line: Box<Line>, failure: Failure, events: &mut Events) -> Then {
        let sent = line.was_sent();
        // Only the first line can have started nothing.
        let first = self.started.is_some() && self.labels == 1 && self.life == 1;
        if first && !sent && self.stop.is_some() {
            return finish(Outcome::stopped_remotely(RemoteProof::Confirmed, "nothing was started at the far end", self.result()));
        }
        if first && (!sent || line.never_began()) {
            return finish(Outcome::failed(failure));
        }
        self.lost_line(line, failure, events)
    }

    /// The line is gone while the command may live.
    fn lost_line(&mut self, line: Box<Line>, failure: Failure, events: &mut Events) -> Then {
        self.remember(&line);
        drop(line);
        self.tell_trouble(&failure, events);
        let now = Instant::now();
        if let Some(stop) = self.stop {
            self.phase = self.ending(stop.at + self.ask.saturating_sub(SPARE), failure);
            return Then::Again;
        }
        if self.config.detach {
            return self.come_back_at(now + FIRST_RETRY, FIRST_RETRY * 2);
        }
        let until = now + Duration::from_secs(u64::from(self.config.link_s)) + LOOK_BEYOND;
        self.phase = self.ending(until, failure);
        Then::Again
    }

    fn tell_trouble(&mut self, failure: &Failure, events: &mut Events) {
        if self.trouble.as_deref() == Some(&failure.code) {
            return;
        }
        self.trouble = Some(failure.code.clone());
        events.push(Event::notice(Severity::Warning, "link_lost", format!("{}: {}", failure.code, failure.message)));
    }

    fn come_back_at(&mut self, at: Instant, wait: Duration) -> Then {
        self.phase = Phase::Away { at, wait };
        Then::Wait(Some(at))
    }

    /// A detached run takes its next line.
    fn come_back(&mut self, at: Instant, wait: Duration, events: &mut Events) -> Then {
        if let Some(stop) = self.stop {
            if self.labels == 0 && self.life == 1 {
                return finish(Outcome::stopped(self.result()));
            }
            self.phase = self.ending(stop.at + self.ask.saturating_sub(SPARE), verdict::link_lost("there was no line when it was to stop"));
            return Then::Again;
        }
        if Instant::now() < at {
            return self.come_back_at(at, wait);
        }
        let first = self.labels == 0 && self.life == 1;
        let action = if first {
            FarAction::Detach(self.first())
        } else {
            FarAction::Attach(FarPlace { stdout: self.at.stdout, stderr: self.at.stderr, link_s: self.config.link_s })
        };
        match self.open(action) {
            Ok(line) => {
                self.phase = Phase::On(Box::new(line));
                Then::Again
            }
            Err(failure) if first => finish(Outcome::failed(failure)),
            Err(failure) => {
                self.tell_trouble(&failure, events);
                self.come_back_at(Instant::now() + wait, (wait * 2).min(LAST_RETRY))
            }
        }
    }

    fn line_for(&mut self, action: FarAction, events: &mut Events) -> Then {
        match self.open(action) {
            Ok(line) => {
                self.phase = Phase::On(Box::new(line));
                Then::Again
            }
            Err(failure) => {
                self.tell_trouble(&failure, events);
                self.come_back_at(Instant::now() + FIRST_RETRY, FIRST_RETRY * 2)
            }
        }
    }

    /// An attached command has ended, and all was read.
    fn ended(&mut self, ended: Ended, events: &mut Events) -> Then {
        self.finished(ended, events);
        finish(self.outcome(ended))
    }

    /// A detached command has ended, and all was told: that goes to the disk before what is kept there is taken away.
    fn all_told(&mut self, line: Box<Line>, ended: Ended, events: &mut Events) -> Then {
        self.finished(ended, events);
        self.phase = Phase::Forgetting { line, said: false, until: Instant::now() + FORGET, ended };
        Then::Again
    }

    fn forget(&mut self, mut line: Box<Line>, said: bool, until: Instant, ended: Ended, events: &mut Events) -> Then {
        if !said {
            line.say(far::FORGET);
        }
        let mut nothing = None;
        let polled = line.poll(&mut Events::new(), &mut nothing);
        if matches!(line.state(), State::Gone) {
            return finish(self.outcome(ended));
        }
        if polled.is_err() || line.is_over() || Instant::now() >= until {
            events.push(Event::notice(
                Severity::Warning,
                "far_end_left_behind",
                "the line went before the far end had taken away what it kept of the run; it is in the directory .falconer of the login's home",
            ));
            return finish(self.outcome(ended));
        }
        let wake = line.deadline().into_iter().chain([until]).min();
        self.phase = Phase::Forgetting { line, said: true, until, ended };
        Then::Wait(wake)
    }
}

fn finish(outcome: Outcome) -> Then {
    Then::Finish(Box::new(outcome))
}

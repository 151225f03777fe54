//! One ssh process and what is said over it: the protocol of the far end on its three pipes, its own words on a fourth.
//!
//! A line knows how far the link got and how it ended; what that means for the run is said in [`crate::run`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use falconer_backend::bindings::falconer::backend::blobs;
use falconer_backend::far::{self, Link, Nonce, State};
use falconer_backend::{
    Command, CommandOutput, Cut, Events, ExitStatus, Failure, FarAction, Lines, LogPipe, Outbox, OutputKind, PIECE, Pipe, Polled, Process,
    Received, Source, Taken,
};

use crate::config::Piece;
use crate::log::Log;
use crate::parting::Parting;

/// The name of the grant.
const PROGRAM: &str = "ssh";
/// The id of the one command in a run's events.
pub const COMMAND: &str = "command";
/// A heartbeat comes so many times in the time after which the link is lost.
const BEATS: u32 = 3;
/// After ssh ended, how long others may keep its pipes open.
const LINGER: Duration = Duration::from_secs(2);

/// Where each stream of the command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offsets {
    /// Bytes that were told.
    pub stdout: u64,
    /// Bytes that were told.
    pub stderr: u64,
}

/// One ssh process.
#[derive(Debug)]
pub struct Line {
    process: Process,
    link: Rc<RefCell<Link>>,
    outbox: Outbox,
    input: VecDeque<Piece>,
    /// Of the first blob, what was read.
    read: u64,
    stdout: CommandOutput<FarPipe>,
    stderr: CommandOutput<FarPipe>,
    log: Lines<LogPipe>,
    said: Log,
    /// The command was handed to the far end, as far as ssh says.
    sent: bool,
    exit: Option<(ExitStatus, Instant)>,
    beat: Option<(Duration, Instant)>,
}

/// An output of ssh, of which the far end's part is given.
#[derive(Debug)]
pub struct FarPipe {
    pipe: Pipe,
    link: Rc<RefCell<Link>>,
    /// On the standard error alone.
    parting: Parting,
    ended: bool,
}

impl Source for FarPipe {
    fn read(&mut self, max: u32) -> Received {
        loop {
            let payload = match self.pipe.read(max) {
                Received::Bytes(bytes) => match self.pipe.kind() {
                    OutputKind::Stdout => self.link.borrow_mut().stdout(bytes),
                    OutputKind::Stderr => {
                        let payload = self.link.borrow_mut().stderr(bytes);
                        let mut own = self.parting.push(payload);
                        if matches!(self.link.borrow().state(), State::Ended(_) | State::Gone) {
                            own.extend(self.parting.rest());
                        }
                        own
                    }
                },
                Received::NotYet => return Received::NotYet,
                Received::End if self.ended => return Received::End,
                Received::End => {
                    self.ended = true;
                    match self.pipe.kind() {
                        OutputKind::Stdout => continue,
                        OutputKind::Stderr => {
                            let payload = self.link.borrow_mut().finish();
                            let mut own = self.parting.push(payload);
                            own.extend(self.parting.end());
                            own
                        }
                    }
                }
            };
            if !payload.is_empty() {
                return Received::Bytes(payload);
            }
        }
    }
}

impl Line {
    /// Starts ssh for this; the streams go on from these offsets.
    ///
    /// # Errors
    /// What the host says: the rule that refuses, an address that is not to be had.
    pub fn open(label: u32, target: &str, action: FarAction, input: &[Piece], link_s: u32, from: Offsets) -> Result<Self, Failure> {
        // Whoever asks for an end alone is not listened to for a heartbeat.
        let beat = match action {
            FarAction::End(_) => None,
            FarAction::Run(_) | FarAction::Detach(_) | FarAction::Attach(_) => Some(Duration::from_secs(u64::from(link_s)) / BEATS),
        };
        let command = Command::new(PROGRAM).label(format!("ssh-{label}")).far(action).piped_stdin();
        let process = command.env_if_granted("HOME").env_if_granted("USER").env_if_granted("SSH_AUTH_SOCK").spawn()?;
        let link = Link::new(Nonce::random());
        let mut outbox = Outbox::new();
        outbox.push(link.first_line());
        let link = Rc::new(RefCell::new(link));
        let stream = |kind, offset| {
            let pipe = FarPipe { pipe: process.output(kind), link: Rc::clone(&link), parting: Parting::default(), ended: false };
            CommandOutput::new(pipe, COMMAND, kind, Cut::Pieces).starting_at(offset)
        };
        let (stdout, stderr) = (stream(OutputKind::Stdout, from.stdout), stream(OutputKind::Stderr, from.stderr));
        let now = Instant::now();
        let mut line = Self {
            log: Lines::new(process.log()),
            process,
            link,
            outbox,
            input: input.iter().cloned().collect(),
            read: 0,
            stdout,
            stderr,
            said: Log::new(target),
            sent: false,
            exit: None,
            beat: beat.map(|every| (every, now + every)),
        };
        line.feed()?;
        Ok(line)
    }

    /// Takes what came and writes what there is room for. Output of the command goes into `events`, after `started`, which is asked
    /// for once, when the command has begun.
    ///
    /// # Errors
    /// The input cannot be read, or a line of ssh is out of all bounds.
    pub fn poll(&mut self, events: &mut Events, started: &mut Option<falconer_backend::Event>) -> Result<(), Failure> {
        let now = Instant::now();
        // Asked before reading: what was written before the end is then in the pipes.
        if self.exit.is_none() {
            self.exit = self.process.exit().map(|status| (status, now));
        }
        while let Polled::Ready(line) = self.log.next_line()? {
            self.heard(line.text());
        }
        let mut errors = Events::new();
        if !events.is_full() {
            self.stderr.read_all(&mut errors);
        }
        if self.has_begun()
            && let Some(started) = started.take()
        {
            events.push(started);
        }
        events.absorb(errors);
        // What the far end said before the command began is no output of it.
        if started.is_none() || self.exit.is_some() {
            self.stdout.read_all(events);
        }
        if self.has_begun()
            && let Some((every, at)) = &mut self.beat
            && now >= *at
        {
            *at = now + *every;
            self.outbox.push(far::BEAT);
        }
        self.feed()
    }

    /// Says a word to the far end.
    pub fn say(&mut self, word: &[u8]) {
        self.outbox.push(word);
        // One that reads no more is about to end, and its end says more.
        let _ = self.outbox.flush(&mut self.process);
    }

    /// Ends ssh; the far end sees its input end.
    pub fn hang_up(&mut self) {
        self.outbox = Outbox::new();
        let _ = self.process.terminate();
    }

    fn heard(&mut self, line: String) {
        self.sent |= line.contains("Sending command: ");
        self.said.line(&line);
    }

    /// The command's input follows the first line, by pieces.
    fn feed(&mut self) -> Result<(), Failure> {
        loop {
            match self.outbox.flush(&mut self.process) {
                Ok(Taken::All) => {}
                // The end of ssh says more.
                Ok(Taken::Part) | Err(_) => return Ok(()),
            }
            match self.input.front() {
                None => return Ok(()),
                Some(Piece::Text(text)) => {
                    let text = text.clone();
                    self.outbox.push(text.into_bytes());
                    self.input.pop_front();
                }
                Some(Piece::Blob(blob)) => {
                    let piece = blobs::read(&blob.id, self.read, PIECE)?;
                    self.read += piece.len() as u64;
                    if piece.is_empty() || self.read >= blob.size {
                        self.input.pop_front();
                        self.read = 0;
                    }
                    self.outbox.push(piece);
                }
            }
        }
    }

    /// What the far end said last.
    #[must_use]
    pub fn state(&self) -> State {
        self.link.borrow().state().clone()
    }

    /// The far end has begun with the command.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !matches!(*self.link.borrow().state(), State::Waiting)
    }

    /// It may have begun with it.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        self.sent || self.has_begun()
    }

    /// The login has ended by itself and never came to the command. A signal is told as 128 and more by a shell, as 255 by ssh.
    #[must_use]
    pub fn never_began(&self) -> bool {
        let by_itself = matches!(self.exit, Some((ExitStatus::Code(code), _)) if (0..128).contains(&code));
        by_itself && self.said.is_in() && self.is_over() && !self.has_begun()
    }

    /// ssh has ended and its outputs are read, or others keep them open for too long.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.exit.is_some_and(|(_, at)| self.stdout.is_done() && self.stderr.is_done() || at.elapsed() >= LINGER)
    }

    /// When [`Line::poll`] has something to do, if nothing is heard before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let beat = self.beat.filter(|_| self.has_begun() && self.exit.is_none()).map(|(_, at)| at);
        beat.into_iter().chain(self.exit.map(|(_, at)| at + LINGER)).min()
    }

    /// What was told of each stream.
    #[must_use]
    pub fn offsets(&self) -> Offsets {
        Offsets { stdout: self.stdout.offset(), stderr: self.stderr.offset() }
    }

    /// The end of the command's output.
    #[must_use]
    pub fn tail(&self) -> String {
        self.stdout.tail()
    }

    /// The last line that the command wrote to its standard error.
    #[must_use]
    pub fn last_line(&self) -> Option<String> {
        self.stderr.last_line()
    }

    /// What ssh said.
    #[must_use]
    pub const fn said(&self) -> &Log {
        &self.said
    }

    /// What the login said before the command began, for a failure.
    #[must_use]
    pub fn noise(&self) -> String {
        String::from_utf8_lossy(self.link.borrow().noise()).into_owned()
    }
}

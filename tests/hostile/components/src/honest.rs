//! Modes that keep to the contract.

use crate::asking::Asking;
use crate::bindings::falconer::backend::types::{
    Answer, Choice, CommandStart, Completion, Draft, Event, Failure, ItemStatus, Job, Next, Outcome, OutputKind, Part, PlannedAction,
    PlannedCommand, Question, QuestionKind, Received, Step,
};
use crate::bindings::falconer::backend::{blobs, process};
use crate::config::{Config, Mode};
use crate::events::{finished, message, native, output};
use crate::failure;
use crate::lasting::Lasting;

/// Bytes asked of a pipe at once.
const PIECE: u32 = 64 << 10;
/// Events of one step of a child's output.
const PIECES: usize = 16;

/// What a well-behaved mode remembers.
#[derive(Default)]
pub struct Work {
    prompt: String,
    /// The native session: a number of turns, so that a resumed one shows that it remembers.
    turns: u32,
    resumed: Option<String>,
    forked: bool,
    asking: Asking,
    done: u64,
    said_session: bool,
    answer: Option<String>,
    child: Option<Child>,
    pub lasting: Lasting,
}

struct Child {
    handle: process::Child,
    started: bool,
    offsets: [u64; 2],
    ended: [bool; 2],
    stdin: Option<Vec<u8>>,
}

pub fn plan(config: &Config) -> Draft {
    let actions = match config.mode {
        _ if !config.program.is_empty() => {
            vec![PlannedAction::Spawn(PlannedCommand {
                program: config.program.clone(),
                args: config.args.clone(),
                cwd: None,
                command: None,
            })]
        }
        _ => Vec::new(),
    };
    Draft { summary: format!("would do {:?}", config.mode), actions, unknown: Vec::new() }
}

pub fn text_of(part: &Part) -> String {
    match part {
        Part::Text(text) | Part::Data(text) => text.clone(),
        Part::File(blob) => {
            let bytes = blobs::read(&blob.id, 0, 64).unwrap_or_default();
            let name = blob.file_name.as_deref().unwrap_or("nameless");
            format!("[{name}: {} bytes of {}: {}]", blob.size, blob.mime, String::from_utf8_lossy(&bytes))
        }
    }
}

pub fn step(events: Vec<Event>, next: Next) -> Step {
    Step { events, checkpoint: None, next }
}

pub fn completed(text: impl Into<String>) -> Next {
    Next::Finished(Outcome::Completed(Completion { text: Some(text.into()), structured: None }))
}

/// What is asked about: `size` bytes of one text, or so many members where `text` is `wide`.
fn details(config: &Config) -> String {
    if config.text == "wide" {
        let members: Vec<String> = (0..config.size).map(|n| format!("\"k{n}\":{n}")).collect();
        return format!("{{{}}}", members.join(","));
    }
    format!("{{\"what\":\"everything\",\"input\":{{\"content\":\"{}\"}}}}", "x".repeat(config.size))
}

fn structured(config: &Config) -> Next {
    let structured = Some(config.text.clone()).filter(|text| !text.is_empty());
    Next::Finished(Outcome::Completed(Completion { text: Some("as told".into()), structured }))
}

impl Work {
    pub fn begin(config: &Config, job: Job) -> Result<Self, Failure> {
        let lasting = matches!(config.mode, Mode::Count | Mode::Follow).then(|| Lasting::begin(config, &job)).transpose()?;
        let prompt = job.message.iter().map(text_of).collect::<Vec<_>>().join("\n");
        let forked = job.session.as_ref().is_some_and(|session| session.fork);
        let resumed = job.session.map(|session| session.native_id);
        let turns = resumed.as_deref().and_then(|id| id.rsplit('-').next()?.parse().ok()).unwrap_or(0);
        let mut work = Self { prompt, turns, resumed, forked, lasting: lasting.unwrap_or_default(), ..Self::default() };
        // Every mode may have a child beside it; `many_children` starts its own.
        if !config.program.is_empty() && !matches!(config.mode, Mode::ManyChildren | Mode::Count | Mode::Follow) {
            work.child = Some(Child::start(config)?);
        }
        Ok(work)
    }

    pub fn said(&self) -> String {
        format!("stopped after {} steps", self.done)
    }

    pub fn last_words(&self) -> Vec<Event> {
        vec![message("last", "heard the cancel")]
    }

    pub fn reply(&mut self, answer: Answer) -> Result<(), Failure> {
        let answer = match self.asking.take(answer) {
            Some(answer) => answer,
            None => return Ok(()),
        };
        let answer = match answer {
            Answer::Chosen(chosen) => {
                format!("chosen {} {}", chosen.choices.join("+"), chosen.text.or(chosen.data).unwrap_or_default())
            }
            Answer::Dismissed(withdrawal) => format!("dismissed {}", withdrawal.reason),
            Answer::Message(steering) => {
                let text = steering.message.iter().map(text_of).collect::<String>();
                if text.starts_with("refuse") {
                    return Err(failure("not_now", "told to refuse"));
                }
                format!("steered {text}")
            }
        };
        self.answer = Some(match self.answer.take() {
            Some(before) => format!("{before}; {answer}"),
            None => answer,
        });
        Ok(())
    }

    pub fn poll(&mut self, config: &Config) -> Step {
        match config.mode {
            Mode::Echo => self.echo(),
            Mode::Flood => self.flood(config),
            Mode::Tick => self.tick(config),
            Mode::Ask => self.ask(config),
            Mode::AskMany => self.asking.poll(config),
            Mode::LeaveOpen => self.asking.leave_open(config),
            Mode::Structured => step(Vec::new(), structured(config)),
            Mode::Dirs => step(Vec::new(), completed(config.dirs.join("\n"))),
            Mode::Checkpoint => self.checkpoint(config),
            Mode::Count | Mode::Follow => self.lasting.poll(config),
            Mode::Spawn => self.child.as_mut().map_or_else(|| step(Vec::new(), completed("no child")), |child| child.poll(config)),
            Mode::SpawnDeaf => self.child_without_end(config),
            Mode::FinishEarly => step(Vec::new(), completed("finished before its child")),
            Mode::Multibyte => self.multibyte(config),
            Mode::Fail => step(Vec::new(), Next::Finished(Outcome::Failed(failure(&config.text, "told to fail")))),
            _ => match self.answer.take() {
                Some(answer) => step(vec![message("answer", answer)], Next::Pending(None)),
                None => step(Vec::new(), Next::Pending(None)),
            },
        }
    }

    fn child_without_end(&mut self, config: &Config) -> Step {
        let Some(child) = &mut self.child else { return step(Vec::new(), Next::Pending(None)) };
        let step = child.poll(config);
        if !matches!(step.next, Next::Finished(_)) {
            return step;
        }
        self.child = None;
        Step { next: Next::Pending(None), ..step }
    }

    fn echo(&mut self) -> Step {
        self.turns += 1;
        let id = if self.forked { format!("forked-{}", self.turns) } else { format!("native-{}", self.turns) };
        let text = match &self.resumed {
            Some(before) if self.forked => format!("{} (beside {before})", self.prompt),
            Some(before) => format!("{} (after {before})", self.prompt),
            None => self.prompt.clone(),
        };
        step(vec![Event::SessionStarted(id), message("echo", text.clone())], completed(text))
    }

    fn flood(&mut self, config: &Config) -> Step {
        let end = (self.done + config.batch.min(1_024)).min(config.n);
        let padding = "x".repeat(config.size);
        let events = (self.done..end).map(|n| native("flood", format!("{{\"n\":{n},\"pad\":\"{padding}\"}}"))).collect();
        self.done = end;
        let next = if end == config.n { completed(format!("{end} events")) } else { Next::Again };
        step(events, next)
    }

    fn tick(&mut self, config: &Config) -> Step {
        self.done += 1;
        let event = native("tick", format!("{{\"n\":{}}}", self.done));
        let next = if self.done == config.n { completed("ticked") } else { Next::Pending(Some(config.every_ms)) };
        step(vec![event], next)
    }

    fn ask(&mut self, config: &Config) -> Step {
        if let Some(answer) = self.answer.take() {
            return step(vec![message("answer", answer.clone())], completed(answer));
        }
        if self.said_session {
            return step(Vec::new(), Next::Pending(None));
        }
        self.said_session = true;
        let choice = |id: &str| Choice { id: id.into(), label: id.into(), description: None };
        let question = Question {
            id: "q1".into(),
            kind: if config.text == "auth" { QuestionKind::Auth } else { QuestionKind::Approval },
            prompt: "may it be?".into(),
            choices: vec![choice("yes"), choice("no")],
            multiple: false,
            details: details(config),
            form: None,
            default_choice: (config.text == "default").then(|| "no".into()),
            expires_ms: (config.n > 0).then(|| u32::try_from(config.n).unwrap_or(u32::MAX)),
        };
        step(vec![Event::Asked(question)], Next::Pending(None))
    }

    fn checkpoint(&mut self, config: &Config) -> Step {
        self.done += 1;
        let next = if self.done >= config.n { completed("all kept") } else { Next::Again };
        Step { events: vec![native("step", self.done.to_string())], checkpoint: Some(vec![7; config.size]), next }
    }

    /// Characters of one to four bytes, so that most offsets fall inside one.
    fn multibyte(&mut self, config: &Config) -> Step {
        let text: String = "aé€𝄞"
            .chars()
            .cycle()
            .scan(0, |bytes, c| {
                *bytes += c.len_utf8();
                (*bytes <= config.size).then_some(c)
            })
            .collect();
        step(vec![message("text", text.clone())], completed(text))
    }
}

impl Child {
    fn start(config: &Config) -> Result<Self, Failure> {
        let inherited = config.env.iter().map(|name| (name.clone(), process::EnvValue::Inherited));
        let secret = config.secrets.iter().map(|name| (name.clone(), process::EnvValue::Secret(name.clone())));
        let options = process::Options {
            label: "child".into(),
            program: config.program.clone(),
            args: config.args.clone(),
            far: None,
            env: inherited.chain(secret).collect(),
            cwd: None,
            stdin: if config.stdin.is_some() { process::StdinMode::Piped } else { process::StdinMode::Null },
        };
        let handle = process::spawn(&options).map_err(|error| match error {
            process::SpawnError::Denied(why) => failure("denied", why),
            process::SpawnError::NotFound(why) => failure("not_found", why),
            process::SpawnError::Limit(why) => failure("limit", why),
            process::SpawnError::Other(why) => failure("other", why),
            process::SpawnError::Far(failure) => failure,
        })?;
        let stdin = config.stdin.as_ref().map(|text| text.as_bytes().to_vec());
        Ok(Self { handle, started: false, offsets: [0; 2], ended: [false; 2], stdin })
    }

    fn poll(&mut self, config: &Config) -> Step {
        let mut events = Vec::new();
        if !self.started {
            self.started = true;
            let args = Some(config.args.clone());
            events.push(Event::CommandStarted(CommandStart {
                id: "child".into(),
                command: config.program.clone(),
                args,
                cwd: None,
                parent: None,
            }));
        }
        self.feed();
        for (stream, kind) in [OutputKind::Stdout, OutputKind::Stderr].into_iter().enumerate() {
            while events.len() < PIECES && !self.ended[stream] {
                let received = match kind {
                    OutputKind::Stdout => self.handle.read_stdout(PIECE),
                    OutputKind::Stderr => self.handle.read_stderr(PIECE),
                };
                match received {
                    Received::Bytes(bytes) => {
                        let offset = self.offsets[stream];
                        self.offsets[stream] += bytes.len() as u64;
                        events.push(output(kind, offset, bytes));
                    }
                    Received::NotYet => break,
                    Received::End => self.ended[stream] = true,
                }
            }
        }
        if events.len() >= PIECES {
            return step(events, Next::Again);
        }
        let Some(exit) = self.handle.exit() else { return step(events, Next::Pending(None)) };
        if self.ended != [true; 2] {
            return step(events, Next::Pending(None));
        }
        let (status, code, signal, text) = match exit {
            process::ExitStatus::Code(0) => (ItemStatus::Succeeded, Some(0), None, "exit 0".to_owned()),
            process::ExitStatus::Code(code) => (ItemStatus::Failed, Some(code), None, format!("exit {code}")),
            process::ExitStatus::Signalled(number) => (ItemStatus::Failed, None, Some(number.to_string()), format!("signal {number}")),
            process::ExitStatus::Unknown => (ItemStatus::Failed, None, None, "unknown exit".to_owned()),
        };
        events.push(finished("child", status, code, signal));
        step(events, completed(text))
    }

    /// Writes what there is room for; the end of it closes the pipe.
    fn feed(&mut self) {
        let Some(rest) = &mut self.stdin else { return };
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(PIECE as usize)];
            match self.handle.write_stdin(piece) {
                Ok(taken) => {
                    let offered = piece.len();
                    rest.drain(..taken as usize);
                    if (taken as usize) < offered {
                        return;
                    }
                }
                Err(_) => break,
            }
        }
        self.handle.close_stdin();
        self.stdin = None;
    }
}

//! Modes whose work goes on elsewhere, and that go on after a restart of the host: each step has a checkpoint.

use crate::bindings::falconer::backend::process::{self, Child};
use crate::bindings::falconer::backend::types::{
    Choice, CommandStart, Completion, Event, Failure, ItemStatus, Job, Next, Outcome, OutputKind, Question, QuestionKind, Received,
    RemoteProof, Step, Stopped,
};
use crate::config::{Config, Mode};
use crate::events::{finished, native, output};
use crate::failure;

/// What the far job says last.
const END: &[u8] = b"END\n";
/// Bytes asked of a pipe at once.
const PIECE: u32 = 4 << 10;

/// Where it is; all but the children is in its checkpoint.
#[derive(Default)]
pub struct Lasting {
    life: u32,
    prompt: String,
    /// Events told, or bytes of output.
    at: u64,
    begun: bool,
    over: bool,
    /// The last bytes of the output.
    tail: Vec<u8>,
    asked: bool,
    follower: Option<Child>,
    ender: Option<Child>,
    pub cancelled: bool,
}

fn spawn(label: &str, config: &Config, args: Vec<String>) -> Result<Child, Failure> {
    let env = config.env.iter().map(|name| (name.clone(), process::EnvValue::IfGranted));
    let secrets = config.secrets.iter().map(|name| (name.clone(), process::EnvValue::Secret(name.clone())));
    let options = process::Options {
        label: label.into(),
        program: config.program.clone(),
        args,
        far: None,
        env: env.chain(secrets).collect(),
        cwd: None,
        stdin: process::StdinMode::Null,
    };
    process::spawn(&options).map_err(|error| failure("spawn_failed", format!("{error:?}")))
}

fn stopped(remote: RemoteProof, text: String) -> Next {
    let partial = Completion { text: Some(text), structured: None };
    Next::Finished(Outcome::Stopped(Stopped { remote: Some(remote), detail: None, partial }))
}

impl Lasting {
    /// Goes on from its checkpoint, if there is one.
    pub fn begin(config: &Config, job: &Job) -> Result<Self, Failure> {
        let prompt = job.message.iter().map(crate::honest::text_of).collect::<Vec<_>>().join("\n");
        let mut work = Self { life: job.life, prompt, ..Self::default() };
        if let Some(checkpoint) = &job.checkpoint {
            match config.text.as_str() {
                "refuse" => return Err(failure("resume_refused", "told to refuse")),
                "trap" => crate::abuse::panics("start"),
                _ => {}
            }
            let text = String::from_utf8_lossy(checkpoint);
            let mut fields = text.splitn(4, ' ');
            let mut next = || fields.next().unwrap_or_default().to_owned();
            work.at = next().parse().map_err(|_| failure("bad_checkpoint", text.clone()))?;
            work.begun = next() == "true";
            work.over = next() == "true";
            work.tail = next().into_bytes();
        } else if job.life != 1 {
            return Err(failure("no_checkpoint", "another life without a checkpoint"));
        }
        Ok(work)
    }

    fn step(&self, events: Vec<Event>, next: Next) -> Step {
        let checkpoint = (!events.is_empty()).then(|| {
            // Only bytes of `END` count, and those are ASCII.
            let tail: String = self.tail.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect();
            format!("{} {} {} {tail}", self.at, self.begun, self.over).into_bytes()
        });
        Step { events, checkpoint, next }
    }

    fn completed(&self) -> Next {
        let text = format!("{} in life {}: {}", self.at, self.life, self.prompt);
        Next::Finished(Outcome::Completed(Completion { text: Some(text), structured: None }))
    }

    pub fn poll(&mut self, config: &Config) -> Step {
        if config.mode == Mode::Count { self.count(config) } else { self.follow(config) }
    }

    fn count(&mut self, config: &Config) -> Step {
        if self.cancelled {
            return self.step(Vec::new(), stopped(RemoteProof::Confirmed, format!("stopped in life {}", self.life)));
        }
        if config.n > 0 && self.at >= config.n {
            return self.step(Vec::new(), self.completed());
        }
        self.at += 1;
        let mut events = vec![native("tick", format!("{{\"n\":{}}}", self.at))];
        if config.text == "ask" && !self.asked {
            self.asked = true;
            let choice = Choice { id: "yes".into(), label: "yes".into(), description: None };
            events.push(Event::Asked(Question {
                id: "q1".into(),
                kind: QuestionKind::Approval,
                prompt: format!("in life {}?", self.life),
                choices: vec![choice],
                multiple: false,
                details: format!("{{\"life\":{}}}", self.life),
                form: None,
                default_choice: None,
                expires_ms: None,
            }));
        }
        self.step(events, Next::Pending(Some(config.every_ms)))
    }

    fn follow(&mut self, config: &Config) -> Step {
        match self.follow_or_fail(config) {
            Ok(step) => step,
            Err(failure) => self.step(Vec::new(), Next::Finished(Outcome::Failed(failure))),
        }
    }

    fn follow_or_fail(&mut self, config: &Config) -> Result<Step, Failure> {
        if self.cancelled {
            return self.end(config);
        }
        if self.over {
            return Ok(self.step(Vec::new(), self.completed()));
        }
        let mut events = Vec::new();
        if !self.begun {
            self.begun = true;
            let (id, command, args) = ("child".into(), config.program.clone(), None);
            events.push(Event::CommandStarted(CommandStart { id, command, args, cwd: None, parent: None }));
        }
        if self.follower.is_none() {
            let args = config.args.iter().map(|arg| arg.replace("{at}", &(self.at + 1).to_string())).collect();
            match spawn("follower", config, args) {
                Ok(follower) => self.follower = Some(follower),
                // What it needs may come with a client.
                Err(_) if self.life > 1 => return Ok(self.step(events, Next::Pending(Some(config.every_ms)))),
                Err(failure) => return Err(failure),
            }
        }
        if let Some(follower) = &self.follower {
            for _ in 0..8 {
                match follower.read_stdout(PIECE) {
                    Received::Bytes(bytes) => {
                        self.tail.extend(&bytes);
                        self.tail.drain(..self.tail.len().saturating_sub(END.len()));
                        let offset = self.at;
                        self.at += bytes.len() as u64;
                        events.push(output(OutputKind::Stdout, offset, bytes));
                    }
                    Received::NotYet => break,
                    Received::End => return Err(failure("follower_ended", "nothing follows the far job")),
                }
            }
        }
        if self.tail.ends_with(END) {
            self.over = true;
            events.push(finished("child", ItemStatus::Succeeded, Some(0), None));
            return Ok(self.step(events, self.completed()));
        }
        Ok(self.step(events, Next::Pending(None)))
    }

    /// Ends the far job by another child, and looks whether that went well.
    fn end(&mut self, config: &Config) -> Result<Step, Failure> {
        let Some(ender) = &self.ender else {
            self.ender = Some(spawn("ender", config, vec!["-c".into(), config.text.clone()])?);
            return Ok(self.step(Vec::new(), Next::Again));
        };
        let proof = match ender.exit() {
            None => return Ok(self.step(Vec::new(), Next::Pending(None))),
            Some(process::ExitStatus::Code(0)) => RemoteProof::Confirmed,
            Some(_) => RemoteProof::Unknown,
        };
        Ok(self.step(Vec::new(), stopped(proof, format!("stopped in life {}", self.life))))
    }
}

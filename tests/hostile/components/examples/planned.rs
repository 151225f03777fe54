//! A backend for targets that plans one thing and starts another, as its config says.
//!
//! `plan` and `start` are lists of actions: `{ program, args, far, command, shell, cwd, env }`, where `far` is `run`, `detach`, `end` or left out.
//! What came of each start is a notice (`started`, or the code of the refusal). Then it writes `say` bytes, and ends, or, with `hold`,
//! goes on until it is stopped. `repeat` starts everything so often.

use falconer_backend::{
    Backend, Command, Completion, Draft, Event, Events, Failure, FarAction, FarCommand, FarEnd, FarStart, FarWords, Info, Job, Outcome,
    Process, RemoteProof, Severity, Step, Stopped,
};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    plan: Vec<Action>,
    start: Vec<Action>,
    repeat: u32,
    say: usize,
    hold: bool,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct Action {
    program: String,
    args: Vec<String>,
    far: Option<String>,
    command: Vec<String>,
    shell: Option<String>,
    cwd: Option<String>,
    env: Vec<(String, String)>,
    /// Of the program here.
    set: Vec<(String, String)>,
}

impl Action {
    fn command(&self, label: usize) -> Command {
        let mut command = Command::new(self.program.as_str()).label(format!("n-{label}")).args(self.args.clone());
        for (name, value) in &self.set {
            command = command.env(name, value);
        }
        let start = || FarStart {
            command: FarCommand {
                words: self.shell.clone().map_or_else(|| FarWords::Args(self.command.clone()), FarWords::Shell),
                cwd: self.cwd.clone(),
                env: self.env.clone(),
            },
            input_bytes: 0,
            link_s: 30,
        };
        match self.far.as_deref() {
            Some("run") => command.far(FarAction::Run(start())),
            Some("detach") => command.far(FarAction::Detach(start())),
            Some(_) => command.far(FarAction::End(FarEnd { grace_s: 1 })),
            None => command,
        }
    }
}

struct Planned {
    events: Vec<Event>,
    /// Kept, so that what was started is read by nobody and lives.
    _started: Vec<Process>,
    config: Config,
    cancelled: bool,
}

fn config(job: &Job) -> Result<Config, Failure> {
    serde_json::from_str(&job.config).map_err(|error| Failure::new("invalid_config", error.to_string()))
}

impl Backend for Planned {
    fn describe() -> Info {
        Info::from_json(
            r#"{
                "title": "Planned", "version": "0.1.0", "description": "Plans and starts what it is told to, for tests.",
                "abilities": ["targets"], "config_schema": { "type": "object" }, "target_schema": { "type": "object" }
            }"#,
        )
    }

    fn plan(job: &Job) -> Result<Draft, Failure> {
        let actions = config(job)?.plan.iter().map(|action| action.command(0).planned()).collect();
        Ok(Draft { summary: "does as it is told".to_owned(), actions, unknown: Vec::new() })
    }

    fn start(job: Job) -> Result<Self, Failure> {
        let config = config(&job)?;
        let (mut events, mut started) = (Vec::new(), Vec::new());
        for turn in 0..config.repeat.max(1) as usize {
            for (at, action) in config.start.iter().enumerate() {
                match action.command(turn * config.start.len() + at).spawn() {
                    Ok(process) => {
                        events.push(Event::notice(Severity::Info, "started", at.to_string()));
                        started.push(process);
                    }
                    Err(failure) => events.push(Event::notice(Severity::Info, failure.code, failure.message)),
                }
            }
        }
        Ok(Self { events, _started: started, config, cancelled: false })
    }

    fn poll(&mut self) -> Step {
        let mut events = Events::new();
        for event in self.events.drain(..).take(1_000) {
            events.push(event);
        }
        let piece = 1_000.min(self.config.say);
        if piece > 0 {
            self.config.say -= piece;
            events.push(Event::notice(Severity::Info, "said", "x".repeat(piece)));
            return events.again();
        }
        if self.cancelled {
            let stopped =
                Stopped { remote: Some(RemoteProof::Confirmed), detail: None, partial: Completion { text: None, structured: None } };
            return events.finish(Outcome::Stopped(stopped));
        }
        if self.config.hold {
            return events.pending();
        }
        events.finish(Outcome::Completed(Completion { text: Some("done".to_owned()), structured: None }))
    }

    fn cancel(&mut self, _reason: &str, _within: std::time::Duration) -> Result<(), Failure> {
        self.cancelled = true;
        Ok(())
    }
}

falconer_backend::export!(Planned);

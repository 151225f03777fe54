//! Runs one granted program and reports its output.

use falconer_backend::{
    Backend, Command, CommandOutput, Completion, Cut, Draft, Event, Events, ExitStatus, Failure, Info, Job, Outcome, Pipe, Process, Step,
};

const DESCRIPTION: &str = r#"{
    "title": "Report", "version": "0.1.0", "description": "Runs one granted program and reports its output.",
    "config_schema": {
        "type": "object", "additionalProperties": false, "required": ["program"],
        "properties": { "program": { "type": "string" }, "args": { "type": "array", "items": { "type": "string" } } }
    }
}"#;

#[derive(serde::Deserialize)]
struct Config {
    program: String,
    #[serde(default)]
    args: Vec<String>,
}

struct Report {
    begun: Option<Event>,
    process: Process,
    outputs: [CommandOutput<Pipe>; 2],
    cancelled: bool,
}

impl Backend for Report {
    fn describe() -> Info {
        Info { version: env!("CARGO_PKG_VERSION").to_owned(), ..Info::from_json(DESCRIPTION) }
    }

    fn plan(job: &Job) -> Result<Draft, Failure> {
        let Config { program, args } = job.config()?;
        Ok(Draft { summary: format!("runs {program}"), actions: vec![Command::new(program).args(args).planned()], unknown: vec![] })
    }

    fn start(job: Job) -> Result<Self, Failure> {
        let Config { program, args } = job.config()?;
        let process = Command::new(&program).args(&args).spawn()?;
        let outputs = CommandOutput::both(&process, "command", Cut::Lines);
        Ok(Self { begun: Some(Event::command_started("command", program, &args)), process, outputs, cancelled: false })
    }

    fn poll(&mut self) -> Step {
        let mut events = Events::new();
        events.extend(self.begun.take());
        let exit = self.process.exit(); // before reading: what was written before the end is then read
        self.outputs.iter_mut().for_each(|output| _ = output.read_all(&mut events));
        let Some(status) = exit.filter(|_| self.outputs.iter().all(CommandOutput::is_done)) else {
            return if events.is_full() { events.again() } else { events.pending() };
        };
        events.push(Event::command_finished("command", status, None));
        events.finish(match status {
            _ if self.cancelled => Outcome::stopped(Completion::none()),
            ExitStatus::Code(0) => Outcome::completed(self.outputs[0].tail()),
            other => Outcome::failed(Failure::of_exit(self.process.program(), other)),
        })
    }

    fn cancel(&mut self, _reason: &str, _within: std::time::Duration) -> Result<(), Failure> {
        self.cancelled = true;
        self.process.terminate()
    }
}

falconer_backend::export!(Report);

//! A backend that does what `config.mode` says. Some modes behave, most do not; see [`config::Mode`].

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "backend" });
}
mod abuse;
mod asking;
mod config;
mod events;
mod honest;
mod lasting;

use std::cell::RefCell;

use bindings::exports::falconer::backend::adapter::{Answer, Draft, Failure, Guest, Info, Job, Step};
use bindings::falconer::backend::types::{Abilities, Completion, Next, Outcome, ProgramInfo, Stopped};
use config::{Config, Mode};
use honest::Work;

struct Hostile;

/// Between two calls.
#[derive(Default)]
struct State {
    config: Option<Config>,
    work: Work,
    cancelled: bool,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

impl Guest for Hostile {
    fn describe() -> Info {
        Info {
            title: "Hostile".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            description: "Does what `mode` says, mostly badly. For tests.".into(),
            abilities: Abilities::RESUME
                | Abilities::FORK_SESSION
                | Abilities::ASK
                | Abilities::STEER
                | Abilities::STRUCTURED_OUTPUT
                | Abilities::RECOVER
                | Abilities::IMAGES,
            config_schema: config::SCHEMA.into(),
            target_schema: None,
            programs: vec![ProgramInfo {
                name: "tool".into(),
                version_args: vec!["--version".into()],
                tested_from: "1.9".into(),
                tested_to: "1.10.2".into(),
            }],
        }
    }

    fn plan(job: Job) -> Result<Draft, Failure> {
        let config = Config::parse(&job.config)?;
        if config.mode == Mode::SpinPlan {
            abuse::spin();
        }
        Ok(honest::plan(&config))
    }

    fn start(job: Job) -> Result<(), Failure> {
        let config = Config::parse(&job.config)?;
        STATE.with_borrow_mut(|state| {
            // With its child, where it has one.
            state.work = Work::begin(&config, job)?;
            match config.mode {
                Mode::SpinStart => abuse::spin(),
                Mode::SleepStart => abuse::sleep(),
                Mode::FailStart => return Err(failure("start_failed", "told to fail")),
                Mode::RejectStart => return Err(failure("rejected", "told to refuse")),
                _ => {}
            }
            state.config = Some(config);
            Ok(())
        })
    }

    fn poll() -> Step {
        STATE.with_borrow_mut(|state| {
            let State { config: Some(config), work, cancelled } = state else {
                return Step { events: Vec::new(), checkpoint: None, next: Next::Again };
            };
            if *cancelled && config.mode.hears_cancel() {
                let partial = Completion { text: Some(work.said()), structured: None };
                let stopped = Stopped { remote: None, detail: None, partial };
                return Step { events: work.last_words(), checkpoint: None, next: Next::Finished(Outcome::Stopped(stopped)) };
            }
            abuse::poll(config).unwrap_or_else(|| work.poll(config))
        })
    }

    fn reply(answer: Answer) -> Result<(), Failure> {
        STATE.with_borrow_mut(|state| state.work.reply(answer))
    }

    fn cancel(_reason: String, _within_ms: u32) -> Result<(), Failure> {
        STATE.with_borrow_mut(|state| {
            state.cancelled = true;
            state.work.lasting.cancelled = true;
            match state.config.as_ref().map(|config| config.mode) {
                Some(Mode::SpinCancel) => abuse::spin(),
                Some(Mode::SleepCancel) => abuse::sleep(),
                Some(Mode::PanicCancel) => abuse::panics("cancel"),
                _ => Ok(()),
            }
        })
    }
}

fn failure(code: &str, message: impl Into<String>) -> Failure {
    Failure { code: code.into(), message: message.into(), retryable: false, hint: None }
}

#[cfg(target_family = "wasm")]
bindings::export!(Hostile with_types_in bindings);

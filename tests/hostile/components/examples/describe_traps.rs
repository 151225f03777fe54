//! A backend whose `describe` panics.

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "backend" });
}

use bindings::exports::falconer::backend::adapter::{Answer, Draft, Failure, Guest, Info, Job, Step};

struct Backend;

impl Guest for Backend {
    fn describe() -> Info {
        panic!("describe panics")
    }
    fn plan(_job: Job) -> Result<Draft, Failure> {
        Self::describe();
        Err(nothing())
    }
    fn start(_job: Job) -> Result<(), Failure> {
        Err(nothing())
    }
    fn poll() -> Step {
        Step { events: Vec::new(), checkpoint: None, next: bindings::falconer::backend::types::Next::Again }
    }
    fn reply(_answer: Answer) -> Result<(), Failure> {
        Err(nothing())
    }
    fn cancel(_reason: String, _within_ms: u32) -> Result<(), Failure> {
        Ok(())
    }
}

fn nothing() -> Failure {
    Failure { code: "never".into(), message: "describe comes first".into(), retryable: false, hint: None }
}

#[cfg(target_family = "wasm")]
bindings::export!(Backend with_types_in bindings);

//! A component that loops for ever in its first `poll`: the demo shows with it that a stop needs nobody's consent.
//!
//! It is embedded beside the bundled backends, but is none of them.

use falconer_backend::{Backend, Failure, Info, Job, Step};

/// Nothing is kept: nothing ever comes.
#[derive(Debug)]
pub struct Spinner;

impl Backend for Spinner {
    fn describe() -> Info {
        Info::from_json(include_str!("../backend.json"))
    }

    fn start(_job: Job) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn poll(&mut self) -> Step {
        loop {
            std::hint::spin_loop();
        }
    }
}

falconer_backend::export!(Spinner);

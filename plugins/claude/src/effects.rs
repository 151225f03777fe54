//! What a call has to tell and to write.

use falconer_backend::Events;

/// For the host, the program, and the log. The adapter carries it out.
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

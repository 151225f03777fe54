//! Components: one engine, a registry of backends, one instance a run.
//!
//! Everything that can go wrong inside a component ends that component's instance, with a code, and nothing else:
//! - it runs on threads of its own ([`engine`]), within limits of its own (`limits`), linked with nothing but its
//!   run's capabilities and a WASI that grants nothing (`link`);
//! - it is ended from outside, whatever it does, in well under a millisecond (`life`);
//! - it is never entered again after a fault ([`instance`]).
//!
//! What the values of a call mean (events, outcomes, order) is left to [`crate::run`].

mod actor;
mod cache;
mod code;
mod describe;
mod directories;
pub mod engine;
mod inspect;
pub mod instance;
mod life;
pub mod limits;
mod link;
mod plugins;
pub mod registry;
mod schema;
mod stdio;
mod store;
mod threads;
mod trap;
pub mod version;

#[cfg(test)]
mod tests;

pub use describe::TestedProgram;
pub use engine::{Engine, EngineOptions};
pub use instance::{End, Instance, Made};
pub use registry::{Backend, Description, Registry, State};
pub use schema::Schema;
pub use version::Version;

/// Code of a call that was ended by [`Instance::cut`], or made after the end.
pub const CUT: &str = "backend_cut";

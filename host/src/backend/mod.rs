//! Components: one engine, a registry of backends, one instance a run.

pub mod engine;
pub mod instance;
pub mod registry;

pub use engine::{Engine, EngineOptions};
pub use instance::{Instance, Made};
pub use registry::{Backend, Description, Registry, State};

//! What a run is, and how runs are driven.
//!
//! [`manager`] holds all runs and offers one operation a file ([`op`]); [`supervisor`] drives one run and [`ladder`]
//! ends it; [`record`] is the one writer of a run's history; [`live`] is what the rest of the host sees of a live run.
//! The others are shapes: [`request`], [`view`], [`event`], [`status`], [`receipt`].

pub mod event;
mod inert;
mod ladder;
mod live;
pub mod manager;
mod op;
pub mod receipt;
mod record;
pub mod request;
pub mod status;
mod supervisor;
mod translate;
pub mod view;

pub use manager::{Caller, Manager, Parts};

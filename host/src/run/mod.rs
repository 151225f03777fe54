//! What a run is, and how runs are driven.
//!
//! [`manager`] holds all runs and offers one operation a file ([`op`]); [`supervisor`] drives one run and [`ladder`]
//! ends it ([`step`], [`timing`] and [`question`] are parts of driving, [`revive`] of going on after a restart, with [`bookmark`]; [`left`] says what a run ends as that nobody drives any more); [`record`] is the one writer of a run's history; [`live`] is what the rest of the host sees of a live run.
//! The others are shapes: [`request`], [`view`], [`event`], [`status`], [`receipt`].

mod assignment;
mod bookmark;
mod decision;
pub mod event;
mod guard;
mod inert;
mod ladder;
mod left;
mod limits;
mod live;
pub mod manager;
mod op;
mod open;
mod places;
mod planned;
mod question;
pub mod receipt;
mod record;
pub mod request;
mod revive;
mod spill;
pub mod status;
mod step;
mod supervisor;
mod timing;
mod translate;
pub mod view;

pub use live::proven_up_to;
pub use manager::{Caller, Manager, Parts};

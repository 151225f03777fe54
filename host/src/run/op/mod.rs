//! One operation of callers, one file.

mod accept;
mod agents;
mod artifact;
mod asked;
mod cancel;
mod continue_run;
mod file;
mod gate;
mod get;
mod group;
mod list;
mod look;
mod message;
mod plan;
mod poll;
mod recover;
mod reopen;
mod resume;
mod session;
mod spawn;
mod wait;

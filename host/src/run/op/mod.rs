//! One operation of callers, one file.

mod agents;
mod artifact;
mod asked;
mod cancel;
mod continue_run;
mod file;
mod get;
mod list;
mod message;
mod plan;
mod poll;
mod recover;
mod reopen;
mod session;
mod spawn;
mod wait;

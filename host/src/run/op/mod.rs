//! One operation of callers, one file.

mod agents;
mod artifact;
mod cancel;
mod continue_run;
mod get;
mod list;
mod message;
mod plan;
mod poll;
mod recover;
mod reopen;
mod spawn;
mod wait;

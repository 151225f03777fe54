//! Whole-system tests: the built program, driven from outside, as its users drive it.
//!
//! Each test has a host of its own ([`host::Host`]): a data directory, a configuration, a plugins directory and whatever
//! daemon the first client starts; all of it is ended and removed with the test. No test looks inside the program. What
//! needs more than cargo brings (`tests/fetch`) is left out where it is missing, and says so; with
//! `FALCONER_TESTS_REQUIRE=all` it fails instead.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod artifacts;
mod choices;
mod claude;
mod cli;
mod client;
mod codex;
mod compiled;
mod daemon;
mod decisions;
mod events;
mod exec;
mod fetched;
mod files;
mod groups;
mod held_up;
mod host;
mod hostile;
mod inputs;
mod ladder;
mod limits;
mod long_agents;
mod mock;
mod orphans;
mod patience;
mod plugins_dir;
mod processes;
mod questions;
mod real_client;
mod recover;
mod restart;
mod runs;
mod sessions;
mod ssh;
mod ssh_trust;
mod sshd;
mod structured;
mod targets;
mod together;
mod trees;

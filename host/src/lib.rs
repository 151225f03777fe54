//! Falconer: an MCP server that runs long jobs outside the conversation, and calls them back.
//!
//! The modules, each of which may use those below it and none above: [`cli`], [`mcp`], [`daemon`], [`run`],
//! [`far`], [`policy`], [`backend`], [`capability`], [`contract`], [`tree`], [`ledger`], [`config`], and at the bottom
//! [`fault`], [`id`], [`clock`] and [`base64`].

pub mod backend;
pub mod base64;
pub mod capability;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contract;
pub mod daemon;
pub mod far;
pub mod fault;
pub mod id;
pub mod ledger;
pub mod mcp;
pub mod policy;
pub mod run;
pub mod tree;

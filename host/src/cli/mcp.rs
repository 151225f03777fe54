//! `falconer mcp`: what a client's configuration names.
//!
//! Exit codes: 0 the client has ended it, or the daemon in order; 2 the configuration is wrong or not the daemon's; 7 there
//! is no daemon to be had, or it was lost. stderr says why, stdout belongs to the client.

use std::process::ExitCode;
use std::sync::Arc;

use futures::FutureExt;

use super::{Globals, fail, fail_config, serve};
use crate::config::{Config, ConfigErrors, Overrides};
use crate::daemon::connect::Local;
use crate::daemon::host::Face;
use crate::daemon::{Ready, Scratch, pipe};
use crate::fault::Fault;

/// Arguments of `falconer mcp`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep everything in this process and a temporary directory, and stop and remove all of it at the end
    #[arg(long)]
    ephemeral: bool,
}

/// Serves one client on stdin and stdout.
#[must_use]
pub fn run(globals: &Globals, args: &Args) -> ExitCode {
    let overrides = match globals.overrides() {
        Ok(overrides) => overrides,
        Err(errors) => return fail_config(&errors),
    };
    if args.ephemeral {
        return ephemeral(overrides);
    }
    // On the way of every client's start: no runtime, no thread.
    let local = match Local::find(&overrides) {
        Ok(local) => local,
        Err(errors) => return fail_config(&errors),
    };
    match pipe::run(&local) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => fail(&fault),
    }
}

/// The tools, as the daemon is given them.
pub(super) fn face() -> Face {
    Box::new(|manager, session| crate::mcp::serve(manager, session.caller, session.input, session.output, session.closing).boxed())
}

/// A configuration whose data directory is temporary.
pub(super) fn scratch(mut overrides: Overrides) -> Result<(Scratch, Arc<Config>), ScratchError> {
    let scratch = Scratch::new().map_err(ScratchError::Fault)?;
    overrides.data_dir = Some(scratch.path().to_owned());
    let mut config = Config::read(&overrides).map_err(ScratchError::Config)?;
    // Not part of the digest: who connects reads the same configuration.
    config.scratch = true;
    Ok((scratch, Arc::new(config)))
}

/// Why there is no temporary host.
pub(super) enum ScratchError {
    /// The directory.
    Fault(Fault),
    /// The configuration.
    Config(ConfigErrors),
}

impl ScratchError {
    pub(super) fn tell(&self) -> ExitCode {
        match self {
            Self::Fault(fault) => fail(fault),
            Self::Config(errors) => fail_config(errors),
        }
    }
}

fn ephemeral(overrides: Overrides) -> ExitCode {
    match scratch(overrides) {
        Ok((scratch, config)) => {
            let served = serve::own(&config, Ready::Stdio);
            drop(scratch);
            served.map_or_else(|fault| fail(&fault), |()| ExitCode::SUCCESS)
        }
        Err(error) => error.tell(),
    }
}

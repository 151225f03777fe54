//! `falconer stop`: ends the daemon in order; its runs are stopped first.
//!
//! Exit codes: 0 no daemon runs any more (also where none did); 1 it has not ended in time; 2 the configuration is wrong;
//! 7 it cannot be asked.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::exit::Exit;
use super::{Globals, fail, fail_config, put, say};
use crate::daemon::connect::Local;
use crate::daemon::{LOG_FILE, ending};

/// How long a stop is waited for, in seconds: a few more than the stop of a run may take.
const TIMEOUT_S: u64 = 60;

/// Arguments of `falconer stop`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Wait at most so many seconds for the end
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT_S)]
    timeout: u64,
}

/// Tells the daemon to end and waits for it.
#[must_use]
pub fn run(globals: &Globals, args: &Args) -> ExitCode {
    let local = match globals.overrides().and_then(|overrides| Local::find(&overrides)) {
        Ok(local) => local,
        Err(errors) => return fail_config(&errors),
    };
    let (stopped, pid) = match ending::stop(&local, Duration::from_secs(args.timeout)) {
        Ok(ending::Ended::NoneRan) => (true, None),
        Ok(ending::Ended::Ended { pid }) => (true, Some(pid)),
        Ok(ending::Ended::StillThere { pid }) => (false, pid),
        Err(fault) => return fail(&fault),
    };
    if globals.json {
        put(format_args!("{}", json!({ "stopped": stopped, "pid": pid, "data_dir": local.data_dir })));
    } else {
        let name = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
        match (stopped, pid) {
            (true, None) => put(format_args!("no daemon serves {}", local.data_dir)),
            (true, Some(_)) => put(format_args!("the daemon{name} has ended")),
            (false, _) => {
                say(format_args!("error: the daemon{name} has not ended within {} s", args.timeout));
                say(format_args!("  hint: it goes on ending; its log is {}", local.data_dir.join(LOG_FILE)));
                true
            }
        };
    }
    if stopped { Exit::Completed } else { Exit::Failed }.into()
}

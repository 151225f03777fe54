//! `falconer status`: whether a daemon runs, and how it is.
//!
//! Exit codes: 0 one runs; 2 the configuration is wrong; 7 none runs, or the one that does cannot be asked.

use std::process::ExitCode;

use serde_json::json;

use super::exit::Exit;
use super::{Globals, fail, fail_config, put};
use crate::daemon::connect::Local;
use crate::daemon::hello::{Answer, Control, Mark};
use crate::daemon::{code, lock, socket};
use crate::fault::Fault;

/// Arguments of `falconer status`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Asks the daemon.
#[must_use]
pub fn run(globals: &Globals, _args: &Args) -> ExitCode {
    let local = match globals.overrides().and_then(|overrides| Local::find(&overrides)) {
        Ok(local) => local,
        Err(errors) => return fail_config(&errors),
    };
    let dir = &local.data_dir;
    match local.control(Control::Status) {
        Ok(Some((_, Answer::Status(status)))) => {
            if globals.json {
                let mut value = serde_json::to_value(&status).unwrap_or_default();
                value["running"] = json!(true);
                put(format_args!("{value}"));
                return ExitCode::SUCCESS;
            }
            put(format_args!("daemon         process {}, falconer {}", status.pid, status.version));
            put(format_args!("since          {} ({})", status.started_at, duration(status.uptime_ms)));
            put(format_args!("runs alive     {}", status.live_runs));
            put(format_args!("clients        {}", status.clients));
            put(format_args!("data directory {}", status.data_dir));
            put(format_args!("socket         {}", status.socket));
            put(format_args!("configuration  {}", status.config));
            if let Some(own) = local.config.filter(|own| own.digest != status.config.digest) {
                put(format_args!("note           the configuration is now {own}; `falconer stop`, and the next start takes it"));
            }
            ExitCode::SUCCESS
        }
        Ok(Some((_, other))) => fail(&Fault::new(code::DAEMON_UNREACHABLE, format!("the daemon gave an answer out of order: {other:?}"))),
        Ok(None) => {
            // Owned, and nobody listens: it is on its way up or down.
            let owner = lock::is_free(dir).is_ok_and(|free| !free).then(|| lock::last_owner(dir)).flatten();
            if globals.json {
                let config = local.config.as_ref().map(|Mark { file, digest }| json!({ "file": file, "digest": digest }));
                put(format_args!(
                    "{}",
                    json!({ "running": false, "pid": owner, "data_dir": dir, "socket": socket::path(dir), "config": config })
                ));
            } else if let Some(pid) = owner {
                put(format_args!("the daemon (process {pid}) of {dir} is starting or ending"));
            } else {
                put(format_args!("no daemon serves {dir}; the first `falconer mcp` starts one"));
            }
            Exit::Unreachable.into()
        }
        Err(fault) => fail(&fault),
    }
}

/// A time for people: its two largest units.
fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people() {
        for (ms, text) in [(999, "0 s"), (61_000, "1 min 1 s"), (3_600_000, "1 h 0 min"), (90_000_000, "1 d 1 h")] {
            assert_eq!(duration(ms), text);
        }
    }
}

//! `falconer serve`: the daemon, in the foreground; and, for falconer itself, the daemon that a client starts.
//!
//! Exit codes: 0 it ended in order; 1 it could not start; 2 the configuration or the data directory is wrong; 7 the data
//! directory has a daemon, or cannot be served.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8Path;

use super::mcp::{face, scratch};
use super::{Globals, fail, fail_config, runtime_fault, say, serving_runtime};
use crate::config::Config;
use crate::daemon::detach::{self, Inherited};
use crate::daemon::host::Host;
use crate::daemon::lock::{self, Lock};
use crate::daemon::log::{self, Verbosity};
use crate::daemon::{self, Identity, Ready, code, socket};
use crate::fault::Fault;

/// How long a lock is waited for whose owner lets nobody in: it is on its way up or down, or only looks whether the
/// lock is free.
const PASSING: Duration = Duration::from_secs(1);
/// Between two looks at such a lock.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Arguments of `falconer serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep everything in a temporary directory that is removed at the end
    #[arg(long)]
    ephemeral: bool,
    /// For falconer itself: a stage of the start of a daemon
    #[arg(long, hide = true, value_parser = [detach::BEGIN, detach::GO], conflicts_with = "ephemeral")]
    detached: Option<String>,
}

/// Runs a daemon until it is told to end.
#[must_use]
pub fn run(globals: &Globals, args: &Args) -> ExitCode {
    match args.detached.as_deref() {
        Some(detach::BEGIN) => return begin(),
        Some(_) => return detached(globals),
        None => {}
    }
    log::to_stderr(Verbosity::Informative);
    let overrides = match globals.overrides() {
        Ok(overrides) => overrides,
        Err(errors) => return fail_config(&errors),
    };
    if args.ephemeral {
        return match scratch(overrides) {
            Ok((scratch, config)) => {
                let code = foreground(&config);
                drop(scratch);
                code
            }
            Err(error) => error.tell(),
        };
    }
    match Config::read(&overrides) {
        Ok(config) => foreground(&Arc::new(config)),
        Err(errors) => fail_config(&errors),
    }
}

fn foreground(config: &Arc<Config>) -> ExitCode {
    say(format_args!("falconer serves {}; socket {}", config.data_dir, socket::path(&config.data_dir)));
    own(config, Ready::Person).map_or_else(|fault| fail(&fault), |()| ExitCode::SUCCESS)
}

/// Owns the data directory and serves in this process.
pub(super) fn own(config: &Arc<Config>, ready: Ready) -> Result<(), Fault> {
    serve(take(&config.data_dir)?, config, ready)
}

fn take(dir: &Utf8Path) -> Result<Lock, Fault> {
    daemon::prepare_dir(dir)?;
    match take_lock(dir) {
        Ok(Taken::Ours(lock)) => Ok(lock),
        Ok(Taken::Daemon(pid)) => {
            let owner = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
            Err(Fault::new(code::DAEMON_RUNS, format!("a daemon{owner} serves {dir} already")).hint("`falconer stop` ends it"))
        }
        Ok(Taken::Somebody) => Err(Fault::new(code::DAEMON_RUNS, format!("somebody holds the lock of {dir}"))
            .hint("a daemon that starts or ends, or `falconer check --orphans --kill`; try again")
            .retryable()),
        Err(error) => Err(Fault::new(code::DAEMON_FAILED, format!("cannot lock {dir}: {error}"))),
    }
}

/// Whether a process was killed and waits for its last thread: until then its socket lets clients in
/// (proc_pid_stat(5), field 3).
fn is_dying(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next());
    matches!(state, Some('Z' | 'X'))
}

/// Who has the lock of a data directory.
pub(super) enum Taken {
    /// This process, from now on.
    Ours(Lock),
    /// A daemon that lets clients in, by the number that it wrote there.
    Daemon(Option<u32>),
    /// Whoever it is, nobody listens.
    Somebody,
}

/// Takes the lock of a data directory that is there. One that is held for a moment is waited for, as a client that starts
/// a daemon does.
///
/// # Errors
/// What open(2) or flock(2) say.
pub(super) fn take_lock(dir: &Utf8Path) -> io::Result<Taken> {
    let begun = Instant::now();
    loop {
        if let Some(lock) = Lock::try_take(dir)? {
            return Ok(Taken::Ours(lock));
        }
        let owner = lock::last_owner(dir);
        if socket::connect(dir).is_ok_and(|stream| stream.is_some()) && !owner.is_some_and(is_dying) {
            return Ok(Taken::Daemon(owner));
        }
        if begun.elapsed() >= PASSING {
            return Ok(Taken::Somebody);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn serve(mut lock: Lock, config: &Arc<Config>, ready: Ready) -> Result<(), Fault> {
    let runtime = match serving_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return Err(ready.refuse(runtime_fault(&error))),
    };
    let served = runtime.block_on(daemon::run(&mut lock, Identity::of(config), ready, || Host::open(config, face())));
    runtime.shutdown_background();
    served
}

fn begin() -> ExitCode {
    // The same arguments but for the stage, which `command` writes itself.
    let args: Vec<OsString> = std::env::args_os().skip(4).collect();
    match detach::begin(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&Fault::new(code::DAEMON_FAILED, format!("cannot start the daemon: {error}"))),
    }
}

fn detached(globals: &Globals) -> ExitCode {
    let Some(dir) = &globals.data_dir else {
        return fail(
            &Fault::new(code::DAEMON_FAILED, "--detached needs --data-dir").hint("`falconer serve` runs a daemon in the foreground"),
        );
    };
    let Inherited { lock, starter } = match detach::go(dir) {
        Ok(inherited) => inherited,
        Err(fault) => return fail(&fault),
    };
    let ready = Ready::Starter(starter);
    if let Err(error) = log::to_file(dir) {
        let fault = Fault::new(code::DAEMON_FAILED, format!("cannot write the log in {dir}: {error}"));
        return fail(&ready.refuse(fault));
    }
    let config = match globals.overrides().and_then(|overrides| Config::read(&overrides)) {
        Ok(config) => Arc::new(config),
        Err(errors) => return fail(&ready.refuse(errors.into())),
    };
    match serve(lock, &config, ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => fail(&fault),
    }
}

//! The command line: one file a command.
//!
//! Exit codes are those of [`exit::Exit`]. What a person is told goes to stderr, what was asked for to stdout.

pub mod backends;
pub mod cancel;
pub mod check;
mod check_limits;
mod check_programs;
mod check_secrets;
pub mod client;
pub mod continue_;
pub mod decisions;
pub mod demo;
pub mod events;
pub mod exit;
pub mod files;
mod follow;
mod group;
pub mod mcp;
pub mod orphans;
pub mod run;
pub mod runs;
pub mod serve;
pub mod show;
pub mod ssh;
pub mod status;
pub mod stop;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand};

use crate::config::{ConfigErrors, Overrides};
use crate::daemon::log::{self, Verbosity};
use crate::fault::Fault;

/// Worker threads of a runtime that serves clients: two, so that one long computation does not hold up the rest.
const SERVING_THREADS: usize = 2;

/// An MCP server that runs long jobs outside the conversation, and calls them back.
#[derive(Debug, Parser)]
#[command(name = "falconer", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Globals {
    /// Configuration file [default: $FALCONER_CONFIG, then ~/.config/falconer/falconer.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<Utf8PathBuf>,
    /// Where the ledger and the socket are [default: $FALCONER_DATA_DIR, then the configuration's]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<Utf8PathBuf>,
    /// Where third parties' backends are [default: $FALCONER_PLUGINS, then the configuration's]
    #[arg(long, global = true, value_name = "DIR")]
    pub plugins: Option<Utf8PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
}

impl Globals {
    /// The arguments, over what the environment says.
    pub fn overrides(&self) -> Result<Overrides, ConfigErrors> {
        let mut overrides = Overrides::from_env()?;
        for (given, place) in
            [(&self.config, &mut overrides.config), (&self.data_dir, &mut overrides.data_dir), (&self.plugins, &mut overrides.plugins)]
        {
            if given.is_some() {
                place.clone_from(given);
            }
        }
        Ok(overrides)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve an MCP client on stdin and stdout; starts the daemon where there is none
    Mcp(mcp::Args),
    /// Run the daemon in the foreground
    Serve(serve::Args),
    /// End the daemon: its runs are stopped first
    Stop(stop::Args),
    /// Say whether a daemon runs, and how it is
    Status(status::Args),
    /// Say what is granted, what is found, what is missing, and how to mend it
    Check(check::Args),
    /// Show what falconer does, in a host of its own that is gone afterwards
    Demo(demo::Args),
    /// List the backends
    Backends(backends::Args),
    /// Start a run and follow it
    Run(run::Args),
    /// List runs, or show one
    Runs(runs::Args),
    /// Print the events of a run
    Events(events::Args),
    /// List what was allowed and what was refused, by which rule, to whom
    Decisions(decisions::Args),
    /// Stop a run and show the receipt
    Cancel(cancel::Args),
    /// Answer a run, steer it, or carry it on
    Continue(continue_::Args),
    /// Say which host keys are right
    Ssh(ssh::Args),
}

/// The whole program: parses the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { globals, command } = Cli::parse();
    if !matches!(command, Command::Serve(_)) {
        log::to_stderr(Verbosity::Warnings);
    }
    match command {
        Command::Mcp(args) => mcp::run(&globals, &args),
        Command::Serve(args) => serve::run(&globals, &args),
        Command::Stop(args) => stop::run(&globals, &args),
        Command::Status(args) => status::run(&globals, &args),
        Command::Check(args) => block_on(check::run(&globals, args)),
        Command::Demo(args) => block_on(demo::run(&globals, args)),
        Command::Backends(args) => block_on(backends::run(&globals, args)),
        Command::Run(args) => block_on(run::run(&globals, args)),
        Command::Runs(args) => block_on(runs::run(&globals, args)),
        Command::Events(args) => block_on(events::run(&globals, args)),
        Command::Decisions(args) => decisions::run(&globals, &args),
        Command::Cancel(args) => block_on(cancel::run(&globals, args)),
        Command::Continue(args) => block_on(continue_::run(&globals, args)),
        Command::Ssh(args) => block_on(ssh::run(&globals, args)),
    }
}

/// A runtime for what serves clients.
fn serving_runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(SERVING_THREADS).thread_name("falconer").enable_all().build()
}

fn block_on(command: impl Future<Output = ExitCode>) -> ExitCode {
    match serving_runtime() {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // What still reads the terminal must not hold up the end.
            runtime.shutdown_background();
            code
        }
        Err(error) => fail(&runtime_fault(&error)),
    }
}

fn runtime_fault(error: &io::Error) -> Fault {
    Fault::new(crate::fault::code::INTERNAL, format!("cannot start the threads of this process: {error}"))
}

/// Tells a person what failed and the way out.
pub(crate) fn fail(fault: &Fault) -> ExitCode {
    exit::report(fault).into()
}

/// The same for a configuration, with its lines.
pub(crate) fn fail_config(errors: &ConfigErrors) -> ExitCode {
    say(format_args!("{errors}"));
    exit::Exit::Usage.into()
}

/// One line on stderr; nothing can be done where nobody reads it.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// One line on stdout; gives whether somebody still reads it.
pub(crate) fn put(line: std::fmt::Arguments<'_>) -> bool {
    writeln!(io::stdout(), "{line}").is_ok()
}

/// Whether stdout is a terminal that is to have colours.
pub(crate) fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_well_defined_and_globals_may_come_after_the_command() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["falconer", "status", "--json", "--data-dir", "/d"]).unwrap();
        assert!(cli.globals.json);
        assert_eq!(cli.globals.data_dir, Some("/d".into()));
    }
}

//! `falconer ssh`: what a person does about machines that are reached by ssh.

mod trust;

use std::process::ExitCode;

use super::Globals;

/// Arguments of `falconer ssh`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Ask a target for its host key, show it, and add it to the known ones
    Trust(trust::Args),
}

/// The command.
pub async fn run(globals: &Globals, args: Args) -> ExitCode {
    match args.command {
        Command::Trust(args) => trust::run(globals, args).await,
    }
}

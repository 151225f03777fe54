//! (in work)

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub async fn run(_globals: &super::Globals, _args: Args) -> std::process::ExitCode {
    std::process::ExitCode::from(super::NOT_TRIED)
}

//! The command line, one file a command.

pub mod backends;
pub mod cancel;
pub mod client;
pub mod continue_;
pub mod demo;
pub mod events;
pub mod exit;
pub mod follow;
pub mod run;
pub mod runs;
pub mod show;

use camino::Utf8PathBuf;

/// What every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Globals {
    /// The configuration file.
    #[arg(long, global = true)]
    pub config: Option<Utf8PathBuf>,
    /// The data directory.
    #[arg(long, global = true)]
    pub data_dir: Option<Utf8PathBuf>,
    /// The directory of plugins.
    #[arg(long, global = true)]
    pub plugins: Option<Utf8PathBuf>,
    /// Print JSON, one value a line.
    #[arg(long, global = true)]
    pub json: bool,
}

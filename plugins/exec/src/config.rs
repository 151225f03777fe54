//! What a run of this backend is told: `config_schema` in `backend.json`.

use falconer_backend::{Command, Failure, Job};
use serde::Deserialize;

/// The backend's own config. The host has checked it against the schema.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name of a granted program.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its standard input.
    #[serde(default)]
    pub stdin: Option<String>,
    /// Names of granted environment variables.
    #[serde(default)]
    pub env: Vec<String>,
    /// Its directory.
    #[serde(default)]
    pub cwd: Option<String>,
    /// One event a line.
    #[serde(default)]
    pub lines: bool,
}

impl Config {
    /// Reads the config of a job; the job's message is the input of the program where the config has none.
    ///
    /// # Errors
    /// `invalid_config`, or `unsupported` for a message that is no text.
    pub fn of(job: &Job) -> Result<Self, Failure> {
        let mut config: Self = job.config()?;
        if config.stdin.is_none() {
            config.stdin = Some(job.prompt()?).filter(|text| !text.is_empty());
        }
        Ok(config)
    }

    /// The program's start.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program).args(&self.args);
        if self.stdin.is_some() {
            command = command.piped_stdin();
        }
        if let Some(cwd) = &self.cwd {
            command = command.cwd(cwd);
        }
        self.env.iter().fold(command, Command::env_inherited)
    }
}

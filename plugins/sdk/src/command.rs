//! Starting a granted program.

use crate::bindings::falconer::backend::process::{EnvValue, FarAction, Options, StdinMode, spawn};
use crate::{Failure, PlannedAction, PlannedCommand, Process};

/// What most programs can use, where it is granted: home, language, directories, the way out to the net.
pub const USUAL_ENV: [&str; 22] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// A program to start, named as the grant names it, with an argument list. There is no shell in between, and nothing is
/// inherited that is not asked for.
#[derive(Debug, Clone)]
pub struct Command {
    options: Options,
}

impl Command {
    /// The program that the grant has under this name. Its label in the run is the name too, made of `[a-z0-9-]`.
    pub fn new(program: impl Into<String>) -> Self {
        let program = program.into();
        let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let label: String = program.chars().map(word).take(32).collect();
        Self {
            options: Options {
                label: if label.is_empty() { "program".to_owned() } else { label },
                program,
                args: Vec::new(),
                far: None,
                env: Vec::new(),
                cwd: None,
                stdin: StdinMode::Null,
            },
        }
    }

    /// Another label; needed when one run starts a program twice. 1 to 32 of `[a-z0-9-]`.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.options.label = label.into();
        self
    }

    /// Adds an argument, after those that the grant puts first.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.options.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.options.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// A directory inside the granted workspaces; without one it is the run's.
    #[must_use]
    pub fn cwd(mut self, cwd: impl Into<String>) -> Self {
        self.options.cwd = Some(cwd.into());
        self
    }

    /// A variable with this value.
    #[must_use]
    pub fn env(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variable(name, EnvValue::Text(value.into()))
    }

    /// A variable that the grant passes through; one that is not granted refuses the start.
    #[must_use]
    pub fn env_inherited(self, name: impl Into<String>) -> Self {
        self.variable(name, EnvValue::Inherited)
    }

    /// A variable that the grant may pass through; left out where it does not.
    #[must_use]
    pub fn env_if_granted(self, name: impl Into<String>) -> Self {
        self.variable(name, EnvValue::IfGranted)
    }

    /// A variable with the value of a granted secret, which this backend does not see.
    #[must_use]
    pub fn env_secret(self, name: impl Into<String>, secret: impl Into<String>) -> Self {
        self.variable(name, EnvValue::Secret(secret.into()))
    }

    /// What is to be done at the job's target, put where the grant says `{command}`.
    #[must_use]
    pub fn far(mut self, action: FarAction) -> Self {
        self.options.far = Some(action);
        self
    }

    /// Its standard input is a pipe that [`crate::Outbox`] writes; without this it is empty.
    #[must_use]
    pub fn piped_stdin(mut self) -> Self {
        self.options.stdin = StdinMode::Piped;
        self
    }

    /// This start, as an action of a plan.
    #[must_use]
    pub fn planned(&self) -> PlannedAction {
        PlannedAction::Spawn(PlannedCommand {
            program: self.options.program.clone(),
            args: self.options.args.clone(),
            cwd: self.options.cwd.clone(),
            command: match &self.options.far {
                Some(FarAction::Run(start) | FarAction::Detach(start)) => Some(start.command.clone()),
                Some(FarAction::Attach(_) | FarAction::End(_)) | None => None,
            },
        })
    }

    /// Starts it.
    ///
    /// # Errors
    /// `program_not_found`, `spawn_denied` (with the rule), `spawn_limit` or `spawn_failed`.
    pub fn spawn(self) -> Result<Process, Failure> {
        let program = self.options.program.clone();
        match spawn(&self.options) {
            Ok(child) => Ok(Process::new(program, child)),
            Err(error) => Err(Failure::of_spawn(&program, error)),
        }
    }

    fn variable(mut self, name: impl Into<String>, value: EnvValue) -> Self {
        self.options.env.push((name.into(), value));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_made_of_the_program() {
        assert_eq!(Command::new("My_Tool.sh").options.label, "my-tool-sh");
        assert_eq!(Command::new("").options.label, "program");
    }
}

//! A command for the far end that was judged: the only form in which one can be executed.

use super::{Command, quote};

/// A command for the far end, with its directory and environment. Only [`super::Rules::judge`] makes one, so whoever holds it
/// holds a command that a rule allowed, byte for byte as it was asked for. No part of it holds a NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarCommand {
    form: Form,
    cwd: Option<String>,
    env: Vec<(String, String)>,
}

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// At least the program.
    List(Vec<String>),
    Shell(String),
}

impl FarCommand {
    pub(super) fn list(args: Vec<String>, cwd: Option<String>, env: Vec<(String, String)>) -> Self {
        Self { form: Form::List(args), cwd, env }
    }

    pub(super) fn shell(line: String, cwd: Option<String>, env: Vec<(String, String)>) -> Self {
        Self { form: Form::Shell(line), cwd, env }
    }

    /// Whether it is this very command, byte for byte.
    pub(super) fn is(&self, command: Command<'_>, cwd: Option<&str>, env: &[(String, String)]) -> bool {
        let words = match (&self.form, command) {
            (Form::List(own), Command::List(asked)) => own == asked,
            (Form::Shell(own), Command::Shell(asked)) => own == asked,
            _ => false,
        };
        words && self.cwd() == cwd && self.env == env
    }

    /// The program and its arguments; none where it is a line for a shell.
    #[must_use]
    pub fn args(&self) -> Option<&[String]> {
        match &self.form {
            Form::List(args) => Some(args),
            Form::Shell(_) => None,
        }
    }

    /// What a POSIX shell at the far end is to execute: for an argument list `exec` and the quoted arguments, else the line itself.
    /// It stands for itself; to put it into other shell text, quote it as one argument ([`quote::words`]).
    #[must_use]
    pub fn script(&self) -> Vec<u8> {
        match &self.form {
            // A NUL was refused before; an empty script executes nothing.
            Form::List(args) => quote::exec(args).unwrap_or_default(),
            Form::Shell(line) => line.clone().into_bytes(),
        }
    }

    /// The directory in which it is to be executed; absolute and in normal form. None: where the login begins.
    #[must_use]
    pub fn cwd(&self) -> Option<&str> {
        self.cwd.as_deref()
    }

    /// What is to be set in its environment; names are letters, digits and `_`.
    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }
}

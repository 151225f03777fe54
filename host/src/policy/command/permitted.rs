//! The far-end commands that one run may execute: what was planned is what runs.

use std::sync::Arc;

use super::{Allowed, Asked};

/// The commands that a run's plan named, each allowed by a rule, on the run's one target. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Permitted {
    backend: Arc<str>,
    target: Option<Arc<str>>,
    commands: Arc<[Allowed]>,
}

impl Permitted {
    /// What was judged for a run of this backend at this target.
    #[must_use]
    pub fn new(backend: &str, target: Option<&str>, commands: Vec<Allowed>) -> Self {
        Self { backend: backend.into(), target: target.map(Into::into), commands: commands.into() }
    }

    /// The one that this is: the same words, directory and environment, byte for byte, on the same target; none: it was not planned,
    /// or not allowed.
    #[must_use]
    pub fn find(&self, asked: &Asked<'_>) -> Option<&Allowed> {
        let here = *self.backend == *asked.backend && self.target.as_deref() == asked.target.map(|target| target.name.as_str());
        self.commands.iter().find(|allowed| here && allowed.command.is(asked.command, asked.cwd, asked.env))
    }

    /// All of them, in the order of the plan.
    #[must_use]
    pub fn all(&self) -> &[Allowed] {
        &self.commands
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Rules};
    use super::*;
    use crate::config::{Config, Overrides};

    #[test]
    fn only_what_was_judged_is_found_again() {
        let text = "[[targets]]\nname = 'a'\n[[targets]]\nname = 'b'\n[[rules]]\ntargets = ['*']\nallow = [['echo', '...']]\ncwd = ['/srv']\nenv = ['X']\n\
            [[rules]]\ntargets = ['*']\nshell = true\nallow = ['echo *']\n";
        let config = Config::parse(text, None, &Overrides::at_home("/home/u")).unwrap();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let env = [("X".to_owned(), "1".to_owned())];
        let args = words(&["echo", "a b"]);
        let asked = Asked { backend: "ssh", target: config.targets.first(), command: Command::List(&args), cwd: Some("/srv"), env: &env };
        let rules = Rules::of(&config);
        let line = Asked { command: Command::Shell("echo a"), cwd: None, env: &[], ..asked };
        let allowed = vec![rules.judge(&asked).unwrap(), rules.judge(&line).unwrap()];
        let permitted = Permitted::new("ssh", Some("a"), allowed);
        assert_eq!(permitted.find(&asked), permitted.all().first());
        assert_eq!(permitted.find(&line), permitted.all().last());
        let (split, other) = (words(&["echo", "a", "b"]), words(&["echo", "a B"]));
        for changed in [
            Asked { command: Command::List(&split), ..asked },
            Asked { command: Command::List(&other), ..asked },
            Asked { command: Command::Shell("echo 'a b'"), ..asked },
            Asked { command: Command::Shell("echo a b"), ..line },
            Asked { cwd: None, ..asked },
            Asked { env: &[], ..asked },
            Asked { backend: "other", ..asked },
            Asked { target: config.targets.last(), ..asked },
            Asked { target: None, ..asked },
        ] {
            assert_eq!(permitted.find(&changed), None, "{changed:?}");
        }
    }
}

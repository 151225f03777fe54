//! What was planned is what runs: the way to a run's target, open only to the commands that its plan named.
//!
//! A component says beforehand what it would execute at the far end ([`crate::backend`]'s `plan`), the command rule judges that,
//! and the run has a [`Permitted`]. When the component starts something there, the command is held against it, byte for byte, and
//! everything else is refused, whatever the rules would say of it. What attaches to a command, or ends it, executes none.

use std::sync::Arc;

use camino::Utf8PathBuf;

use crate::capability::{FarEnd, Prepared, Preparing, Secrets};
use crate::contract::falconer::backend::process::{FarAction, SpawnError};
use crate::contract::falconer::backend::types::{FarCommand, FarWords};
use crate::policy::Policy;
use crate::policy::command::{Allowed, Asked, Command, Permitted};

/// The way to the target of one run.
pub(super) struct OnlyPlanned {
    pub policy: Policy,
    pub backend: String,
    pub target: String,
    pub permitted: Permitted,
    /// The way itself.
    pub way: Arc<dyn FarEnd>,
}

impl OnlyPlanned {
    /// What allows the command.
    fn allowed(&self, command: &FarCommand) -> Result<&Allowed, SpawnError> {
        let target = self.policy.inventory().target(&self.target).map_err(|fault| SpawnError::Other(fault.message))?;
        let words = match &command.words {
            FarWords::Args(args) => Command::List(args),
            FarWords::Shell(line) => Command::Shell(line),
        };
        let asked = Asked { backend: &self.backend, target: Some(target), command: words, cwd: command.cwd.as_deref(), env: &command.env };
        if let Some(allowed) = self.permitted.find(&asked) {
            return Ok(allowed);
        }
        // The rule's own refusal says more, where there is one.
        Err(SpawnError::Denied(match self.policy.command(&asked) {
            Err(refused) => refused.message,
            Ok(_) => format!("the command is none of those that the plan of this run named for target `{}`", self.target),
        }))
    }
}

impl FarEnd for OnlyPlanned {
    fn has_begun(&self) -> bool {
        self.way.has_begun()
    }

    fn prepare(&self, label: String, program: Utf8PathBuf, action: FarAction, secrets: Arc<Secrets>) -> Preparing<'_> {
        Box::pin(async move {
            let rule = match &action {
                FarAction::Run(start) | FarAction::Detach(start) => Some(self.allowed(&start.command)?.rule.to_string()),
                FarAction::Attach(_) | FarAction::End(_) => None,
            };
            let prepared = self.way.prepare(label, program, action, secrets).await?;
            Ok(Prepared { rule, ..prepared })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::capability::Log;
    use crate::config::{Config, Overrides};
    use crate::contract::falconer::backend::process::{FarEnd as End, FarPlace, FarStart};

    /// A way that remembers what went over it.
    #[derive(Default)]
    struct Way(Mutex<Vec<String>>);

    impl FarEnd for Way {
        fn has_begun(&self) -> bool {
            !self.0.lock().unwrap().is_empty()
        }

        fn prepare(&self, label: String, _program: Utf8PathBuf, _action: FarAction, _secrets: Arc<Secrets>) -> Preparing<'_> {
            Box::pin(async move {
                self.0.lock().unwrap().push(label);
                let (reader, held) = rustix::pipe::pipe().unwrap();
                let log = Log { path: "/l".into(), reader, held };
                Ok(Prepared {
                    target: "a".into(),
                    command: "x".into(),
                    config: "/c".into(),
                    log,
                    env: Vec::new(),
                    rule: None,
                    address: Some("203.0.113.7".into()),
                    attendant: None,
                })
            })
        }
    }

    fn start(words: FarWords) -> FarStart {
        FarStart { command: FarCommand { words, cwd: None, env: Vec::new() }, input_bytes: 0, link_s: 30 }
    }

    fn args(words: &[&str]) -> FarWords {
        FarWords::Args(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[tokio::test]
    async fn a_command_that_was_not_planned_is_refused_also_where_a_rule_allows_it() {
        let text = "[[targets]]\nname = 'a'\n[[rules]]\nname = 'r'\ntargets = ['*']\nallow = [['echo', '...'], ['uptime']]\n";
        let policy = Policy::resolve(&Arc::new(Config::parse(text, None, &Overrides::at_home("/home/u")).unwrap()));
        let target = policy.inventory().target("a").unwrap();
        let planned = vec!["echo".to_owned(), "one".to_owned()];
        let asked = Asked { backend: "ssh", target: Some(target), command: Command::List(&planned), cwd: None, env: &[] };
        let permitted = Permitted::new("ssh", Some("a"), vec![policy.command(&asked).unwrap()]);
        let way = Arc::new(Way::default());
        let only =
            OnlyPlanned { backend: "ssh".into(), target: "a".into(), permitted, way: Arc::<Way>::clone(&way), policy: policy.clone() };
        let run = |words| FarAction::Run(start(words));
        let prepared = only.prepare("one".into(), "/ssh".into(), run(args(&["echo", "one"])), Arc::new(Secrets::ready(&[]))).await.unwrap();
        assert_eq!((prepared.rule.as_deref(), prepared.address.as_deref()), (Some("rule `r` (falconer.toml:6)"), Some("203.0.113.7")));
        assert!(
            only.prepare("two".into(), "/ssh".into(), FarAction::Detach(start(args(&["echo", "one"]))), Arc::new(Secrets::ready(&[])))
                .await
                .unwrap()
                .rule
                .is_some()
        );
        for (words, why) in [
            (args(&["echo", "two"]), "none of those that the plan of this run named"),
            (args(&["uptime"]), "none of those that the plan of this run named"),
            (args(&["id"]), "no rule allows `id` on target `a`"),
            (FarWords::Shell("echo one".into()), "no rule allows a shell line"),
        ] {
            match only.prepare("x".into(), "/ssh".into(), run(words), Arc::new(Secrets::ready(&[]))).await {
                Err(SpawnError::Denied(said)) => assert!(said.contains(why), "{said}"),
                Err(other) => panic!("{other:?}"),
                Ok(prepared) => panic!("{:?}", prepared.command),
            }
        }
        for action in [FarAction::Attach(FarPlace { stdout: 0, stderr: 0, link_s: 30 }), FarAction::End(End { grace_s: 1 })] {
            assert_eq!(only.prepare("y".into(), "/ssh".into(), action, Arc::new(Secrets::ready(&[]))).await.unwrap().rule, None);
        }
        assert_eq!(*way.0.lock().unwrap(), ["one", "two", "y", "y"]);
    }
}

//! The part of `falconer check` about limits on trees: which controllers there are, and which limits cannot be held.
//!
//! It looks from where this command runs, and changes nothing: a controller that a daemon would have to give on first
//! counts as there where that looks possible.

use super::check::{bad, good};
use crate::config::{Cgroup, Config};
use crate::policy::Finding;
use crate::tree::{Controller, Controllers, Way};

/// How the section is called.
pub(super) const SECTION: &str = "limits on trees";

/// The findings.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let controllers = match config.host.cgroup {
        Cgroup::Off => Controllers::none("turned off by `cgroup = \"off\"` under `[host]`"),
        Cgroup::Auto | Cgroup::Required => Controllers::survey(),
    };
    judged(config, &controllers)
}

fn judged(config: &Config, controllers: &Controllers) -> Vec<Finding> {
    let mut out: Vec<Finding> = Controller::ALL
        .into_iter()
        .map(|controller| {
            let subject = format!("controller {}", controller.name());
            match controllers.way(controller) {
                Ok(Way::V2) => good(&subject, format!("version 2, for `{}`", controller.key())),
                Ok(Way::V1(dir)) => good(&subject, format!("version 1, for `{}`, in {}", controller.key(), dir.display())),
                Err(why) => good(&subject, format!("none, so no run can have `{}`: {why}", controller.key())),
            }
        })
        .collect();
    for (name, backend) in config.backends.iter().filter(|(_, backend)| backend.enabled) {
        for controller in Controller::ALL.into_iter().filter(|controller| controller.is_wanted(&backend.limits.tree)) {
            if let Err(why) = controllers.way(controller) {
                out.push(bad(
                    &format!("{} of {name}", controller.key()),
                    format!("it cannot be held, so every run is refused (limit_unavailable): {why}"),
                    format!(
                        "take `{}` out of [backends.{name}.limits], or give falconer the cgroup controller `{}`",
                        controller.key(),
                        controller.name()
                    ),
                ));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::*;
    use crate::config::Overrides;
    use crate::policy::Severity;

    #[test]
    fn a_configured_limit_that_cannot_be_held_is_an_error() {
        let text =
            "[backends.exec.limits]\ntree_processes = 5\n[backends.claude]\nenabled = false\n[backends.claude.limits]\ntree_cpu = 1\n";
        let home = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(home.path()).unwrap().join("falconer.toml");
        std::fs::write(&file, text).unwrap();
        let overrides = Overrides { config: Some(file), ..Overrides::at_home(Utf8Path::from_path(home.path()).unwrap()) };
        let config = Config::read(&overrides).unwrap();
        let findings = judged(&config, &Controllers::none("there is none"));
        let wrong: Vec<&str> =
            findings.iter().filter(|finding| finding.severity == Severity::Error).map(|finding| finding.subject.as_str()).collect();
        assert_eq!(wrong, ["tree_processes of exec"], "a backend that is turned off needs nothing");
        assert_eq!(findings.len(), 4);
    }
}

//! The part of `falconer check` about secrets of targets: whether what they name is granted where runs on targets are made, and can
//! be had. A command that prints a secret is not started.

use std::collections::BTreeMap;

use super::check::bad;
use crate::capability::missing_secret;
use crate::config::{Config, SecretSource};
use crate::policy::{Finding, Severity};

/// The findings; `backends`: those that can run on targets.
pub(super) fn findings(config: &Config, backends: &[&str], client_env: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut out = Vec::new();
    for target in &config.targets {
        for (key, name) in [("password", &target.password), ("passphrase", &target.passphrase)] {
            let Some(name) = name else { continue };
            let subject = format!("target {}", target.name);
            let sources: Vec<(&str, &SecretSource)> =
                backends.iter().filter_map(|backend| Some((*backend, config.backend(backend).grants.secrets.get(name)?))).collect();
            if sources.is_empty() {
                let backend = backends.first().copied().unwrap_or("ssh");
                out.push(bad(
                    &subject,
                    format!("`{key}` names the secret `{name}`, which is granted to no backend that runs on targets"),
                    format!("say where its value is: [backends.{backend}.grants.secrets] {name} = {{ file = \"~/path\" }}"),
                ));
            }
            for (backend, source) in sources {
                if let Some(why) = missing_secret(source, client_env) {
                    // A client of another environment may bring it.
                    let severity = if matches!(source, SecretSource::Env(_)) { Severity::Warning } else { Severity::Error };
                    let hint = format!("mend `{name}` in [backends.{backend}.grants.secrets], or what it names");
                    let message = format!("`{key}` names the secret `{name}`, which has no value: {why}");
                    out.push(Finding { severity, ..bad(&subject, message, hint) });
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use camino::Utf8Path;

    use super::*;
    use crate::config::Overrides;

    #[test]
    fn a_secret_that_is_not_granted_or_has_no_value_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(temp.path()).unwrap();
        for (file, mode) in [("good", 0o600), ("open", 0o640)] {
            std::fs::write(home.join(file), "long-enough-secret\n").unwrap();
            std::fs::set_permissions(home.join(file), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let target = |name: &str, secret: &str| format!("[[targets]]\nname = '{name}'\npassword = '{secret}'\n");
        let text = ["good", "open", "env", "set", "printed", "nowhere", "gone"].map(|name| target(name, name)).concat()
            + "[backends.ssh.grants.secrets]\ngood = { file = '~/good' }\nopen = { file = '~/open' }\nenv = { env = 'UNSET' }\nset = { env = 'SET' }\nprinted = { command = ['pass'] }\ngone = { file = '~/gone' }\n[backends.exec.grants.secrets]\nnowhere = { file = '~/good' }\n";
        let config = Config::parse(&text, None, &Overrides::at_home(home.to_owned())).map_err(|errors| errors.to_string()).unwrap();
        let env = BTreeMap::from([("SET".to_owned(), "long-enough-secret".to_owned())]);
        let found: Vec<_> =
            findings(&config, &["ssh"], &env).into_iter().map(|finding| (finding.severity, finding.subject, finding.message)).collect();
        let said = |name: &str| found.iter().filter(|(_, subject, _)| *subject == format!("target {name}")).collect::<Vec<_>>();
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(matches!(said("open")[..], [(Severity::Error, _, why)] if why.contains("can be read by others")), "{found:#?}");
        assert!(matches!(said("gone")[..], [(Severity::Error, ..)]), "{found:#?}");
        assert!(matches!(said("env")[..], [(Severity::Warning, _, why)] if why.contains("the client brought no UNSET")), "{found:#?}");
        assert!(
            matches!(said("nowhere")[..], [(Severity::Error, _, why)] if why.contains("granted to no backend that runs on targets")),
            "{found:#?}"
        );
        assert_eq!(findings(&config, &[], &env).len(), 7, "without a backend that has targets, none is granted");
    }
}

//! The machines that runs can be sent to, by name and tag.
//!
//! The file says which there are ([`crate::config`]); what it leaves to an alias of `~/.ssh/config` is asked of `ssh -G` once,
//! when the inventory is made, and never again. It connects to nothing and looks no name up. A target about which something is
//! missing stays, with the reason: it is listed, shows in `falconer check`, and fails the runs that need it with a code. Callers
//! are shown names, tags and descriptions, never an address, a login or a path.

mod alias;
mod report;

use std::sync::Arc;

use camino::Utf8PathBuf;

pub use alias::EXPANSION;

use super::Finding;
use crate::config::{Address, Config, HostKey, Target, inert};
use crate::fault::{Fault, code};
use alias::Expanded;

/// A port where nothing says another one (RFC 4251).
const PORT: u16 = 22;

/// The inventory of a configuration.
#[derive(Debug)]
pub struct Inventory {
    config: Arc<Config>,
    /// In the order of the file.
    hosts: Vec<Result<Host, Problem>>,
}

/// Why a target cannot be used, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    message: String,
    hint: String,
}

/// A target with all that is needed to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As the file has it: name, tags, limits; what the command rule is asked with.
    pub target: Target,
    /// Where it is. To be judged by the network rule before anything connects there.
    pub address: Address,
    /// TCP.
    pub port: u16,
    /// Who logs in; none: whoever runs the host.
    pub user: Option<String>,
    /// Key files; empty: what the agent has, and what ssh(1) tries by itself.
    pub identity: Vec<Utf8PathBuf>,
    /// The name of the secret that is the login's password.
    pub password: Option<String>,
    /// The name of the secret that opens the key files.
    pub passphrase: Option<String>,
    /// The name of the target over which the way goes.
    pub jump: Option<String>,
    /// What its host key is held against; none: what the host itself knows.
    pub host_key: Option<HostKey>,
    /// The name under which its host key is known; none: that of its address.
    pub host_key_alias: Option<String>,
}

impl Host {
    /// The name under which its host key is known, as it stands in files of known keys (sshd(8)): that of its alias, else its
    /// address, with a port other than 22 as `[address]:port`. To be given to ssh(1) as HostKeyAlias.
    #[must_use]
    pub fn known_as(&self) -> String {
        match &self.host_key_alias {
            Some(alias) => alias.clone(),
            None if self.port == PORT => self.address.to_string(),
            None => format!("[{}]:{}", self.address, self.port),
        }
    }
}

/// Which targets a request names: at most one of the three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Selection<'a> {
    /// `target`
    pub target: Option<&'a str>,
    /// `targets`
    pub targets: Option<&'a [String]>,
    /// `target_tag`
    pub tag: Option<&'a str>,
}

/// What a request's selection comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected<'a> {
    /// It names none.
    Nothing,
    /// `target`: one run.
    One(&'a Target),
    /// `targets` or `target_tag`: a run for each, in the order asked for or that of the file; at least one, each once.
    Many(Vec<&'a Target>),
}

impl Inventory {
    /// The inventory of a configuration. Where targets have aliases, `ssh -G` is run for them side by side, for at most
    /// [`EXPANSION`]; to be called before the host becomes the parent of strangers.
    #[must_use]
    pub fn of(config: &Arc<Config>) -> Self {
        let mut expanded = alias::expand(config);
        let hosts = config.targets.iter().map(|target| match &target.ssh_alias {
            None => host(target, Expanded::default()),
            Some(alias) => match expanded.remove(alias) {
                Some(Ok(found)) => found.jump(config, target).and_then(|found| host(target, found)),
                Some(Err(why)) => Err(why),
                None => Err(Problem { message: format!("alias `{alias}` was not looked up"), hint: "restart the daemon".into() }),
            },
        });
        Self { hosts: hosts.collect(), config: Arc::clone(config) }
    }

    /// All targets, in the order of the file.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.config.targets
    }

    /// The target of this name.
    ///
    /// # Errors
    /// `unknown_target`, with the near names or those there are.
    pub fn target(&self, name: &str) -> Result<&Target, Fault> {
        self.targets().iter().find(|target| target.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.targets().iter().map(|target| target.name.as_str()).collect();
            unknown("target is called", name, &names)
        })
    }

    /// All targets with this tag, in the order of the file.
    ///
    /// # Errors
    /// `unknown_target` where there is none.
    pub fn tagged(&self, tag: &str) -> Result<Vec<&Target>, Fault> {
        let found: Vec<&Target> = self.targets().iter().filter(|target| target.tags.iter().any(|has| has == tag)).collect();
        if found.is_empty() {
            let mut tags: Vec<&str> = self.targets().iter().flat_map(|target| &target.tags).map(String::as_str).collect();
            tags.sort_unstable();
            tags.dedup();
            return Err(unknown("target has the tag", tag, &tags));
        }
        Ok(found)
    }

    /// What a request names.
    ///
    /// # Errors
    /// `conflicting_fields` where it names more than one way; `invalid_argument` for an empty list or a name that stands twice;
    /// `unknown_target`.
    pub fn select(&self, asked: &Selection<'_>) -> Result<Selected<'_>, Fault> {
        match (asked.target, asked.targets, asked.tag) {
            (None, None, None) => Ok(Selected::Nothing),
            (Some(name), None, None) => self.target(name).map(Selected::One),
            (None, None, Some(tag)) => self.tagged(tag).map(Selected::Many),
            (None, Some(names), None) => {
                let mut found: Vec<&Target> = Vec::new();
                for name in names {
                    let target = self.target(name)?;
                    if found.iter().any(|earlier| earlier.name == target.name) {
                        return Err(
                            Fault::new(code::INVALID_ARGUMENT, format!("`targets` names `{name}` twice")).hint("name each target once")
                        );
                    }
                    found.push(target);
                }
                if found.is_empty() {
                    return Err(Fault::new(code::INVALID_ARGUMENT, "`targets` is empty").hint("name some, or leave it out"));
                }
                Ok(Selected::Many(found))
            }
            _ => Err(Fault::new(code::CONFLICTING_FIELDS, "more than one of `target`, `targets` and `target_tag` is given")
                .hint("give one of the three")),
        }
    }

    /// All that is needed to reach a target.
    ///
    /// # Errors
    /// `unknown_target`; `target_unavailable` with what is missing.
    pub fn host(&self, name: &str) -> Result<&Host, Fault> {
        self.target(name)?;
        let at = self.targets().iter().position(|target| target.name == name);
        match at.and_then(|at| self.hosts.get(at)) {
            Some(Ok(host)) => Ok(host),
            Some(Err(problem)) => {
                Err(Fault::new(code::TARGET_UNAVAILABLE, format!("target `{name}`: {}", problem.message)).hint(problem.hint.clone()))
            }
            None => Err(Fault::new(code::INTERNAL, format!("target `{name}` has no place in the inventory"))),
        }
    }

    /// The way to a target: the jump hosts in the order in which they are passed, the target itself last.
    ///
    /// # Errors
    /// As [`Inventory::host`], of any of them.
    pub fn way(&self, name: &str) -> Result<Vec<&Host>, Fault> {
        let mut way = vec![self.host(name)?];
        // An alias may close a circle that the file alone does not show.
        while let Some(jump) = way.last().and_then(|host| host.jump.as_deref()) {
            if way.iter().any(|host| host.target.name == jump) {
                return Err(Fault::new(code::TARGET_UNAVAILABLE, format!("the way to target `{name}` goes in a circle over `{jump}`"))
                    .hint("a person takes a `jump` out"));
            }
            way.push(self.host(jump)?);
        }
        way.reverse();
        Ok(way)
    }

    /// What `falconer check` shows of targets.
    #[must_use]
    pub fn report(&self) -> Vec<Finding> {
        report::targets(self)
    }

    /// What `falconer check` shows of rules.
    #[must_use]
    pub fn report_rules(&self) -> Vec<Finding> {
        report::rules(&self.config)
    }
}

fn unknown(what: &str, word: &str, known: &[&str]) -> Fault {
    const SHOWN: usize = 20;
    let word = inert(word);
    let hint = match crate::config::nearest(&word, known) {
        Some(near) => format!("did you mean `{near}`? list_targets shows all"),
        None if known.is_empty() => "there are none; a person adds [[targets]] to the configuration".to_owned(),
        None if known.len() > SHOWN => "list_targets shows all".to_owned(),
        None => format!("there are: {}", known.join(", ")),
    };
    Fault::new(code::UNKNOWN_TARGET, format!("no {what} `{word}`")).hint(hint)
}

/// Puts what the file says over what the alias says.
fn host(target: &Target, alias: Expanded) -> Result<Host, Problem> {
    let Some(address) = target.address.clone().or(alias.address) else {
        return Err(Problem { message: "it has no address".into(), hint: "write `address = \"…\"`".into() });
    };
    Ok(Host {
        target: target.clone(),
        address,
        port: target.port.or(alias.port).unwrap_or(PORT),
        user: target.user.clone().or(alias.user),
        identity: if target.identity.is_empty() { alias.identity } else { target.identity.clone() },
        password: target.password.clone(),
        passphrase: target.passphrase.clone(),
        jump: target.jump.clone().or(alias.jump),
        host_key: target.host_key.clone().or(alias.known_hosts.map(HostKey::KnownHosts)),
        host_key_alias: alias.host_key_alias,
    })
}

#[cfg(test)]
mod tests;

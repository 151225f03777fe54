//! Why ssh failed: codes, messages, and the way out.

use std::fmt::Write;

/// Why a connection was not made, or was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No key of this machine is known.
    HostKeyUnknown(Keys),
    /// Another key is known than the one that was offered.
    HostKeyChanged(Keys),
    /// The offered key is marked as revoked.
    HostKeyRevoked(Keys),
    /// What was offered was refused.
    AuthFailed(Tried),
    /// There was nothing to offer of what the machine takes.
    AuthRequired(Tried),
    /// Nobody listens at the port.
    Refused,
    /// No answer within the time for a connection.
    TimedOut,
    /// It was connected, and the other side did not speak, or not to the end, within that time.
    Silent,
    /// There is no way to the address; what the system says.
    Unreachable(String),
    /// The name leads nowhere.
    NotFound(String),
    /// There is no algorithm that both sides have: of what kind, and what the other side has.
    NoCommonAlgorithm {
        /// As ssh says it, such as `key exchange method`.
        what: String,
        /// A list with commas.
        theirs: String,
    },
    /// What answers is no SSH server; what it said first.
    NotSsh(String),
    /// The other side ended the connection before the login.
    Closed,
    /// The jump host does not pass connections on.
    ForwardForbidden,
    /// The machine does not execute what it was asked to; what ssh says.
    CommandRefused(String),
    /// ssh does not take its configuration or its arguments.
    Config(String),
    /// It was connected and logged in; how that ended.
    Lost(String),
    /// What ssh said last.
    Other(String),
}

/// What is known of host keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// The name under which it is looked for.
    pub name: String,
    /// The type of the offered key.
    pub kind: String,
    /// The fingerprint of the offered key.
    pub offered: Option<String>,
    /// Fingerprints that are known for the name, each with its place.
    pub known: Vec<String>,
    /// Fingerprints that the configuration pins.
    pub pinned: Vec<String>,
    /// The file and the line of the other key, as ssh names it.
    pub place: Option<String>,
}

/// What a login was tried with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    /// Methods with which one could log in, by the machine's word.
    pub methods: Vec<String>,
    /// Keys that were offered.
    pub keys: usize,
    /// The machine would have taken the last key, which could not be used.
    pub locked: bool,
    /// A passphrase was given for a key.
    pub opened: bool,
    /// Key files that are not there, or that ssh does not take.
    pub files: Vec<String>,
    /// A password was asked for, and given or not.
    pub password: Option<bool>,
    /// What is wrong with the agent.
    pub agent: Option<Agent>,
    /// The machine ended the dialog: too many attempts.
    pub too_many: bool,
}

/// What is wrong with the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// There is none at the place that SSH_AUTH_SOCK names.
    Absent,
    /// It holds no keys.
    Empty,
}

/// Where on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hop {
    /// The target itself; through a jump host or directly.
    Target(String),
    /// A jump host.
    Jump(String),
}

impl Hop {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Target(name) | Self::Jump(name) => name,
        }
    }

    fn said(&self) -> String {
        match self {
            Self::Target(name) => format!("`{name}`"),
            Self::Jump(name) => format!("jump host `{name}`"),
        }
    }
}

impl Reason {
    /// Its code, in `snake_case`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::HostKeyUnknown(_) => "host_key_unknown",
            Self::HostKeyChanged(_) | Self::HostKeyRevoked(_) => "host_key_changed",
            Self::AuthFailed(_) => "auth_failed",
            Self::AuthRequired(_) => "auth_required",
            Self::Refused => "connect_refused",
            Self::TimedOut | Self::Silent => "connect_timeout",
            Self::Unreachable(_) => "unreachable_host",
            Self::NotFound(_) => "host_not_found",
            Self::Lost(_) => "link_lost",
            Self::NoCommonAlgorithm { .. }
            | Self::NotSsh(_)
            | Self::Closed
            | Self::ForwardForbidden
            | Self::CommandRefused(_)
            | Self::Config(_)
            | Self::Other(_) => "far_end_failed",
        }
    }

    /// Whether the same may succeed later, with nothing changed here.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Self::Refused | Self::TimedOut | Self::Silent | Self::Unreachable(_) | Self::NotFound(_) | Self::Closed | Self::Lost(_)
        )
    }

    /// What happened, for people.
    #[must_use]
    pub fn message(&self, at: &Hop) -> String {
        let who = at.said();
        match self {
            Self::HostKeyUnknown(keys) if !keys.pinned.is_empty() => {
                format!(
                    "the host key of {who} is none of those that are pinned: it offers {}, pinned is {}",
                    keys.offered(),
                    keys.pinned.join(", ")
                )
            }
            Self::HostKeyUnknown(keys) => format!("the host key of {who} is not known: it offers {}", keys.offered()),
            Self::HostKeyChanged(keys) => {
                let mut text = format!("the host key of {who} has changed: it offers {}", keys.offered());
                if !keys.known.is_empty() {
                    let _ = write!(text, ", known is {}", keys.known.join(", "));
                } else if let Some(place) = &keys.place {
                    let _ = write!(text, ", another one is known in {place}");
                }
                text
            }
            Self::HostKeyRevoked(keys) => format!("the host key of {who} is revoked: it offers {}", keys.offered()),
            Self::AuthFailed(tried) => {
                let what = if tried.too_many { "ended the login after too many attempts" } else { "refused the login" };
                format!("{who} {what} ({})", tried.told())
            }
            Self::AuthRequired(tried) => format!("there is nothing to log in with at {who} ({})", tried.told()),
            Self::Refused => format!("{who} refused the connection"),
            Self::TimedOut => format!("{who} did not answer in time"),
            Self::Silent => format!("{who} was connected to, and the way through was not ready in time"),
            Self::Unreachable(why) => format!("{who} cannot be reached: {why}"),
            Self::NotFound(why) => format!("the address of {who} is not found: {why}"),
            Self::NoCommonAlgorithm { what, theirs } => format!("ssh and {who} have no {what} in common; it has {theirs}"),
            Self::NotSsh(first) => format!("what answers for {who} is no SSH server: `{first}`"),
            Self::Closed => format!("{who} ended the connection before the login"),
            Self::ForwardForbidden => format!("{who} passes no connections on"),
            Self::CommandRefused(why) => format!("{who} does not execute the command: {why}"),
            Self::Config(why) => format!("ssh does not take its configuration: {why}"),
            Self::Lost(why) => format!("the connection to {who} was lost: {why}"),
            Self::Other(why) => format!("ssh could not connect to {who}: {why}"),
        }
    }

    /// The way out.
    #[must_use]
    pub fn hint(&self, at: &Hop) -> String {
        let name = at.name();
        match self {
            Self::HostKeyUnknown(keys) if !keys.pinned.is_empty() => format!(
                "a person compares it with the machine's own (`ssh-keygen -l` on its /etc/ssh/ssh_host_*_key.pub), and mends `fingerprint` of target `{name}`; a pinned key must be of the type that ssh asks for first, or pin all of them"
            ),
            Self::HostKeyUnknown(_) => {
                format!("a person runs `falconer ssh trust {name}` and compares the fingerprint with the machine's own")
            }
            Self::HostKeyChanged(_) => format!(
                "somebody may stand in the way, or the machine was set up anew; a person who knows that it was runs `falconer ssh trust --replace {name}`"
            ),
            Self::HostKeyRevoked(_) => "a person finds out why it was revoked; the machine needs a new key".into(),
            Self::AuthFailed(tried) | Self::AuthRequired(tried) => tried.hint(name),
            Self::Refused => "is sshd running there, and is the port right? a firewall may refuse too".into(),
            Self::TimedOut => "is the machine up, and does a firewall let this host in?".into(),
            Self::Silent => {
                "the machine may be overloaded, or the port is another service's; behind a jump the time has to be enough for all logins"
                    .into()
            }
            Self::Unreachable(_) => "look at the network of this host and at the target's address; a VPN may be down".into(),
            Self::NotFound(_) => "a person mends the target's `address`; or the name service is down".into(),
            Self::NoCommonAlgorithm { .. } => "one of the two is too old: update it; falconer turns on no weak algorithms".into(),
            Self::NotSsh(_) => "a person mends `port` or `address` of the target".into(),
            Self::Closed => {
                "try again later: the machine may limit new connections (MaxStartups, fail2ban); its sshd's log says why".into()
            }
            Self::ForwardForbidden => {
                "its sshd needs `AllowTcpForwarding yes` or `local`, and a PermitOpen that names the next machine".into()
            }
            Self::CommandRefused(_) => {
                "the account may be forced to another command or to none (ForceCommand, `command=` of its key)".into()
            }
            Self::Config(_) => "a defect, or an OpenSSH client that is too old (8.5 is the oldest)".into(),
            Self::Lost(_) => "look at the network between, and whether the machine was restarted".into(),
            Self::Other(_) => "`ssh` by hand to the same machine says more".into(),
        }
    }
}

impl Keys {
    fn offered(&self) -> String {
        let fingerprint = self.offered.as_deref().unwrap_or("a key that ssh does not name");
        if self.kind.is_empty() { fingerprint.to_owned() } else { format!("{} {fingerprint}", self.kind) }
    }
}

impl Tried {
    fn told(&self) -> String {
        let mut parts = Vec::new();
        if !self.methods.is_empty() {
            parts.push(format!("it takes {}", self.methods.join(", ")));
        }
        match self.keys {
            0 => {}
            1 => parts.push("one key was offered".to_owned()),
            keys => parts.push(format!("{keys} keys were offered")),
        }
        if self.locked {
            let why = if self.opened { "its passphrase does not open it" } else { "it is locked, or its agent would not sign" };
            parts.push(format!("it would take the key, but {why}"));
        }
        match self.password {
            Some(true) => parts.push("a password was given".into()),
            Some(false) => parts.push("it asked for a password, and there was none for it".into()),
            None => {}
        }
        parts.extend(self.files.iter().cloned());
        match self.agent {
            Some(Agent::Absent) => parts.push("there is no agent at SSH_AUTH_SOCK".into()),
            Some(Agent::Empty) => parts.push("the agent holds no keys".into()),
            None => {}
        }
        if parts.is_empty() { "nothing was offered".into() } else { parts.join("; ") }
    }

    fn hint(&self, name: &str) -> String {
        let takes = |method: &str| self.methods.iter().any(|has| has == method);
        if self.too_many {
            return format!("name the one key that fits: `identity` of target `{name}`; then the agent's others are not offered");
        }
        if !self.files.is_empty() {
            return format!("a person mends `identity` of target `{name}`, or the file");
        }
        if self.locked {
            return match self.opened {
                true => format!("a person mends the secret that `passphrase` of target `{name}` names"),
                false => format!("name the secret that opens the key: `passphrase` of target `{name}`; or load it into the agent"),
            };
        }
        if self.password == Some(true) {
            return format!(
                "a person mends the secret that `password` of target `{name}` names; is `user` right, and may it log in with a password?"
            );
        }
        match self.agent {
            Some(Agent::Absent) if self.keys == 0 => {
                return "start the client where SSH_AUTH_SOCK leads to an agent, or give the target an `identity`".into();
            }
            Some(Agent::Empty) if self.keys == 0 => return "`ssh-add` a key, or give the target an `identity`".into(),
            _ => {}
        }
        if self.keys > 0 {
            return format!(
                "is the public key in the account's authorized_keys, is `user` of target `{name}` right, and may it log in there?"
            );
        }
        if takes("password") || takes("keyboard-interactive") {
            return format!("`password` of target `{name}` names the secret; `falconer check` says whether it has a value");
        }
        format!("give target `{name}` an `identity`, or load a key into the agent")
    }
}

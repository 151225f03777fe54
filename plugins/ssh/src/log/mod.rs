//! What ssh(1) says about itself (`-E`, LogLevel DEBUG1), read line by line: how far it came, and why it failed.
//!
//! Jumps are ssh processes that write into the same log: their lines come between those of the others. But a way is walked in order:
//! each machine is spoken to only when all before it have let the login in, so the machine that a line is about is known by how many
//! were logged in to. What the other side says is cut and made harmless before it is shown. A line of an unknown form says nothing.
//!
//! Beside ssh, falconer's own program that ssh asks writes here: `falconer: known NAME FINGERPRINT in FILE:LINE` and `falconer: pinned
//! NAME FINGERPRINT` (NAME a target's) of a host key that it does not know; `falconer: answered WHAT` and `falconer: unanswered WHAT`
//! (`password` or `passphrase`) to the machine that is being spoken to.

mod reason;
#[cfg(test)]
mod tests;

pub use reason::{Agent, Hop, Keys, Reason, Tried};

/// So much of what another side says is shown, in characters.
const SHOWN: usize = 300;
/// Fingerprints, files and methods of one machine that are kept.
const MOST: usize = 16;

/// The log of one ssh and its jumps.
#[derive(Debug)]
pub struct Log {
    target: String,
    /// The jump hosts as ssh names them, the last one on the way first.
    jumps: Vec<String>,
    /// Machines that were logged in to.
    passed: usize,
    /// What is known of the one after those.
    keys: Keys,
    tried: Tried,
    /// What was said last that may be why: taken where nothing better comes.
    banner: Option<String>,
    last: Option<String>,
    /// The first thing that says why.
    reason: Option<(Reason, Hop)>,
    /// What follows from another failure, where nothing else is known.
    weak: Option<(Reason, Hop)>,
    /// By falconer's own program: whose, whether pinned, and the fingerprint with its place.
    told: Vec<(String, bool, String)>,
}

impl Log {
    /// The log of an ssh to this target, nothing read yet.
    #[must_use]
    pub fn new(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            jumps: Vec::new(),
            passed: 0,
            keys: Keys::default(),
            tried: Tried::default(),
            banner: None,
            last: None,
            reason: None,
            weak: None,
            told: Vec::new(),
        }
    }

    /// Whether the login at the target itself has been let in.
    #[must_use]
    pub fn is_in(&self) -> bool {
        self.passed > self.jumps.len()
    }

    /// The machine that is being spoken to now: the next one on the way.
    #[must_use]
    pub fn hop(&self) -> Hop {
        self.at(self.passed)
    }

    /// The machine before which so many are passed.
    fn at(&self, passed: usize) -> Hop {
        let before = self.jumps.len().checked_sub(passed + 1);
        match before.and_then(|at| self.jumps.get(at)) {
            Some(jump) => Hop::Jump(jump.clone()),
            None => Hop::Target(self.target.clone()),
        }
    }

    /// Why it failed, and at which machine, as far as the log says by now.
    #[must_use]
    pub fn reason(&self) -> Option<(Reason, Hop)> {
        let (mut reason, hop) = self.reason.clone().or_else(|| self.weak.clone()).or_else(|| {
            let last = self.last.clone()?;
            Some((if self.is_in() { Reason::Lost(last) } else { Reason::Other(last) }, self.hop()))
        })?;
        if let Reason::HostKeyUnknown(keys) | Reason::HostKeyChanged(keys) | Reason::HostKeyRevoked(keys) = &mut reason {
            for (_, pinned, text) in self.told.iter().filter(|(name, ..)| name == hop.name()) {
                let list = if *pinned { &mut keys.pinned } else { &mut keys.known };
                if !list.contains(text) {
                    list.push(text.clone());
                }
            }
        }
        Some((reason, hop))
    }

    /// Reads the next line, without its end.
    pub fn line(&mut self, line: &str) {
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(own) = line.strip_prefix("falconer: ") {
            self.own(own);
        } else if let Some(debug) = line.strip_prefix("debug1: ") {
            self.debug(debug);
        } else if !line.starts_with("debug") && !line.is_empty() {
            self.plain(line);
        }
    }

    fn own(&mut self, line: &str) {
        match line {
            "answered password" => self.tried.password = Some(true),
            "unanswered password" => self.tried.password = self.tried.password.or(Some(false)),
            "answered passphrase" => self.tried.opened = true,
            _ => {}
        }
        let mut words = line.splitn(3, ' ');
        if let (Some(what @ ("known" | "pinned")), Some(name), Some(text)) = (words.next(), words.next(), words.next())
            && self.told.len() < MOST
        {
            self.told.push((shown(name), what == "pinned", shown(text)));
        }
    }

    /// What DEBUG1 adds: how far it is, and with what.
    fn debug(&mut self, line: &str) {
        if let Some(command) = line.strip_prefix("Executing proxy command: ") {
            // The host puts every word between single quotes; a name has none in it.
            let name = command.rsplit_once(" -- ").or_else(|| command.rsplit_once(" '--' ")).map(|(_, name)| name.trim_matches('\''));
            if let Some(name) = name.filter(|_| self.jumps.len() < MOST) {
                self.jumps.push(shown(name));
            }
        } else if let Some(key) = line.strip_prefix("Server host key: ") {
            if let Some((kind, fingerprint)) = key.split_once(' ') {
                self.keys.kind = shown(kind);
                self.keys.offered = Some(shown(fingerprint));
            }
        } else if let Some(methods) = line.strip_prefix("Authentications that can continue: ") {
            self.tried.methods = methods.split(',').take(MOST).map(shown).collect();
        } else if line.starts_with("Offering public key: ") {
            self.tried.keys += 1;
            self.tried.locked = false;
        } else if line.starts_with("Server accepts key: ") {
            // Unless the login comes next.
            self.tried.locked = true;
        } else if let Some(why) = line.strip_prefix("get_agent_identities: ") {
            if why.starts_with("ssh_get_authentication_socket: ") {
                self.tried.agent = Some(Agent::Absent);
            } else if why.ends_with("agent contains no identities") {
                self.tried.agent = Some(Agent::Empty);
            }
        } else if let Some(text) = line.strip_prefix("kex_exchange_identification: banner line 0: ") {
            self.banner = Some(shown(text));
        }
    }

    fn plain(&mut self, line: &str) {
        if line.starts_with("Authenticated to ") {
            self.passed += 1;
            self.keys = Keys::default();
            self.tried = Tried::default();
            self.banner = None;
            self.last = None;
            return;
        }
        if let Some(rest) = line.strip_prefix("no such identity: ") {
            self.file(format!("key file {} is not there", rest.split(": ").next().unwrap_or_default()));
        } else if let Some(rest) = line.strip_prefix("Load key \"") {
            if let Some((file, why)) = rest.split_once("\": ") {
                self.file(format!("key file {file}: {why}"));
            }
        } else if let Some(rest) = line.strip_prefix("Offending ") {
            self.keys.place = rest.split_once(" key in ").map(|(_, place)| shown(place));
        } else if self.is_in() {
            self.after_login(line);
        } else if let Some(reason) = self.why(line) {
            // It is the one before that does not pass it on.
            let hop = if reason == Reason::ForwardForbidden { self.at(self.passed.saturating_sub(1)) } else { self.hop() };
            let place = if is_weak(line) { &mut self.weak } else { &mut self.reason };
            place.get_or_insert((reason, hop));
        } else if !is_noise(line) {
            self.last = Some(shown(line));
        }
    }

    fn file(&mut self, text: String) {
        if self.tried.files.len() < MOST {
            self.tried.files.push(shown(&text));
        }
    }

    /// What a line says about a connection that is being made.
    fn why(&mut self, line: &str) -> Option<Reason> {
        let after = |prefix: &str| line.strip_prefix(prefix);
        if let Some(rest) = after("ssh: connect to host ") {
            // The name of the host holds no `: `; IPv6 addresses no blank.
            return Some(connected(rest.split_once(": ")?.1));
        }
        if let Some(rest) = after("ssh: Could not resolve hostname ") {
            return Some(Reason::NotFound(shown(rest)));
        }
        if let Some(rest) = after("Unable to negotiate with ") {
            let (what, theirs) = rest.split_once(": no matching ")?.1.split_once(" found. Their offer: ")?;
            return Some(Reason::NoCommonAlgorithm { what: shown(what), theirs: shown(theirs) });
        }
        if let Some(rest) = line.strip_suffix(" and you have requested strict checking.") {
            let mut keys = std::mem::take(&mut self.keys);
            return Some(if let Some((_, name)) = rest.split_once(" host key is known for ") {
                keys.name = shown(name);
                Reason::HostKeyUnknown(keys)
            } else if let Some(name) = rest.strip_prefix("Host key for ").and_then(|rest| rest.strip_suffix(" has changed")) {
                keys.name = shown(name);
                Reason::HostKeyChanged(keys)
            } else {
                Reason::HostKeyRevoked(keys)
            });
        }
        if line == "Host key verification failed." {
            return Some(Reason::HostKeyUnknown(std::mem::take(&mut self.keys)));
        }
        if let Some(rest) = after("Received disconnect from ") {
            return Some(if rest.ends_with("Too many authentication failures") {
                Reason::AuthFailed(Tried { too_many: true, ..std::mem::take(&mut self.tried) })
            } else {
                let said = rest.splitn(3, ':').last().unwrap_or(rest);
                Reason::Other(shown(said.trim()))
            });
        }
        // `user@host: Permission denied (method,method).`
        if let Some((_, methods)) = line.strip_suffix(").").and_then(|rest| rest.split_once(": Permission denied (")) {
            let mut tried = std::mem::take(&mut self.tried);
            if tried.methods.is_empty() {
                tried.methods = methods.split(',').take(MOST).map(shown).collect();
            }
            // A secret that does not open the key is refused as much as one that the machine does not take.
            let usable = (tried.keys > 0 && (!tried.locked || tried.opened)) || tried.password == Some(true);
            return Some(if usable { Reason::AuthFailed(tried) } else { Reason::AuthRequired(tried) });
        }
        if let Some(rest) = after("channel 0: open failed: ") {
            return Some(match rest.strip_prefix("connect failed: ") {
                Some(why) => connected(why),
                None if rest.starts_with("administratively prohibited") => Reason::ForwardForbidden,
                None => Reason::Other(shown(rest)),
            });
        }
        if line == "Connection timed out during banner exchange" {
            return Some(Reason::Silent);
        }
        if line.starts_with("kex_exchange_identification: ") || line.starts_with("banner exchange: ") || is_closed(line) {
            return Some(self.banner.take().map_or(Reason::Closed, Reason::NotSsh));
        }
        if line.contains(": Bad configuration option: ")
            || line.contains(": terminating, ")
            || line.starts_with("Bad owner or permissions on ")
        {
            return Some(Reason::Config(shown(line)));
        }
        None
    }

    /// What a line says about a connection that was there.
    fn after_login(&mut self, line: &str) {
        let lost = line.starts_with("Timeout, server ")
            || line.starts_with("client_loop: ")
            || line.starts_with("Read from remote host ")
            || line.starts_with("Received disconnect from ")
            || line.starts_with("ssh_dispatch_run_fatal: ")
            || line.starts_with("Write failed: ")
            || line.starts_with("packet_write_wait: ")
            || line.ends_with(" closed by remote host.")
            || is_closed(line);
        let refused = line.starts_with("channel 0: open failed: ") || line.contains(" request failed on channel ");
        let hop = self.hop();
        if lost {
            self.reason.get_or_insert((Reason::Lost(shown(line)), hop));
        } else if refused {
            self.reason.get_or_insert((Reason::CommandRefused(shown(line)), hop));
        }
    }
}

/// What the system or a jump host says of a connection that could not be made.
fn connected(why: &str) -> Reason {
    match why {
        "Connection refused" => Reason::Refused,
        "Connection timed out" | "Operation timed out" => Reason::TimedOut,
        "Name or service not known" | "Temporary failure in name resolution" | "No address associated with hostname" => {
            Reason::NotFound(why.into())
        }
        other => Reason::Unreachable(shown(other)),
    }
}

fn is_closed(line: &str) -> bool {
    line.starts_with("Connection closed by ") || line.starts_with("Connection reset by ")
}

/// An ssh says this when its jump has failed, for whatever reason.
fn is_weak(line: &str) -> bool {
    line.starts_with("kex_exchange_identification: ")
        || line.starts_with("banner exchange: ")
        || is_closed(line)
        || line.ends_with("during banner exchange")
}

/// What comes beside a reason.
fn is_noise(line: &str) -> bool {
    line.starts_with('@')
        || line.starts_with("Connection to ")
        || line.starts_with("Disconnected from ")
        || line.starts_with("Killed by signal ")
        || line.starts_with("Warning: Permanently added ")
        || line.starts_with("Add correct host key in ")
        || line.starts_with("  ")
        || line == "stdio forwarding failed"
}

/// Fit to be shown: no control characters, and not too long.
fn shown(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).take(SHOWN).collect()
}

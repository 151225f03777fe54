//! The configuration file of ssh(1), the only one it is given (ssh_config(5)): where each hop is, what its key is held against, and
//! nothing that executes, forwards or includes.
//!
//! Each hop is a `Host` of the target's name. A jump is an ssh of our own making with this very file, so the same rules hold for
//! it. A path that the format cannot hold is refused; nothing of a caller's is ever in this file.

use std::fmt::Write;

use camino::Utf8Path;

use super::address::Hop;
use super::askpass::Hop as Asking;
use super::{host_key, known};
use crate::config::HostKey;
use crate::fault::{Fault, code};
use crate::policy::command::quote;

/// After so many unanswered questions a link is lost; each is asked after a third of its time.
const ALIVE_COUNT: u32 = 3;

/// A file that holds no key.
const NOTHING: &str = "/dev/null";

/// What goes into the file.
#[derive(Debug)]
pub struct Page<'a> {
    /// The target last.
    pub hops: &'a [Hop],
    /// ssh, for jumps.
    pub program: &'a Utf8Path,
    /// This file.
    pub config: &'a Utf8Path,
    /// Where ssh says what it has to say.
    pub log: &'a str,
    /// Where a person's own files are.
    pub home: &'a Utf8Path,
    /// What a person trusted (`falconer ssh trust`).
    pub trusted: &'a Utf8Path,
    /// This program, as ssh calls it.
    pub called: &'a Utf8Path,
    /// Seconds to connect, to the end of the key exchange.
    pub connect_s: u64,
    /// Seconds of silence after which the link is lost.
    pub link_s: u32,
}

impl Page<'_> {
    /// The text.
    ///
    /// # Errors
    /// `target_unavailable`: a path that the format cannot hold.
    pub fn write(&self) -> Result<String, Fault> {
        let mut out = String::new();
        let mut before: Option<&Hop> = None;
        for (at, hop) in (1u64..).zip(self.hops) {
            self.hop(&mut out, hop, before)?;
            // It counts from the first byte of the first hop: the logins before its own are in it.
            let _ = writeln!(out, "  ConnectTimeout {}", self.connect_s.saturating_mul(at));
            before = Some(hop);
        }
        self.everywhere(&mut out);
        Ok(out)
    }

    fn hop(&self, out: &mut String, hop: &Hop, before: Option<&Hop>) -> Result<(), Fault> {
        let host = &hop.host;
        let name = &host.target.name;
        let _ = writeln!(out, "Host {name}");
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(out, "  {key} {value}");
        };
        // A zone stands behind a `%`, which begins a token here.
        line("HostName", &hop.to.replace('%', "%%"));
        line("HostKeyAlias", &host.known_as());
        line("BatchMode", if Asking::of(host).has_secrets() { "no" } else { "yes" });
        line("Port", &host.port.to_string());
        if let Some(user) = &host.user {
            line("User", &argument(user, name)?);
        }
        for identity in &host.identity {
            line("IdentityFile", &path(identity, name)?);
        }
        if !host.identity.is_empty() {
            line("IdentitiesOnly", "yes");
        }
        let trusted = path(self.trusted, name)?;
        let files = match &host.host_key {
            // Not by `~`: ssh takes that from the system's list of users, whatever HOME says.
            None => {
                let own = known::persons(self.home);
                format!("{} {} {trusted}", path(&own, name)?, path(Utf8Path::new(&format!("{own}2")), name)?)
            }
            Some(HostKey::KnownHosts(file)) => path(file, name)?,
            Some(HostKey::Pinned(_)) => String::new(),
        };
        line("UserKnownHostsFile", if files.is_empty() { NOTHING } else { &files });
        if host.host_key.is_some() {
            line("GlobalKnownHostsFile", NOTHING);
        }
        // It knows what is pinned, and tells of what is known otherwise.
        line("KnownHostsCommand", &format!("{} {} {name} %I %H %t %K {files}", path(self.called, name)?, host_key::COMMAND));
        if let Some(before) = before {
            line("ProxyCommand", &self.jump(before)?);
        }
        Ok(())
    }

    fn jump(&self, over: &Hop) -> Result<String, Fault> {
        let words =
            [self.program.as_str(), "-F", self.config.as_str(), "-E", self.log, "-W", "\u{1}", "--", over.host.target.name.as_str()];
        let quoted = quote::words(&words).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let quoted = quoted.ok_or_else(|| unheld(&over.host.target.name, self.config.as_str()))?;
        // What ssh(1) fills in is an address or a name that was judged.
        Ok(quoted.replace('%', "%%").replace("'\u{1}'", "'[%h]:%p'"))
    }

    fn everywhere(&self, out: &mut String) {
        let alive = (self.link_s / ALIVE_COUNT).max(1);
        let _ = write!(
            out,
            "Host *\n  StrictHostKeyChecking yes\n  CheckHostIP no\n  UpdateHostKeys no\n  VerifyHostKeyDNS no\n  HashKnownHosts no\n  \
             AddKeysToAgent no\n  NumberOfPasswordPrompts 1\n  ForwardAgent no\n  ForwardX11 no\n  ForwardX11Trusted no\n  \
             ClearAllForwardings yes\n  ExitOnForwardFailure yes\n  GatewayPorts no\n  Tunnel no\n  PermitLocalCommand no\n  \
             ControlMaster no\n  ControlPath none\n  ControlPersist no\n  ForkAfterAuthentication no\n  RequestTTY no\n  EscapeChar none\n  \
             StdinNull no\n  CanonicalizeHostname no\n  TCPKeepAlive yes\n  ConnectionAttempts 1\n  \
             ServerAliveInterval {alive}\n  ServerAliveCountMax {ALIVE_COUNT}\n  LogLevel DEBUG1\n"
        );
    }
}

/// A path as one argument of a line, `%` being itself.
fn path(path: &Utf8Path, target: &str) -> Result<String, Fault> {
    argument(&path.as_str().replace('%', "%%"), target)
}

/// One argument of a line. There is no way to write a control character, and `${` would be a variable.
fn argument(text: &str, target: &str) -> Result<String, Fault> {
    if text.chars().any(char::is_control) || text.contains("${") {
        return Err(unheld(target, text));
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn unheld(target: &str, text: &str) -> Fault {
    Fault::new(
        code::TARGET_UNAVAILABLE,
        format!("target `{target}`: `{}` cannot be written into a configuration of ssh", crate::config::inert(text)),
    )
    .hint("a person takes another path, without control characters and `${`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_to_the_format_is_quoted_or_refused() {
        assert_eq!(path(Utf8Path::new("/a b/100%/\"x\"\\"), "t").unwrap(), "\"/a b/100%%/\\\"x\\\"\\\\\"");
        for bad in ["/a\nProxyCommand x", "/${HOME}/x", "/a\r"] {
            assert_eq!(path(Utf8Path::new(bad), "t").unwrap_err().code, code::TARGET_UNAVAILABLE);
        }
    }
}

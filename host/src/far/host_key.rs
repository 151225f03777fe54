//! Host keys that are pinned by fingerprint: what ssh(1) asks by its option KnownHostsCommand (ssh_config(5)).
//!
//! The command is this program by its link ([`super::LINK`]), as `LINK host-key NAME %I %H %t %K FILE…`, NAME the target of that ssh.
//! It says that a key is known only where its fingerprint is among those in the file [`PINNED`] beside the link, and writes each key
//! that was offered into [`OFFERED`] there. Whatever fails, nothing is known, and ssh goes no further.
//!
//! The files are those of known keys that ssh looks into by itself. Where the key is in none of them, what they know under that name
//! is told in ssh's log, as is what is pinned: ssh tells of no fingerprint but the offered one.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use camino::Utf8Path;
use sha2::{Digest, Sha256};

use super::known;
use crate::base64::{from_base64, to_base64};
use crate::config::{Fingerprint, HostKey};
use crate::policy::inventory::Host;

/// The first argument.
pub const COMMAND: &str = "host-key";
/// Lines of a target's name and a fingerprint that is pinned for it.
pub const PINNED: &str = "pinned";
/// Lines of a target's name, the type of a key, and its fingerprint.
pub const OFFERED: &str = "offered";

/// A key that a machine offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The target's name.
    pub name: String,
    /// Such as `ssh-ed25519`.
    pub kind: String,
    /// `SHA256:…`
    pub fingerprint: String,
}

/// The fingerprint of a public key in the form of files of known keys, as ssh-keygen(1) `-l` shows it; none: it is no Base64.
#[must_use]
pub fn fingerprint(key: &str) -> Option<String> {
    let digest = Sha256::digest(from_base64(key).filter(|bytes| !bytes.is_empty())?);
    Some(format!("SHA256:{}", to_base64(&digest).trim_end_matches('=')))
}

/// Writes the pinned fingerprints of the hops of a way into the private directory of an ssh. Gives the names of those that have some:
/// their ssh is to be told of [`COMMAND`], and of no file of known keys.
///
/// # Errors
/// What the system says of the file.
pub fn write_pinned<'h>(dir: &Utf8Path, way: &[&'h Host]) -> std::io::Result<Vec<&'h str>> {
    let (mut text, mut names) = (String::new(), Vec::new());
    for host in way {
        if let Some(HostKey::Pinned(keys)) = &host.host_key {
            names.push(host.target.name.as_str());
            text.extend(keys.iter().map(|key| format!("{} {}\n", host.target.name, key.as_str())));
        }
    }
    if !names.is_empty() {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(PINNED))?;
        file.write_all(text.as_bytes())?;
    }
    Ok(names)
}

/// The keys that were offered to an ssh, in order, each once.
#[must_use]
pub fn offered(dir: &Utf8Path) -> Vec<Offered> {
    let text = std::fs::read_to_string(dir.join(OFFERED)).unwrap_or_default();
    let mut out: Vec<Offered> = Vec::new();
    for line in text.lines() {
        if let [name, kind, fingerprint] = line.split(' ').collect::<Vec<_>>()[..] {
            let one = Offered { name: name.into(), kind: kind.into(), fingerprint: fingerprint.into() };
            if !out.contains(&one) {
                out.push(one);
            }
        }
    }
    out
}

/// Answers one question about a key.
pub(super) fn main(dir: &Path, args: &[std::ffi::OsString]) -> ExitCode {
    let args: Option<Vec<&str>> = args.iter().map(|arg| arg.to_str()).collect();
    let line = args.and_then(|args| answer(dir, &args));
    match line.map(|line| std::io::stdout().write_all(line.as_bytes())) {
        Some(Err(_)) => ExitCode::FAILURE,
        Some(Ok(())) | None => ExitCode::SUCCESS,
    }
}

/// The line that makes the key known, where it is.
fn answer(dir: &Path, args: &[&str]) -> Option<String> {
    let &[name, _why, host, kind, key, ref files @ ..] = args else { return None };
    // `NONE`: ssh asks for the order in which it is to want the types (%I is ORDER), and has no key yet.
    let fingerprint = fingerprint(key).filter(|_| kind != "NONE")?;
    let plain = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
    if ![name, host, kind].into_iter().all(plain) {
        return None;
    }
    let mut log = std::fs::OpenOptions::new();
    if let Ok(mut log) = log.append(true).create(true).mode(0o600).open(dir.join(OFFERED)) {
        // What is not noted is missing in a message, no more.
        let _ = log.write_all(format!("{name} {kind} {fingerprint}\n").as_bytes());
    }
    let pinned = std::fs::read_to_string(dir.join(PINNED)).unwrap_or_default();
    let pinned: Vec<&str> =
        pinned.lines().filter_map(|line| line.split_once(' ')).filter(|(whose, _)| *whose == name).map(|(_, pin)| pin).collect();
    if Fingerprint::parse(&fingerprint).is_some() && pinned.contains(&fingerprint.as_str()) {
        return Some(format!("{host} {kind} {key}\n"));
    }
    for pin in pinned {
        super::note(dir, &format!("pinned {name} {pin}"));
    }
    if !files.iter().any(|file| known::mentions(Utf8Path::new(file), key)) {
        for entry in files.iter().flat_map(|file| known::entries(Utf8Path::new(file), host).unwrap_or_default()) {
            super::note(dir, &format!("known {name} {} in {}:{}", entry.fingerprint, entry.file, entry.line));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIG+sdJSIDakqw+//dj0UyBSGwDtq9RhRbk+8f5P4NVk9";
    /// As `ssh-keygen -l` shows it.
    const SHOWN: &str = "SHA256:V204vGykyeW/e5jo+u08skzc+fOn7r2kPGBNSklaOSw";

    #[test]
    fn a_fingerprint_is_that_of_ssh_keygen() {
        assert_eq!(fingerprint(KEY).as_deref(), Some(SHOWN));
        assert_eq!(fingerprint("no base64"), None);
        assert_eq!(fingerprint(""), None);
    }

    #[test]
    fn only_a_pinned_key_of_this_very_target_is_known() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let ask = |name: &str, kind: &str, key: &str| answer(dir, &[name, "HOSTNAME", "[web]:22", kind, key]);
        assert_eq!(ask("web", "ssh-ed25519", KEY), None, "nothing is pinned");
        std::fs::write(dir.join(PINNED), format!("other {SHOWN}\nweb SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE\n")).unwrap();
        assert_eq!(ask("web", "ssh-ed25519", KEY), None, "another target's, and another key");
        std::fs::write(dir.join(PINNED), format!("web SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE\nweb {SHOWN}\n")).unwrap();
        assert_eq!(ask("web", "ssh-ed25519", KEY).unwrap(), format!("[web]:22 ssh-ed25519 {KEY}\n"));
        assert_eq!(ask("web", "NONE", "NONE"), None);
        assert_eq!(ask("web", "ssh-ed25519\nx", KEY), None);
        assert_eq!(ask("we", "ssh-ed25519", KEY), None);
        assert_eq!(answer(dir, &["web", "HOSTNAME", "web"]), None);
        let one = |name: &str| Offered { name: name.into(), kind: "ssh-ed25519".into(), fingerprint: SHOWN.into() };
        assert_eq!(offered(Utf8Path::from_path(dir).unwrap()), [one("web"), one("we")]);
    }
}

//! Where a machine is, and who logs in: words of the file that end up in the arguments of other programs, so only plain ones pass.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Serialize, Serializer};

/// Where a machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// In digits.
    Ip(IpAddr),
    /// A link-local address and the interface on whose link it is (RFC 4007, section 11).
    Scoped(Ipv6Addr, String),
    /// A name that is looked up; lower case.
    Name(String),
}

impl Address {
    /// Reads an address: IPv4, IPv6 (also in brackets, also with a zone), or a host name. What is wrong comes as a message and
    /// the way out.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        const FORMS: &str = "write a host name, an IPv4 or an IPv6 address; the port has a key of its own";
        let wrong = || (format!("`{text}` is no address of a machine"), FORMS.to_owned());
        let bare = match text.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').filter(|inner| inner.contains(':')).ok_or_else(wrong)?,
            None => text,
        };
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        if let Some((ip, zone)) = bare.split_once('%') {
            let ip: Ipv6Addr = ip.parse().map_err(|_| wrong())?;
            // The kernel's names of interfaces: IFNAMSIZ is 16 with the final NUL.
            let named = (1..16).contains(&zone.len()) && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
            if !named || zone.starts_with(['-', '.']) {
                return Err((format!("`{zone}` is no name of an interface"), "write `fe80::1%eth0`".into()));
            }
            if !ip.is_unicast_link_local() {
                return Err((format!("`{ip}` is not link-local, and has no zone"), "leave the zone out".into()));
            }
            return Ok(Self::Scoped(ip, zone.to_owned()));
        }
        // RFC 1123, section 2.1, and `_`, which names in use have; the form that ssh(1) takes without doubt.
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let name = bare.strip_suffix('.').unwrap_or(bare);
        if (1..=253).contains(&name.len()) && name.split('.').all(label) {
            return Ok(Self::Name(name.to_ascii_lowercase()));
        }
        Err(match bare.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => {
                (format!("`{text}` is an address and a port"), format!("write `address = \"{host}\"` and `port = {port}`"))
            }
            _ => wrong(),
        })
    }
}

impl fmt::Display for Address {
    /// As ssh(1) takes it: no brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Scoped(ip, zone) => write!(f, "{ip}%{zone}"),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether this may be a login: no option, nothing that a shell or ssh's own `%` would see.
#[must_use]
pub fn is_user(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && !text.ends_with('\\')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+@\\-".contains(&byte))
}

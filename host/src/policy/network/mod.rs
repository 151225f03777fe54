//! The network rule: to which address may the host connect for a target.
//!
//! It judges addresses, never names: a name is looked up once ([`NetworkRule::resolve`]), all that comes is judged, and whoever
//! connects takes an address out of the answer, so nothing can turn between the look and the connection. `[network] block` beats
//! all; where there is an `allow`, an address must be in it. Beside these stands a [list](builtin) of ranges in which no machine
//! lies that one logs in to from afar: this machine itself, its link, the metadata services of clouds. One of them is opened by an
//! entry of `allow` that is as narrow, or by an inventory that gives the address in digits; never by a name that leads there. An
//! IPv4 address is judged as such in whatever IPv6 address it is wrapped. It fails closed: an answer of none but refused
//! addresses, or of none at all, is a fault.

mod builtin;
mod resolve;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

pub use resolve::{Checked, Way};

use super::command::Anything;
use crate::config::{Address, Config, Network};
use crate::fault::{Fault, code};

/// `[network]`, made ready.
#[derive(Debug)]
pub struct NetworkRule {
    allow: Option<Vec<IpNet>>,
    block: Vec<IpNet>,
    jump_names: Option<Vec<Anything>>,
}

/// What lets an address pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// `[network] allow`
    Allowed(IpNet),
    /// The inventory gives it in digits, and nothing blocks it.
    Written,
    /// Nothing blocks it.
    Free,
}

/// What refuses an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is refused by {by}")]
pub struct Blocked {
    /// The address.
    pub address: IpAddr,
    /// By what.
    pub by: Blocks,
}

/// By what an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// `[network] block`
    Range(IpNet),
    /// `[network] allow` is there, and the address is not in it.
    NotListed,
    /// The built-in list: the range, and what it is.
    BuiltIn(IpNet, &'static str),
}

/// How an address came to be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A person wrote it into the inventory in digits.
    Written,
    /// A name led there.
    LookedUp,
}

/// What can be said of an address before anything is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreseen {
    /// It is given in digits, and passes.
    Passes(Passes),
    /// It is a name, which is looked up and judged when something connects.
    LookedUp,
    /// It is a name that only a jump host looks up; it passes by its name.
    ByName,
}

impl fmt::Display for Foreseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passes(passes) => passes.fmt(f),
            Self::LookedUp => f.write_str("its name is looked up when it runs, and what comes is judged then"),
            Self::ByName => f.write_str("its name is looked up by the jump host, and passes as such"),
        }
    }
}

impl fmt::Display for Passes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(net) => write!(f, "network.allow: {net}"),
            Self::Written => f.write_str("the inventory gives this address, and nothing blocks it"),
            Self::Free => f.write_str("nothing blocks it"),
        }
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(net) => write!(f, "network.block: {net}"),
            Self::NotListed => f.write_str("network.allow, which does not name it"),
            Self::BuiltIn(net, what) => write!(f, "the built-in list: {net}, {what}"),
        }
    }
}

impl NetworkRule {
    /// The rule of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let Network { allow, block, jump_names, connect: _ } = &config.network;
        let names = jump_names.as_ref().map(|names| names.iter().map(Anything::new).collect());
        Self { allow: allow.clone(), block: block.clone(), jump_names: names }
    }

    /// Judges one address.
    pub fn judge(&self, address: IpAddr, origin: Origin) -> Result<Passes, Blocked> {
        let address = address.to_canonical();
        let mut verdict = self.judge_one(address, origin)?;
        // The wrapper does not open what the address inside could not; nor is what is inside asked to be listed.
        for inside in embedded(address) {
            if let Some(net) = self.block.iter().find(|net| net.contains(&inside)) {
                return Err(Blocked { address, by: Blocks::Range(*net) });
            }
            if let Some((net, what)) = builtin::range(inside)
                && !self.opens(inside, net)
            {
                return Err(Blocked { address, by: Blocks::BuiltIn(net, what) });
            }
            if verdict == Passes::Written {
                verdict = Passes::Free;
            }
        }
        Ok(verdict)
    }

    fn judge_one(&self, address: IpAddr, origin: Origin) -> Result<Passes, Blocked> {
        let blocked = |by| Err(Blocked { address, by });
        if let Some(net) = self.block.iter().find(|net| net.contains(&address)) {
            return blocked(Blocks::Range(*net));
        }
        let listed = match &self.allow {
            None => None,
            // The narrowest that fits says most.
            Some(allow) => match allow.iter().filter(|net| net.contains(&address)).max_by_key(|net| net.prefix_len()) {
                Some(net) => Some(*net),
                None => return blocked(Blocks::NotListed),
            },
        };
        if let Some((net, what)) = builtin::range(address)
            && origin == Origin::LookedUp
            && !self.opens(address, net)
        {
            return blocked(Blocks::BuiltIn(net, what));
        }
        Ok(match (listed, origin) {
            (Some(net), _) => Passes::Allowed(net),
            (None, Origin::Written) => Passes::Written,
            (None, Origin::LookedUp) => Passes::Free,
        })
    }

    /// Whether an entry of `allow` opens a built-in range here: one that means it, not one that happens to hold it (`0.0.0.0/0`).
    fn opens(&self, address: IpAddr, range: IpNet) -> bool {
        let mut allow = self.allow.iter().flatten();
        allow.any(|net| net.contains(&address) && range.contains(net))
    }

    /// Says what can be said of an address now. `behind_jump`: another machine connects to it.
    ///
    /// # Errors
    /// `address_not_allowed`, as when something connects.
    pub fn foresee(&self, address: &Address, behind_jump: bool) -> Result<Foreseen, Fault> {
        let ip = match address {
            Address::Ip(ip) => *ip,
            Address::Scoped(ip, _) => IpAddr::V6(*ip),
            Address::Name(name) if behind_jump => return self.judge_name(name).map(|()| Foreseen::ByName),
            Address::Name(_) => return Ok(Foreseen::LookedUp),
        };
        self.judge(ip, Origin::Written).map(Foreseen::Passes).map_err(|blocked| refused(&blocked, blocked.to_string()))
    }

    /// Judges a name that only a jump host can look up: by the name alone, and whoever uses it says so in the receipt.
    pub fn judge_name(&self, name: &str) -> Result<(), Fault> {
        let name = name.to_ascii_lowercase();
        match &self.jump_names {
            Some(patterns) if !patterns.iter().any(|pattern| pattern.is_match(&name)) => Err(Fault::new(
                code::ADDRESS_NOT_ALLOWED,
                format!("`{name}` is looked up by a jump host, and network.jump_names does not name it"),
            )
            .hint("a person adds the name to `jump_names` under [network], or gives the target's address in digits")),
            _ => Ok(()),
        }
    }
}

fn refused(blocked: &Blocked, message: String) -> Fault {
    Fault::new(code::ADDRESS_NOT_ALLOWED, message)
        .hint(format!("a person adds `{}` to `allow` under [network], or mends the target's address", blocked.address))
}

/// The IPv4 addresses that an IPv6 address leads to on its way.
fn embedded(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(six) = address else { return Vec::new() };
    let parts = six.segments();
    let four = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match parts {
        // RFC 4291, 2.5.5.1: "IPv4-compatible", long out of use. `::` and `::1` are none.
        [0, 0, 0, 0, 0, 0, high, low] if six != Ipv6Addr::UNSPECIFIED && six != Ipv6Addr::LOCALHOST => vec![four(high, low)],
        // RFC 6052: the well-known prefix of NAT64.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => vec![four(high, low)],
        // RFC 3056: 6to4.
        [0x2002, high, low, ..] => vec![four(high, low)],
        // RFC 5214: ISATAP.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => vec![four(high, low)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;

//! `[network]`: which addresses the host may connect to for a target.
//!
//! What is not said has the defaults of [`crate::policy`]'s network rule, which judges.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use serde::{Serialize, Serializer};

use super::defaults::CONNECT;
use super::document::Section;
use super::pattern::Pattern;

/// `[network]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Only these, also where the built-in list blocks them; none: any that nothing blocks. An empty list is "none at all".
    #[serde(serialize_with = "some_ranges")]
    pub allow: Option<Vec<IpNet>>,
    /// Never these, whatever allows them.
    #[serde(serialize_with = "ranges")]
    pub block: Vec<IpNet>,
    /// Patterns for names that only a jump host looks up; none: any name of the inventory.
    pub jump_names: Option<Vec<Pattern>>,
    /// How long connecting may take, to the end of the key exchange.
    pub connect: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self { allow: None, block: Vec::new(), jump_names: None, connect: CONNECT.default }
    }
}

fn ranges<S: Serializer>(ranges: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ranges.iter().map(ToString::to_string))
}

fn some_ranges<S: Serializer>(some: &Option<Vec<IpNet>>, serializer: S) -> Result<S::Ok, S::Error> {
    some.as_ref().map(|ranges| ranges.iter().map(ToString::to_string).collect::<Vec<_>>()).serialize(serializer)
}

/// Reads the section.
pub(super) fn read(top: &Section<'_, '_>) -> Network {
    let Some(section) = top.section("network") else { return Network::default() };
    let list = |key: &'static str| {
        let written = section.strings(key)?;
        Some(written.into_iter().filter_map(|(text, span)| range(&section, &text, span)).collect::<Vec<_>>())
    };
    let allow = list("allow");
    let block = list("block").unwrap_or_default();
    let jump_names = section.strings("jump_names").map(|names| {
        let read = names.into_iter().filter_map(|(text, span)| {
            // Names are lower case where they are judged; in a regular expression case may mean something else (`\D`).
            let text = if text.starts_with("re:") { text } else { text.to_ascii_lowercase() };
            Pattern::parse(&text).map_err(|(message, hint)| section.reading.problem(span, message, hint)).ok()
        });
        read.collect()
    });
    let connect = section.duration("connect", CONNECT).unwrap_or(CONNECT.default);
    section.close(|key| match key {
        "allow_ips" | "allow_cidrs" | "allowed" => Some("write `allow = [\"10.0.0.0/8\"]`".into()),
        "block_ips" | "block_cidrs" | "deny" | "blocked" => Some("write `block = [\"10.0.0.0/8\"]`".into()),
        _ => None,
    });
    Network { allow, block, jump_names, connect }
}

fn range(section: &Section<'_, '_>, text: &str, span: Range<usize>) -> Option<IpNet> {
    const FORMS: &str = "write `10.0.0.0/8`, `192.0.2.7`, `2001:db8::/32` or `::1`; a name is looked up, and has no place here";
    let reading = section.reading;
    let net = match text.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip),
        Err(_) => match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => {
                reading.problem(span, format!("`{text}` is no address and no range"), FORMS);
                return None;
            }
        },
    };
    if net.addr() != net.network() {
        reading.problem(
            span,
            format!("`{text}` names an address within a range"),
            format!("write `{}` for the range, or the address alone", net.trunc()),
        );
        return None;
    }
    // An IPv4 address is judged as such, however it is written: so is a range of them.
    Some(match net {
        IpNet::V6(six) if six.prefix_len() >= 96 => match six.addr().to_ipv4_mapped() {
            Some(four) => Ipv4Net::new(four, six.prefix_len() - 96).map_or(net, IpNet::V4),
            None => net,
        },
        net => net,
    })
}

//! Looking a name up, once.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Blocked, NetworkRule, Origin, Passes};
use crate::config::Address;
use crate::fault::{Fault, code};

/// How long a look-up may take. The system's own resolver gives up after 5 s a server (resolv.conf(5)).
pub const LOOKUP: Duration = Duration::from_secs(15);
/// So many addresses of a name are judged; who has more is no machine.
const MOST: usize = 32;

/// An address that was judged. Only this module makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    socket: SocketAddr,
    rule: Passes,
}

impl Checked {
    /// To connect to, and to nothing else. An IPv4 address is one, however it was given; a zone is a number.
    #[must_use]
    pub const fn socket(&self) -> SocketAddr {
        self.socket
    }

    /// The address as programs such as ssh(1) take it, without the port: digits alone, so that nothing is looked up again.
    #[must_use]
    pub fn host(&self) -> String {
        match self.socket {
            SocketAddr::V6(six) if six.scope_id() != 0 => format!("{}%{}", six.ip(), six.scope_id()),
            socket => socket.ip().to_string(),
        }
    }

    /// What lets it pass.
    #[must_use]
    pub const fn rule(&self) -> Passes {
        self.rule
    }
}

/// Where a target may be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The address to take.
    pub first: Checked,
    /// Others of the same name, in the resolver's order, where the first does not answer.
    pub others: Vec<Checked>,
    /// What the name also led to, and was refused.
    pub refused: Vec<Blocked>,
}

impl NetworkRule {
    /// Looks an address up where it is a name (once; tokio's resolver, which is the system's), judges all that comes, and gives
    /// what may be connected to.
    ///
    /// # Errors
    /// `address_not_allowed` with the rule where none may; `host_not_found` where the name leads nowhere.
    pub async fn resolve(&self, address: &Address, port: u16) -> Result<Way, Fault> {
        let origin = if matches!(address, Address::Name(_)) { Origin::LookedUp } else { Origin::Written };
        let found: Vec<SocketAddr> = match address {
            Address::Ip(ip) => vec![SocketAddr::new(*ip, port)],
            // The name of an interface becomes its number.
            Address::Scoped(..) | Address::Name(_) => lookup(&address.to_string(), port).await?,
        };
        self.choose(&address.to_string(), found, origin)
    }

    fn choose(&self, what: &str, found: Vec<SocketAddr>, origin: Origin) -> Result<Way, Fault> {
        let (mut passed, mut refused) = (Vec::new(), Vec::new());
        for mut socket in found.into_iter().take(MOST) {
            socket.set_ip(socket.ip().to_canonical());
            match self.judge(socket.ip(), origin) {
                Ok(rule) => passed.push(Checked { socket, rule }),
                Err(blocked) => refused.push(blocked),
            }
        }
        passed.dedup_by_key(|checked| checked.socket);
        let mut passed = passed.into_iter();
        match (passed.next(), refused.first()) {
            (Some(first), _) => Ok(Way { first, others: passed.collect(), refused }),
            (None, Some(blocked)) => {
                let message = match origin {
                    Origin::Written => blocked.to_string(),
                    Origin::LookedUp => format!("`{what}` leads to {}, which is refused by {}", blocked.address, blocked.by),
                };
                Err(super::refused(blocked, message))
            }
            (None, None) => Err(nowhere(what, "it has no address")),
        }
    }
}

fn nowhere(what: &str, why: &str) -> Fault {
    Fault::new(code::HOST_NOT_FOUND, format!("`{what}` is not found: {why}"))
        .hint("a person mends the target's `address`, or names a `jump` that can look it up; or the name service is down")
        .retryable()
}

async fn lookup(name: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
    match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((name, port))).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(nowhere(name, &crate::config::inert(&error.to_string()))),
        Err(_) => Err(nowhere(name, "no answer came in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Blocks;
    use super::super::tests::rule;
    use super::*;

    fn sockets(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 22)).collect()
    }

    #[test]
    fn the_first_that_may_is_taken_and_the_others_are_told() {
        let way = rule("")
            .choose("x.example", sockets(&["169.254.169.254", "203.0.113.7", "::ffff:203.0.113.7", "2001:db8::1"]), Origin::LookedUp)
            .unwrap();
        assert_eq!((way.first.host().as_str(), way.first.rule()), ("203.0.113.7", Passes::Free));
        assert_eq!(way.others.iter().map(Checked::host).collect::<Vec<_>>(), ["2001:db8::1"]);
        assert_eq!(way.refused.len(), 1);
        assert!(matches!(way.refused[0].by, Blocks::BuiltIn(_, "a cloud's metadata service")));
    }

    #[test]
    fn a_name_that_leads_only_where_it_may_not_is_refused_with_the_rule() {
        let fault =
            rule("block = ['203.0.113.0/24']").choose("x.example", sockets(&["203.0.113.7", "127.0.0.1"]), Origin::LookedUp).unwrap_err();
        assert_eq!(fault.code, code::ADDRESS_NOT_ALLOWED);
        assert_eq!(fault.message, "`x.example` leads to 203.0.113.7, which is refused by network.block: 203.0.113.0/24");
        let none = rule("").choose("x.example", Vec::new(), Origin::LookedUp).unwrap_err();
        assert!(none.code == code::HOST_NOT_FOUND && none.retryable);
    }

    #[tokio::test]
    async fn digits_are_not_looked_up_and_names_are_judged_by_where_they_lead() {
        let address = |text| Address::parse(text).unwrap();
        let free = rule("");
        let written = free.resolve(&address("127.0.0.2"), 2222).await.unwrap();
        assert_eq!((written.first.socket(), written.first.rule()), ("127.0.0.2:2222".parse().unwrap(), Passes::Written));
        // `localhost` is known without a name service; 2130706433 and 127.1 are 127.0.0.1 to the system's resolver (inet_aton(3)).
        for name in ["localhost", "2130706433", "127.1", "0x7f000001"] {
            let fault = free.resolve(&address(name), 22).await.unwrap_err();
            assert_eq!(fault.code, code::ADDRESS_NOT_ALLOWED, "{name}: {fault}");
        }
        let open = rule("allow = ['127.0.0.0/8', '::1']").resolve(&address("localhost"), 22).await.unwrap();
        assert!(open.first.socket().ip().is_loopback());
        let gone = free.resolve(&address("name.invalid"), 22).await.unwrap_err();
        assert_eq!(gone.code, code::HOST_NOT_FOUND);
    }

    #[tokio::test]
    async fn a_zone_becomes_the_number_of_its_interface() {
        let way = rule("").resolve(&Address::parse("fe80::1%lo").unwrap(), 22).await.unwrap();
        assert_eq!((way.first.host().as_str(), way.first.rule()), ("fe80::1%1", Passes::Written));
        assert!(rule("").resolve(&Address::parse("fe80::1%nosuch0").unwrap(), 22).await.is_err());
        assert!(rule("block = ['fe80::/10']").resolve(&Address::parse("fe80::1%lo").unwrap(), 22).await.is_err());
    }
}

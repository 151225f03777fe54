//! Where the hops of a way are: looked up once, judged, and kept as digits.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Address;
use crate::fault::{Fault, code};
use crate::policy::Policy;
use crate::policy::inventory::Host;
use crate::policy::network::{Checked, Origin, Way};

/// Where a name leads to several machines: how long each is given to answer before the next is tried.
const ANSWER: Duration = Duration::from_secs(3);

/// A machine on the way, and where ssh is to connect for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// As the inventory has it.
    pub host: Host,
    /// Digits; behind a jump the name that only the jump can look up.
    pub to: String,
}

/// The hops of the way to a target, the target last. `known`: where the first one is, if it was looked up before. The first is resolved here; what is behind it is judged by its digits, or by
/// its name where it is one.
pub async fn hops(policy: &Policy, target: &str, known: Option<String>) -> Result<Vec<Hop>, Fault> {
    let way = policy.inventory().way(target)?;
    let mut hops = Vec::with_capacity(way.len());
    for (at, host) in way.into_iter().enumerate() {
        let to = if at == 0
            && let Some(known) = known.as_ref().filter(|known| still_allowed(policy, known, &host.address))
        {
            known.clone()
        } else if at == 0 {
            let found = policy.network().resolve(&host.address, host.port).await?;
            answering(found).await.host()
        } else {
            behind_a_jump(policy, host)?
        };
        hops.push(Hop { host: host.clone(), to });
    }
    Ok(hops)
}

/// The address that the run went to before is judged again, as it was found.
fn still_allowed(policy: &Policy, known: &str, written: &Address) -> bool {
    let origin = if matches!(written, Address::Name(_)) { Origin::LookedUp } else { Origin::Written };
    let bare = known.split('%').next().unwrap_or(known);
    bare.parse().is_ok_and(|ip| policy.network().judge(ip, origin).is_ok())
}

fn behind_a_jump(policy: &Policy, host: &Host) -> Result<String, Fault> {
    match &host.address {
        Address::Ip(ip) => {
            policy.network().judge(*ip, Origin::Written).map_err(|blocked| {
                Fault::new(code::ADDRESS_NOT_ALLOWED, format!("target `{}`: {}", host.target.name, blocked))
                    .hint("a person changes [network], or the target's address")
            })?;
            Ok(ip.to_string())
        }
        Address::Scoped(..) => Err(Fault::new(
            code::TARGET_UNAVAILABLE,
            format!("target `{}` is behind a jump, where the interface of its address means nothing", host.target.name),
        )
        .hint("a person gives it another address, or takes its `jump` out")),
        Address::Name(name) => {
            policy.network().judge_name(name)?;
            Ok(name.clone())
        }
    }
}

/// Of several addresses the first that takes a connection; where none does, the first, so that its failure is told.
async fn answering(found: Way) -> Checked {
    if found.others.is_empty() {
        return found.first;
    }
    for checked in std::iter::once(&found.first).chain(&found.others) {
        let socket: SocketAddr = checked.socket();
        if let Ok(Ok(_)) = timeout(ANSWER, TcpStream::connect(socket)).await {
            return *checked;
        }
    }
    found.first
}

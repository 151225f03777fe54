//! A way to a far machine that can be cut: its packets vanish, and nobody is told.
//!
//! ```text
//! here ──veth── router ──veth── far end
//! ```
//!
//! Router and far end are network namespaces. A cut takes the router's leave to forward: the kernel drops what passes without a word
//! (no RST, no ICMP), both ways, and the interfaces of both ends stay up. Addresses are of 198.18.0.0/15, which is for such benches
//! (RFC 2544).

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{links_available, tool};

/// A network namespace, held by a process that ends with the test.
#[derive(Debug)]
struct Network {
    holder: Child,
}

impl Network {
    fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "ip link set lo up; echo ready; read -r never"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "a network namespace");
        Self { holder }
    }

    fn file(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    /// Runs a script in it.
    fn run(&self, script: &str) {
        tool(Command::new("nsenter").arg(format!("--net={}", self.file().display())).args(["--", "sh", "-ec", script]));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// The link, whole at first.
#[derive(Debug)]
pub struct Link {
    router: Network,
    far: Network,
    address: Ipv4Addr,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Link {
    /// None where networks cannot be made; that is said.
    pub fn new(test: &str) -> Option<Self> {
        if !links_available(test) {
            return None;
        }
        let (router, far) = (Network::new(), Network::new());
        // 16384 blocks of eight addresses; another test may have ours.
        let first = std::process::id().wrapping_mul(37);
        for _ in 0..50 {
            let block = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 16_384;
            if let Some(address) = Self::lay(&router, &far, block) {
                return Some(Self { router, far, address });
            }
        }
        panic!("no free addresses for a link");
    }

    fn lay(router: &Network, far: &Network, block: u32) -> Option<Ipv4Addr> {
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + block * 8;
        let [here, near, beyond, end] = [1, 2, 5, 6].map(|host| Ipv4Addr::from(base + host));
        let device = format!("falconer{block}");
        let made = Command::new("ip")
            .args(["link", "add", &device, "type", "veth", "peer", "name", "near", "netns", &router.holder.id().to_string()])
            .output()
            .unwrap();
        if !made.status.success() {
            return None;
        }
        let net = Ipv4Addr::from(base + 4);
        tool(
            Command::new("sh")
                .args(["-ec", &format!("ip addr add {here}/30 dev {device}; ip link set {device} up; ip route add {net}/30 via {near}")]),
        );
        router.run(&format!(
            "ip addr add {near}/30 dev near; ip link set near up
             ip link add beyond type veth peer name end netns {}; ip addr add {beyond}/30 dev beyond; ip link set beyond up",
            far.holder.id()
        ));
        far.run(&format!("ip addr add {end}/30 dev end; ip link set end up; ip route add default via {beyond}"));
        forward(router, true);
        Some(end)
    }

    /// Where the far end listens.
    pub fn address(&self) -> IpAddr {
        self.address.into()
    }
    /// The far end's network namespace.
    pub(super) fn network(&self) -> PathBuf {
        self.far.file()
    }

    /// From now on every packet vanishes, both ways.
    pub fn cut(&self) {
        forward(&self.router, false);
    }
    /// From now on packets pass again; what was lost is sent again by the ends, as TCP does.
    pub fn restore(&self) {
        forward(&self.router, true);
    }
}

/// In containers /proc/sys can be read-only; one's own mount of proc is not.
fn forward(router: &Network, on: bool) {
    let set = format!("echo {} >/proc/sys/net/ipv4/ip_forward", u8::from(on));
    router.run(&format!("({set}) 2>/dev/null || unshare --mount sh -ec 'mount -t proc proc /proc; {set}'"));
}

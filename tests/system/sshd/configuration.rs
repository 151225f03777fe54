//! `falconer.toml` for runs at far machines, as text for [`crate::host::Host::with`].

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::{Key, Sshd};

/// A string of TOML; JSON writes it the same way.
fn text(value: &str) -> String {
    serde_json::to_string(value).unwrap()
}
fn list<T: AsRef<str>>(values: &[T]) -> String {
    format!("[{}]", values.iter().map(|value| text(value.as_ref())).collect::<Vec<_>>().join(", "))
}

/// One `[[targets]]`.
pub struct Target {
    lines: Vec<(String, String)>,
}

impl Target {
    /// Of a machine whose key is known under its address; root logs in, with the machine's own key.
    pub fn of(name: &str, sshd: &Sshd) -> Self {
        Self::at(name, sshd.socket()).user("root").identity(&sshd.key).known_hosts(&sshd.known_hosts())
    }
    /// Of an address; nothing else is said.
    pub fn at(name: &str, address: SocketAddr) -> Self {
        Self::named(name).address(&address.ip().to_string()).key("port", &address.port().to_string())
    }
    /// Of a name alone.
    pub fn named(name: &str) -> Self {
        Self { lines: Vec::new() }.key("name", &text(name))
    }
    /// Any key, with its value as TOML has it; it replaces an earlier one.
    pub fn key(mut self, key: &str, value: &str) -> Self {
        self = self.without(key);
        self.lines.push((key.into(), value.into()));
        self
    }
    pub fn without(mut self, key: &str) -> Self {
        self.lines.retain(|(is, _)| is != key);
        self
    }
    pub fn address(self, address: &str) -> Self {
        self.key("address", &text(address))
    }
    pub fn user(self, user: &str) -> Self {
        self.key("user", &text(user))
    }
    pub fn tags(self, tags: &[&str]) -> Self {
        self.key("tags", &list(tags))
    }
    pub fn identity(self, key: &Key) -> Self {
        self.key("identity", &text(key.file().to_str().unwrap()))
    }
    pub fn jump(self, target: &str) -> Self {
        self.key("jump", &text(target))
    }
    pub fn known_hosts(self, file: &Path) -> Self {
        self.without("fingerprint").key("known_hosts", &text(file.to_str().unwrap()))
    }
    pub fn fingerprint(self, fingerprints: &[String]) -> Self {
        self.without("known_hosts").key("fingerprint", &list(fingerprints))
    }
}

/// The file: root's keys, then tables in the order of the calls.
pub struct Configuration {
    text: String,
}

impl Configuration {
    /// Where programs are, short stops, and nothing that is far away.
    pub fn new() -> Self {
        let usual = "path = [\"/usr/local/bin\", \"/usr/bin\", \"/bin\"]\n\n[stop]\nask = \"20 s\"\nterminate = \"1 s\"\n\n[host]\nruns = 500\ncall = \"10 s\"\n\n";
        Self { text: usual.into() }
    }

    pub fn target(mut self, target: Target) -> Self {
        self.text.push_str("[[targets]]\n");
        for (key, value) in target.lines {
            let _ = writeln!(self.text, "{key} = {value}");
        }
        self
    }

    /// A rule for all targets that allows these lists.
    pub fn allow<L: AsRef<[&'static str]>>(self, lists: &[L]) -> Self {
        let lists: Vec<String> = lists.iter().map(|of| list(of.as_ref())).collect();
        self.table(&format!("[[rules]]\ntargets = [\"*\"]\nallow = [{}]\ncwd = [\"/**\"]\nenv = [\"*\"]", lists.join(", ")))
    }
    /// A rule for all targets that allows any shell line.
    pub fn any_line(self) -> Self {
        self.table(
            "[[rules]]\ntargets = [\"*\"]\nshell = true\ncontrol_characters = true\nallow = ['re:(?s).*']\ncwd = [\"/**\"]\nenv = [\"*\"]",
        )
    }
    /// Any tables, as TOML has them.
    pub fn table(mut self, text: &str) -> Self {
        let _ = writeln!(self.text, "{}\n", text.trim());
        self
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

//! Keys as `ssh-keygen` makes them, certificates, and an agent of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{directory, tool};
use crate::patience::until;

/// What a key is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ed25519,
    Rsa,
    Ecdsa,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Ed25519, Self::Rsa, Self::Ecdsa];

    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Ed25519 => ["-t", "ed25519", "-a", "4"],
            Self::Rsa => ["-t", "rsa", "-b", "2048"],
            Self::Ecdsa => ["-t", "ecdsa", "-b", "256"],
        }
    }
}

/// A pair of keys in files, gone with it.
#[derive(Debug)]
pub struct Key {
    dir: TempDir,
}

impl Key {
    pub fn new(kind: Kind) -> Self {
        Self::encrypted(kind, "")
    }

    /// With a passphrase.
    pub fn encrypted(kind: Kind, passphrase: &str) -> Self {
        let dir = directory("falconer-key-");
        let file = dir.path().join("key");
        tool(Command::new("ssh-keygen").args(["-q", "-C", "falconer-tests", "-N", passphrase, "-f"]).arg(file).args(kind.arguments()));
        Self { dir }
    }

    /// The private key's file.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("key")
    }
    /// The public key: type, key, comment.
    pub fn public(&self) -> String {
        fs::read_to_string(self.dir.path().join("key.pub")).unwrap().trim_end().to_owned()
    }
    /// Type and key, as known_hosts has them.
    pub fn bare(&self) -> String {
        self.public().splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ")
    }
    /// `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        let line = tool(Command::new("ssh-keygen").arg("-lf").arg(self.dir.path().join("key.pub")));
        line.split(' ').nth(1).unwrap().to_owned()
    }

    /// As an authority: certifies another key for these users. The certificate lies beside that key, where ssh finds it.
    pub fn certify(&self, key: &Self, principals: &str) -> PathBuf {
        let public = key.dir.path().join("key.pub");
        tool(Command::new("ssh-keygen").args(["-q", "-I", "falconer-tests", "-n", principals, "-s"]).arg(self.file()).arg(public));
        key.dir.path().join("key-cert.pub")
    }
}

/// A real `ssh-agent` with a socket of its own. It ends with the test, in whatever way that ends: it hangs on a pipe.
#[derive(Debug)]
pub struct Agent {
    dir: TempDir,
    leash: Child,
}

impl Agent {
    pub fn start() -> Self {
        let dir = directory("falconer-agent-");
        let socket = dir.path().join("agent");
        let script = r#"ssh-agent -D -a "$1" >/dev/null 2>&1 & agent=$!; read -r never; kill $agent; wait $agent"#;
        let leash = Command::new("sh").args(["-c", script, "agent"]).arg(&socket).stdin(Stdio::piped()).spawn().unwrap();
        until("the agent's socket", || socket.exists().then_some(()));
        Self { dir, leash }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// Takes a key that has no passphrase, and its certificate where there is one.
    pub fn add(&self, key: &Key) {
        tool(self.command("ssh-add").arg("-q").arg(key.file()));
    }

    /// The fingerprints of what it holds.
    pub fn list(&self) -> String {
        tool(self.command("ssh-add").arg("-l"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SSH_AUTH_SOCK", self.socket());
        command
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        let _ = self.leash.wait();
    }
}

/// A script that prints a secret, as SSH_ASKPASS wants it.
pub fn askpass(dir: &Path, secret: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let (text, script) = (dir.join("secret"), dir.join("askpass"));
    fs::write(&text, format!("{secret}\n")).unwrap();
    fs::write(&script, format!("#!/bin/sh\ncat '{}'\n", text.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    script
}

//! The plain OpenSSH client, without Falconer: proves far machines, and is what Falconer is measured beside.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use super::keys::askpass;
use super::{Agent, Key, Sshd, directory};

/// How it is called; nothing of the person's own ssh files counts.
pub struct Bare {
    dir: Arc<TempDir>,
    user: String,
    host: String,
    port: u16,
    options: Vec<String>,
    agent: Option<PathBuf>,
    secret: Option<PathBuf>,
}

impl Bare {
    /// Of root at a machine whose key is known, with the machine's own key.
    pub fn to(sshd: &Sshd) -> Self {
        Self::at(sshd.socket()).known(&sshd.known()).identity(&sshd.key)
    }

    /// Of root at an address; knows nothing and has nothing.
    pub fn at(address: SocketAddr) -> Self {
        let dir = Arc::new(directory("falconer-bare-"));
        let known = dir.path().join("known_hosts");
        fs::write(&known, "").unwrap();
        let mut options: Vec<String> =
            ["StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", "NumberOfPasswordPrompts=1", "IdentityFile=none"]
                .map(Into::into)
                .into();
        options.push(format!("UserKnownHostsFile={}", known.display()));
        Self { dir, user: "root".into(), host: address.ip().to_string(), port: address.port(), options, agent: None, secret: None }
    }

    /// These lines of known_hosts, and no others.
    pub fn known(self, lines: &str) -> Self {
        fs::write(self.dir.path().join("known_hosts"), lines).unwrap();
        self
    }
    pub fn user(self, user: &str) -> Self {
        Self { user: user.into(), ..self }
    }
    /// By a name instead of the address; it is the name of the host key too.
    pub fn host(self, host: &str) -> Self {
        Self { host: host.into(), ..self }
    }
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.into());
        self
    }
    /// With this key alone.
    pub fn identity(mut self, key: &Key) -> Self {
        self.options.retain(|option| !option.starts_with("IdentityFile="));
        let file = format!("IdentityFile={}", key.file().display());
        self.option(&file).option("IdentitiesOnly=yes")
    }
    /// With what an agent has, and no file.
    pub fn agent(mut self, agent: &Agent) -> Self {
        self.options.retain(|option| !option.starts_with("Identit"));
        self.agent = Some(agent.socket());
        self.option("IdentityFile=none")
    }
    /// With the password of `far`, told by an askpass, and no key.
    pub fn password(self, sshd: &Sshd) -> Self {
        self.secret(sshd.password()).user("far").option("PreferredAuthentications=password")
    }
    /// With an askpass that says this to whatever is asked.
    pub fn secret(self, secret: &str) -> Self {
        let script = askpass(self.dir.path(), secret);
        Self { secret: Some(script), ..self }
    }
    /// Over another one.
    pub fn jump(self, over: &Self) -> Self {
        let words: Vec<String> = over.arguments(&["-W", "[%h]:%p"]).iter().map(|word| format!("'{word}'")).collect();
        // ssh gives it to the shell behind an `exec` of its own.
        let proxy = format!("ProxyCommand=ssh {}", words.join(" "));
        self.option(&proxy)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = ["-F", "none", "-T", "-p"].map(Into::into).into();
        arguments.push(self.port.to_string());
        for option in &self.options {
            arguments.extend(["-o".into(), option.clone()]);
        }
        arguments.extend(more.iter().map(ToString::to_string));
        arguments.extend(["--".into(), format!("{}@{}", self.user, self.host)]);
        arguments
    }

    /// The client with a line for the far shell.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(self.arguments(&[]))
            .arg(line)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null());
        if let Some(agent) = &self.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        if let Some(script) = &self.secret {
            command.env("SSH_ASKPASS", script).env("SSH_ASKPASS_REQUIRE", "force");
        }
        command
    }

    /// Runs it to its end.
    pub fn output(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What the far end says, when all goes well.
    #[track_caller]
    pub fn says(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(output.status.success(), "{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Why ssh itself fails.
    #[track_caller]
    pub fn fails(&self) -> String {
        let output = self.output("echo let in");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(255), &b""[..]), "{said}");
        said
    }

    /// Starts it, to be watched; it is killed with the guard.
    pub fn start(&self, line: &str) -> Running {
        let child = self.command(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Running(child, Arc::clone(&self.dir))
    }
}

/// A client that runs, with the files it reads; killed when dropped.
pub struct Running(pub Child, #[expect(dead_code, reason = "held for its files")] Arc<TempDir>);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! Far machines for tests: real sshd, each in namespaces of its own, with users, keys and networks as a test wants them.
//!
//! An [`Sshd`] sees its own `/etc/passwd`, `/etc/hosts`, `/run` and processes, so it can have any login shell, a user with a
//! password, and names that nobody else can look up, and the real machine keeps nothing of it. When its test ends, in whatever way,
//! its first process reads the end of a pipe and the kernel ends all others with it. What cannot be had here (no root, no
//! namespaces, no sshd) leaves the tests out, which say so; `FALCONER_TESTS_REQUIRE=all` makes them fail instead.

pub mod bare;
pub mod configuration;
pub mod far;
pub mod keys;
pub mod link;
pub mod nowhere;
pub mod server;
mod tests;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::fetched::left_out;

pub use bare::Bare;
pub use configuration::{Configuration, Target};
pub use keys::{Agent, Key, Kind};
pub use link::Link;
pub use server::{Setup, Sshd};

/// A shell that an account logs in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shell {
    Dash,
    Bash,
    /// `ash` of busybox.
    Ash,
    Mksh,
    Zsh,
    /// Any other program, by its path.
    Other(PathBuf),
}

impl Shell {
    /// Those that Falconer is tested with.
    pub const ALL: [Self; 5] = [Self::Dash, Self::Bash, Self::Ash, Self::Mksh, Self::Zsh];

    /// The program, as `tests/fetch` installs it. busybox knows its part by the name it is called: that is made per machine.
    fn program(&self) -> &Path {
        let name = match self {
            Self::Dash => "/bin/dash",
            Self::Bash => "/bin/bash",
            Self::Ash => "/bin/busybox",
            Self::Mksh => "/bin/mksh",
            Self::Zsh => "/bin/zsh",
            Self::Other(path) => return path,
        };
        Path::new(name)
    }

    /// Whether it is here; says so where it is not.
    pub fn is_here(&self, test: &str) -> bool {
        let here = self.program().exists();
        if !here {
            left_out(test, &format!("needs {}; run tests/fetch as root", self.program().display()));
        }
        here
    }
}

/// Whether far machines can be had; says so where they cannot.
pub fn available(test: &str) -> bool {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    said(
        test,
        ANSWER.get_or_init(|| {
            if !rustix::process::geteuid().is_root() {
                return Err("needs root, for sshd and namespaces".into());
            }
            for program in ["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen", "/usr/bin/ssh-agent", "/bin/busybox", "/bin/bash"] {
                if !Path::new(program).exists() {
                    return Err(format!("needs {program}; run tests/fetch as root"));
                }
            }
            permitted(Command::new("unshare").args(["--mount", "--pid", "--fork", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/run"]))
        }),
    )
}

/// Whether a link that can be cut can be had; says so where it cannot.
fn links_available(test: &str) -> bool {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    available(test)
        && said(
            test,
            ANSWER.get_or_init(|| {
                permitted(Command::new("unshare").args(["--net", "ip", "link", "add", "here", "type", "veth", "peer", "name", "there"]))
            }),
        )
}

fn said(test: &str, answer: &Result<(), String>) -> bool {
    if let Err(reason) = answer {
        left_out(test, reason);
    }
    answer.is_ok()
}

fn permitted(command: &mut Command) -> Result<(), String> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("is not permitted here: {command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("cannot be run here: {command:?}: {error}; run tests/fetch as root")),
    }
}

/// Runs a tool to its end, which must be good.
#[track_caller]
fn tool(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A directory that other users may enter.
fn directory(what: &str) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new().prefix(what).permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap()
}

//! This program as ssh(1) calls it while it connects: by a link in the private directory of that ssh, for a secret or about a host key.
//!
//! It answers from that directory alone. Whatever fails, nothing is answered, and ssh goes no further.

use super::{askpass, host_key};

/// The name by which this program is called by ssh, whatever for: that of a link in the private directory of one ssh.
pub const LINK: &str = "falconer-askpass";

/// Makes the link in a private directory. It leads to the program of this very process, also where its file was replaced
/// meanwhile, and nowhere once this process has ended (proc_pid_exe(5)): then nobody is left to answer.
///
/// # Errors
/// What symlink(2) says.
pub fn link(dir: &camino::Utf8Path) -> std::io::Result<camino::Utf8PathBuf> {
    let link = dir.join(LINK);
    std::os::unix::fs::symlink(format!("/proc/{}/exe", std::process::id()), &link)?;
    Ok(link)
}

/// What ssh is to be told by its environment, so that it asks the link and nobody else (ssh(1), ENVIRONMENT; since 8.4).
#[must_use]
pub fn env(link: &camino::Utf8Path) -> Vec<(String, std::ffi::OsString)> {
    vec![("SSH_ASKPASS".into(), link.as_str().into()), ("SSH_ASKPASS_REQUIRE".into(), "force".into())]
}

/// The named pipe in the private directory into which ssh writes what it has to say itself.
pub const LOG: &str = "log";

/// Adds a line to ssh's log, where there is one: nothing waits for that, and nothing fails by it.
pub(super) fn note(dir: &std::path::Path, line: &str) {
    use rustix::fs::{FileType, Mode, OFlags, fstat, open};
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    let Ok(log) = open(dir.join(LOG), flags, Mode::empty()) else { return };
    if fstat(&log).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo) {
        // At once or not at all (pipe(7), PIPE_BUF).
        let _ = rustix::io::write(&log, format!("falconer: {line}\n").as_bytes());
    }
}

/// Whether this process was called by the link: by its name, before anything else is looked at.
#[must_use]
pub fn is_wanted(name: Option<&std::ffi::OsStr>) -> bool {
    name.and_then(|name| std::path::Path::new(name).file_name()).is_some_and(|name| name == LINK)
}

/// Answers ssh, as the program that the link is.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os();
    let Some(dir) = args.next().and_then(|link| std::path::Path::new(&link).parent().map(std::path::Path::to_owned)) else {
        return std::process::ExitCode::FAILURE;
    };
    let args: Vec<std::ffi::OsString> = args.collect();
    match args.split_first() {
        Some((first, rest)) if first == host_key::COMMAND => host_key::main(&dir, rest),
        Some((prompt, _)) => askpass::main(&dir, prompt),
        None => std::process::ExitCode::FAILURE,
    }
}

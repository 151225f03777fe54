//! Passwords and passphrases for ssh(1), which asks a program for them (SSH_ASKPASS) with its prompt as the argument.
//!
//! That program is this one again, by a link ([`super::LINK`]) in the private directory of one ssh. It hands the prompt to a
//! socket beside the link, where the host's [`Answerer`] for this very ssh listens, and prints what comes. A question that is not
//! answered ends with 1 and without a word, which ssh takes for "no".
//!
//! On the socket: the prompt, and the end of writing; then [`YES`] and the secret, or anything else for no.

mod answerer;
mod peer;
mod prompt;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

pub use self::answerer::Answerer;
pub use self::prompt::Hop;

/// The socket's name in the private directory.
pub const SOCKET: &str = "ask";
/// Begins the answer to a question that is answered.
const YES: u8 = b'+';
/// More than ssh says in a prompt.
const LONGEST_PROMPT: u64 = 4096;
/// More than ssh takes: its buffer for an answer has 1024 bytes.
const LONGEST_ANSWER: u64 = 1024;
/// How long the host may take for its answer: it may have to wait for a command that prints the secret.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the host for the answer to a prompt and prints it.
pub(super) fn main(dir: &Path, prompt: &OsStr) -> ExitCode {
    match std::env::var_os("SSH_ASKPASS_PROMPT") {
        // A notice, such as to touch a hardware key: nobody is there to see it, and ssh goes on by itself.
        Some(kind) if kind == "none" => return ExitCode::SUCCESS,
        // Yes or no: never yes.
        Some(_) => return ExitCode::FAILURE,
        None => {}
    }
    let what = if prompt.as_bytes().starts_with(b"Enter passphrase ") { "passphrase" } else { "password" };
    match ask(dir, prompt.as_bytes()) {
        Ok(Some(mut secret)) => {
            super::note(dir, &format!("answered {what}"));
            secret.push(b'\n');
            match io::stdout().write_all(&secret) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Ok(None) | Err(_) => {
            super::note(dir, &format!("unanswered {what}"));
            ExitCode::FAILURE
        }
    }
}

fn ask(dir: &Path, prompt: &[u8]) -> io::Result<Option<Vec<u8>>> {
    // Through the directory: its own path may be longer than an address of a socket (unix(7)).
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut stream = UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    stream.write_all(prompt)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    (&stream).take(LONGEST_ANSWER + 1).read_to_end(&mut answer)?;
    Ok(answer.strip_prefix(&[YES]).map(<[u8]>::to_vec))
}

//! The Unix socket of a data directory: where it is, how it is made, how it is reached.
//!
//! `sun_path` has room for 107 bytes (unix(7)); in a data directory with a longer path the socket is named through
//! `/proc/self/fd`, which leads to the same file.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Mode, OFlags};

use super::SOCKET_FILE;

/// The longest path that fits into a socket address, in bytes.
const PATH_LIMIT: usize = 107;

/// Where the socket of a data directory is.
#[must_use]
pub fn path(dir: &Utf8Path) -> Utf8PathBuf {
    dir.join(SOCKET_FILE)
}

/// A name of the socket that fits into an address, valid as long as this lives.
struct Name {
    path: PathBuf,
    _dir: Option<OwnedFd>,
}

fn name(dir: &Utf8Path) -> io::Result<Name> {
    let path = path(dir);
    if path.as_str().len() <= PATH_LIMIT {
        return Ok(Name { path: path.into(), _dir: None });
    }
    let opened = rustix::fs::open(dir.as_std_path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Name { path: format!("/proc/self/fd/{}/{SOCKET_FILE}", opened.as_raw_fd()).into(), _dir: Some(opened) })
}

/// Makes the socket and listens. Only the owner of the directory's lock may: what an earlier owner left is removed.
///
/// # Errors
/// What bind(2) and listen(2) say.
pub fn listen(dir: &Utf8Path) -> io::Result<UnixListener> {
    remove(dir)?;
    let name = name(dir)?;
    let listener = UnixListener::bind(&name.path)?;
    std::fs::set_permissions(path(dir), Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Removes the socket, so that nobody new comes.
///
/// # Errors
/// What unlink(2) says, where the socket is there.
pub fn remove(dir: &Utf8Path) -> io::Result<()> {
    match std::fs::remove_file(path(dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Connects to the daemon of a data directory. `None`: nobody listens.
///
/// # Errors
/// What connect(2) says besides that.
pub fn connect(dir: &Utf8Path) -> io::Result<Option<UnixStream>> {
    let attempt = name(dir).and_then(|name| UnixStream::connect(&name.path));
    match attempt {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_private_and_reachable_also_at_a_long_path() {
        let temp = tempfile::tempdir().unwrap();
        let short = Utf8Path::from_path(temp.path()).unwrap().to_owned();
        let long = short.join("d".repeat(120));
        std::fs::create_dir(&long).unwrap();
        for dir in [short, long] {
            assert!(connect(&dir).unwrap().is_none(), "nothing there yet");
            let listener = listen(&dir).unwrap();
            assert_eq!(std::fs::metadata(path(&dir)).unwrap().permissions().mode() & 0o777, 0o600);
            let _client = connect(&dir).unwrap().unwrap();
            listener.accept().unwrap();
            drop(listener);
            assert!(connect(&dir).unwrap().is_none(), "left behind, nobody listens");
            drop(listen(&dir).unwrap());
            remove(&dir).unwrap();
            remove(&dir).unwrap();
        }
    }
}

//! Who is at the other end of a connection: only our own user is let in.
//!
//! The client's side needs no such check: it connects within a directory that only its own user may write
//! ([`super::dir`]).

use tokio::net::UnixStream;

use super::code;
use crate::fault::Fault;

/// The process at the other end, when it connected (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its process id; none where it lives in a pid namespace that cannot be seen from ours.
    pub pid: Option<u32>,
}

/// Checks that the peer is our own user.
pub fn check(socket: &UnixStream) -> Result<Peer, Fault> {
    let cred = socket
        .peer_cred()
        .map_err(|error| Fault::new(code::OTHER_USER, format!("cannot tell who is at the other end of the socket: {error}")))?;
    let own = rustix::process::geteuid().as_raw();
    if cred.uid() != own {
        return Err(Fault::new(code::OTHER_USER, format!("this daemon belongs to user {own}, and the client is user {}", cred.uid()))
            .hint("each user has a daemon and a data directory of their own"));
    }
    Ok(Peer { pid: cred.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_process_is_let_in() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(check(&one).unwrap().pid, Some(std::process::id()));
    }
}

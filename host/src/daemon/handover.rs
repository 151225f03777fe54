//! Descriptors that cross the socket (`SCM_RIGHTS`, unix(7)): a client's stdin and stdout, so that the daemon reads and
//! writes the client's own pipes and nothing is copied in between.
//!
//! The open file descriptions are shared with the client's side; the non-blocking mode that is set on them here is
//! taken back when serving ends.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType,
    recvmsg, sendmsg, sockopt,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use super::{HELLO_BYTES, Input, Output};

/// stdin and stdout.
const COUNT: usize = 2;

/// What an open file can be read or written by without a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    Socket,
}

fn kind(fd: BorrowedFd<'_>) -> io::Result<Option<Kind>> {
    Ok(match FileType::from_raw_mode(fstat(fd)?.st_mode) {
        FileType::Fifo => Some(Kind::Pipe),
        FileType::Socket if sockopt::socket_domain(fd)? == AddressFamily::UNIX && sockopt::socket_type(fd)? == SocketType::STREAM => {
            Some(Kind::Socket)
        }
        _ => None,
    })
}

/// Whether this can be handed over: a pipe, or a Unix stream socket (what Node gives its children).
pub fn can_be_handed_over(fd: BorrowedFd<'_>) -> bool {
    matches!(kind(fd), Ok(Some(_)))
}

/// Sends a first line, and with it stdin and stdout where they are handed over.
pub fn send(socket: &StdStream, line: &[u8], stdio: Option<[BorrowedFd<'_>; COUNT]>) -> io::Result<()> {
    let mut rest = line;
    if let Some(fds) = stdio {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(COUNT))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other("no room for two descriptors"));
        }
        let sent = rustix::io::retry_on_intr(|| sendmsg(socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL))?;
        rest = &rest[sent..];
    }
    io::Write::write_all(&mut &*socket, rest)
}

/// A first line, and the descriptors that came with it.
pub struct Received {
    /// Without its end.
    pub line: Vec<u8>,
    /// stdin and stdout; none where none came.
    pub stdio: Option<[OwnedFd; COUNT]>,
}

/// Receives a first line. A client says nothing more before it is answered, so nothing may follow it.
pub async fn receive(socket: &UnixStream) -> io::Result<Received> {
    let mut line = Vec::new();
    let mut fds: Vec<OwnedFd> = Vec::new();
    let mut chunk = vec![0u8; 16 << 10];
    loop {
        let (count, came) = socket.async_io(Interest::READABLE, || receive_some(socket.as_fd(), &mut chunk)).await?;
        fds.extend(came);
        line.extend_from_slice(&chunk[..count]);
        if let Some(end) = chunk[..count].iter().position(|byte| *byte == b'\n') {
            if end + 1 != count {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "something follows the first line"));
            }
            line.pop();
            break;
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.len() > HELLO_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the first line is too long"));
        }
    }
    let stdio = if fds.is_empty() { None } else { Some(fds.try_into().map_err(|_| io::ErrorKind::InvalidData)?) };
    Ok(Received { line, stdio })
}

fn receive_some(socket: BorrowedFd<'_>, chunk: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(COUNT))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    Ok((received.bytes, fds))
}

/// Takes the non-blocking mode back from what was blocking.
pub struct Restore(Vec<(OwnedFd, OFlags)>);

impl Restore {
    fn remember(&mut self, fd: &OwnedFd) -> io::Result<()> {
        let flags = fcntl_getfl(fd)?;
        if !flags.contains(OFlags::NONBLOCK) {
            self.0.push((fd.try_clone()?, flags));
        }
        Ok(())
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        for (fd, flags) in &self.0 {
            if let Err(error) = fcntl_setfl(fd, *flags) {
                tracing::debug!(%error, "a client's descriptor stays non-blocking");
            }
        }
    }
}

/// Makes a client's stdin and stdout readable and writable here. Drop the last part only when the others are gone.
pub fn adopt([stdin, stdout]: [OwnedFd; COUNT]) -> io::Result<(Input, Output, Restore)> {
    let wrong = |name: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is neither a pipe nor a Unix stream socket"));
    let mut restore = Restore(Vec::new());
    restore.remember(&stdin)?;
    restore.remember(&stdout)?;
    let input: Input = match kind(stdin.as_fd())? {
        Some(Kind::Pipe) => Box::new(pipe::Receiver::from_owned_fd(stdin)?),
        Some(Kind::Socket) => Box::new(stream(stdin)?),
        None => return Err(wrong("stdin")),
    };
    let output: Output = match kind(stdout.as_fd())? {
        Some(Kind::Pipe) => Box::new(pipe::Sender::from_owned_fd(stdout)?),
        Some(Kind::Socket) => Box::new(stream(stdout)?),
        None => return Err(wrong("stdout")),
    };
    Ok((input, output, restore))
}

fn stream(fd: OwnedFd) -> io::Result<UnixStream> {
    let stream = StdStream::from(fd);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn is_blocking(fd: impl AsFd) -> bool {
        !fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
    }

    #[tokio::test]
    async fn pipes_and_sockets_cross_and_are_blocking_again_afterwards() {
        let (to_server, mut client_in) = std::io::pipe().unwrap();
        let (client_socket, from_server) = StdStream::pair().unwrap();
        let (here, there) = StdStream::pair().unwrap();
        send(&here, b"{\"a\":1}\n", Some([to_server.as_fd(), from_server.as_fd()])).unwrap();
        there.set_nonblocking(true).unwrap();
        let there = UnixStream::from_std(there).unwrap();
        let received = receive(&there).await.unwrap();
        assert_eq!(received.line, b"{\"a\":1}");
        let (mut input, mut output, restore) = adopt(received.stdio.unwrap()).unwrap();
        assert!(!is_blocking(&to_server), "the description is shared");

        client_in.write_all(b"ask").unwrap();
        drop(client_in);
        let mut asked = String::new();
        input.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "ask");
        output.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        (&client_socket).read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");

        drop((input, output));
        drop(restore);
        assert!(is_blocking(&to_server) && is_blocking(&from_server));
    }

    #[tokio::test]
    async fn a_long_line_comes_whole_and_one_without_an_end_is_refused() {
        for (bytes, good) in [(HELLO_BYTES / 2, true), (HELLO_BYTES * 2, false)] {
            let (here, there) = StdStream::pair().unwrap();
            there.set_nonblocking(true).unwrap();
            let there = UnixStream::from_std(there).unwrap();
            let writer = std::thread::spawn(move || {
                let mut line = vec![b'x'; bytes];
                line.push(b'\n');
                let _ = send(&here, &line, None);
                here
            });
            let received = receive(&there).await;
            assert_eq!(received.is_ok(), good);
            if let Ok(received) = received {
                assert_eq!(received.line.len(), bytes);
                assert!(received.stdio.is_none());
            }
            drop(there);
            writer.join().unwrap();
        }
    }

    #[test]
    fn a_file_and_a_terminal_like_device_are_not_handed_over() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(!can_be_handed_over(null.as_fd()));
        let file = tempfile::tempfile().unwrap();
        assert!(!can_be_handed_over(file.as_fd()));
        let (pipe, _writer) = std::io::pipe().unwrap();
        assert!(can_be_handed_over(pipe.as_fd()));
        let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(!can_be_handed_over(datagram.as_fd()));
    }
}

//! Addresses at which no sshd answers, each in its own way.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, listen, socket};

const LOOPBACK: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);

fn bound() -> (OwnedFd, SocketAddr) {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &LOOPBACK).unwrap();
    let address = SocketAddr::try_from(getsockname(&fd).unwrap()).unwrap();
    (fd, address)
}

/// A port that refuses: taken, so that nobody else listens on it, and never listened on.
pub struct DeadPort {
    _socket: OwnedFd,
    pub address: SocketAddr,
}

impl DeadPort {
    pub fn new() -> Self {
        let (socket, address) = bound();
        Self { _socket: socket, address }
    }
}

/// A port at which a connection never comes about: its queue is full, and Linux drops the packets that ask for one.
pub struct BlackHole {
    _sockets: Vec<OwnedFd>,
    pub address: SocketAddr,
}

impl BlackHole {
    pub fn new() -> Self {
        let (listener, address) = bound();
        listen(&listener, 0).unwrap();
        let mut sockets = vec![listener];
        // A queue of length 0 takes one or two.
        for _ in 0..4 {
            let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            rustix::io::ioctl_fionbio(&fd, true).unwrap();
            let _ = connect(&fd, &address);
            sockets.push(fd);
        }
        let hole = Self { _sockets: sockets, address };
        let tried = TcpStream::connect_timeout(&address, Duration::from_millis(300));
        assert!(tried.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut), "{address} takes connections");
        hole
    }
}

/// A port that takes every connection and never says a word.
pub struct Silence {
    _listener: TcpListener,
    pub address: SocketAddr,
}

impl Silence {
    pub fn new() -> Self {
        let listener = TcpListener::bind(LOOPBACK).unwrap();
        let address = listener.local_addr().unwrap();
        Self { _listener: listener, address }
    }
}

/// A port at which something else than ssh answers, and hangs up.
pub struct Stranger {
    pub address: SocketAddr,
}

impl Stranger {
    pub fn new() -> Self {
        let listener = TcpListener::bind(LOOPBACK).unwrap();
        let address = listener.local_addr().unwrap();
        // Waits in the kernel until the test program ends.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut stream = stream;
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }
        });
        Self { address }
    }
}

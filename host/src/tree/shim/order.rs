//! What a shim is told to start: one frame over its socket, with the descriptors beside it (`SCM_RIGHTS`, unix(7)).
//!
//! The frame is two lengths, a head in JSON, and a body of strings that each end with a NUL: the program, its arguments,
//! its environment. The receiver points into the body when it executes the program, and copies nothing.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::super::{Plan, proc};
use crate::id::RunId;

/// Descriptors that one frame may carry.
const MOST_FDS: usize = 16;
/// The two lengths.
const LENGTHS: usize = 8;
/// A frame larger than this is none of ours. The contract's limits of arguments and environment are far below.
const MOST_BYTES: usize = 64 << 20;

/// What the strings and the descriptors are.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// Strings that are arguments, the program's own name included.
    args: usize,
    /// Whether a descriptor of a cgroup of version 2 is among those that came.
    group: bool,
}

/// The descriptors of a child.
#[derive(Debug)]
pub struct Parts<Fd> {
    pub stdin: Fd,
    pub stdout: Fd,
    pub stderr: Fd,
    /// Where it works.
    pub cwd: Fd,
    /// Where its record is appended.
    pub record: Fd,
    /// The directory of its cgroup.
    pub group: Option<Fd>,
    /// `cgroup.procs` of groups of version 1 that it enters by writing `0`.
    pub enter: Vec<Fd>,
}

/// What a shim received.
#[derive(Debug)]
pub struct Order {
    /// NUL-terminated strings: the program, then `args`, then the environment.
    pub body: Vec<u8>,
    /// How many strings are arguments, the program's own name included.
    pub args: usize,
    pub parts: Parts<OwnedFd>,
}

/// The strings of a frame.
fn body(run: RunId, plan: &Plan) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(1024);
    let mut put = |pieces: &[&[u8]]| {
        for piece in pieces {
            if piece.contains(&0) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "an argument or a variable holds a NUL"));
            }
            body.extend_from_slice(piece);
        }
        body.push(0);
        Ok(())
    };
    put(&[plan.program.as_str().as_bytes()])?;
    for arg in &plan.args {
        put(&[arg.as_bytes()])?;
    }
    for (name, value) in plan.env.iter().filter(|(name, _)| name != proc::MARK) {
        put(&[name.as_bytes(), b"=", value.as_bytes()])?;
    }
    put(&[proc::MARK.as_bytes(), b"=", run.to_string().as_bytes()])?;
    Ok(body)
}

/// Sends a frame. The socket may block for as long as the shim takes to read.
pub fn send(socket: &UnixStream, run: RunId, plan: &Plan, parts: &Parts<BorrowedFd<'_>>) -> io::Result<()> {
    let body = body(run, plan)?;
    let head = serde_json::to_vec(&Head { args: plan.args.len() + 1, group: parts.group.is_some() })?;
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::ArgumentListTooLong));
    let mut frame = Vec::with_capacity(LENGTHS + head.len() + body.len());
    frame.extend_from_slice(&length(&head)?.to_le_bytes());
    frame.extend_from_slice(&length(&body)?.to_le_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(&body);

    let mut fds = vec![parts.stdin, parts.stdout, parts.stderr, parts.cwd, parts.record];
    fds.extend(parts.group);
    fds.extend(&parts.enter);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > MOST_FDS || !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("too many descriptors for one child"));
    }
    let sent = rustix::io::retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL))?;
    (&mut &*socket).write_all(&frame[sent..])
}

/// Receives a frame.
pub fn receive(socket: &UnixStream) -> io::Result<Order> {
    let malformed = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut lengths = [0u8; LENGTHS];
    let (count, fds) = receive_with_fds(socket, &mut lengths)?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    (&mut &*socket).read_exact(&mut lengths[count..])?;
    let [a, b, c, d, e, f, g, h] = lengths;
    let (head, rest) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]) as usize);
    if head > MOST_BYTES || rest > MOST_BYTES {
        return Err(malformed("the lengths of the frame are out of range"));
    }
    let mut text = vec![0; head];
    (&mut &*socket).read_exact(&mut text)?;
    let head: Head = serde_json::from_slice(&text)?;
    let mut body = vec![0; rest];
    (&mut &*socket).read_exact(&mut body)?;
    let strings = body.iter().filter(|byte| **byte == 0).count();
    if body.last() != Some(&0) || head.args == 0 || head.args > strings {
        return Err(malformed("the strings of the frame do not fit its head"));
    }
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or_else(|| malformed("a descriptor is missing"));
    let (stdin, stdout, stderr, cwd, record) = (next()?, next()?, next()?, next()?, next()?);
    let group = if head.group { Some(next()?) } else { None };
    let enter = fds.collect();
    Ok(Order { body, args: head.args, parts: Parts { stdin, stdout, stderr, cwd, record, group, enter } })
}

/// Reads once; what comes beside the bytes is closed on exec.
pub fn receive_with_fds(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            fds.extend(came);
        }
    }
    Ok((received.bytes, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_frame_arrives_as_it_was_sent() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let files: Vec<File> = (0..7).map(|_| File::open("/dev/null").unwrap()).collect();
        let run = RunId::random();
        let long = "x".repeat(1 << 20);
        let plan = Plan {
            program: "/bin/echo".into(),
            args: vec!["a b".into(), long.clone().into()],
            env: vec![("A".into(), "=1".into()), (proc::MARK.into(), "another".into())],
            cwd: None,
            stdin: false,
        };
        let fd = |number: usize| files[number].as_fd();
        let parts = Parts { stdin: fd(0), stdout: fd(1), stderr: fd(2), cwd: fd(3), record: fd(4), group: Some(fd(5)), enter: vec![fd(6)] };
        let order = std::thread::scope(|scope| {
            let received = scope.spawn(|| receive(&theirs).unwrap());
            send(&ours, run, &plan, &parts).unwrap();
            received.join().unwrap()
        });
        assert_eq!(order.args, 3);
        let strings: Vec<&[u8]> = order.body.split(|byte| *byte == 0).collect();
        let mark = format!("{}={run}", proc::MARK);
        assert_eq!(strings, [b"/bin/echo", "a b".as_bytes(), long.as_bytes(), b"A==1", mark.as_bytes(), b""]);
        assert!(order.parts.group.is_some());
        assert_eq!(order.parts.enter.len(), 1);
    }

    #[test]
    fn a_nul_and_an_early_end_are_errors() {
        let plan = Plan { program: "/x".into(), args: vec!["a\0b".into()], env: Vec::new(), cwd: None, stdin: false };
        assert_eq!(body(RunId::random(), &plan).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert_eq!(receive(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

//! The shim: this program again, one for each child of a run, between the host and the child.
//!
//! It is the leader of a session and a child subreaper (prctl(2)), so that whatever the child starts stays below it,
//! also what leaves its group, its session, or its parent. It starts the program, passes descriptors through untouched,
//! reports starts and ends, kills on request, and ends when its tree is empty: when it has no child left, nothing of
//! the tree lives, because every descendant whose parent ends becomes its child. When the host is lost it kills the
//! tree at once. One thread; nothing is allocated that grows.
//!
//! What it does is in its record, which the next host reads. When the shim itself is killed, the program dies with it
//! (`PR_SET_PDEATHSIG`) and the rest of the tree comes to the host, which is a subreaper too.

#[cfg(test)]
mod before_main;
mod kill;
mod launch;
pub(super) mod order;
pub(super) mod report;
mod signals;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use self::kill::Killed;
use self::report::{Identity, Report, Why, append};
use self::signals::Signals;
use super::{Exit, Seen, proc};

/// The hidden command.
pub const COMMAND: &str = "shim";
/// This program, also where its file was replaced meanwhile (proc_pid_exe(5)).
pub const OWN_PROGRAM: &str = "/proc/self/exe";
/// On the socket: kill the tree.
pub const KILL: u8 = b'K';
/// Its name in lists of processes; at most 15 bytes.
pub const NAME: &std::ffi::CStr = c"falconer-shim";

/// Reports that a slow host has not taken yet; what comes beyond is left out, but for the end.
const UNSENT: usize = 64 << 10;

/// Whether this process is to be a shim: by its first argument, before anything else is looked at.
#[must_use]
pub fn is_wanted(first: Option<&OsStr>) -> bool {
    first.is_some_and(|first| first == COMMAND)
}

/// Is a shim until its tree is empty.
#[must_use]
pub fn main() -> ExitCode {
    let socket = match rustix::stdio::stdin().try_clone_to_owned() {
        Ok(stdin) if rustix::net::sockopt::socket_type(&stdin).is_ok() => UnixStream::from(stdin),
        _ => {
            let _ = writeln!(io::stderr(), "falconer: `{COMMAND}` is for falconer itself: it starts the processes of runs with it");
            return ExitCode::from(2);
        }
    };
    match Shim::begin(socket) {
        Ok(Some(shim)) => {
            shim.watch();
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A shim whose program was started.
struct Shim {
    socket: UnixStream,
    signals: Signals,
    record: File,
    group: Option<OwnedFd>,
    program: u32,
    unsent: Vec<u8>,
    killed: Killed,
}

impl Shim {
    /// Takes its order and starts the program. None: it could not be started, and that was said.
    fn begin(socket: UnixStream) -> io::Result<Option<Self>> {
        rustix::process::setsid()?;
        super::adopt::become_subreaper()?;
        rustix::thread::set_name(NAME)?;
        let signals = Signals::block()?;
        let order = order::receive(&socket)?;
        let me = Identity { pid: std::process::id(), start: proc::stat(std::process::id())?.start };
        let launched = {
            // Before anything is started: a record without this line is one of a shim that started nothing.
            let record = File::from(order.parts.record.try_clone()?);
            append(&record, &Report::Shim(me).line()).and_then(|()| launch::launch(&order))
        };
        let order::Parts { stdin, stdout, stderr, cwd, enter, record, group } = order.parts;
        // Before the start is told: from then on the program alone holds the other ends of its pipes.
        drop((stdin, stdout, stderr, cwd, enter));
        let record = File::from(record);
        let launched = match launched {
            Ok(launched) => launched,
            Err(error) => {
                let refused = Report::Refused { errno: error.raw_os_error().unwrap_or(libc::EIO) };
                let _ = append(&record, &refused.line());
                rustix::io::write(&socket, &refused.line())?;
                return Ok(None);
            }
        };
        let start = proc::stat(launched.pid).map_or(0, |stat| stat.start);
        let started = Report::Started(Identity { pid: launched.pid, start }).line();
        let _ = append(&record, &started);
        let mut shim = Self { socket, signals, record, group, program: launched.pid, unsent: Vec::new(), killed: Killed::default() };
        if send_with(&shim.socket, &started, launched.fd.as_fd()).is_err() || shim.socket.set_nonblocking(true).is_err() {
            shim.kill(Why::HostLost);
            return Ok(None);
        }
        Ok(Some(shim))
    }

    /// Waits for the ends of processes and for the host, until there is nothing left to wait for.
    fn watch(mut self) {
        loop {
            if self.reap() {
                return self.end(Why::Empty);
            }
            self.flush();
            let writes = if self.unsent.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let mut fds = [
                PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN | writes),
                PollFd::from_borrowed_fd(self.signals.fd(), PollFlags::IN),
            ];
            if poll(&mut fds, None).is_err() {
                continue;
            }
            let came = fds[0].revents();
            self.signals.drain();
            if came.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                let mut bytes = [0u8; 64];
                match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                    Ok((_, 0)) => return self.kill(Why::HostLost),
                    Ok((_, count)) if bytes[..count].contains(&KILL) => return self.kill(Why::Asked),
                    Err(error) if error != rustix::io::Errno::AGAIN && error != rustix::io::Errno::INTR => return self.kill(Why::HostLost),
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }

    /// Takes what has ended. True: there is no child left.
    fn reap(&mut self) -> bool {
        loop {
            match signals::ended() {
                Ok(Some((pid, exit))) => {
                    // Its name is in /proc only while it is not reaped.
                    let name =
                        if pid == self.program { String::new() } else { proc::stat(pid).map_or_else(|_| String::new(), |stat| stat.name) };
                    signals::reap(pid);
                    self.tell(pid, name, exit);
                }
                Ok(None) => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing is left, and nothing else can come.
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return true,
                Err(_) => return false,
            }
        }
    }

    fn tell(&mut self, pid: u32, name: String, exit: Exit) {
        if pid == self.program {
            // Its number may come again below us.
            self.program = 0;
            let exited = Report::Exited(exit).line();
            let _ = append(&self.record, &exited);
            self.unsent.extend(exited);
        } else if self.unsent.len() < UNSENT {
            self.unsent.extend(Report::Stray { process: Seen { pid, name }, exit }.line());
        }
        // Written by the caller's next round: an exit and an end that come together are told together.
    }

    /// Kills the tree, for as long as it takes.
    fn kill(&mut self, why: Why) {
        let mut rounds = 0;
        loop {
            let begun = Instant::now();
            if self.killed.round(self.group.as_ref().map(AsFd::as_fd)) {
                rounds = 0;
            }
            // What was killed is given as much time to die as the look took: half of the time goes into looking, however
            // large the tree is, and not a look for each that dies.
            let pause = if rounds < kill::CLOSE { begun.elapsed().min(kill::pause(rounds)) } else { kill::pause(rounds) };
            let next = Instant::now() + pause;
            loop {
                if self.reap() {
                    return self.end(why);
                }
                self.flush();
                let left = next.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                self.signals.wait(left);
            }
            rounds += 1;
        }
    }

    fn end(&mut self, why: Why) {
        let killed = std::mem::take(&mut self.killed);
        let ended = Report::Ended { why, killed_total: killed.total(), killed: killed.named() }.line();
        let _ = append(&self.record, &ended);
        self.unsent.extend(ended);
        let _ = self.socket.set_nonblocking(false);
        let _ = self.socket.set_write_timeout(Some(kill::LAST_WORD));
        self.flush();
    }

    /// Writes what the host takes.
    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.unsent.drain(..count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// Sends bytes with a descriptor beside them.
fn send_with(socket: &UnixStream, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let sent = sendmsg(socket, &[io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

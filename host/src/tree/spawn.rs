//! Starting one child through a shim: pipes, the record, the cgroup, the order, and the answer.
//!
//! The work is done on a blocking thread that is made by the serving runtime: a thread inherits the niceness of the
//! one that makes it, and guests run with a higher one, which no child may get (sched(7)).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use super::cgroup::Group;
use super::cgroup::limit::Held;
use super::ground::Ground;
use super::pidfd::Process;
use super::shim::order::{self, Parts, receive_with_fds};
use super::shim::report::{Begun, Report, append};
use super::shim::{COMMAND, OWN_PROGRAM};
use super::{Plan, SpawnError, adopt};
use crate::id::RunId;

/// How long a shim may take to start a program: loading both, on a machine that does much else.
const START: Duration = Duration::from_secs(20);
/// A shim that has said nothing for so long may have been stopped by the program that it has just started.
const WAKE: Duration = Duration::from_millis(250);

/// Numbers the children of this host: the names of their records and groups.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A child that was just started, with our ends of its pipes and of its shim's socket.
pub struct Started {
    /// Its shim.
    pub shim: Process,
    /// The program.
    pub program: Process,
    /// To the shim; non-blocking.
    pub socket: UnixStream,
    /// What came after the report of the start.
    pub rest: Vec<u8>,
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Starts it. Blocks until the program is being executed, or could not be. Who is told of the shim before can see to it that
/// this does not block for long: a program may stop its shim before that has said that the program runs.
pub fn start(
    ground: &Ground,
    run: RunId,
    group: Option<&Group>,
    held: Option<&Held>,
    plan: Plan,
    told: impl FnOnce(&Process),
) -> Result<Started, SpawnError> {
    let (stdin_read, stdin_write): (OwnedFd, _) = if plan.stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        (read, Some(non_blocking(write)?))
    } else {
        (File::open("/dev/null")?.into(), None)
    };
    let (stdout, stdout_write) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let (stderr, stderr_write) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let (stdout, stderr) = (non_blocking(stdout)?, non_blocking(stderr)?);
    let cwd: OwnedFd = match &plan.cwd {
        Some(cwd) => cwd.try_clone()?,
        None => File::open("/")?.into(),
    };

    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let group = group.map(|group| group.child(&format!("c{number}"))).transpose()?;
    let cgroup = group.as_ref().map(|(group, _)| group.dir().to_string_lossy().into_owned());
    let enter = held.map(Held::enter).transpose()?.unwrap_or_default();
    let limits = held.iter().flat_map(|held| held.groups()).map(|group| group.dir().to_string_lossy().into_owned()).collect();
    let begun = Begun { run, boot: ground.boot().to_owned(), host: ground.me(), program: plan.program.to_string(), cgroup, limits };
    let record = record(ground, run, number, &begun)?;

    let (socket, shim) = begin(run)?;
    told(&shim);
    let parts = Parts {
        stdin: stdin_read.as_fd(),
        stdout: stdout_write.as_fd(),
        stderr: stderr_write.as_fd(),
        cwd: cwd.as_fd(),
        record: record.as_fd(),
        group: group.as_ref().map(|(_, fd)| fd.as_fd()),
        enter: enter.iter().map(AsFd::as_fd).collect(),
    };
    let answered = order::send(&socket, run, &plan, &parts).and_then(|()| answer(&socket, &shim));
    match answered {
        Ok((Report::Started(identity), Some(fd), rest)) => {
            socket.set_nonblocking(true)?;
            let name = plan.program.file_name().unwrap_or(plan.program.as_str()).to_owned();
            let program = Process::given(identity.pid, name, fd);
            Ok(Started { shim, program, socket, rest, stdin: stdin_write, stdout, stderr })
        }
        Ok((report, ..)) => {
            adopt::abandon(&shim);
            let source = match report {
                Report::Refused { errno } => io::Error::from_raw_os_error(errno),
                _ => io::Error::new(io::ErrorKind::InvalidData, "its shim gave an answer out of order"),
            };
            Err(match source.raw_os_error() {
                // Of the clone and of limits; all the rest is of the execution.
                Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) | None => SpawnError::System(source),
                Some(_) => SpawnError::Exec { program: plan.program, source },
            })
        }
        Err(error) => {
            // Whatever it has started ends with it, or comes to us.
            adopt::abandon(&shim);
            Err(SpawnError::System(io::Error::new(error.kind(), format!("its shim did not start it: {error}"))))
        }
    }
}

/// Makes the record of a child, with its first line.
fn record(ground: &Ground, run: RunId, number: u64, begun: &Begun) -> io::Result<OwnedFd> {
    let dir = ground.records().join(run.to_string());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let file = File::options().append(true).create(true).mode(0o600).open(dir.join(number.to_string()))?;
    let mut line = serde_json::to_vec(begun)?;
    line.push(b'\n');
    append(&file, &line)?;
    Ok(file.into())
}

/// Starts a shim. It waits for its order; nothing of ours but its socket is open in it.
fn begin(run: RunId) -> io::Result<(UnixStream, Process)> {
    mark_inherited();
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_write_timeout(Some(START))?;
    let mut command = Command::new(OWN_PROGRAM);
    command
        .arg(COMMAND)
        .arg(run.to_string())
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = adopt::bear(&mut command, Some(run))?;
    match Process::open(child.id(), COMMAND.to_owned()) {
        Ok(shim) => Ok((ours, shim)),
        Err(error) => {
            adopt::end(child);
            Err(error)
        }
    }
}

/// The first report, with the descriptor that came beside it, and what followed.
fn answer(socket: &UnixStream, shim: &Process) -> io::Result<(Report, Option<OwnedFd>, Vec<u8>)> {
    let mut line = Vec::new();
    let mut chunk = [0u8; 4096];
    let mut fd = None;
    let begun = Instant::now();
    socket.set_read_timeout(Some(WAKE))?;
    loop {
        let (count, fds) = match receive_with_fds(socket, &mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < START => {
                let _ = shim.signal(Signal::CONT);
                continue;
            }
            received => received?,
        };
        fd = fds.into_iter().next().or(fd);
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&chunk[..count]);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let rest = line.split_off(end + 1);
            return Ok((serde_json::from_slice(&line)?, fd, rest));
        }
    }
}

/// Makes our end non-blocking. The flag belongs to this end's open file description, not to the child's.
fn non_blocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    Ok(fd)
}

/// What came open with this process is marked to be closed on exec, once; what the host itself opens is so anyway.
/// Nobody may take the ends of shims away either: SIGCHLD is not ignored.
fn mark_inherited() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        #[expect(unsafe_code, reason = "the standard library has no call for signal dispositions or ranges of descriptors")]
        // SAFETY: SIG_DFL is a valid disposition; while SIGCHLD is ignored, the kernel reaps children before anyone can
        // ask how they ended (waitpid(2)). close_range(2) closes nothing with this flag. Kernels before 5.11 refuse.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN {
                libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            }
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        }
    });
}

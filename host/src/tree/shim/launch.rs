//! Starting the program: a clone that is born in its cgroup (clone3(2), `CLONE_INTO_CGROUP`), made ready, and executed.
//!
//! Born there instead of moved there: a move waits for a grace period of the kernel, 10 ms and more on an idle
//! machine. Where clone3(2) is not to be had (a filter of system calls), fork(2) and a move do the same.
//!
//! Between the clone and the execution only system calls are made: the standard library's `Command` can neither clone
//! into a cgroup nor be told to write into one without a fork, so the few steps are here.

use std::ffi::c_char;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::order::Order;

/// Of clone3(2); the C library's constant has a smaller type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// The highest number of a signal.
const SIGNALS: i32 = 64;
/// What a child ends with when it could not be made ready; nobody sees it.
const NOT_READY: i32 = 127;

/// A program that runs.
pub struct Launched {
    pub pid: u32,
    pub fd: OwnedFd,
}

/// All that the clone needs, so that it need not allocate.
struct Ready {
    program: *const c_char,
    args: Vec<*const c_char>,
    env: Vec<*const c_char>,
    stdio: [RawFd; 3],
    cwd: RawFd,
    /// Files to write `0` into.
    enter: Vec<RawFd>,
    /// Where an errno is written.
    failure: RawFd,
}

/// Starts the program. The error is the system's, of whatever step failed.
pub fn launch(order: &Order) -> io::Result<Launched> {
    let mut strings: Vec<*const c_char> = Vec::new();
    let mut begin = 0;
    for (at, byte) in order.body.iter().enumerate() {
        if *byte == 0 {
            strings.push(order.body[begin..].as_ptr().cast());
            begin = at + 1;
        }
    }
    let (args, env) = strings.split_at(order.args);
    let ended = |strings: &[*const c_char]| strings.iter().copied().chain([std::ptr::null()]).collect::<Vec<_>>();
    let (failure, report) = pipe_with(PipeFlags::CLOEXEC)?;
    let parts = &order.parts;
    let mut ready = Ready {
        program: args.first().copied().unwrap_or(std::ptr::null()),
        args: ended(args),
        env: ended(env),
        stdio: [parts.stdin.as_raw_fd(), parts.stdout.as_raw_fd(), parts.stderr.as_raw_fd()],
        cwd: parts.cwd.as_raw_fd(),
        enter: parts.enter.iter().map(AsRawFd::as_raw_fd).collect(),
        failure: report.as_raw_fd(),
    };
    let group = parts.group.as_ref();
    let launched = match clone_into(&ready, group.map(AsRawFd::as_raw_fd)) {
        // No room for one more: a move into the group would not be refused, and is not tried.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM)) => Err(error),
        Err(error) if group.is_some() || matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            let procs = group.map(|group| openat(group, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())).transpose()?;
            ready.enter.extend(procs.as_ref().map(AsRawFd::as_raw_fd));
            fork(&ready)
        }
        other => other,
    }?;
    drop(report);
    let mut errno = [0; 4];
    match std::fs::File::from(failure).read_exact(&mut errno) {
        // Closed by the execution.
        Err(_) => Ok(launched),
        Ok(()) => {
            let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(launched_fd(&launched)), rustix::process::WaitIdOptions::EXITED);
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
        }
    }
}

fn launched_fd(launched: &Launched) -> std::os::fd::BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(&launched.fd)
}

fn clone_into(ready: &Ready, group: Option<RawFd>) -> io::Result<Launched> {
    let mut fd: RawFd = -1;
    #[expect(unsafe_code, reason = "no safe interface clones into a cgroup")]
    // SAFETY: the structure is zeroed plain data of the size that is stated; `fd` lives across the call. Without
    // CLONE_VM the child works on its own copy of the memory, and `child` makes system calls only; this process has
    // one thread.
    unsafe {
        let mut args: libc::clone_args = std::mem::zeroed();
        args.flags = u64::from((libc::CLONE_PIDFD | libc::CLONE_VFORK).cast_unsigned());
        args.pidfd = (&raw mut fd) as u64;
        args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
        if let Some(group) = group {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = u64::from(group.cast_unsigned());
        }
        match libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) {
            0 => child(ready),
            -1 => Err(io::Error::last_os_error()),
            pid => Ok(Launched { pid: u32::try_from(pid).map_err(io::Error::other)?, fd: OwnedFd::from_raw_fd(fd) }),
        }
    }
}

fn fork(ready: &Ready) -> io::Result<Launched> {
    #[expect(unsafe_code, reason = "the standard library has no fork")]
    // SAFETY: this process has one thread, and `child` makes system calls only.
    let pid = match unsafe { libc::fork() } {
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "the standard library has no fork")]
        0 => unsafe { child(ready) },
        -1 => return Err(io::Error::last_os_error()),
        pid => pid,
    };
    let number = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
    match pidfd_open(number, PidfdFlags::empty()) {
        Ok(fd) => Ok(Launched { pid: pid.cast_unsigned(), fd }),
        Err(error) => {
            // It is our child and was not reaped: the number is its own.
            let _ = rustix::process::kill_process(number, rustix::process::Signal::KILL);
            let _ = rustix::process::waitpid(Some(number), rustix::process::WaitOptions::empty());
            Err(error.into())
        }
    }
}

/// The clone: gets ready, executes, or says why it could not.
///
/// # Safety
/// To be called in a process that was just cloned and shares no memory with its parent.
#[expect(unsafe_code, reason = "raw system calls between a clone and an execution")]
unsafe fn child(ready: &Ready) -> ! {
    // SAFETY: system calls on numbers and on pointers into memory that outlives them.
    unsafe {
        for number in 1..=SIGNALS {
            libc::signal(number, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        let done = libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) == 0
            // The program itself does not outlive its shim, whoever kills that.
            && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0
            && libc::setpgid(0, 0) == 0
            && ready.enter.iter().all(|procs| libc::write(*procs, c"0".as_ptr().cast(), 1) == 1)
            && libc::fchdir(ready.cwd) == 0
            && ready.stdio.iter().zip(0..).all(|(from, to)| libc::dup2(*from, to) == to);
        if done {
            libc::execve(ready.program, ready.args.as_ptr(), ready.env.as_ptr());
        }
        let errno = *libc::__errno_location();
        libc::write(ready.failure, (&raw const errno).cast(), 4);
        libc::_exit(NOT_READY)
    }
}

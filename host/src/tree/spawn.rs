//! Starting one child: pipes, environment, directory, process group.
//!
//! The work is done on a blocking thread that is made by the serving runtime: a thread inherits the niceness of the
//! one that makes it, and guests run with a higher one, which no child may get (sched(7)).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::pidfd::Process;
use super::{Plan, SpawnError, proc};
use crate::id::RunId;

/// A child that was just started, with our ends of its pipes.
pub struct Started {
    pub process: Process,
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Starts it. Blocks until the program is being executed, or could not be.
pub fn start(run: RunId, plan: Plan) -> Result<Started, SpawnError> {
    let (stdin_read, stdin_write) = if plan.stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        (Stdio::from(read), Some(non_blocking(write)?))
    } else {
        (Stdio::from(File::open("/dev/null")?), None)
    };
    let (stdout, stdout_write) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let (stderr, stderr_write) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let (stdout, stderr) = (non_blocking(stdout)?, non_blocking(stderr)?);

    let mut command = Command::new(plan.program.as_std_path());
    command
        .args(&plan.args)
        .env_clear()
        .envs(plan.env)
        .env(proc::MARK, run.to_string())
        .stdin(stdin_read)
        .stdout(stdout_write)
        .stderr(stderr_write)
        .process_group(0);
    if let Some(cwd) = &plan.cwd {
        // The directory itself, not a path to it: the link in /proc leads to what the descriptor holds, and it is
        // followed in the child, which has a copy of the descriptor.
        command.current_dir(format!("/proc/self/fd/{}", cwd.as_raw_fd()));
    }
    default_signals(&mut command);

    let child = command.spawn().map_err(|source| match source.raw_os_error() {
        // Of fork and the threads' and files' limits; all the rest is of execve.
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => SpawnError::System(source),
        _ => SpawnError::Exec { program: plan.program.clone(), source },
    })?;
    // The command holds the child's ends of the pipes.
    drop(command);
    drop(plan.cwd);

    let name = plan.program.file_name().unwrap_or(plan.program.as_str()).to_owned();
    let process = Process::open(child.id(), name).inspect_err(|_| abandon(child))?;
    Ok(Started { process, stdin: stdin_write, stdout, stderr })
}

/// Ends a child that could not be taken hold of. It was not reaped, so its number is still its own.
fn abandon(mut child: std::process::Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits for the end of a child of ours that was sent KILL, and reaps it.
pub fn reap_killed(process: &Process) {
    let _ = waitid(WaitId::PidFd(process.fd()), WaitIdOptions::EXITED);
}

/// Makes our end non-blocking. The flag belongs to this end's open file description, not to the child's.
fn non_blocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    Ok(fd)
}

/// What children would inherit from whoever started the host. Found out once; what the host itself opens is closed on
/// exec anyway.
struct Inherited {
    /// The signals that this process ignores, other than SIGPIPE, which the standard library restores by itself; the
    /// mask it clears as well. Ignored signals stay ignored across execve (signal(7)): a host started by nohup would
    /// make children that no SIGHUP ends.
    ignored: Vec<i32>,
}

fn inherited() -> &'static Inherited {
    static INHERITED: OnceLock<Inherited> = OnceLock::new();
    INHERITED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        // 32 and 33 are the C library's own, and it lets nobody touch them.
        let ignored: Vec<i32> =
            (1..=64).filter(|number| mask >> (number - 1) & 1 == 1 && !matches!(*number, libc::SIGPIPE | 32 | 33)).collect();
        #[expect(unsafe_code, reason = "the standard library has no call for signal dispositions or ranges of descriptors")]
        // SAFETY: SIG_DFL is a valid disposition; while SIGCHLD is ignored, the kernel reaps children before anyone can
        // ask how they ended (waitpid(2)). close_range(2) closes nothing with this flag: it marks descriptors that came
        // with the process to be closed on exec. Kernels before 5.11 refuse, and leave them as they were.
        unsafe {
            if ignored.contains(&libc::SIGCHLD) {
                libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            }
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        }
        Inherited { ignored }
    })
}

/// Gives the child the default disposition of every signal. Costs a fork instead of a vfork, so only where needed.
fn default_signals(command: &mut Command) {
    let ignored = &inherited().ignored;
    if ignored.is_empty() {
        return;
    }
    #[expect(unsafe_code, reason = "the standard library has no call for signal dispositions")]
    // SAFETY: between fork and exec only async-signal-safe calls are made; signal(2) is one, and the slice is static.
    unsafe {
        command.pre_exec(move || {
            for number in ignored {
                libc::signal(*number, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}

//! The few calls of the C library that `std` does not have, for Linux with its generic signal numbers (not MIPS, not SPARC).

#![expect(unsafe_code, reason = "calls of the C library")]

use std::ffi::{c_int, c_long};

pub const SIGHUP: c_int = 1;
pub const SIGINT: c_int = 2;
pub const SIGQUIT: c_int = 3;
pub const SIGKILL: c_int = 9;
pub const SIGUSR1: c_int = 10;
pub const SIGUSR2: c_int = 12;
pub const SIGTERM: c_int = 15;
pub const SIGCHLD: c_int = 17;
pub const SIGSTOP: c_int = 19;
/// The last signal of real time.
pub const SIGNALS: c_int = 64;
pub const SIG_IGN: usize = 1;

const SIG_BLOCK: c_int = 0;
/// `waitpid`: also a child that stopped; also one that was not made by `fork` alone, or is traced.
pub const WUNTRACED: c_int = 2;
pub const WALL: c_int = 0x4000_0000;

const F_GETFL: c_int = 3;
const F_SETFL: c_int = 4;
const O_NONBLOCK: c_int = 0o4_000;

const PTRACE_SEIZE: c_int = 0x4206;
const PTRACE_INTERRUPT: c_int = 0x4207;
/// Stop before the end, for the tracer to look.
const PTRACE_O_TRACEEXIT: c_long = 0x40;

#[cfg(target_arch = "x86_64")]
const SYS_EXIT: c_long = 60;
#[cfg(not(target_arch = "x86_64"))]
const SYS_EXIT: c_long = 93;

/// `sigset_t` of glibc and musl: 1024 bits.
#[repr(C)]
struct Signals([u64; 16]);

unsafe extern "C" {
    /// Safe where there is one thread, as in all of this program but `headless`, which forks no more.
    pub safe fn fork() -> c_int;
    pub safe fn setsid() -> c_int;
    pub safe fn getpid() -> c_int;
    pub safe fn getppid() -> c_int;
    pub safe fn kill(pid: c_int, signal: c_int) -> c_int;
    pub safe fn raise(signal: c_int) -> c_int;
    pub safe fn close(fd: c_int) -> c_int;
    /// Ends the process at once, with nothing flushed.
    pub safe fn _exit(code: c_int) -> !;
    fn signal(signal: c_int, handler: usize) -> usize;
    fn sigprocmask(how: c_int, set: *const Signals, old: *mut Signals) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn ptrace(request: c_int, ...) -> c_long;
    fn syscall(number: c_long, ...) -> c_long;
    fn write(fd: c_int, bytes: *const u8, count: usize) -> isize;
}

/// Ignores a signal; false where that cannot be.
pub fn ignore(number: c_int) -> bool {
    // SAFETY: SIG_IGN is a handler.
    unsafe { signal(number, SIG_IGN) != usize::MAX }
}

/// Calls this for each such signal.
pub fn hear(number: c_int, handler: extern "C" fn(c_int)) {
    // SAFETY: a function of the right type; the only one that is given does what a handler may.
    unsafe { signal(number, handler as *const () as usize) };
}

/// Blocks all signals that can be blocked.
pub fn block_all() {
    let all = Signals([u64::MAX; 16]);
    // SAFETY: a set as large as the C library's, which copies it.
    unsafe { sigprocmask(SIG_BLOCK, &raw const all, std::ptr::null_mut()) };
}

/// Waits for news of a child; false when there is no such child.
pub fn wait(pid: c_int, options: c_int) -> bool {
    // SAFETY: the status is not wanted.
    unsafe { waitpid(pid, std::ptr::null_mut(), options) == pid }
}

/// Whether writes to a descriptor wait.
pub fn set_waiting(fd: c_int, waits: bool) {
    // SAFETY: these two commands take and give flags.
    unsafe {
        let flags = fcntl(fd, F_GETFL);
        fcntl(fd, F_SETFL, if waits { flags & !O_NONBLOCK } else { flags | O_NONBLOCK });
    }
}

/// Traces a process, and stops it; false where that is not allowed.
pub fn trace(pid: c_int) -> bool {
    let none: c_long = 0;
    // SAFETY: no memory is read or written by these requests.
    unsafe { ptrace(PTRACE_SEIZE, pid, none, PTRACE_O_TRACEEXIT) == 0 && ptrace(PTRACE_INTERRUPT, pid, none, none) == 0 }
}

/// Ends this thread and no other, also the first one.
pub fn end_thread() -> ! {
    loop {
        // SAFETY: the stack of this thread is used by nobody else.
        unsafe { syscall(SYS_EXIT, 0 as c_long) };
    }
}

/// A write without a buffer, which a handler of signals may do, too; false where there is no room or nobody to read.
pub fn put(fd: c_int, text: &[u8]) -> bool {
    // SAFETY: the bytes are there.
    unsafe { write(fd, text.as_ptr(), text.len()) > 0 }
}

//! How each process stands, and how the first one learns that all do.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::c;

/// After this a process that nobody ended ends itself.
pub const LIFE: Duration = Duration::from_secs(300);

/// Locks the file of the token for as long as this process lives, or any that it forks.
pub fn hold(token: &str) -> Result<(), String> {
    let file = File::create(token).map_err(|error| format!("{token}: {error}"))?;
    file.lock_shared().map_err(|error| format!("{token}: {error}"))?;
    std::mem::forget(file);
    Ok(())
}

/// One line on standard output; who does not listen misses it.
pub fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

/// Lives and does nothing.
pub fn stay() -> ! {
    let begin = Instant::now();
    while begin.elapsed() < LIFE {
        std::thread::sleep(LIFE);
    }
    c::_exit(9)
}

/// Forks. The child does its work and stays; its pid, or -1 where none could be made.
pub fn child(work: impl FnOnce()) -> i32 {
    let pid = c::fork();
    if pid == 0 {
        work();
        stay()
    }
    pid
}

/// Counts processes that stand: each gives a byte, or lets go of the pipe.
pub struct Roll {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Roll {
    pub fn new() -> Result<Self, String> {
        let (reader, writer) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
        Ok(Self { reader, writer })
    }
    /// Said by a process that stands.
    pub fn here(&self) {
        let _ = (&self.writer).write_all(&[1]);
    }
    /// Its descriptors, for who closes all others. An exec closes them.
    pub fn descriptors(&self) -> [i32; 2] {
        [self.reader.as_raw_fd(), self.writer.as_raw_fd()]
    }
    /// Waits for so many, or until none is left that could come.
    pub fn wait(self, count: usize) {
        let Self { mut reader, writer } = self;
        drop(writer);
        let _ = reader.read_exact(&mut vec![0; count]);
    }
}

/// Tickets, each of which one process of many may take. Whoever finds none left knows at once.
pub struct Tickets(PipeReader);

impl Tickets {
    /// At most as many as a pipe holds (65,536).
    pub fn new(count: u32) -> Result<Self, String> {
        let (reader, mut writer) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
        writer.write_all(&vec![1; count.min(65_536) as usize]).map_err(|error| format!("no tickets: {error}"))?;
        // Nobody can write any more: an empty pipe is at its end.
        Ok(Self(reader))
    }
    pub fn take(&self) -> bool {
        (&self.0).read(&mut [0]).is_ok_and(|count| count == 1)
    }
}

//! Who is below whom, for those who answer only what a certain process has started.
//!
//! A process is known by its number and its start time. Nothing is held here: whoever must know that a process did not end
//! meanwhile holds its pidfd. What cannot be read is below nobody.

use super::proc;

/// So many generations are looked at.
const GENERATIONS: usize = 64;

/// A process, named so that another one with its number is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ancestor {
    pid: u32,
    start: u64,
}

impl Ancestor {
    /// The process that has this number now.
    ///
    /// # Errors
    /// It has ended.
    pub fn of(pid: u32) -> std::io::Result<Self> {
        Ok(Self { pid, start: proc::stat(pid)?.start })
    }

    /// The parent of a process that lives below this one; none: it does not, or it is this one itself.
    #[must_use]
    pub fn parent_of(&self, pid: u32) -> Option<u32> {
        let mut below = proc::stat(pid).ok().filter(proc::Stat::lives)?;
        let parent = below.parent;
        for _ in 0..GENERATIONS {
            let above = proc::stat(below.parent).ok()?;
            // A parent is older than its child: a younger one has its number from one that is gone.
            if above.start > below.start {
                return None;
            }
            if (above.pid, above.start) == (self.pid, self.start) {
                return Some(parent);
            }
            below = above;
        }
        None
    }
}

/// The arguments of a process, its own name first (proc_pid_cmdline(5)). Can block where the memory of that process is locked.
#[must_use]
pub fn arguments(pid: u32) -> Vec<Vec<u8>> {
    let text = proc::text(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    text.strip_suffix(b"\0").unwrap_or(&text).split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_told_from_others() {
        let me = Ancestor::of(std::process::id()).unwrap();
        let mut shell = std::process::Command::new("/bin/sh")
            .args(["-c", "sleep 3000 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let sleep: u32 = line.trim().parse().unwrap();
        assert_eq!(me.parent_of(shell.id()), Some(std::process::id()));
        assert_eq!(me.parent_of(sleep), Some(shell.id()));
        assert_eq!(me.parent_of(std::process::id()), None, "not itself");
        let between = Ancestor::of(shell.id()).unwrap();
        assert_eq!(between.parent_of(sleep), Some(shell.id()));
        assert_eq!(between.parent_of(std::process::id()), None, "not its parent");
        assert_eq!(Ancestor { start: between.start + 1, ..between }.parent_of(sleep), None, "another one with its number");
        assert_eq!(arguments(shell.id())[1..], [b"-c".to_vec(), b"sleep 3000 & echo $!; wait".to_vec()]);
        rustix::process::kill_process(rustix::process::Pid::from_raw(sleep.cast_signed()).unwrap(), rustix::process::Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert_eq!(me.parent_of(sleep), None, "it has ended");
    }
}

//! Control groups of version 2 (cgroups(7)): one for each run, and in it one for each child.
//!
//! A group is killed as a whole and cannot be outrun (`cgroup.kill`, Linux 5.14), and it knows when it is empty. They are
//! made below the host's own group, where it may write there. Whether that is so is tried once, with a process.
//!
//! Limits on trees need controllers besides ([`controllers`]), which may be those of version 1 ([`v1`]); [`limit`] holds
//! the limits of one run.

pub mod controllers;
pub mod limit;
mod v1;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use super::proc::{self, Stat};
use super::shim::OWN_PROGRAM;

/// The group that hosts share, in which each has one of its own.
pub const SHARED: &str = "falconer";
/// In the shared group: where daemons are, so that the shared group itself holds no process.
pub const DAEMONS: &str = "daemons";

/// Where the groups of one host's runs are made.
#[derive(Debug, Clone)]
pub struct Base {
    dir: PathBuf,
}

/// The group of one run.
#[derive(Debug, Clone)]
pub struct Group {
    dir: PathBuf,
}

impl Base {
    /// Looks for a place, and tries it. `tag` tells this host from others on the machine.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn probe(tag: &str) -> Result<Self, String> {
        let own = own_dir().map_err(|error| format!("no cgroup of version 2: {error}"))?;
        // A daemon that left its starter's group is in `falconer/daemons`.
        let shared =
            if own.ends_with(Path::new(SHARED).join(DAEMONS)) { own.parent().unwrap_or(&own).to_owned() } else { own.join(SHARED) };
        let base = Self { dir: shared.join(tag) };
        let failed = |what: &str, error: &io::Error| format!("{what} {}: {error}", base.dir.display());
        make_all(&base.dir).map_err(|error| failed("cannot make the cgroup", &error))?;
        sweep(&base.dir);
        let trial = Group { dir: base.dir.join(format!("trial-{}", std::process::id())) };
        let tried = trial.try_out();
        let _ = trial.remove();
        tried.map_err(|error| failed("cannot use the cgroup", &error))?;
        Ok(base)
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The group of a run, made if it is not there.
    pub fn group(&self, name: &str) -> io::Result<Group> {
        let dir = self.dir.join(name);
        make_all(&dir)?;
        Ok(Group { dir })
    }
}

/// Takes away what an earlier host made here and never used. What has processes stays.
fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = Group { dir: entry.path() }.remove();
        }
    }
}

/// Makes a group and those above it. A trial of another process may take the shared group away between two steps, as
/// long as nothing is in it: then it is made once more.
fn make_all(dir: &Path) -> io::Result<()> {
    match std::fs::create_dir_all(dir) {
        Err(error) if is_gone(&error) => std::fs::create_dir_all(dir),
        other => other,
    }
}

fn made(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

impl Group {
    /// A group that a record tells of; none where it is not below a directory of ours.
    #[must_use]
    pub fn recorded(dir: &str) -> Option<Self> {
        let dir = PathBuf::from(dir);
        let plain = dir.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        (plain && dir.components().any(|part| part.as_os_str() == SHARED)).then_some(Self { dir })
    }

    /// The same of version 1: takes it away, and the place of its host where that is empty then.
    pub fn forget_v1(dir: &str) {
        if let Some(group) = Self::recorded(dir) {
            let _ = group.remove();
            if let Some(host) = group.dir.parent() {
                v1::remove(host);
            }
        }
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A group within, for one child; opened, for clone3(2).
    pub fn child(&self, name: &str) -> io::Result<(Self, OwnedFd)> {
        let dir = self.dir.join(name);
        made(std::fs::create_dir(&dir))?;
        let fd = std::fs::File::open(&dir)?.into();
        Ok((Self { dir }, fd))
    }

    /// Kills all that is in it and below.
    pub fn kill(&self) -> io::Result<()> {
        std::fs::write(self.dir.join("cgroup.kill"), "1")
    }

    /// Whether something lives in it or below; one that is gone is empty.
    pub fn is_populated(&self) -> io::Result<bool> {
        match std::fs::read_to_string(self.dir.join("cgroup.events")) {
            Ok(text) => Ok(!text.lines().any(|line| line == "populated 0")),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What lives in it and below.
    #[must_use]
    pub fn members(&self) -> Vec<Stat> {
        let mut found = Vec::new();
        self.each(&mut |dir| {
            let pids = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            found.extend(pids.lines().filter_map(|pid| proc::stat(pid.parse().ok()?).ok()).filter(Stat::lives));
        });
        found
    }

    /// Removes it and all below; they must be empty.
    pub fn remove(&self) -> io::Result<()> {
        let mut result = Ok(());
        self.each(&mut |dir| {
            if let Err(error) = std::fs::remove_dir(dir)
                && !is_gone(&error)
            {
                result = Err(error);
            }
        });
        result
    }

    /// From the innermost to this one.
    fn each(&self, visit: &mut dyn FnMut(&Path)) {
        fn down(dir: &Path, visit: &mut dyn FnMut(&Path)) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    down(&entry.path(), visit);
                }
            }
            visit(dir);
        }
        down(&self.dir, visit);
    }

    /// Whether a process can be put here and killed here.
    fn try_out(&self) -> io::Result<()> {
        made(std::fs::create_dir(&self.dir))?;
        if !self.dir.join("cgroup.kill").exists() {
            return Err(io::Error::other("this kernel has no cgroup.kill (Linux 5.14)"));
        }
        // A shim that waits for its order, until it is killed.
        let (order, stdin) = UnixStream::pair()?;
        let mut command = Command::new(OWN_PROGRAM);
        command.arg(super::shim::COMMAND).env_clear().stdin(OwnedFd::from(stdin)).stdout(Stdio::null()).stderr(Stdio::null());
        let trial = super::adopt::bear(&mut command, None)?;
        let put = std::fs::write(self.dir.join("cgroup.procs"), trial.id().to_string()).and_then(|()| self.kill());
        drop((order, command));
        super::adopt::end(trial);
        put
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// The directory of this process's own group.
pub fn own_dir() -> io::Result<PathBuf> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "none is mounted");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mount_point(&mounts).ok_or_else(missing)?;
    let groups = std::fs::read_to_string("/proc/self/cgroup")?;
    let own = own_group(&groups).ok_or_else(missing)?;
    if own.components().any(|part| part == Component::ParentDir) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "this process is in a group outside of what is mounted"));
    }
    Ok(mount.join(own.strip_prefix("/").unwrap_or(own)))
}

/// Where version 2 is mounted, from the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
pub fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next()? == "cgroup2").then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

/// Our group of version 2, from the text of `/proc/self/cgroup`.
pub fn own_group(groups: &str) -> Option<&Path> {
    groups.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_the_kernel_are_read() {
        let mounts = "22 28 0:20 / /proc rw shared:5 - proc proc rw\n30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup".into()));
        let hybrid =
            "40 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n41 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 c rw\n";
        assert_eq!(mount_point(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point("1 2 3 / / rw - ext4 /dev/x rw\n"), None);
        assert_eq!(own_group("4:memory:/x\n0::/user.slice/a.scope\n"), Some(Path::new("/user.slice/a.scope")));
        assert_eq!(own_group("4:memory:/x\n"), None);
    }

    #[test]
    fn only_directories_of_ours_are_taken_from_a_record() {
        assert!(Group::recorded("/sys/fs/cgroup/falconer/h1/run_x").is_some());
        assert!(Group::recorded("/sys/fs/cgroup/user.slice").is_none());
        assert!(Group::recorded("/sys/fs/cgroup/falconer/../user.slice").is_none());
    }
}

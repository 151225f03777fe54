//! Out of the cgroup of whoever started us, where that is possible, so that its end is not ours (cgroups(7), version 2).
//!
//! Best effort: without the right to write there, nothing happens and nothing is lost but that protection.

use std::io;
use std::path::{Component, Path, PathBuf};

/// The group that daemons share, below the highest group in which we may make one.
const GROUP: &str = "falconer";

/// Moves this process into a group of daemons. Gives the group it is in, `None` where it could stay where it was (the
/// root group belongs to nobody who could end it).
///
/// # Errors
/// Why it stays in its starter's group.
pub fn leave() -> io::Result<Option<PathBuf>> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "no cgroup of version 2");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mount_point(&mounts).ok_or_else(missing)?;
    let groups = std::fs::read_to_string("/proc/self/cgroup")?;
    let own = own_group(&groups).ok_or_else(missing)?;
    let steps: Vec<_> = own
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    if steps.is_empty() || own.components().any(|component| component == Component::ParentDir) {
        return Ok(None);
    }
    let mut above = mount;
    let mut last = io::Error::from(io::ErrorKind::PermissionDenied);
    // From the root down to the parent of our own group: the highest place that lets us in.
    for step in steps {
        match enter(&above.join(GROUP)) {
            Ok(group) => return Ok(Some(group)),
            Err(error) => last = error,
        }
        above.push(step);
    }
    Err(last)
}

fn enter(group: &Path) -> io::Result<PathBuf> {
    match std::fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::write(group.join("cgroup.procs"), "0")?;
    Ok(group.to_owned())
}

/// Where version 2 is mounted, from the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next()? == "cgroup2").then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

/// Our group of version 2, from the text of `/proc/self/cgroup`.
fn own_group(groups: &str) -> Option<&Path> {
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
}

//! Out of the cgroup that it was put into: as root, anybody may.

use std::fs;
use std::path::PathBuf;

use crate::stand::child;
use crate::{Order, Stands, c};

/// Where the cgroups of version 2 are: `proc_pid_mountinfo(5)`, whose fifth field is the place, and the type comes after ` - `.
fn mount() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        (kind.split(' ').next() == Some("cgroup2")).then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// This process and a child go into `falconer-bait-NAME` below the root of all cgroups, where NAME is the last part of the
/// token. Whoever gave the token removes it.
pub fn mover(order: &Order) -> Stands {
    let name = order.token.rsplit('/').next().unwrap_or_default();
    let group = mount().ok_or("there are no cgroups of version 2")?.join(format!("falconer-bait-{name}"));
    fs::create_dir(&group).map_err(|error| format!("{}: {error}", group.display()))?;
    let other = child(|| ());
    for pid in [other, c::getpid()] {
        fs::write(group.join("cgroup.procs"), pid.to_string()).map_err(|error| format!("{}: {error}", group.display()))?;
    }
    Ok(())
}

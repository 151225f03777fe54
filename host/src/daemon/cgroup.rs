//! Out of the cgroup of whoever started us, where that is possible, so that its end is not ours (cgroups(7), version 2).
//!
//! Best effort: without the right to write there, nothing happens and nothing is lost but that protection.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::tree::cgroup::{DAEMONS, SHARED, mount_point, own_group};

/// Moves this process into a group of daemons. Gives the group it is in, `None` where it could stay where it was (the
/// root group belongs to nobody who could end it).
///
/// # Errors
/// Why it stays in its starter's group.
pub fn leave() -> io::Result<Option<PathBuf>> {
    let groups = std::fs::read_to_string("/proc/self/cgroup")?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let (Some(mount), Some(own)) = (mount_point(&mounts), own_group(&groups)) else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no cgroup of version 2"));
    };
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
        match enter(&above.join(SHARED)) {
            Ok(group) => return Ok(Some(group)),
            Err(error) => last = error,
        }
        above.push(step);
    }
    Err(last)
}

/// The daemons' own within the shared one: a group with controllers for others holds no process itself.
fn enter(shared: &Path) -> io::Result<PathBuf> {
    let group = shared.join(DAEMONS);
    std::fs::create_dir_all(&group)?;
    std::fs::write(group.join("cgroup.procs"), "0")?;
    Ok(group)
}

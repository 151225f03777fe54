//! Controllers of version 1, each in a hierarchy of its own (cgroups(7)): where they are mounted, and our place in them.
//!
//! Groups are made below the host's own group, so that what limits the host limits its runs too; where that is not to be
//! written to, below the root of the mount. A controller that is not mounted is not mounted by us.

use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, access};

use super::SHARED;
use super::controllers::Controller;
use super::place::{self, Place};

/// A file that every group of a controller has, but for the root.
const fn limit_file(controller: Controller) -> &'static str {
    match controller {
        Controller::Memory => "memory.limit_in_bytes",
        Controller::Processes => "pids.max",
        Controller::Cpu => "cpu.cfs_quota_us",
    }
}

/// Makes the place for the groups of the host with this tag.
///
/// # Errors
/// Why there is none, for people.
pub fn prepare(controller: Controller, tag: &str) -> Result<Place, String> {
    let mut last = None;
    for within in places(controller)? {
        let dir = within.join(SHARED).join(tag);
        match Place::make(&dir) {
            Ok(place) if dir.join(limit_file(controller)).exists() => {
                super::sweep(&dir);
                return Ok(place);
            }
            Ok(_) => last = Some(format!("{} has no {}", dir.display(), limit_file(controller))),
            Err(error) => last = Some(format!("cannot make the cgroup {}: {error}", dir.display())),
        }
        place::remove(&dir);
    }
    Err(last.unwrap_or_else(|| not_mounted(controller)))
}

/// Takes the place of a host away, where it is empty and held by nobody.
pub fn forget_host(controller: Controller, tag: &str) {
    for within in places(controller).unwrap_or_default() {
        place::remove_if_free(&within.join(SHARED).join(tag));
    }
}

/// Where a place would be made, as far as that can be seen.
pub fn survey(controller: Controller) -> Result<PathBuf, String> {
    let mut last = None;
    for place in places(controller)? {
        match access(&place, Access::WRITE_OK) {
            Ok(()) => return Ok(place),
            Err(error) => last = Some(format!("cannot make a group in {}: {}", place.display(), io::Error::from(error))),
        }
    }
    Err(last.unwrap_or_else(|| not_mounted(controller)))
}

fn not_mounted(controller: Controller) -> String {
    format!("the controller {} of version 1 is not mounted", controller.name())
}

/// Directories in which groups may be made, the best first.
fn places(controller: Controller) -> Result<Vec<PathBuf>, String> {
    let read = |file: &str| std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"));
    let (mounts, groups) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    Ok(places_in(&mounts, &groups, controller.name()))
}

/// The same from the texts of the kernel.
fn places_in(mounts: &str, groups: &str, name: &str) -> Vec<PathBuf> {
    let Some((mount, root)) = mount(mounts, name) else { return Vec::new() };
    let own = own_group(groups, name).filter(|own| !own.components().any(|part| part == Component::ParentDir));
    // A container sees its own part of the hierarchy, whose root is not the hierarchy's.
    let inside = own.and_then(|own| own.strip_prefix(root).ok()).map(|inside| mount.join(inside));
    let mut places: Vec<PathBuf> = inside.into_iter().collect();
    if places.first() != Some(&mount) {
        places.push(mount);
    }
    places
}

/// Where a controller is mounted, and which group is the root of that (proc_pid_mountinfo(5): fields 5 and 4; the
/// controllers are among the options of the file system, at the end).
fn mount<'t>(mounts: &'t str, name: &str) -> Option<(PathBuf, &'t str)> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let of_v1 = after.next()? == "cgroup" && after.next_back()?.split(',').any(|option| option == name);
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        of_v1.then(|| (PathBuf::from(point), root))
    })
}

/// Our group of a controller (`/proc/self/cgroup`: `NUMBER:CONTROLLERS:PATH`).
fn own_group<'t>(groups: &'t str, name: &str) -> Option<&'t Path> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|controller| controller == name).then(|| Path::new(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        31 25 0:27 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory\n\
        32 25 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        33 25 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";

    #[test]
    fn the_own_group_comes_first_and_then_the_root_of_the_mount() {
        let groups = "5:memory:/a/b\n4:cpu,cpuacct:/docker/abc/x\n3:cpuset:/\n0::/\n";
        let found = |name: &str| places_in(MOUNTS, groups, name);
        assert_eq!(found("memory"), [Path::new("/sys/fs/cgroup/memory/a/b"), Path::new("/sys/fs/cgroup/memory")]);
        assert_eq!(found("cpu"), [Path::new("/sys/fs/cgroup/cpu,cpuacct/x"), Path::new("/sys/fs/cgroup/cpu,cpuacct")]);
        assert_eq!(found("cpuset").len(), 1, "the own group is the root");
        assert_eq!(found("pids"), Vec::<PathBuf>::new(), "not mounted");
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_not_written_to() {
        for own in ["/docker/other", "/../other"] {
            assert_eq!(places_in(MOUNTS, &format!("4:cpu,cpuacct:{own}\n"), "cpu"), [Path::new("/sys/fs/cgroup/cpu,cpuacct")], "{own}");
        }
    }
}

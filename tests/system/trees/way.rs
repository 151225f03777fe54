//! The two ways in which the host can follow a tree, and whether this machine has the first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

/// How the host keeps hold of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A cgroup of version 2 for each child.
    Cgroup,
    /// What is orphaned comes to the shim.
    Subreaper,
}

impl Way {
    /// Both, or what this machine has of them.
    pub fn all(test: &str) -> Vec<Self> {
        if let Err(why) = cgroups() {
            eprintln!("left out: {test} with cgroups: {why}");
            return vec![Self::Subreaper];
        }
        vec![Self::Cgroup, Self::Subreaper]
    }
    /// The value of `cgroup` in `[host]`.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Cgroup => "required",
            Self::Subreaper => "off",
        }
    }
    /// How the host proves an end in this way.
    pub const fn proves_by(self) -> &'static [&'static str] {
        match self {
            Self::Cgroup => &["cgroup", "walk", "scan"],
            Self::Subreaper => &["walk", "scan"],
        }
    }
}

/// Whether we can make cgroups of version 2 below our own and move a child there, or why not.
fn cgroups() -> &'static Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(try_cgroups)
}

fn try_cgroups() -> Result<(), String> {
    let group = own().ok_or("none of version 2 is mounted")?.join(format!("falconer-test-{}", std::process::id()));
    let said = |error: std::io::Error| format!("{}: {error}", group.display());
    fs::create_dir(&group).map_err(said)?;
    let child = Command::new("/bin/sleep").arg("1000").spawn();
    let moved = child.map_err(said).and_then(|mut child| {
        let moved = fs::write(group.join("cgroup.procs"), child.id().to_string()).map_err(said).and_then(|()| is_in(&child, &group));
        let _ = child.kill().and_then(|()| child.wait());
        moved
    });
    fs::remove_dir(&group).map_err(said)?;
    moved
}

fn is_in(child: &Child, group: &Path) -> Result<(), String> {
    let name = group.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let told = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap_or_default();
    let there = told.lines().any(|line| line.starts_with("0::") && line.ends_with(name));
    if there { Ok(()) } else { Err(format!("a child that was moved to {} is not there", group.display())) }
}

/// Where the cgroups of version 2 are: the fifth field of `proc_pid_mountinfo(5)`, whose type comes after ` - `.
pub fn mount() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        (kind.split(' ').next() == Some("cgroup2")).then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// Our own cgroup of version 2.
fn own() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = table.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(mount()?.join(path))
}

/// All cgroups whose name holds this, wherever they are.
pub fn named(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = mount().into_iter().collect();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains(name) {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

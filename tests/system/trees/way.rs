//! The two ways in which the host can follow a tree, and whether this machine has the first.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

use rustix::fs::{Access, access};
use serde_json::Value;

use crate::host::Host;

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
        match cgroups() {
            Cgroups::Usable => vec![Self::Cgroup, Self::Subreaper],
            Cgroups::None(why) | Cgroups::Broken(why) => {
                eprintln!("left out: {test} with cgroups: {why}");
                vec![Self::Subreaper]
            }
        }
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

/// Whether we can make cgroups of version 2 below our own and move a child there.
#[derive(Debug)]
enum Cgroups {
    Usable,
    /// This machine has none for us, and that is nobody's fault.
    None(String),
    /// They are ours to write to, and it does not work.
    Broken(String),
}

fn cgroups() -> &'static Cgroups {
    static ANSWER: OnceLock<Cgroups> = OnceLock::new();
    ANSWER.get_or_init(try_cgroups)
}

fn try_cgroups() -> Cgroups {
    let Some(own) = own() else { return Cgroups::None("none of version 2 is mounted where we are".into()) };
    // Neither the rights nor the mount forbid it.
    if let Err(error) = [&own, &own.join("cgroup.procs")].into_iter().try_for_each(|file| access(file, Access::WRITE_OK)) {
        return Cgroups::None(format!("{}: {error}", own.display()));
    }
    let group = own.join(format!("falconer-test-{}", std::process::id()));
    let said = |error: std::io::Error| Cgroups::Broken(format!("{}: {error}", group.display()));
    if let Err(error) = fs::create_dir(&group) {
        return said(error);
    }
    let found = try_out(&group);
    if let Err(error) = fs::remove_dir(&group) {
        return said(error);
    }
    found
}

fn try_out(group: &Path) -> Cgroups {
    let said = |error: std::io::Error| Cgroups::Broken(format!("{}: {error}", group.display()));
    if !group.join("cgroup.kill").exists() {
        return Cgroups::None("this kernel has no cgroup.kill (Linux 5.14)".into());
    }
    if fs::read_to_string(group.join("cgroup.type")).is_ok_and(|kind| kind.trim() == "domain invalid") {
        return Cgroups::None("we are in a threaded cgroup, below which no process can be".into());
    }
    let mut child = match Command::new("/bin/sleep").arg("1000").spawn() {
        Ok(child) => child,
        Err(error) => return said(error),
    };
    let moved = fs::write(group.join("cgroup.procs"), child.id().to_string());
    let is_there = is_in(&child, group);
    let _ = child.kill().and_then(|()| child.wait());
    match (moved, is_there) {
        (Err(error), _) => said(error),
        (_, Err(why)) => Cgroups::Broken(why),
        _ => Cgroups::Usable,
    }
}

/// What this machine cannot show is said where it is seen; that it could and did not is a failure, be it ours (with
/// `FALCONER_TESTS_REQUIRE=all`) or because the program has found the way that we have not.
#[test]
fn both_ways_are_tried() {
    let why = match cgroups() {
        Cgroups::Usable => return,
        Cgroups::None(why) => why,
        Cgroups::Broken(why) => {
            assert!(std::env::var("FALCONER_TESTS_REQUIRE").as_deref() != Ok("all"), "cgroups are ours to write to, and yet: {why}");
            why
        }
    };
    let host = Host::usual();
    let checked: Value = serde_json::from_str(&host.run(&["check", "--json"]).out).unwrap();
    let trees = checked["findings"]["host"].as_array().unwrap().iter().find(|finding| finding["subject"] == "trees").unwrap();
    assert!(!trees["message"].as_str().unwrap().starts_with("cgroup v2"), "the program uses them, and no test does: {trees}; {why}");
    left_out("all trees in cgroups (trees::*, orphans::*)", why);
}

/// Says so where it is seen also when the test passes: only what the macros print is kept back.
pub fn left_out(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "\nLEFT OUT on this machine: {what}: {why}");
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

//! Working directories: which a client may bring, and which a run may have.
//!
//! Everything is judged with symbolic links resolved, so that a link into a workspace is inside and a link out of it is not.
//! A workspace bounds the working directory, not what a native program may touch. What changes on the disk between this
//! judgement and the start of a program is the business of [`crate::tree`], which opens the directory once.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use rustix::fs::{FileType, Mode, OFlags, open};

use crate::config::Config;

/// Not for a client to bring, nor anything below them.
const SYSTEM: &[&str] = &["/etc", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/boot", "/dev", "/proc", "/sys", "/run"];
/// The same, but for a home directory or a place for temporary files that lies in them.
const SYSTEM_BUT_HOMES: &[&str] = &["/var", "/opt", "/snap", "/nix"];
/// Not for a client to bring, though directories below them are.
const COMMON: &[&str] = &["/", "/home", "/tmp", "/var/tmp", "/mnt", "/media", "/srv", "/lost+found"];
/// Where anyone may make a directory.
const TEMPORARY: &[&str] = &["/tmp", "/var/tmp"];

/// The directories of this host, with symbolic links resolved.
#[derive(Debug, Clone)]
pub(super) struct Places {
    home: Utf8PathBuf,
    /// Data and plugins.
    ours: Vec<Utf8PathBuf>,
    /// The configuration file, where one was read: by its name, and what its name leads to.
    files: Vec<Utf8PathBuf>,
}

impl Places {
    pub fn of(config: &Config) -> Self {
        Self {
            home: real(&config.home),
            ours: vec![real(&config.data_dir), real(&config.plugins_dir)],
            files: config.file.iter().flat_map(|file| [named(file), real(file)]).collect(),
        }
    }

    /// Whether this directory (resolved) is one of ours, or lies in one.
    pub fn is_ours(&self, dir: &Utf8Path) -> bool {
        self.ours.iter().any(|ours| dir.starts_with(ours))
    }

    /// The directory of ours in which this one lies, if it lies in one that does not hold the workspace too.
    pub fn ours_within(&self, dir: &Utf8Path, workspace: &Utf8Path) -> bool {
        self.ours.iter().any(|ours| dir.starts_with(ours) && !workspace.starts_with(ours))
    }

    /// Why this directory (resolved) cannot be a workspace only because a client stands in it; none: it can.
    pub fn refused_for_client(&self, dir: &Utf8Path) -> Option<&'static str> {
        let below = |tops: &[&str]| tops.iter().any(|top| dir.starts_with(top));
        if COMMON.contains(&dir.as_str()) {
            return Some("it is shared by everyone");
        }
        if dir == self.home || is_home(dir) {
            return Some("it is a home directory itself");
        }
        let in_home = dir.starts_with(&self.home) && self.home != "/";
        if below(SYSTEM) || (below(SYSTEM_BUT_HOMES) && !in_home && !below(TEMPORARY)) {
            return Some("it is a system directory");
        }
        if dotted(dir, &self.home) || foreign_home(dir).is_some_and(|home| dotted(dir, home)) {
            return Some("it lies in a directory whose name begins with a dot");
        }
        if self.is_ours(dir) || self.ours.iter().any(|ours| ours.starts_with(dir)) {
            return Some("it is, holds or lies in falconer's own data or plugins directory");
        }
        if self.files.iter().any(|file| file.starts_with(dir)) {
            return Some("it holds falconer's configuration");
        }
        None
    }
}

/// `/root` and `/home/NAME`, whoever it belongs to.
fn is_home(dir: &Utf8Path) -> bool {
    dir == "/root" || dir.parent().is_some_and(|parent| parent == "/home")
}

/// The home of anyone in which this directory lies.
fn foreign_home(dir: &Utf8Path) -> Option<&Utf8Path> {
    dir.ancestors().find(|ancestor| is_home(ancestor))
}

fn dotted(dir: &Utf8Path, home: &Utf8Path) -> bool {
    dir.strip_prefix(home)
        .is_ok_and(|below| below.components().any(|component| matches!(component, Utf8Component::Normal(name) if name.starts_with('.'))))
}

/// A path with its symbolic links resolved, as far as it exists; what does not exist is put behind it.
pub(super) fn real(path: &Utf8Path) -> Utf8PathBuf {
    for ancestor in path.ancestors() {
        if let Ok(resolved) = ancestor.canonicalize_utf8() {
            return match path.strip_prefix(ancestor) {
                Ok(rest) if !rest.as_str().is_empty() => resolved.join(rest),
                _ => resolved,
            };
        }
    }
    path.to_owned()
}

/// A path with the symbolic links of its directory resolved, and not its last one.
fn named(path: &Utf8Path) -> Utf8PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// A directory with its symbolic links resolved; or why there is none.
pub(super) fn directory(path: &Utf8Path) -> Result<Utf8PathBuf, String> {
    let real = path.canonicalize_utf8().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be entered".to_owned(),
        _ => format!("cannot be resolved: {error}"),
    })?;
    if real.is_dir() { Ok(real) } else { Err("is not a directory".into()) }
}

/// A file that was found, and where it is.
pub(super) struct Found {
    /// Without symbolic links, as the kernel says of what is open.
    pub real: Utf8PathBuf,
    path: OwnedFd,
}

impl Found {
    /// Opens what was found for reading; or why it cannot be.
    pub fn read(self) -> Result<File, String> {
        // The descriptor's own entry leads to the very file, whatever lies at its path by now.
        let entry = format!("/proc/self/fd/{}", self.path.as_raw_fd());
        let file = open(entry, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty());
        file.map(File::from).map_err(|error| why(&error.into()))
    }
}

/// Finds a regular file, without opening it for reading: opening a device or a pipe may do something.
pub(super) fn file(path: &Utf8Path) -> Result<Found, String> {
    let fd = open(path.as_std_path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|error| why(&error.into()))?;
    let meta = rustix::fs::fstat(&fd).map_err(|error| why(&error.into()))?;
    if FileType::from_raw_mode(meta.st_mode) != FileType::RegularFile {
        return Err("is no regular file".into());
    }
    if meta.st_nlink == 0 {
        return Err("does not exist".into());
    }
    let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|error| why(&error))?;
    let real = Utf8PathBuf::from_path_buf(real).map_err(|_| "is at a place whose name is no UTF-8".to_owned())?;
    Ok(Found { real, path: fd })
}

fn why(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        _ => format!("cannot be opened: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing here exists, so the rules are seen without a file system.
    fn places(home: &str) -> Places {
        Places {
            home: home.into(),
            ours: vec!["/home/u/.local/share/falconer".into(), "/data/falconer/plugins".into()],
            files: vec!["/work/project/falconer.toml".into()],
        }
    }

    #[test]
    fn which_directories_a_client_may_bring() {
        let good = [
            "/home/u/src",
            "/home/u/src/a.b",
            "/home/u2/src",
            "/tmp/x",
            "/tmp/.tmpA1/work",
            "/var/tmp/x",
            "/workspace",
            "/work",
            "/work/project/src",
            "/mnt/disk/src",
            "/srv/app",
            "/library",
            "/devel",
        ];
        let bad = [
            "/",
            "/home",
            "/home/u",
            "/home/other",
            "/root",
            "/root/.cache",
            "/home/u/.ssh",
            "/home/u/.config/x",
            "/home/u/src/.git/hooks",
            "/home/other/.ssh",
            "/etc",
            "/etc/x",
            "/usr/local/src",
            "/bin",
            "/lib64/x",
            "/boot",
            "/dev/shm",
            "/proc/1",
            "/sys",
            "/run/user/1000",
            "/var",
            "/var/lib/x",
            "/opt",
            "/opt/x",
            "/tmp",
            "/var/tmp",
            "/mnt",
            "/data/falconer",
            "/data/falconer/plugins",
            "/data/falconer/plugins/x",
            "/data",
            "/work/project",
        ];
        let places = places("/home/u");
        for dir in good {
            assert_eq!(
                places.refused_for_client(dir.into()),
                if dir == "/work" { Some("it holds falconer's configuration") } else { None },
                "{dir}"
            );
        }
        for dir in bad {
            assert!(places.refused_for_client(dir.into()).is_some(), "{dir}");
        }
    }

    #[test]
    fn a_home_in_a_system_place_still_has_projects() {
        let service = places("/var/lib/jenkins");
        assert_eq!(service.refused_for_client("/var/lib/jenkins/job".into()), None);
        assert!(service.refused_for_client("/var/lib/jenkins".into()).is_some());
        assert!(service.refused_for_client("/var/lib/jenkins/.ssh".into()).is_some());
        assert!(service.refused_for_client("/var/lib/other".into()).is_some());
        assert!(places("/").refused_for_client("/opt/x".into()).is_some(), "a home of / opens nothing");
        assert!(places("/usr/sbin").refused_for_client("/usr/sbin/x".into()).is_some());
    }

    #[test]
    fn a_path_is_resolved_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
        std::fs::create_dir(top.join("real")).unwrap();
        std::os::unix::fs::symlink(top.join("real"), top.join("link")).unwrap();
        assert_eq!(real(&top.join("link/not/yet")), top.join("real/not/yet"));
        assert_eq!(real(&top.join("link")), top.join("real"));
        assert_eq!(directory(&top.join("link/../real")), Ok(top.join("real")));
        assert_eq!(directory(&top.join("none")), Err("does not exist".into()));
        std::fs::write(top.join("file"), "").unwrap();
        assert_eq!(directory(&top.join("file")), Err("is not a directory".into()));
    }

    #[test]
    fn a_file_is_where_it_is_when_it_is_open() {
        use std::io::Read;
        let dir = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
        std::fs::write(top.join("file"), "one").unwrap();
        std::os::unix::fs::symlink(top.join("file"), top.join("link")).unwrap();
        let found = file(&top.join("link")).unwrap();
        assert_eq!(found.real, top.join("file"));
        std::fs::rename(top.join("file"), top.join("moved")).unwrap();
        std::fs::write(top.join("file"), "another").unwrap();
        let mut text = String::new();
        found.read().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "one", "what was judged is what is read");
        rustix::fs::mknodat(rustix::fs::CWD, top.join("pipe").as_std_path(), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        for (name, wrong) in [("none", "does not exist"), ("pipe", "is no regular file"), (".", "is no regular file")] {
            assert_eq!(file(&top.join(name)).err().as_deref(), Some(wrong), "{name}");
        }
    }
}

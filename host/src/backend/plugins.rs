//! The plugins directory: which files in it are backends, and whether they may be trusted.
//!
//! A plugin runs with the grants of its name, so nobody but this user (or root) may have put it there: the directory
//! and each file must belong to them and be writable by nobody else. Nothing here is kept open or watched; the
//! directory is looked at when somebody asks.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};

use super::code::read_open;
use crate::fault::{Fault, code};

/// The end of a plugin's file name.
const END: &str = ".wasm";
/// The longest name.
const NAME_BYTES: usize = 32;

/// Tells one build of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Owner and mode of the directory: mending them makes its plugins be looked at again.
    place: (u32, u32),
}

impl FileId {
    fn of(place: &Metadata, found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            place: (place.uid(), place.mode()),
        }
    }
}

/// Whether this can be the name of a backend: `[a-z0-9][a-z0-9-]{0,31}`.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= NAME_BYTES && name.bytes().next().is_some_and(fits) && name.bytes().all(|byte| fits(byte) || byte == b'-')
}

/// The file of a plugin of this name, if there is one.
pub(super) fn find(dir: &Utf8Path, name: &str) -> Option<(Utf8PathBuf, FileId)> {
    let path = dir.join(format!("{name}{END}"));
    let found = fs::metadata(&path).ok()?;
    Some((path, FileId::of(&fs::metadata(dir).ok()?, &found)))
}

/// All files of the directory whose names end in `.wasm`, by the name before that. No directory: none.
pub(super) fn scan(dir: &Utf8Path) -> BTreeMap<String, (Utf8PathBuf, FileId)> {
    let mut plugins = BTreeMap::new();
    let entries = match dir.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!("the plugins directory {dir} cannot be read: {error}");
            }
            return plugins;
        }
    };
    for entry in entries.flatten() {
        // Hidden files are half-written ones of copying tools.
        let Some(name) = entry.file_name().strip_suffix(END).filter(|name| !name.starts_with('.')) else { continue };
        if let Some(found) = find(dir, name) {
            plugins.insert(name.to_owned(), found);
        }
    }
    plugins
}

/// Reads a plugin, if nobody else can have written it.
pub(super) fn read(dir: &Utf8Path, name: &str, path: &Utf8Path) -> Result<Vec<u8>, Fault> {
    if !is_name(name) {
        return Err(failed(format!("`{}` is no name of a backend", name.escape_debug()))
            .hint("a plugin is NAME.wasm, where NAME is 1 to 32 of a-z, 0-9 and -, and begins with none of -"));
    }
    let unreadable = |path: &Utf8Path| {
        let path = path.to_owned();
        move |error: io::Error| failed(format!("{path} cannot be read: {error}"))
    };
    private(dir, &fs::metadata(dir).map_err(unreadable(dir))?)?;
    let file = File::open(path).map_err(unreadable(path))?;
    let found = file.metadata().map_err(unreadable(path))?;
    if !found.is_file() {
        return Err(failed(format!("{path} is not a file")));
    }
    private(path, &found)?;
    read_open(file).map_err(unreadable(path))
}

/// Ours or root's, and writable by nobody else.
fn private(path: &Utf8Path, found: &Metadata) -> Result<(), Fault> {
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us && found.uid() != 0 {
        return Err(failed(format!("{path} belongs to user {}, so no plugin there is used", found.uid()))
            .hint(format!("make it yours: chown {us} {path}")));
    }
    if found.mode() & 0o022 != 0 {
        return Err(failed(format!("{path} can be written by others (mode {:o}), so no plugin there is used", found.mode() & 0o7777))
            .hint(format!("chmod go-w {path}")));
    }
    Ok(())
}

fn failed(message: String) -> Fault {
    Fault::new(code::BACKEND_UNAVAILABLE, message)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn names() {
        for good in ["a", "claude", "my-tool2", "0x", &"a".repeat(32)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a.b", "a/b", "é", &"a".repeat(33)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn what_others_can_write_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(temp.path()).unwrap();
        let path = dir.join("x.wasm");
        fs::write(&path, b"x").unwrap();
        let mode = |path: &Utf8Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&path, 0o644);
        mode(dir, 0o755);
        assert_eq!(read(dir, "x", &path).unwrap(), b"x");
        mode(&path, 0o664);
        assert!(read(dir, "x", &path).unwrap_err().hint.unwrap().starts_with("chmod go-w"));
        mode(&path, 0o644);
        mode(dir, 0o757);
        assert!(read(dir, "x", &path).unwrap_err().message.contains(dir.as_str()));
        mode(dir, 0o700);
    }

    #[test]
    fn only_wasm_files_count() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(temp.path()).unwrap();
        for name in ["a.wasm", ".b.wasm", "c.wasm.tmp", "Bad Name.wasm", "d.txt"] {
            fs::write(dir.join(name), b"x").unwrap();
        }
        assert_eq!(scan(dir).into_keys().collect::<Vec<_>>(), ["Bad Name", "a"]);
        assert!(scan(&dir.join("none")).is_empty());
    }
}

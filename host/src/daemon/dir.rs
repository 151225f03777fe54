//! The data directory: ours, and closed to everybody else.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};

use camino::Utf8Path;

use super::code;
use crate::fault::Fault;

/// What a data directory is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is not there; it will be made.
    Missing,
    /// It is ours alone.
    Private,
    /// It is ours, but others may look into it or write to it.
    Open {
        /// Its mode bits.
        mode: u32,
        /// Nothing is in it, so it may be closed without a question.
        empty: bool,
    },
    /// It belongs to another user.
    NotOurs {
        /// Whose it is.
        owner: u32,
    },
    /// It is no directory, or cannot be looked at.
    Unusable {
        /// What the system says.
        reason: String,
    },
}

/// Looks, and changes nothing.
#[must_use]
pub fn inspect(dir: &Utf8Path) -> Finding {
    let meta = match std::fs::metadata(dir) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Finding::Missing,
        Err(error) => return Finding::Unusable { reason: error.to_string() },
    };
    if !meta.is_dir() {
        return Finding::Unusable { reason: "it is no directory".into() };
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Finding::NotOurs { owner: meta.uid() };
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Finding::Private;
    }
    let empty = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    Finding::Open { mode, empty }
}

/// Checks a directory that should be there: gives `false` where it is not.
pub fn check(dir: &Utf8Path) -> Result<bool, Fault> {
    let bad = |message: String| Fault::new(code::BAD_DATA_DIR, format!("data directory {dir}: {message}"));
    match inspect(dir) {
        Finding::Missing => Ok(false),
        Finding::Private | Finding::Open { empty: true, .. } => Ok(true),
        Finding::Open { mode, .. } => {
            Err(bad(format!("other users can reach it (mode {mode:o})")).hint(format!("close it: chmod 700 {dir}")))
        }
        Finding::NotOurs { owner } => {
            Err(bad(format!("it belongs to user {owner}")).hint("choose one of your own with --data-dir or FALCONER_DATA_DIR"))
        }
        Finding::Unusable { reason } => Err(bad(reason).hint("choose another one with --data-dir or FALCONER_DATA_DIR")),
    }
}

/// Makes the directory, or closes one that is still empty, and checks it.
pub fn prepare(dir: &Utf8Path) -> Result<(), Fault> {
    let failed = |error: io::Error| {
        Fault::new(code::BAD_DATA_DIR, format!("data directory {dir}: {error}"))
            .hint("choose another one with --data-dir or FALCONER_DATA_DIR")
    };
    if !check(dir)? {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    }
    if let Finding::Open { empty: true, .. } = inspect(dir) {
        std::fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed)?;
    }
    check(dir).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_private_and_an_open_one_with_files_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let base = Utf8Path::from_path(temp.path()).unwrap();
        let made = base.join("a/b");
        prepare(&made).unwrap();
        assert_eq!(inspect(&made), Finding::Private);
        assert_eq!(inspect(&base.join("a")), Finding::Private);

        let open = base.join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        std::fs::write(open.join("file"), "").unwrap();
        let fault = prepare(&open).unwrap_err();
        assert_eq!(fault.code, code::BAD_DATA_DIR);
        assert!(fault.hint.unwrap().contains("chmod 700"));
        std::fs::remove_file(open.join("file")).unwrap();
        prepare(&open).unwrap();
        assert_eq!(inspect(&open), Finding::Private);

        std::fs::write(base.join("file"), "").unwrap();
        assert_eq!(prepare(&base.join("file")).unwrap_err().code, code::BAD_DATA_DIR);
    }
}

//! Artifacts: pieces, planted files, and what a crash leaves.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::ledger::artifact::{Artifacts, Stored};

fn store() -> (TempDir, Utf8PathBuf, Artifacts) {
    let (temporary, dir) = data_dir();
    let artifacts = Artifacts::open(&dir).unwrap();
    (temporary, dir, artifacts)
}

fn unfinished(dir: &Utf8Path) -> usize {
    dir.join("artifacts/tmp").read_dir_utf8().unwrap().count()
}

#[test]
fn a_value_reads_back_by_pieces() {
    let (_temporary, dir, artifacts) = store();
    let stored = artifacts.put("größer".as_bytes()).unwrap();
    // printf größer | sha256sum
    assert_eq!(stored, Stored { sha256: "45fbf6a67b5efa7dbcc0c0ccf6bdd7ce207300314c009282515896ea4cd7a4e6".to_owned(), size: 8 });
    assert_eq!(artifacts.put("größer".as_bytes()).unwrap(), stored, "the same again");
    for offset in 0..12u64 {
        for max in 0..12u32 {
            let expected: Vec<u8> = "größer".bytes().skip(offset as usize).take(max as usize).collect();
            assert_eq!(artifacts.read(&stored.sha256, offset, max).unwrap(), expected, "{offset} {max}");
        }
    }
    assert_eq!(artifacts.read(&stored.sha256, u64::MAX, u32::MAX).unwrap(), b"");
    let path = artifacts.path(&stored.sha256).unwrap();
    assert_eq!(path, dir.join("artifacts").join(&stored.sha256[..2]).join(&stored.sha256));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    for folder in [&dir, &dir.join("artifacts"), &dir.join("artifacts").join(&stored.sha256[..2])] {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{folder}");
    }
    let empty = artifacts.put(b"").unwrap();
    assert_eq!(empty.sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(artifacts.read(&empty.sha256, 0, 10).unwrap(), b"");
    assert_eq!(unfinished(&dir), 0);
}

#[test]
fn names_that_are_none_are_refused() {
    let (_temporary, dir, artifacts) = store();
    std::fs::write(dir.join("artifacts/secret"), "x").unwrap();
    let name = "AB".repeat(32);
    for name in ["", "a", "é", "../secret", "ab/../../secret", &name, &"../".repeat(22)[..64], &"a".repeat(64)] {
        assert_eq!(artifacts.path(name), None);
        assert_eq!(artifacts.read(name, 0, 10), Err(LedgerError::NoArtifact(name.to_owned())));
        assert_eq!(artifacts.sync(name), Err(LedgerError::NoArtifact(name.to_owned())));
    }
}

#[test]
fn a_large_value_is_spooled() {
    let (_temporary, dir, artifacts) = store();
    let bytes: Vec<u8> = (0..9_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut spool = artifacts.spool().unwrap();
    for piece in bytes.chunks(777_777) {
        spool.write(piece).unwrap();
    }
    assert_eq!((spool.size(), unfinished(&dir)), (9_000_000, 1));
    let stored = spool.seal().unwrap();
    assert_eq!((stored.size, unfinished(&dir)), (9_000_000, 0));
    artifacts.sync(&stored.sha256).unwrap();
    assert_eq!(artifacts.put(&bytes).unwrap(), stored);
    let mut read = Vec::new();
    while read.len() < bytes.len() {
        read.extend(artifacts.read(&stored.sha256, read.len() as u64, 1 << 20).unwrap());
    }
    assert!(read == bytes);
    // Twice the same: one file, and nothing left over.
    let mut spool = artifacts.spool().unwrap();
    spool.write(&bytes).unwrap();
    assert_eq!(spool.seal().unwrap(), stored);
    drop(artifacts.spool().unwrap());
    assert_eq!(unfinished(&dir), 0);
}

#[test]
fn a_file_that_was_planted_or_cut_off_is_not_believed() {
    let (_temporary, dir, artifacts) = store();
    let stored = artifacts.put(b"the truth").unwrap();
    let path = artifacts.path(&stored.sha256).unwrap();
    let precious = dir.join("precious");
    std::fs::write(&precious, "the other").unwrap();
    let plant: [&dyn Fn(); 5] = [
        &|| std::fs::write(&path, "the trut").unwrap(),
        &|| std::fs::write(&path, "the other").unwrap(),
        &|| std::fs::write(&path, "").unwrap(),
        &|| symlink(&precious, &path).unwrap(),
        &|| assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success()),
    ];
    for spooled in [false, true] {
        for (n, plant) in plant.iter().enumerate() {
            std::fs::remove_file(&path).unwrap();
            plant();
            if spooled {
                let mut spool = artifacts.spool().unwrap();
                spool.write(b"the truth").unwrap();
                spool.seal().unwrap();
            } else {
                artifacts.put(b"the truth").unwrap();
            }
            assert_eq!(artifacts.read(&stored.sha256, 0, 100).unwrap(), b"the truth", "{n}");
        }
    }
    assert_eq!(std::fs::read(&precious).unwrap(), b"the other");
    // A link is not read either.
    std::fs::remove_file(&path).unwrap();
    symlink(&precious, &path).unwrap();
    assert_eq!(artifacts.read(&stored.sha256, 0, 100), Err(LedgerError::NoArtifact(stored.sha256.clone())));
}

#[test]
fn what_a_crash_left_is_removed_at_the_next_start() {
    let (_temporary, dir, artifacts) = store();
    std::fs::write(dir.join("artifacts/tmp/left"), "half of some").unwrap();
    let mut alive = artifacts.spool().unwrap();
    alive.write(b"still being written").unwrap();
    let again = Artifacts::open(&dir).unwrap();
    assert_eq!(unfinished(&dir), 1, "the one that is being written stays");
    let stored = alive.seal().unwrap();
    assert_eq!(again.read(&stored.sha256, 0, 100).unwrap(), b"still being written");
}

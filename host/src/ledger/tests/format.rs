//! The file: its place and mode, and ledgers of other formats.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use super::*;
use crate::ledger::schema;

fn mode(path: impl AsRef<std::path::Path>) -> u32 {
    path.as_ref().metadata().unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn only_its_owner_can_read_it() {
    let (_temporary, dir, ledger) = open();
    begin(&ledger).await;
    assert_eq!(mode(&dir), 0o700);
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        assert_eq!(mode(dir.join(file)), 0o600, "{file}");
    }
    ledger.close(Duration::from_secs(30)).await;
    std::fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(dir.join("ledger.db"), Permissions::from_mode(0o644)).unwrap();
    let ledger = Ledger::open(&dir).unwrap();
    begin(&ledger).await;
    assert_eq!(mode(&dir), 0o700);
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        assert_eq!(mode(dir.join(file)), 0o600, "{file}, mended");
    }
}

#[tokio::test]
async fn an_older_format_is_brought_forward() {
    let (_temporary, dir, ledger) = open();
    let run = begin(&ledger).await;
    ledger.commit(Some(run), vec![append(run, 1..=3)]).await.unwrap();
    ledger.close(Duration::from_secs(30)).await;
    let mut steps = schema::steps();
    let known = u32::try_from(steps.len()).unwrap();
    steps.push("ALTER TABLE runs ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'");
    steps.push("UPDATE runs SET colour = 'blue'");
    let (path, conn) = schema::open_as(&dir, &steps).unwrap();
    let seen: (String, u32) =
        conn.query_row("SELECT colour, (SELECT count(*) FROM events) FROM runs", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(seen, ("blue".to_owned(), 3));
    drop(conn);
    // And a step is made once.
    drop(schema::open_as(&dir, &steps).unwrap());
    // From then on, it is newer than this program.
    let newer = LedgerError::Newer { path: path.to_string(), found: known + 2, known };
    assert_eq!(Ledger::open(&dir).unwrap_err(), newer);
}

#[tokio::test]
async fn a_step_that_fails_changes_nothing() {
    let (_temporary, dir, ledger) = open();
    let run = begin(&ledger).await;
    ledger.close(Duration::from_secs(30)).await;
    let mut steps = schema::steps();
    steps.push("ALTER TABLE runs ADD COLUMN colour TEXT");
    steps.push("UPDATE nothing SET colour = 1");
    is_broken(schema::open_as(&dir, &steps).map(|_| ()));
    assert!(Ledger::open(&dir).unwrap().run(run).unwrap().is_some());
}

#[test]
fn a_newer_ledger_is_refused_untouched() {
    let (_temporary, dir) = data_dir();
    let mut steps = schema::steps();
    steps.push("CREATE TABLE tomorrow (x)");
    let (path, conn) = schema::open_as(&dir, &steps).unwrap();
    conn.close().unwrap();
    let before = contents(&dir);
    assert!(matches!(Ledger::open(&dir), Err(LedgerError::Newer { .. })));
    assert_eq!(contents(&dir), before);

    // Its number stands only in the log of a host that was killed.
    let (_temporary, dir) = data_dir();
    drop(Ledger::open(&dir).unwrap());
    let killed = rusqlite::Connection::open(dir.join("ledger.db")).unwrap();
    killed.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    killed.execute_batch("PRAGMA wal_autocheckpoint = 0; CREATE TABLE tomorrow (x); PRAGMA user_version = 77").unwrap();
    drop(killed);
    let before = contents(&dir);
    assert_eq!(before.len(), 2, "the file and its log");
    assert!(matches!(Ledger::open(&dir), Err(LedgerError::Newer { found: 77, .. })), "{path}");
    assert_eq!(contents(&dir), before);
}

/// The files that hold something: the log's index (`-shm`) is made anew by whoever looks.
fn contents(dir: &Utf8Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = dir
        .read_dir_utf8()
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_name().ends_with("-shm"))
        .map(|entry| (entry.file_name().to_owned(), std::fs::read(entry.path()).unwrap()))
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_no_ledger_is_refused_untouched() {
    let texts = [b"hello".to_vec(), vec![7; 5000]];
    for text in texts {
        let (_temporary, dir) = data_dir();
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("ledger.db"), &text).unwrap();
        assert!(is_broken(Ledger::open(&dir)).contains("no ledger"));
        assert_eq!(std::fs::read(dir.join("ledger.db")).unwrap(), text);
    }
    let (_temporary, dir) = data_dir();
    std::fs::create_dir(&dir).unwrap();
    let other = rusqlite::Connection::open(dir.join("ledger.db")).unwrap();
    other.execute_batch("PRAGMA user_version = 3; CREATE TABLE other (x)").unwrap();
    drop(other);
    assert!(is_broken(Ledger::open(&dir)).contains("no ledger"));
    // A link to another file is not followed.
    let (_temporary, dir) = data_dir();
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.with_file_name("precious"), "").unwrap();
    symlink(dir.with_file_name("precious"), dir.join("ledger.db")).unwrap();
    is_broken(Ledger::open(&dir));
}

#[test]
fn a_host_that_was_killed_while_it_made_the_file_is_no_obstacle() {
    let (_temporary, dir) = data_dir();
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("ledger.db"), "").unwrap();
    drop(Ledger::open(&dir).unwrap());
    let (_temporary, dir) = data_dir();
    std::fs::create_dir(&dir).unwrap();
    let conn = rusqlite::Connection::open(dir.join("ledger.db")).unwrap();
    conn.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    drop(conn);
    assert!(dir.join("ledger.db").metadata().unwrap().len() > 0);
    drop(Ledger::open(&dir).unwrap());
}

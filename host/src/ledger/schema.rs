//! The ledger's file: where it is, who may read it, its tables and indexes, and how an old one becomes a new one.
//!
//! The rule for programs of other versions, by the format number in `PRAGMA user_version`:
//!
//! | the ledger is | what happens |
//! |---|---|
//! | not there, or empty | made, in the newest format |
//! | of this program's format | opened |
//! | older | brought forward, step by step, in one transaction: all of it or nothing; an older program refuses it from then on |
//! | newer | refused with [`LedgerError::Newer`], not a byte of it changed: older programs never guess at newer tables |
//! | no ledger of falconer | refused, not a byte of it changed |
//!
//! So a step that has shipped is never edited; a change of the tables is a new step, also when it only adds a column.
//! Two programs of different formats never share a ledger at the same time: one process owns a data directory.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::failure::{broken, disk};
use super::{LedgerError, writer};

/// The file's name in the data directory.
pub const FILE: &str = "ledger.db";
/// `PRAGMA application_id`: "Flcn".
const APPLICATION: u32 = 0x466c_636e;
/// How long a lock that another program holds (`sqlite3`, a backup) is waited for.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Prepared statements kept by each connection; there are fewer than this.
const STATEMENTS: usize = 64;
/// SQLite's page size, in bytes.
const PAGE: i64 = 4096;
/// Page cache of one connection, in KiB.
const CACHE_KIB: i64 = 2048;

/// The statuses after which nothing follows, as an SQL condition: it must stand in a query as it stands in the index.
macro_rules! is_open {
    () => {
        "status NOT IN ('completed', 'failed', 'cancelled', 'rejected', 'lost')"
    };
}
pub(super) use is_open;

/// The steps: the first makes format 1 out of nothing, the second format 2 out of format 1 …
///
/// A run has a number of its own (`n`), in the order of their making, so that its events are small. What is long and
/// rarely changes is apart from what changes with every step of a run. Events hold their text last, so that skipping
/// over them by type reads no long text.
const STEPS: &[&str] = &[
    concat!(
        "
CREATE TABLE runs (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    session TEXT NOT NULL,
    run_group TEXT,
    parent TEXT,
    depth INTEGER NOT NULL,
    backend TEXT NOT NULL,
    digest TEXT NOT NULL,
    role TEXT,
    cwd TEXT,
    target TEXT,
    created_at INTEGER NOT NULL,
    life INTEGER NOT NULL,
    status TEXT NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    last_seq INTEGER NOT NULL,
    summary TEXT
) STRICT;
CREATE INDEX runs_by_time ON runs (created_at, n);
CREATE INDEX runs_by_session ON runs (session);
CREATE INDEX runs_by_group ON runs (run_group) WHERE run_group IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL;
CREATE INDEX runs_open ON runs (created_at, n) WHERE ",
        is_open!(),
        ";
CREATE TABLE requests (
    run INTEGER PRIMARY KEY,
    request TEXT NOT NULL,
    metadata TEXT
) STRICT;
CREATE TABLE states (
    run INTEGER PRIMARY KEY,
    state TEXT NOT NULL
) STRICT;
CREATE TABLE checkpoints (
    run INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;
CREATE TABLE events (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    ts INTEGER NOT NULL,
    type TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_by_type ON events (run, type, seq);
CREATE TABLE artifacts (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    pointer TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    mime TEXT NOT NULL,
    PRIMARY KEY (run, seq, pointer)
) STRICT, WITHOUT ROWID;
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    backend TEXT NOT NULL,
    name TEXT UNIQUE,
    native_id TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_named ON sessions (updated_at) WHERE name IS NOT NULL;
CREATE TABLE messages (
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    id TEXT NOT NULL UNIQUE,
    sender TEXT,
    created_at INTEGER NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT,
    PRIMARY KEY (session, seq)
) STRICT;
CREATE TABLE request_keys (
    key TEXT PRIMARY KEY,
    arguments TEXT NOT NULL,
    outcome TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- For people with sqlite3: SELECT * FROM event_log WHERE run = 'run_…';
CREATE VIEW event_log AS
    SELECT runs.id AS run, seq, strftime('%Y-%m-%dT%H:%M:%fZ', ts / 1000.0, 'unixepoch') AS time, type, data
    FROM events JOIN runs ON runs.n = events.run;
"
    ),
    DECISIONS,
];

/// Format 2: what was allowed and what was refused. `n` only grows: the newest row is never the one that goes.
const DECISIONS: &str = "
CREATE TABLE decisions (
    n INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    caller TEXT NOT NULL,
    parent TEXT,
    run TEXT,
    backend TEXT NOT NULL,
    target TEXT,
    what TEXT NOT NULL,
    allowed INTEGER NOT NULL,
    code TEXT,
    rule TEXT NOT NULL,
    address TEXT,
    command TEXT
) STRICT;
CREATE INDEX decisions_by_run ON decisions (run, n) WHERE run IS NOT NULL;
CREATE INDEX decisions_refused ON decisions (n) WHERE allowed = 0;
-- For people with sqlite3: SELECT * FROM decision_log WHERE outcome = 'refused';
CREATE VIEW decision_log AS
    SELECT n, strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000.0, 'unixepoch') AS time, caller, parent, run, backend, target, what,
        CASE allowed WHEN 0 THEN 'refused' ELSE 'allowed' END AS outcome, code, rule, address, command
    FROM decisions;
";

/// Opens the ledger of a data directory for its one writer; makes the directory (0700) and the file (0600) where
/// they are missing, and brings an older format forward.
pub fn open(dir: &Utf8Path) -> Result<(Utf8PathBuf, Connection), LedgerError> {
    open_as(dir, STEPS)
}

/// `open`, by a program that knows these steps.
pub(super) fn open_as(dir: &Utf8Path, steps: &[&str]) -> Result<(Utf8PathBuf, Connection), LedgerError> {
    private_dir(dir)?;
    let path = dir.join(FILE);
    let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    let file = file(dir, &path)?;
    refuse_foreign(&path, &file, known)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(|error| disk("protecting", &path, &error))?;
    let conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| broken(&path, &error))?;
    // A newer format may stand in the write-ahead log only. Until that is known, closing must change nothing.
    let found = (|| {
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        conn.busy_timeout(LOCK_WAIT)?;
        let found: u32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found <= known {
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        }
        Ok(found)
    })()
    .map_err(|error| broken(&path, &error))?;
    if found > known {
        return Err(LedgerError::Newer { path: path.to_string(), found, known });
    }
    set_up(&conn, &path)?;
    migrate(&conn, found, steps).map_err(|error| broken(&path, &error))?;
    Ok((path, conn))
}

/// The ledger of a data directory that belongs to somebody else, or to nobody, if there is one that can be read.
pub fn find(dir: &Utf8Path) -> Result<Option<Utf8PathBuf>, LedgerError> {
    let path = dir.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk("opening", &path, &error)),
    };
    let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    refuse_foreign(&path, &file, known)?;
    let format = |conn: Connection| conn.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0));
    match open_reader(&path).and_then(format).map_err(|error| broken(&path, &error))? {
        // Its tables are still to be made.
        0 => Ok(None),
        found if found > known => Err(LedgerError::Newer { path: path.to_string(), found, known }),
        _ => Ok(Some(path)),
    }
}

/// Opens a connection that only reads.
pub fn open_reader(path: &Utf8Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(LOCK_WAIT)?;
    keep_plans(&conn)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}

/// Without this, SQLite plans a prepared statement anew whenever its values change (`SQLITE_DBCONFIG_ENABLE_QPSG`):
/// that costs ten times what a read costs.
fn keep_plans(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// The directory, for us alone.
pub(super) fn private_dir(dir: &Utf8Path) -> Result<(), LedgerError> {
    let fresh = !dir.exists();
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| disk("making", dir, &error))?;
    let metadata = dir.metadata().map_err(|error| disk("reading", dir, &error))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(LedgerError::Broken(format!(
            "{dir} belongs to user {}, not to this one: name another data directory in FALCONER_DATA_DIR",
            metadata.uid()
        )));
    }
    if metadata.mode() & 0o077 != 0 {
        std::fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(|error| disk("protecting", dir, &error))?;
    }
    if fresh && let Some(parent) = dir.parent().filter(|parent| !parent.as_str().is_empty()) {
        sync_dir(parent)?;
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Utf8Path) -> Result<(), LedgerError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| disk("synchronising", dir, &error))
}

/// The file itself, made with its mode before SQLite opens it: its companions (`-wal`, `-shm`) take the mode over.
fn file(dir: &Utf8Path, path: &Utf8Path) -> Result<File, LedgerError> {
    let fresh = !path.exists();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default())
        .open(path)
        .map_err(|error| disk("opening", path, &error))?;
    if fresh {
        sync_dir(dir)?;
    }
    Ok(file)
}

/// Reads the header (<https://sqlite.org/fileformat2.html>, 1.3) before anything else touches the file.
fn refuse_foreign(path: &Utf8Path, file: &File, known: u32) -> Result<(), LedgerError> {
    let mut header = Vec::with_capacity(100);
    file.take(100).read_to_end(&mut header).map_err(|error| disk("reading", path, &error))?;
    if header.is_empty() {
        return Ok(());
    }
    let word = |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    let (found, application) = (word(60), word(68));
    if !header.starts_with(b"SQLite format 3\0") || !matches!(application, 0 | APPLICATION) || (application == 0 && found != 0) {
        return Err(LedgerError::Broken(format!("{path} is no ledger of falconer: move it away, or name another data directory")));
    }
    if found > known {
        return Err(LedgerError::Newer { path: path.to_string(), found, known });
    }
    Ok(())
}

fn set_up(conn: &Connection, path: &Utf8Path) -> Result<(), LedgerError> {
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(|error| broken(path, &error))?;
    if mode != "wal" {
        return Err(LedgerError::Broken(format!(
            "{path} lies on a file system without shared memory (journal mode {mode}): name a data directory on a local disk"
        )));
    }
    (|| {
        keep_plans(conn)?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "temp_store", "MEMORY")?;
        conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
        // The writer empties the log itself, after it has answered.
        conn.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
        // A log that grew while readers held it up gives its space back.
        conn.query_row(&format!("PRAGMA journal_size_limit = {}", writer::LOG_PAGES * PAGE), [], |_| Ok(()))?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(())
    })()
    .map_err(|error| broken(path, &error))
}

fn migrate(conn: &Connection, found: u32, steps: &[&str]) -> rusqlite::Result<()> {
    let to_do = steps.get(found as usize..).unwrap_or_default();
    if to_do.is_empty() {
        return Ok(());
    }
    let migration = rusqlite::Transaction::new_unchecked(conn, rusqlite::TransactionBehavior::Immediate)?;
    for step in to_do {
        migration.execute_batch(step)?;
    }
    migration.pragma_update(None, "application_id", APPLICATION)?;
    migration.pragma_update(None, "user_version", u32::try_from(steps.len()).unwrap_or(u32::MAX))?;
    migration.commit()?;
    // Into the file's own header, where every program looks first.
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

#[cfg(test)]
pub(super) fn steps() -> Vec<&'static str> {
    STEPS.to_vec()
}

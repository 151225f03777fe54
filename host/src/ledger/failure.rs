//! What went wrong, in words that name the file and the way out.

use std::io;

use camino::Utf8Path;
use rusqlite::ErrorCode;

use super::LedgerError;

/// An error of SQLite. Its texts name tables and columns, never values.
pub(super) fn broken(path: &Utf8Path, error: &rusqlite::Error) -> LedgerError {
    let way_out = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "free some space on its disk; the next change is tried again",
        Some(ErrorCode::SystemIoFailure) => "check its disk and the space on it; the next change is tried again",
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "make the file and its directory writable for this user"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            "another program holds a lock on it; end that"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "it is damaged; stop falconer and mend it with `sqlite3 ledger.db .recover`, or move it away to begin anew"
        }
        _ => "run `falconer check`",
    };
    LedgerError::Broken(format!("the ledger {path} failed: {error}: {way_out}"))
}

/// An error of the file system.
pub(super) fn disk(doing: &str, path: &Utf8Path, error: &io::Error) -> LedgerError {
    let way_out = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => ": free some space on its disk",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ": make it writable for this user",
        _ => "",
    };
    LedgerError::Broken(format!("{doing} {path} failed: {error}{way_out}"))
}

//! What goes wrong with the file, sorted by what is left to do: wait for room, or stop for good.
//!
//! Refuses to know when a file is touched. Sentences name what SQLite and the system said; what was stored is never in them.

use rusqlite::Error;
use rusqlite::ffi::{self, ErrorCode};
use std::fmt;
use std::path::Path;

/// A file that cannot be used, for a person: a stable code, what is wrong, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// `store-newer`, `store-older`, `store-damaged`, `store-foreign`, `store-locked`, `store-unreadable`, `store-read-only`, `store-full`,
    /// `store-exists`, `store-missing`, `store-failed`, `store-started` or `network-file-system`.
    pub code: &'static str,
    pub message: String,
    pub mend: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({}); mend: {}", self.message, self.code, self.mend)
    }
}

impl std::error::Error for StoreError {}

pub(super) fn damaged(path: &Path, what: impl fmt::Display) -> StoreError {
    StoreError {
        code: "store-damaged",
        message: format!("store {} is damaged: {what}", path.display()),
        mend: "leave the file as it is; `sealmq store check` lists the damage, `sealmq store restore` puts a backup in its place"
            .into(),
    }
}

pub(super) fn full(path: &Path) -> StoreError {
    StoreError {
        code: "store-full",
        message: format!("no room left beside {}", path.display()),
        mend: "free some space on that file system".into(),
    }
}

fn read_only(path: &Path, what: impl fmt::Display) -> StoreError {
    StoreError {
        code: "store-read-only",
        message: format!("store {} cannot be written: {what}", path.display()),
        mend: "mount the file system for writing, or name another folder for the store".into(),
    }
}

fn unreadable(path: &Path, what: impl fmt::Display) -> StoreError {
    StoreError {
        code: "store-unreadable",
        message: format!("store {} cannot be opened: {what}", path.display()),
        mend: "the file and its folder must belong to the user the broker runs as".into(),
    }
}

/// An error of the file system, about `path`.
pub(super) fn of_system(path: &Path, error: &std::io::Error) -> StoreError {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => read_only(path, error),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => full(path),
        _ => unreadable(path, error),
    }
}

/// An error of SQLite, about `path`.
pub(super) fn of_sqlite(path: &Path, error: &Error) -> StoreError {
    let Some(code) = error.sqlite_error_code() else {
        // A column of the wrong type: STRICT tables hold none, unless something else wrote the file.
        return damaged(path, error);
    };
    match code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => damaged(path, error),
        ErrorCode::DiskFull => full(path),
        ErrorCode::ReadOnly => read_only(path, error),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError {
            code: "store-locked",
            message: format!("store {} is being written by another program", path.display()),
            mend: "end that program; `sqlite3 -readonly` is safe beside a running broker".into(),
        },
        // Tables or columns that are not there.
        ErrorCode::Unknown if code_of(error) == ffi::SQLITE_ERROR => damaged(path, error),
        _ => unreadable(path, error),
    }
}

/// What went wrong while the broker runs.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nothing was written; it may work later.
    NoRoom,
    /// Nobody knows what is on disk; the sentence says why.
    Fatal(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Fault::NoRoom,
            // The index of the WAL could not grow: that comes before any write of the transaction.
            _ if code_of(&error) == ffi::SQLITE_IOERR_SHMSIZE => Fault::NoRoom,
            _ => Fault::Fatal(format!("the store failed: {error}")),
        }
    }
}

fn code_of(error: &Error) -> i32 {
    error.sqlite_error().map_or(ffi::SQLITE_OK, |inner| inner.extended_code)
}

//! Copies of a store: taken while it runs, and put back while it does not.
//!
//! Refuses to overwrite anything.

use super::fault::{StoreError, damaged, of_sqlite};
use super::{check, file, folder};
use rusqlite::{Connection, Error};
use std::path::Path;

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// Of the new file.
    pub bytes: u64,
    pub sessions: u64,
    /// Over all sessions.
    pub messages: u64,
    pub retained: u64,
}

/// Copy what `conn` sees of `path` at one moment to `to` and look whether the copy is sound.
pub(super) fn copy(conn: &Connection, path: &Path, to: &Path) -> Result<BackupReport, StoreError> {
    file::copy(conn, path, to)?;
    let copied = file::open_read_only(to)?;
    if let Some(said) = check::quick(&copied).map_err(|error| of_sqlite(to, &error))? {
        return Err(damaged(to, said));
    }
    let count = |table: &str| {
        copied
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
    };
    let report = || {
        Ok(BackupReport {
            bytes: folder::bytes_of(to),
            sessions: count("sessions")?,
            messages: count("queue")?,
            retained: count("retained")?,
        })
    };
    report().map_err(|error: Error| of_sqlite(to, &error))
}

/// What to do with a backup of another fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherFleet {
    Refuse,
    /// It becomes this fleet's.
    TakeOver,
}

/// Make the store `to` of `fleet` from the backup `from`. No broker may run on `to`, and there must be no file of that name.
///
/// # Errors
/// `store-exists`, `store-locked`; `store-damaged`, `store-foreign`, `store-newer`, `store-older`, `store-other-fleet` about
/// `from`.
pub fn restore(from: &Path, to: &Path, fleet: &str, other: OtherFleet) -> Result<BackupReport, StoreError> {
    let conn = file::open_read_only(from)?;
    let owner = file::fleet(&conn).map_err(|error| of_sqlite(from, &error))?;
    if let Some(owner) = owner.filter(|owner| owner != fleet && other == OtherFleet::Refuse) {
        let mend = "name a backup of this fleet; give --other-fleet when this one is meant to take it over";
        return Err(file::of_another_fleet(from, &owner, fleet, mend));
    }
    folder::prepare(to)?;
    let _lock = folder::take_lock(to)?;
    if folder::bytes_of(&folder::wal_of(to)) > 0 {
        return Err(file::exists(&folder::wal_of(to)));
    }
    if let Some(said) = check::check(&conn, from)?.first() {
        return Err(damaged(from, said));
    }
    let report = copy(&conn, from, to)?;
    let made = file::open(to)?;
    file::set_fleet(&made, fleet)
        .and_then(|()| made.close().map_err(|(_, error)| error))
        .map_err(|error| of_sqlite(to, &error))?;
    Ok(report)
}

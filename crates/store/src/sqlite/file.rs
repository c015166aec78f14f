//! The file itself: made whole or not at all, recognised, brought to the schema of this version, opened.
//!
//! Refuses to know what the tables are for.

use super::fault::{StoreError, damaged, of_sqlite, of_system};
use super::folder;
use rusqlite::{Connection, Error, OpenFlags};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The schema of version 1.
const FIRST: &str = include_str!("schema.sql");
/// `PRAGMA application_id`, so that `file` and we know whose it is: "slmq".
const APPLICATION: i64 = 0x736c_6d71;
/// `PRAGMA user_version`.
pub(super) const VERSION: i64 = 2;
/// How an older schema becomes the next: the first makes 2 from 1.
const STEPS: [&str; (VERSION - 1) as usize] = [include_str!("schema2.sql")];

/// How long somebody else's write may hold ours up.
const PATIENCE: Duration = Duration::from_secs(1);
/// Kibibytes of pages that the writer keeps in memory.
const WRITER_CACHE: &str = "PRAGMA cache_size = -8192";

/// Open for writing; makes the file when there is none, migrates an older one and keeps a copy as `NAME.vN`.
/// The caller has the lock.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let of_system = |error: std::io::Error| of_system(path, &error);
    let of_sqlite = |error: Error| of_sqlite(path, &error);
    if !is_there(path)? {
        make(path)?;
    }
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(of_system)?;
    folder::tighten(path).map_err(of_system)?;
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(of_sqlite)?;
    recognise(&conn, path)?;
    migrate(&conn, path, VERSION, &STEPS)?;
    prepare_writer(&conn).map_err(of_sqlite)?;
    Ok(conn)
}

/// Mark the file as in use; whether it was closed the last time.
pub(super) fn begin_use(conn: &Connection) -> Result<bool, Error> {
    let was_closed = "SELECT coalesce((SELECT value FROM meta WHERE name = 'was_closed'), 0)";
    let was_closed: i64 = conn.query_row(was_closed, [], |row| row.get(0))?;
    if was_closed != 0 {
        conn.execute_batch("INSERT OR REPLACE INTO meta (name, value) VALUES ('was_closed', 0)")?;
    }
    Ok(was_closed != 0)
}

/// Open to look only. A file that nobody uses and that was closed well is not touched, nor are files made beside it.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    if !is_there(path)? {
        return Err(StoreError {
            code: "store-missing",
            message: format!("store {} does not exist", path.display()),
            mend: "name the store's file; a broker makes it at its first start".into(),
        });
    }
    let query = if folder::is_still(path) {
        "mode=ro&immutable=1"
    } else {
        "mode=ro"
    };
    let conn = reader(path, query)?;
    recognise(&conn, path)?;
    match version(&conn).map_err(|error| of_sqlite(path, &error))? {
        VERSION => Ok(conn),
        older => Err(StoreError {
            code: "store-older",
            message: format!(
                "store {} has schema {older}, this version reads schema {VERSION}",
                path.display()
            ),
            mend: "start a broker on it once: that keeps a copy and brings the file up to date".into(),
        }),
    }
}

/// Whether there is a file; one that cannot be the store any more is an error.
fn is_there(path: &Path) -> Result<bool, StoreError> {
    if !path.try_exists().map_err(|error| of_system(path, &error))? {
        if folder::bytes_of(&folder::wal_of(path)) > 0 {
            // SQLite would play an old log into a new file.
            return Err(damaged(path, "its log is there and the file itself is missing"));
        }
        return Ok(false);
    }
    if folder::bytes_of(path) == 0 {
        return Err(damaged(path, "the file is empty"));
    }
    Ok(true)
}

/// A second connection to a file that this process has open.
pub(super) fn open_beside(path: &Path) -> Result<Connection, StoreError> {
    reader(path, "mode=ro")
}

fn reader(path: &Path, query: &str) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let conn = Connection::open_with_flags(uri(path.as_os_str(), query), flags)?;
        conn.busy_timeout(PATIENCE)?;
        conn.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON;")?;
        Ok(conn)
    };
    open().map_err(|error: Error| of_sqlite(path, &error))
}

/// RFC 8089 with SQLite's parameters; everything but letters, digits and `/-._` escaped.
fn uri(path: &OsStr, query: &str) -> String {
    let mut out = String::from("file:");
    for &byte in path.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out + "?" + query
}

/// A new store under another name first, so that an empty or half-made file under its own is damage and nothing else.
fn make(path: &Path) -> Result<(), StoreError> {
    let draft = folder::beside(path, ".new");
    let of_system = |error: std::io::Error| of_system(path, &error);
    for stale in ["", "-wal", "-shm", "-journal"] {
        remove_if_there(&folder::beside(&draft, stale)).map_err(of_system)?;
    }
    folder::create(&draft).map_err(of_system)?;
    fill(&draft, &STEPS).map_err(|error| of_sqlite(path, &error))?;
    folder::publish(&draft, path).map_err(of_system)
}

/// The tables of version 1 and these steps, in an empty file.
fn fill(path: &Path, steps: &[&str]) -> Result<(), Error> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Before the first table, or it has no effect.
    conn.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;")?;
    conn.execute_batch(&format!(
        "BEGIN; {FIRST}; {}; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {};
         INSERT INTO meta (name, value) VALUES ('created_at', {}), ('next_session', 1), ('was_closed', 1); COMMIT;",
        steps.join("; "),
        1 + steps.len(),
        now()
    ))?;
    conn.close().map_err(|(_, error)| error)
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn recognise(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let read = |pragma| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let application = read("application_id").map_err(|error| of_sqlite(path, &error))?;
    if application != APPLICATION {
        return Err(StoreError {
            code: "store-foreign",
            message: format!("{} is an SQLite file of another program", path.display()),
            mend: "name another file for the store".into(),
        });
    }
    let found = read("user_version").map_err(|error| of_sqlite(path, &error))?;
    if found > VERSION {
        return Err(StoreError {
            code: "store-newer",
            message: format!(
                "store {} has schema {found}, this version knows up to {VERSION}",
                path.display()
            ),
            mend: "start the version that wrote it, or a later one".into(),
        });
    }
    if found < 1 {
        return Err(damaged(path, "it does not say which schema it has"));
    }
    Ok(())
}

fn version(conn: &Connection) -> Result<i64, Error> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// All steps in one transaction, after a copy of the file as it was.
fn migrate(conn: &Connection, path: &Path, to: i64, steps: &[&str]) -> Result<(), StoreError> {
    let of_sqlite = |error: Error| of_sqlite(path, &error);
    let from = version(conn).map_err(of_sqlite)?;
    let left = usize::try_from(from - 1)
        .ok()
        .and_then(|done| steps.get(done..))
        .unwrap_or_default();
    if left.is_empty() {
        return Ok(());
    }
    copy(conn, path, &folder::beside(path, &format!(".v{from}")))?;
    let sql = format!(
        "BEGIN IMMEDIATE; {}; PRAGMA user_version = {to}; COMMIT;",
        left.join("; ")
    );
    conn.execute_batch("PRAGMA synchronous = FULL").map_err(of_sqlite)?;
    conn.execute_batch(&sql).map_err(|error| {
        // A transaction that is not there any more cannot be rolled back, and need not be.
        drop(conn.execute_batch("ROLLBACK"));
        of_sqlite(error)
    })
}

/// A compact copy of one moment, synced and 0600; never over an existing file.
pub(super) fn copy(conn: &Connection, path: &Path, to: &Path) -> Result<(), StoreError> {
    if to.symlink_metadata().is_ok() {
        return Err(exists(to));
    }
    let draft = folder::beside(to, ".part");
    // Not removed when it is there: another copy may be under way.
    folder::create(&draft).map_err(|error| about_new(&draft, &error))?;
    let name = draft.to_str().ok_or_else(|| unspeakable(to))?;
    let result = conn
        .execute("VACUUM INTO ?1", [name])
        .map_err(|error| of_sqlite(path, &error))
        .and_then(|_| folder::publish(&draft, to).map_err(|error| about_new(to, &error)));
    if result.is_err() {
        // The first error is the one to tell.
        drop(remove_if_there(&draft));
    }
    result
}

/// The fleet whose store it is, when one has been noted.
pub(super) fn fleet(conn: &Connection) -> Result<Option<String>, Error> {
    conn.query_row("SELECT max(name) FROM fleet", [], |row| row.get(0))
}

/// From now on it is the store of `fleet` and of no other.
pub(super) fn set_fleet(conn: &Connection, fleet: &str) -> Result<(), Error> {
    conn.execute_batch("BEGIN IMMEDIATE; DELETE FROM fleet")?;
    conn.execute("INSERT INTO fleet (name) VALUES (?1)", [fleet])?;
    conn.execute_batch("COMMIT")
}

/// What to say of a store of another fleet than `wanted`.
pub(super) fn of_another_fleet(path: &Path, found: &str, wanted: &str, mend: &str) -> StoreError {
    StoreError {
        code: "store-other-fleet",
        message: format!("store {} is that of fleet {found}, not of {wanted}", path.display()),
        mend: mend.into(),
    }
}

pub(super) fn exists(path: &Path) -> StoreError {
    StoreError {
        code: "store-exists",
        message: format!("{} is there already", path.display()),
        mend: "name another file, or move that one away together with its -wal".into(),
    }
}

fn about_new(path: &Path, error: &std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => of_system(path, error),
    }
}

fn unspeakable(path: &Path) -> StoreError {
    StoreError {
        code: "store-unreadable",
        message: format!("the name {} is not UTF-8", path.display()),
        mend: "name a file in UTF-8".into(),
    }
}

fn prepare_writer(conn: &Connection) -> Result<(), Error> {
    conn.busy_timeout(PATIENCE)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    debug_assert_eq!(mode, "wal");
    conn.execute_batch(
        "PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA synchronous = FULL;",
    )?;
    conn.execute_batch(WRITER_CACHE)
}

/// Milliseconds since the Unix epoch.
fn now() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_file_is_copied_then_brought_up_to_date() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("s");
        folder::create(&path).unwrap();
        fill(&path, &[]).unwrap();
        let conn = open(&path).unwrap();
        assert_eq!(version(&conn).unwrap(), VERSION);
        conn.execute_batch("SELECT reached FROM owed; SELECT name FROM fleet")
            .unwrap();
        let copy = folder::beside(&path, ".v1");
        assert_eq!(version(&reader(&copy, "mode=ro").unwrap()).unwrap(), 1);
        // Up to date: no second copy, which would be refused.
        open(&path).unwrap();
    }

    #[test]
    fn a_step_that_fails_leaves_the_file_as_it_was() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("s");
        let conn = open(&path).unwrap();
        let steps = [
            STEPS[0],
            "CREATE TABLE colours (name TEXT) STRICT",
            "INSERT INTO nowhere VALUES (1)",
        ];
        assert!(migrate(&conn, &path, 4, &steps).is_err());
        assert_eq!(version(&conn).unwrap(), VERSION);
        assert!(conn.prepare("SELECT * FROM colours").is_err());
        let there = migrate(&conn, &path, 4, &steps).unwrap_err();
        assert_eq!(there.code, "store-exists", "the copy of the first attempt is kept");
    }

    #[test]
    fn a_name_is_escaped() {
        assert_eq!(
            uri(OsStr::new("/a b/?#%ü"), "mode=ro"),
            "file:/a%20b/%3F%23%25%C3%BC?mode=ro"
        );
    }
}

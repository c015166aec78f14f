//! Whether a file is what was written: SQLite's own check, every checksum, and that nothing hangs on nothing.
//!
//! Refuses to mend anything.

use super::fault::{StoreError, of_sqlite};
use super::read::{self, MESSAGES, Stop, message};
use rusqlite::{Connection, Error};
use std::path::Path;

/// Sentences are for people; so many of them are enough.
const ENOUGH: usize = 100;

/// Rows that cannot be there: what they are, and how to count them.
const NEVER: [(&str, &str); 7] = [
    (
        "messages that wait for no session",
        "queue WHERE session NOT IN (SELECT session FROM sessions UNION ALL SELECT session FROM ended)",
    ),
    (
        "subscriptions of no session",
        "subscriptions WHERE session NOT IN (SELECT session FROM sessions UNION ALL SELECT session FROM ended)",
    ),
    (
        "retained messages owed to no subscription",
        "owed WHERE (session, filter) NOT IN (SELECT session, filter FROM subscriptions)",
    ),
    (
        "packet identifiers of no session",
        "received WHERE session NOT IN (SELECT session FROM sessions UNION ALL SELECT session FROM ended)",
    ),
    (
        "sessions both ended and there",
        "sessions WHERE session IN (SELECT session FROM ended)",
    ),
    (
        "message bodies that nobody waits for",
        "bodies WHERE body NOT IN (SELECT body FROM queue WHERE body IS NOT NULL)",
    ),
    (
        "sessions whose number would be given out again",
        "sessions WHERE session >= (SELECT value FROM meta WHERE name = 'next_session')",
    ),
];

/// What is wrong with the file behind `conn`, at one moment; nothing when all is well. Reads all of it.
pub(super) fn check(conn: &Connection, path: &Path) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    let result = conn.execute_batch("BEGIN").and_then(|()| all(conn, &mut found));
    match result.map_err(|error| of_sqlite(path, &error)) {
        // Too damaged to be read to its end.
        Err(error) if error.code == "store-damaged" => found.push(error.message),
        result => result?,
    }
    // A transaction that has ended by itself has nothing to roll back.
    drop(conn.execute_batch("ROLLBACK"));
    found.truncate(ENOUGH);
    Ok(found)
}

/// SQLite's check without the indexes: what an end in the middle of something calls for.
pub(super) fn quick(conn: &Connection) -> Result<Option<String>, Error> {
    let said: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((said != "ok").then_some(said))
}

fn all(conn: &Connection, found: &mut Vec<String>) -> Result<(), Error> {
    let mut statement = conn.prepare("PRAGMA integrity_check(100)")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let said: String = row.get(0)?;
        if said != "ok" {
            found.push(said.replace('\n', "; "));
        }
    }
    if !found.is_empty() {
        // What hangs on broken pages is not worth asking for.
        return Ok(());
    }
    for (what, rows) in NEVER {
        let count: i64 = conn.query_row(&format!("SELECT count(*) FROM {rows}"), [], |row| row.get(0))?;
        if count > 0 {
            found.push(format!("{what}: {count}"));
        }
    }
    let mut note = |row: Result<crate::Stored<'_>, String>| {
        found.extend(row.err());
        Ok(())
    };
    for table in [read::sessions, read::of_sessions, read::others] {
        match table(conn, &mut note) {
            Err(Stop::Sql(error)) => return Err(error),
            Err(Stop::Bent(_)) | Ok(()) => {}
        }
    }
    let mut statement = conn.prepare(MESSAGES)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        found.extend(message(row).err());
    }
    Ok(())
}

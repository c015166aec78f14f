//! The one connection that writes: transactions, checkpoints, room.
//!
//! Refuses to know where batches come from and who waits for them.

use super::fault::Fault;
use super::folder;
use super::ledger::Ledger;
use super::statements::Statements;
use super::stats::Figures;
use super::survey;
use crate::{Batch, Change, Entry, Health, Origin, Urgency};
use rusqlite::{Connection, Error, Statement};
use std::fs::File;
use std::time::Instant;

/// SQLite's default, and that of the files we make.
const PAGE: u64 = 4096;
/// A frame of the log is a page and its header.
const FRAME: u64 = PAGE + 24;
/// Bytes of a file system that are left alone, so that acknowledgements still find room when messages do not.
const RESERVE: u64 = 16 << 20;
/// Free pages go back to the file system from this many on, when they are a quarter of the file.
const FREE_PAGES: u64 = 1024;

/// Whether batches are written for the first time, or there was no room for some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    First,
    Again,
}

pub(super) struct Pen<'c> {
    conn: &'c Connection,
    statements: Statements<'c>,
    begin: Statement<'c>,
    commit: Statement<'c>,
    log_state: Statement<'c>,
    pub ledger: Ledger,
    pub figures: Figures,
    /// What `PRAGMA synchronous` says now; nothing yet.
    synchronous: Option<Urgency>,
    log: Log,
}

/// Frames of the write-ahead log.
#[derive(Clone, Copy, Debug, Default)]
struct Log {
    frames: u64,
    /// Of these, in the file as well.
    moved: u64,
}

impl<'c> Pen<'c> {
    pub fn new(conn: &'c Connection, ledger: Ledger, figures: Figures) -> Result<Pen<'c>, Error> {
        Ok(Pen {
            conn,
            statements: Statements::prepare(conn)?,
            begin: conn.prepare("BEGIN IMMEDIATE")?,
            commit: conn.prepare("COMMIT")?,
            log_state: conn.prepare("PRAGMA wal_checkpoint(NOOP)")?,
            ledger,
            figures,
            synchronous: None,
            log: Log::default(),
        })
    }

    /// All of `batches` in one transaction, or nothing. Where nothing is left to write there is no transaction.
    pub fn write(&mut self, batches: &[Batch], attempt: Attempt) -> Result<(), Fault> {
        self.transaction(|pen| {
            let urgency = batches.iter().map(Batch::urgency).max().unwrap_or_default();
            let mut is_begun = false;
            // What is done makes room, also for what stands before it: a message that is done is never written again under
            // its place, so that taking it away twice is taking it away once.
            let relief = if attempt == Attempt::Again { batches } else { &[] };
            for entry in relief.iter().flat_map(Batch::entries) {
                if let Ok(Entry::Change(Change::Done { session, order })) = entry {
                    pen.begin_once(&mut is_begun, urgency)?;
                    pen.statements.done(&mut pen.ledger, session, order)?;
                }
            }
            for entry in batches.iter().flat_map(Batch::entries) {
                let entry = entry.map_err(|_| Fault::Fatal("a batch in memory is damaged".into()))?;
                if leaves_something(&entry) {
                    pen.begin_once(&mut is_begun, urgency)?;
                    pen.statements.apply(&mut pen.ledger, &entry)?;
                }
            }
            Ok(is_begun)
        })
    }

    /// Take away a part of a session that is over, if there is one.
    pub fn slice(&mut self) -> Result<(), Fault> {
        let Some(&session) = self.ledger.ended.front() else {
            return Ok(());
        };
        let mut is_gone = false;
        self.transaction(|pen| {
            pen.begin_once(&mut false, Urgency::Lazy)?;
            is_gone = pen.statements.slice(pen.conn, &mut pen.ledger, session)?;
            Ok(true)
        })?;
        if is_gone {
            self.ledger.ended.pop_front();
            self.ledger.commit();
        }
        Ok(())
    }

    /// Move the log into the file, as far as readers let it go.
    pub fn checkpoint(&mut self) -> Result<(), Fault> {
        self.checkpoint_by("PRAGMA wal_checkpoint(PASSIVE)")
    }

    /// The same, and give the log's own bytes back; waits a moment for readers.
    pub fn empty_log(&mut self) -> Result<(), Fault> {
        self.checkpoint_by("PRAGMA wal_checkpoint(TRUNCATE)")
    }

    /// Give free pages back, a slice at a time: all when `room` is short, otherwise when there are many. `true` when there
    /// was something to give.
    pub fn shrink(&mut self, room: &Health) -> Result<bool, Fault> {
        self.look()?;
        let (pages, free) = (self.figures.pages, self.figures.free_pages);
        let are_many = free >= FREE_PAGES && free * 4 >= pages;
        if !are_many && (free == 0 || *room == Health::Good) {
            return Ok(false);
        }
        let mut statement = self.conn.prepare("PRAGMA incremental_vacuum(256)")?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        drop(rows);
        drop(statement);
        self.count_log()?;
        self.look()?;
        Ok(true)
    }

    /// Everything in the file, the log empty, and a mark that says so.
    pub fn close(&mut self) -> Result<(), Fault> {
        debug_assert_eq!(survey::survey(self.conn)?.ledger.counts, self.ledger.counts);
        self.set_synchronous(Urgency::Sync)?;
        self.conn
            .execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('was_closed', 1)", [])?;
        self.empty_log()
    }

    /// Bytes of the log that are not in the file yet.
    pub fn pending_bytes(&self) -> u64 {
        self.log.frames.saturating_sub(self.log.moved) * PAGE
    }

    /// Whether there is room for more messages: within `max_bytes`, and on the disk of `file`. A store that `was_full` has
    /// to win some room first.
    pub fn has_room(&mut self, max_bytes: u64, file: &File, was_full: bool) -> Result<bool, Fault> {
        self.look()?;
        let pending = self.pending_bytes();
        let used = self.figures.pages.saturating_sub(self.figures.free_pages) * PAGE + pending;
        let (bound, margin) = match was_full {
            true => (max_bytes - max_bytes / 16, 2),
            false => (max_bytes, 1),
        };
        // What waits in the log will want its place in the file. A file system that does not tell has room until a write
        // says otherwise.
        let has_disk = folder::space(file).map_or(true, |(free, all)| free >= pending + margin * RESERVE.min(all / 16));
        Ok(used <= bound && has_disk)
    }

    fn transaction(&mut self, work: impl FnOnce(&mut Pen<'c>) -> Result<bool, Fault>) -> Result<(), Fault> {
        let started = Instant::now();
        let result = work(self).and_then(|is_begun| {
            if !is_begun {
                return Ok(false);
            }
            self.statements.keep(&self.ledger)?;
            self.commit.execute([])?;
            Ok(true)
        });
        match result {
            Ok(true) => {
                self.ledger.commit();
                self.count_commit(started)
            }
            Ok(false) => Ok(()),
            Err(fault) => {
                self.ledger.roll_back();
                if !self.conn.is_autocommit() {
                    // What cannot be rolled back was never committed: the log has no mark for it.
                    drop(self.conn.execute_batch("ROLLBACK"));
                }
                Err(fault)
            }
        }
    }

    fn begin_once(&mut self, is_begun: &mut bool, urgency: Urgency) -> Result<(), Fault> {
        if !*is_begun {
            self.set_synchronous(urgency)?;
            self.begin.execute([])?;
            *is_begun = true;
        }
        Ok(())
    }

    fn count_commit(&mut self, started: Instant) -> Result<(), Fault> {
        self.figures.counts = self.ledger.counts;
        self.figures.commits += 1;
        self.figures.syncs += u64::from(self.synchronous == Some(Urgency::Sync));
        self.figures
            .commit_us
            .add(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        self.count_log()
    }

    fn count_log(&mut self) -> Result<(), Fault> {
        let before = self.log.frames;
        let state = self.log_state.query_row([], log_of)?;
        // A log that is shorter than it was has begun anew.
        let new = state.frames.checked_sub(before).unwrap_or(state.frames);
        self.figures.written_bytes += new * FRAME;
        self.log = state;
        Ok(())
    }

    fn checkpoint_by(&mut self, pragma: &str) -> Result<(), Fault> {
        let before = self.log.moved;
        let state = self.conn.query_row(pragma, [], log_of)?;
        self.figures.written_bytes += state.moved.saturating_sub(before) * PAGE;
        self.log = state;
        Ok(())
    }

    fn look(&mut self) -> Result<(), Fault> {
        let read = |pragma| self.conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        self.figures.pages = read("page_count")?.unsigned_abs();
        self.figures.free_pages = read("freelist_count")?.unsigned_abs();
        Ok(())
    }

    /// FULL syncs the log with each commit; NORMAL leaves that to the next sync or checkpoint.
    fn set_synchronous(&mut self, urgency: Urgency) -> Result<(), Fault> {
        let urgency = if urgency == Urgency::Sync { urgency } else { Urgency::Os };
        if self.synchronous != Some(urgency) {
            let mode = if urgency == Urgency::Sync { "FULL" } else { "NORMAL" };
            self.conn.execute_batch(&format!("PRAGMA synchronous = {mode}"))?;
            self.synchronous = Some(urgency);
        }
        Ok(())
    }
}

/// Whether an entry changes the file: a delivery whose receivers are all done may not.
fn leaves_something(entry: &Entry<'_>) -> bool {
    match entry {
        Entry::Change(_) => true,
        Entry::Delivery(delivery, receivers) => !receivers.is_empty() || delivery.origin != Origin::Nothing,
    }
}

/// `(busy, frames, moved)`; both are -1 where there is no log.
fn log_of(row: &rusqlite::Row<'_>) -> Result<Log, Error> {
    let count = |at| row.get::<_, i64>(at).map(|found| u64::try_from(found).unwrap_or(0));
    Ok(Log {
        frames: count(1)?,
        moved: count(2)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    #[test]
    fn a_batch_is_synced_when_somebody_waits_for_the_device() {
        let folder = tempfile::TempDir::new().unwrap();
        let conn = file::open(&folder.path().join("s")).unwrap();
        let mut pen = Pen::new(&conn, Ledger::default(), Figures::default()).unwrap();
        // SQLite's numbers: 1 is NORMAL, 2 FULL.
        for (urgency, expected) in [
            (Urgency::Sync, 2),
            (Urgency::Os, 1),
            (Urgency::Lazy, 1),
            (Urgency::Sync, 2),
        ] {
            let mut batch = Batch::default();
            batch.append(&Change::Unretain { topic: "t" }, Urgency::Lazy);
            batch.append(&Change::Unretain { topic: "t" }, urgency);
            pen.write(&[batch], Attempt::First).unwrap();
            let mode: i64 = conn.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
            assert_eq!(mode, expected, "{urgency:?}");
        }
        assert_eq!((pen.figures.commits, pen.figures.syncs), (4, 2));
    }

    #[test]
    fn nothing_that_slows_or_endangers_the_log_is_switched_on() {
        let folder = tempfile::TempDir::new().unwrap();
        let conn = file::open(&folder.path().join("s")).unwrap();
        let read = |pragma| {
            conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
                .unwrap()
        };
        assert_eq!(read("wal_autocheckpoint"), 0, "checkpoints are ours");
        assert_eq!(read("mmap_size"), 0, "an error of the disk is an error, not a signal");
        assert_eq!(read("auto_vacuum"), 2, "free pages can be given back");
        assert_eq!(read("page_size"), PAGE as i64);
        let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }
}

//! The thread that commits: a batch as soon as one is due, the next forms meanwhile; in between what keeps the file in shape.
//!
//! Refuses to know SQL.

use super::fault::Fault;
use super::inbox::{Due, Inbox, lock};
use super::ledger::Ledger;
use super::pen::Pen;
use crate::{Batch, Health};
use rusqlite::Connection;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Frames of the log (16 MiB) that are moved into the file even while there is work.
const LONG_LOG: u64 = 4096;
/// After so much quiet the log is moved whatever its length, and free pages are given back.
const QUIET: Duration = Duration::from_secs(1);
/// Between two attempts when there is no room.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes that may be written between two looks at the room that is left.
const LOOK: u64 = 1 << 20;
/// Memory of a batch that is kept for the next.
const SPARE: usize = 8 << 20;

pub(super) struct Writer {
    pub conn: Connection,
    pub ledger: Ledger,
    pub inbox: Arc<Inbox>,
    pub max_bytes: u64,
    pub lazy_after: Duration,
    /// Held as long as anything may be written.
    pub lock: Arc<File>,
}

/// Commit until the store is closed; whether everything is in the file then.
pub(super) fn run(writer: Writer) -> bool {
    let inbox = Arc::clone(&writer.inbox);
    match work(writer) {
        Ok(()) => true,
        Err(Fault::NoRoom) => false,
        Err(Fault::Fatal(sentence)) => {
            inbox.fail(sentence);
            false
        }
    }
}

fn work(writer: Writer) -> Result<(), Fault> {
    let figures = lock(&writer.inbox.figures).clone();
    let pen = Pen::new(&writer.conn, writer.ledger, figures)?;
    let mut turn = Turn {
        pen,
        inbox: &writer.inbox,
        max_bytes: writer.max_bytes,
        lock: &writer.lock,
        next_checkpoint: LONG_LOG,
        next_look: 0,
        last_effort: None,
        is_tidy: false,
    };
    turn.look_for_room(false)?;
    let mut kept: Vec<Batch> = Vec::new();
    let mut spare = Vec::new();
    loop {
        let due = if kept.is_empty() {
            writer.inbox.take(&mut spare, writer.lazy_after, turn.patience())
        } else {
            writer.inbox.take_after(&mut spare, RETRY)
        };
        let (is_last, is_quiet) = (matches!(due, Due::Closing(_)), matches!(due, Due::Nothing));
        match due {
            Due::Batch(batch) | Due::Closing(batch) => kept.push(batch),
            Due::Nothing => {}
        }
        match turn.write(&kept) {
            Ok(()) => {
                spare = kept.drain(..).map(Batch::into_memory).next_back().unwrap_or_default();
                if spare.capacity() > SPARE {
                    spare = Vec::new();
                }
            }
            Err(Fault::NoRoom) if !is_last => {
                turn.inbox.set_full(true);
                turn.make_room()?;
            }
            Err(fault) => return Err(fault),
        }
        if is_last {
            return turn.pen.close();
        }
        if kept.is_empty() {
            turn.tidy(is_quiet)?;
        }
        *lock(&turn.inbox.figures) = turn.pen.figures.clone();
    }
}

/// What the writer does between two batches.
struct Turn<'w, 'c> {
    pen: Pen<'c>,
    inbox: &'w Inbox,
    max_bytes: u64,
    lock: &'w File,
    /// Frames that wait in the log when it is moved next.
    next_checkpoint: u64,
    /// Bytes written when the room is looked at next.
    next_look: u64,
    /// When room was last made by force.
    last_effort: Option<Instant>,
    /// Nothing is left to do in quiet hours.
    is_tidy: bool,
}

impl Turn<'_, '_> {
    fn write(&mut self, kept: &[Batch]) -> Result<(), Fault> {
        let Some(last) = kept.last() else {
            return Ok(());
        };
        let commits = self.pen.figures.commits;
        self.pen.write(kept)?;
        self.is_tidy &= self.pen.figures.commits == commits;
        self.inbox.advance(last.last());
        Ok(())
    }

    /// How long a batch may stay away before there is something else to do.
    fn patience(&self) -> Option<Duration> {
        let is_full = self.inbox.health() == Health::Full;
        match () {
            () if is_full => Some(RETRY),
            () if !self.pen.ledger.ended.is_empty() => Some(Duration::ZERO),
            () if self.is_tidy => None,
            () => Some(QUIET),
        }
    }

    /// After a batch, or in the quiet after the last.
    fn tidy(&mut self, is_quiet: bool) -> Result<(), Fault> {
        unless_full(self.pen.slice())?;
        if self.pen.pending_frames() >= self.next_checkpoint {
            unless_full(self.pen.checkpoint())?;
            // A reader that holds it up is not asked again at once.
            self.next_checkpoint = self.pen.pending_frames() + LONG_LOG;
        }
        if is_quiet && self.pen.ledger.ended.is_empty() {
            unless_full(self.pen.checkpoint())?;
            self.is_tidy = self.pen.pending_frames() == 0 && !unless_full(self.pen.shrink())?.unwrap_or_default();
            self.next_checkpoint = self.pen.pending_frames() + LONG_LOG;
        }
        let is_full = self.inbox.health() == Health::Full;
        if is_full || self.pen.figures.written_bytes >= self.next_look {
            self.look_for_room(is_full)?;
        }
        Ok(())
    }

    fn look_for_room(&mut self, was_full: bool) -> Result<(), Fault> {
        self.next_look = self.pen.figures.written_bytes + LOOK;
        let mut has_room = self.pen.has_room(self.max_bytes, self.lock, was_full)?;
        if !has_room && self.last_effort.is_none_or(|last| last.elapsed() >= RETRY) {
            self.last_effort = Some(Instant::now());
            self.make_room()?;
            has_room = self.pen.has_room(self.max_bytes, self.lock, was_full)?;
        }
        self.inbox.set_full(!has_room);
        Ok(())
    }

    /// What is in the file need not be in the log: its place is used again.
    fn make_room(&mut self) -> Result<(), Fault> {
        unless_full(self.pen.checkpoint()).map(drop)
    }
}

/// Work that can wait for room.
fn unless_full<T>(result: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(Fault::NoRoom) => Ok(None),
        Err(fault) => Err(fault),
    }
}

//! The thread that commits: a batch as soon as one is due, the next forms meanwhile; in between what keeps the file in shape.
//!
//! Refuses to know SQL.

use super::fault::Fault;
use super::folder::Lock;
use super::inbox::{Due, Inbox, lock};
use super::ledger::Ledger;
use super::pen::{Attempt, Pen};
use crate::{Batch, Health};
use rusqlite::Connection;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of the log that are moved into the file even while there is work.
const LONG_LOG: u64 = 16 << 20;
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
    pub lock: Arc<Lock>,
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
        let attempt = if kept.is_empty() {
            Attempt::First
        } else {
            Attempt::Again
        };
        match due {
            Due::Batch(batch) | Due::Closing(batch) if batch.is_empty() => spare = batch.into_memory(),
            Due::Batch(batch) | Due::Closing(batch) => kept.push(batch),
            Due::Nothing => {}
        }
        match turn.write(&kept, attempt) {
            Ok(()) => {
                spare = kept.drain(..).next_back().map_or(spare, Batch::into_memory);
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
        turn.publish();
    }
}

/// What the writer does between two batches.
struct Turn<'w, 'c> {
    pen: Pen<'c>,
    inbox: &'w Inbox,
    max_bytes: u64,
    lock: &'w Lock,
    /// Bytes that wait in the log when it is moved next.
    next_checkpoint: u64,
    /// Bytes written when the room is looked at next.
    next_look: u64,
    /// When room was last made by force.
    last_effort: Option<Instant>,
    /// Nothing is left to do in quiet hours.
    is_tidy: bool,
}

impl Turn<'_, '_> {
    fn write(&mut self, kept: &[Batch], attempt: Attempt) -> Result<(), Fault> {
        let Some(last) = kept.last() else {
            return Ok(());
        };
        let commits = self.pen.figures.commits;
        self.pen.write(kept, attempt)?;
        self.is_tidy &= self.pen.figures.commits == commits;
        // Before the watermark, so that who waits for it finds figures that have it.
        self.publish();
        self.inbox.advance(last.last());
        Ok(())
    }

    fn publish(&self) {
        lock(&self.inbox.figures).clone_from(&self.pen.figures);
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
        if self.pen.pending_bytes() >= self.next_checkpoint {
            unless_full(self.pen.checkpoint())?;
            // A reader that holds it up is not asked again at once.
            self.next_checkpoint = self.pen.pending_bytes() + LONG_LOG;
        }
        if is_quiet && self.pen.ledger.ended.is_empty() {
            unless_full(self.pen.checkpoint())?;
            let is_shrinking = unless_full(self.pen.shrink(&self.inbox.health()))?.unwrap_or_default();
            self.is_tidy = self.pen.pending_bytes() == 0 && !is_shrinking;
            self.next_checkpoint = self.pen.pending_bytes() + LONG_LOG;
        }
        let is_full = self.inbox.health() == Health::Full;
        if is_full || self.pen.figures.written_bytes >= self.next_look {
            self.look_for_room(is_full)?;
        }
        Ok(())
    }

    fn look_for_room(&mut self, was_full: bool) -> Result<(), Fault> {
        self.next_look = self.pen.figures.written_bytes + LOOK;
        let mut has_room = self.pen.has_room(self.max_bytes, self.lock.file(), was_full)?;
        let is_worth_it = self.pen.pending_bytes() >= self.max_bytes / 16;
        if !has_room && (is_worth_it || self.last_effort.is_none_or(|last| last.elapsed() >= RETRY)) {
            self.last_effort = Some(Instant::now());
            self.make_room()?;
            has_room = self.pen.has_room(self.max_bytes, self.lock.file(), was_full)?;
        }
        self.inbox.set_full(!has_room);
        Ok(())
    }

    /// What is in the file need not be in the log as well.
    fn make_room(&mut self) -> Result<(), Fault> {
        unless_full(self.pen.empty_log()).map(drop)
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

#[cfg(test)]
mod tests {
    use super::super::{Handle, Settings, State, Store};
    use super::*;
    use crate::{Body, Change, Delivery, Log, Order, Origin, Receiver, SessionId, Slot, Urgency};
    use std::borrow::Cow;
    use std::sync::mpsc::channel;

    fn message(payload: &[u8]) -> Delivery<'_> {
        Delivery {
            origin: Origin::Nothing,
            body: Body {
                topic: "t",
                properties: &[],
                payload,
                expires_at: None,
                qos: 1,
                retain: false,
            },
        }
    }

    fn to(order: u64) -> Receiver<'static> {
        Receiver {
            session: SessionId(1),
            order: Order(order),
            qos: 1,
            retain: false,
            identifiers: Cow::Borrowed(&[]),
            slot: Slot::default(),
        }
    }

    #[test]
    fn a_full_file_keeps_what_it_was_given_and_goes_on_when_something_is_done() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut store = Store::open(Settings {
            path: folder.path().join("s"),
            max_bytes: 1 << 40,
            lazy_after: Duration::from_millis(1),
        })
        .unwrap();
        if let State::Opened(opened) = &mut store.state {
            let bound = "PRAGMA max_page_count = 100";
            opened
                .get_mut()
                .unwrap()
                .writer
                .query_row(bound, [], |_| Ok(()))
                .unwrap();
        }
        let (progress, signals) = channel();
        let progress = std::sync::Mutex::new(progress);
        let mut log = store.start(Arc::new(move || progress.lock().unwrap().send(()).unwrap_or_default()));
        let until = |log: &Handle, is_so: &dyn Fn(&Handle) -> bool| {
            while !is_so(log) {
                signals.recv_timeout(Duration::from_secs(60)).unwrap();
            }
        };
        let (session, client_id) = (SessionId(1), "c");
        let expiry_s = u32::MAX;
        log.append(
            &Change::Begin {
                session,
                client_id,
                device: None,
                expiry_s,
            },
            Urgency::Os,
        );
        // SQLite's own bound in pages stands for the disk's in bytes.
        let mut safe = 0;
        let stuck = loop {
            let seq = log.deliver(&message(&[7; 10_000]), &mut [to(safe + 1)], Urgency::Os);
            until(&log, &|log| {
                log.watermark().proves(seq).is_some() || log.health() != Health::Good
            });
            if log.watermark().proves(seq).is_none() {
                break seq;
            }
            safe += 1;
        };
        assert_eq!(log.health(), Health::Full);
        assert!(safe > 10);
        // What comes now waits behind it, and what is done makes room for both.
        let next = log.deliver(&message(b"next"), &mut [to(safe + 2)], Urgency::Os);
        assert!(log.watermark().proves(stuck).is_none());
        for order in 1..=safe / 2 {
            log.done(session, Order(order), Slot::default());
        }
        until(&log, &|log| {
            log.watermark().proves(next).is_some() && log.health() == Health::Good
        });
        assert_eq!(store.stats().queued_messages, safe + 2 - safe / 2);
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        assert_eq!(store.close(Duration::from_secs(60)), Ok(true));
    }
}

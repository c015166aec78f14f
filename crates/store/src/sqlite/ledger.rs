//! What the writer keeps in memory about the file: who shares a body, how much waits, which sessions are being taken away.
//!
//! Refuses to know SQL. A transaction that came to nothing is undone here as it is in the file.

use super::rows::{int, uint};
use crate::SessionId;
use std::collections::{HashMap, VecDeque};

/// What waits, over all sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub sessions: u64,
    pub messages: u64,
    /// Topic names, properties and payloads; a shared body counts for each receiver.
    pub bytes: u64,
    pub retained: u64,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub counts: Counts,
    /// Receivers of a body, when there is more than one.
    shared: HashMap<i64, u32>,
    last_body: i64,
    /// Sessions to be taken away, oldest first.
    pub ended: VecDeque<SessionId>,
    /// Above every session id that was ever written.
    next_session: u64,
    /// What the file says about it.
    kept_next_session: u64,
    undo: Undo,
}

/// How things were when the transaction began.
#[derive(Debug, Default)]
struct Undo {
    counts: Counts,
    shared: Vec<(i64, Option<u32>)>,
    ended: usize,
}

impl Ledger {
    pub fn new(
        counts: Counts,
        shared: HashMap<i64, u32>,
        last_body: i64,
        ended: VecDeque<SessionId>,
        next_session: u64,
    ) -> Ledger {
        let undo = Undo {
            counts,
            shared: Vec::new(),
            ended: ended.len(),
        };
        Ledger {
            counts,
            shared,
            last_body,
            ended,
            next_session,
            kept_next_session: next_session,
            undo,
        }
    }

    /// A row number for a body of `receivers`.
    pub fn add_body(&mut self, receivers: usize) -> i64 {
        // Not given out again when the transaction fails: a gap costs nothing.
        self.last_body += 1;
        if receivers > 1 {
            self.share(self.last_body, Some(u32::try_from(receivers).unwrap_or(u32::MAX)));
        }
        self.last_body
    }

    /// One receiver less; whether nobody is left.
    pub fn release_body(&mut self, body: i64) -> bool {
        match self.shared.get(&body).copied() {
            Some(count) if count > 2 => self.share(body, Some(count - 1)),
            Some(_) => self.share(body, None),
            None => return true,
        }
        false
    }

    pub fn saw(&mut self, session: SessionId) {
        self.next_session = self.next_session.max(session.0.saturating_add(1));
    }

    pub fn add_message(&mut self, size: i64) {
        self.counts.messages += 1;
        self.counts.bytes += uint(size);
    }

    pub fn take_message(&mut self, size: i64) {
        self.counts.messages = self.counts.messages.saturating_sub(1);
        self.counts.bytes = self.counts.bytes.saturating_sub(uint(size));
    }

    /// The next session id, when the file does not know it yet.
    pub fn unkept_next_session(&self) -> Option<i64> {
        (self.next_session != self.kept_next_session).then(|| int(self.next_session))
    }

    pub fn commit(&mut self) {
        self.kept_next_session = self.next_session;
        self.undo.counts = self.counts;
        self.undo.shared.clear();
        self.undo.ended = self.ended.len();
    }

    pub fn roll_back(&mut self) {
        self.counts = self.undo.counts;
        self.ended.truncate(self.undo.ended);
        while let Some((body, before)) = self.undo.shared.pop() {
            self.set(body, before);
        }
    }

    fn share(&mut self, body: i64, receivers: Option<u32>) {
        self.undo.shared.push((body, self.shared.get(&body).copied()));
        self.set(body, receivers);
    }

    fn set(&mut self, body: i64, receivers: Option<u32>) {
        match receivers {
            Some(count) => self.shared.insert(body, count),
            None => self.shared.remove(&body),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_goes_with_its_last_receiver() {
        let mut ledger = Ledger::default();
        let body = ledger.add_body(3);
        ledger.commit();
        assert_eq!([ledger.release_body(body), ledger.release_body(body)], [false, false]);
        assert!(ledger.release_body(body));
        let alone = ledger.add_body(1);
        assert!(ledger.release_body(alone));
    }

    #[test]
    fn a_transaction_that_failed_leaves_no_trace() {
        let mut ledger = Ledger::default();
        let body = ledger.add_body(2);
        ledger.add_message(10);
        ledger.commit();
        ledger.take_message(10);
        ledger.release_body(body);
        ledger.ended.push_back(SessionId(1));
        ledger.saw(SessionId(8));
        ledger.roll_back();
        assert_eq!(
            ledger.counts,
            Counts {
                messages: 1,
                bytes: 10,
                ..Counts::default()
            }
        );
        assert!(ledger.ended.is_empty());
        assert!(!ledger.release_body(body), "both receivers are there again");
        assert_eq!(ledger.unkept_next_session(), Some(9), "still to be written");
        ledger.commit();
        assert_eq!(ledger.unkept_next_session(), None);
    }
}

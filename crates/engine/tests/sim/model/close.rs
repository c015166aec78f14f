//! How connections and sessions end, and what becomes of wills (sections 3.1.2.5, 3.14, 4.1).
//!
//! Refuses to know why they end.

use super::{Model, Session, Stage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Publish,
    Delete,
    /// The broker goes down and keeps it.
    Defer,
}

impl Model {
    /// The connection of a client is over.
    pub fn close(&mut self, client: usize, fate: Fate) {
        let now = self.now;
        let session = self.session(client);
        session.line = None;
        let lost: Vec<u64> = std::mem::take(&mut session.passing)
            .iter()
            .filter_map(|p| p.group)
            .collect();
        // What was written behind a CONNACK that never left counts as sent.
        let was_sealed = std::mem::take(&mut session.is_sealed);
        session.deliveries.iter_mut().for_each(|d| d.may_repeat |= was_sealed);
        if fate == Fate::Delete {
            session.will = None;
        }
        self.memory.excused.extend(lost);
        let session = self.session(client);
        let expiry_s = session.expiry_s;
        let at = |seconds: u32| now + u64::from(seconds) * 1000;
        session.ends_at = Some(at(expiry_s));
        session.will_at = session.will.as_ref().map(|will| at(will.delay_s.min(expiry_s)));
        if fate == Fate::Defer {
            if expiry_s == 0 {
                let will = session.will.take();
                self.orphans.extend(will);
                self.end(client);
            }
            return;
        }
        self.lapse(client);
    }

    /// What is due of one client that is away.
    fn lapse(&mut self, client: usize) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&client).filter(|s| s.line.is_none()) else {
            return;
        };
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now);
        let ends = is_due(session.ends_at);
        if is_due(session.will_at) || ends {
            session.will_at = None;
            if let Some(will) = session.will.take() {
                self.send_will(&will);
            }
        }
        if ends {
            self.end(client);
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: u64) {
        self.now = now;
        let clients: Vec<usize> = self.sessions.keys().copied().collect();
        for client in clients {
            let was_here = self.sessions.contains_key(&client);
            self.lapse(client);
            if was_here && !self.sessions.contains_key(&client) {
                self.expired += 1;
            }
        }
    }

    /// The next moment at which a will or a session is due.
    pub fn deadline(&self) -> Option<u64> {
        let away = self.sessions.values().filter(|s| s.line.is_none());
        away.flat_map(|s| [s.will_at, s.ends_at]).flatten().min()
    }

    /// A session is over: its will, if one still waits, and everything it held.
    pub fn end(&mut self, client: usize) {
        if let Some(will) = self.sessions.get_mut(&client).and_then(|s| s.will.take()) {
            self.send_will(&will);
        }
        if let Some(session) = self.sessions.remove(&client) {
            self.excuse_groups(&session);
        }
    }

    /// Members of a group that are no more cannot be asked whether they were the one.
    pub(super) fn excuse_groups(&mut self, session: &Session) {
        let open = session.deliveries.iter().filter(|d| d.stage == Stage::Waiting);
        self.memory.excused.extend(open.filter_map(|d| d.group));
    }

    /// A device is forgotten: what it was to be told, and what it wanted told.
    pub fn purge(&mut self, client: usize) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.will = None;
            self.end(client);
        }
    }
}

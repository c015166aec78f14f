//! Retained messages on their way to new subscriptions: in pages, so that no request holds up everybody else.
//!
//! A session is fed while its outbox and its queue have room and its turn has budget; then it stands in line again, or
//! waits for its connection to drain. Refuses to know filters and the tree.

use crate::engine::Engine;
use crate::retained::{Budget, Page, Place};
use crate::time::Millis;
use alloc::boxed::Box;
use sealmq_codec::{QoS, Subscription};
use sealmq_store::{Change, Keeping, Urgency};

/// Nodes of the retained tree that one session may have looked at in one turn: a fraction of a millisecond.
const NODES_PER_TURN: usize = 2_000;
/// Sessions that get such a turn before everybody else has theirs.
const TURNS: usize = 4;
/// Nodes looked at to find out whether anything is owed at all; beyond them it may be.
const NODES_PER_GLANCE: usize = 100;
/// Bytes found in one page, so that the outbox is looked at again before it is far beyond its bound.
const BYTES_PER_PAGE: u64 = 64 * 1024;

/// Whether the log knows what a subscription is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Debt {
    Unrecorded,
    Recorded,
}

/// A new subscription that is being answered with retained messages.
#[derive(Clone, Debug)]
pub(crate) struct RetainedDue {
    pub filter: Box<str>,
    pub qos: QoS,
    pub identifier: u32,
    /// How far it has come.
    pub place: Option<Place>,
    pub debt: Debt,
}

impl Engine {
    /// Write down what a new subscription is owed, before its SUBACK says so: messages that wait for a session belong to its
    /// state, whatever becomes of broker and connection (section 4.1). At QoS 0 nothing is promised.
    pub(crate) fn record_debt(&mut self, session_index: u32, subscription: &Subscription<'_>, now: Millis) -> Debt {
        let Some(session) = self.roster.sessions.get(session_index as usize).filter(|s| s.is_kept) else {
            return Debt::Unrecorded;
        };
        let (session, filter) = (session.id, subscription.filter);
        let glance = Budget {
            nodes: NODES_PER_GLANCE,
            bytes: 1,
        };
        let is_owed = |page: &Page| page.next.is_some() || !page.found.is_empty();
        if subscription.options.qos > QoS::AtMostOnce
            && self.roster.log.keeping() == Keeping::Changes
            && is_owed(&self.retained.page(filter, None, glance, now))
        {
            self.record(&Change::Owe { session, filter });
            return Debt::Recorded;
        }
        Debt::Unrecorded
    }

    /// New subscriptions are owed the retained messages that match [MQTT-3.3.1-9]; the first of them go out at once.
    pub(crate) fn owe_retained(
        &mut self,
        now: Millis,
        session_index: u32,
        identifier: u32,
        subscriptions: &[(Subscription<'_>, Debt)],
    ) {
        let Some(session) = self.roster.sessions.get_mut(session_index as usize) else {
            return;
        };
        for (subscription, debt) in subscriptions {
            // The same filter again begins again.
            let before = session
                .retained_due
                .iter()
                .position(|due| *due.filter == *subscription.filter);
            let before = before.and_then(|at| session.retained_due.remove(at));
            session.retained_due.push_back(RetainedDue {
                filter: subscription.filter.into(),
                qos: subscription.options.qos,
                identifier,
                place: None,
                debt: before.map_or(*debt, |before| before.debt.max(*debt)),
            });
        }
        self.feed(now, session_index);
    }

    /// Send what the windows allow; whoever is owed retained messages stands in line for what room is left.
    pub(crate) fn pump(&mut self, now: Millis, session_index: u32) {
        self.roster.pump(now, session_index);
        self.line_up(session_index);
    }

    /// The first sessions in line, one turn each.
    pub(crate) fn feed_line(&mut self, now: Millis) {
        for _ in 0..self.feeding.len().min(TURNS) {
            let Some((index, id)) = self.feeding.pop_front() else {
                return;
            };
            let session = self.roster.sessions.get_mut(index as usize);
            if let Some(session) = session.filter(|s| s.id == id) {
                session.is_feeding = false;
                self.feed(now, index);
            }
        }
    }

    fn line_up(&mut self, session_index: u32) {
        let Some(session) = self.roster.sessions.get_mut(session_index as usize) else {
            return;
        };
        if !session.retained_due.is_empty() && !session.is_feeding && session.conn.is_some() {
            session.is_feeding = true;
            self.feeding.push_back((session_index, session.id));
        }
    }

    fn feed(&mut self, now: Millis, session_index: u32) {
        let mut nodes = NODES_PER_TURN;
        loop {
            let Some(session) = self.roster.sessions.get(session_index as usize) else {
                return;
            };
            let Some(conn) = session.conn.and_then(|i| self.roster.conns.get(i as usize)) else {
                return;
            };
            let has_room = session.queued() == 0 && conn.out.len() <= self.roster.limits.max_outbox_bytes as usize;
            let Some(due) = session.retained_due.front().filter(|_| has_room) else {
                return;
            };
            if nodes == 0 {
                return self.line_up(session_index);
            }
            let budget = Budget {
                nodes,
                bytes: BYTES_PER_PAGE,
            };
            let page = self.retained.page(&due.filter, due.place.as_ref(), budget, now);
            let (limit, identifier) = (due.qos, due.identifier);
            nodes = nodes.saturating_sub(page.visited.max(1));
            for message in page.found {
                // [MQTT-3.3.1-8] of 3.1.1; [MQTT-3.8.4-8]: marked as retained, at the lower of both QoS
                let qos = message.content().qos.min(limit);
                let identifiers: Box<[u32]> = if identifier == 0 {
                    Box::default()
                } else {
                    Box::new([identifier])
                };
                let is_kept = self.roster.log.keeping() == Keeping::Changes;
                let urgency = if is_kept {
                    self.durability.of(message.content().topic)
                } else {
                    None
                };
                self.roster
                    .deliver_retained(now, session_index, message, qos, identifiers, urgency);
            }
            let Some(session) = self.roster.sessions.get_mut(session_index as usize) else {
                return;
            };
            if page.next.is_some() {
                if let Some(due) = session.retained_due.front_mut() {
                    due.place = page.next;
                }
            } else if let Some(due) = session.retained_due.pop_front()
                && due.debt == Debt::Recorded
            {
                let (session, filter) = (session.id, &*due.filter);
                self.roster.log.append(&Change::Paid { session, filter }, Urgency::Lazy);
            }
        }
    }
}

//! Taking up after a restart: sessions, subscriptions, what waits for them, wills and retained messages.
//!
//! Refuses to know how they were kept. Time goes on while a broker is down: expiries and delays count from when they began.

use crate::engine::Engine;
use crate::feed::{Debt, RetainedDue};
use crate::inbound::Received;
use crate::memory::Memory;
use crate::message::{Content, Message};
use crate::retained::Place;
use crate::session::{Session, Spill, WillState};
use crate::time::Millis;
use crate::tree::Entry;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sealmq_codec::topic::parse_filter;
use sealmq_codec::{QoS, SubscribeOptions, Version};
use sealmq_store::{Body, Change, Log, Order, Seq, SessionId, Stored, StoredWill, Urgency};

struct Found {
    index: u32,
    /// `None`: connected to the last.
    disconnected_at: Option<Millis>,
    sent: Order,
}

/// An engine that is being filled; it serves nobody before [`Restorer::finish`].
pub struct Restorer<'e> {
    engine: &'e mut Engine,
    found: HashMap<SessionId, Found, FixedState>,
    /// Wills whose session ended with its connection.
    wills: Vec<(SessionId, WillState)>,
    /// Topics of retained messages that expired meanwhile.
    expired: Vec<Box<str>>,
}

impl Engine {
    /// Begin to fill a new engine with what survived.
    pub fn restore(&mut self) -> Restorer<'_> {
        let hasher = FixedState::with_seed(self.seed);
        Restorer {
            engine: self,
            found: HashMap::with_hasher(hasher),
            wills: Vec::new(),
            expired: Vec::new(),
        }
    }
}

impl Restorer<'_> {
    /// Take one thing that survived. What makes no sense (a filter that is none, something of a session that is not there) is
    /// left out; a check of the store finds it.
    pub fn take(&mut self, now: Millis, stored: &Stored<'_>) {
        match *stored {
            Stored::Session {
                session,
                client_id,
                device,
                expiry_s,
                disconnected_at,
                sent,
            } => {
                let mut kept = Session::new(
                    client_id.into(),
                    device.map(Arc::from),
                    session,
                    &self.engine.roster.memory,
                );
                kept.is_kept = true;
                kept.expiry_s = expiry_s;
                let index = self.engine.roster.add_session(kept);
                self.engine.by_client.insert(client_id.into(), index);
                self.engine.serial = self.engine.serial.max(session.0);
                let found = Found {
                    index,
                    disconnected_at: disconnected_at.map(Millis),
                    // Of a session that was connected nobody has written it down; the backlog tells.
                    sent: if disconnected_at.is_some() { sent } else { Order(0) },
                };
                self.found.insert(session, found);
            }
            Stored::Subscription {
                session,
                filter,
                options,
                identifier,
            } => self.take_subscription(session, filter, options, identifier),
            Stored::Owed {
                session,
                filter,
                options,
                identifier,
                reached,
            } => {
                let options = SubscribeOptions::from_byte(Version::V5, options);
                if let (Some(session), Ok(options)) = (self.session(session), options) {
                    session.retained_due.push_back(RetainedDue {
                        filter: filter.into(),
                        qos: options.qos,
                        identifier,
                        place: Place::behind(reached),
                        debt: Debt::Recorded,
                    });
                }
            }
            Stored::Received { session, packet_id } => {
                let received = Received {
                    seq: Seq(0),
                    is_kept: true,
                };
                if let Some(session) = self.session(session) {
                    session.inbound.insert(packet_id, received);
                }
            }
            Stored::Backlog {
                session,
                first,
                last,
                count,
                bytes,
            } => {
                if let Some(found) = self.found.get_mut(&session)
                    && found.disconnected_at.is_none()
                {
                    found.sent = found.sent.max(last);
                }
                if let Some(session) = self.session(session) {
                    let spill = Spill {
                        from: first,
                        until: Seq(0),
                        count,
                        bytes: bytes + count * core::mem::size_of::<Message>() as u64,
                    };
                    session.restore_spill(spill, last);
                }
            }
            Stored::Will { session, will, .. } => {
                let will = will_state(&will, &self.engine.roster.memory);
                match self.session(session) {
                    Some(session) => session.will = Some(Box::new(will)),
                    None => self.wills.push((session, will)),
                }
                self.engine.serial = self.engine.serial.max(session.0);
            }
            Stored::Retained(body) => self.take_retained(now, &body),
        }
    }

    /// Everything is there: `log` takes over from here, clocks run on, and wills that are due are sent. Session identifiers
    /// go on at `next_session`.
    pub fn finish(self, now: Millis, next_session: u64, log: Box<dyn Log>) {
        let Restorer {
            engine,
            found,
            wills,
            expired,
        } = self;
        engine.roster.log = log;
        for topic in &expired {
            engine.roster.log.append(&Change::Unretain { topic }, Urgency::Lazy);
        }
        engine.serial = engine.serial.max(next_session.saturating_sub(1));
        // Before anything new is on its way to a session: what is sent first must not pass for what was sent before.
        for found in found.values() {
            if let Some(kept) = engine.roster.sessions.get_mut(found.index as usize) {
                kept.restore_sent(found.sent);
            }
        }
        // The rules may be others than those under which the subscriptions were granted.
        engine.revisit_all();
        for (id, will) in wills {
            engine.send_will(now, None, id, will);
        }
        for (session, found) in found {
            let Some(kept) = engine.roster.sessions.get(found.index as usize) else {
                continue;
            };
            let since = found.disconnected_at.unwrap_or(now);
            if found.disconnected_at.is_none() {
                let change = Change::Detach {
                    session,
                    at: now.0,
                    expiry_s: kept.expiry_s,
                    sent: found.sent,
                };
                engine.roster.log.append(&change, Urgency::Lazy);
            }
            engine.await_end(now, found.index, since);
        }
    }

    fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        let index = self.found.get(&id)?.index;
        self.engine.roster.sessions.get_mut(index as usize)
    }

    fn take_subscription(&mut self, session: SessionId, text: &str, options: u8, identifier: u32) {
        let Some(index) = self.found.get(&session).map(|f| f.index) else {
            return;
        };
        let (Some(filter), Ok(options)) = (parse_filter(text), SubscribeOptions::from_byte(Version::V5, options))
        else {
            return;
        };
        let entry = Entry {
            session: index,
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            identifier,
        };
        self.engine.router.tree.insert(filter.group, filter.filter, entry);
        if let Some(session) = self.session(session) {
            session.subscribe(text);
        }
    }

    fn take_retained(&mut self, now: Millis, body: &Body<'_>) {
        let content = content(body);
        if content.is_expired(now) {
            self.expired.push(body.topic.into());
            return;
        }
        let message = Arc::new(Message::new(&content, &self.engine.roster.memory));
        // What was kept stays, also when the budget is smaller now.
        self.engine.retained.restore(message);
    }
}

fn content<'a>(body: &Body<'a>) -> Content<'a> {
    Content {
        topic: body.topic,
        properties: body.properties,
        payload: body.payload,
        expires_at: body.expires_at.map(Millis),
        qos: QoS::from_bits(body.qos).unwrap_or(QoS::AtMostOnce),
        retain: body.retain,
    }
}

fn will_state(will: &StoredWill<'_>, memory: &Memory) -> WillState {
    WillState {
        message: Message::new(&content(&will.body), memory),
        delay_s: will.delay_s,
        expiry_s: will.expiry_s,
    }
}

//! What a disk holds, in plain maps: the reference for everything that is kept.
//!
//! Refuses to know when it is written and when it is lost.

use sealmq_store::{
    Body, Change, Entry, Order, Origin, Page, PageRequest, Seq, SessionId, Stored, StoredMessage, StoredWill,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq)]
struct OwnedBody {
    topic: String,
    properties: Vec<u8>,
    payload: Vec<u8>,
    expires_at: Option<u64>,
    qos: u8,
    retain: bool,
}

impl OwnedBody {
    fn new(body: &Body<'_>) -> OwnedBody {
        OwnedBody {
            topic: body.topic.into(),
            properties: body.properties.into(),
            payload: body.payload.into(),
            expires_at: body.expires_at,
            qos: body.qos,
            retain: body.retain,
        }
    }

    fn lend(&self) -> Body<'_> {
        Body {
            topic: &self.topic,
            properties: &self.properties,
            payload: &self.payload,
            expires_at: self.expires_at,
            qos: self.qos,
            retain: self.retain,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Session {
    client_id: String,
    device: Option<String>,
    expiry_s: u32,
    disconnected_at: Option<u64>,
    sent: Order,
    subscriptions: BTreeMap<String, (u8, u32)>,
    owed: BTreeMap<String, String>,
    queue: BTreeMap<Order, StoredMessage>,
    received: BTreeSet<u16>,
}

#[derive(Clone, Debug)]
struct Will {
    client_id: String,
    body: OwnedBody,
    delay_s: u32,
    expiry_s: Option<u32>,
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    sessions: BTreeMap<SessionId, Session>,
    wills: BTreeMap<SessionId, Will>,
    retained: BTreeMap<String, OwnedBody>,
    next_session: u64,
    /// Deliveries written, for tests that count.
    pub messages_written: u64,
}

impl Disk {
    pub fn next_session(&self) -> u64 {
        self.next_session
    }

    /// Messages that wait for anybody.
    pub fn queued(&self) -> usize {
        self.sessions.values().map(|s| s.queue.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.wills.is_empty() && self.retained.is_empty()
    }

    pub fn apply(&mut self, entry: Entry<'_>) {
        match entry {
            Entry::Change(change) => self.change(&change),
            Entry::Delivery(delivery, receivers) => {
                match delivery.origin {
                    Origin::Nothing => {}
                    Origin::Received { session, packet_id } => {
                        let session = self.sessions.get_mut(&session).expect("a publisher that is kept");
                        assert!(session.received.insert(packet_id), "an identifier received twice");
                    }
                    Origin::Will { session } => drop(self.wills.remove(&session)),
                    Origin::Owed { session, filter } => {
                        let session = self.sessions.get_mut(&session).expect("a subscriber that is kept");
                        let reached = session.owed.get_mut(filter).expect("a subscription that is owed");
                        *reached = delivery.body.topic.into();
                    }
                }
                for receiver in receivers {
                    self.messages_written += 1;
                    let body = &delivery.body;
                    let message = StoredMessage {
                        order: receiver.order,
                        qos: receiver.qos,
                        retain: receiver.retain,
                        is_released: false,
                        identifiers: receiver.identifiers.to_vec(),
                        topic: body.topic.into(),
                        properties: body.properties.into(),
                        payload: body.payload.into(),
                        expires_at: body.expires_at,
                    };
                    let session = self
                        .sessions
                        .get_mut(&receiver.session)
                        .expect("a receiver that is kept");
                    let last = session.queue.last_key_value().map(|(order, _)| *order);
                    assert!(last < Some(receiver.order), "orders rise");
                    session.queue.insert(receiver.order, message);
                }
            }
        }
    }

    fn change(&mut self, change: &Change<'_>) {
        match *change {
            Change::Begin {
                session,
                client_id,
                device,
                expiry_s,
            } => {
                assert!(
                    self.sessions.values().all(|s| s.client_id != client_id),
                    "one session for a client identifier"
                );
                assert!(session.0 >= self.next_session, "a session identifier comes once");
                self.next_session = session.0 + 1;
                let begun = Session {
                    client_id: client_id.into(),
                    device: device.map(Into::into),
                    expiry_s,
                    ..Session::default()
                };
                self.sessions.insert(session, begun);
            }
            Change::Attach { session, expiry_s } => {
                let session = self.session(session);
                session.expiry_s = expiry_s;
                session.disconnected_at = None;
            }
            Change::Detach {
                session,
                at,
                expiry_s,
                sent,
            } => {
                let session = self.session(session);
                session.expiry_s = expiry_s;
                session.disconnected_at = Some(at);
                session.sent = sent;
            }
            Change::End { session } => drop(self.sessions.remove(&session).expect("a session that ends")),
            Change::Subscribe {
                session,
                filter,
                options,
                identifier,
            } => drop(
                self.session(session)
                    .subscriptions
                    .insert(filter.into(), (options, identifier)),
            ),
            Change::Unsubscribe { session, filter } => {
                let session = self.session(session);
                session.subscriptions.remove(filter);
                session.owed.remove(filter);
            }
            Change::Owe { session, filter } => {
                let session = self.session(session);
                assert!(
                    session.subscriptions.contains_key(filter),
                    "what is owed is subscribed to"
                );
                session.owed.insert(filter.into(), String::new());
            }
            Change::Paid { session, filter } => drop(self.session(session).owed.remove(filter)),
            Change::Release { session, order } => {
                let entry = self.session(session).queue.get_mut(&order);
                entry.expect("a message that is released").is_released = true;
            }
            Change::Done { session, order } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.queue.remove(&order);
                }
            }
            Change::Completed { session, packet_id } => {
                assert!(self.session(session).received.remove(&packet_id));
            }
            Change::Will {
                session,
                client_id,
                will,
            } => {
                let StoredWill {
                    body,
                    delay_s,
                    expiry_s,
                } = will;
                let (client_id, body) = (client_id.into(), OwnedBody::new(&body));
                let will = Will {
                    client_id,
                    body,
                    delay_s,
                    expiry_s,
                };
                self.wills.insert(session, will);
            }
            Change::WillGone { session } => drop(self.wills.remove(&session)),
            Change::Retain { body } => drop(self.retained.insert(body.topic.into(), OwnedBody::new(&body))),
            Change::Unretain { topic } => drop(self.retained.remove(topic)),
        }
    }

    fn session(&mut self, id: SessionId) -> &mut Session {
        self.sessions.get_mut(&id).expect("a session that is kept")
    }

    pub fn page(&self, request: PageRequest, as_of: Seq) -> Page {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let queue = self.sessions.get(&request.session).map(|s| &s.queue);
        let mut rest = queue.into_iter().flat_map(|q| q.range(request.from..));
        while messages.len() < request.max_messages as usize && bytes < request.max_bytes {
            let Some((_, message)) = rest.next() else { break };
            bytes += (message.topic.len() + message.properties.len() + message.payload.len()) as u64;
            messages.push(message.clone());
        }
        Page {
            session: request.session,
            from: request.from,
            messages,
            is_last: rest.next().is_none(),
            as_of,
        }
    }

    /// Everything, as a store hands it back.
    pub fn load(&self, visit: &mut dyn FnMut(Stored<'_>)) {
        for (&session, s) in &self.sessions {
            visit(Stored::Session {
                session,
                client_id: &s.client_id,
                device: s.device.as_deref(),
                expiry_s: s.expiry_s,
                disconnected_at: s.disconnected_at,
                // Nobody has written it down while the session was connected.
                sent: if s.disconnected_at.is_some() {
                    s.sent
                } else {
                    Order(u64::MAX)
                },
            });
        }
        for (&session, s) in &self.sessions {
            for (filter, &(options, identifier)) in &s.subscriptions {
                visit(Stored::Subscription {
                    session,
                    filter,
                    options,
                    identifier,
                });
            }
            for (filter, reached) in &s.owed {
                let &(options, identifier) = s.subscriptions.get(filter).expect("a subscription");
                visit(Stored::Owed {
                    session,
                    filter,
                    options,
                    identifier,
                    reached,
                });
            }
            for &packet_id in &s.received {
                visit(Stored::Received { session, packet_id });
            }
            if let (Some((&first, _)), Some((&last, _))) = (s.queue.first_key_value(), s.queue.last_key_value()) {
                let size = |m: &StoredMessage| (m.topic.len() + m.properties.len() + m.payload.len()) as u64;
                visit(Stored::Backlog {
                    session,
                    first,
                    last,
                    count: s.queue.len() as u64,
                    bytes: s.queue.values().map(size).sum(),
                });
            }
        }
        for (&session, will) in &self.wills {
            visit(Stored::Will {
                session,
                client_id: &will.client_id,
                will: StoredWill {
                    body: will.body.lend(),
                    delay_s: will.delay_s,
                    expiry_s: will.expiry_s,
                },
            });
        }
        for body in self.retained.values() {
            visit(Stored::Retained(body.lend()));
        }
    }
}

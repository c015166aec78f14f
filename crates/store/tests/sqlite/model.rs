//! A store that is a few maps, to hold the real one against.
//!
//! Refuses to be fast.

use crate::place::Running;
use sealmq_store::sqlite::Store;
use sealmq_store::{Body, Change, Delivery, Entry, Origin, Receiver, Stored, StoredMessage, StoredWill};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
    pub expires_at: Option<u64>,
    pub qos: u8,
    pub retain: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub client_id: String,
    pub device: Option<String>,
    pub expiry_s: u32,
    pub disconnected_at: Option<u64>,
    pub sent: u64,
}

type Will = (String, Message, u32, Option<u32>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub sessions: BTreeMap<u64, Session>,
    pub subscriptions: BTreeMap<(u64, String), (u8, u32)>,
    /// With the topic that was reached.
    pub owed: BTreeMap<(u64, String), String>,
    pub received: Vec<(u64, u16)>,
    pub wills: BTreeMap<u64, Will>,
    pub retained: BTreeMap<String, Message>,
    pub queue: BTreeMap<(u64, u64), StoredMessage>,
}

impl Model {
    pub fn apply(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::Change(change) => self.change(change),
            Entry::Delivery(delivery, receivers) => self.deliver(delivery, receivers),
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
                let begun = Session {
                    client_id: client_id.into(),
                    device: device.map(Into::into),
                    expiry_s,
                    disconnected_at: None,
                    sent: u64::MAX,
                };
                self.sessions.insert(session.0, begun);
            }
            Change::Attach { session, expiry_s } => {
                if let Some(session) = self.sessions.get_mut(&session.0) {
                    (session.expiry_s, session.disconnected_at, session.sent) = (expiry_s, None, u64::MAX);
                }
            }
            Change::Detach {
                session,
                at,
                expiry_s,
                sent,
            } => {
                if let Some(session) = self.sessions.get_mut(&session.0) {
                    (session.expiry_s, session.disconnected_at, session.sent) = (expiry_s, Some(at), sent.0);
                }
            }
            Change::End { session } => {
                self.sessions.remove(&session.0);
                self.subscriptions.retain(|key, _| key.0 != session.0);
                self.owed.retain(|key, _| key.0 != session.0);
                self.received.retain(|key| key.0 != session.0);
                self.queue.retain(|key, _| key.0 != session.0);
            }
            Change::Subscribe {
                session,
                filter,
                options,
                identifier,
            } => {
                self.subscriptions
                    .insert((session.0, filter.into()), (options, identifier));
            }
            Change::Unsubscribe { session, filter } => {
                self.subscriptions.remove(&(session.0, filter.into()));
                self.owed.remove(&(session.0, filter.into()));
            }
            Change::Owe { session, filter } => {
                self.owed.insert((session.0, filter.into()), String::new());
            }
            Change::Paid { session, filter } => {
                self.owed.remove(&(session.0, filter.into()));
            }
            Change::Release { session, order } => {
                if let Some(message) = self.queue.get_mut(&(session.0, order.0)) {
                    message.is_released = true;
                }
            }
            Change::Done { session, order } => {
                self.queue.remove(&(session.0, order.0));
            }
            Change::Completed { session, packet_id } => self.received.retain(|&key| key != (session.0, packet_id)),
            Change::Will {
                session,
                client_id,
                will,
            } => {
                let will = (client_id.into(), message(&will.body), will.delay_s, will.expiry_s);
                self.wills.insert(session.0, will);
            }
            Change::WillGone { session } => {
                self.wills.remove(&session.0);
            }
            Change::Retain { body } => {
                self.retained.insert(body.topic.into(), message(&body));
            }
            Change::Unretain { topic } => {
                self.retained.remove(topic);
            }
        }
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, receivers: &[Receiver<'_>]) {
        match delivery.origin {
            Origin::Nothing => {}
            Origin::Received { session, packet_id } => {
                self.received.push((session.0, packet_id));
                self.received.sort_unstable();
                self.received.dedup();
            }
            Origin::Will { session } => {
                self.wills.remove(&session.0);
            }
            Origin::Owed { session, filter } => {
                if let Some(reached) = self.owed.get_mut(&(session.0, filter.into())) {
                    *reached = delivery.body.topic.into();
                }
            }
        }
        for receiver in receivers {
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
            self.queue.insert((receiver.session.0, receiver.order.0), message);
        }
    }

    /// What a store holds; its messages by pages.
    pub fn of(mut store: Store) -> (Model, Running) {
        let mut model = Model::default();
        let mut backlogs = Vec::new();
        let mut last_kind = 0;
        store
            .load(&mut |stored| {
                let kind = model.stored(&stored, &mut backlogs);
                assert!(kind >= last_kind, "{stored:?} comes too late");
                last_kind = kind;
            })
            .unwrap();
        let mut running = Running::start(store);
        for (session, first, last, count, bytes) in backlogs {
            let mut from = 0;
            loop {
                let page = running.page(session, from, 7, 10_000);
                let Some(end) = page.messages.last() else {
                    panic!("a backlog of nothing")
                };
                from = end.order.0 + 1;
                for message in page.messages {
                    model.queue.insert((session, message.order.0), message);
                }
                if page.is_last {
                    break;
                }
            }
            let found: Vec<_> = model
                .queue
                .range((session, 0)..=(session, u64::MAX))
                .map(|(_, message)| message)
                .collect();
            let size = |m: &&StoredMessage| (m.topic.len() + m.properties.len() + m.payload.len()) as u64;
            assert_eq!((found[0].order.0, found[found.len() - 1].order.0), (first, last));
            assert_eq!(
                (found.len() as u64, found.iter().map(size).sum::<u64>()),
                (count, bytes)
            );
        }
        (model, running)
    }

    /// Sessions 0, what hangs on them 1, the rest 2.
    fn stored(&mut self, stored: &Stored<'_>, backlogs: &mut Vec<(u64, u64, u64, u64, u64)>) -> u8 {
        match *stored {
            Stored::Session {
                session,
                client_id,
                device,
                expiry_s,
                disconnected_at,
                sent,
            } => {
                let found = Session {
                    client_id: client_id.into(),
                    device: device.map(Into::into),
                    expiry_s,
                    disconnected_at,
                    sent: sent.0,
                };
                assert_eq!(self.sessions.insert(session.0, found), None);
                0
            }
            Stored::Subscription {
                session,
                filter,
                options,
                identifier,
            } => {
                self.subscriptions
                    .insert((session.0, filter.into()), (options, identifier));
                1
            }
            Stored::Owed {
                session,
                filter,
                options,
                identifier,
                reached,
            } => {
                let key = (session.0, filter.into());
                assert_eq!(self.subscriptions.get(&key), Some(&(options, identifier)));
                self.owed.insert(key, reached.into());
                1
            }
            Stored::Received { session, packet_id } => {
                self.received.push((session.0, packet_id));
                1
            }
            Stored::Backlog {
                session,
                first,
                last,
                count,
                bytes,
            } => {
                backlogs.push((session.0, first.0, last.0, count, bytes));
                1
            }
            Stored::Will {
                session,
                client_id,
                will:
                    StoredWill {
                        body,
                        delay_s,
                        expiry_s,
                    },
            } => {
                self.wills
                    .insert(session.0, (client_id.into(), message(&body), delay_s, expiry_s));
                2
            }
            Stored::Retained(body) => {
                self.retained.insert(body.topic.into(), message(&body));
                2
            }
        }
    }
}

fn message(body: &Body<'_>) -> Message {
    Message {
        topic: body.topic.into(),
        properties: body.properties.into(),
        payload: body.payload.into(),
        expires_at: body.expires_at,
        qos: body.qos,
        retain: body.retain,
    }
}

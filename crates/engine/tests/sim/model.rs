//! What the broker must be at each moment, by the specification: sessions, subscriptions, retained messages, wills.
//!
//! Refuses to know the engine: it is told which packets were taken in and when, and says what may leave.

mod close;
mod crash;
mod leave;
mod retained;
mod route;

pub use close::Fate;
pub use leave::Seen;
pub use route::Routing;

use crate::topics::Law;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A message as it was published.
#[derive(Debug)]
pub struct Message {
    pub serial: u32,
    /// `None`: the broker, for a session that is no more.
    pub publisher: Option<usize>,
    pub topic: String,
    pub payload: Vec<u8>,
    /// A user property that must travel along.
    pub is_marked: bool,
    /// An acknowledgement has left the broker.
    pub is_acknowledged: Cell<bool>,
}

impl Message {
    /// The same message, promised anew.
    pub fn again(&self) -> Message {
        Message {
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            is_acknowledged: Cell::new(false),
            ..*self
        }
    }
}

#[derive(Clone, Debug)]
pub struct Subscription {
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub identifier: u32,
    /// Tells this grant from another one of the same filter.
    pub number: u64,
    /// The SUBACK has left the broker.
    pub is_acknowledged: bool,
}

#[derive(Clone, Debug)]
pub struct Will {
    pub message: Rc<Message>,
    pub qos: u8,
    pub retain: bool,
    pub delay_s: u32,
    pub expiry_s: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Waiting,
    /// PUBLISH was sent.
    Published,
    /// PUBREC came.
    Released,
}

/// A message on its way to one session at QoS 1 or 2.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: u64,
    pub message: Rc<Message>,
    pub qos: u8,
    pub retain: bool,
    pub identifiers: Vec<u32>,
    pub expires_at: Option<u64>,
    pub stage: Stage,
    pub packet_id: Option<u16>,
    /// The connection it went out on last.
    pub line: u64,
    /// Where it stood among what was sent.
    pub sent: u64,
    /// Several sessions could be the one that gets it.
    pub group: Option<u64>,
    /// Why it may never come.
    pub excuse: Option<&'static str>,
    /// The client may have it: DUP is no lie.
    pub may_repeat: bool,
    /// An answer to a subscription.
    pub is_answer: bool,
}

/// A message on its way to one connection at QoS 0.
#[derive(Clone, Debug)]
pub struct Passing {
    pub message: Rc<Message>,
    pub retain: bool,
    pub identifiers: Vec<u32>,
    pub expires_at: Option<u64>,
    pub group: Option<u64>,
}

/// The most QoS and the subscription identifiers.
pub type Look = (u8, Vec<u32>);

/// Retained messages owed to a new subscription.
#[derive(Clone, Debug)]
pub struct Due {
    pub filter: String,
    pub qos: u8,
    pub identifier: u32,
    pub topics: BTreeMap<String, Owed>,
    pub is_optional: bool,
    /// QoS and identifier of the subscription as a broker that started again found it: one that was replaced without an
    /// answer of its own gets the rest of the old answer as it is now.
    pub as_found: Option<(u8, u32)>,
}

#[derive(Clone, Debug, Default)]
pub struct Owed {
    /// What was retained under the topic since the subscription began.
    pub candidates: Vec<Retained>,
    pub is_certain: bool,
}

#[derive(Clone, Debug)]
pub struct Retained {
    pub message: Rc<Message>,
    pub qos: u8,
    pub expires_at: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Session {
    /// Tells this session from another one of the same client.
    pub number: u64,
    pub line: Option<u64>,
    pub is_v5: bool,
    pub expiry_s: u32,
    pub is_kept: bool,
    /// The CONNACK has left the broker.
    pub is_acknowledged: bool,
    /// The CONNACK waits for the log, and everything behind it.
    pub is_sealed: bool,
    pub subscriptions: BTreeMap<String, Subscription>,
    /// Grants that were ended, and whose UNSUBACK has left the broker.
    pub ended: BTreeSet<u64>,
    /// Another broker took it up: what was sent last before is not known for sure.
    pub is_restored: bool,
    /// How many brokers took it up.
    pub restarts: u32,
    pub will: Option<Will>,
    pub will_at: Option<u64>,
    pub ends_at: Option<u64>,
    /// QoS 2 identifiers received and not released; whether the log has them.
    pub received: BTreeMap<u16, bool>,
    pub deliveries: Vec<Delivery>,
    pub passing: Vec<Passing>,
    pub dues: Vec<Due>,
    /// The last delivery sent for the first time, by publisher and topic.
    pub newest: BTreeMap<(Option<usize>, String), u64>,
    pub sent: u64,
}

impl Session {
    pub fn is_persistent(&self) -> bool {
        self.expiry_s > 0
    }

    pub fn waiting(&self) -> usize {
        self.deliveries.iter().filter(|d| d.stage == Stage::Waiting).count()
    }

    /// The most that the broker may have queued: what answers a subscription is queued, too, and what was in flight is put
    /// aside when the connection of a session that is kept ends.
    fn queued(&self) -> usize {
        let waiting = if self.is_kept {
            self.deliveries.len()
        } else {
            self.waiting()
        };
        waiting + self.dues.iter().map(|due| due.topics.len()).sum::<usize>()
    }

    /// Whether it may take part in what is routed now.
    fn takes(&self) -> bool {
        self.line.is_some() || self.is_persistent()
    }
}

#[derive(Clone, Default)]
pub struct Model {
    pub now: u64,
    pub keeps: bool,
    pub sessions: BTreeMap<usize, Session>,
    pub retained: BTreeMap<String, Retained>,
    /// Wills of sessions that are no more, to be sent by the next broker.
    pub orphans: Vec<Will>,
    pub law: Option<Law>,
    /// At how many waiting messages a session may be full.
    pub most_queued: usize,
    pub may_miss: bool,
    /// QoS 2 deliveries that a client may count, by message.
    pub granted: BTreeMap<(usize, u32), u32>,
    /// What happened, as the engine counts it.
    pub wills: u64,
    pub expired: u64,
    pub takeovers: u64,
    /// What a crash does not undo.
    pub memory: Memory,
}

/// What the world has seen, whatever the broker forgets.
#[derive(Clone, Default)]
pub struct Memory {
    next: u64,
    /// Who got what one of a group was to get.
    claims: BTreeMap<u64, usize>,
    /// Members that can no longer be asked.
    excused: BTreeSet<u64>,
    /// Packet identifier and place of each delivery that was sent.
    sent: BTreeMap<u64, (u16, u64)>,
}

impl Memory {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// What one CONNECT asks for.
pub struct Entry {
    pub client: usize,
    pub line: u64,
    pub is_v5: bool,
    pub clean: bool,
    pub expiry_s: u32,
    pub will: Option<Will>,
}

impl Model {
    pub fn law(&self) -> Law {
        self.law.unwrap_or(Law::Open)
    }

    pub fn session(&mut self, client: usize) -> &mut Session {
        self.sessions.get_mut(&client).expect("a session of the model")
    }

    pub fn connected(&self) -> usize {
        self.sessions.values().filter(|s| s.line.is_some()).count()
    }

    /// A CONNECT is accepted; whether there was a session (section 3.1.4).
    pub fn connect(&mut self, entry: Entry) -> bool {
        let client = entry.client;
        if self.sessions.get(&client).is_some_and(|s| s.line.is_some()) {
            self.takeovers += 1;
            self.close(client, Fate::Publish);
        }
        if entry.clean {
            self.end(client);
        }
        let is_present = self.sessions.contains_key(&client);
        if !is_present {
            let number = self.memory.number();
            self.sessions.insert(
                client,
                Session {
                    number,
                    line: None,
                    is_v5: entry.is_v5,
                    expiry_s: 0,
                    is_kept: self.keeps && entry.expiry_s > 0,
                    is_acknowledged: false,
                    is_sealed: false,
                    subscriptions: BTreeMap::new(),
                    ended: BTreeSet::new(),
                    is_restored: false,
                    restarts: 0,
                    will: None,
                    will_at: None,
                    ends_at: None,
                    received: BTreeMap::new(),
                    deliveries: Vec::new(),
                    passing: Vec::new(),
                    dues: Vec::new(),
                    newest: BTreeMap::new(),
                    sent: 0,
                },
            );
        }
        let session = self.session(client);
        session.line = Some(entry.line);
        session.is_v5 = entry.is_v5;
        session.expiry_s = entry.expiry_s;
        // [MQTT-3.1.3-9]: whoever comes back in time takes back the will
        session.will = entry.will;
        session.will_at = None;
        session.ends_at = None;
        is_present
    }

    /// One filter of a SUBSCRIBE; the number of the grant (section 3.8).
    pub fn subscribe(&mut self, client: usize, text: &str, asked: Subscription, retain_handling: u8) -> Option<u64> {
        if !self.law().lets_subscribe(client, text) {
            return None;
        }
        let number = self.memory.number();
        let asked = Subscription { number, ..asked };
        let (qos, identifier) = (asked.qos, asked.identifier);
        let session = self.session(client);
        let is_new = session.subscriptions.insert(text.into(), asked).is_none();
        let wants = match retain_handling {
            0 => true,
            1 => is_new,
            _ => false,
        };
        if wants && !text.starts_with("$share/") {
            self.owe(client, text, qos, identifier);
        }
        Some(number)
    }

    /// One filter of an UNSUBSCRIBE; the grant that it ends.
    pub fn unsubscribe(&mut self, client: usize, text: &str) -> Option<u64> {
        let session = self.session(client);
        // [MQTT-3.10.4-3]: what is under way already stays so
        session
            .dues
            .iter_mut()
            .filter(|due| due.filter == text)
            .for_each(|due| due.is_optional = true);
        session
            .subscriptions
            .remove(text)
            .map(|subscription| subscription.number)
    }

    /// Other rules hold from now on: subscriptions that they do not allow are over.
    pub fn set_law(&mut self, law: Law) {
        self.law = Some(law);
        self.obey();
    }

    fn obey(&mut self) {
        let law = self.law();
        for (&client, session) in &mut self.sessions {
            session.subscriptions.retain(|text, _| law.lets_subscribe(client, text));
            for due in &mut session.dues {
                due.is_optional |= !law.lets_subscribe(client, &due.filter);
            }
        }
    }
}

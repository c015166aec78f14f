//! One network connection: bytes on their way in both directions, and what either end knows of it.
//!
//! Refuses to know what the bytes mean beyond where a packet ends.

use crate::model::Message;
use sealmq_engine::ConnId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// Bytes that were sent and have not arrived.
#[derive(Default)]
pub struct Wire {
    bytes: VecDeque<u8>,
}

impl Wire {
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// So many arrive.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.bytes.len());
        self.bytes.drain(..count).collect()
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// A filter that was granted, and the number of the grant.
type Grant = (String, u64);

/// What the broker still owes on this connection, in the order of the requests, for each kind of answer.
#[derive(Default)]
pub struct Answers {
    /// Packet identifier, the reason code to come, and the message that it is a promise for.
    pub pubacks: VecDeque<(u16, u8, Option<Rc<Message>>)>,
    pub pubrecs: VecDeque<(u16, u8, Option<Rc<Message>>)>,
    pub pubcomps: VecDeque<(u16, bool)>,
    /// Packet identifier, codes, and the grants.
    pub subacks: VecDeque<(u16, Vec<u8>, Vec<Grant>)>,
    pub unsubacks: VecDeque<(u16, Vec<u8>, Vec<u64>)>,
    pub pingresps: usize,
}

impl Answers {
    pub fn is_empty(&self) -> bool {
        self.pubacks.is_empty()
            && self.pubrecs.is_empty()
            && self.pubcomps.is_empty()
            && self.subacks.is_empty()
            && self.unsubacks.is_empty()
            && self.pingresps == 0
    }
}

pub struct Line {
    pub number: u64,
    pub client: usize,
    pub is_v5: bool,
    /// Seconds.
    pub keep_alive: u16,
    pub receive_maximum: u16,
    pub alias_maximum: u16,
    pub max_packet: usize,

    pub to_broker: Wire,
    pub to_client: Wire,
    /// Arrived at the broker, and not yet a whole packet.
    pub unread: Vec<u8>,
    /// Arrived at the client, and not yet a whole packet.
    pub inbox: Vec<u8>,
    /// The client is there.
    pub has_client: bool,
    /// The broker believes that it is open, or has not been asked yet.
    pub has_broker: bool,
    /// The broker's socket takes nothing.
    pub is_stalled: bool,

    pub id: Option<ConnId>,
    pub last_seen: u64,
    /// Bytes of the outbox that were looked at.
    pub observed: usize,
    /// Since when the outbox is sealed.
    pub sealed_since: Option<u64>,
    pub is_welcome: bool,
    /// What CONNACK is to say, once there was a CONNECT.
    pub session_present: Option<bool>,
    pub is_over: bool,
    /// Why the broker may close it, as the reason code of MQTT 5.
    pub doom: Option<u8>,
    pub answers: Answers,
    /// QoS 1 and 2 messages sent on it and not acknowledged.
    pub outstanding: BTreeSet<u16>,
    /// Topic aliases of the client's, as the broker learned them; and of the broker's, as they were sent.
    pub aliases_in: BTreeMap<u16, String>,
    pub aliases_out: BTreeMap<u16, String>,
}

impl Line {
    pub fn new(number: u64, client: usize, is_v5: bool) -> Line {
        Line {
            number,
            client,
            is_v5,
            keep_alive: 0,
            receive_maximum: u16::MAX,
            alias_maximum: 0,
            max_packet: usize::MAX,
            to_broker: Wire::default(),
            to_client: Wire::default(),
            unread: Vec::new(),
            inbox: Vec::new(),
            has_client: true,
            has_broker: true,
            is_stalled: false,
            id: None,
            last_seen: 0,
            observed: 0,
            sealed_since: None,
            is_welcome: false,
            session_present: None,
            is_over: false,
            doom: None,
            answers: Answers::default(),
            outstanding: BTreeSet::new(),
            aliases_in: BTreeMap::new(),
            aliases_out: BTreeMap::new(),
        }
    }

    /// When the broker has heard nothing for one and a half keep-alive intervals [MQTT-3.1.2-22].
    pub fn silent_at(&self) -> Option<u64> {
        let is_timed = self.id.is_some() && self.doom.is_none() && self.keep_alive > 0;
        is_timed.then(|| self.last_seen + u64::from(self.keep_alive) * 1500)
    }
}

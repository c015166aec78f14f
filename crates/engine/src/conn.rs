//! What one connection knows while it lasts: version, windows, aliases, its outbox.
//!
//! Refuses to know sockets: the outbox is bytes that the node takes away.

use crate::memory::Share;
use crate::rules::Permit;
use crate::time::Millis;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sealmq_codec::Version;
use sealmq_store::Seq;

/// A connection of this engine: the index is reused, the generation is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    pub index: u32,
    pub generation: u32,
}

/// What the CONNECT properties and the client's limits leave of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLimits {
    /// Bytes of the largest packet the client takes [MQTT-3.1.2-24].
    pub max_packet_size: u32,
    /// QoS 1 and 2 messages in flight towards the client: at least one, at most its receive maximum [MQTT-4.9.0-1].
    pub window: u16,
    pub topic_alias_maximum: u16,
    /// Whether reason strings may go anywhere [MQTT-3.1.2-29].
    pub problem_information: bool,
}

/// What a connection takes besides what is counted, of engine, node and TLS together (measured: about 7 KiB).
pub(crate) const CONNECTION_BYTES: u64 = 8 * 1024;
/// What an alias takes besides its name.
const ALIAS_BYTES: usize = 64;

/// What an acknowledgement means for the client's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckKind {
    /// PUBACK: opens it again.
    EndsQos1,
    Other,
}

/// An acknowledgement that waits for its record to be safe.
#[derive(Debug)]
pub(crate) struct HeldAck {
    pub seq: Seq,
    pub bytes: Box<[u8]>,
    pub kind: AckKind,
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub id: ConnId,
    pub version: Version,
    pub session: u32,
    pub client_id: Arc<str>,
    pub device: Option<Arc<str>>,
    pub permit: Permit,
    pub limits: ClientLimits,
    /// Encoded packets that the node has not taken yet.
    pub out: Vec<u8>,
    /// Bytes of `out` that messages may take, however low the limits of now are: those of the longest one written, or all
    /// that lay there when these limits came.
    pub granted: usize,
    /// Nothing of it leaves before this is safe: the CONNACK of a session that the log keeps is in there.
    pub sealed: Option<Seq>,
    pub is_dirty: bool,
    /// Set when the connection is over: the node sends what is in `out` and closes.
    pub is_closing: bool,
    /// Milliseconds of silence after which the client counts as gone; 0 is never.
    pub keep_alive_ms: u64,
    pub last_seen: Millis,
    /// Session expiry given in CONNECT, which DISCONNECT may only change from something (section 3.14.2.2.2).
    pub connect_expiry_s: u32,
    pub aliases_in: Vec<Option<Box<str>>>,
    pub aliases_out: Option<Box<HashMap<Box<str>, u16, FixedState>>>,
    pub held_acks: VecDeque<HeldAck>,
    /// QoS 1 exchanges whose PUBACK is held.
    pub unacknowledged: u16,
    /// The route this connection last published to and was allowed to.
    pub allowed_route: Option<(crate::router::RouteKey, crate::rules::Authorized)>,
    pub denied_at: Option<Millis>,
    pub denied_since: u32,
    pub dropped_since: u64,
    /// Bytes of a packet that is not whole: the node keeps them.
    pub waiting: usize,
    /// Bytes of topic names behind aliases, both ways.
    pub aliases_bytes: usize,
    pub share: Share,
}

impl Conn {
    /// Count what it holds.
    #[inline]
    pub fn weigh(&mut self) {
        let bytes = self.out.len() + self.waiting + self.aliases_bytes;
        self.share.set(CONNECTION_BYTES + bytes as u64);
    }

    /// The name behind an alias of the client [MQTT-3.3.2-12]; `slot` is below our topic alias maximum.
    pub fn set_alias(&mut self, slot: usize, topic: &str) {
        if self.aliases_in.len() <= slot {
            self.aliases_in.resize(slot + 1, None);
        }
        if let Some(entry) = self.aliases_in.get_mut(slot) {
            let before = entry.replace(topic.into());
            self.aliases_bytes -= before.map_or(0, |name| name.len() + ALIAS_BYTES);
            self.aliases_bytes += topic.len() + ALIAS_BYTES;
        }
        self.weigh();
    }

    /// An alias of ours.
    pub fn count_alias(&mut self, topic: &str) {
        self.aliases_bytes += topic.len() + ALIAS_BYTES;
    }
}

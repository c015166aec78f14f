//! What a session remembers between connections: subscriptions, what waits, what is in flight.
//!
//! Refuses to know connections beyond an index, and bytes on the wire.

use crate::limits::Limits;
use crate::message::Message;
use crate::retained::Place;
use crate::time::Millis;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use sealmq_codec::QoS;
use sealmq_store::Seq;

/// A message on its way to this session.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub message: Arc<Message>,
    pub qos: QoS,
    pub retain: bool,
    pub identifiers: Box<[u32]>,
}

/// Where a QoS 1 or 2 delivery stands.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// PUBLISH sent; PUBACK or PUBREC awaited.
    Publish(Pending),
    /// PUBREL sent; PUBCOMP awaited. The message itself is the receiver's now.
    Pubrel,
}

#[derive(Clone, Debug)]
pub(crate) struct Inflight {
    pub packet_id: u16,
    /// Rises by one with each packet identifier given out; tells a fresh identifier from one still in use.
    serial: u64,
    pub stage: Stage,
    /// Whether it went out on the connection of now; after a reconnect everything is to be sent again.
    pub sent: bool,
}

/// A new subscription that is being answered with retained messages.
#[derive(Clone, Debug)]
pub(crate) struct RetainedDue {
    pub filter: Box<str>,
    pub qos: QoS,
    pub identifier: u32,
    /// How far it has come.
    pub place: Option<Place>,
}

/// A will waiting for its connection to end badly.
#[derive(Debug)]
pub(crate) struct WillState {
    pub message: Message,
    pub delay_s: u32,
    /// Seconds of life of the message, counted from its publication.
    pub expiry_s: Option<u32>,
}

/// The budget of this session is used up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

#[derive(Debug)]
pub(crate) struct Session {
    pub client_id: Arc<str>,
    pub device: Option<Arc<str>>,
    /// Index of the connection, while there is one.
    pub conn: Option<u32>,
    /// Seconds the session outlives its connection; `u32::MAX` is for ever.
    pub expiry_s: u32,
    /// Tells this session from an earlier one at the same index.
    pub generation: u64,
    /// Rises when the session is attached or detached, so that an old timer knows it is stale.
    pub epoch: u64,
    /// Filters as subscribed, `$share` prefix included; their options are in the tree.
    pub subscriptions: BTreeSet<Box<str>>,
    pub will: Option<Box<WillState>>,
    /// Packet identifiers of QoS 2 messages received and not yet released [MQTT-4.3.3-10], and the record of each.
    pub inbound: BTreeMap<u16, Seq>,
    /// Subscriptions whose retained messages have not all been sent, in turn; at most one for each subscription.
    pub retained_due: VecDeque<RetainedDue>,
    /// In the engine's line of sessions to be fed.
    pub is_feeding: bool,
    queue: VecDeque<Pending>,
    queued_bytes: u64,
    inflight: VecDeque<Inflight>,
    serial: u64,
}

impl Session {
    pub fn new(client_id: Arc<str>, device: Option<Arc<str>>, generation: u64) -> Session {
        Session {
            client_id,
            device,
            conn: None,
            expiry_s: 0,
            generation,
            epoch: 0,
            subscriptions: BTreeSet::new(),
            will: None,
            inbound: BTreeMap::new(),
            retained_due: VecDeque::new(),
            is_feeding: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            inflight: VecDeque::new(),
            serial: 0,
        }
    }

    // getters

    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    pub fn inflight(&self) -> usize {
        self.inflight.len()
    }

    pub fn is_persistent(&self) -> bool {
        self.expiry_s > 0
    }

    // the queue: messages that have no packet identifier yet

    pub fn enqueue(&mut self, pending: Pending, limits: &Limits) -> Result<(), QueueFull> {
        let size = pending.message.size();
        if self.queue.len() >= limits.max_queued_messages as usize || self.queued_bytes + size > limits.max_queued_bytes
        {
            return Err(QueueFull);
        }
        self.queued_bytes += size;
        self.queue.push_back(pending);
        Ok(())
    }

    /// The oldest waiting message that has not expired.
    pub fn dequeue(&mut self, now: Millis) -> Option<Pending> {
        while let Some(pending) = self.queue.pop_front() {
            self.queued_bytes = self.queued_bytes.saturating_sub(pending.message.size());
            if !pending.message.content().is_expired(now) {
                return Some(pending);
            }
        }
        if self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        None
    }

    // in flight: messages that have a packet identifier

    /// Give `pending` a packet identifier that nothing in flight uses [MQTT-2.2.1-4].
    pub fn track(&mut self, pending: Pending) -> u16 {
        let mut serial = self.serial;
        let oldest = self.inflight.front().map_or(serial, |f| f.serial);
        // Identifiers are given out in order, so only after a full turn can one still be in use.
        if serial - oldest >= 65_535 {
            while self.inflight.iter().any(|f| f.packet_id == packet_id(serial)) {
                serial += 1;
            }
        }
        let id = packet_id(serial);
        self.serial = serial + 1;
        self.inflight.push_back(Inflight {
            packet_id: id,
            serial,
            stage: Stage::Publish(pending),
            sent: true,
        });
        id
    }

    fn position(&self, packet_id: u16) -> Option<usize> {
        // Acknowledgements come in order from a client that obeys [MQTT-4.6.0-2].
        if self.inflight.front().is_some_and(|f| f.packet_id == packet_id) {
            return Some(0);
        }
        self.inflight.iter().position(|f| f.packet_id == packet_id)
    }

    /// PUBACK, or PUBREC with a failure: the message is done. `false` when nothing waits for it.
    pub fn complete_publish(&mut self, packet_id: u16, qos: QoS) -> bool {
        match self.position(packet_id) {
            Some(at) if matches!(self.inflight.get(at), Some(Inflight { stage: Stage::Publish(p), .. }) if p.qos == qos) =>
            {
                self.inflight.remove(at);
                true
            }
            _ => false,
        }
    }

    /// PUBREC: from now on only PUBREL is sent again [MQTT-4.3.3-6]. `false` when the identifier is unknown.
    pub fn release(&mut self, packet_id: u16) -> bool {
        match self.position(packet_id).and_then(|at| self.inflight.get_mut(at)) {
            Some(entry) => {
                let is_qos2 = match &entry.stage {
                    Stage::Publish(pending) => pending.qos == QoS::ExactlyOnce,
                    Stage::Pubrel => true,
                };
                if is_qos2 {
                    entry.stage = Stage::Pubrel;
                }
                is_qos2
            }
            None => false,
        }
    }

    /// PUBCOMP: the delivery is over. `false` when no PUBREL waits for it.
    pub fn complete_pubrel(&mut self, packet_id: u16) -> bool {
        match self.position(packet_id) {
            Some(at)
                if matches!(
                    self.inflight.get(at),
                    Some(Inflight {
                        stage: Stage::Pubrel,
                        ..
                    })
                ) =>
            {
                self.inflight.remove(at);
                true
            }
            _ => false,
        }
    }

    /// A new connection: everything in flight is to be sent again, in its order [MQTT-4.4.0-1], [MQTT-4.6.0-1].
    pub fn mark_all_unsent(&mut self) {
        for entry in &mut self.inflight {
            entry.sent = false;
        }
    }

    /// The first entries that still have to go out on this connection, at most `window` outstanding.
    pub fn unsent(&mut self, window: usize) -> impl Iterator<Item = &mut Inflight> {
        self.inflight.iter_mut().take(window).filter(|f| !f.sent)
    }

    pub fn has_unsent(&self) -> bool {
        // What is unsent is a tail of the queue: sending goes in order.
        self.inflight.back().is_some_and(|f| !f.sent)
    }
}

/// 1 to 65535, in turn.
fn packet_id(serial: u64) -> u16 {
    (serial % 65_535) as u16 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Content;

    fn pending(qos: QoS) -> Pending {
        let content = Content {
            topic: "t",
            properties: &[],
            payload: b"x",
            expires_at: None,
            qos,
            retain: false,
        };
        Pending {
            message: Arc::new(Message::from_content(&content)),
            qos,
            retain: false,
            identifiers: Box::default(),
        }
    }

    #[test]
    fn a_packet_identifier_still_in_flight_is_not_given_out_again() {
        let mut session = Session::new("c".into(), None, 0);
        let stuck = session.track(pending(QoS::AtLeastOnce));
        for _ in 0..200_000 {
            let id = session.track(pending(QoS::AtLeastOnce));
            assert_ne!(id, stuck);
            assert_ne!(id, 0);
            assert!(session.complete_publish(id, QoS::AtLeastOnce));
        }
        assert!(session.complete_publish(stuck, QoS::AtLeastOnce));
        assert_eq!(session.inflight(), 0);
    }

    #[test]
    fn the_stages_of_exactly_once_are_not_interchangeable() {
        let mut session = Session::new("c".into(), None, 0);
        let id = session.track(pending(QoS::ExactlyOnce));
        assert!(
            !session.complete_publish(id, QoS::AtLeastOnce),
            "a PUBACK does not end QoS 2"
        );
        assert!(!session.complete_pubrel(id), "PUBCOMP before PUBREC");
        assert!(session.release(id));
        assert!(session.release(id), "a repeated PUBREC is answered again");
        assert!(
            !session.complete_publish(id, QoS::ExactlyOnce),
            "after PUBREC the message is the receiver's"
        );
        assert!(session.complete_pubrel(id));
        assert!(!session.complete_pubrel(id));
    }

    #[test]
    fn the_queue_keeps_its_bounds() {
        let limits = Limits {
            max_queued_messages: 2,
            ..Limits::default()
        };
        let mut session = Session::new("c".into(), None, 0);
        assert!(session.enqueue(pending(QoS::AtLeastOnce), &limits).is_ok());
        assert!(session.enqueue(pending(QoS::AtLeastOnce), &limits).is_ok());
        assert_eq!(session.enqueue(pending(QoS::AtLeastOnce), &limits), Err(QueueFull));
        assert!(session.dequeue(Millis(0)).is_some());
        assert!(session.enqueue(pending(QoS::AtLeastOnce), &limits).is_ok());
        let bytes = Limits {
            max_queued_bytes: 1,
            ..Limits::default()
        };
        assert_eq!(
            Session::new("d".into(), None, 0).enqueue(pending(QoS::AtLeastOnce), &bytes),
            Err(QueueFull)
        );
    }
}

//! One client on the bench: what it sends, what it received, what it expects.
//!
//! Refuses to acknowledge anything on its own.

use crate::harness::{Bench, Message, key, message};
use sealmq_codec::{
    Ack, Connack, Disconnect, FilterBuf, Packet, Properties, Property, PropertyBuf, Publish, QoS, ReasonCode,
    SubackCodes, Subscribe, SubscribeOptions, Subscription, Unsubscribe, Version, write_string,
};
use sealmq_engine::ConnId;

pub struct Client {
    bench: Bench,
    pub id: ConnId,
    pub version: Version,
    pub connack: Connack<'static>,
    next_id: u16,
}

/// A subscription with nothing special but its QoS.
pub fn filter(filter: &str, qos: u8) -> Subscription<'_> {
    let options = SubscribeOptions::plain(QoS::from_bits(qos).expect("a QoS"));
    Subscription { filter, options }
}

fn ack(packet_id: u16, reason: u8) -> Ack<'static> {
    let properties = Properties::EMPTY;
    Ack {
        packet_id,
        reason,
        properties,
    }
}

impl Client {
    pub(super) fn new(bench: Bench, id: ConnId, version: Version) -> Client {
        Client {
            bench,
            id,
            version,
            connack: Connack {
                session_present: false,
                code: 0,
                properties: Properties::EMPTY,
            },
            next_id: 0,
        }
    }

    // sending

    pub fn raw(&self, bytes: &[u8]) {
        self.bench.drive(|engine, now| engine.handle_bytes(now, self.id, bytes));
    }

    pub fn send(&self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        self.raw(&bytes);
    }

    /// Send a message; its packet identifier (0 at QoS 0).
    pub fn publish(&mut self, message: Message) -> u16 {
        let mut message = message;
        if message.qos != QoS::AtMostOnce && message.id.is_none() {
            self.next_id += 1;
            message.id = Some(self.next_id);
        }
        self.send(&message.packet());
        message.id.unwrap_or(0)
    }

    /// Send a QoS 0 message.
    pub fn say(&mut self, topic: &str, payload: &str) {
        self.publish(message(topic, payload));
    }

    /// Subscribe to one filter and expect it granted.
    pub fn subscribe(&mut self, text: &str, qos: u8) {
        assert_eq!(
            self.subscribe_all(0, &[filter(text, qos)]),
            [qos],
            "subscribing to {text}"
        );
    }

    /// Subscribe; the codes of the SUBACK, which must be the next packet. Identifier 0 is none.
    pub fn subscribe_all(&mut self, identifier: u32, filters: &[Subscription<'_>]) -> &'static [u8] {
        self.ask(identifier, filters);
        match self.next() {
            Packet::Suback(suback) => {
                // [MQTT-2.2.1-6], [MQTT-3.8.4-2]; [MQTT-2.3.1-7], [MQTT-3.8.4-2] of 3.1.1
                assert_eq!(suback.packet_id, self.next_id);
                suback.codes
            }
            other => panic!("{other:?} instead of SUBACK"),
        }
    }

    /// Send a SUBSCRIBE and leave the answer in the inbox.
    pub fn ask(&mut self, identifier: u32, filters: &[Subscription<'_>]) {
        let mut properties = PropertyBuf::new();
        if identifier != 0 {
            properties.push(Property::SubscriptionIdentifier(identifier));
        }
        let mut list = FilterBuf::new();
        for one in filters {
            list.push(self.version, one.filter, one.options);
        }
        self.next_id += 1;
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: self.next_id,
            properties: properties.as_properties(),
            filters: list.as_filters(self.version),
        }));
    }

    pub fn unsubscribe(&mut self, filters: &[&str]) -> SubackCodes<'static> {
        self.ask_to_end(filters);
        match self.next() {
            Packet::Unsuback(unsuback) => {
                // [MQTT-2.2.1-6], [MQTT-3.10.4-5]; [MQTT-2.3.1-7], [MQTT-3.10.4-4] of 3.1.1
                assert_eq!(unsuback.packet_id, self.next_id);
                unsuback
            }
            other => panic!("{other:?} instead of UNSUBACK"),
        }
    }

    /// Send an UNSUBSCRIBE and leave the answer in the inbox.
    pub fn ask_to_end(&mut self, filters: &[&str]) {
        let mut raw = Vec::new();
        for text in filters {
            write_string(text, &mut raw);
        }
        self.next_id += 1;
        self.send(&Packet::Unsubscribe(Unsubscribe::new(
            self.next_id,
            Properties::EMPTY,
            &raw,
        )));
    }

    pub fn puback(&self, id: u16) {
        self.send(&Packet::Puback(ack(id, 0)));
    }

    pub fn puback_failing(&self, id: u16, reason: ReasonCode) {
        self.send(&Packet::Puback(ack(id, reason as u8)));
    }

    pub fn pubrec(&self, id: u16) {
        self.send(&Packet::Pubrec(ack(id, 0)));
    }

    pub fn pubrec_failing(&self, id: u16, reason: ReasonCode) {
        self.send(&Packet::Pubrec(ack(id, reason as u8)));
    }

    pub fn pubrel(&self, id: u16) {
        self.send(&Packet::Pubrel(ack(id, 0)));
    }

    pub fn pubcomp(&self, id: u16) {
        self.send(&Packet::Pubcomp(ack(id, 0)));
    }

    pub fn disconnect(&self) {
        self.disconnect_with(ReasonCode::Success, Properties::EMPTY);
    }

    pub fn disconnect_with(&self, reason: ReasonCode, properties: Properties<'_>) {
        let reason = reason as u8;
        self.send(&Packet::Disconnect(Disconnect { reason, properties }));
    }

    /// The network goes away without a word.
    pub fn vanish(&self) {
        self.bench.drive(|engine, now| {
            engine.handle_closed(now, self.id, "connection reset");
        });
    }

    /// Stop reading: what the broker writes stays with it.
    pub fn stall(&self) {
        self.line(|line| line.is_stalled = true);
    }

    /// Read everything, and go on reading.
    pub fn read_again(&self) {
        self.line(|line| line.is_stalled = false);
        let mut world = self.bench.world.borrow_mut();
        let now = world.now;
        // What a node does once the socket takes bytes again: it asks for the output of a connection it knows to wait.
        let waiting = world.engine.output(self.id).map(std::mem::take).unwrap_or_default();
        world.receive(self.id, waiting);
        world.engine.handle_taken(now, self.id);
        world.settle();
    }

    /// Bytes the broker holds for this client.
    pub fn outbox(&self) -> usize {
        self.bench
            .world
            .borrow_mut()
            .engine
            .output(self.id)
            .map_or(0, |out| out.len())
    }

    // receiving

    fn line<R>(&self, look: impl FnOnce(&mut super::Line) -> R) -> R {
        look(
            self.bench
                .world
                .borrow_mut()
                .lines
                .get_mut(&key(self.id))
                .expect("a line"),
        )
    }

    /// Everything received and not yet looked at.
    pub fn all(&self) -> Vec<Packet<'static>> {
        self.line(|line| line.inbox.drain(..).collect())
    }

    pub fn try_next(&self) -> Option<Packet<'static>> {
        self.line(|line| line.inbox.pop_front())
    }

    pub fn next(&self) -> Packet<'static> {
        self.line(|line| line.inbox.pop_front()).expect("a packet")
    }

    pub fn expect(&self, packet: &Packet<'_>) {
        assert_eq!(self.next(), *packet);
    }

    /// The next packet is a PUBLISH.
    pub fn receive(&self) -> Publish<'static> {
        match self.next() {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?} instead of PUBLISH"),
        }
    }

    /// The next packet is a PUBLISH with this topic and payload.
    pub fn hears(&self, topic: &str, payload: &str) -> Publish<'static> {
        let publish = self.receive();
        assert_eq!((publish.topic, publish.payload), (topic, payload.as_bytes()));
        publish
    }

    /// Payloads of everything received, which must all be PUBLISH.
    pub fn payloads(&self) -> Vec<&'static str> {
        let mut payloads = Vec::new();
        while !self.line(|line| line.inbox.is_empty()) {
            payloads.push(std::str::from_utf8(self.receive().payload).expect("text"));
        }
        payloads
    }

    pub fn silent(&self) {
        assert_eq!(self.all(), []);
    }

    pub fn expect_puback(&self, id: u16, reason: u8) {
        assert_eq!(reason_of(self.next(), "PUBACK"), (id, reason));
    }

    pub fn expect_pubrec(&self, id: u16, reason: u8) {
        assert_eq!(reason_of(self.next(), "PUBREC"), (id, reason));
    }

    pub fn expect_pubrel(&self, id: u16, reason: u8) {
        assert_eq!(reason_of(self.next(), "PUBREL"), (id, reason));
    }

    pub fn expect_pubcomp(&self, id: u16, reason: u8) {
        assert_eq!(reason_of(self.next(), "PUBCOMP"), (id, reason));
    }

    pub fn is_closed(&self) -> bool {
        self.line(|line| line.is_closed)
    }

    /// The broker said DISCONNECT with this reason (5.0), or nothing (3.1.1), and closed.
    pub fn expect_closed(&self, reason: ReasonCode) -> Option<&'static str> {
        assert!(self.is_closed(), "connection is open, expected {}", reason.name());
        if self.version == Version::V311 {
            self.silent();
            return None;
        }
        let packet = self.next();
        let Packet::Disconnect(disconnect) = packet else {
            panic!("{packet:?} instead of DISCONNECT");
        };
        assert_eq!(ReasonCode::from_byte(disconnect.reason), Some(reason));
        self.silent();
        disconnect.properties.iter().find_map(|p| match p {
            Property::ReasonString(text) => Some(text),
            _ => None,
        })
    }
}

fn reason_of(packet: Packet<'_>, wanted: &str) -> (u16, u8) {
    match packet {
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack)
            if packet.kind().name() == wanted =>
        {
            (ack.packet_id, ack.reason)
        }
        other => panic!("{other:?} instead of {wanted}"),
    }
}

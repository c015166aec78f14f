//! One client: what it remembers between connections, and what it says next.
//!
//! Refuses to know the broker; it believes what it reads, and checks that no QoS 2 message reaches it twice.

use crate::model::Message;
use sealmq_codec::{Ack, Packet, Properties, Property, PropertyBuf, Publish, QoS, Version};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// A message of its own that is not acknowledged to the end.
pub struct Flight {
    pub packet_id: u16,
    pub message: Rc<Message>,
    pub qos: u8,
    pub retain: bool,
    pub expiry_s: Option<u32>,
    /// PUBREC came.
    pub is_released: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

pub const ANSWERS: [Answer; 4] = [Answer::Puback, Answer::Pubrec, Answer::Pubrel, Answer::Pubcomp];

pub struct Player {
    pub name: String,
    pub version: Version,
    /// It has once taken small packets only: what it had received of a larger one is never released [MQTT-3.1.2-25].
    pub was_narrow: bool,
    /// The number of its connection.
    pub line: Option<u64>,
    pub is_welcome: bool,
    /// It has thrown its state away, and the broker has not confirmed that it did, too.
    pub must_begin: bool,
    /// Seconds, from the last CONNECT.
    pub expiry_s: u32,
    pub receive_maximum: u16,
    pub alias_maximum: u16,
    aliases: BTreeMap<String, u16>,
    heard: BTreeMap<u16, String>,
    pub flights: Vec<Flight>,
    /// All that it ever published.
    pub sent: Vec<Rc<Message>>,
    requests: BTreeSet<u16>,
    /// QoS 2 messages received and not released.
    pub received: BTreeMap<u16, u32>,
    pub answers: [VecDeque<u16>; 4],
    /// How often each QoS 2 message came.
    pub counted: BTreeMap<u32, u32>,
}

/// What reading a packet leads to.
pub enum Reading {
    Nothing,
    /// Send these again.
    Resume,
    /// A QoS 2 message was delivered to the application: its serial, and how often it was.
    Counted(u32, u32),
}

/// The serial in a payload; the empty payload has none.
pub fn serial(payload: &[u8]) -> u32 {
    let text = std::str::from_utf8(payload).expect("our payloads are text");
    text.split(':').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

impl Player {
    pub fn new(name: String, version: Version) -> Player {
        Player {
            name,
            version,
            was_narrow: false,
            line: None,
            is_welcome: false,
            must_begin: false,
            expiry_s: 0,
            receive_maximum: u16::MAX,
            alias_maximum: 0,
            aliases: BTreeMap::new(),
            heard: BTreeMap::new(),
            flights: Vec::new(),
            sent: Vec::new(),
            requests: BTreeSet::new(),
            received: BTreeMap::new(),
            answers: Default::default(),
            counted: BTreeMap::new(),
        }
    }

    pub fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// It is about to connect; with a clean start it forgets everything.
    pub fn begin(&mut self, clean: bool) {
        self.is_welcome = false;
        self.aliases.clear();
        self.heard.clear();
        self.requests.clear();
        self.answers = Default::default();
        if clean {
            self.must_begin = true;
            self.forget();
        }
    }

    /// Its session is another one: what it remembers of the old one is worth nothing.
    pub fn forget(&mut self) {
        self.flights.clear();
        self.received.clear();
        self.counted.clear();
    }

    /// The smallest packet identifier that is not in use: reused as early as may be.
    pub fn packet_id(&self) -> u16 {
        let is_used = |id: &u16| self.requests.contains(id) || self.flights.iter().any(|f| f.packet_id == *id);
        (1..=u16::MAX).find(|id| !is_used(id)).expect("a packet identifier")
    }

    pub fn request(&mut self) -> u16 {
        let packet_id = self.packet_id();
        self.requests.insert(packet_id);
        packet_id
    }

    /// The bytes of a PUBLISH; with `alias`, the topic name goes by an alias where the broker takes them.
    pub fn publish(&mut self, flight: &Flight, dup: bool, alias: bool) -> Vec<u8> {
        let mut properties = PropertyBuf::new();
        let mut topic = flight.message.topic.clone();
        let serial = flight.message.serial.to_string();
        if self.is_v5() {
            if let Some(seconds) = flight.expiry_s {
                properties.push(Property::MessageExpiry(seconds));
            }
            if flight.message.is_marked {
                properties.push(Property::UserProperty("n", &serial));
            }
            if alias && let Some(number) = self.alias(&mut topic) {
                properties.push(Property::TopicAlias(number));
            }
        }
        let publish = Publish {
            dup,
            qos: QoS::from_bits(flight.qos).expect("a QoS"),
            retain: flight.retain,
            topic: &topic,
            packet_id: flight.packet_id,
            properties: properties.as_properties(),
            payload: &flight.message.payload,
        };
        let mut bytes = Vec::new();
        Packet::Publish(publish).encode(self.version, &mut bytes);
        bytes
    }

    fn alias(&mut self, topic: &mut String) -> Option<u16> {
        if let Some(&number) = self.aliases.get(topic) {
            topic.clear();
            return Some(number);
        }
        let number = u16::try_from(self.aliases.len() + 1)
            .ok()
            .filter(|&n| n <= self.alias_maximum)?;
        self.aliases.insert(topic.clone(), number);
        Some(number)
    }

    /// What a client sends once it knows that its session is there: all that is open, in the old order [MQTT-4.4.0-1].
    pub fn resume(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for flight in std::mem::take(&mut self.flights) {
            all.push(if flight.is_released {
                self.answer_bytes(Answer::Pubrel, flight.packet_id)
            } else {
                self.publish(&flight, true, false)
            });
            self.flights.push(flight);
        }
        all
    }

    pub fn answer_bytes(&self, answer: Answer, packet_id: u16) -> Vec<u8> {
        let ack = Ack {
            packet_id,
            reason: 0,
            properties: Properties::EMPTY,
        };
        let packet = match answer {
            Answer::Puback => Packet::Puback(ack),
            Answer::Pubrec => Packet::Pubrec(ack),
            Answer::Pubrel => Packet::Pubrel(ack),
            Answer::Pubcomp => Packet::Pubcomp(ack),
        };
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        bytes
    }

    fn owe(&mut self, answer: Answer, packet_id: u16) {
        self.answers[answer as usize].push_back(packet_id);
    }

    pub fn read(&mut self, packet: &Packet<'_>) -> Reading {
        match packet {
            Packet::Connack(connack) if connack.code == 0 => {
                self.receive_maximum = u16::MAX;
                self.alias_maximum = 0;
                for property in connack.properties.iter() {
                    match property {
                        Property::ReceiveMaximum(n) => self.receive_maximum = n,
                        Property::TopicAliasMaximum(n) => self.alias_maximum = n,
                        _ => {}
                    }
                }
                self.is_welcome = true;
                self.must_begin = false;
                if connack.session_present {
                    return Reading::Resume;
                }
                self.forget();
            }
            Packet::Publish(publish) => return self.hear(publish),
            Packet::Puback(ack) => self.flights.retain(|f| f.packet_id != ack.packet_id),
            Packet::Pubrec(ack) => {
                let Some(at) = self.flights.iter().position(|f| f.packet_id == ack.packet_id) else {
                    return Reading::Nothing;
                };
                if ack.reason >= 0x80 {
                    self.flights.remove(at);
                } else {
                    self.flights[at].is_released = true;
                    self.owe(Answer::Pubrel, ack.packet_id);
                }
            }
            Packet::Pubrel(ack) => {
                self.received.remove(&ack.packet_id);
                self.owe(Answer::Pubcomp, ack.packet_id);
            }
            Packet::Pubcomp(ack) => self.flights.retain(|f| f.packet_id != ack.packet_id),
            Packet::Suback(codes) | Packet::Unsuback(codes) => drop(self.requests.remove(&codes.packet_id)),
            _ => {}
        }
        Reading::Nothing
    }

    fn hear(&mut self, publish: &Publish<'_>) -> Reading {
        for property in publish.properties.iter() {
            if let Property::TopicAlias(number) = property {
                if publish.topic.is_empty() {
                    assert!(self.heard.contains_key(&number), "alias {number} was never told");
                } else {
                    self.heard.insert(number, publish.topic.into());
                }
            }
        }
        match publish.qos {
            QoS::AtMostOnce => Reading::Nothing,
            QoS::AtLeastOnce => {
                self.owe(Answer::Puback, publish.packet_id);
                Reading::Nothing
            }
            QoS::ExactlyOnce => {
                let serial = serial(publish.payload);
                self.owe(Answer::Pubrec, publish.packet_id);
                match self.received.insert(publish.packet_id, serial) {
                    Some(before) => {
                        assert_eq!(
                            before, serial,
                            "packet identifier {} stands for two messages",
                            publish.packet_id
                        );
                        Reading::Nothing
                    }
                    None => {
                        let count = self.counted.entry(serial).or_default();
                        *count += 1;
                        Reading::Counted(serial, *count)
                    }
                }
            }
        }
    }
}

//! One client, the same at both brokers: how it connects, what it has said, what it still owes.
//!
//! Refuses to know the brokers.

use crate::dice::Dice;
use sealmq_codec::{Ack, Connect, Framed, Packet, Property, PropertyBuf, QoS, Version, Will, frame};
use sealmq_engine::{ClientIds, ConnId, Peer};
use std::collections::VecDeque;

/// An acknowledgement but for its fields.
pub type Kind = fn(Ack<'static>) -> Packet<'static>;

pub struct Client {
    pub name: String,
    pub version: Version,
    connect: PropertyBuf,
    pub expiry_s: u32,
    keep_alive: u16,
    will: Option<(&'static str, QoS, bool)>,
    /// It publishes at QoS 0, and subscribes to nothing.
    pub is_sensor: bool,
    pub id: Option<ConnId>,
    /// The identifier of its next message.
    pub next: u16,
    /// Packet type to answer with, and identifier.
    pub owed: VecDeque<(Kind, u16)>,
    /// What it said and what was not carried out.
    pub said: Vec<u8>,
    /// Bytes of them that have arrived.
    pub arrived: usize,
    /// Those of them that the second broker knows to wait, and the first has not heard of.
    pub waiting: usize,
    /// Bytes that it read and that are no whole packet yet.
    heard: Vec<u8>,
}

impl Client {
    pub fn new(number: usize, dice: &mut Dice) -> Client {
        let mut connect = PropertyBuf::new();
        let expiry_s = if dice.chance(40) { 1000 } else { 0 };
        let version = dice.pick(&[Version::V311, Version::V5]);
        if version == Version::V5 {
            connect.push(Property::SessionExpiry(expiry_s));
            if dice.chance(30) {
                connect.push(Property::ReceiveMaximum(dice.pick(&[1, 3, 10, 50])));
            }
            if dice.chance(20) {
                connect.push(Property::TopicAliasMaximum(1));
            }
            if dice.chance(20) {
                connect.push(Property::MaximumPacketSize(dice.pick(&[30, 80])));
            }
        }
        let will = (dice.pick(&["a/b", "b"]), QoS::AtLeastOnce, dice.chance(50));
        Client {
            name: format!("c{number}"),
            version,
            connect,
            expiry_s,
            keep_alive: dice.pick(&[0, 0, 5]),
            will: dice.chance(20).then_some(will),
            is_sensor: false,
            id: None,
            next: dice.pick(&[1, 1, 65_500]),
            owed: VecDeque::new(),
            said: Vec::new(),
            arrived: 0,
            waiting: 0,
            heard: Vec::new(),
        }
    }

    pub fn connect<R>(&self, clean_start: bool, visit: impl FnOnce(&Connect<'_>, &Peer) -> R) -> R {
        let none = PropertyBuf::new();
        let will = self.will.map(|(topic, qos, retain)| Will {
            qos,
            retain,
            properties: none.as_properties(),
            topic,
            payload: b"will",
        });
        let connect = Connect {
            version: self.version,
            clean_start: clean_start || self.expiry_s == 0,
            keep_alive: self.keep_alive,
            properties: self.connect.as_properties(),
            client_id: &self.name,
            will,
            username: None,
            password: None,
        };
        let peer = Peer {
            device: Some(self.name.as_str().into()),
            client_ids: ClientIds::Any,
        };
        visit(&connect, &peer)
    }

    /// A new network connection, or none.
    pub fn begin(&mut self, id: Option<ConnId>) {
        self.id = id;
        self.owed.clear();
        self.heard.clear();
        self.hang_up();
    }

    /// Nothing of what it said will be carried out any more.
    pub fn hang_up(&mut self) {
        self.said.clear();
        self.arrived = 0;
        self.waiting = 0;
    }

    /// What it makes of `bytes`.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
        let heard = std::mem::take(&mut self.heard);
        let mut rest = &heard[..];
        while let Ok(Framed::Whole(whole)) = frame(rest, u32::MAX) {
            rest = &rest[whole.size..];
            match Packet::decode(self.version, whole).expect("a packet") {
                Packet::Publish(publish) if publish.qos == QoS::AtLeastOnce => {
                    self.owed.push_back((Packet::Puback, publish.packet_id));
                }
                Packet::Publish(publish) if publish.qos == QoS::ExactlyOnce => {
                    self.owed.push_back((Packet::Pubrec, publish.packet_id));
                }
                Packet::Pubrec(ack) if ack.reason < 0x80 => self.owed.push_back((Packet::Pubrel, ack.packet_id)),
                Packet::Pubrel(ack) => self.owed.push_back((Packet::Pubcomp, ack.packet_id)),
                _ => {}
            }
        }
        self.heard = rest.to_vec();
    }

    /// Answers of one kind stand one behind the other.
    pub fn sort_answers(&mut self) {
        let plain = |kind: &Kind| {
            kind(Ack {
                packet_id: 1,
                reason: 0,
                properties: sealmq_codec::Properties::EMPTY,
            })
        };
        let owed = self.owed.make_contiguous();
        owed.sort_by_key(|(kind, _)| plain(kind).kind() as u8);
    }
}

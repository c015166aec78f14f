//! What a client says: mostly packets that are alike, and now and then one that is not.
//!
//! Refuses to know when it arrives.

use crate::client::{Client, Kind};
use crate::dice::Dice;
use crate::harness::filter;
use sealmq_codec::{
    Ack, Disconnect, FilterBuf, Packet, Properties, Property, PropertyBuf, Publish, QoS, Subscribe, Unsubscribe,
    Version, write_string,
};

pub const TOPICS: [&str; 4] = ["a/b", "a/c", "b", "forbidden"];
const FILTERS: [&str; 8] = [
    "a/b",
    "a/#",
    "+/b",
    "b",
    "$share/g/a/c",
    "$share/g/#",
    "$share/h/b",
    "#",
];
const KINDS: [Kind; 4] = [Packet::Puback, Packet::Pubrec, Packet::Pubrel, Packet::Pubcomp];
static LONG: [u8; 17_000] = [b'x'; 17_000];

fn ack(packet_id: u16, reason: u8) -> Ack<'static> {
    Ack {
        packet_id,
        reason,
        properties: Properties::EMPTY,
    }
}

fn encoded(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    out
}

/// The length in a byte more than it needs, which MQTT 3.1.1 leaves to the sender.
fn pad(packet: &mut Vec<u8>) {
    if packet[1] < 0x80 {
        packet[1] |= 0x80;
        packet.insert(2, 0);
    }
}

impl Client {
    /// Say something in one breath.
    pub fn speak(&mut self, dice: &mut Dice) {
        for _ in 0..1 + dice.below(4) {
            match dice.below(20) {
                0..=8 => self.messages(dice),
                9..=15 => self.answers(dice),
                16 => self.said.extend([0xC0, 0]),
                17 if dice.chance(40) => self.subscribe(dice),
                18 if dice.chance(10) => self.end(dice),
                _ => {}
            }
        }
    }

    /// Say SUBSCRIBE or UNSUBSCRIBE.
    pub fn subscribe(&mut self, dice: &mut Dice) {
        let text = dice.pick(&FILTERS);
        let mut raw = Vec::new();
        write_string(text, &mut raw);
        let (mut properties, mut filters) = (PropertyBuf::new(), FilterBuf::new());
        let mut options = filter(text, dice.below(3) as u8).options;
        if self.version == Version::V5 {
            options.no_local = !text.starts_with('$') && dice.chance(50);
            options.retain_as_published = dice.chance(30);
            if dice.chance(10) {
                properties.push(Property::SubscriptionIdentifier(9));
            }
        }
        filters.push(self.version, text, options);
        let packet = if dice.chance(25) {
            Packet::Unsubscribe(Unsubscribe::new(7, Properties::EMPTY, &raw))
        } else {
            Packet::Subscribe(Subscribe {
                packet_id: 7,
                properties: properties.as_properties(),
                filters: filters.as_filters(self.version),
            })
        };
        if !self.is_sensor {
            self.said.extend(encoded(self.version, &packet));
        }
    }

    /// One bit of what it said from `from` on is another.
    pub fn garble(&mut self, from: usize, dice: &mut Dice) {
        let at = from + dice.below(self.said.len() - from);
        if let Some(byte) = self.said.get_mut(at) {
            *byte ^= 1 << dice.below(8);
        }
    }

    /// Something after which nothing comes.
    fn end(&mut self, dice: &mut Dice) {
        let goodbye = Disconnect {
            reason: dice.pick(&[0, 4]),
            properties: Properties::EMPTY,
        };
        let second = self.connect(true, |connect, _| encoded(self.version, &Packet::Connect(*connect)));
        let nothing = vec![0x32, 0xff, 0xff, 0xff, 0xff];
        let last = match dice.below(3) {
            0 => encoded(self.version, &Packet::Disconnect(goodbye)),
            1 => second,
            _ => nothing,
        };
        self.said.extend(last);
    }

    fn messages(&mut self, dice: &mut Dice) {
        let (topic, qos) = (dice.pick(&TOPICS[..3]), dice.below(3) as u8);
        let (size, first) = (dice.pick(&[0, 20, 118]), self.next);
        let most = if dice.chance(5) { 150 } else { 16 };
        for _ in 0..1 + dice.below(most) {
            let message = self.message(topic, qos, size, dice);
            self.said.extend(message);
        }
        // Released before anybody has answered.
        if self.next > first && dice.chance(10) {
            for id in first..self.next {
                self.said.extend(encoded(self.version, &Packet::Pubrel(ack(id, 0))));
            }
        }
    }

    fn message(&mut self, topic: &'static str, qos: u8, size: usize, dice: &mut Dice) -> Vec<u8> {
        let is_odd = dice.chance(6);
        let odd = if is_odd { dice.below(12) } else { usize::MAX };
        let is_v5 = self.version == Version::V5;
        // Longer than what is remembered of topics.
        let long = "l".repeat(520);
        let mut properties = PropertyBuf::new();
        if odd == 0 && is_v5 {
            properties.push(dice.pick(&[
                Property::UserProperty("k", "v"),
                Property::TopicAlias(1),
                Property::TopicAlias(5),
                Property::MessageExpiry(2),
                Property::PayloadFormat(1),
            ]));
        }
        if odd == 8 && is_v5 {
            properties.push(Property::TopicAlias(1));
        }
        let bits = match odd {
            _ if self.is_sensor => 0,
            1 => dice.below(3) as u8,
            _ => qos,
        };
        let qos = QoS::from_bits(bits).expect("a QoS");
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { self.next };
        // The same identifier again is another message at QoS 1, and the same one at QoS 2.
        if odd != 2 {
            self.next = self.next.checked_add(1).unwrap_or(1);
        }
        let size = match odd {
            4 if dice.chance(50) => 0,
            6 => dice.pick(&[300, 5_000, LONG.len()]),
            _ => size + dice.below(20),
        };
        let publish = Publish {
            dup: odd == 3 && qos != QoS::AtMostOnce,
            qos,
            retain: odd == 4,
            topic: match odd {
                5 => dice.pick(&TOPICS),
                11 => &long,
                8 if is_v5 => "",
                10 if dice.chance(10) => "a/+",
                _ => topic,
            },
            packet_id,
            properties: properties.as_properties(),
            payload: &LONG[..size],
        };
        let mut out = encoded(self.version, &Packet::Publish(publish));
        match odd {
            7 if dice.chance(10) => out[0] |= 0x06, // QoS 3
            9 if !is_v5 || dice.chance(10) => pad(&mut out),
            _ => {}
        }
        out
    }

    /// Give all answers that are owed, but not for messages under the identifier `lasting`.
    pub fn answer_all_but(&mut self, lasting: Option<u16>) {
        for (kind, id) in std::mem::take(&mut self.owed) {
            if Some(id) == lasting {
                self.owed.push_back((kind, id));
            } else {
                self.said.extend(encoded(self.version, &kind(ack(id, 0))));
            }
        }
    }

    fn answers(&mut self, dice: &mut Dice) {
        for _ in 0..1 + dice.below(20) {
            let Some((mut kind, mut id)) = self.owed.pop_front() else {
                return;
            };
            let is_odd = dice.chance(6);
            let odd = if is_odd { dice.below(7) } else { usize::MAX };
            let mut reason = 0;
            match odd {
                0 => {
                    let other = self.owed.get(dice.below(8));
                    id = other.map_or(id % 60 + 1, |&(_, other)| other);
                }
                1 => kind = dice.pick(&KINDS),
                2 => self.owed.push_back((kind, id)),
                3 if self.version == Version::V5 => {
                    let is_late = matches!(kind(ack(1, 0)), Packet::Pubrel(_) | Packet::Pubcomp(_));
                    reason = if is_late { 0x92 } else { dice.pick(&[0x10, 0x80]) };
                }
                4 => self.owed.rotate_left(self.owed.len().min(1)),
                5 => self.owed.push_front((kind, id)),
                _ => {}
            }
            let mut out = encoded(self.version, &kind(ack(id, reason)));
            if odd == 6 && self.version == Version::V311 {
                pad(&mut out);
            }
            self.said.extend(out);
        }
    }
}

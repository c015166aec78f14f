//! Packets of one kind that stand one behind the other: a run of them is told apart by little, and looked at together.
//!
//! Refuses to know every form of a packet and every offence: what is not of the plainest form ends the run, and is for
//! [`Packet::decode`](crate::Packet::decode).

use crate::{PacketKind, QoS, Version};
use alloc::vec::Vec;

/// Bytes of an acknowledgement without reason code and properties.
pub const SHORT_ACK: usize = 4;

/// The first byte of PUBACK, PUBREC, PUBREL and PUBCOMP [MQTT-3.6.1-1].
#[inline]
pub(crate) fn ack_byte(kind: PacketKind) -> u8 {
    let flags = if kind == PacketKind::Pubrel { 0b0010 } else { 0 };
    ((kind as u8) << 4) | flags
}

/// Append an acknowledgement in its shortest form: success, and nothing to say about it.
#[inline]
pub fn write_short_ack(kind: PacketKind, packet_id: u16, out: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[ack_byte(kind), 2, high, low]);
}

/// The acknowledgements of one kind at the start of `bytes`, as long as they have their shortest form: their kind and packet
/// identifiers, [`SHORT_ACK`] bytes each. `None` when there is not a single one.
#[inline]
pub fn short_acks(bytes: &[u8]) -> Option<(PacketKind, impl Iterator<Item = u16> + Clone)> {
    let kind = match bytes {
        [0x40, 2, ..] => PacketKind::Puback,
        [0x50, 2, ..] => PacketKind::Pubrec,
        [0x62, 2, ..] => PacketKind::Pubrel,
        [0x70, 2, ..] => PacketKind::Pubcomp,
        _ => return None,
    };
    let first = ack_byte(kind);
    let ids = bytes.chunks_exact(SHORT_ACK).map_while(move |packet| match *packet {
        [head, 2, high, low] if head == first => Some(u16::from_be_bytes([high, low])).filter(|&id| id != 0),
        _ => None,
    });
    Some((kind, ids))
}

/// PUBLISH packets at the start of some bytes that are alike but for payload and packet identifier: the same topic name and
/// QoS, no DUP, no RETAIN, no properties, lengths in as few bytes as they need, at most three of them.
#[derive(Clone, Copy, Debug)]
pub struct Alike<'a> {
    first: u8,
    version: Version,
    topic: &'a str,
    rest: &'a [u8],
}

/// One packet of [`Alike`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Like<'a> {
    pub packet: &'a [u8],
    /// 0 at QoS 0.
    pub packet_id: u16,
    pub payload: &'a [u8],
}

impl<'a> Alike<'a> {
    /// `topic` is a topic name that has been looked at.
    #[inline]
    pub fn new(version: Version, qos: QoS, topic: &'a str, bytes: &'a [u8]) -> Alike<'a> {
        Alike {
            first: 0x30 | ((qos as u8) << 1),
            version,
            topic,
            rest: bytes,
        }
    }
}

impl<'a> Iterator for Alike<'a> {
    type Item = Like<'a>;

    #[inline]
    fn next(&mut self) -> Option<Like<'a>> {
        let (header, length) = match *self.rest {
            [first, length @ ..0x80, ..] if first == self.first => (2, usize::from(length)),
            [first, low, high @ 1..0x80, ..] if first == self.first => {
                (3, usize::from(low & 0x7f) | usize::from(high) << 7)
            }
            _ => return None,
        };
        let (packet, rest) = self.rest.split_at_checked(header + length)?;
        let (name_length, body) = packet.get(header..)?.split_first_chunk::<2>()?;
        if usize::from(u16::from_be_bytes(*name_length)) != self.topic.len() {
            return None;
        }
        let mut body = body.strip_prefix(self.topic.as_bytes())?;
        let mut packet_id = 0;
        if self.first != 0x30 {
            let (id, rest) = body.split_first_chunk::<2>()?;
            (packet_id, body) = (u16::from_be_bytes(*id), rest);
            if packet_id == 0 {
                return None;
            }
        }
        if self.version == Version::V5 {
            body = body.strip_prefix(&[0])?;
        }
        self.rest = rest;
        Some(Like {
            packet,
            packet_id,
            payload: body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ack, Framed, Packet, Properties, Publish, frame};
    use alloc::vec;

    const KINDS: [fn(Ack<'static>) -> Packet<'static>; 4] =
        [Packet::Puback, Packet::Pubrec, Packet::Pubrel, Packet::Pubcomp];

    fn ack(packet_id: u16, reason: u8) -> Ack<'static> {
        let properties = Properties::EMPTY;
        Ack {
            packet_id,
            reason,
            properties,
        }
    }

    fn bytes(version: Version, packets: &[Packet<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| packet.encode(version, &mut bytes));
        bytes
    }

    #[test]
    fn acknowledgements_are_those_that_decoding_finds() {
        for kind in KINDS {
            let written = bytes(Version::V5, &[kind(ack(1, 0)), kind(ack(0x1234, 0)), kind(ack(2, 0))]);
            let (found, ids) = short_acks(&written).expect("a run");
            assert_eq!(
                (found, ids.collect::<Vec<_>>()),
                (kind(ack(1, 0)).kind(), vec![1, 0x1234, 2])
            );
            let mut again = Vec::new();
            for id in [1, 0x1234, 2] {
                write_short_ack(found, id, &mut again);
            }
            assert_eq!(again, written);
        }
    }

    #[test]
    fn acknowledgements_of_another_kind_or_form_end_the_run() {
        for (place, kind) in KINDS.into_iter().enumerate() {
            for end in [
                bytes(Version::V5, &[kind(ack(2, 0x92))]),
                bytes(Version::V5, &[KINDS[(place + 1) % 4](ack(2, 0))]),
                vec![ack_byte(kind(ack(1, 0)).kind()), 2, 0, 0], // identifier 0
                vec![ack_byte(kind(ack(1, 0)).kind()) ^ 1, 2, 0, 2], // flags
                vec![ack_byte(kind(ack(1, 0)).kind()), 0x82, 0, 0, 2],
            ] {
                let mut written = bytes(Version::V5, &[kind(ack(7, 0))]);
                written.extend(end);
                written.extend(bytes(Version::V5, &[kind(ack(8, 0))]));
                let (_, ids) = short_acks(&written).expect("a run");
                assert_eq!(ids.collect::<Vec<_>>(), [7], "{written:?}");
            }
            let cut = bytes(Version::V5, &[kind(ack(7, 0)), kind(ack(8, 0))]);
            let (_, ids) = short_acks(&cut[..7]).expect("a run");
            assert_eq!(ids.collect::<Vec<_>>(), [7]);
        }
        for none in [&[][..], &[0x40], &[0x30, 2, 0, 1], &[0x60, 2, 0, 1]] {
            assert!(short_acks(none).is_none(), "{none:?}");
        }
    }

    fn publish(qos: QoS, packet_id: u16, payload: &[u8]) -> Publish<'_> {
        Publish {
            dup: false,
            qos,
            retain: false,
            topic: "a/ü",
            packet_id: if qos == QoS::AtMostOnce { 0 } else { packet_id },
            properties: Properties::EMPTY,
            payload,
        }
    }

    #[test]
    fn publishes_are_those_that_decoding_finds() {
        let long = [7u8; 20_000];
        for version in [Version::V311, Version::V5] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let payloads = [&b"x"[..], b"", long.get(..117).unwrap(), long.get(..16_000).unwrap()];
                let list: Vec<_> = (1..)
                    .zip(payloads)
                    .map(|(id, payload)| publish(qos, id, payload))
                    .collect();
                let packets: Vec<_> = list.iter().map(|one| Packet::Publish(*one)).collect();
                let written = bytes(version, &packets);
                let mut rest = &written[..];
                for (like, one) in Alike::new(version, qos, "a/ü", &written).zip(&list) {
                    let Ok(Framed::Whole(whole)) = frame(rest, u32::MAX) else {
                        panic!("cut");
                    };
                    assert_eq!(Packet::decode(version, whole), Ok(Packet::Publish(*one)));
                    assert_eq!((like.packet, like.payload), (&rest[..whole.size], one.payload));
                    assert_eq!(like.packet_id, one.packet_id);
                    rest = &rest[whole.size..];
                }
                assert_eq!(rest, []);
            }
        }
    }

    #[test]
    fn whatever_is_unusual_ends_a_run_of_publishes() {
        let qos = QoS::AtLeastOnce;
        let plain = publish(qos, 3, b"x");
        let long = [7u8; 20_000];
        let unlike = [
            Publish { dup: true, ..plain },
            Publish { retain: true, ..plain },
            Publish { topic: "a/b", ..plain },
            Publish {
                topic: "a/ü/", ..plain
            },
            Publish { topic: "a/", ..plain },
            Publish { topic: "", ..plain },
            publish(QoS::ExactlyOnce, 3, b"x"),
            publish(QoS::AtMostOnce, 3, b"x"),
            publish(qos, 3, &long), // four bytes of length
        ];
        let mut ends: Vec<Vec<u8>> = unlike
            .iter()
            .map(|one| bytes(Version::V5, &[Packet::Publish(*one)]))
            .collect();
        let first = bytes(Version::V5, &[Packet::Publish(plain)]);
        ends.push([&[0x32, 0x8a, 0], &first[2..]].concat()); // a length with padding
        ends.push([&first[..8], &[0, 0], &first[10..]].concat()); // identifier 0
        ends.push([&[0x32, 12], &first[2..10], &[2, 1, 0], b"x"].concat()); // a property
        ends.push(vec![0x32]);
        for end in ends {
            let written = [&first[..], &end, &first].concat();
            let found: Vec<_> = Alike::new(Version::V5, qos, "a/ü", &written).collect();
            assert_eq!(found.len(), 1, "{end:?}");
        }
        for cut in 0..first.len() {
            let written = [&first[..], &first[..cut]].concat();
            assert_eq!(Alike::new(Version::V5, qos, "a/ü", &written).count(), 1, "{cut}");
        }
    }
}

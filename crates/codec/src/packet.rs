//! All fifteen packet types, decoded and encoded.
//!
//! Refuses to know which side may send what; that is the state machine's question.

use crate::property::PropertySet;
use crate::run::{ack_byte, write_short_ack};
use crate::wire::{Reader, write_publish_header, write_varint};
use crate::{Connack, Connect, Fault, Frame, Properties, QoS, SubackCodes, Subscribe, Unsubscribe, Version, topic};
use alloc::vec::Vec;

/// The packet types of table 2-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketKind {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketKind {
    fn from_first_byte(first: u8) -> Option<PacketKind> {
        Some(match first >> 4 {
            1 => PacketKind::Connect,
            2 => PacketKind::Connack,
            3 => PacketKind::Publish,
            4 => PacketKind::Puback,
            5 => PacketKind::Pubrec,
            6 => PacketKind::Pubrel,
            7 => PacketKind::Pubcomp,
            8 => PacketKind::Subscribe,
            9 => PacketKind::Suback,
            10 => PacketKind::Unsubscribe,
            11 => PacketKind::Unsuback,
            12 => PacketKind::Pingreq,
            13 => PacketKind::Pingresp,
            14 => PacketKind::Disconnect,
            15 => PacketKind::Auth,
            _ => return None,
        })
    }

    /// The specification's name.
    pub fn name(self) -> &'static str {
        match self {
            PacketKind::Connect => "CONNECT",
            PacketKind::Connack => "CONNACK",
            PacketKind::Publish => "PUBLISH",
            PacketKind::Puback => "PUBACK",
            PacketKind::Pubrec => "PUBREC",
            PacketKind::Pubrel => "PUBREL",
            PacketKind::Pubcomp => "PUBCOMP",
            PacketKind::Subscribe => "SUBSCRIBE",
            PacketKind::Suback => "SUBACK",
            PacketKind::Unsubscribe => "UNSUBSCRIBE",
            PacketKind::Unsuback => "UNSUBACK",
            PacketKind::Pingreq => "PINGREQ",
            PacketKind::Pingresp => "PINGRESP",
            PacketKind::Disconnect => "DISCONNECT",
            PacketKind::Auth => "AUTH",
        }
    }
}

/// PUBLISH (section 3.3). `topic` may be empty in 5.0 when a topic alias stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    pub topic: &'a str,
    /// 0 for QoS 0.
    pub packet_id: u16,
    pub properties: Properties<'a>,
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    #[inline]
    fn decode(version: Version, flags: u8, body: &'a [u8]) -> Result<Publish<'a>, Fault> {
        let mut reader = Reader::new(body);
        // [MQTT-3.3.1-4]
        let qos = QoS::from_bits((flags >> 1) & 0b11).ok_or(Fault::BadQos)?;
        let dup = flags & 0b1000 != 0;
        // [MQTT-3.3.1-2]
        if dup && qos == QoS::AtMostOnce {
            return Err(Fault::DupOnQos0);
        }
        let topic = topic::read_name(&mut reader)?;
        // [MQTT-3.3.2-2], [MQTT-4.7.0-1]; an empty name is legal in 5.0 with an alias
        if topic.is_empty() && version == Version::V311 {
            return Err(Fault::BadTopicName);
        }
        // [MQTT-2.2.1-2]
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { reader.packet_id()? };
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::read(&mut reader, PropertySet::Packet(PacketKind::Publish))?,
        };
        Ok(Publish {
            dup,
            qos,
            retain: flags & 1 != 0,
            topic,
            packet_id,
            properties,
            payload: reader.rest(),
        })
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let properties = if version == Version::V5 {
            self.properties.encoded_len()
        } else {
            0
        };
        let after = properties + self.payload.len();
        write_publish_header(self.dup, self.qos, self.retain, self.topic, self.packet_id, after, out);
        if version == Version::V5 {
            self.properties.write(out);
        }
        out.extend_from_slice(self.payload);
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (sections 3.4 to 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    pub packet_id: u16,
    /// 0 in 3.1.1.
    pub reason: u8,
    pub properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    #[inline]
    fn decode(version: Version, kind: PacketKind, body: &'a [u8]) -> Result<Ack<'a>, Fault> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        if reader.is_empty() {
            return Ok(Ack {
                packet_id,
                reason: 0,
                properties: Properties::EMPTY,
            });
        }
        if version == Version::V311 {
            return Err(Fault::TrailingBytes);
        }
        let reason = reader.u8()?;
        let known = match kind {
            PacketKind::Pubrel | PacketKind::Pubcomp => matches!(reason, 0x00 | 0x92),
            _ => matches!(reason, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99),
        };
        if !known {
            return Err(Fault::BadReasonCode(reason));
        }
        // Section 3.4.2.2.1: the property length may be left out
        let properties = if reader.is_empty() {
            Properties::EMPTY
        } else {
            Properties::read(&mut reader, PropertySet::Packet(kind))?
        };
        reader.end()?;
        Ok(Ack {
            packet_id,
            reason,
            properties,
        })
    }

    fn write_body(&self, version: Version, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.packet_id.to_be_bytes());
        if version == Version::V5 {
            write_reason_tail(self.reason, self.properties, out);
        }
    }
}

/// DISCONNECT (section 3.14); empty in 3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    pub reason: u8,
    pub properties: Properties<'a>,
}

/// AUTH (section 3.15), MQTT 5.0 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    pub reason: u8,
    pub properties: Properties<'a>,
}

/// Reason code and properties, both left out where the specification lets them be.
fn write_reason_tail(reason: u8, properties: Properties<'_>, out: &mut Vec<u8>) {
    if reason == 0 && properties.is_empty() {
        return;
    }
    out.push(reason);
    if !properties.is_empty() {
        properties.write(out);
    }
}

fn read_reason_tail<'a>(
    version: Version,
    kind: PacketKind,
    body: &'a [u8],
    known: fn(u8) -> bool,
) -> Result<(u8, Properties<'a>), Fault> {
    let mut reader = Reader::new(body);
    if reader.is_empty() {
        return Ok((0, Properties::EMPTY));
    }
    if version == Version::V311 {
        return Err(Fault::TrailingBytes);
    }
    let reason = reader.u8()?;
    if !known(reason) {
        return Err(Fault::BadReasonCode(reason));
    }
    let properties = if reader.is_empty() {
        Properties::EMPTY
    } else {
        Properties::read(&mut reader, PropertySet::Packet(kind))?
    };
    reader.end()?;
    Ok((reason, properties))
}

/// Table 3-10 [MQTT-3.14.2-1].
fn is_disconnect_reason(code: u8) -> bool {
    matches!(code, 0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B | 0x8D..=0x90 | 0x93..=0xA2)
}

/// Table 3-11 [MQTT-3.15.2-1].
fn is_auth_reason(code: u8) -> bool {
    matches!(code, 0x00 | 0x18 | 0x19)
}

/// Any packet, borrowed from the buffer it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(SubackCodes<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(SubackCodes<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Decode one framed packet. CONNECT brings its own version; `version` is ignored for it.
    #[inline]
    pub fn decode(version: Version, frame: Frame<'a>) -> Result<Packet<'a>, Fault> {
        let flags = frame.first & 0x0f;
        let kind = PacketKind::from_first_byte(frame.first).ok_or(Fault::UnknownPacketType(frame.first >> 4))?;
        // [MQTT-2.1.3-1], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1], [MQTT-3.15.1-1]
        let expected = match kind {
            PacketKind::Publish => flags,
            PacketKind::Pubrel | PacketKind::Subscribe | PacketKind::Unsubscribe => 0b0010,
            _ => 0,
        };
        if flags != expected {
            return Err(Fault::BadFixedHeaderFlags {
                packet_type: kind as u8,
                flags,
            });
        }
        let body = frame.body;
        let packet = match kind {
            PacketKind::Publish => Packet::Publish(Publish::decode(version, flags, body)?),
            PacketKind::Connect => Packet::Connect(Connect::decode(body)?),
            PacketKind::Connack => Packet::Connack(Connack::decode(version, body)?),
            PacketKind::Puback => Packet::Puback(Ack::decode(version, kind, body)?),
            PacketKind::Pubrec => Packet::Pubrec(Ack::decode(version, kind, body)?),
            PacketKind::Pubrel => Packet::Pubrel(Ack::decode(version, kind, body)?),
            PacketKind::Pubcomp => Packet::Pubcomp(Ack::decode(version, kind, body)?),
            PacketKind::Subscribe => Packet::Subscribe(Subscribe::decode(version, body)?),
            PacketKind::Suback => Packet::Suback(SubackCodes::decode(version, kind, body)?),
            PacketKind::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(version, body)?),
            PacketKind::Unsuback => Packet::Unsuback(SubackCodes::decode(version, kind, body)?),
            PacketKind::Pingreq => Reader::new(body).end().map(|()| Packet::Pingreq)?,
            PacketKind::Pingresp => Reader::new(body).end().map(|()| Packet::Pingresp)?,
            PacketKind::Disconnect => {
                let (reason, properties) = read_reason_tail(version, kind, body, is_disconnect_reason)?;
                Packet::Disconnect(Disconnect { reason, properties })
            }
            PacketKind::Auth if version == Version::V5 => {
                let (reason, properties) = read_reason_tail(version, kind, body, is_auth_reason)?;
                Packet::Auth(Auth { reason, properties })
            }
            PacketKind::Auth => return Err(Fault::UnknownPacketType(15)),
        };
        let version = match &packet {
            Packet::Connect(connect) => connect.version,
            _ => version,
        };
        frame.check_length(version)?;
        Ok(packet)
    }

    pub fn kind(&self) -> PacketKind {
        match self {
            Packet::Connect(_) => PacketKind::Connect,
            Packet::Connack(_) => PacketKind::Connack,
            Packet::Publish(_) => PacketKind::Publish,
            Packet::Puback(_) => PacketKind::Puback,
            Packet::Pubrec(_) => PacketKind::Pubrec,
            Packet::Pubrel(_) => PacketKind::Pubrel,
            Packet::Pubcomp(_) => PacketKind::Pubcomp,
            Packet::Subscribe(_) => PacketKind::Subscribe,
            Packet::Suback(_) => PacketKind::Suback,
            Packet::Unsubscribe(_) => PacketKind::Unsubscribe,
            Packet::Unsuback(_) => PacketKind::Unsuback,
            Packet::Pingreq => PacketKind::Pingreq,
            Packet::Pingresp => PacketKind::Pingresp,
            Packet::Disconnect(_) => PacketKind::Disconnect,
            Packet::Auth(_) => PacketKind::Auth,
        }
    }

    /// Append the packet to `out`. A CONNECT is written in its own version.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if let Packet::Publish(publish) = self {
            return publish.encode(version, out);
        }
        let kind = self.kind();
        let mut body = Vec::new();
        match self {
            Packet::Connect(packet) => packet.write_body(&mut body),
            Packet::Connack(packet) => packet.write_body(version, &mut body),
            Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
                return write_ack(kind, ack, version, out);
            }
            Packet::Subscribe(packet) => packet.write_body(version, &mut body),
            Packet::Unsubscribe(packet) => packet.write_body(version, &mut body),
            Packet::Suback(codes) | Packet::Unsuback(codes) => codes.write_body(version, kind, &mut body),
            Packet::Disconnect(packet) if version == Version::V5 => {
                write_reason_tail(packet.reason, packet.properties, &mut body);
            }
            Packet::Auth(packet) => write_reason_tail(packet.reason, packet.properties, &mut body),
            Packet::Publish(_) | Packet::Disconnect(_) | Packet::Pingreq | Packet::Pingresp => {}
        }
        let flags = match kind {
            PacketKind::Subscribe | PacketKind::Unsubscribe => 0b0010,
            _ => 0,
        };
        out.push(((kind as u8) << 4) | flags);
        write_varint(body.len(), out);
        out.extend_from_slice(&body);
    }
}

/// The acknowledgements are on the message path: no allocation for the usual form.
#[inline]
fn write_ack(kind: PacketKind, ack: &Ack<'_>, version: Version, out: &mut Vec<u8>) {
    if version == Version::V311 || (ack.reason == 0 && ack.properties.is_empty()) {
        return write_short_ack(kind, ack.packet_id, out);
    }
    out.push(ack_byte(kind));
    let properties = if ack.properties.is_empty() {
        0
    } else {
        ack.properties.encoded_len()
    };
    write_varint(3 + properties, out);
    ack.write_body(version, out);
}

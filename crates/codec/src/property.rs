//! MQTT 5.0 properties (section 2.2.2): validated once, then read without failure.
//!
//! Refuses to know what a property does; it knows which packet may carry it, how often, and its domain.

use crate::wire::{Reader, varint_len, write_binary, write_string, write_varint};
use crate::{Fault, PacketKind, topic};
use alloc::vec::Vec;

/// One property, borrowed from the packet.
#[allow(clippy::enum_variant_names, reason = "the names are those of table 2-4")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    PayloadFormat(u8),
    MessageExpiry(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiry(u32),
    AssignedClientId(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(u8),
    WillDelay(u32),
    RequestResponseInformation(u8),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQos(u8),
    RetainAvailable(u8),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardAvailable(u8),
    SubscriptionIdentifiersAvailable(u8),
    SharedAvailable(u8),
}

/// Where a property block stands: the packet, or the will inside CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertySet {
    Packet(PacketKind),
    Will,
}

impl PropertySet {
    /// The identifiers allowed here, as a bit per identifier (table 2-4).
    fn allowed(self) -> u64 {
        const fn bits(ids: &[u8]) -> u64 {
            let mut set = 0;
            let mut i = 0;
            while i < ids.len() {
                #[allow(clippy::indexing_slicing, reason = "const evaluation; the loop bounds i")]
                let id = ids[i];
                set |= 1 << id;
                i += 1;
            }
            set
        }
        const PUBLISH: u64 = bits(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26]);
        const WILL: u64 = bits(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26]);
        const CONNECT: u64 = bits(&[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27]);
        const CONNACK: u64 = bits(&[
            0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A,
        ]);
        const REASON: u64 = bits(&[0x1F, 0x26]);
        match self {
            PropertySet::Will => WILL,
            PropertySet::Packet(kind) => match kind {
                PacketKind::Connect => CONNECT,
                PacketKind::Connack => CONNACK,
                PacketKind::Publish => PUBLISH,
                PacketKind::Puback
                | PacketKind::Pubrec
                | PacketKind::Pubrel
                | PacketKind::Pubcomp
                | PacketKind::Suback
                | PacketKind::Unsuback => REASON,
                PacketKind::Subscribe => bits(&[0x0B, 0x26]),
                PacketKind::Unsubscribe => bits(&[0x26]),
                PacketKind::Disconnect => bits(&[0x11, 0x1C, 0x1F, 0x26]),
                PacketKind::Auth => bits(&[0x15, 0x16, 0x1F, 0x26]),
                PacketKind::Pingreq | PacketKind::Pingresp => 0,
            },
        }
    }
}

impl<'a> Property<'a> {
    /// The identifier of table 2-4.
    pub fn identifier(&self) -> u8 {
        match self {
            Property::PayloadFormat(_) => 0x01,
            Property::MessageExpiry(_) => 0x02,
            Property::ContentType(_) => 0x03,
            Property::ResponseTopic(_) => 0x08,
            Property::CorrelationData(_) => 0x09,
            Property::SubscriptionIdentifier(_) => 0x0B,
            Property::SessionExpiry(_) => 0x11,
            Property::AssignedClientId(_) => 0x12,
            Property::ServerKeepAlive(_) => 0x13,
            Property::AuthenticationMethod(_) => 0x15,
            Property::AuthenticationData(_) => 0x16,
            Property::RequestProblemInformation(_) => 0x17,
            Property::WillDelay(_) => 0x18,
            Property::RequestResponseInformation(_) => 0x19,
            Property::ResponseInformation(_) => 0x1A,
            Property::ServerReference(_) => 0x1C,
            Property::ReasonString(_) => 0x1F,
            Property::ReceiveMaximum(_) => 0x21,
            Property::TopicAliasMaximum(_) => 0x22,
            Property::TopicAlias(_) => 0x23,
            Property::MaximumQos(_) => 0x24,
            Property::RetainAvailable(_) => 0x25,
            Property::UserProperty(_, _) => 0x26,
            Property::MaximumPacketSize(_) => 0x27,
            Property::WildcardAvailable(_) => 0x28,
            Property::SubscriptionIdentifiersAvailable(_) => 0x29,
            Property::SharedAvailable(_) => 0x2A,
        }
    }

    fn read(reader: &mut Reader<'a>) -> Result<Property<'a>, Fault> {
        let identifier = reader.varint()?;
        Ok(match identifier {
            0x01 => Property::PayloadFormat(reader.u8()?),
            0x02 => Property::MessageExpiry(reader.u32()?),
            0x03 => Property::ContentType(reader.string()?),
            0x08 => Property::ResponseTopic(reader.string()?),
            0x09 => Property::CorrelationData(reader.binary()?),
            0x0B => Property::SubscriptionIdentifier(reader.varint()?),
            0x11 => Property::SessionExpiry(reader.u32()?),
            0x12 => Property::AssignedClientId(reader.string()?),
            0x13 => Property::ServerKeepAlive(reader.u16()?),
            0x15 => Property::AuthenticationMethod(reader.string()?),
            0x16 => Property::AuthenticationData(reader.binary()?),
            0x17 => Property::RequestProblemInformation(reader.u8()?),
            0x18 => Property::WillDelay(reader.u32()?),
            0x19 => Property::RequestResponseInformation(reader.u8()?),
            0x1A => Property::ResponseInformation(reader.string()?),
            0x1C => Property::ServerReference(reader.string()?),
            0x1F => Property::ReasonString(reader.string()?),
            0x21 => Property::ReceiveMaximum(reader.u16()?),
            0x22 => Property::TopicAliasMaximum(reader.u16()?),
            0x23 => Property::TopicAlias(reader.u16()?),
            0x24 => Property::MaximumQos(reader.u8()?),
            0x25 => Property::RetainAvailable(reader.u8()?),
            0x26 => Property::UserProperty(reader.string()?, reader.string()?),
            0x27 => Property::MaximumPacketSize(reader.u32()?),
            0x28 => Property::WildcardAvailable(reader.u8()?),
            0x29 => Property::SubscriptionIdentifiersAvailable(reader.u8()?),
            0x2A => Property::SharedAvailable(reader.u8()?),
            other => return Err(Fault::UnknownProperty(other)),
        })
    }

    /// Whether the value lies in the domain the specification gives it.
    fn in_domain(&self) -> bool {
        match self {
            Property::PayloadFormat(v)
            | Property::RequestProblemInformation(v)
            | Property::RequestResponseInformation(v)
            | Property::MaximumQos(v)
            | Property::RetainAvailable(v)
            | Property::WildcardAvailable(v)
            | Property::SubscriptionIdentifiersAvailable(v)
            | Property::SharedAvailable(v) => *v <= 1,
            // [MQTT-3.3.2-8], section 3.1.2.11.3
            Property::TopicAlias(v) | Property::ReceiveMaximum(v) => *v != 0,
            Property::MaximumPacketSize(v) | Property::SubscriptionIdentifier(v) => *v != 0,
            // [MQTT-3.3.2-14]
            Property::ResponseTopic(topic) => topic::is_valid_name(topic),
            _ => true,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.identifier());
        match self {
            Property::PayloadFormat(v)
            | Property::RequestProblemInformation(v)
            | Property::RequestResponseInformation(v)
            | Property::MaximumQos(v)
            | Property::RetainAvailable(v)
            | Property::WildcardAvailable(v)
            | Property::SubscriptionIdentifiersAvailable(v)
            | Property::SharedAvailable(v) => out.push(*v),
            Property::ServerKeepAlive(v)
            | Property::ReceiveMaximum(v)
            | Property::TopicAliasMaximum(v)
            | Property::TopicAlias(v) => out.extend_from_slice(&v.to_be_bytes()),
            Property::MessageExpiry(v)
            | Property::SessionExpiry(v)
            | Property::WillDelay(v)
            | Property::MaximumPacketSize(v) => out.extend_from_slice(&v.to_be_bytes()),
            Property::SubscriptionIdentifier(v) => write_varint(*v as usize, out),
            Property::ContentType(s)
            | Property::ResponseTopic(s)
            | Property::AssignedClientId(s)
            | Property::AuthenticationMethod(s)
            | Property::ResponseInformation(s)
            | Property::ServerReference(s)
            | Property::ReasonString(s) => write_string(s, out),
            Property::CorrelationData(b) | Property::AuthenticationData(b) => write_binary(b, out),
            Property::UserProperty(k, v) => {
                write_string(k, out);
                write_string(v, out);
            }
        }
    }
}

/// A validated block of properties, without its length prefix. Empty in MQTT 3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Properties<'a> {
    raw: &'a [u8],
}

impl<'a> Properties<'a> {
    pub const EMPTY: Properties<'static> = Properties { raw: &[] };

    /// Read the length, which is there also when it is zero [MQTT-2.2.2-1], and the block, and validate it for its place;
    /// text in it is text like any other [MQTT-1.5.7-1].
    pub(crate) fn read(reader: &mut Reader<'a>, place: PropertySet) -> Result<Properties<'a>, Fault> {
        let length = reader.varint()?;
        let raw = reader.take(length as usize)?;
        Properties::validate(raw, place)
    }

    /// Check a block (without its length): known, allowed here, once each where once is the rule, in their domains.
    pub fn validate(raw: &'a [u8], place: PropertySet) -> Result<Properties<'a>, Fault> {
        if raw.is_empty() {
            return Ok(Properties { raw });
        }
        let allowed = place.allowed();
        let mut seen = 0u64;
        let mut reader = Reader::new(raw);
        while !reader.is_empty() {
            let property = Property::read(&mut reader)?;
            let identifier = property.identifier();
            let bit = 1u64 << identifier;
            if allowed & bit == 0 {
                return Err(Fault::MisplacedProperty(identifier));
            }
            // A user property may repeat anywhere; a subscription identifier only in a PUBLISH from a server.
            let repeats =
                identifier == 0x26 || (identifier == 0x0B && place == PropertySet::Packet(PacketKind::Publish));
            if seen & bit != 0 && !repeats {
                return Err(Fault::DuplicateProperty(identifier));
            }
            seen |= bit;
            if !property.in_domain() {
                return Err(Fault::BadPropertyValue(identifier));
            }
        }
        // Authentication data without a method is a protocol error (section 3.1.2.11.10).
        if seen & (1 << 0x16) != 0 && seen & (1 << 0x15) == 0 {
            return Err(Fault::BadPropertyValue(0x16));
        }
        Ok(Properties { raw })
    }

    /// The block as bytes, without its length.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The properties in wire order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut reader = Reader::new(self.raw);
        core::iter::from_fn(move || {
            if reader.is_empty() {
                None
            } else {
                Property::read(&mut reader).ok()
            }
        })
    }

    /// Bytes on the wire, length prefix included.
    pub fn encoded_len(&self) -> usize {
        varint_len(self.raw.len()) + self.raw.len()
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        write_varint(self.raw.len(), out);
        out.extend_from_slice(self.raw);
    }
}

/// Properties being put together for a packet of our own.
#[derive(Clone, Debug, Default)]
pub struct PropertyBuf {
    raw: Vec<u8>,
}

impl PropertyBuf {
    pub fn new() -> PropertyBuf {
        PropertyBuf::default()
    }

    pub fn push(&mut self, property: Property<'_>) -> &mut PropertyBuf {
        property.write(&mut self.raw);
        self
    }

    pub fn as_properties(&self) -> Properties<'_> {
        Properties { raw: &self.raw }
    }
}

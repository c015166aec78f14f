//! What a peer can do wrong on the wire, one variant an offence.
//!
//! Refuses to know what the broker does about it; it only offers the reason code the specification gives.

use crate::ReasonCode;
use core::fmt;

/// An offence of the peer against the encoding rules. Display gives one lower-case sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The body ended inside a field.
    Truncated,
    /// Bytes were left over after the last field.
    TrailingBytes,
    /// A variable byte integer had more than four bytes, or more than its value needs [MQTT-1.5.5-1].
    BadVariableByteInteger,
    /// The packet is larger than this side accepts [MQTT-3.1.2-24].
    PacketTooLarge { size: u32, limit: u32 },
    /// Packet type 0, or type 15 in MQTT 3.1.1.
    UnknownPacketType(u8),
    /// The flag bits of the fixed header are not those the packet type demands [MQTT-2.1.3-1].
    BadFixedHeaderFlags { packet_type: u8, flags: u8 },
    /// A string is not UTF-8 [MQTT-1.5.4-1].
    NotUtf8,
    /// A string holds U+0000 [MQTT-1.5.4-2].
    NulInString,
    /// The protocol name is not `MQTT` [MQTT-3.1.2-1].
    BadProtocolName,
    /// The protocol level is neither 4 nor 5 [MQTT-3.1.2-2].
    UnsupportedProtocolLevel(u8),
    /// The reserved flag of CONNECT is set [MQTT-3.1.2-3].
    ConnectReservedFlag,
    /// Will QoS or will retain without a will, or will QoS 3 [MQTT-3.1.2-11].
    BadWillFlags,
    /// A password flag without a user name flag in MQTT 3.1.1 [MQTT-3.1.2-22].
    PasswordWithoutUserName,
    /// A PUBLISH with QoS 3 [MQTT-3.3.1-4].
    BadQos,
    /// DUP set on a QoS 0 PUBLISH [MQTT-3.3.1-2].
    DupOnQos0,
    /// A packet identifier of zero [MQTT-2.2.1-3].
    ZeroPacketIdentifier,
    /// A property that the packet may not carry: malformed, by section 2.2.2.2.
    MisplacedProperty(u8),
    /// A property identifier that MQTT does not define.
    UnknownProperty(u32),
    /// A property that may appear once appeared twice.
    DuplicateProperty(u8),
    /// A property value outside its domain.
    BadPropertyValue(u8),
    /// A topic name that is empty or holds a wildcard [MQTT-3.3.2-2].
    BadTopicName,
    /// A topic filter that is empty or misplaces a wildcard [MQTT-4.7.1-1].
    BadTopicFilter,
    /// A SUBSCRIBE or UNSUBSCRIBE without a filter [MQTT-3.8.3-2].
    NoFilters,
    /// Reserved bits of the subscription options are set [MQTT-3.8.3-5].
    BadSubscriptionOptions,
    /// QoS 3 or retain handling 3 in an MQTT 5.0 subscription (section 3.8.3.1).
    BadSubscriptionValue,
    /// No Local on a shared subscription [MQTT-3.8.3-4].
    NoLocalOnShared,
    /// A reason code that the packet may not carry.
    BadReasonCode(u8),
    /// CONNACK flags other than session present.
    BadConnackFlags,
}

impl Fault {
    /// The MQTT 5 reason code that answers this offence.
    pub fn reason_code(self) -> ReasonCode {
        match self {
            Fault::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Fault::UnsupportedProtocolLevel(_) | Fault::BadProtocolName => ReasonCode::UnsupportedProtocolVersion,
            Fault::BadTopicName => ReasonCode::TopicNameInvalid,
            Fault::BadTopicFilter => ReasonCode::TopicFilterInvalid,
            Fault::DuplicateProperty(_)
            | Fault::BadPropertyValue(_)
            | Fault::NoFilters
            | Fault::BadSubscriptionValue
            | Fault::NoLocalOnShared
            | Fault::ZeroPacketIdentifier
            | Fault::BadReasonCode(_) => ReasonCode::ProtocolError,
            _ => ReasonCode::MalformedPacket,
        }
    }

    /// A stable slug for records and metrics.
    pub fn slug(self) -> &'static str {
        match self {
            Fault::PacketTooLarge { .. } => "packet-too-large",
            Fault::UnsupportedProtocolLevel(_) => "unsupported-protocol-version",
            Fault::BadProtocolName => "bad-protocol-name",
            Fault::NotUtf8 | Fault::NulInString => "bad-utf8",
            Fault::BadTopicName => "topic-name-invalid",
            Fault::BadTopicFilter => "topic-filter-invalid",
            Fault::BadVariableByteInteger => "bad-remaining-length",
            _ => match self.reason_code() {
                ReasonCode::ProtocolError => "protocol-error",
                _ => "malformed-packet",
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Truncated => f.write_str("packet ends inside a field"),
            Fault::TrailingBytes => f.write_str("packet has bytes after its last field"),
            Fault::BadVariableByteInteger => f.write_str("variable byte integer is longer than it may be"),
            Fault::PacketTooLarge { size, limit } => write!(f, "packet of {size} bytes exceeds the limit of {limit}"),
            Fault::UnknownPacketType(t) => write!(f, "packet type {t} does not exist in this version"),
            Fault::BadFixedHeaderFlags { packet_type, flags } => {
                write!(
                    f,
                    "fixed header flags {flags:#06b} are not allowed for packet type {packet_type}"
                )
            }
            Fault::NotUtf8 => f.write_str("string is not valid UTF-8"),
            Fault::NulInString => f.write_str("string holds U+0000"),
            Fault::BadProtocolName => f.write_str("protocol name is not MQTT"),
            Fault::UnsupportedProtocolLevel(l) => write!(f, "protocol level {l} is neither 4 (3.1.1) nor 5 (5.0)"),
            Fault::ConnectReservedFlag => f.write_str("reserved CONNECT flag is set"),
            Fault::BadWillFlags => f.write_str("will flags contradict each other"),
            Fault::PasswordWithoutUserName => f.write_str("password without user name in MQTT 3.1.1"),
            Fault::BadQos => f.write_str("QoS 3 does not exist"),
            Fault::DupOnQos0 => f.write_str("DUP is set on a QoS 0 PUBLISH"),
            Fault::ZeroPacketIdentifier => f.write_str("packet identifier is zero"),
            Fault::MisplacedProperty(p) => write!(f, "property {p:#04x} does not belong in this packet"),
            Fault::UnknownProperty(p) => write!(f, "property {p:#04x} is not defined"),
            Fault::DuplicateProperty(p) => write!(f, "property {p:#04x} appears twice"),
            Fault::BadPropertyValue(p) => write!(f, "property {p:#04x} has a value outside its range"),
            Fault::BadTopicName => f.write_str("topic name is empty or holds a wildcard"),
            Fault::BadTopicFilter => f.write_str("topic filter is empty or misplaces a wildcard"),
            Fault::NoFilters => f.write_str("no topic filter in the packet"),
            Fault::BadSubscriptionOptions => f.write_str("subscription options use reserved bits or values"),
            Fault::BadSubscriptionValue => f.write_str("subscription asks for QoS 3 or retain handling 3"),
            Fault::NoLocalOnShared => f.write_str("no local is set on a shared subscription"),
            Fault::BadReasonCode(c) => write!(f, "reason code {c:#04x} is not allowed in this packet"),
            Fault::BadConnackFlags => f.write_str("reserved CONNACK flags are set"),
        }
    }
}

impl core::error::Error for Fault {}

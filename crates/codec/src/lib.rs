//! MQTT 3.1.1 and 5.0 on the wire: bytes to packets and packets to bytes.
//!
//! This crate refuses to know clocks, sockets, sessions and what a packet means for anybody else. It never panics on
//! what a peer sends: every offence is a [`Fault`] that names what was wrong and the reason code that answers it.
//!
//! Read in this order: [`frame()`] cuts one packet out of a buffer, [`Packet::decode`] gives its borrowed form,
//! [`Packet::encode`] writes it back. Strings and payloads are slices of the caller's buffer; nothing is copied.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

extern crate alloc;

mod connect;
mod error;
mod frame;
mod packet;
mod property;
mod reason;
mod run;
mod subscribe;
pub mod topic;
mod wire;

pub use connect::{Connack, Connect, Will};
pub use error::Fault;
pub use frame::{Frame, Framed, MAX_REMAINING_LENGTH, frame};
pub use packet::{Ack, Auth, Disconnect, Packet, PacketKind, Publish};
pub use property::{Properties, Property, PropertyBuf, PropertySet};
pub use reason::ReasonCode;
pub use run::{Alike, Like, SHORT_ACK, short_acks, write_short_ack};
pub use subscribe::{
    FilterBuf, Filters, RetainHandling, SubackCodes, Subscribe, SubscribeOptions, Subscription, Unsubscribe,
};
pub use wire::{varint_len, write_publish_header, write_string, write_varint};

/// The protocol version of a connection, fixed by its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol level 5.
    V5,
}

impl Version {
    /// The number people say: `3.1.1` or `5.0`.
    pub fn name(self) -> &'static str {
        match self {
            Version::V311 => "3.1.1",
            Version::V5 => "5.0",
        }
    }
}

/// Quality of service of a PUBLISH or a subscription.
#[allow(clippy::enum_variant_names, reason = "the names are those of section 4.3")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl QoS {
    /// `None` for 3, which no packet may carry [MQTT-3.3.1-4].
    pub fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

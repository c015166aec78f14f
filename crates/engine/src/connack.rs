//! CONNACK as bytes: how large one would be, and the one that refuses.
//!
//! Refuses to know why.

use alloc::string::String;
use alloc::vec::Vec;
use sealmq_codec::{Connack, Connect, Packet, Property, PropertyBuf, ReasonCode, Version};

/// A CONNECT that was not accepted: the CONNACK to send before closing (or nothing), and the record.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub bytes: Vec<u8>,
    pub reason: ReasonCode,
    pub cause: &'static str,
    pub summary: String,
    pub mend: String,
}

/// Bytes of a CONNACK with these properties.
pub(crate) fn connack_size(version: Version, properties: &PropertyBuf) -> usize {
    let mut bytes = Vec::new();
    let connack = Connack {
        session_present: false,
        code: 0,
        properties: properties.as_properties(),
    };
    Packet::Connack(connack).encode(version, &mut bytes);
    bytes.len()
}

/// A CONNACK with a failure code [MQTT-3.2.2-8] and without a session [MQTT-3.2.2-6]; the reason string says why in 5.0,
/// unless the client takes no packet of that size [MQTT-3.2.2-19]. Nothing where the client takes no packet at all, or 3.1.1
/// has no code for it: the connection is closed without a word.
pub fn refusal_bytes(connect: &Connect<'_>, reason: ReasonCode, summary: &str) -> Vec<u8> {
    let version = connect.version;
    let takes = connect.properties.iter().find_map(|p| match p {
        Property::MaximumPacketSize(size) => Some(size as usize),
        _ => None,
    });
    let mut properties = PropertyBuf::new();
    let code = match version {
        Version::V311 => match reason.connack_v311() {
            Some(code) => code,
            None => return Vec::new(),
        },
        Version::V5 => {
            if takes.is_none_or(|size| summary.len() + 16 <= size) {
                properties.push(Property::ReasonString(summary));
            }
            reason as u8
        }
    };
    let mut bytes = Vec::new();
    let connack = Connack {
        session_present: false,
        code,
        properties: properties.as_properties(),
    };
    Packet::Connack(connack).encode(version, &mut bytes);
    if takes.is_some_and(|size| bytes.len() > size) {
        bytes.clear();
    }
    bytes
}

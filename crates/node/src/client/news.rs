//! What a session tells: messages, results, what became of a publish, and why it is over.
//!
//! Refuses to know when.

use super::fault::ClientError;
use super::properties;
use sealmq_codec::{PacketKind, Properties, PropertySet};
use std::sync::Arc;

/// One received message; its properties as they were on the wire.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: Arc<str>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub(super) properties: Vec<u8>,
    /// 0 when nothing is to be acknowledged.
    pub(super) packet_id: u16,
}

impl Message {
    /// The properties as JSON text, empty when there are none.
    pub fn properties(&self) -> String {
        if self.properties.is_empty() {
            return String::new();
        }
        Properties::validate(&self.properties, PropertySet::Packet(PacketKind::Publish))
            .map(|found| properties::of_message(found).to_string())
            .unwrap_or_default()
    }

    /// What it holds on to, bytes.
    pub(super) fn size(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.len() + size_of::<Message>()
    }
}

/// What was promised under a ticket is over: a reason code for a publish, one per filter otherwise.
pub struct Done {
    pub ticket: u64,
    pub codes: Vec<u8>,
}

/// Why a session is over, and what the server said about coming back.
#[derive(Clone, Debug)]
pub struct Closing {
    pub error: ClientError,
    /// Of the server's CONNACK or DISCONNECT.
    pub reason_code: Option<u8>,
    /// Seconds.
    pub retry_after: Option<u32>,
}

impl From<ClientError> for Closing {
    fn from(error: ClientError) -> Closing {
        Closing {
            error,
            reason_code: None,
            retry_after: None,
        }
    }
}

/// What a publish became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// QoS 0: on its way.
    Sent,
    /// Over when [`Done`] with this ticket comes.
    Under(u64),
    /// Nothing was taken: too much is under way.
    NoRoom,
}

//! A part of what waits on disk for one session.
//!
//! Refuses to know how it was found.

use crate::{Order, Seq, SessionId};
use alloc::string::String;
use alloc::vec::Vec;

/// Which part: from `from` on, oldest first, until one of both bounds is reached (and at least one message).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    pub session: SessionId,
    pub from: Order,
    pub max_messages: u32,
    pub max_bytes: u64,
}

/// One message as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    pub order: Order,
    /// Of this delivery.
    pub qos: u8,
    pub retain: bool,
    /// PUBREC has come: only PUBREL is left to send.
    pub is_released: bool,
    pub identifiers: Vec<u32>,
    pub topic: String,
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
    /// Milliseconds since the Unix epoch.
    pub expires_at: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Of the request that it answers.
    pub session: SessionId,
    pub from: Order,
    pub messages: Vec<StoredMessage>,
    /// Nothing of what was safe at `as_of` follows.
    pub is_last: bool,
    pub as_of: Seq,
}

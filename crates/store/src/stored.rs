//! What a store hands back at start.
//!
//! Refuses to know how it is kept.

use crate::{Body, Order, SessionId, StoredWill};

/// One thing that survived. Sessions come first, then what hangs on them, then wills and retained messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored<'a> {
    Session {
        session: SessionId,
        client_id: &'a str,
        device: Option<&'a str>,
        expiry_s: u32,
        /// Milliseconds since the Unix epoch; `None` when it was connected to the last.
        disconnected_at: Option<u64>,
        /// Orders up to this may have reached the client; all of them when it was connected to the last.
        sent: Order,
    },
    Subscription {
        session: SessionId,
        filter: &'a str,
        options: u8,
        identifier: u32,
    },
    /// A subscription that is owed retained messages: those behind the topic `reached`, which is empty before the first.
    Owed {
        session: SessionId,
        filter: &'a str,
        options: u8,
        identifier: u32,
        reached: &'a str,
    },
    /// A QoS 2 packet identifier received and not yet released.
    Received {
        session: SessionId,
        packet_id: u16,
    },
    /// Messages that wait for a session; they are read by [`crate::Log::request_page`].
    Backlog {
        session: SessionId,
        first: Order,
        last: Order,
        count: u64,
        /// Topic names, properties and payloads.
        bytes: u64,
    },
    Will {
        session: SessionId,
        client_id: &'a str,
        will: StoredWill<'a>,
    },
    Retained(Body<'a>),
}

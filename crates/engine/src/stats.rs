//! Counters since start, plain numbers that only rise.

/// What the engine counted. Messages are PUBLISH packets; bytes are those of whole packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub connects: u64,
    pub connects_refused: u64,
    pub messages_received: u64,
    pub messages_sent: u64,
    pub bytes_received: u64,
    pub messages_dropped: u64,
    /// PUBLISH packets that were not acknowledged as kept, for want of room.
    pub messages_turned_away: u64,
    pub publishes_denied: u64,
    pub subscribes_denied: u64,
    pub keep_alive_timeouts: u64,
    pub takeovers: u64,
    pub protocol_faults: u64,
    pub wills_published: u64,
    pub sessions_expired: u64,
    pub connections_peak: u64,
}

/// What there is at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    pub connections: u64,
    pub sessions: u64,
    pub subscriptions: u64,
    pub retained_messages: u64,
    pub retained_bytes: u64,
    /// Held for all peers together, the messages included; see [`crate::Memory`].
    pub memory_bytes: u64,
    pub queued_messages: u64,
    pub inflight_messages: u64,
}

//! Budgets wherever a peer chooses the work, each with unit and reason.

/// What the engine allows its peers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one packet, fixed header included: bounds the buffer a peer can make us hold.
    pub max_packet_size: u32,
    /// QoS 1 and 2 messages a client may have unacknowledged towards us (receive maximum of our CONNACK).
    pub receive_maximum: u16,
    /// Topic aliases a client may define: each keeps one topic name per connection.
    pub topic_alias_maximum: u16,
    /// Seconds a session may outlive its connection.
    pub max_session_expiry_s: u32,
    /// Seconds of keep-alive a client may ask for; 0 leaves it to the client.
    pub max_keep_alive_s: u16,
    /// QoS 1 and 2 messages we keep unacknowledged towards one client, whatever its receive maximum.
    pub max_inflight: u16,
    /// Messages waiting in one session.
    pub max_queued_messages: u32,
    /// Bytes waiting in one session.
    pub max_queued_bytes: u64,
    /// Whether a message that a kept session has no room for is refused (0x97), so that nothing acknowledged is lost; else
    /// that session misses it.
    pub reject_when_full: bool,
    /// Bytes of QoS 1 and 2 messages in flight towards one client; one message may always be.
    pub max_inflight_bytes: u64,
    /// Bytes encoded and not yet taken by the network, per connection; beyond it QoS 0 is dropped, QoS 1 and 2 wait.
    pub max_outbox_bytes: u32,
    /// Subscriptions of one session.
    pub max_subscriptions: u32,
    /// Filters of one SUBSCRIBE: bounds what one packet makes the tree do.
    pub max_filters: u32,
    /// Bytes of a topic name or filter: each subscription, alias and retained message keeps one.
    pub max_topic_bytes: u32,
    /// Levels of a topic name or filter: bounds the depth of the subscription tree.
    pub max_topic_levels: u32,
    pub max_retained_messages: u32,
    pub max_retained_bytes: u64,
    /// User properties of one PUBLISH or will: they travel on to every receiver.
    pub max_user_properties: u32,
    /// Bytes of a will, topic name and properties included: it is held as long as the session.
    pub max_will_bytes: u32,
    /// Sessions, connected or not.
    pub max_sessions: u32,
    /// Sessions of one identity, connected or not.
    pub max_sessions_per_device: u32,
    /// Bytes held for all peers together; see [`crate::Memory`].
    pub max_memory_bytes: u64,
    /// Seconds between $SYS updates; 0 turns them off.
    pub sys_interval_s: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_packet_size: 1 << 20,
            receive_maximum: 1024,
            topic_alias_maximum: 64,
            max_session_expiry_s: 7 * 24 * 3600,
            max_keep_alive_s: 0,
            max_inflight: 1024,
            max_queued_messages: 10_000,
            max_queued_bytes: 64 << 20,
            reject_when_full: true,
            max_inflight_bytes: 16 << 20,
            max_outbox_bytes: 1 << 20,
            max_subscriptions: 1000,
            max_filters: 1000,
            max_topic_bytes: 4096,
            max_topic_levels: 32,
            max_retained_messages: 1_000_000,
            max_retained_bytes: 256 << 20,
            max_user_properties: 100,
            max_will_bytes: 64 << 10,
            max_sessions: 1_000_000,
            max_sessions_per_device: 1000,
            max_memory_bytes: 4 << 30,
            sys_interval_s: 10,
        }
    }
}

//! What can happen to durable state, one case for each thing that is remembered.
//!
//! Refuses to know why it happens. The bytes of a change are the same in memory, in a batch on its way to the disk and in
//! whatever carries changes between machines one day.

use crate::batch::Slot;
use alloc::borrow::Cow;

/// A session as the store knows it: given out once, never again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The place of a message among those for one session, rising; the packet identifier follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(pub u64);

/// A message without its receivers. Times are milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    pub topic: &'a str,
    /// MQTT 5 properties that travel on, as they stand on the wire, without their length.
    pub properties: &'a [u8],
    pub payload: &'a [u8],
    pub expires_at: Option<u64>,
    /// As published: 0, 1 or 2.
    pub qos: u8,
    pub retain: bool,
}

/// A will that waits for its connection to end badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredWill<'a> {
    pub body: Body<'a>,
    pub delay_s: u32,
    /// Seconds of life of the message, counted from its publication.
    pub expiry_s: Option<u32>,
}

/// What a delivery takes away at the same moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin<'a> {
    #[default]
    Nothing,
    /// A QoS 2 PUBLISH: the identifier counts as received from now on.
    Received { session: SessionId, packet_id: u16 },
    /// A will: it will not be sent again.
    Will { session: SessionId },
    /// A retained message that a subscription was owed: up to its topic it has been given them.
    Owed { session: SessionId, filter: &'a str },
}

/// One message for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    pub origin: Origin<'a>,
    pub body: Body<'a>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver<'a> {
    pub session: SessionId,
    pub order: Order,
    /// The lower of the message's and the subscription's.
    pub qos: u8,
    pub retain: bool,
    pub identifiers: Cow<'a, [u32]>,
    /// Where it stands in the open batch; filled in by [`crate::Log::deliver`].
    pub slot: Slot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A session begins.
    Begin {
        session: SessionId,
        client_id: &'a str,
        device: Option<&'a str>,
        expiry_s: u32,
    },
    /// Somebody connected to a session there is.
    Attach {
        session: SessionId,
        expiry_s: u32,
    },
    /// The connection is gone since `at`; orders up to `sent` may have reached the client.
    Detach {
        session: SessionId,
        at: u64,
        expiry_s: u32,
        sent: Order,
    },
    /// The session is over, with everything that hangs on it but its will.
    End {
        session: SessionId,
    },
    /// `options` is the byte of a SUBSCRIBE packet; `identifier` 0 is none.
    Subscribe {
        session: SessionId,
        filter: &'a str,
        options: u8,
        identifier: u32,
    },
    Unsubscribe {
        session: SessionId,
        filter: &'a str,
    },
    /// A subscription there is, new or renewed, is owed the retained messages that match: all of them, in topic order.
    Owe {
        session: SessionId,
        filter: &'a str,
    },
    /// It has been given them.
    Paid {
        session: SessionId,
        filter: &'a str,
    },
    /// PUBREC came: from now on only PUBREL is sent for `order`.
    Release {
        session: SessionId,
        order: Order,
    },
    /// PUBACK or PUBCOMP came, or the message is too old to be sent.
    Done {
        session: SessionId,
        order: Order,
    },
    /// PUBREL came: the packet identifier may be used again.
    Completed {
        session: SessionId,
        packet_id: u16,
    },
    /// `client_id` and `device` say whose it is when there is no session to ask.
    Will {
        session: SessionId,
        client_id: &'a str,
        will: StoredWill<'a>,
    },
    /// The will was withdrawn, or sent to nobody who needs it kept.
    WillGone {
        session: SessionId,
    },
    Retain {
        body: Body<'a>,
    },
    Unretain {
        topic: &'a str,
    },
}

/// What a batch holds, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    Change(Change<'a>),
    /// With the receivers that are still waiting for it.
    Delivery(Delivery<'a>, alloc::vec::Vec<Receiver<'a>>),
}

//! A message on its way through the broker: what stays the same for every receiver.
//!
//! Refuses to know who receives it.

use crate::memory::{Memory, Share};
use crate::time::Millis;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;
use sealmq_codec::{Properties, Property, PropertyBuf, QoS};
use sealmq_store::Body;

/// A message as it stands in somebody's buffer: the topic name, the properties that travel on (no alias, no expiry, no
/// subscription identifier), the payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content<'a> {
    pub topic: &'a str,
    pub properties: &'a [u8],
    pub payload: &'a [u8],
    /// When the message stops being worth delivering (section 3.3.2.3.3).
    pub expires_at: Option<Millis>,
    pub qos: QoS,
    pub retain: bool,
}

impl<'a> Content<'a> {
    /// Bytes of all of it.
    pub fn length(&self) -> usize {
        self.topic.len() + self.properties.len() + self.payload.len()
    }

    /// Bytes of a [`Message`] made of it, for the budgets.
    pub fn size(&self) -> u64 {
        (self.length() + core::mem::size_of::<Message>()) as u64
    }

    /// For the log.
    pub fn body(&self) -> Body<'a> {
        Body {
            topic: self.topic,
            properties: self.properties,
            payload: self.payload,
            expires_at: self.expires_at.map(|at| at.0),
            qos: self.qos as u8,
            retain: self.retain,
        }
    }

    pub fn is_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// A message that is kept: queued, in flight, retained, or a will.
#[derive(Debug)]
pub(crate) struct Message {
    /// Topic name, properties, payload, one after the other: one allocation a message.
    bytes: Vec<u8>,
    topic_end: u32,
    properties_end: u32,
    expires_at: Option<Millis>,
    qos: QoS,
    retain: bool,
    share: Share,
}

impl Message {
    pub fn new(content: &Content<'_>, memory: &Memory) -> Message {
        let mut message = Message {
            bytes: Vec::new(),
            topic_end: 0,
            properties_end: 0,
            expires_at: None,
            qos: QoS::AtMostOnce,
            retain: false,
            share: memory.share(0),
        };
        message.fill(content);
        message
    }

    /// Make an empty one the message of `content`.
    #[inline]
    pub fn fill(&mut self, content: &Content<'_>) {
        self.bytes.reserve_exact(content.length());
        self.bytes.extend_from_slice(content.topic.as_bytes());
        self.topic_end = self.bytes.len() as u32;
        // Mostly there are none, and a call for nothing is a call.
        if !content.properties.is_empty() {
            self.bytes.extend_from_slice(content.properties);
        }
        self.properties_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(content.payload);
        (self.expires_at, self.qos, self.retain) = (content.expires_at, content.qos, content.retain);
        self.share.set(content.size());
    }

    /// Nothing is left of it but its memory.
    #[inline]
    pub fn empty(&mut self) {
        self.bytes.clear();
        self.share.set(0);
    }

    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn content(&self) -> Content<'_> {
        let (head, payload) = self
            .bytes
            .split_at_checked(self.properties_end as usize)
            .unwrap_or_default();
        let (topic, properties) = head.split_at_checked(self.topic_end as usize).unwrap_or_default();
        Content {
            topic: core::str::from_utf8(topic).unwrap_or_default(),
            properties,
            payload,
            expires_at: self.expires_at,
            qos: self.qos,
            retain: self.retain,
        }
    }

    /// Bytes this message holds, for the budgets.
    pub fn size(&self) -> u64 {
        self.share.bytes()
    }

    #[inline]
    pub fn is_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    pub fn set_expiry(&mut self, expires_at: Option<Millis>) {
        self.expires_at = expires_at;
    }
}

/// A message on its way to one session: whoever is alone has it for himself, and nobody counts.
#[derive(Debug)]
pub(crate) enum Held {
    Alone(Box<Message>),
    Shared(Arc<Message>),
}

impl Deref for Held {
    type Target = Message;

    #[inline]
    fn deref(&self) -> &Message {
        match self {
            Held::Alone(message) => message,
            Held::Shared(message) => message,
        }
    }
}

/// What the properties of a received PUBLISH or will say, sorted by who needs them.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub topic_alias: Option<u16>,
    pub message_expiry: Option<u32>,
    /// `None`: the property is not there.
    pub will_delay: Option<u32>,
    pub user_properties: u32,
    pub is_utf8: bool,
    pub has_subscription_identifier: bool,
    /// `None`: the received block may travel on as it is.
    pub rebuilt: Option<PropertyBuf>,
}

impl Received {
    /// Sort `properties`; the block is rebuilt only when something in it must not travel on.
    pub fn sort(properties: Properties<'_>) -> Received {
        let mut received = Received::default();
        if properties.is_empty() {
            return received;
        }
        for property in properties.iter() {
            match property {
                Property::TopicAlias(alias) => received.topic_alias = Some(alias),
                Property::MessageExpiry(seconds) => received.message_expiry = Some(seconds),
                Property::WillDelay(seconds) => received.will_delay = Some(seconds),
                Property::PayloadFormat(format) => received.is_utf8 = format == 1,
                Property::SubscriptionIdentifier(_) => received.has_subscription_identifier = true,
                Property::UserProperty(..) => received.user_properties += 1,
                _ => {}
            }
        }
        if received.topic_alias.is_some() || received.message_expiry.is_some() || received.will_delay.is_some() {
            let mut rebuilt = PropertyBuf::new();
            for property in properties.iter() {
                let stays = matches!(
                    property,
                    Property::TopicAlias(_) | Property::MessageExpiry(_) | Property::WillDelay(_)
                );
                if !stays {
                    rebuilt.push(property);
                }
            }
            received.rebuilt = Some(rebuilt);
        }
        received
    }

    /// The properties that travel on [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18],
    /// [MQTT-3.3.2-20].
    pub fn travelling<'a>(&'a self, original: Properties<'a>) -> &'a [u8] {
        match &self.rebuilt {
            Some(rebuilt) => rebuilt.as_properties().raw(),
            None => original.raw(),
        }
    }
}

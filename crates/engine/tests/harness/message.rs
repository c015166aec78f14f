//! A PUBLISH being put together by a scenario.
//!
//! Refuses to know who sends it.

use sealmq_codec::{Packet, Property, PropertyBuf, Publish, QoS};

/// What a client publishes; QoS 0, not retained, unless said otherwise.
#[derive(Clone)]
pub struct Message {
    topic: String,
    payload: Vec<u8>,
    pub(crate) qos: QoS,
    retain: bool,
    dup: bool,
    pub(crate) id: Option<u16>,
    properties: PropertyBuf,
}

pub fn message(topic: &str, payload: impl AsRef<[u8]>) -> Message {
    Message {
        topic: topic.into(),
        payload: payload.as_ref().to_vec(),
        qos: QoS::AtMostOnce,
        retain: false,
        dup: false,
        id: None,
        properties: PropertyBuf::new(),
    }
}

impl Message {
    pub fn qos(mut self, level: u8) -> Message {
        self.qos = QoS::from_bits(level).expect("a QoS");
        self
    }

    pub fn retain(mut self) -> Message {
        self.retain = true;
        self
    }

    pub fn dup(mut self) -> Message {
        self.dup = true;
        self
    }

    /// The packet identifier, instead of the client's next one.
    pub fn id(mut self, id: u16) -> Message {
        self.id = Some(id);
        self
    }

    pub fn expiry(self, seconds: u32) -> Message {
        self.property(Property::MessageExpiry(seconds))
    }

    pub fn alias(self, alias: u16) -> Message {
        self.property(Property::TopicAlias(alias))
    }

    pub fn property(mut self, property: Property<'_>) -> Message {
        self.properties.push(property);
        self
    }

    pub(crate) fn packet(&self) -> Packet<'_> {
        Packet::Publish(Publish {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            packet_id: self.id.unwrap_or(0),
            properties: self.properties.as_properties(),
            payload: &self.payload,
        })
    }
}

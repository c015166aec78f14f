//! A CONNECT being put together by a scenario.
//!
//! Refuses to know what the broker makes of it.

use crate::harness::{Bench, Client, Line, key};
use sealmq_codec::{Connect, Framed, Packet, Property, PropertyBuf, QoS, Version, Will, frame};
use sealmq_engine::{ClientIds, Peer, Refusal};
use std::collections::VecDeque;

struct WillSpec {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    properties: PropertyBuf,
}

pub struct Dial {
    bench: Bench,
    version: Version,
    client_id: String,
    clean: bool,
    keep_alive: u16,
    max_packet: u32,
    properties: PropertyBuf,
    will: Option<WillSpec>,
    peer: Peer,
}

/// What every refusal is: nothing, or one CONNACK with a code listed for it and no session.
fn check(refusal: &Refusal, version: Version) {
    if refusal.bytes.is_empty() {
        return;
    }
    let Ok(Framed::Whole(whole)) = frame(&refusal.bytes, u32::MAX) else {
        panic!("{refusal:?} is no packet");
    };
    let Ok(Packet::Connack(connack)) = Packet::decode(version, whole) else {
        panic!("{refusal:?} is no CONNACK");
    };
    // [MQTT-3.2.2-6]; [MQTT-3.2.2-4] of 3.1.1
    assert!(!connack.session_present && whole.size == refusal.bytes.len());
    // [MQTT-3.2.2-8]
    assert!(match version {
        Version::V311 => matches!(connack.code, 1..=5),
        Version::V5 => matches!(connack.code, 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F),
    });
}

impl Dial {
    pub(super) fn new(bench: Bench, client_id: &str) -> Dial {
        let device = client_id.split(':').next().unwrap_or_default();
        Dial {
            bench,
            version: Version::V5,
            client_id: client_id.into(),
            clean: true,
            keep_alive: 0,
            max_packet: u32::MAX,
            properties: PropertyBuf::new(),
            will: None,
            peer: Peer {
                device: Some(device.into()),
                client_ids: ClientIds::OwnOnly,
            },
        }
    }

    pub fn v5(mut self) -> Dial {
        self.version = Version::V5;
        self
    }

    pub fn v311(mut self) -> Dial {
        self.version = Version::V311;
        self
    }

    pub fn clean(mut self, clean: bool) -> Dial {
        self.clean = clean;
        self
    }

    /// Clean start off; in 5.0 the session lasts `seconds` beyond the connection.
    pub fn resume(self, seconds: u32) -> Dial {
        self.clean(false).expiry(seconds)
    }

    pub fn expiry(self, seconds: u32) -> Dial {
        match self.version {
            Version::V311 => self,
            Version::V5 => self.property(Property::SessionExpiry(seconds)),
        }
    }

    pub fn keep_alive(mut self, seconds: u16) -> Dial {
        self.keep_alive = seconds;
        self
    }

    pub fn receive_maximum(self, count: u16) -> Dial {
        self.property(Property::ReceiveMaximum(count))
    }

    pub fn alias_maximum(self, count: u16) -> Dial {
        self.property(Property::TopicAliasMaximum(count))
    }

    pub fn max_packet(mut self, size: u32) -> Dial {
        self.max_packet = size;
        self.property(Property::MaximumPacketSize(size))
    }

    pub fn property(mut self, property: Property<'_>) -> Dial {
        self.properties.push(property);
        self
    }

    pub fn will(mut self, topic: &str, payload: &str) -> Dial {
        self.will = Some(WillSpec {
            topic: topic.into(),
            payload: payload.into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: PropertyBuf::new(),
        });
        self
    }

    pub fn will_retained(mut self) -> Dial {
        self.will.as_mut().expect("a will").retain = true;
        self
    }

    pub fn will_property(mut self, property: Property<'_>) -> Dial {
        self.will.as_mut().expect("a will").properties.push(property);
        self
    }

    pub fn will_delay(self, seconds: u32) -> Dial {
        self.will_property(Property::WillDelay(seconds))
    }

    /// The certificate is that of another device.
    pub fn device(mut self, device: Option<&str>) -> Dial {
        self.peer.device = device.map(Into::into);
        self
    }

    pub fn any_client_id(mut self) -> Dial {
        self.peer.client_ids = ClientIds::Any;
        self
    }

    /// Connect; the CONNACK waits in the client's inbox.
    pub fn dial(self) -> Result<Client, Refusal> {
        let connect = Connect {
            version: self.version,
            clean_start: self.clean,
            keep_alive: self.keep_alive,
            properties: self.properties.as_properties(),
            client_id: &self.client_id,
            will: self.will.as_ref().map(|will| Will {
                qos: will.qos,
                retain: will.retain,
                properties: will.properties.as_properties(),
                topic: &will.topic,
                payload: &will.payload,
            }),
            username: None,
            password: None,
        };
        // The way of a real one: through its bytes.
        let mut bytes = Vec::new();
        Packet::Connect(connect).encode(self.version, &mut bytes);
        let Ok(Framed::Whole(whole)) = frame(&bytes, u32::MAX) else {
            panic!("a CONNECT frames");
        };
        let connect = Connect::decode(whole.body).expect("a CONNECT decodes");
        let id = {
            let mut world = self.bench.world.borrow_mut();
            let now = world.now;
            let result = world.engine.handle_connect(now, &connect, &self.peer);
            if let Ok(id) = result {
                let line = Line {
                    version: self.version,
                    max_packet: self.max_packet as usize,
                    inbox: VecDeque::new(),
                    is_closed: false,
                    is_stalled: false,
                };
                world.lines.insert(key(id), line);
            }
            world.settle();
            if let Err(refusal) = &result {
                check(refusal, self.version);
            }
            result?
        };
        Ok(Client::new(self.bench, id, self.version))
    }

    /// Connect, expecting that the CONNACK is held back.
    pub fn wait(self) -> Client {
        let client = self.dial().expect("a CONNECT that is accepted");
        client.silent();
        client
    }

    /// Connect, expecting success; the CONNACK stays in [`Client::connack`].
    pub fn go(self) -> Client {
        let mut client = self.dial().expect("a CONNECT that is accepted");
        match client.next() {
            Packet::Connack(connack) => client.connack = connack,
            other => panic!("{other:?} before CONNACK"),
        }
        assert_eq!(client.connack.code, 0);
        client
    }
}

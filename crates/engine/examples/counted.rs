//! Fixed work for codec and engine, to be counted in instructions: `counted SCENARIO TIMES`.
//!
//! The same bytes, times and seeds in every run, so that two runs differ by what was changed in the code. `bench.counts`
//! runs each scenario under callgrind for two numbers of times and takes the difference. Refuses to measure anything itself.

use sealmq_codec::{
    Ack, Connect, FilterBuf, Framed, Packet, PacketKind, Properties, Publish, QoS, Subscribe, SubscribeOptions,
    Version, frame, write_short_ack,
};
use sealmq_engine::rules::{Effect, Rule, Rules};
use sealmq_engine::{ClientIds, Config, ConnId, Durability, Engine, Limits, Millis, Peer};
use sealmq_store::MemoryLog;
use std::error::Error;
use std::hint::black_box;

type Outcome<T> = Result<T, Box<dyn Error>>;

const V: Version = Version::V5;
const TOPIC: &str = "devices/sensor-1/temperature";
const NOW: Millis = Millis(1_000_000);
/// Messages of a burst.
const BURST: u16 = 100;

struct World {
    engine: Engine,
    said: Vec<u8>,
    heard: Vec<u8>,
}

fn publish(qos: QoS, packet_id: u16) -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: TOPIC,
        packet_id,
        properties: Properties::EMPTY,
        payload: &[b'x'; 64],
    })
}

fn ack(packet_id: u16) -> Ack<'static> {
    Ack {
        packet_id,
        reason: 0,
        properties: Properties::EMPTY,
    }
}

/// A device's own topics, and one rule before them that does not match.
fn rules() -> Outcome<Rules> {
    let rule = |name: &str, effect, filter: &str| Rule {
        name: name.into(),
        effect,
        who: "*".into(),
        publish: true,
        subscribe: true,
        filter: filter.into(),
    };
    let list = vec![
        rule("no", Effect::Deny, "private/#"),
        rule("own", Effect::Allow, "devices/#"),
    ];
    Rules::new(list).map_err(|fault| format!("rules are wrong: {fault:?}").into())
}

impl World {
    fn new() -> Outcome<World> {
        let config = Config {
            limits: Limits {
                sys_interval_s: 0,
                ..Limits::default()
            },
            rules: rules()?,
            durability: Durability::default(),
            seed: 7,
            version: "counted".into(),
        };
        let mut engine = Engine::new(config, Box::new(MemoryLog));
        engine.handle_tick(NOW);
        Ok(World {
            engine,
            said: Vec::new(),
            heard: Vec::new(),
        })
    }

    fn connect(&mut self, name: &str) -> Outcome<ConnId> {
        let connect = Connect {
            version: V,
            clean_start: true,
            keep_alive: 60,
            properties: Properties::EMPTY,
            client_id: name,
            will: None,
            username: None,
            password: None,
        };
        let peer = Peer {
            device: Some(name.into()),
            client_ids: ClientIds::OwnOnly,
        };
        let id = self.engine.handle_connect(NOW, &connect, &peer);
        let id = id.map_err(|refusal| format!("{name} was refused: {}", refusal.summary))?;
        self.settle(id);
        Ok(id)
    }

    fn subscriber(&mut self, name: &str, filter: &str, qos: QoS) -> Outcome<ConnId> {
        let id = self.connect(name)?;
        let mut filters = FilterBuf::new();
        filters.push(V, filter, SubscribeOptions::plain(qos));
        let packet = Packet::Subscribe(Subscribe {
            packet_id: 1,
            properties: Properties::EMPTY,
            filters: filters.as_filters(V),
        });
        self.say(id, &packet, id);
        Ok(id)
    }

    /// What the shard does in a turn; what `of` is told is in `heard`.
    fn settle(&mut self, of: ConnId) {
        self.heard.clear();
        while let Some(id) = self.engine.poll_dirty() {
            let Some(out) = self.engine.output(id) else { continue };
            if id == of {
                self.heard.extend_from_slice(out);
            }
            out.clear();
            if self.engine.is_closing(id) {
                self.engine.release(id);
            } else {
                self.engine.handle_taken(NOW, id);
            }
        }
        while self.engine.poll_event().is_some() {}
    }

    fn say(&mut self, from: ConnId, packet: &Packet<'_>, of: ConnId) {
        self.said.clear();
        packet.encode(V, &mut self.said);
        self.engine.handle_bytes(NOW, from, &self.said);
        self.settle(of);
    }

    fn acknowledge(&mut self, from: ConnId, kind: PacketKind, ids: impl Iterator<Item = u16>) {
        let mut said = std::mem::take(&mut self.said);
        said.clear();
        ids.for_each(|id| write_short_ack(kind, id, &mut said));
        self.hand_in(from, &said);
        self.said = said;
    }

    fn hand_in(&mut self, from: ConnId, bytes: &[u8]) {
        self.engine.handle_bytes(NOW, from, bytes);
        self.settle(from);
    }

    /// The identifier of the one packet that was heard last.
    fn heard_id(&self) -> Outcome<u16> {
        let Framed::Whole(whole) = frame(&self.heard, u32::MAX)? else {
            return Err("nothing was heard".into());
        };
        match Packet::decode(V, whole)? {
            Packet::Publish(publish) => Ok(publish.packet_id),
            Packet::Pubrel(ack) => Ok(ack.packet_id),
            other => Err(format!("{other:?} was heard").into()),
        }
    }
}

/// One message from one publisher to one subscriber among others, acknowledged on both sides.
fn route(qos: QoS, times: usize) -> Outcome<()> {
    let mut world = World::new()?;
    for number in 0..100 {
        world.subscriber(&format!("other-{number}"), &format!("devices/other-{number}/#"), qos)?;
    }
    let subscriber = world.subscriber("reader", "devices/sensor-1/#", qos)?;
    let publisher = world.connect("sensor-1")?;
    for time in 0..times {
        let packet_id = if qos == QoS::AtMostOnce {
            0
        } else {
            (time % 1000) as u16 + 1
        };
        world.say(publisher, &publish(qos, packet_id), subscriber);
        match qos {
            QoS::AtMostOnce => assert!(!world.heard.is_empty(), "a message is delivered"),
            QoS::AtLeastOnce => {
                let heard = ack(world.heard_id()?);
                world.say(subscriber, &Packet::Puback(heard), subscriber);
            }
            QoS::ExactlyOnce => {
                let heard = ack(world.heard_id()?);
                world.say(publisher, &Packet::Pubrel(ack(packet_id)), publisher);
                world.say(subscriber, &Packet::Pubrec(heard), subscriber);
                let heard = ack(world.heard_id()?);
                world.say(subscriber, &Packet::Pubcomp(heard), subscriber);
            }
        }
    }
    Ok(())
}

/// A hundred messages in one read, as a busy gateway sends them, and all that is answered in one read as well.
fn burst(qos: QoS, times: usize) -> Outcome<()> {
    let mut world = World::new()?;
    let subscriber = world.subscriber("reader", "devices/sensor-1/#", qos)?;
    let publisher = world.connect("sensor-1")?;
    let ids = 1..=BURST;
    let mut messages = Vec::new();
    for packet_id in ids.clone() {
        publish(qos, if qos == QoS::AtMostOnce { 0 } else { packet_id }).encode(V, &mut messages);
    }
    let mut next = 0;
    for _ in 0..times {
        world.hand_in(publisher, &messages);
        // Identifiers of the broker rise with its messages.
        let heard = (next..).take(ids.len()).map(|order| (order % 65_535) as u16 + 1);
        next += ids.len();
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => world.acknowledge(subscriber, PacketKind::Puback, heard),
            QoS::ExactlyOnce => {
                world.acknowledge(publisher, PacketKind::Pubrel, ids.clone());
                world.acknowledge(subscriber, PacketKind::Pubrec, heard.clone());
                world.acknowledge(subscriber, PacketKind::Pubcomp, heard);
            }
        }
    }
    let (counters, gauges) = (world.engine.counters(), world.engine.gauges());
    assert_eq!(counters.messages_sent, next as u64, "each message is delivered");
    assert_eq!(gauges.inflight_messages, 0, "each delivery is over");
    Ok(())
}

fn fan_out(times: usize) -> Outcome<()> {
    let mut world = World::new()?;
    let mut last = None;
    for number in 0..100 {
        last = Some(world.subscriber(&format!("reader-{number}"), "devices/+/temperature", QoS::AtMostOnce)?);
    }
    let publisher = world.connect("sensor-1")?;
    for _ in 0..times {
        world.say(publisher, &publish(QoS::AtMostOnce, 0), last.unwrap_or(publisher));
        assert!(!world.heard.is_empty(), "a message is delivered");
    }
    Ok(())
}

fn connect(times: usize) -> Outcome<()> {
    let mut world = World::new()?;
    for _ in 0..times {
        let id = world.connect("sensor-1")?;
        world.engine.handle_closed(NOW, id, "over");
        world.settle(id);
    }
    Ok(())
}

fn decode(times: usize) -> Outcome<()> {
    let mut bytes = Vec::new();
    publish(QoS::AtLeastOnce, 7).encode(V, &mut bytes);
    for _ in 0..times {
        let Framed::Whole(whole) = frame(black_box(&bytes), u32::MAX)? else {
            return Err("a packet is cut".into());
        };
        black_box(Packet::decode(V, whole)?);
    }
    Ok(())
}

fn encode(times: usize) -> Outcome<()> {
    let mut out = Vec::with_capacity(256);
    for _ in 0..times {
        out.clear();
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: black_box(TOPIC),
            packet_id: 7,
            properties: Properties::EMPTY,
            payload: black_box(&[b'x'; 64]),
        };
        Packet::Publish(publish).encode(V, &mut out);
        black_box(&out);
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [scenario, times] = words.as_slice() else {
        return Err("usage: counted SCENARIO TIMES".into());
    };
    let times = times.parse()?;
    match scenario.as_str() {
        "decode-publish" => decode(times),
        "encode-publish" => encode(times),
        "connect" => connect(times),
        "route-qos0" => route(QoS::AtMostOnce, times),
        "route-qos1" => route(QoS::AtLeastOnce, times),
        "route-qos2" => route(QoS::ExactlyOnce, times),
        "burst-qos0" => burst(QoS::AtMostOnce, times),
        "burst-qos1" => burst(QoS::AtLeastOnce, times),
        "burst-qos2" => burst(QoS::ExactlyOnce, times),
        "fan-out-100" => fan_out(times),
        other => Err(format!("scenario {other} is not known").into()),
    }
}

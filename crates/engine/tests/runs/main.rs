//! Packets in one read and the same packets one by one: two brokers must not differ in anything that anybody sees.
//!
//! Refuses to know what is right; that is for the scenarios. Everything here is about runs of packets that the engine carries
//! out together, and about what cuts them: another topic, QoS or identifier, a reason code, a subscription that changes, a
//! window, a quota, a turn or an outbox that is used up.
//!
//! `SEALMQ_RUN_SEED=7 cargo test -p sealmq-engine --test runs` tells one story; `SEALMQ_RUN_SEEDS=10000` tells many.

#[path = "sim/dice.rs"]
mod dice;
mod harness;

const KEPT: bool = false;

use dice::Dice;
use harness::{HandLog, filter, rule};
use sealmq_codec::{
    Ack, Connect, FilterBuf, Framed, Packet, Properties, Property, PropertyBuf, Publish, QoS, Subscribe, Unsubscribe,
    Version, frame, write_string,
};
use sealmq_engine::rules::{Effect, Rules};
use sealmq_engine::{ClientIds, Config, ConnId, Durability, Engine, Limits, Millis, Peer};
use sealmq_store::{Log, MemoryLog};
use std::collections::VecDeque;

const TOPICS: [&str; 4] = ["a/b", "a/c", "b", "forbidden"];
const FILTERS: [&str; 6] = ["a/b", "a/#", "+/b", "b", "$share/g/a/c", "#"];

/// One of the two brokers.
struct Twin {
    engine: Engine,
    log: Option<HandLog>,
    events: Vec<String>,
}

/// An acknowledgement but for its fields.
type Kind = fn(Ack<'static>) -> Packet<'static>;

/// One client, the same at both.
struct Client {
    name: String,
    version: Version,
    connect: PropertyBuf,
    expiry_s: u32,
    id: ConnId,
    /// The identifier of its next message.
    next: u16,
    /// Packet type to answer with, and identifier.
    owed: VecDeque<(Kind, u16)>,
}

struct Story {
    dice: Dice,
    twins: [Twin; 2],
    clients: Vec<Client>,
    now: Millis,
}

fn rules() -> Rules {
    let list = vec![rule("no", Effect::Deny, "forbidden"), rule("rest", Effect::Allow, "#")];
    Rules::new(list).expect("rules")
}

impl Twin {
    fn new(limits: &Limits, is_kept: bool) -> Twin {
        let log = is_kept.then(HandLog::default);
        let end: Box<dyn Log> = match &log {
            Some(log) => Box::new(log.clone()),
            None => Box::new(MemoryLog),
        };
        let config = Config {
            limits: limits.clone(),
            rules: rules(),
            durability: Durability::default(),
            seed: 1,
            version: String::new(),
        };
        let mut engine = Engine::new(config, end);
        engine.handle_tick(Millis(0));
        Twin {
            engine,
            log,
            events: Vec::new(),
        }
    }

    /// All that anybody can see of it.
    fn view(&mut self, ids: &[ConnId]) -> (Vec<Vec<u8>>, Vec<bool>, String) {
        let known = self.events.len();
        while let Some(event) = self.engine.poll_event() {
            self.events.push(format!("{event:?}"));
        }
        // A run is carried out for one receiver after the other.
        self.events[known..].sort();
        let outputs = ids
            .iter()
            .map(|&id| self.engine.output(id).cloned().unwrap_or_default());
        let outputs = outputs.collect();
        let over = ids.iter().map(|&id| self.engine.is_closing(id)).collect();
        let engine = &self.engine;
        let (counters, gauges, sessions) = (engine.counters(), engine.gauges(), engine.sessions());
        let appended = self.log.as_ref().map(HandLog::appended);
        let work = engine.work();
        let text = format!(
            "{counters:?} {gauges:?} {sessions:?} {appended:?} {work} {:?}",
            self.events
        );
        (outputs, over, text)
    }
}

fn ack(packet_id: u16, reason: u8) -> Ack<'static> {
    Ack {
        packet_id,
        reason,
        properties: Properties::EMPTY,
    }
}

impl Story {
    fn new(seed: u64) -> Story {
        let mut dice = Dice::new(seed);
        let limits = Limits {
            max_packet_size: dice.pick(&[200, 1 << 20]),
            receive_maximum: dice.pick(&[4, 20, 1024]),
            max_inflight: dice.pick(&[1, 7, 30, 1024]),
            max_queued_messages: dice.pick(&[5, 10_000]),
            reject_when_full: dice.chance(50),
            max_inflight_bytes: dice.pick(&[3_000, 16 << 20]),
            max_outbox_bytes: dice.pick(&[60, 600, 1 << 20, 1 << 20]),
            max_topic_levels: dice.pick(&[1, 32, 32, 32]),
            topic_alias_maximum: 4,
            sys_interval_s: 0,
            ..Limits::default()
        };
        let is_kept = dice.chance(40);
        let mut story = Story {
            twins: [Twin::new(&limits, is_kept), Twin::new(&limits, is_kept)],
            clients: Vec::new(),
            now: Millis(1_000_000),
            dice,
        };
        for number in 0..2 + story.dice.below(3) {
            story.appear(number);
        }
        story
    }

    fn appear(&mut self, number: usize) {
        let mut connect = PropertyBuf::new();
        let expiry_s = if self.dice.chance(40) { 1000 } else { 0 };
        let version = self.dice.pick(&[Version::V311, Version::V5]);
        if version == Version::V5 {
            connect.push(Property::SessionExpiry(expiry_s));
            if self.dice.chance(30) {
                connect.push(Property::ReceiveMaximum(self.dice.pick(&[1, 3, 10, 50])));
            }
            if self.dice.chance(20) {
                connect.push(Property::TopicAliasMaximum(1));
            }
            if self.dice.chance(20) {
                connect.push(Property::MaximumPacketSize(self.dice.pick(&[30, 80])));
            }
        }
        self.clients.push(Client {
            name: format!("c{number}"),
            version,
            connect,
            expiry_s,
            id: ConnId {
                index: u32::MAX,
                generation: 0,
            },
            next: 1,
            owed: VecDeque::new(),
        });
        self.connect(number);
        for _ in 0..self.dice.below(3) {
            let packet = self.subscription(number);
            self.send(number, &[packet]);
        }
    }

    fn connect(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let connect = Connect {
            version: client.version,
            clean_start: client.expiry_s == 0,
            keep_alive: 0,
            properties: client.connect.as_properties(),
            client_id: &client.name,
            will: None,
            username: None,
            password: None,
        };
        let peer = Peer {
            device: Some(client.name.as_str().into()),
            client_ids: ClientIds::Any,
        };
        let ids = self
            .twins
            .each_mut()
            .map(|twin| twin.engine.handle_connect(self.now, &connect, &peer).expect("a place"));
        assert_eq!(ids[0], ids[1]);
        client.id = ids[0];
        client.owed.clear();
    }

    fn subscription(&mut self, number: usize) -> Vec<u8> {
        let (version, mut out) = (self.clients[number].version, Vec::new());
        let text = self.dice.pick(&FILTERS);
        if self.dice.chance(25) {
            let mut raw = Vec::new();
            write_string(text, &mut raw);
            Packet::Unsubscribe(Unsubscribe::new(7, Properties::EMPTY, &raw)).encode(version, &mut out);
            return out;
        }
        let (mut properties, mut filters) = (PropertyBuf::new(), FilterBuf::new());
        if version == Version::V5 && self.dice.chance(10) {
            properties.push(Property::SubscriptionIdentifier(9));
        }
        let mut one = filter(text, self.dice.below(3) as u8);
        if version == Version::V5 {
            one.options.no_local = !text.starts_with('$') && self.dice.chance(50);
        }
        filters.push(version, text, one.options);
        let packet = Subscribe {
            packet_id: 7,
            properties: properties.as_properties(),
            filters: filters.as_filters(version),
        };
        Packet::Subscribe(packet).encode(version, &mut out);
        out
    }

    /// What one client says in one breath, packet by packet.
    fn breath(&mut self, number: usize) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for _ in 0..1 + self.dice.below(4) {
            match self.dice.below(10) {
                0..=4 => self.messages(number, &mut packets),
                5..=7 => self.answers(number, &mut packets),
                8 => packets.push(vec![0xC0, 0]),
                _ if self.dice.chance(40) => packets.push(self.subscription(number)),
                _ => {}
            }
        }
        packets
    }

    fn messages(&mut self, number: usize, packets: &mut Vec<Vec<u8>>) {
        let (topic, qos) = (self.dice.pick(&TOPICS[..3]), self.dice.below(3) as u8);
        let long = [b'x'; 300];
        for _ in 0..1 + self.dice.below(16) {
            let client = &mut self.clients[number];
            let is_odd = self.dice.chance(5);
            let odd = if is_odd { self.dice.below(8) } else { usize::MAX };
            let mut properties = PropertyBuf::new();
            if odd == 0 && client.version == Version::V5 {
                properties.push(self.dice.pick(&[
                    Property::UserProperty("k", "v"),
                    Property::TopicAlias(1),
                    Property::MessageExpiry(5),
                ]));
            }
            let qos = QoS::from_bits(if odd == 1 { self.dice.below(3) as u8 } else { qos }).expect("a QoS");
            let packet_id = if qos == QoS::AtMostOnce { 0 } else { client.next };
            // The same identifier again is another message at QoS 1, and the same one at QoS 2.
            if odd != 2 {
                client.next = client.next % 3000 + 1;
            }
            let publish = Publish {
                dup: odd == 3 && qos != QoS::AtMostOnce,
                qos,
                retain: odd == 4,
                topic: if odd == 5 { self.dice.pick(&TOPICS) } else { topic },
                packet_id,
                properties: properties.as_properties(),
                payload: &long[..if odd == 6 { 300 } else { self.dice.below(30) }],
            };
            let mut out = Vec::new();
            Packet::Publish(publish).encode(client.version, &mut out);
            if odd == 7 && self.dice.chance(10) {
                out[0] |= 0x06; // QoS 3
            }
            packets.push(out);
        }
    }

    fn answers(&mut self, number: usize, packets: &mut Vec<Vec<u8>>) {
        for _ in 0..1 + self.dice.below(20) {
            let client = &mut self.clients[number];
            let Some((mut kind, mut id)) = client.owed.pop_front() else {
                return;
            };
            let is_odd = self.dice.chance(6);
            let odd = if is_odd { self.dice.below(6) } else { usize::MAX };
            let mut reason = 0;
            match odd {
                0 => {
                    id = client
                        .owed
                        .get(self.dice.below(8))
                        .map_or(id % 60 + 1, |&(_, other)| other)
                }
                1 => {
                    kind = self
                        .dice
                        .pick(&[Packet::Puback, Packet::Pubrec, Packet::Pubrel, Packet::Pubcomp])
                }
                2 => client.owed.push_back((kind, id)),
                3 if client.version == Version::V5 => {
                    let is_late = matches!(kind(ack(1, 0)), Packet::Pubrel(_) | Packet::Pubcomp(_));
                    reason = if is_late { 0x92 } else { self.dice.pick(&[0x10, 0x80]) };
                }
                4 => client.owed.rotate_left(client.owed.len().min(1)),
                5 => client.owed.push_front((kind, id)),
                _ => {}
            }
            let mut out = Vec::new();
            kind(ack(id, reason)).encode(client.version, &mut out);
            packets.push(out);
        }
    }

    /// To the first broker packet by packet, to the second all at once, in turns.
    fn send(&mut self, number: usize, packets: &[Vec<u8>]) {
        let id = self.clients[number].id;
        let [single, whole] = &mut self.twins;
        for packet in packets {
            single.engine.handle_bytes(self.now, id, packet);
        }
        let all = packets.concat();
        let mut rest = &all[..];
        while !rest.is_empty() {
            whole.engine.set_turn(self.dice.pick(&[1, 3, 10, 50, 4000]));
            let intake = whole.engine.handle_bytes(self.now, id, rest);
            rest = &rest[intake.consumed..];
        }
        self.compare();
    }

    fn compare(&mut self) {
        let ids: Vec<ConnId> = self.clients.iter().map(|client| client.id).collect();
        let [single, whole] = self.twins.each_mut().map(|twin| twin.view(&ids));
        assert_eq!(single.0, whole.0, "outputs");
        assert_eq!(single.1, whole.1, "who is over");
        assert_eq!(single.2, whole.2, "books");
    }

    /// A client reads everything.
    fn read(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let mut heard = Vec::new();
        for twin in &mut self.twins {
            heard = twin.engine.output(client.id).map(std::mem::take).unwrap_or_default();
            twin.engine.handle_taken(self.now, client.id);
        }
        let mut rest = &heard[..];
        while let Ok(Framed::Whole(whole)) = frame(rest, u32::MAX) {
            rest = &rest[whole.size..];
            match Packet::decode(client.version, whole).expect("a packet") {
                Packet::Publish(publish) if publish.qos == QoS::AtLeastOnce => {
                    client.owed.push_back((Packet::Puback, publish.packet_id));
                }
                Packet::Publish(publish) if publish.qos == QoS::ExactlyOnce => {
                    client.owed.push_back((Packet::Pubrec, publish.packet_id));
                }
                Packet::Pubrec(ack) if ack.reason < 0x80 => client.owed.push_back((Packet::Pubrel, ack.packet_id)),
                Packet::Pubrel(ack) => client.owed.push_back((Packet::Pubcomp, ack.packet_id)),
                _ => {}
            }
        }
        // Mostly in runs.
        if self.dice.chance(80) {
            client
                .owed
                .make_contiguous()
                .sort_by_key(|(kind, _)| kind(ack(1, 0)).kind() as u8);
        }
        self.compare();
    }

    fn step(&mut self) {
        let number = self.dice.below(self.clients.len());
        match self.dice.below(20) {
            0..=9 => {
                let packets = self.breath(number);
                self.send(number, &packets);
            }
            10..=15 => self.read(number),
            16 => {
                for twin in &mut self.twins {
                    if let Some(log) = &twin.log {
                        log.sync();
                        log.read_pages();
                    }
                    twin.engine.handle_log_advanced(self.now);
                }
                self.compare();
            }
            17 => {
                self.now = self.now + 1000;
                self.twins.iter_mut().for_each(|twin| twin.engine.handle_tick(self.now));
                self.compare();
            }
            18 if self.dice.chance(30) => {
                let id = self.clients[number].id;
                for twin in &mut self.twins {
                    twin.engine.handle_closed(self.now, id, "gone");
                    twin.engine.release(id);
                }
                self.connect(number);
                self.compare();
            }
            _ if self.twins[0].engine.is_closing(self.clients[number].id) => {
                let id = self.clients[number].id;
                self.twins.iter_mut().for_each(|twin| twin.engine.release(id));
                self.connect(number);
            }
            _ => {}
        }
    }
}

fn tell(seed: u64) {
    let mut story = Story::new(seed);
    for _ in 0..60 {
        story.step();
    }
}

#[test]
fn packets_in_one_read_are_what_they_are_one_by_one() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("SEALMQ_RUN_SEED") {
        return tell(seed);
    }
    for seed in 0..number("SEALMQ_RUN_SEEDS").unwrap_or(1000) {
        if let Err(cause) = std::panic::catch_unwind(|| tell(seed)) {
            eprintln!("SEALMQ_RUN_SEED={seed}");
            std::panic::resume_unwind(cause);
        }
    }
}

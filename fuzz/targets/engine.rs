//! Whatever clients, operators, the clock and the disk do in whatever order, the engine does not panic, says only whole packets,
//! and holds nothing for anybody once the last session has ended.
//!
//! Refuses to know what should be delivered: the simulator does.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use log::HandLog;
use sealmq_codec::{Connect, Framed, Packet, Property, PropertyBuf, QoS, Version, Will, frame};
use sealmq_engine::rules::{Effect, Rule, Rules};
use sealmq_engine::{ClientIds, Config, ConnId, Durability, Engine, Limits, Millis, Peer};
use sealmq_store::{Log, MemoryLog};

#[path = "../../crates/engine/tests/harness/disk.rs"]
mod disk;
#[path = "../../crates/engine/tests/harness/log.rs"]
mod log;

#[derive(Arbitrary, Debug)]
enum Step {
    Connect {
        client: u8,
        is_v5: bool,
        clean: bool,
        keep_alive: u8,
        expiry_s: u16,
        window: u8,
        most: Option<u8>,
        will: Option<(u8, bool, u8)>,
    },
    Bytes { line: u8, bytes: Vec<u8> },
    /// The whole packets of the corpus, by their first byte and a body.
    Frame { line: u8, first: u8, body: Vec<u8> },
    Read { line: u8, count: u16 },
    Close { line: u8 },
    Wait(u16),
    Rules(bool),
    Purge { client: u8 },
    Cut,
    Sync,
    Pages,
    Publish { topic: u8, retain: bool },
    ShutDown,
    Crash,
}

const TOPICS: [&str; 5] = ["a", "a/b", "c", "$x/y", "a/b/c"];
const LONGEST_S: u32 = 600;

struct Line {
    id: ConnId,
    version: Version,
    most: usize,
    /// What came so far and was not looked at.
    seen: Vec<u8>,
    unread: Vec<u8>,
    is_over: bool,
}

struct World {
    engine: Engine,
    log: Option<HandLog>,
    now: u64,
    lines: Vec<Line>,
    rules: bool,
}

fn limits() -> Limits {
    Limits {
        max_session_expiry_s: LONGEST_S,
        max_packet_size: 4096,
        max_outbox_bytes: 200,
        max_queued_messages: 8,
        max_inflight: 3,
        max_subscriptions: 4,
        max_retained_messages: 4,
        topic_alias_maximum: 2,
        max_topic_levels: 4,
        sys_interval_s: 0,
        ..Limits::default()
    }
}

fn rules(all: bool) -> Rules {
    let rule = |name: &str, effect, filter: &str| Rule {
        name: name.into(),
        effect,
        who: "*".into(),
        publish: true,
        subscribe: true,
        filter: filter.into(),
    };
    if all {
        return Rules::dangerous_allow_all();
    }
    Rules::new(vec![rule("not", Effect::Deny, "a/b/#"), rule("all", Effect::Allow, "#")]).expect("rules")
}

impl World {
    fn new(is_kept: bool) -> World {
        let log = is_kept.then(HandLog::default);
        let boxed: Box<dyn Log> = match &log {
            Some(log) => Box::new(log.clone()),
            None => Box::new(MemoryLog),
        };
        World {
            engine: Engine::new(config(true), boxed),
            log,
            now: 1_000_000,
            lines: Vec::new(),
            rules: true,
        }
    }

    fn line(&mut self, at: u8) -> Option<&mut Line> {
        let count = self.lines.len();
        self.lines.get_mut(usize::from(at) % count.max(1))
    }

    /// Read at most `count` bytes from every dirty connection, and carry out what is closed.
    fn settle(&mut self, count: usize) {
        while let Some(id) = self.engine.poll_dirty() {
            let out = self.engine.output(id).expect("a dirty connection has an output");
            let taken: Vec<u8> = out.drain(..count.min(out.len())).collect();
            let is_closing = self.engine.is_closing(id);
            let at = self.lines.iter().position(|l| l.id == id).expect("a line");
            self.lines[at].seen.extend(taken);
            self.look(at);
            if is_closing {
                self.engine.release(id);
                self.lines.remove(at);
            } else {
                self.engine.handle_taken(Millis(self.now), id);
            }
        }
        while self.engine.poll_event().is_some() {}
    }

    fn look(&mut self, at: usize) {
        let line = &mut self.lines[at];
        let seen = std::mem::take(&mut line.seen);
        let mut rest = &seen[..];
        while let Ok(Framed::Whole(whole)) = frame(rest, u32::MAX) {
            assert!(whole.size <= line.most, "{} bytes for a client that takes {}", whole.size, line.most);
            let packet = Packet::decode(line.version, whole).expect("output that decodes");
            assert!(!line.is_over, "{packet:?} after DISCONNECT");
            line.is_over = matches!(packet, Packet::Disconnect(_));
            rest = &rest[whole.size..];
        }
        line.seen = rest.to_vec();
    }

    fn step(&mut self, step: Step) {
        let now = Millis(self.now);
        match step {
            Step::Connect { .. } => self.connect(&step),
            Step::Bytes { line, bytes } => self.bytes(line, &bytes),
            Step::Frame { line, first, body } => {
                let mut bytes = vec![first];
                sealmq_codec::write_varint(body.len(), &mut bytes);
                bytes.extend(body);
                self.bytes(line, &bytes);
            }
            Step::Read { line, count } => {
                if let Some(id) = self.line(line).map(|l| l.id)
                    && let Some(out) = self.engine.output(id)
                {
                    let taken: Vec<u8> = out.drain(..usize::from(count).min(out.len())).collect();
                    let at = self.lines.iter().position(|l| l.id == id).expect("a line");
                    self.lines[at].seen.extend(taken);
                    self.look(at);
                    self.engine.handle_taken(now, id);
                }
            }
            Step::Close { line } => {
                if let Some(id) = self.line(line).map(|l| l.id) {
                    self.engine.handle_closed(now, id, "reset");
                }
            }
            Step::Wait(ms) => {
                self.now += u64::from(ms) * 4;
                self.engine.handle_tick(Millis(self.now));
            }
            Step::Rules(all) => {
                self.rules = all;
                self.engine.set_rules(rules(all));
            }
            Step::Purge { client } => {
                let device = format!("c{}", client % 4);
                self.engine.disconnect_device(now, &device, sealmq_codec::ReasonCode::AdministrativeAction, "away");
                self.engine.purge_device(now, &device);
            }
            Step::Publish { topic, retain } => {
                let retain = if retain { sealmq_engine::Retain::Keep } else { sealmq_engine::Retain::Pass };
                self.engine.publish_own(now, TOPICS[usize::from(topic) % TOPICS.len()], b"x", retain);
            }
            // A broker with a log ends with it, and another one goes on.
            Step::ShutDown => {
                self.engine.shut_down(now);
                self.settle(usize::MAX);
                if let Some(log) = &self.log {
                    log.sync();
                }
                self.crash();
            }
            Step::Cut | Step::Sync | Step::Pages => {
                if let Some(log) = &self.log {
                    match step {
                        Step::Cut => log.cut(),
                        Step::Sync => log.sync(),
                        _ => drop(log.read_pages()),
                    }
                    self.engine.handle_log_advanced(now);
                }
            }
            Step::Crash => self.crash(),
        }
        self.settle(300);
    }

    fn connect(&mut self, step: &Step) {
        let Step::Connect {
            client,
            is_v5,
            clean,
            keep_alive,
            expiry_s,
            window,
            most,
            will,
        } = *step
        else {
            return;
        };
        let version = if is_v5 { Version::V5 } else { Version::V311 };
        let most = most.filter(|_| is_v5).map(|most| u32::from(most) + 10);
        let mut properties = PropertyBuf::new();
        if is_v5 {
            properties.push(Property::SessionExpiry(expiry_s.into()));
            properties.push(Property::ReceiveMaximum(1 + u16::from(window)));
            properties.push(Property::TopicAliasMaximum(u16::from(window % 3)));
            if let Some(most) = most {
                properties.push(Property::MaximumPacketSize(most));
            }
        }
        let mut will_properties = PropertyBuf::new();
        let will = will.map(|(topic, retain, delay_s)| {
            if is_v5 {
                will_properties.push(Property::WillDelay(delay_s.into()));
            }
            (TOPICS[usize::from(topic) % TOPICS.len()], retain)
        });
        let name = format!("c{}", client % 4);
        let connect = Connect {
            version,
            clean_start: clean,
            keep_alive: keep_alive.into(),
            properties: properties.as_properties(),
            client_id: &name,
            will: will.map(|(topic, retain)| Will {
                qos: QoS::AtLeastOnce,
                retain,
                properties: will_properties.as_properties(),
                topic,
                payload: b"will",
            }),
            username: None,
            password: None,
        };
        let peer = Peer {
            device: Some(name.as_str().into()),
            client_ids: ClientIds::OwnOnly,
        };
        if let Ok(id) = self.engine.handle_connect(Millis(self.now), &connect, &peer) {
            self.lines.push(Line {
                id,
                version,
                most: most.map_or(usize::MAX, |most| most as usize),
                seen: Vec::new(),
                unread: Vec::new(),
                is_over: false,
            });
        }
    }

    fn bytes(&mut self, line: u8, bytes: &[u8]) {
        let Some(line) = self.line(line) else { return };
        let id = line.id;
        line.unread.extend(bytes);
        let unread = std::mem::take(&mut line.unread);
        let intake = self.engine.handle_bytes(Millis(self.now), id, &unread);
        assert!(intake.consumed <= unread.len());
        let rest = &unread[intake.consumed..];
        assert!(rest.is_empty() || intake.need > rest.len(), "{intake:?} of {}", unread.len());
        if let Some(line) = self.lines.iter_mut().find(|l| l.id == id) {
            line.unread = rest.to_vec();
        }
    }

    fn crash(&mut self) {
        let Some(log) = &self.log else { return };
        let disk = log.disk();
        let fresh = HandLog::on(disk.clone());
        let mut engine = Engine::new(config(self.rules), Box::new(MemoryLog));
        let mut restorer = engine.restore();
        let now = Millis(self.now);
        disk.load(&mut |stored| restorer.take(now, &stored));
        restorer.finish(now, disk.next_session(), Box::new(fresh.clone()));
        (self.engine, self.log) = (engine, Some(fresh));
        self.lines.clear();
    }

    /// Everybody goes, everything expires.
    fn finish(mut self) {
        for at in 0..self.lines.len() {
            let id = self.lines[at].id;
            self.engine.handle_closed(Millis(self.now), id, "the end");
        }
        self.settle(usize::MAX);
        self.now += u64::from(LONGEST_S) * 2000;
        self.engine.handle_tick(Millis(self.now));
        self.settle(usize::MAX);
        let gauges = self.engine.gauges();
        let left = [gauges.connections, gauges.sessions, gauges.subscriptions, gauges.queued_messages];
        assert_eq!(left, [0; 4], "{gauges:?}");
        for client in 0..4 {
            self.engine.purge_device(Millis(self.now), &format!("c{client}"));
        }
        if gauges.retained_messages == 0 {
            assert_eq!(gauges.memory_bytes, 0, "{gauges:?}");
        }
        if let Some(log) = &self.log {
            log.sync();
            assert_eq!(log.disk().queued(), 0);
        }
    }
}

fn config(all: bool) -> Config {
    Config {
        limits: limits(),
        rules: rules(all),
        durability: Durability::default(),
        seed: 7,
        version: "fuzz".into(),
    }
}

fuzz_target!(|input: (bool, Vec<Step>)| {
    let mut world = World::new(input.0);
    world.engine.handle_tick(Millis(world.now));
    for step in input.1 {
        world.step(step);
    }
    world.finish();
});

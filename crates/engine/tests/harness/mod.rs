//! A bench for the engine: it owns the clock, the network and the calling order.
//!
//! Refuses to know what a scenario expects; it only insists that what leaves the engine decodes, fits the client's
//! packet size, and that nothing follows a DISCONNECT.
//!
//! Received packets are leaked, so that a scenario compares them without lifetimes in its way.
#![allow(dead_code, unused_imports, reason = "each test crate uses its own part of the bench")]

pub mod by_hand;
mod client;
mod dial;
mod disk;
mod log;
mod message;

pub use client::{Client, filter};
pub use dial::Dial;
pub use disk::Disk;
pub use log::HandLog;
pub use message::{Message, message};

use sealmq_codec::{Framed, Packet, Property, Version, frame};
use sealmq_engine::rules::{Effect, Rule, Rules};
use sealmq_engine::{Config, ConnId, Durability, Engine, Event, Limits, Millis};
use sealmq_store::{Log, MemoryLog};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// What the bench keeps for one connection.
pub(crate) struct Line {
    pub version: Version,
    pub max_packet: usize,
    pub inbox: VecDeque<Packet<'static>>,
    pub is_closed: bool,
    /// The client reads nothing: its output stays in the engine.
    pub is_stalled: bool,
}

pub(crate) struct World {
    pub engine: Engine,
    pub now: Millis,
    pub lines: HashMap<(u32, u32), Line>,
    pub events: Vec<Event>,
    /// A disk that is done at once, where nobody looks at it in between.
    pub quick: Option<HandLog>,
}

pub(crate) fn key(id: ConnId) -> (u32, u32) {
    (id.index, id.generation)
}

impl World {
    /// The documented calling order, until the engine wants nothing more.
    pub fn settle(&mut self) {
        self.settle_once();
        while let Some(log) = self.quick.clone().filter(HandLog::has_news) {
            log.sync();
            log.read_pages();
            self.engine.handle_log_advanced(self.now);
            self.settle_once();
        }
    }

    fn settle_once(&mut self) {
        while let Some(id) = self.engine.poll_dirty() {
            if self.line(id).is_stalled && !self.engine.is_closing(id) {
                continue;
            }
            let bytes = std::mem::take(self.engine.output(id).expect("a dirty connection has an output"));
            self.receive(id, bytes);
            if self.engine.is_closing(id) {
                self.line(id).is_closed = true;
                self.engine.release(id);
            } else {
                self.engine.handle_taken(self.now, id);
            }
        }
        while let Some(event) = self.engine.poll_event() {
            self.events.push(event);
        }
    }

    fn line(&mut self, id: ConnId) -> &mut Line {
        self.lines.get_mut(&key(id)).expect("a connection the bench opened")
    }

    /// What a client's network does: cut the bytes into packets, each of which must decode, fit and be one of ours.
    pub fn receive(&mut self, id: ConnId, bytes: Vec<u8>) {
        let line = self.line(id);
        let mut rest: &'static [u8] = bytes.leak();
        while !rest.is_empty() {
            let Ok(Framed::Whole(whole)) = frame(rest, u32::MAX) else {
                panic!("output is no whole packet: {rest:02x?}");
            };
            // [MQTT-3.2.2-1], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2],
            // [MQTT-3.11.3-2], [MQTT-3.14.2-1]; [MQTT-3.9.3-2] of 3.1.1: the codes listed for each packet
            // [MQTT-2.1.3-1], [MQTT-2.2.2-1], [MQTT-3.3.1-2], [MQTT-3.3.1-4], [MQTT-3.3.2-1], [MQTT-3.3.2-2],
            // [MQTT-3.3.2-8]; [MQTT-2.2.2-1], [MQTT-2.3.1-1], [MQTT-3.3.1-2], [MQTT-3.3.2-1], [MQTT-3.3.2-2] of 3.1.1:
            // flags, identifiers and topic names
            let packet = Packet::decode(line.version, whole).expect("output that decodes");
            check(&packet);
            // [MQTT-3.1.2-24]
            assert!(
                whole.size <= line.max_packet,
                "packet of {} bytes for a client that takes {}",
                whole.size,
                line.max_packet
            );
            // [MQTT-3.14.4-1]
            assert!(
                !matches!(line.inbox.back(), Some(Packet::Disconnect(_))),
                "{packet:?} after DISCONNECT"
            );
            line.inbox.push_back(packet);
            rest = &rest[whole.size..];
        }
    }
}

/// What no packet of ours has, in any scenario. That it decodes shows its reason codes and flags, see `receive`.
fn check(packet: &Packet<'_>) {
    // [MQTT-3.2.2-20], [MQTT-3.4.2-3], [MQTT-3.5.2-3], [MQTT-3.6.2-3], [MQTT-3.7.2-3], [MQTT-3.9.2-2], [MQTT-3.11.2-2]:
    // user properties of the broker's own
    // [MQTT-3.6.2-2], [MQTT-3.7.2-2], [MQTT-3.11.2-1]: reason strings where it has nothing to say
    let (properties, may_explain) = match packet {
        Packet::Connack(connack) => (connack.properties, true),
        Packet::Puback(ack) | Packet::Pubrec(ack) => (ack.properties, true),
        Packet::Pubrel(ack) | Packet::Pubcomp(ack) => (ack.properties, false),
        Packet::Suback(codes) => (codes.properties, true),
        Packet::Unsuback(codes) => (codes.properties, false),
        // [MQTT-3.14.2-2]: what only a client may say
        Packet::Disconnect(disconnect) => {
            let expiry = |p| matches!(p, Property::SessionExpiry(_));
            assert!(!disconnect.properties.iter().any(expiry), "{disconnect:?}");
            return;
        }
        Packet::Publish(_) | Packet::Pingresp => return,
        // [MQTT-4.12.0-6]: enhanced authentication is not offered
        other => panic!("{other:?} from a broker"),
    };
    for property in properties.iter() {
        // [MQTT-3.1.2-28], [MQTT-4.12.0-6]: nobody asked for it, nobody gets it
        let is_ours = match property {
            Property::UserProperty(..) | Property::ResponseInformation(_) | Property::AuthenticationMethod(_) => false,
            Property::ReasonString(_) => may_explain,
            _ => true,
        };
        assert!(is_ours, "{packet:?}");
    }
}

/// One broker on a virtual clock.
#[derive(Clone)]
pub struct Bench {
    pub(crate) world: Rc<RefCell<World>>,
}

impl Bench {
    /// A broker that allows everything, with default limits and no $SYS messages in the way.
    pub fn new() -> Bench {
        Bench::with(quiet(), Rules::dangerous_allow_all())
    }

    pub fn with(limits: Limits, rules: Rules) -> Bench {
        if !crate::KEPT {
            return Bench::with_log(limits, rules, Box::new(MemoryLog));
        }
        let log = HandLog::default();
        let bench = Bench::with_log(limits, rules, Box::new(log.clone()));
        bench.world.borrow_mut().quick = Some(log);
        bench
    }

    pub fn with_log(limits: Limits, rules: Rules, log: Box<dyn Log>) -> Bench {
        let config = Config {
            limits,
            rules,
            durability: Durability::default(),
            seed: 7,
            version: "test".into(),
        };
        let bench = Bench {
            world: Rc::new(RefCell::new(World {
                engine: Engine::new(config, log),
                now: Millis(1_000_000),
                lines: HashMap::new(),
                events: Vec::new(),
                quick: None,
            })),
        };
        bench.drive(|engine, now| engine.handle_tick(now));
        bench
    }

    /// A broker that starts, at the time of `now`, with what `disk` holds.
    pub fn revived(limits: Limits, rules: Rules, now: Millis, disk: Disk) -> (Bench, HandLog) {
        let log = HandLog::on(disk.clone());
        let config = Config {
            limits,
            rules,
            durability: Durability::default(),
            seed: 7,
            version: "test".into(),
        };
        let mut engine = Engine::new(config, Box::new(MemoryLog));
        let mut restorer = engine.restore();
        disk.load(&mut |stored| restorer.take(now, &stored));
        restorer.finish(now, disk.next_session(), Box::new(log.clone()));
        let world = World {
            engine,
            now,
            lines: HashMap::new(),
            events: Vec::new(),
            quick: None,
        };
        let bench = Bench {
            world: Rc::new(RefCell::new(world)),
        };
        bench.drive(|engine, now| engine.handle_tick(now));
        (bench, log)
    }

    /// From now on the disk is done at once.
    pub fn hurry(&self, log: &HandLog) {
        self.world.borrow_mut().quick = Some(log.clone());
        self.drive(|_, _| ());
    }

    pub fn now(&self) -> Millis {
        self.world.borrow().now
    }

    /// A CONNECT being put together: MQTT 5.0, clean start, no session expiry, device of the same name.
    pub fn connect(&self, client_id: &str) -> Dial {
        Dial::new(self.clone(), client_id)
    }

    /// Call into the engine, then do all it wants done.
    pub fn drive<R>(&self, call: impl FnOnce(&mut Engine, Millis) -> R) -> R {
        let mut world = self.world.borrow_mut();
        let now = world.now;
        let result = call(&mut world.engine, now);
        world.settle();
        result
    }

    /// Let time pass, stopping at every deadline the engine names.
    pub fn advance(&self, ms: u64) {
        let mut world = self.world.borrow_mut();
        let until = world.now + ms;
        loop {
            let stop = world.engine.poll_deadline().filter(|&at| at <= until).unwrap_or(until);
            world.now = world.now.max(stop);
            let now = world.now;
            world.engine.handle_tick(now);
            world.settle();
            if now == until && world.engine.poll_deadline().is_none_or(|at| at > until) {
                return;
            }
        }
    }

    /// What the engine observed since the last call.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.world.borrow_mut().events)
    }

    /// Slugs of the connections that ended since the last look at the events.
    pub fn endings(&self) -> Vec<&'static str> {
        let ended = |event: Event| match event {
            Event::Disconnected { cause, .. } => Some(cause.slug()),
            _ => None,
        };
        self.events().into_iter().filter_map(ended).collect()
    }

    /// Slugs and counts of what was dropped since the last look at the events.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let dropped = |event: Event| match event {
            Event::Dropped { cause, count, .. } => Some((cause, count)),
            _ => None,
        };
        self.events().into_iter().filter_map(dropped).collect()
    }
}

/// Default limits without $SYS messages.
pub fn quiet() -> Limits {
    Limits {
        sys_interval_s: 0,
        ..Limits::default()
    }
}

/// A rule for every device, in both directions.
pub fn rule(name: &str, effect: Effect, filter: &str) -> Rule {
    Rule {
        name: name.into(),
        effect,
        who: "*".into(),
        publish: true,
        subscribe: true,
        filter: filter.into(),
    }
}

/// Rules that allow exactly these filters.
pub fn allowing(filters: &[&str]) -> Rules {
    Rules::new(filters.iter().map(|f| rule(f, Effect::Allow, f)).collect()).expect("valid rules")
}

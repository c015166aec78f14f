//! Random conversations of a few clients, held against what MQTT promises whatever happens.
//!
//! Refuses to know why a conversation goes as it goes; a failing one is printed, and shrunk to its shortest form.

mod harness;

const KEPT: bool = false;

use harness::{Bench, Client, filter, message, quiet};
use proptest::prelude::*;
use sealmq_codec::{Packet, QoS, Version, topic};
use sealmq_engine::Limits;
use sealmq_engine::rules::Rules;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

const CLIENTS: usize = 4;
const FILTERS: [&str; 6] = ["a/b", "a/#", "+/b", "#", "c", "$share/g/s/#"];
/// Topics of which each session gets one copy; "s/x" is for the shared subscription.
const TOPICS: [&str; 4] = ["a/b", "c", "c/b", "s/x"];
/// Bounded, so that at the end every session ends.
const LONGEST_EXPIRY_S: u32 = 1000;

#[derive(Clone, Debug)]
enum Step {
    Connect {
        clean: bool,
        expiry: u32,
        window: u16,
        has_will: bool,
    },
    Vanish,
    Disconnect,
    Subscribe {
        filter: usize,
        qos: u8,
    },
    Unsubscribe {
        filter: usize,
    },
    Publish {
        topic: usize,
        qos: u8,
        retain: bool,
    },
    /// Look at this many received packets and answer them.
    Answer(usize),
    Stall,
    ReadAgain,
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<bool>(), prop_oneof![Just(0), Just(30), Just(300)], 1..5u16, any::<bool>())
            .prop_map(|(clean, expiry, window, has_will)| Step::Connect { clean, expiry, window, has_will }),
        2 => Just(Step::Vanish),
        1 => Just(Step::Disconnect),
        4 => (0..FILTERS.len(), 0..3u8).prop_map(|(filter, qos)| Step::Subscribe { filter, qos }),
        1 => (0..FILTERS.len()).prop_map(|filter| Step::Unsubscribe { filter }),
        8 => (0..TOPICS.len(), 0..3u8, any::<bool>()).prop_map(|(topic, qos, retain)| Step::Publish { topic, qos, retain }),
        6 => (1..8usize).prop_map(Step::Answer),
        1 => Just(Step::Stall),
        1 => Just(Step::ReadAgain),
        2 => (0..60_000u64).prop_map(Step::Advance),
    ]
}

/// What a client knows of its session, and what is promised to it.
#[derive(Default)]
struct Memory {
    subscriptions: BTreeMap<&'static str, u8>,
    /// QoS 1 and 2 deliveries not acknowledged yet: packet identifier to payload.
    open: HashMap<u16, u32>,
    /// QoS 2 messages received and not released.
    received: HashMap<u16, u32>,
    /// Serials of the QoS 2 messages that have to arrive, and of those that did, in order.
    promised: Vec<u32>,
    arrived: Vec<u32>,
    /// QoS 2 messages of ours: packet identifier to (serial, topic); `None` once PUBREC came.
    sent: BTreeMap<u16, Option<(u32, &'static str)>>,
}

struct Player {
    name: String,
    client: Option<Client>,
    window: usize,
    /// Deliveries on this connection that we have not finished.
    outstanding: HashSet<u16>,
    /// Arrived, and not yet looked at.
    pending: VecDeque<Packet<'static>>,
    memory: Memory,
    next_id: u16,
}

struct Game {
    bench: Bench,
    players: Vec<Player>,
    serial: u32,
}

impl Game {
    fn new() -> Game {
        let limits = Limits {
            max_session_expiry_s: LONGEST_EXPIRY_S,
            max_outbox_bytes: 200,
            ..quiet()
        };
        let player = |n| Player {
            name: format!("client{n}"),
            client: None,
            window: 0,
            outstanding: HashSet::new(),
            pending: VecDeque::new(),
            memory: Memory::default(),
            next_id: 0,
        };
        Game {
            bench: Bench::with(limits, Rules::dangerous_allow_all()),
            players: (0..CLIENTS).map(player).collect(),
            serial: 0,
        }
    }

    fn play(&mut self, who: usize, step: &Step) {
        match *step {
            Step::Connect {
                clean,
                expiry,
                window,
                has_will,
            } => self.connect(who, clean, expiry, window, has_will),
            Step::Vanish => self.players[who].leave(|client| client.vanish()),
            Step::Disconnect => self.players[who].leave(|client| client.disconnect()),
            Step::Publish { topic, qos, retain } => self.publish(who, TOPICS[topic], qos, retain && qos < 2),
            Step::Advance(ms) => self.bench.advance(ms),
            _ => self.players[who].play(step),
        }
        self.players.iter_mut().for_each(Player::observe);
    }

    fn connect(&mut self, who: usize, clean: bool, expiry: u32, window: u16, has_will: bool) {
        let player = &mut self.players[who];
        player.leave(|_| {});
        // One of them speaks the old version, which has no window of its own.
        let is_old = who == CLIENTS - 1;
        let mut dial = self.bench.connect(&player.name).clean(clean);
        dial = if is_old {
            dial.v311()
        } else {
            dial.expiry(expiry).receive_maximum(window)
        };
        if has_will {
            dial = dial.will("a/b", "0").will_delay(10);
        }
        let client = dial.go();
        assert!(!(clean && client.connack.session_present), "clean start finds nothing");
        player.window = if is_old { usize::from(u16::MAX) } else { window.into() };
        if !client.connack.session_present {
            player.memory = Memory::default();
        }
        player.client = Some(client);
        player.repeat();
    }

    fn publish(&mut self, who: usize, topic: &'static str, qos: u8, retain: bool) {
        // The shared topic reaches a session twice, plainly and for the group: not for counting.
        let qos = if topic.starts_with('s') { qos.min(1) } else { qos };
        if self.players[who].client.is_none() {
            return;
        }
        self.serial += 1;
        let sessions: HashSet<String> = self
            .bench
            .drive(|e, _| e.sessions())
            .iter()
            .map(|s| s.client_id.to_string())
            .collect();
        for player in self
            .players
            .iter_mut()
            .filter(|p| qos == 2 && sessions.contains(&p.name))
        {
            let granted = player
                .memory
                .subscriptions
                .iter()
                .filter(|(f, _)| topic::matches(f, topic))
                .map(|(_, q)| *q);
            if granted.max() == Some(2) {
                player.memory.promised.push(self.serial);
            }
        }
        let (player, serial) = (&mut self.players[who], self.serial);
        player.next_id += 1;
        let mut sent = message(topic, serial.to_string()).qos(qos).id(player.next_id);
        if retain {
            sent = sent.retain();
        }
        if qos == 2 {
            player.memory.sent.insert(player.next_id, Some((serial, topic)));
        }
        player.client.as_mut().unwrap().publish(sent);
    }

    /// Everybody comes back, reads all and answers all; then nothing may be missing.
    fn finish(&mut self) {
        for who in 0..CLIENTS {
            self.players[who].play(&Step::ReadAgain);
            if self.players[who].client.is_none() {
                self.connect(who, false, 30, 4, false);
            }
        }
        loop {
            self.players.iter_mut().for_each(Player::observe);
            if self.players.iter().all(|p| p.pending.is_empty()) {
                break;
            }
            self.players.iter_mut().for_each(|p| p.play(&Step::Answer(100)));
        }
        for player in &self.players {
            let Memory {
                promised,
                arrived,
                open,
                sent,
                ..
            } = &player.memory;
            // [MQTT-4.3.3-10]: exactly once; [MQTT-4.6.0-6]: in order
            assert_eq!(promised, arrived, "{}: QoS 2 promised and arrived", player.name);
            assert!(open.is_empty() && sent.is_empty(), "{}: {open:?} {sent:?}", player.name);
        }
        let gauges = self.bench.drive(|e, _| e.gauges());
        assert_eq!(
            (gauges.queued_messages, gauges.inflight_messages),
            (0, 0),
            "all is acknowledged"
        );
        for player in &mut self.players {
            player.leave(|client| client.disconnect());
        }
        self.bench.advance(u64::from(LONGEST_EXPIRY_S) * 1000);
        let gauges = self.bench.drive(|e, _| e.gauges());
        let left = (gauges.connections, gauges.sessions, gauges.subscriptions);
        assert_eq!(left, (0, 0, 0), "connections, sessions, subscriptions");
        assert_eq!((gauges.queued_messages, gauges.inflight_messages), (0, 0));
    }
}

impl Player {
    fn leave(&mut self, how: impl FnOnce(&Client)) {
        self.observe();
        if let Some(client) = self.client.take() {
            how(&client);
        }
        // What was not looked at is lost on the way.
        self.pending.clear();
        self.outstanding.clear();
    }

    /// After a reconnect a client sends again what was not answered [MQTT-4.4.0-1].
    fn repeat(&mut self) {
        let Some(client) = self.client.as_mut() else { return };
        for (id, sent) in &self.memory.sent {
            match sent {
                Some((serial, topic)) => {
                    client.publish(message(topic, serial.to_string()).qos(2).id(*id).dup());
                }
                None => client.pubrel(*id),
            }
        }
    }

    fn play(&mut self, step: &Step) {
        let Some(client) = self.client.as_mut() else { return };
        match *step {
            Step::Subscribe { filter: at, qos } => {
                client.ask(0, &[filter(FILTERS[at], qos)]);
                self.memory.subscriptions.insert(FILTERS[at], qos);
            }
            Step::Unsubscribe { filter: at } => {
                client.ask_to_end(&[FILTERS[at]]);
                self.memory.subscriptions.remove(FILTERS[at]);
            }
            Step::Answer(count) => {
                for _ in 0..count {
                    let Some(packet) = self.pending.pop_front() else { return };
                    self.answer(&packet);
                }
            }
            Step::Stall => client.stall(),
            Step::ReadAgain => client.read_again(),
            _ => unreachable!("a step of the game, not of a player"),
        }
    }

    /// What is on the wire, whether anybody looks at it or not.
    fn observe(&mut self) {
        let Some(client) = &self.client else { return };
        assert!(!client.is_closed(), "{} did nothing wrong", self.name);
        for packet in client.all() {
            if let Packet::Publish(publish) = packet
                && publish.qos != QoS::AtMostOnce
            {
                let serial = number(publish.payload);
                let before = self.memory.open.insert(publish.packet_id, serial);
                // [MQTT-2.2.1-4]: an identifier in use is not used for another message; [MQTT-3.3.1-1]: again is DUP
                if publish.dup {
                    // The first time may have been lost on the way.
                    assert!(
                        before.is_none_or(|b| b == serial),
                        "{}: DUP of another message",
                        self.name
                    );
                } else {
                    assert_eq!(
                        before, None,
                        "{}: identifier {} is in use",
                        self.name, publish.packet_id
                    );
                }
                assert!(
                    self.outstanding.insert(publish.packet_id),
                    "{}: twice on one connection",
                    self.name
                );
                // [MQTT-3.3.4-9]
                assert!(
                    self.outstanding.len() <= self.window,
                    "{}: beyond the window",
                    self.name
                );
            }
            self.pending.push_back(packet);
        }
    }

    fn answer(&mut self, packet: &Packet<'static>) {
        let Some(client) = &self.client else { return };
        let memory = &mut self.memory;
        match *packet {
            Packet::Publish(publish) => {
                let id = publish.packet_id;
                match publish.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => {
                        memory.open.remove(&id);
                        self.outstanding.remove(&id);
                        client.puback(id);
                    }
                    QoS::ExactlyOnce => {
                        let serial = number(publish.payload);
                        match memory.received.insert(id, serial) {
                            None => memory.arrived.push(serial),
                            Some(before) => assert_eq!(before, serial),
                        }
                        client.pubrec(id);
                    }
                }
            }
            Packet::Pubrel(ack) => {
                memory.received.remove(&ack.packet_id);
                memory.open.remove(&ack.packet_id);
                self.outstanding.remove(&ack.packet_id);
                client.pubcomp(ack.packet_id);
            }
            Packet::Pubrec(ack) => {
                if let Some(sent) = memory.sent.get_mut(&ack.packet_id) {
                    *sent = None;
                    client.pubrel(ack.packet_id);
                }
            }
            Packet::Pubcomp(ack) => {
                assert!(ack.reason == 0 || client.version == Version::V5);
                memory.sent.remove(&ack.packet_id);
            }
            Packet::Puback(_) | Packet::Suback(_) | Packet::Unsuback(_) => {}
            other => panic!("{other:?} is not for a client that behaves"),
        }
    }
}

fn number(payload: &[u8]) -> u32 {
    std::str::from_utf8(payload)
        .ok()
        .and_then(|text| text.parse().ok())
        .expect("a serial")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_promises_hold(steps in prop::collection::vec((0..CLIENTS, step()), 1..120)) {
        let mut game = Game::new();
        for (who, step) in &steps {
            game.play(*who, step);
        }
        game.finish();
    }

    /// Bytes that are no MQTT end one connection and never the broker.
    #[test]
    fn noise_harms_nobody(noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..20)) {
        let bench = Bench::new();
        let mut witness = bench.connect("witness").go();
        witness.subscribe("w", 1);
        for bytes in &noise {
            let offender = bench.connect("offender").go();
            offender.raw(bytes);
            drop(offender.all());
            bench.connect("p").go().publish(message("w", "still here"));
            let heard = witness.all();
            prop_assert!(heard.iter().any(|p| matches!(p, Packet::Publish(m) if m.payload == b"still here")));
        }
    }
}

//! Brokers that lose power at any moment, over a disk that is as far as it is: nothing acknowledged is lost, nothing
//! comes twice at QoS 2, no session is forgotten.
//!
//! Refuses to know how the broker does it; a failing history is printed, and shrunk to its shortest form.

mod harness;

/// The disk of this file is moved by hand.
const KEPT: bool = false;

use harness::{Bench, Client, Disk, HandLog, filter, message, quiet};
use proptest::prelude::*;
use sealmq_codec::{Packet, QoS};
use sealmq_engine::rules::Rules;
use sealmq_engine::{Limits, Millis};
use std::collections::{BTreeMap, BTreeSet};

const SUBSCRIBERS: usize = 2;
const PUBLISHERS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Publish {
        who: usize,
        qos: u8,
        retain: bool,
    },
    /// Take in and answer this many packets.
    Answer {
        who: usize,
        count: usize,
    },
    Leave {
        who: usize,
    },
    Come {
        who: usize,
    },
    /// So many changes more are safe.
    Sync(u64),
    /// The open batch is on its way to the disk.
    Cut,
    ReadPages,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let all = SUBSCRIBERS + PUBLISHERS;
    prop_oneof![
        8 => (0..PUBLISHERS, 1..3u8, prop::bool::weighted(0.1))
            .prop_map(|(who, qos, retain)| Step::Publish { who: SUBSCRIBERS + who, qos, retain }),
        8 => (0..all, 1..6usize).prop_map(|(who, count)| Step::Answer { who, count }),
        2 => (0..all).prop_map(|who| Step::Leave { who }),
        4 => (0..all).prop_map(|who| Step::Come { who }),
        6 => (1..6u64).prop_map(Step::Sync),
        3 => Just(Step::Cut),
        3 => Just(Step::ReadPages),
        1 => Just(Step::Crash),
    ]
}

/// Where a message of a publisher stands, as it knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Publish { qos: u8, retain: bool },
    Pubrel,
}

/// A client that remembers what a client must remember.
#[derive(Default)]
struct Player {
    name: String,
    /// QoS of its subscription; 0 for a publisher.
    wants: u8,
    line: Option<Client>,
    is_welcome: bool,
    has_session: bool,
    is_subscribed: bool,
    next_id: u16,
    /// Packet identifier to serial and stage.
    sent: BTreeMap<u16, (u32, Sent)>,
    order: Vec<u16>,
    /// Serials of its own, for the subscribers to tell publishers apart.
    own: BTreeSet<u32>,
    received: BTreeMap<u16, u32>,
    arrived: Vec<(u32, QoS)>,
}

struct Story {
    bench: Bench,
    log: HandLog,
    players: Vec<Player>,
    serial: u32,
    /// Serials that were acknowledged, and those whose publisher was told after `who` had its SUBACK.
    promised: Vec<BTreeSet<u32>>,
    subscribed_from: Vec<Option<u32>>,
    retained_acknowledged: u32,
    retained_sent: u32,
}

fn limits() -> Limits {
    Limits {
        max_outbox_bytes: 300,
        max_inflight: 4,
        ..quiet()
    }
}

impl Story {
    fn new() -> Story {
        let (bench, log) = Bench::revived(
            limits(),
            Rules::dangerous_allow_all(),
            Millis(1_000_000),
            Disk::default(),
        );
        let subscribers = (0..SUBSCRIBERS).map(|n| (format!("s{n}"), n as u8 % 2 + 1));
        let publishers = (0..PUBLISHERS).map(|n| (format!("p{n}"), 0));
        let players = subscribers.chain(publishers).map(|(name, wants)| Player {
            name,
            wants,
            ..Player::default()
        });
        Story {
            bench,
            log,
            players: players.collect(),
            serial: 0,
            promised: vec![BTreeSet::new(); SUBSCRIBERS],
            subscribed_from: vec![None; SUBSCRIBERS],
            retained_acknowledged: 0,
            retained_sent: 0,
        }
    }

    fn play(&mut self, step: &Step) {
        match *step {
            Step::Publish { who, qos, retain } => self.publish(who, qos, retain),
            Step::Answer { who, count } => self.answer(who, count),
            Step::Leave { who } => {
                if let Some(client) = self.players[who].line.take() {
                    client.vanish();
                }
                self.players[who].is_welcome = false;
            }
            Step::Come { who } => self.come(who),
            Step::Sync(more) => {
                let safe = self.log.safe() + more;
                self.log.sync_to(safe.min(self.log.appended()));
                self.bench.drive(|engine, now| engine.handle_log_advanced(now));
            }
            Step::Cut => self.log.cut(),
            Step::ReadPages => {
                self.log.read_pages();
                self.bench.drive(|engine, now| engine.handle_log_advanced(now));
            }
            Step::Crash => self.crash(),
        }
    }

    fn crash(&mut self) {
        let now = self.bench.now() + 1000;
        let (bench, log) = Bench::revived(limits(), Rules::dangerous_allow_all(), now, self.log.disk());
        (self.bench, self.log) = (bench, log);
        for player in &mut self.players {
            player.line = None;
            player.is_welcome = false;
        }
    }

    fn come(&mut self, who: usize) {
        let player = &mut self.players[who];
        if player.line.is_some() {
            return;
        }
        let dial = self.bench.connect(&player.name).resume(3600);
        player.line = Some(dial.dial().expect("a CONNECT that is accepted"));
    }

    fn publish(&mut self, who: usize, qos: u8, retain: bool) {
        let player = &mut self.players[who];
        let Some(client) = player.line.as_mut().filter(|_| player.is_welcome) else {
            return;
        };
        self.serial += 1;
        player.next_id += 1;
        let id = player.next_id;
        player.sent.insert(id, (self.serial, Sent::Publish { qos, retain }));
        player.order.push(id);
        player.own.insert(self.serial);
        self.retained_sent = if retain { self.serial } else { self.retained_sent };
        let mut sent = message("t", self.serial.to_string()).qos(qos).id(id);
        if retain {
            sent = sent.retain();
        }
        client.publish(sent);
    }

    fn answer(&mut self, who: usize, count: usize) {
        for _ in 0..count {
            let Some(packet) = self.players[who].line.as_ref().and_then(Client::try_next) else {
                return;
            };
            self.take(who, &packet);
        }
    }

    fn promise(&mut self, serial: u32) {
        for (promised, from) in self.promised.iter_mut().zip(&self.subscribed_from) {
            if from.is_some_and(|from| serial > from) {
                promised.insert(serial);
            }
        }
    }

    fn take(&mut self, who: usize, packet: &Packet<'static>) {
        let serial_now = self.serial;
        let player = &mut self.players[who];
        let Some(client) = player.line.as_mut() else { return };
        match *packet {
            Packet::Connack(connack) => {
                assert!(
                    connack.session_present || !player.has_session,
                    "{}: its session was forgotten",
                    player.name
                );
                if !connack.session_present {
                    player.received.clear();
                }
                player.has_session = true;
                player.is_welcome = true;
                if player.wants > 0 && !player.is_subscribed {
                    client.ask(0, &[filter("t", player.wants)]);
                }
                for id in player.order.clone() {
                    match player.sent.get(&id) {
                        Some(&(serial, Sent::Publish { qos, retain })) => {
                            let mut again = message("t", serial.to_string()).qos(qos).id(id).dup();
                            if retain {
                                again = again.retain();
                            }
                            client.publish(again);
                        }
                        Some((_, Sent::Pubrel)) => client.pubrel(id),
                        None => {}
                    }
                }
            }
            Packet::Suback(_) => {
                player.is_subscribed = true;
                self.subscribed_from[who].get_or_insert(serial_now);
            }
            Packet::Publish(publish) => {
                let serial: u32 = std::str::from_utf8(publish.payload).unwrap().parse().unwrap();
                match publish.qos {
                    QoS::AtMostOnce => panic!("all is QoS 1 or 2"),
                    QoS::AtLeastOnce => {
                        player.arrived.push((serial, QoS::AtLeastOnce));
                        client.puback(publish.packet_id);
                    }
                    QoS::ExactlyOnce => {
                        match player.received.insert(publish.packet_id, serial) {
                            // The answer to a subscription is a delivery of its own.
                            None if publish.retain => {}
                            None => player.arrived.push((serial, QoS::ExactlyOnce)),
                            Some(before) => assert_eq!(before, serial, "{}: an identifier for two", player.name),
                        }
                        client.pubrec(publish.packet_id);
                    }
                }
            }
            Packet::Pubrel(ack) => {
                player.received.remove(&ack.packet_id);
                client.pubcomp(ack.packet_id);
            }
            Packet::Puback(ack) => {
                if let Some((serial, Sent::Publish { retain, .. })) = player.sent.remove(&ack.packet_id) {
                    self.retained_acknowledged = if retain { serial } else { self.retained_acknowledged };
                    self.promise(serial);
                }
            }
            Packet::Pubrec(ack) => {
                let Some((serial, stage)) = player.sent.get_mut(&ack.packet_id) else {
                    return;
                };
                let (serial, before) = (*serial, std::mem::replace(stage, Sent::Pubrel));
                client.pubrel(ack.packet_id);
                if matches!(before, Sent::Publish { retain: true, .. }) {
                    self.retained_acknowledged = serial;
                }
                self.promise(serial);
            }
            Packet::Pubcomp(ack) => drop(player.sent.remove(&ack.packet_id)),
            other => panic!("{}: {other:?}", player.name),
        }
    }

    /// Everybody comes back and all is read; then the promises are counted.
    fn finish(&mut self) {
        self.bench.hurry(&self.log);
        for round in 0.. {
            assert!(round < 10_000, "it never ends");
            let mut is_quiet = true;
            for who in 0..self.players.len() {
                self.come(who);
                while let Some(packet) = self.players[who].line.as_ref().and_then(Client::try_next) {
                    self.take(who, &packet);
                    is_quiet = false;
                }
            }
            if is_quiet {
                break;
            }
        }
        for (player, promised) in self.players.iter().zip(&self.promised) {
            let name = &player.name;
            let arrived: BTreeSet<u32> = player.arrived.iter().map(|(serial, _)| *serial).collect();
            let lost: Vec<_> = promised.difference(&arrived).collect();
            assert!(lost.is_empty(), "{name}: acknowledged and lost: {lost:?}");
            let twice: Vec<u32> = player
                .arrived
                .iter()
                .filter(|(_, qos)| *qos == QoS::ExactlyOnce)
                .map(|(serial, _)| *serial)
                .collect();
            let once: BTreeSet<u32> = twice.iter().copied().collect();
            // [MQTT-4.6.0-5], [MQTT-4.6.0-6]: in the order of each publisher, repetitions aside; what was sent before
            // there was a
            // subscription may come again after it
            for publisher in &self.players {
                let mut seen = BTreeSet::new();
                let counts =
                    |serial: &u32| publisher.own.contains(serial) && promised.range(..=serial).next().is_some();
                let of_one = player.arrived.iter().map(|(serial, _)| *serial).filter(counts);
                let first: Vec<u32> = of_one.filter(|serial| seen.insert(*serial)).collect();
                assert!(
                    first.is_sorted(),
                    "{name}: out of order from {}: {first:?}",
                    publisher.name
                );
            }
            assert_eq!(once.len(), twice.len(), "{name}: QoS 2 came twice: {twice:?}");
            assert!(
                player.received.is_empty(),
                "{name}: never released: {:?}",
                player.received
            );
        }
        for player in &self.players {
            assert!(
                player.sent.is_empty(),
                "{}: never answered: {:?}",
                player.name,
                player.sent
            );
        }
        assert_eq!(self.log.disk().queued(), 0, "nothing is left on disk");
        let mut reader = self.bench.connect("reader").go();
        reader.ask(0, &[filter("t", 0)]);
        let found = reader.all().iter().find_map(|p| match p {
            Packet::Publish(m) => std::str::from_utf8(m.payload).unwrap().parse::<u32>().ok(),
            _ => None,
        });
        assert!(
            found.is_some() || self.retained_sent == 0,
            "a retained message was acknowledged and lost"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("SEALMQ_CRASH_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2000),
        max_shrink_iters: 50_000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn what_was_acknowledged_survives(steps in prop::collection::vec(step(), 1..150)) {
        let mut story = Story::new();
        for who in 0..SUBSCRIBERS + PUBLISHERS {
            story.come(who);
        }
        for step in &steps {
            story.play(step);
        }
        story.finish();
    }
}

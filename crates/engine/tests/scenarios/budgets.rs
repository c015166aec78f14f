//! What a peer may make the broker hold, and what happens at each bound.

use crate::harness::{Bench, Client, allowing, filter, message, quiet};
use sealmq_codec::{Packet, Property, ReasonCode};
use sealmq_engine::rules::Rules;
use sealmq_engine::{Limits, Memory};

fn bench(limits: Limits) -> Bench {
    Bench::with(limits, Rules::dangerous_allow_all())
}

fn memory(bench: &Bench) -> Memory {
    bench.drive(|engine, _| engine.memory())
}

fn refused(bench: &Bench, client_id: &str) -> (ReasonCode, &'static str) {
    let refusal = bench.connect(client_id).dial().err().expect("a refusal");
    (refusal.reason, refusal.cause)
}

const LONG: &str = "a/123456789012345";

#[test]
fn a_topic_name_has_a_length() {
    let bench = bench(Limits {
        max_topic_bytes: 16,
        ..quiet()
    });
    let mut hears = bench.connect("hears").go();
    hears.subscribe("#", 1);
    let mut new = bench.connect("new").go();
    let id = new.publish(message(LONG, "x").qos(1));
    new.expect_puback(id, ReasonCode::TopicNameInvalid as u8);
    new.publish(message(LONG, "x"));
    // behind an alias it is not kept either
    new.publish(message(LONG, "x").property(Property::TopicAlias(1)));
    let mut old = bench.connect("old").v311().go();
    let id = old.publish(message(LONG, "x").qos(1));
    old.expect_puback(id, 0);
    hears.silent();
    let id = new.publish(message(&LONG[..16], "x").qos(1));
    new.expect_puback(id, 0);
    hears.hears(&LONG[..16], "x");
}

#[test]
fn a_filter_and_a_will_topic_have_a_length() {
    let bench = bench(Limits {
        max_topic_bytes: 16,
        ..quiet()
    });
    let mut client = bench.connect("a").go();
    let filters = [filter(LONG, 1), filter(&LONG[..16], 1), filter("$share/g/1234567", 1)];
    let invalid = ReasonCode::TopicFilterInvalid as u8;
    assert_eq!(client.subscribe_all(0, &filters), [invalid, 1, 1]);
    let refusal = bench.connect("b").will(LONG, "x").dial().err().expect("a refusal");
    assert_eq!(
        (refusal.reason, refusal.cause),
        (ReasonCode::TopicNameInvalid, "will-topic-too-long")
    );
}

#[test]
fn user_properties_of_a_message_are_counted() {
    let bench = bench(Limits {
        max_user_properties: 2,
        ..quiet()
    });
    let mut hears = bench.connect("hears").go();
    hears.subscribe("t", 1);
    let mut client = bench.connect("a").go();
    let with = |count: usize| {
        (0..count).fold(message("t", "x").qos(1), |m, _| {
            m.property(Property::UserProperty("k", "v"))
        })
    };
    let id = client.publish(with(2));
    client.expect_puback(id, 0);
    hears.hears("t", "x");
    let id = client.publish(with(3));
    client.expect_puback(id, ReasonCode::QuotaExceeded as u8);
    hears.silent();
    assert_eq!(bench.drive(|e, _| e.counters().messages_turned_away), 1);
    let will = |count: usize| {
        let dial = bench.connect("w").will("t", "x");
        (0..count)
            .fold(dial, |dial, _| dial.will_property(Property::UserProperty("k", "v")))
            .dial()
    };
    assert!(will(2).is_ok());
    assert_eq!(will(3).err().expect("a refusal").cause, "will-too-large");
}

#[test]
fn filters_beyond_the_budget_of_one_subscribe_are_refused_one_by_one() {
    let bench = bench(Limits {
        max_filters: 2,
        ..quiet()
    });
    let filters = ["a", "b", "c", "d"].map(|text| filter(text, 1));
    let quota = ReasonCode::QuotaExceeded as u8;
    assert_eq!(bench.connect("a").go().subscribe_all(0, &filters), [1, 1, quota, quota]);
    assert_eq!(
        bench.connect("b").v311().go().subscribe_all(0, &filters),
        [1, 1, 0x80, 0x80]
    );
    assert_eq!(bench.drive(|e, _| e.gauges().subscriptions), 4);
}

#[test]
fn a_will_has_a_size() {
    let bench = bench(Limits {
        max_will_bytes: 100,
        ..quiet()
    });
    assert!(bench.connect("a").will("t", &"x".repeat(99)).dial().is_ok());
    let refusal = bench
        .connect("b")
        .will("t", &"x".repeat(100))
        .dial()
        .err()
        .expect("a refusal");
    assert_eq!(
        (refusal.reason, refusal.cause),
        (ReasonCode::QuotaExceeded, "will-too-large")
    );
    let old = bench
        .connect("c")
        .v311()
        .will("t", &"x".repeat(100))
        .dial()
        .err()
        .expect("a refusal");
    assert_eq!(old.bytes, [0x20, 2, 0, 3]);
}

#[test]
fn a_device_has_so_many_sessions_and_takes_nobody_elses() {
    let bench = bench(Limits {
        max_sessions_per_device: 2,
        ..quiet()
    });
    let away = bench.connect("a:1").resume(60).go();
    let here = bench.connect("a:2").go();
    away.vanish();
    assert_eq!(refused(&bench, "a:3"), (ReasonCode::QuotaExceeded, "too-many-sessions"));
    // who has one may come back to it, or begin it anew
    let back = bench.connect("a:1").resume(60).go();
    assert!(back.connack.session_present);
    bench.connect("a:1").go().vanish();
    bench.connect("b:1").go();
    bench.connect("a:3").go().vanish();
    here.vanish();
    bench.connect("a:4").go();
}

#[test]
fn sessions_in_all_are_counted() {
    let bench = bench(Limits {
        max_sessions: 2,
        ..quiet()
    });
    let a = bench.connect("a").resume(60).go();
    bench.connect("b").go();
    assert_eq!(refused(&bench, "c"), (ReasonCode::QuotaExceeded, "too-many-sessions"));
    a.vanish();
    assert_eq!(refused(&bench, "c"), (ReasonCode::QuotaExceeded, "too-many-sessions"));
    bench.advance(60_000);
    bench.connect("c").go();
}

#[test]
fn messages_in_flight_are_bounded_in_bytes_and_one_always_goes() {
    let bench = bench(Limits {
        max_inflight_bytes: 5_000,
        ..quiet()
    });
    let mut s = bench.connect("s").go();
    s.subscribe("t", 2);
    let mut p = bench.connect("p").go();
    for _ in 0..10 {
        p.publish(message("t", vec![b'x'; 1000]).qos(1));
    }
    let first = s.all();
    assert_eq!(first.len(), 4);
    s.puback(id_of(&first[0]));
    assert_eq!(s.all().len(), 1);
    let mut big = bench.connect("big").go();
    big.subscribe("u", 2);
    for _ in 0..2 {
        p.publish(message("u", vec![b'x'; 100_000]).qos(2));
    }
    for packet in p.all() {
        if let Packet::Pubrec(ack) = packet {
            p.pubrel(ack.packet_id);
        }
    }
    let one = big.all();
    assert_eq!(one.len(), 1, "however large, one message may be in flight");
    // its bytes are the receiver's with PUBREC, its place in the window is free with PUBCOMP
    big.pubrec(id_of(&one[0]));
    big.pubcomp(id_of(&one[0]));
    assert_eq!(big.all().len(), 2, "PUBREL, then the next message");
}

fn id_of(packet: &Packet<'_>) -> u16 {
    match packet {
        Packet::Publish(publish) => publish.packet_id,
        other => panic!("{other:?} instead of PUBLISH"),
    }
}

/// A megabyte for everybody together.
fn short() -> Limits {
    Limits {
        max_memory_bytes: 1 << 20,
        max_queued_messages: 1_000_000,
        ..quiet()
    }
}

/// `count` clients that subscribe to `hog/#` and never read.
fn hogs(bench: &Bench, count: usize, qos: u8) -> Vec<Client> {
    let hog = |n| {
        let mut hog = bench.connect(&format!("hog{n}")).go();
        hog.subscribe("hog/#", qos);
        hog.stall();
        hog
    };
    (0..count).map(hog).collect()
}

#[test]
fn those_who_do_not_read_leave_room_for_those_who_do() {
    for qos in [0, 1, 2] {
        let bench = bench(short());
        let memory = memory(&bench);
        let hogs = hogs(&bench, 10, qos);
        let (mut p, mut healthy) = (bench.connect("p").go(), bench.connect("healthy").go());
        healthy.subscribe("work", 1);
        for n in 0..2_000 {
            p.publish(message("hog/x", vec![b'x'; 1000]).qos(qos));
            let id = p.publish(message("work", format!("{n}")).qos(1));
            let work = healthy.hears("work", &format!("{n}"));
            healthy.puback(work.packet_id);
            let answers = p.all();
            let is_accepted = answers
                .iter()
                .any(|a| matches!(a, Packet::Puback(ack) if ack.packet_id == id && ack.reason == 0));
            assert!(is_accepted, "message {n} beside hogs of QoS {qos}: {answers:?}");
            for answer in answers {
                if let Packet::Pubrec(ack) = answer {
                    p.pubrel(ack.packet_id);
                }
            }
            assert!(
                memory.used() < memory.bound(),
                "{} bytes at message {n}, QoS {qos}",
                memory.used()
            );
        }
        assert!(
            memory.used() > memory.bound() / 4,
            "what there is, is used: {} at QoS {qos}",
            memory.used()
        );
        assert!(bench.drive(|e, _| e.counters().messages_dropped) > 0);
        drop(hogs);
    }
}

#[test]
fn when_everybody_has_gone_nothing_is_held() {
    let bench = bench(short());
    let memory = memory(&bench);
    assert_eq!(memory.used(), 0);
    let clients = hogs(&bench, 5, 2);
    let mut p = bench.connect("p").alias_maximum(10).will("hog/will", "x").go();
    p.subscribe("hog/+", 1);
    for n in 0..300 {
        let alias = Property::TopicAlias(1 + n % 7);
        p.publish(message(&format!("hog/{n}"), vec![b'x'; 500]).qos(1).property(alias));
        p.publish(message(&format!("hog/{n}"), vec![b'x'; 500]));
    }
    p.publish(message("hog/kept", "x").qos(1).retain());
    let away = bench.connect("away").resume(60).go();
    away.vanish();
    assert!(memory.used() > 100_000);
    let half = [0x30, 0xff, 0x7f, 0, 1];
    p.raw(&half);
    p.vanish();
    for client in clients {
        client.vanish();
    }
    bench.advance(60_000);
    let only_the_retained = memory.used();
    assert!((256..512).contains(&only_the_retained), "{only_the_retained}");
    bench.connect("q").go().publish(message("hog/kept", "").qos(1).retain());
    bench.drive(|engine, now| engine.disconnect_device(now, "q", ReasonCode::AdministrativeAction, "over"));
    assert_eq!(memory.used(), 0);
}

#[test]
fn a_packet_that_memory_has_no_room_for_ends_its_connection_and_no_other() {
    let bench = bench(short());
    let memory = memory(&bench);
    let (large, small) = (bench.connect("large").go(), bench.connect("small").go());
    // PUBLISH of 500,000 bytes, of which the first are here
    large.raw(&[0x30, 0xa0, 0xc2, 0x1e, 0, 1, b't']);
    large.expect_closed(ReasonCode::QuotaExceeded);
    assert_eq!(bench.endings(), ["memory-full"]);
    // 60,000 bytes are taken in and counted
    small.raw(&[0x30, 0xe0, 0xd4, 0x03, 0, 1, b't']);
    assert!(!small.is_closed());
    assert!(memory.used() > 60_000);
}

#[test]
fn retained_messages_subscriptions_and_newcomers_stop_before_memory_does() {
    let bench = bench(short());
    let memory = memory(&bench);
    let mut p = bench.connect("p").go();
    let quota = ReasonCode::QuotaExceeded as u8;
    let mut reason = 0;
    for n in 0..10_000 {
        p.publish(message(&format!("r/{n}"), vec![b'x'; 50_000]).qos(1).retain());
        let Packet::Puback(ack) = p.next() else {
            panic!("no PUBACK")
        };
        reason = ack.reason;
        if reason == quota {
            break;
        }
    }
    assert_eq!(reason, quota);
    assert!(memory.free() > 100_000, "{}", memory.free());
    let mut count = 0;
    let refused = loop {
        count += 1;
        match bench.connect(&format!("n{count}:x")).dial() {
            Ok(client) => std::mem::forget(client),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(
        (refused.reason, refused.cause),
        (ReasonCode::QuotaExceeded, "memory-full")
    );
    assert!(
        memory.free() > 0 && count > 5,
        "{count} newcomers, {} bytes left",
        memory.free()
    );
    let deep = "x/".repeat(15);
    let codes: Vec<u8> = (0..900)
        .map(|n| p.subscribe_all(0, &[filter(&format!("{deep}{n}"), 0)])[0])
        .collect();
    assert_eq!(codes.last(), Some(&quota));
    assert!(memory.free() > 0);
}

#[test]
fn rules_that_end_a_subscription_give_its_memory_back() {
    let bench = bench(quiet());
    let memory = memory(&bench);
    let mut client = bench.connect("a").go();
    let before = memory.used();
    client.subscribe("x/#", 1);
    client.subscribe("y/#", 1);
    client.unsubscribe(&["y/#"]);
    bench.drive(|engine, _| engine.set_rules(allowing(&["z"])));
    assert_eq!(memory.used(), before + client.outbox() as u64);
}

// A connection has its turn, then the others have theirs; nothing is lost over it
#[test]
fn what_one_call_may_do_is_bounded_in_work() {
    let bench = bench(quiet());
    let readers: Vec<Client> = (0..10).map(|n| bench.connect(&format!("r{n}")).go()).collect();
    let mut readers = readers;
    for reader in &mut readers {
        reader.subscribe("t", 0);
    }
    let p = bench.connect("p").go();
    let mut bytes = Vec::new();
    for n in 0..100 {
        message("t", format!("{n}")).packet().encode(p.version, &mut bytes);
    }
    bench.drive(|engine, _| engine.set_turn(50));
    let (mut at, mut calls) = (0, 0);
    loop {
        let intake = bench.drive(|engine, now| engine.handle_bytes(now, p.id, &bytes[at..]));
        at += intake.consumed;
        calls += 1;
        assert!(intake.consumed > 0, "each turn carries out something");
        if !intake.is_cut_short {
            break;
        }
    }
    assert_eq!(at, bytes.len());
    assert!(
        (4..10).contains(&calls),
        "{calls} calls for 100 packets and 1,000 deliveries"
    );
    let all: Vec<String> = (0..100).map(|n| format!("{n}")).collect();
    for reader in readers {
        assert_eq!(reader.payloads(), all);
    }
}

// What is written into outboxes is work by its bytes as well
#[test]
fn a_large_message_to_many_uses_up_a_turn() {
    for qos in 0..=1 {
        let bench = bench(quiet());
        let mut readers: Vec<Client> = (0..10).map(|n| bench.connect(&format!("r{n}")).go()).collect();
        readers.iter_mut().for_each(|reader| reader.subscribe("t", qos));
        let p = bench.connect("p").go();
        let mut bytes = Vec::new();
        for id in 1..=10 {
            let one = message("t", "x".repeat(16_000))
                .qos(qos)
                .id(if qos == 0 { 0 } else { id });
            one.packet().encode(p.version, &mut bytes);
        }
        bench.drive(|engine, _| engine.set_turn(80));
        for _ in 0..3 {
            let intake = bench.drive(|engine, now| engine.handle_bytes(now, p.id, &bytes));
            assert!(intake.is_cut_short && intake.consumed == bytes.len() / 10, "{intake:?}");
        }
    }
}

// 2^10 filters of {a, +} match one name: looking at them is work
#[test]
fn a_wildcard_bomb_uses_up_a_turn() {
    let bench = bench(Limits {
        max_subscriptions: 2_000,
        ..quiet()
    });
    let mut bomber = bench.connect("b").go();
    for n in 0..1024u32 {
        let levels: Vec<&str> = (0..10).map(|bit| if n >> bit & 1 == 1 { "a" } else { "+" }).collect();
        bomber.subscribe(&levels.join("/"), 0);
    }
    let p = bench.connect("p").go();
    let mut bytes = Vec::new();
    for n in 0..10 {
        let topic = format!("a/a/a/a/a/a/a/a/a/{n}");
        message(&topic, "x").packet().encode(p.version, &mut bytes);
    }
    bench.drive(|engine, _| engine.set_turn(100));
    let intake = bench.drive(|engine, now| engine.handle_bytes(now, p.id, &bytes));
    assert!(intake.is_cut_short && intake.consumed == bytes.len() / 10, "{intake:?}");
}

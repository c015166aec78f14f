//! Packets that come together in one read, and the one among them that is not like the others.
//!
//! Refuses to know whether they are carried out together; `tests/runs.rs` holds that against the same packets one by one.

use crate::harness::{Bench, Client, message, quiet};
use sealmq_codec::{Ack, Packet, PacketKind, Properties, ReasonCode, Version, write_short_ack};
use sealmq_engine::Limits;
use sealmq_engine::rules::Rules;
use std::ops::RangeInclusive;

/// Messages to "t" with these packet identifiers, which are their payloads too.
fn messages(version: Version, qos: u8, ids: RangeInclusive<u16>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in ids {
        let one = message("t", id.to_string()).qos(qos).id(if qos == 0 { 0 } else { id });
        one.packet().encode(version, &mut bytes);
    }
    bytes
}

fn acks(kind: PacketKind, ids: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in ids {
        write_short_ack(kind, id, &mut bytes);
    }
    bytes
}

/// A receiver of "t" and a publisher that has said its topic before.
fn pair(bench: &Bench, qos: u8) -> (Client, Client) {
    let mut s = bench.connect("s").go();
    s.subscribe("t", qos);
    let mut p = bench.connect("p").go();
    p.say("t", "first");
    s.hears("t", "first");
    (s, p)
}

/// Receive `count` messages; their packet identifiers.
fn receive(s: &Client, count: usize) -> Vec<u16> {
    (0..count).map(|_| s.receive().packet_id).collect()
}

fn numbers(ids: RangeInclusive<u16>) -> Vec<String> {
    ids.map(|id| id.to_string()).collect()
}

#[test]
fn a_burst_arrives_in_order_and_each_is_acknowledged() {
    for qos in 0..=2 {
        let bench = Bench::new();
        let (s, p) = pair(&bench, qos);
        p.raw(&messages(p.version, qos, 1..=50));
        assert_eq!(s.payloads(), numbers(1..=50));
        for id in 1..=50 {
            match qos {
                0 => {}
                1 => p.expect_puback(id, 0),
                _ => p.expect_pubrec(id, 0),
            }
        }
        p.silent();
    }
}

// [MQTT-4.3.3-10] within one read
#[test]
fn an_identifier_that_comes_twice_is_one_message_at_qos_2_and_two_at_qos_1() {
    for (qos, heard) in [(1, vec!["1", "2", "2", "3"]), (2, vec!["1", "2", "3"])] {
        let bench = Bench::new();
        let (s, p) = pair(&bench, qos);
        p.raw(&[messages(p.version, qos, 1..=2), messages(p.version, qos, 2..=3)].concat());
        assert_eq!(s.payloads(), heard);
        assert_eq!(p.all().len(), 4, "each is acknowledged");
    }
}

// [MQTT-3.3.4-7]
#[test]
fn the_quota_ends_within_a_burst() {
    let limits = Limits {
        receive_maximum: 10,
        ..quiet()
    };
    let bench = Bench::with(limits, Rules::dangerous_allow_all());
    let (s, p) = pair(&bench, 2);
    p.raw(&messages(p.version, 2, 1..=11));
    assert_eq!(s.payloads(), numbers(1..=10));
    (1..=10).for_each(|id| p.expect_pubrec(id, 0));
    p.expect_closed(ReasonCode::ReceiveMaximumExceeded);
}

// [MQTT-4.9.0-1]
#[test]
fn the_window_ends_within_a_burst() {
    let bench = Bench::new();
    let mut s = bench.connect("s").receive_maximum(3).go();
    s.subscribe("t", 1);
    let p = bench.connect("p").go();
    p.raw(&messages(p.version, 1, 1..=8));
    let ids = receive(&s, 3);
    s.silent();
    s.raw(&acks(PacketKind::Puback, ids));
    assert_eq!(s.payloads(), numbers(4..=6));
    s.silent();
}

// [MQTT-2.2.1-4]
#[test]
fn identifiers_begin_again_within_a_burst() {
    let bench = Bench::new();
    let (s, p) = pair(&bench, 1);
    let burst = messages(p.version, 1, 1..=1000);
    let mut last = 0;
    for _ in 0..66 {
        p.raw(&burst);
        p.all();
        let ids = receive(&s, 1000);
        for &id in &ids {
            assert_eq!(id, last % u16::MAX + 1);
            last = id;
        }
        s.raw(&acks(PacketKind::Puback, ids));
    }
    assert_eq!(last, 465, "66,000 messages, 65,535 identifiers");
    assert_eq!(bench.drive(|engine, _| engine.gauges().inflight_messages), 0);
}

// [MQTT-4.6.0-6]: what waits for room in flight is not overtaken by what would have it
#[test]
fn a_burst_waits_behind_what_waits() {
    let limits = Limits {
        max_inflight_bytes: 1500,
        ..quiet()
    };
    let bench = Bench::with(limits, Rules::dangerous_allow_all());
    let (s, mut p) = pair(&bench, 1);
    let large = "x".repeat(1000);
    p.publish(message("t", &large).qos(1));
    p.publish(message("t", &large).qos(1));
    let first = s.receive().packet_id;
    p.raw(&messages(p.version, 1, 11..=12));
    s.silent();
    s.puback(first);
    assert_eq!(s.payloads(), [&large, "11", "12"]);
}

#[test]
fn an_identifier_that_nobody_waits_for_leaves_the_others_alone() {
    let bench = Bench::new();
    let (s, p) = pair(&bench, 2);
    p.raw(&messages(p.version, 2, 1..=5));
    let ids = receive(&s, 5);
    s.raw(&acks(PacketKind::Pubrec, [ids[0], ids[1], 999, ids[2], ids[3], ids[4]]));
    for (id, reason) in [
        (ids[0], 0),
        (ids[1], 0),
        (999, 0x92),
        (ids[2], 0),
        (ids[3], 0),
        (ids[4], 0),
    ] {
        s.expect_pubrel(id, reason);
    }
    s.raw(&acks(
        PacketKind::Pubcomp,
        [ids[0], ids[1], 999, ids[4], ids[2], ids[3]],
    ));
    assert_eq!(bench.drive(|engine, _| engine.gauges().inflight_messages), 0);
    (1..=5).for_each(|id| p.expect_pubrec(id, 0));
    p.raw(&acks(PacketKind::Pubrel, [1, 2, 999, 3, 3, 4, 5]));
    for (id, reason) in [(1, 0), (2, 0), (999, 0x92), (3, 0), (3, 0x92), (4, 0), (5, 0)] {
        p.expect_pubcomp(id, reason);
    }
}

// [MQTT-4.4.0-2]: no PUBREL for that one
#[test]
fn a_pubrec_with_a_failure_ends_its_own_exchange_only() {
    let bench = Bench::new();
    let (s, p) = pair(&bench, 2);
    p.raw(&messages(p.version, 2, 1..=4));
    let ids = receive(&s, 4);
    let mut bytes = acks(PacketKind::Pubrec, [ids[0], ids[1]]);
    let failure = Ack {
        packet_id: ids[2],
        reason: ReasonCode::QuotaExceeded as u8,
        properties: Properties::EMPTY,
    };
    Packet::Pubrec(failure).encode(s.version, &mut bytes);
    bytes.extend(acks(PacketKind::Pubrec, [ids[3]]));
    s.raw(&bytes);
    [ids[0], ids[1], ids[3]]
        .into_iter()
        .for_each(|id| s.expect_pubrel(id, 0));
    s.silent();
    assert_eq!(bench.drive(|engine, _| engine.gauges().inflight_messages), 3);
}

/// A PUBREC is no answer to a message at QoS 1, nor a PUBACK to one at QoS 2, nor a PUBCOMP before PUBREC.
#[test]
fn the_wrong_kind_of_answer_ends_nothing() {
    let bench = Bench::new();
    let mut s = bench.connect("s").go();
    s.subscribe("t", 2);
    let p = bench.connect("p").go();
    let inflight = || bench.drive(|engine, _| engine.gauges().inflight_messages);
    for (qos, wrong) in [
        (1, [PacketKind::Pubrec, PacketKind::Pubcomp]),
        (2, [PacketKind::Puback, PacketKind::Pubcomp]),
    ] {
        let before = inflight();
        p.raw(&messages(p.version, qos, 1..=3));
        let ids = receive(&s, 3);
        for kind in wrong {
            s.raw(&acks(kind, ids.clone()));
        }
        assert_eq!(inflight(), before + 3);
        // A PUBREC that answers nothing is told so.
        assert!(
            s.all()
                .iter()
                .all(|packet| matches!(packet, Packet::Pubrel(ack) if ack.reason == 0x92))
        );
    }
}

/// What was remembered of the topic is looked at again when the limits are others.
#[test]
fn a_topic_that_became_too_long_is_refused_in_a_burst_as_well() {
    let bench = Bench::new();
    let (s, p) = pair(&bench, 1);
    p.raw(&messages(p.version, 1, 1..=2));
    (1..=2).for_each(|id| p.expect_puback(id, 0));
    bench.drive(|engine, _| {
        engine.set_limits(Limits {
            max_topic_bytes: 0,
            ..quiet()
        });
    });
    p.raw(&messages(p.version, 1, 3..=4));
    (3..=4).for_each(|id| p.expect_puback(id, ReasonCode::TopicNameInvalid as u8));
    assert_eq!(s.payloads(), numbers(1..=2));
}

/// Nobody is looked at for packets of another topic, nor for a message that came before.
#[test]
fn what_goes_to_nobody_troubles_nobody() {
    let bench = Bench::new();
    let (_s, p) = pair(&bench, 0);
    p.raw(&messages(p.version, 2, 1..=2));
    let mut elsewhere = Vec::new();
    message("u", "x").packet().encode(p.version, &mut elsewhere);
    for bytes in [elsewhere.repeat(3), messages(p.version, 2, 1..=1).repeat(3)] {
        let troubled = bench.drive(|engine, now| {
            engine.handle_bytes(now, p.id, &bytes);
            std::iter::from_fn(|| engine.poll_dirty()).find(|&id| id != p.id)
        });
        assert_eq!(troubled, None);
    }
}

#[test]
fn a_turn_ends_within_a_run() {
    let bench = Bench::new();
    let (s, p) = pair(&bench, 1);
    let all = messages(p.version, 1, 11..=60);
    bench.drive(|engine, now| {
        engine.set_turn(20);
        let intake = engine.handle_bytes(now, p.id, &all);
        // A unit for the packet, one for its delivery.
        assert!(intake.is_cut_short && intake.consumed == all.len() / 5, "{intake:?}");
    });
    let ids = receive(&s, 10);
    s.silent();
    bench.drive(|engine, now| {
        engine.set_turn(7);
        let intake = engine.handle_bytes(now, s.id, &acks(PacketKind::Puback, ids));
        assert!(intake.is_cut_short && intake.consumed == 7 * 4, "{intake:?}");
        engine.set_turn(usize::MAX);
    });
    assert_eq!(bench.drive(|engine, _| engine.gauges().inflight_messages), 3);
}

#[test]
fn who_reads_no_answers_is_ended_within_a_run() {
    let limits = Limits {
        max_outbox_bytes: 100,
        max_packet_size: 200,
        ..quiet()
    };
    let unread = 2 * 100 + 200;
    for kind in [PacketKind::Pubrel, PacketKind::Publish] {
        let bench = Bench::with(limits.clone(), Rules::dangerous_allow_all());
        let (_s, p) = pair(&bench, 0);
        p.all();
        let bytes = if kind == PacketKind::Publish {
            messages(p.version, 2, 1..=500)
        } else {
            for tens in 0..50 {
                p.raw(&messages(p.version, 2, 10 * tens + 1..=10 * tens + 10));
            }
            p.all();
            acks(PacketKind::Pubrel, 1..=500)
        };
        p.stall();
        p.raw(&bytes);
        assert!(p.is_closed());
        // The one that is one too many is still answered, and then it is told why.
        assert_eq!(p.all().len(), unread / 4 + 2, "{kind:?}");
    }
}

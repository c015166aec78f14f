//! QoS 1 and 2 in both directions: once, in order, again after a reconnect.
//!
//! Refuses to know windows and queues; see `flow`.

use crate::harness::{Bench, Client, message};
use sealmq_codec::{Packet, QoS, ReasonCode};

/// A subscriber at `qos` with a session, and a publisher.
fn pair(bench: &Bench, qos: u8) -> (Client, Client) {
    let mut subscriber = bench.connect("s").resume(600).go();
    subscriber.subscribe("t", qos);
    (subscriber, bench.connect("p").go())
}

// [MQTT-2.2.1-5], [MQTT-3.3.4-1], [MQTT-4.3.1-1], [MQTT-4.3.2-2], [MQTT-4.3.2-4], [MQTT-4.3.3-2], [MQTT-4.3.3-8],
// [MQTT-4.3.3-11]: each QoS answered its own way
#[test]
fn each_qos_has_its_answer() {
    let bench = Bench::new();
    let (subscriber, mut p) = pair(&bench, 2);
    p.publish(message("t", "0"));
    p.silent();
    p.publish(message("t", "1").qos(1).id(11));
    p.expect_puback(11, 0);
    p.publish(message("t", "2").qos(2).id(12));
    p.expect_pubrec(12, 0);
    p.pubrel(12);
    p.expect_pubcomp(12, 0);
    let received: Vec<(QoS, u16)> = (0..3)
        .map(|_| subscriber.receive())
        .inspect(|m| assert!(!m.dup))
        .map(|m| (m.qos, m.packet_id))
        .collect();
    assert_eq!(
        received,
        [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 2)]
    );
}

// [MQTT-3.8.4-8]: the lower of both QoS
#[test]
fn a_message_arrives_at_the_lower_qos() {
    for sent in 0..3 {
        for granted in 0..3 {
            let bench = Bench::new();
            let (subscriber, mut p) = pair(&bench, granted);
            p.publish(message("t", "x").qos(sent));
            assert_eq!(subscriber.receive().qos as u8, sent.min(granted));
        }
    }
}

// [MQTT-4.3.3-10], [MQTT-4.3.3-12]: the same identifier before PUBREL is the same message
#[test]
fn a_repeated_qos_2_publish_is_delivered_once() {
    let bench = Bench::new();
    let (subscriber, mut p) = pair(&bench, 0);
    for dup in [message("t", "x"), message("t", "x").dup(), message("t", "x").dup()] {
        p.publish(dup.qos(2).id(7));
        p.expect_pubrec(7, 0);
    }
    assert_eq!(subscriber.payloads(), ["x"]);
    p.pubrel(7);
    p.expect_pubcomp(7, 0);
    p.publish(message("t", "y").qos(2).id(7));
    assert_eq!(subscriber.payloads(), ["y"], "after PUBREL the identifier is free");
}

// [MQTT-4.3.3-10] across a reconnect: the session remembers
#[test]
fn a_qos_2_publish_repeated_after_a_reconnect_is_delivered_once() {
    let bench = Bench::new();
    let (subscriber, _) = pair(&bench, 0);
    for dial in [bench.connect("p2").resume(60), bench.connect("p3").v311().clean(false)] {
        let mut p = dial.go();
        p.publish(message("t", "x").qos(2).id(7));
        p.expect_pubrec(7, 0);
        p.vanish();
        let again = if p.version == sealmq_codec::Version::V5 {
            bench.connect("p2").resume(60)
        } else {
            bench.connect("p3").v311().clean(false)
        };
        let mut p = again.go();
        p.publish(message("t", "x").qos(2).id(7).dup());
        p.expect_pubrec(7, 0);
        p.pubrel(7);
        p.expect_pubcomp(7, 0);
        assert_eq!(subscriber.payloads(), ["x"]);
    }
}

// Section 3.7.2.1, 0x92: PUBREL for nothing
#[test]
fn an_unknown_identifier_is_named_in_5_0_only() {
    let bench = Bench::new();
    let (p, old) = (bench.connect("p").go(), bench.connect("old").v311().go());
    p.pubrel(99);
    p.expect_pubcomp(99, ReasonCode::PacketIdentifierNotFound as u8);
    p.pubrec(99);
    p.expect_pubrel(99, ReasonCode::PacketIdentifierNotFound as u8);
    old.pubrel(99);
    old.expect_pubcomp(99, 0);
    p.puback(99);
    p.pubcomp(99);
    p.silent();
    assert!(!p.is_closed());
}

// Section 3.4.2.1: 0x10 when nobody subscribed, 5.0 only
#[test]
fn nobody_subscribed_is_told() {
    let bench = Bench::new();
    let (mut p, mut old) = (bench.connect("p").go(), bench.connect("old").v311().go());
    p.publish(message("t", "x").qos(1).id(1));
    p.expect_puback(1, ReasonCode::NoMatchingSubscribers as u8);
    p.publish(message("t", "x").qos(2).id(2));
    p.expect_pubrec(2, ReasonCode::NoMatchingSubscribers as u8);
    p.pubrel(2);
    p.expect_pubcomp(2, 0);
    old.publish(message("t", "x").qos(1).id(1));
    old.expect_puback(1, 0);
}

// [MQTT-3.3.1-1], [MQTT-4.3.2-3], [MQTT-4.3.3-3], [MQTT-4.3.3-5], [MQTT-4.4.0-1]: again, same identifiers, same order,
// DUP; new ones after them
#[test]
fn what_was_not_acknowledged_comes_again_in_order() {
    let bench = Bench::new();
    let (s, mut p) = pair(&bench, 2);
    for (text, qos) in [("1", 1), ("2", 2), ("3", 1), ("4", 2)] {
        p.publish(message("t", text).qos(qos));
    }
    let ids: Vec<u16> = (0..4).map(|_| s.receive().packet_id).collect();
    s.puback(ids[2]);
    s.pubrec(ids[3]);
    s.expect_pubrel(ids[3], 0);
    s.vanish();
    p.publish(message("t", "5").qos(1));
    let s = bench.connect("s").resume(600).go();
    for (text, at) in [("1", 0), ("2", 1)] {
        let again = s.hears("t", text);
        assert_eq!((again.dup, again.packet_id), (true, ids[at]));
    }
    s.expect_pubrel(ids[3], 0);
    let new = s.hears("t", "5");
    assert!(!new.dup && !ids[..2].contains(&new.packet_id) && new.packet_id != ids[3]);
    s.silent();
}

// [MQTT-4.4.0-1]: only after a reconnect, never on the same connection
#[test]
fn nothing_is_repeated_on_a_living_connection() {
    let bench = Bench::new();
    let (s, mut p) = pair(&bench, 1);
    p.publish(message("t", "x").qos(1));
    s.receive();
    bench.advance(3_600_000);
    s.silent();
}

// [MQTT-4.3.3-4], [MQTT-4.3.3-5], [MQTT-4.3.3-6]: PUBREL until PUBCOMP
#[test]
fn a_pubrel_is_repeated_until_pubcomp() {
    let bench = Bench::new();
    let (s, mut p) = pair(&bench, 2);
    p.publish(message("t", "x").qos(2));
    let id = s.receive().packet_id;
    s.pubrec(id);
    s.expect_pubrel(id, 0);
    s.vanish();
    let s = bench.connect("s").resume(600).go();
    s.expect_pubrel(id, 0);
    s.pubcomp(id);
    s.vanish();
    let s = bench.connect("s").resume(600).go();
    s.silent();
    assert_eq!(bench.drive(|e, _| e.gauges().inflight_messages), 0);
}

// [MQTT-4.4.0-2]: a PUBACK or PUBREC of 0x80 or more ends the delivery
#[test]
fn a_failing_acknowledgement_ends_the_delivery() {
    let bench = Bench::new();
    let (s, mut p) = pair(&bench, 2);
    p.publish(message("t", "x").qos(1));
    p.publish(message("t", "x").qos(2));
    s.puback_failing(s.receive().packet_id, ReasonCode::QuotaExceeded);
    s.pubrec_failing(s.receive().packet_id, ReasonCode::QuotaExceeded);
    s.silent();
    s.vanish();
    bench.connect("s").resume(600).go().silent();
    assert_eq!(bench.drive(|e, _| e.gauges().inflight_messages), 0);
}

// [MQTT-4.3.3-7]: what has been sent is finished, expired or not
#[test]
fn an_expiry_does_not_count_once_the_message_was_sent() {
    let bench = Bench::new();
    let (s, mut p) = pair(&bench, 2);
    p.publish(message("t", "x").qos(2).expiry(5));
    let id = s.receive().packet_id;
    s.vanish();
    bench.advance(10_000);
    let s = bench.connect("s").resume(600).go();
    assert_eq!(s.hears("t", "x").packet_id, id);
    s.pubrec(id);
    s.expect_pubrel(id, 0);
    s.pubcomp(id);
    s.silent();
}

// [MQTT-4.3.3-13]: also for a message that expired before PUBREL
#[test]
fn an_exchange_is_finished_for_a_message_that_expired() {
    let bench = Bench::new();
    let (s, _) = pair(&bench, 2);
    s.vanish();
    let mut p = bench.connect("p").resume(60).go();
    p.publish(message("t", "x").qos(2).id(3).expiry(5));
    p.expect_pubrec(3, 0);
    bench.advance(10_000);
    p.publish(message("t", "x").qos(2).id(3).expiry(5).dup());
    p.expect_pubrec(3, 0);
    p.pubrel(3);
    p.expect_pubcomp(3, 0);
    bench.connect("s").resume(600).go().silent();
}

// [MQTT-2.2.1-4], [MQTT-4.3.2-1], [MQTT-4.3.3-1]; [MQTT-2.3.1-4] of 3.1.1: all identifiers once around
#[test]
fn an_identifier_in_use_is_not_given_again() {
    for qos in [1, 2] {
        let bench = Bench::new();
        let (s, mut p) = pair(&bench, qos);
        p.publish(message("t", "open").qos(qos).id(1));
        let open = s.hears("t", "open").packet_id;
        for n in 0..65_600u32 {
            p.publish(message("t", n.to_string()).qos(qos).id(1));
            p.pubrel(1);
            p.all();
            for packet in s.all() {
                let Packet::Publish(m) = packet else { continue };
                assert!(m.packet_id != 0 && m.packet_id != open, "message {n}");
                s.puback(m.packet_id);
                s.pubrec(m.packet_id);
                s.pubcomp(m.packet_id);
            }
        }
        s.puback(open);
        s.pubrec(open);
        s.pubcomp(open);
        assert!(!s.all().is_empty(), "what waited for the identifier goes out");
    }
}

// [MQTT-4.6.0-5], [MQTT-4.6.0-6]: the order of publication is the order of arrival
#[test]
fn order_is_kept_for_each_topic_and_qos() {
    let bench = Bench::new();
    let (s, mut p) = pair(&bench, 1);
    let mut slow = bench.connect("slow").receive_maximum(3).go();
    slow.subscribe("t", 1);
    for n in 0..50 {
        p.publish(message("t", n.to_string()).qos(1));
    }
    let expected: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(s.payloads(), expected);
    for text in &expected {
        slow.puback(slow.hears("t", text).packet_id);
    }
}

// [MQTT-4.3.2-5]: QoS 1 is at least once: the same identifier again is a new message
#[test]
fn a_repeated_qos_1_publish_is_a_new_message() {
    let bench = Bench::new();
    let (s, mut p) = pair(&bench, 1);
    p.publish(message("t", "x").qos(1).id(1));
    p.publish(message("t", "x").qos(1).id(1).dup());
    // [MQTT-3.3.1-3]: the DUP flag does not travel
    assert!(!s.receive().dup && !s.receive().dup);
}

//! MQTT 3.1.1 by itself: subscriptions and the exchanges of QoS 1 and 2, shown by its own clients alone.
//!
//! Refuses to know what 5.0 changed; that stands with the other scenarios.

use crate::harness::{Bench, Client, filter, message};
use sealmq_codec::QoS;

fn clean(bench: &Bench, id: &str) -> Client {
    bench.connect(id).v311().go()
}

fn kept(bench: &Bench, id: &str) -> Client {
    bench.connect(id).v311().clean(false).go()
}

fn pair(bench: &Bench, qos: u8) -> (Client, Client) {
    let mut subscriber = kept(bench, "s");
    subscriber.subscribe("t", qos);
    (subscriber, clean(bench, "p"))
}

// [MQTT-2.3.1-6], [MQTT-3.3.4-1], [MQTT-4.3.1-1], [MQTT-4.3.2-2], [MQTT-4.3.3-2], [MQTT-3.3.1-3] of 3.1.1
#[test]
fn each_qos_is_received_its_own_way() {
    let bench = Bench::new();
    let (s, mut p) = pair(&bench, 0);
    p.publish(message("t", "0"));
    p.silent();
    for dup in [message("t", "1"), message("t", "1").dup()] {
        p.publish(dup.qos(1).id(11));
        p.expect_puback(11, 0);
    }
    for dup in [message("t", "2"), message("t", "2").dup()] {
        p.publish(dup.qos(2).id(12));
        p.expect_pubrec(12, 0);
    }
    p.pubrel(12);
    p.expect_pubcomp(12, 0);
    p.publish(message("t", "3").qos(2).id(12));
    p.expect_pubrec(12, 0);
    let heard: Vec<_> = s.all();
    let texts = ["0", "1", "1", "2", "3"];
    assert_eq!(heard.len(), texts.len());
    for (packet, text) in heard.iter().zip(texts) {
        let sealmq_codec::Packet::Publish(m) = packet else {
            panic!("{packet:?}")
        };
        assert_eq!((m.payload, m.dup, m.qos), (text.as_bytes(), false, QoS::AtMostOnce));
    }
}

// [MQTT-2.3.1-4], [MQTT-3.3.1-1], [MQTT-4.3.2-1], [MQTT-4.3.3-1], [MQTT-4.4.0-1] of 3.1.1
#[test]
fn what_is_unacknowledged_comes_again_after_a_reconnect() {
    let bench = Bench::new();
    let (s, mut p) = pair(&bench, 2);
    for (text, qos) in [("1", 1), ("2", 2), ("3", 2), ("4", 1)] {
        p.publish(message("t", text).qos(qos));
    }
    let first: Vec<_> = (0..4).map(|_| s.receive()).collect();
    assert!(first.iter().all(|m| !m.dup && m.packet_id != 0));
    let ids: Vec<u16> = first.iter().map(|m| m.packet_id).collect();
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 4);
    s.pubrec(ids[2]);
    s.expect_pubrel(ids[2], 0);
    s.puback(ids[3]);
    bench.advance(3_600_000);
    s.silent();
    s.vanish();
    let s = kept(&bench, "s");
    for (text, id) in [("1", ids[0]), ("2", ids[1])] {
        let again = s.hears("t", text);
        assert_eq!((again.dup, again.packet_id), (true, id));
    }
    s.expect_pubrel(ids[2], 0);
    s.silent();
    s.puback(ids[0]);
    s.pubrec(ids[1]);
    s.expect_pubrel(ids[1], 0);
    s.pubcomp(ids[1]);
    s.pubcomp(ids[2]);
    s.vanish();
    kept(&bench, "s").silent();
}

// [MQTT-4.6.0-5], [MQTT-4.6.0-6] of 3.1.1
#[test]
fn messages_arrive_in_the_order_they_came() {
    let bench = Bench::new();
    for qos in 0..3 {
        let (s, mut p) = pair(&bench, qos);
        let expected: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        for text in &expected {
            p.publish(message("t", text).qos(qos));
        }
        assert_eq!(s.payloads(), expected);
        s.vanish();
        clean(&bench, "s");
    }
}

// [MQTT-2.3.1-7], [MQTT-3.8.4-2] of 3.1.1: the bench compares the identifiers
// [MQTT-3.8.4-1], [MQTT-3.8.4-4], [MQTT-3.8.4-5], [MQTT-3.8.4-6], [MQTT-3.9.3-1] of 3.1.1
#[test]
fn a_subscription_is_granted_and_answered_at_its_qos() {
    let bench = Bench::new();
    let mut s = clean(&bench, "s");
    assert_eq!(
        s.subscribe_all(
            0,
            &[filter("q/2", 2), filter("#/q", 1), filter("q/0", 0), filter("q/1", 1)]
        ),
        [2, 0x80, 0, 1]
    );
    let mut p = clean(&bench, "p");
    for granted in 0..3u8 {
        for sent in 0..3 {
            p.publish(message(&format!("q/{granted}"), "x").qos(sent));
            assert_eq!(s.receive().qos as u8, sent.min(granted));
        }
    }
}

// [MQTT-3.8.4-3] of 3.1.1
#[test]
fn subscribing_again_replaces_and_brings_retained_messages_again() {
    let bench = Bench::new();
    let (mut s, mut p) = (clean(&bench, "s"), clean(&bench, "p"));
    p.publish(message("t", "kept").qos(1).retain());
    s.subscribe("t", 1);
    assert!(s.hears("t", "kept").retain);
    p.publish(message("t", "under way").qos(1));
    s.ask(0, &[filter("t", 0)]);
    let first = s.hears("t", "under way");
    assert!(matches!(s.next(), sealmq_codec::Packet::Suback(answer) if answer.codes == [0]));
    assert!(s.hears("t", "kept").retain);
    s.puback(first.packet_id);
    p.publish(message("t", "after").qos(1));
    assert_eq!(s.hears("t", "after").qos, QoS::AtMostOnce);
    s.silent();
}

// [MQTT-3.3.5-1] of 3.1.1
#[test]
fn overlaps_bring_the_highest_qos() {
    let bench = Bench::new();
    let mut s = clean(&bench, "s");
    s.subscribe_all(0, &[filter("a/#", 0), filter("a/+", 2), filter("a/b", 1)]);
    clean(&bench, "p").publish(message("a/b", "x").qos(2));
    assert_eq!(s.receive().qos, QoS::ExactlyOnce);
    s.silent();
}

// [MQTT-3.10.4-1], [MQTT-3.10.4-2], [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-3.10.4-6] of 3.1.1
#[test]
fn unsubscribing_ends_exactly_what_it_names() {
    let bench = Bench::new();
    let (mut s, mut p) = (clean(&bench, "s"), clean(&bench, "p"));
    s.subscribe_all(0, &[filter("a/+", 0), filter("b", 0), filter("c", 0)]);
    assert_eq!(s.unsubscribe(&["a/b", "A/+", "nothing"]).codes, []);
    p.say("a/b", "still");
    s.hears("a/b", "still");
    s.unsubscribe(&["a/+", "c"]);
    for topic in ["a/b", "c", "b"] {
        p.say(topic, "x");
    }
    s.hears("b", "x");
    s.silent();
}

// [MQTT-3.10.4-3] of 3.1.1
#[test]
fn what_was_under_way_is_completed_after_unsubscribing() {
    let bench = Bench::new();
    let (mut s, mut p) = pair(&bench, 2);
    p.publish(message("t", "x").qos(2));
    let id = s.receive().packet_id;
    s.unsubscribe(&["t"]);
    s.vanish();
    let s = kept(&bench, "s");
    assert_eq!(s.hears("t", "x").packet_id, id);
    s.pubrec(id);
    s.expect_pubrel(id, 0);
    s.pubcomp(id);
    assert_eq!(bench.drive(|e, _| e.gauges().inflight_messages), 0);
}

//! SUBSCRIBE and UNSUBSCRIBE: wildcards, identifiers, overlaps, no local, the codes in their order.
//!
//! Refuses to know retained messages and shared subscriptions.

use crate::harness::{Bench, filter, message, quiet};
use sealmq_codec::{Packet, Property, Publish, QoS, ReasonCode, SubscribeOptions, Subscription};
use sealmq_engine::Limits;
use sealmq_engine::rules::Rules;

fn identifiers(publish: &Publish<'_>) -> Vec<u32> {
    let identifier = |p| match p {
        Property::SubscriptionIdentifier(id) => Some(id),
        _ => None,
    };
    publish.properties.iter().filter_map(identifier).collect()
}

fn no_local(text: &str, qos: QoS) -> Subscription<'_> {
    let options = SubscribeOptions {
        no_local: true,
        ..SubscribeOptions::plain(qos)
    };
    Subscription { filter: text, options }
}

// [MQTT-1.5.4-3]; [MQTT-1.5.3-3] of 3.1.1; [MQTT-3.3.2-3], [MQTT-4.7.2-1], [MQTT-4.7.3-4] of both: the examples of
// section 4.7
#[test]
fn wildcards_match_as_section_4_7_says() {
    for (text, topic, expected) in [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("#", "a/b/c", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$other/x", false),
        ("+/x", "$other/x", false),
        ("$other/#", "$other/x", true),
        ("a//b", "a//b", true),
        ("a/+/b", "a//b", true),
        ("Accounts", "ACCOUNTS", false),
        ("caf\u{e9}", "cafe\u{301}", false),
        ("a", "\u{feff}a", false),
    ] {
        let bench = Bench::new();
        let (mut s, mut old) = (bench.connect("s").go(), bench.connect("old").v311().go());
        s.subscribe(text, 0);
        old.subscribe(text, 0);
        bench.connect("p").go().say(topic, "x");
        for client in [s, old] {
            let heard: Vec<_> = client
                .all()
                .iter()
                .map(|m| matches!(m, Packet::Publish(m) if m.topic == topic))
                .collect();
            assert_eq!(heard, vec![true; usize::from(expected)], "{text} against {topic}");
        }
    }
}

// [MQTT-3.8.4-1], [MQTT-3.8.4-5], [MQTT-3.8.4-6], [MQTT-3.8.4-7], [MQTT-3.9.3-1]; [MQTT-3.8.4-5], [MQTT-3.9.3-1] of
// 3.1.1: one code a filter, in order
// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1]; [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.3-1] of 3.1.1: and those
// that are none
#[test]
fn suback_has_a_code_for_each_filter_in_order() {
    let bench = Bench::new();
    let filters = [
        filter("a", 2),
        filter("a/#/b", 1),
        filter("b", 0),
        filter("c+", 1),
        filter("+/c", 1),
        filter("", 0),
    ];
    let invalid = ReasonCode::TopicFilterInvalid as u8;
    let mut s = bench.connect("s").go();
    assert_eq!(s.subscribe_all(0, &filters), [2, invalid, 0, invalid, 1, invalid]);
    let mut old = bench.connect("old").v311().go();
    // [MQTT-3.9.3-2] of 3.1.1: 0x80 is the only failure
    assert_eq!(old.subscribe_all(0, &filters), [2, 0x80, 0, 0x80, 1, 0x80]);
    assert_eq!(bench.drive(|e, _| e.gauges().subscriptions), 6);
}

// [MQTT-3.8.4-3]: the same filter again replaces the subscription
#[test]
fn subscribing_again_replaces() {
    let bench = Bench::new();
    let mut s = bench.connect("s").go();
    s.subscribe_all(1, &[filter("t", 2)]);
    s.subscribe_all(2, &[filter("t", 0)]);
    bench.connect("p").go().publish(message("t", "x").qos(2));
    let received = s.receive();
    assert_eq!((received.qos, identifiers(&received)), (QoS::AtMostOnce, vec![2]));
    s.silent();
    // without an identifier the old one goes too
    s.subscribe("t", 0);
    bench.connect("p").go().say("t", "y");
    assert_eq!(identifiers(&s.receive()), []);
}

// [MQTT-3.8.4-4]: what is on its way stays on it
#[test]
fn replacing_a_subscription_loses_nothing() {
    let bench = Bench::new();
    let mut s = bench.connect("s").receive_maximum(1).go();
    s.subscribe("t", 1);
    let mut p = bench.connect("p").go();
    p.publish(message("t", "sent").qos(1));
    p.publish(message("t", "waiting").qos(1));
    let sent = s.hears("t", "sent");
    s.subscribe("t", 2);
    p.publish(message("t", "after").qos(1));
    s.puback(sent.packet_id);
    s.puback(s.hears("t", "waiting").packet_id);
    s.hears("t", "after");
}

// [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4]: overlapping subscriptions
#[test]
fn overlaps_bring_one_message_at_the_highest_qos_with_all_identifiers() {
    let bench = Bench::new();
    let mut s = bench.connect("s").go();
    s.subscribe_all(1, &[filter("a/#", 0)]);
    s.subscribe_all(268_435_455, &[filter("a/+", 2)]);
    s.subscribe_all(3, &[filter("a/b", 1)]);
    s.subscribe_all(0, &[filter("#", 0)]);
    bench.connect("p").go().publish(message("a/b", "x").qos(2));
    let received = s.receive();
    let mut all = identifiers(&received);
    all.sort_unstable();
    assert_eq!((received.qos, all), (QoS::ExactlyOnce, vec![1, 3, 268_435_455]));
    s.silent();
}

// The identifiers stay with a message that waits
#[test]
fn identifiers_survive_the_queue() {
    let bench = Bench::new();
    let mut s = bench.connect("s").resume(60).go();
    s.subscribe_all(9, &[filter("t", 1)]);
    s.vanish();
    bench.connect("p").go().publish(message("t", "x").qos(1));
    let s = bench.connect("s").resume(60).go();
    assert_eq!(identifiers(&s.receive()), [9]);
    s.vanish();
    let s = bench.connect("s").resume(60).go();
    assert_eq!(identifiers(&s.receive()), [9], "again, with DUP");
}

// [MQTT-3.8.3-3]: no local
#[test]
fn no_local_keeps_own_messages_away() {
    let bench = Bench::new();
    let (mut a, mut b) = (bench.connect("a").go(), bench.connect("b").go());
    a.subscribe_all(0, &[no_local("t", QoS::AtLeastOnce)]);
    b.subscribe("t", 1);
    a.publish(message("t", "mine").qos(1).id(1));
    a.expect_puback(1, 0);
    a.silent();
    b.hears("t", "mine");
    b.say("t", "yours");
    a.hears("t", "yours");
    // nobody but the publisher itself: nobody
    a.subscribe_all(0, &[no_local("alone", QoS::AtLeastOnce)]);
    a.publish(message("alone", "x").qos(1).id(2));
    a.expect_puback(2, ReasonCode::NoMatchingSubscribers as u8);
}

// [MQTT-3.8.3-3] with an overlap: only the subscription that wants local messages counts
#[test]
fn no_local_does_not_speak_for_overlapping_subscriptions() {
    let bench = Bench::new();
    let mut a = bench.connect("a").go();
    a.subscribe_all(1, &[no_local("t", QoS::ExactlyOnce)]);
    a.subscribe_all(2, &[filter("#", 0)]);
    a.say("t", "mine");
    assert_eq!(identifiers(&a.hears("t", "mine")), [2]);
    bench.connect("b").go().publish(message("t", "yours").qos(2));
    let yours = a.hears("t", "yours");
    let mut both = identifiers(&yours);
    both.sort_unstable();
    assert_eq!((yours.qos, both), (QoS::ExactlyOnce, vec![1, 2]));
}

// [MQTT-3.10.4-1], [MQTT-3.10.4-2], [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-3.10.4-6], [MQTT-3.11.3-1], [MQTT-3.11.3-2]
#[test]
fn unsuback_has_a_code_for_each_filter_in_order() {
    let bench = Bench::new();
    let mut s = bench.connect("s").go();
    s.subscribe_all(0, &[filter("a/#", 0), filter("b", 0)]);
    let unsuback = s.unsubscribe(&["b", "a/b", "a/#", "x/#/y"]);
    let (none, invalid) = (
        ReasonCode::NoSubscriptionExisted as u8,
        ReasonCode::TopicFilterInvalid as u8,
    );
    assert_eq!(unsuback.codes, [0, none, 0, invalid]);
    bench.connect("p").go().say("a/b", "x");
    s.silent();
    let mut old = bench.connect("old").v311().go();
    // [MQTT-3.10.4-5] of 3.1.1: UNSUBACK even when nothing matched, and no payload
    assert_eq!(old.unsubscribe(&["nothing"]).codes, []);
}

// [MQTT-3.10.4-3]: what is in flight already is completed
#[test]
fn unsubscribing_does_not_recall_what_was_sent() {
    let bench = Bench::new();
    let mut s = bench.connect("s").go();
    s.subscribe("t", 2);
    bench.connect("p").go().publish(message("t", "x").qos(2));
    let id = s.receive().packet_id;
    s.unsubscribe(&["t"]);
    s.pubrec(id);
    s.expect_pubrel(id, 0);
    s.pubcomp(id);
    assert_eq!(
        bench.drive(|e, _| (e.gauges().subscriptions, e.gauges().inflight_messages)),
        (0, 0)
    );
}

// [MQTT-3.1.2-24]: nor is half of it told
#[test]
fn an_answer_that_does_not_fit_ends_the_connection() {
    let bench = Bench::new();
    let names: Vec<String> = (0..60).map(|n| format!("t/{n}")).collect();
    let filters: Vec<_> = names.iter().map(|name| filter(name, 0)).collect();
    for ask in [true, false] {
        let mut s = bench.connect("s").max_packet(60).go();
        assert_eq!(s.subscribe_all(0, &filters[..50]).len(), 50);
        if ask {
            s.ask(0, &filters);
        } else {
            s.ask_to_end(&names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        s.expect_closed(ReasonCode::PacketTooLarge);
    }
}

// Section 3.9.3, 0x97
#[test]
fn a_session_has_a_bounded_number_of_subscriptions() {
    let limits = Limits {
        max_subscriptions: 2,
        ..quiet()
    };
    let bench = Bench::with(limits, Rules::dangerous_allow_all());
    let mut s = bench.connect("s").go();
    let quota = ReasonCode::QuotaExceeded as u8;
    assert_eq!(
        s.subscribe_all(0, &[filter("a", 0), filter("b", 0), filter("c", 0)]),
        [0, 0, quota]
    );
    assert_eq!(
        s.subscribe_all(0, &[filter("a", 1)]),
        [1],
        "replacing is always possible"
    );
    s.unsubscribe(&["a"]);
    assert_eq!(s.subscribe_all(0, &[filter("c", 1)]), [1]);
}

// Topics as deep as the limit, and not a level deeper
#[test]
fn levels_are_bounded() {
    let limits = Limits {
        max_topic_levels: 3,
        ..quiet()
    };
    let bench = Bench::with(limits, Rules::dangerous_allow_all());
    let mut s = bench.connect("s").go();
    let invalid = ReasonCode::TopicFilterInvalid as u8;
    assert_eq!(
        s.subscribe_all(0, &[filter("a/b/c", 1), filter("a/b/c/d", 1)]),
        [1, invalid]
    );
    s.publish(message("a/b/c", "x").qos(1).id(1));
    s.hears("a/b/c", "x");
    s.expect_puback(1, 0);
    s.publish(message("a/b/c/d", "x").qos(1).id(2));
    s.expect_puback(2, ReasonCode::TopicNameInvalid as u8);
    let deep = bench.connect("w").will("a/b/c/d", "x").dial();
    assert_eq!(deep.err().unwrap().reason, ReasonCode::TopicNameInvalid);
}

//! MQTT 3.1.1 by itself: CONNECT, sessions, wills and retained messages, shown by its own clients alone.
//!
//! Refuses to know what 5.0 changed; that stands with the other scenarios.

use crate::harness::{Bench, Client, Message, message, quiet};
use sealmq_codec::ReasonCode;
use sealmq_engine::Limits;
use sealmq_engine::rules::Rules;

fn clean(bench: &Bench, id: &str) -> Client {
    bench.connect(id).v311().go()
}

fn kept(bench: &Bench, id: &str) -> Client {
    bench.connect(id).v311().clean(false).go()
}

fn publish(bench: &Bench, message: Message) {
    clean(bench, "publisher").publish(message);
}

// [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.1.3-2], [MQTT-3.2.2-2], [MQTT-3.2.2-3], [MQTT-4.1.0-1], [MQTT-4.5.0-1] of 3.1.1
#[test]
fn clean_session_0_finds_its_subscriptions_and_what_came_meanwhile() {
    let bench = Bench::new();
    let mut a = kept(&bench, "a");
    assert!(!a.connack.session_present);
    a.subscribe("t", 2);
    a.vanish();
    for qos in 0..3 {
        publish(&bench, message("t", qos.to_string()).qos(qos));
    }
    assert!(
        !kept(&bench, "b").connack.session_present,
        "the session is that of its client identifier"
    );
    let a = kept(&bench, "a");
    assert!(a.connack.session_present);
    assert_eq!(a.payloads(), ["1", "2"], "QoS 0 does not wait");
    publish(&bench, message("t", "now"));
    a.hears("t", "now");
}

// [MQTT-3.1.2-6], [MQTT-3.1.4-3], [MQTT-3.2.2-1] of 3.1.1
#[test]
fn clean_session_1_begins_with_nothing_and_leaves_nothing() {
    let bench = Bench::new();
    let mut a = kept(&bench, "a");
    a.subscribe("before", 1);
    a.vanish();
    let mut a = clean(&bench, "a");
    assert!(!a.connack.session_present);
    a.subscribe("during", 1);
    publish(&bench, message("before", "x").qos(1));
    a.silent();
    a.vanish();
    let a = kept(&bench, "a");
    assert!(!a.connack.session_present);
    publish(&bench, message("during", "x").qos(1));
    a.silent();
}

// [MQTT-4.1.0-2] of 3.1.1
#[test]
fn a_session_lasts_as_long_as_its_connection() {
    let limits = Limits {
        max_session_expiry_s: 10,
        ..quiet()
    };
    let bench = Bench::with(limits, Rules::dangerous_allow_all());
    let (mut a, mut b) = (clean(&bench, "a"), kept(&bench, "b"));
    a.subscribe("t", 1);
    b.subscribe("t", 1);
    bench.advance(7 * 24 * 3_600_000);
    publish(&bench, message("t", "x").qos(1));
    a.hears("t", "x");
    b.hears("t", "x");
}

// [MQTT-3.1.2-8], [MQTT-3.1.2-10], [MQTT-3.1.2-12], [MQTT-3.1.2-16], [MQTT-3.1.2-17] of 3.1.1
#[test]
fn a_will_is_published_once_when_the_connection_breaks() {
    let bench = Bench::new();
    let mut listener = clean(&bench, "listener");
    listener.subscribe("will/#", 1);
    clean(&bench, "nothing").vanish();
    listener.silent();
    for session in [true, false] {
        let a = bench.connect("a").v311().clean(session).will("will/a", "gone").go();
        listener.silent();
        a.vanish();
        assert!(!listener.hears("will/a", "gone").retain);
    }
    // It went with its publication: the session that comes back and breaks off again has none.
    kept(&bench, "a").vanish();
    listener.silent();
    let mut late = clean(&bench, "late");
    late.subscribe("will/#", 1);
    late.silent();
    let b = bench.connect("b").v311().will("will/b", "kept").will_retained().go();
    b.vanish();
    late.hears("will/b", "kept");
    let mut later = clean(&bench, "later");
    later.subscribe("will/#", 1);
    assert!(later.hears("will/b", "kept").retain);
}

// [MQTT-3.1.2-7], [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-8], [MQTT-3.3.1-9] of 3.1.1
#[test]
fn a_retained_message_is_no_part_of_a_session() {
    let bench = Bench::new();
    let mut early = clean(&bench, "early");
    early.subscribe("r/+", 2);
    publish(&bench, message("r/1", "one").qos(1).retain());
    publish(&bench, message("r/2", "two").qos(2).retain());
    bench.advance(1_000_000);
    for (topic, text) in [("r/1", "one"), ("r/2", "two")] {
        assert!(!early.hears(topic, text).retain, "the subscription was there before");
    }
    let mut s = clean(&bench, "s");
    s.subscribe("r/+", 2);
    let mut both = [s.receive(), s.receive()];
    both.sort_by_key(|m| m.topic);
    assert_eq!(
        both.map(|m| (m.payload, m.retain, m.qos as u8)),
        [(b"one".as_slice(), true, 1), (b"two".as_slice(), true, 2)]
    );
}

// [MQTT-3.3.1-7], [MQTT-3.3.1-10], [MQTT-3.3.1-11], [MQTT-3.3.1-12] of 3.1.1
#[test]
fn what_replaces_and_removes_a_retained_message() {
    let bench = Bench::new();
    let mut early = clean(&bench, "early");
    early.subscribe("r", 1);
    publish(&bench, message("r", "first").qos(1).retain());
    publish(&bench, message("r", "second").retain());
    publish(&bench, message("r", "passing"));
    let mut s = clean(&bench, "s");
    s.subscribe("r", 1);
    assert_eq!(s.payloads(), ["second"]);
    publish(&bench, message("r", "").qos(1).retain());
    assert_eq!(early.payloads(), ["first", "second", "passing", ""]);
    let mut late = clean(&bench, "late");
    late.subscribe("r", 1);
    late.silent();
    publish(&bench, message("r", "passing again"));
    late.hears("r", "passing again");
    assert_eq!(bench.drive(|e, _| e.gauges().retained_messages), 0);
}

// [MQTT-3.1.3-6] of 3.1.1: two without a name are two clients
#[test]
fn an_empty_client_id_is_replaced_by_a_unique_one() {
    let bench = Bench::new();
    let nameless = || bench.connect("").v311().device(Some("d")).go();
    let (mut one, mut two) = (nameless(), nameless());
    one.subscribe("t", 0);
    two.subscribe("t", 0);
    publish(&bench, message("t", "x"));
    one.hears("t", "x");
    two.hears("t", "x");
}

// [MQTT-3.1.3-5] of both
#[test]
fn client_ids_of_23_letters_and_digits_are_allowed() {
    let bench = Bench::new();
    for id in [
        "0",
        "0123456789abcdefghijklm",
        "nopqrstuvwxyzABCDEFGHIJ",
        "KLMNOPQRSTUVWXYZ",
    ] {
        let (old, new) = (bench.connect(id).v311().go(), bench.connect(id).v5().go());
        assert!(old.is_closed() && !new.is_closed(), "the same name in both versions");
    }
}

// [MQTT-3.2.2-6] of 3.1.1: none of the five return codes says it
#[test]
fn a_refusal_without_a_return_code_is_not_answered() {
    let limits = Limits {
        max_topic_levels: 2,
        ..quiet()
    };
    let bench = Bench::with(limits, Rules::dangerous_allow_all());
    let refusal = |dial: crate::harness::Dial| dial.will("a/b/c", "x").dial().err().expect("a refusal");
    let old = refusal(bench.connect("a").v311());
    assert_eq!((old.reason, old.bytes.len()), (ReasonCode::TopicNameInvalid, 0));
    assert!(!refusal(bench.connect("a")).bytes.is_empty(), "5.0 has a code for it");
}

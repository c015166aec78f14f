//! Retained messages: kept, replaced, cleared, sent to those who come later.
//!
//! Refuses to know wills, which are retained the same way.

use crate::harness::{Bench, Client, filter, message, quiet};
use sealmq_codec::{Property, QoS, ReasonCode, RetainHandling, SubscribeOptions, Subscription};
use sealmq_engine::Limits;
use sealmq_engine::rules::Rules;

fn keep(bench: &Bench, topic: &str, payload: &str) {
    bench.connect("keeper").go().publish(message(topic, payload).retain());
}

fn with_handling(s: &mut Client, retain_handling: RetainHandling) {
    let options = SubscribeOptions {
        retain_handling,
        ..SubscribeOptions::plain(QoS::AtLeastOnce)
    };
    let subscription = Subscription { filter: "r/#", options };
    assert_eq!(s.subscribe_all(0, &[subscription]), [1]);
}

// [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-7], [MQTT-3.3.1-8]
#[test]
fn the_last_retained_message_is_kept_until_an_empty_one() {
    let bench = Bench::new();
    keep(&bench, "r/a", "old");
    keep(&bench, "r/a", "new");
    keep(&bench, "r/b", "b");
    bench.connect("p").go().say("r/a", "not retained");
    let mut s = bench.connect("s").go();
    s.subscribe("r/+", 1);
    let mut first = [s.receive(), s.receive()];
    first.sort_by_key(|m| m.topic);
    assert_eq!(
        first.map(|m| (m.topic, m.payload, m.retain)),
        [("r/a", b"new".as_slice(), true), ("r/b", b"b".as_slice(), true)]
    );
    keep(&bench, "r/a", "");
    assert_eq!(s.payloads(), [""], "the empty message goes to who listens");
    let mut late = bench.connect("late").go();
    late.subscribe("r/a", 0);
    late.silent();
    assert_eq!(bench.drive(|e, _| e.gauges().retained_messages), 1);
}

// [MQTT-3.3.1-12], [MQTT-3.3.1-13]; [MQTT-3.3.1-9] of 3.1.1: the flag on messages that pass by
#[test]
fn retain_as_published_keeps_the_flag() {
    let bench = Bench::new();
    let (mut plain, mut keeps) = (bench.connect("plain").go(), bench.connect("keeps").go());
    let mut old = bench.connect("old").v311().go();
    plain.subscribe("r/#", 0);
    old.subscribe("r/#", 0);
    let options = SubscribeOptions {
        retain_as_published: true,
        ..SubscribeOptions::plain(QoS::AtMostOnce)
    };
    keeps.subscribe_all(0, &[Subscription { filter: "r/#", options }]);
    keep(&bench, "r/a", "x");
    bench.connect("p").go().say("r/a", "y");
    for (client, flags) in [
        (&plain, [false, false]),
        (&old, [false, false]),
        (&keeps, [true, false]),
    ] {
        assert_eq!([client.receive().retain, client.receive().retain], flags);
    }
}

// [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11], [MQTT-3.8.4-4]: retain handling 0, 1, 2
#[test]
fn retain_handling_decides_what_a_subscription_brings() {
    let bench = Bench::new();
    keep(&bench, "r/a", "x");
    for (handling, first, second) in [
        (RetainHandling::SendAlways, 1, 1),
        (RetainHandling::SendIfNew, 1, 0),
        (RetainHandling::DoNotSend, 0, 0),
    ] {
        let mut s = bench.connect("s").go();
        with_handling(&mut s, handling);
        assert_eq!(s.payloads().len(), first, "{handling:?}, new");
        with_handling(&mut s, handling);
        assert_eq!(s.payloads().len(), second, "{handling:?}, again");
    }
}

// [MQTT-3.3.1-10]: a subscription that a resumed session holds already is not new
#[test]
fn a_subscription_survives_as_an_old_one() {
    let bench = Bench::new();
    keep(&bench, "r/a", "x");
    let mut s = bench.connect("s").resume(60).go();
    with_handling(&mut s, RetainHandling::DoNotSend);
    s.vanish();
    let mut s = bench.connect("s").resume(60).go();
    with_handling(&mut s, RetainHandling::SendIfNew);
    s.silent();
}

// [MQTT-3.8.4-8] for retained messages; the SUBACK first
#[test]
fn a_retained_message_comes_at_the_lower_qos() {
    let bench = Bench::new();
    let mut p = bench.connect("p").go();
    p.publish(message("r/1", "x").qos(1).retain());
    p.publish(message("r/2", "x").qos(2).retain());
    let mut s = bench.connect("s").go();
    s.subscribe("r/1", 2);
    assert_eq!(s.receive().qos, QoS::AtLeastOnce);
    s.subscribe("r/2", 1);
    assert_eq!(s.receive().qos, QoS::AtLeastOnce);
}

// Section 3.3.2.3.3: retained messages expire
#[test]
fn a_retained_message_expires() {
    let bench = Bench::new();
    bench.connect("p").go().publish(message("r/a", "x").retain().expiry(10));
    bench.advance(4_000);
    let mut s = bench.connect("s").go();
    s.subscribe("r/a", 0);
    assert_eq!(
        s.receive().properties.iter().collect::<Vec<_>>(),
        [Property::MessageExpiry(6)]
    );
    bench.advance(6_000);
    s.subscribe("r/a", 0);
    s.silent();
    // and its place is free after a while, with $SYS off as here
    bench.advance(60_000);
    assert_eq!(bench.drive(|e, _| e.gauges().retained_messages), 0);
}

// [MQTT-4.7.2-1]: wildcards in front do not bring $-topics
#[test]
fn wildcards_do_not_bring_what_starts_with_a_dollar() {
    let bench = Bench::new();
    keep(&bench, "$inner/a", "hidden");
    keep(&bench, "plain/a", "seen");
    let mut s = bench.connect("s").go();
    s.subscribe_all(0, &[filter("#", 0), filter("+/a", 0), filter("$inner/#", 0)]);
    assert_eq!(s.payloads(), ["seen", "seen", "hidden"]);
}

// The subscription identifier of the subscription that brought it
#[test]
fn a_retained_message_names_its_subscription() {
    let bench = Bench::new();
    keep(&bench, "r/a", "x");
    let mut s = bench.connect("s").go();
    s.subscribe_all(5, &[filter("r/a", 0)]);
    assert_eq!(
        s.receive().properties.iter().collect::<Vec<_>>(),
        [Property::SubscriptionIdentifier(5)]
    );
}

// Section 3.4.2.1, 0x97: the budget; replacing and clearing still work
#[test]
fn a_full_store_refuses_new_topics_only() {
    let limits = Limits {
        max_retained_messages: 1,
        ..quiet()
    };
    let bench = Bench::with(limits, Rules::dangerous_allow_all());
    let mut p = bench.connect("p").go();
    p.publish(message("r/a", "x").qos(1).retain().id(1));
    p.expect_puback(1, ReasonCode::NoMatchingSubscribers as u8);
    p.publish(message("r/b", "x").qos(1).retain().id(2));
    p.expect_puback(2, ReasonCode::QuotaExceeded as u8);
    p.publish(message("r/a", "y").qos(1).retain().id(3));
    p.expect_puback(3, ReasonCode::NoMatchingSubscribers as u8);
    p.publish(message("r/a", "").qos(1).retain().id(4));
    p.expect_puback(4, ReasonCode::NoMatchingSubscribers as u8);
    p.publish(message("r/b", "x").qos(1).retain().id(5));
    p.expect_puback(5, ReasonCode::NoMatchingSubscribers as u8);
}

// Section 4.7.2: the broker's own tree
#[test]
fn sys_says_who_is_here() {
    let bench = Bench::with(Limits::default(), Rules::dangerous_allow_all());
    let mut s = bench.connect("s").go();
    s.subscribe("$SYS/broker/version", 0);
    s.hears("$SYS/broker/version", "sealmq test");
    bench.advance(10_000);
    s.subscribe("$SYS/broker/clients/connected", 0);
    assert!(s.hears("$SYS/broker/clients/connected", "1").retain);
    bench.connect("t").go();
    bench.advance(10_000);
    assert!(!s.hears("$SYS/broker/clients/connected", "2").retain);
    s.subscribe("#", 0);
    s.silent();
}

// $SYS may be turned on and off while the broker runs
#[test]
fn sys_follows_the_limits() {
    let bench = Bench::new();
    let mut s = bench.connect("s").go();
    s.subscribe("$SYS/broker/uptime", 0);
    bench.advance(120_000);
    s.silent();
    bench.drive(|e, _| e.set_limits(Limits::default()));
    bench.advance(60_000);
    assert_eq!(s.payloads(), ["180 seconds"]);
    bench.drive(|e, _| e.set_limits(quiet()));
    bench.advance(60_000);
    s.silent();
}

//! Wills: when they are published, when they are not, and what they look like.
//!
//! Refuses to know rules about who may leave which will; see `rules`.

use crate::harness::{Bench, Client};
use sealmq_codec::{Packet, Properties, Property, PropertyBuf, QoS, ReasonCode};

fn listener(bench: &Bench) -> Client {
    let mut listener = bench.connect("listener").go();
    listener.subscribe("will/#", 1);
    listener
}

// [MQTT-3.1.2-7], [MQTT-3.1.2-8], [MQTT-3.1.2-14]: the network failed, the keep-alive ran out, the client broke the protocol
#[test]
fn a_will_is_published_when_the_connection_ends_badly() {
    let endings: [fn(&Bench, &Client); 4] = [
        |_, client| client.vanish(),
        |bench, _| bench.advance(15_000),
        |_, client| client.raw(&[0xff, 0x00]),
        |bench, _| {
            bench.drive(|e, now| e.disconnect_device(now, "a", ReasonCode::AdministrativeAction, "out"));
        },
    ];
    for end in endings {
        let bench = Bench::new();
        let listener = listener(&bench);
        let a = bench.connect("a").keep_alive(10).will("will/a", "gone").go();
        listener.silent();
        end(&bench, &a);
        let will = listener.hears("will/a", "gone");
        assert_eq!((will.qos, will.retain), (QoS::AtLeastOnce, false));
        listener.silent();
    }
}

// [MQTT-3.1.2-10], [MQTT-3.14.4-3] of both: DISCONNECT 0x00 deletes it
#[test]
fn a_normal_disconnect_deletes_the_will() {
    let bench = Bench::new();
    let listener = listener(&bench);
    for dial in [
        bench.connect("a").v5(),
        bench.connect("a").v311(),
        bench.connect("a").v5().resume(60),
    ] {
        dial.will("will/a", "gone").go().disconnect();
    }
    bench.advance(100_000);
    listener.silent();
}

// Section 3.14.2.1, reason 0x04
#[test]
fn disconnect_with_will_publishes_it() {
    let bench = Bench::new();
    let listener = listener(&bench);
    let a = bench.connect("a").will("will/a", "gone").go();
    a.disconnect_with(ReasonCode::DisconnectWithWill, Properties::EMPTY);
    listener.hears("will/a", "gone");
}

// Section 3.1.3.2.2: after the delay
#[test]
fn a_delayed_will_waits() {
    let bench = Bench::new();
    let listener = listener(&bench);
    bench
        .connect("a")
        .resume(60)
        .will("will/a", "gone")
        .will_delay(10)
        .go()
        .vanish();
    bench.advance(9_999);
    listener.silent();
    bench.advance(1);
    listener.hears("will/a", "gone");
    bench.advance(100_000);
    listener.silent();
}

// [MQTT-3.1.3-9]: a new connection to the session before the delay is over
#[test]
fn coming_back_cancels_a_delayed_will() {
    let bench = Bench::new();
    let listener = listener(&bench);
    bench
        .connect("a")
        .resume(60)
        .will("will/a", "gone")
        .will_delay(10)
        .go()
        .vanish();
    bench.advance(5_000);
    bench.connect("a").resume(60).go();
    bench.advance(20_000);
    listener.silent();
}

// Section 3.1.3.2.2: the end of the session is the latest moment
#[test]
fn the_end_of_the_session_does_not_wait_for_the_delay() {
    let bench = Bench::new();
    let listener = listener(&bench);
    bench
        .connect("a")
        .resume(5)
        .will("will/a", "expiry")
        .will_delay(100)
        .go()
        .vanish();
    bench.advance(5_000);
    listener.hears("will/a", "expiry");
    bench
        .connect("b")
        .will("will/b", "no session left")
        .will_delay(100)
        .go()
        .vanish();
    listener.hears("will/b", "no session left");
    bench
        .connect("c")
        .resume(60)
        .will("will/c", "clean start")
        .will_delay(100)
        .go()
        .vanish();
    bench.connect("c").clean(true).go();
    listener.hears("will/c", "clean start");
    bench.advance(200_000);
    listener.silent();
}

// Section 3.1.4: a takeover closes the old connection; without a delay its will goes out
#[test]
fn a_takeover_publishes_a_will_without_delay_only() {
    let bench = Bench::new();
    let listener = listener(&bench);
    bench.connect("a").resume(60).will("will/a", "at once").go();
    bench.connect("a").resume(60).will("will/a", "later").will_delay(5).go();
    listener.hears("will/a", "at once");
    bench.connect("a").resume(60).go();
    bench.advance(60_000);
    listener.silent();
}

// Section 3.14.2.2.2 with 3.1.3.2.2: DISCONNECT 0x04 that ends the session publishes now
#[test]
fn ending_the_session_in_disconnect_publishes_a_delayed_will_now() {
    let bench = Bench::new();
    let listener = listener(&bench);
    let a = bench.connect("a").resume(60).will("will/a", "gone").will_delay(30).go();
    let mut properties = PropertyBuf::new();
    properties.push(Property::SessionExpiry(0));
    a.disconnect_with(ReasonCode::DisconnectWithWill, properties.as_properties());
    listener.hears("will/a", "gone");
}

// [MQTT-3.1.2-15]: the will's retain flag
#[test]
fn a_retained_will_stays() {
    let bench = Bench::new();
    bench
        .connect("a")
        .will("will/a", "offline")
        .will_retained()
        .go()
        .vanish();
    let listener = listener(&bench);
    assert!(listener.hears("will/a", "offline").retain);
}

// [MQTT-3.1.3-10], section 3.1.3.2: properties of the will travel, the delay does not; the expiry counts from publication
#[test]
fn properties_of_a_will_travel() {
    let bench = Bench::new();
    let listener = listener(&bench);
    let properties = [
        Property::UserProperty("k", "1"),
        Property::WillDelay(10),
        Property::ContentType("text/plain"),
        Property::MessageExpiry(20),
        Property::UserProperty("k", "2"),
        Property::ResponseTopic("re/a"),
        Property::CorrelationData(b"c"),
    ];
    let mut dial = bench.connect("a").resume(60).will("will/a", "gone");
    for property in properties {
        dial = dial.will_property(property);
    }
    dial.go().vanish();
    bench.advance(10_000);
    let received: Vec<Property<'_>> = listener.receive().properties.iter().collect();
    let travelled: Vec<Property<'_>> = received.iter().copied().filter(|p| !is_expiry(p)).collect();
    let sent: Vec<Property<'_>> = properties
        .into_iter()
        .filter(|p| !is_expiry(p) && !matches!(p, Property::WillDelay(_)))
        .collect();
    assert_eq!(travelled, sent);
    assert!(received.contains(&Property::MessageExpiry(20)), "{received:?}");
}

fn is_expiry(property: &Property<'_>) -> bool {
    matches!(property, Property::MessageExpiry(_))
}

// A will delivered to its own session: the client hears it after coming back
#[test]
fn a_will_may_reach_the_session_that_left_it() {
    let bench = Bench::new();
    let mut a = bench.connect("a").resume(60).will("will/a", "gone").go();
    a.subscribe("will/a", 1);
    a.vanish();
    let a = bench.connect("a").resume(60).go();
    a.hears("will/a", "gone");
    a.send(&Packet::Pingreq);
    a.expect(&Packet::Pingresp);
}

// Section 3.1.3.2.2: it says when the will is sent, and is no property of the message; also when it says at once
#[test]
fn a_delay_that_is_written_out_as_0_does_not_travel() {
    let bench = Bench::new();
    let mut hears = bench.connect("hears").go();
    hears.subscribe("gone", 1);
    let dies = bench.connect("dies").will("gone", "x").will_delay(0).go();
    dies.vanish();
    assert!(hears.hears("gone", "x").properties.is_empty());
}

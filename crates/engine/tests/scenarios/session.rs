//! Sessions between connections: takeover, clean start, expiry, keep-alive, the end by an operator.
//!
//! Refuses to know what wills do; see `will`.

use crate::harness::{Bench, message, quiet};
use sealmq_codec::{Packet, Property, PropertyBuf, ReasonCode};
use sealmq_engine::Limits;
use sealmq_engine::rules::Rules;

// [MQTT-3.1.4-3]; [MQTT-3.1.4-2] of 3.1.1: the same client identifier again
#[test]
fn a_newer_connection_takes_over() {
    let bench = Bench::new();
    let old = bench.connect("a").resume(60).go();
    let older = bench.connect("b").v311().go();
    let new = bench.connect("a").resume(60).go();
    old.expect_closed(ReasonCode::SessionTakenOver);
    assert!(new.connack.session_present);
    bench.connect("b").v311().go();
    older.expect_closed(ReasonCode::SessionTakenOver);
    assert_eq!(
        bench.drive(|e, _| (e.counters().takeovers, e.gauges().connections)),
        (2, 2)
    );
}

// [MQTT-3.1.4-4]: clean start on takeover leaves nothing behind
#[test]
fn a_takeover_with_clean_start_begins_afresh() {
    let bench = Bench::new();
    let mut old = bench.connect("a").resume(60).go();
    old.subscribe("t", 1);
    let new = bench.connect("a").clean(true).expiry(60).go();
    assert!(!new.connack.session_present);
    bench.connect("p").go().say("t", "gone");
    new.silent();
    assert_eq!(bench.drive(|e, _| e.gauges().subscriptions), 0);
}

// A takeover moves what waited: nothing is lost, nothing arrives at the old connection
#[test]
fn what_was_in_flight_moves_to_the_new_connection() {
    let bench = Bench::new();
    let mut old = bench.connect("a").resume(60).go();
    old.subscribe("t", 1);
    bench.connect("p").go().publish(message("t", "x").qos(1));
    old.hears("t", "x");
    let new = bench.connect("a").resume(60).go();
    old.expect_closed(ReasonCode::SessionTakenOver);
    assert!(new.hears("t", "x").dup);
}

// [MQTT-3.1.2-5], [MQTT-3.1.2-6], [MQTT-3.1.2-23], [MQTT-3.1.3-2], [MQTT-3.2.2-3], [MQTT-4.5.0-1]
#[test]
fn a_session_is_resumed_and_said_to_be() {
    let bench = Bench::new();
    let mut a = bench.connect("a").resume(60).go();
    assert!(!a.connack.session_present);
    a.subscribe("t", 1);
    a.disconnect();
    bench.connect("p").go().publish(message("t", "while away").qos(1));
    let a = bench.connect("a").resume(60).go();
    assert!(a.connack.session_present);
    a.hears("t", "while away");
}

// [MQTT-3.1.2-4], [MQTT-3.1.4-4], [MQTT-3.2.2-2]
#[test]
fn clean_start_forgets() {
    let bench = Bench::new();
    let mut a = bench.connect("a").resume(60).go();
    a.subscribe("t", 1);
    a.vanish();
    let a = bench.connect("a").clean(true).expiry(60).go();
    assert!(!a.connack.session_present);
    bench.connect("p").go().publish(message("t", "x").qos(1));
    a.silent();
}

// [MQTT-3.1.2-6] of 3.1.1: a clean session does not outlive its connection; section 3.1.2.11.2 of 5.0: expiry absent is 0
#[test]
fn a_session_without_expiry_ends_with_its_connection() {
    let bench = Bench::new();
    for dial in [
        bench.connect("a").clean(false),
        bench.connect("a").v311().clean(true),
        bench.connect("a").resume(0),
    ] {
        let mut a = dial.go();
        a.subscribe("t", 1);
        a.disconnect();
        assert_eq!(
            bench.drive(|e, _| (e.gauges().sessions, e.gauges().subscriptions)),
            (0, 0)
        );
    }
}

// [MQTT-3.1.2-23], [MQTT-4.1.0-2]: the interval counts from the end of the connection
#[test]
fn a_session_expires_after_its_interval() {
    let bench = Bench::new();
    let connect = || bench.connect("a").resume(10).go();
    connect().vanish();
    bench.advance(9_999);
    let again = connect();
    assert!(again.connack.session_present);
    // an interval that began before does not count
    bench.advance(60_000);
    again.vanish();
    bench.advance(10_000);
    assert!(!connect().connack.session_present);
    assert_eq!(bench.drive(|e, _| e.counters().sessions_expired), 1);
}

// [MQTT-4.1.0-1]: time does not count while the connection is open
#[test]
fn a_session_stays_while_its_connection_does() {
    let bench = Bench::new();
    let mut a = bench.connect("a").expiry(0).go();
    let mut b = bench.connect("b").resume(1).go();
    a.subscribe("t", 1);
    b.subscribe("t", 1);
    bench.advance(24 * 3_600_000);
    bench.connect("p").go().publish(message("t", "x").qos(1));
    a.hears("t", "x");
    b.hears("t", "x");
}

#[test]
fn a_session_of_3_1_1_lives_as_long_as_the_limit_says() {
    let limits = Limits {
        max_session_expiry_s: 100,
        ..quiet()
    };
    let bench = Bench::with(limits, Rules::dangerous_allow_all());
    bench.connect("a").v311().clean(false).go().disconnect();
    bench.advance(99_000);
    let again = bench.connect("a").v311().clean(false).go();
    assert!(again.connack.session_present);
    again.vanish();
    bench.advance(100_000);
    assert_eq!(bench.drive(|e, _| e.gauges().sessions), 0);
}

// Section 3.14.2.2.2: DISCONNECT may change the expiry
#[test]
fn disconnect_may_shorten_or_end_the_session() {
    let bench = Bench::new();
    for (seconds, survives_ms) in [(0, 0), (5, 4_000)] {
        let a = bench.connect("a").clean(true).expiry(60).go();
        let mut properties = PropertyBuf::new();
        properties.push(Property::SessionExpiry(seconds));
        a.disconnect_with(ReasonCode::Success, properties.as_properties());
        let sessions = || bench.drive(|e, _| e.gauges().sessions);
        bench.advance(survives_ms);
        assert_eq!(sessions(), u64::from(survives_ms > 0));
        bench.advance(1_000);
        assert_eq!(sessions(), 0);
    }
}

// Section 3.14.2.2.2: but not from zero to something
#[test]
fn disconnect_may_not_prolong_what_connect_did_not_ask_for() {
    let bench = Bench::new();
    let a = bench.connect("a").go();
    let mut properties = PropertyBuf::new();
    properties.push(Property::SessionExpiry(60));
    a.disconnect_with(ReasonCode::Success, properties.as_properties());
    a.expect_closed(ReasonCode::ProtocolError);
}

// [MQTT-3.1.2-22], [MQTT-3.2.2-22]; [MQTT-3.1.2-24] of 3.1.1: one and a half times the interval, from the last packet
#[test]
fn silence_ends_a_connection() {
    let bench = Bench::new();
    let (a, b) = (
        bench.connect("a").keep_alive(10).go(),
        bench.connect("b").v311().keep_alive(10).go(),
    );
    let forever = bench.connect("c").keep_alive(0).go();
    bench.advance(14_000);
    a.send(&Packet::Pingreq);
    a.expect(&Packet::Pingresp);
    bench.advance(1_000);
    assert!(!a.is_closed());
    b.expect_closed(ReasonCode::KeepAliveTimeout);
    bench.advance(13_999);
    assert!(!a.is_closed());
    bench.advance(1);
    a.expect_closed(ReasonCode::KeepAliveTimeout);
    bench.advance(1_000_000);
    assert!(!forever.is_closed());
    assert_eq!(bench.endings(), ["keep-alive-timeout"; 2]);
}

// Section 3.2.2.3.14: the server's keep-alive is the one that counts
#[test]
fn the_keep_alive_of_the_limit_replaces_the_clients() {
    let limits = Limits {
        max_keep_alive_s: 20,
        ..quiet()
    };
    let bench = Bench::with(limits, Rules::dangerous_allow_all());
    let a = bench.connect("a").keep_alive(0).go();
    bench.advance(29_999);
    assert!(!a.is_closed());
    bench.advance(1);
    a.expect_closed(ReasonCode::KeepAliveTimeout);
}

// Half a packet is no sign of life
#[test]
fn a_trickle_does_not_keep_a_connection_alive() {
    let bench = Bench::new();
    let a = bench.connect("a").keep_alive(10).go();
    for _ in 0..3 {
        bench.advance(5_000);
        a.raw(&[0x30]);
    }
    a.expect_closed(ReasonCode::KeepAliveTimeout);
}

#[test]
fn an_operator_ends_the_connections_of_one_device() {
    let bench = Bench::new();
    let (one, two) = (bench.connect("a").resume(60).go(), bench.connect("a:2").v311().go());
    let other = bench.connect("b").go();
    let reason = ReasonCode::AdministrativeAction;
    let count = bench.drive(|e, now| e.disconnect_device(now, "a", reason, "certificate revoked"));
    assert_eq!(count, 2);
    assert_eq!(one.expect_closed(reason), Some("certificate revoked"));
    two.expect_closed(reason);
    assert!(!other.is_closed());
    assert_eq!(bench.drive(|e, now| e.disconnect_device(now, "a", reason, "again")), 0);
}

// Section 4.13.2, reason 0x8B
#[test]
fn shutting_down_says_so_and_keeps_sessions() {
    let bench = Bench::new();
    let (a, b) = (bench.connect("a").resume(60).go(), bench.connect("b").v311().go());
    bench.drive(|e, now| e.shut_down(now));
    a.expect_closed(ReasonCode::ServerShuttingDown);
    b.expect_closed(ReasonCode::ServerShuttingDown);
    assert_eq!(
        bench.drive(|e, _| (e.gauges().connections, e.gauges().sessions)),
        (0, 1)
    );
}

// A session belongs to an identity: the same client identifier from another device finds nothing of it
#[test]
fn another_device_does_not_inherit_a_session() {
    let bench = Bench::new();
    let mut a = bench
        .connect("shared-name")
        .device(Some("a"))
        .any_client_id()
        .resume(60)
        .go();
    a.subscribe("secret", 1);
    a.vanish();
    bench.connect("p").go().publish(message("secret", "for a only").qos(1));
    let b = bench
        .connect("shared-name")
        .device(Some("b"))
        .any_client_id()
        .resume(60)
        .go();
    assert!(!b.connack.session_present);
    b.silent();
    let device = bench
        .drive(|e, _| e.sessions())
        .into_iter()
        .find(|s| &*s.client_id == "shared-name");
    assert_eq!(device.unwrap().device.as_deref(), Some("b"));
}

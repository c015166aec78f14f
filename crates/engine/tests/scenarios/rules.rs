//! Denials: who is told what, what is recorded, and what a change of the rules does.
//!
//! Refuses to know how rules are written; see the rules' own tests.

use crate::harness::{Bench, Client, allowing, filter, message, quiet, rule};
use sealmq_codec::{Packet, Property, ReasonCode, Version};
use sealmq_engine::rules::{Action, Effect, Rules};
use sealmq_engine::{Event, Limits};

const DENIED: u8 = ReasonCode::NotAuthorized as u8;

fn bench() -> Bench {
    Bench::with(quiet(), allowing(&["devices/{id}/#", "shared/#"]))
}

fn reason_string(packet: &Packet<'_>) -> Option<String> {
    let properties = match packet {
        Packet::Puback(ack) | Packet::Pubrec(ack) => ack.properties,
        Packet::Suback(suback) => suback.properties,
        _ => panic!("{packet:?} carries no reason"),
    };
    properties.iter().find_map(|p| match p {
        Property::ReasonString(text) => Some(text.to_string()),
        _ => None,
    })
}

// Sections 3.4.2.1 and 3.5.2.1, 0x87
#[test]
fn a_denied_publish_is_told_why() {
    let bench = bench();
    let mut spy = bench.connect("b").go();
    spy.subscribe("devices/b/#", 1);
    bench.events();
    let mut a = bench.connect("a").go();
    for qos in 0..3 {
        a.publish(message("devices/b/up", "x").qos(qos).retain());
    }
    let answers = a.all();
    assert!(matches!(answers[0], Packet::Puback(ack) if ack.reason == DENIED));
    assert!(matches!(answers[1], Packet::Pubrec(ack) if ack.reason == DENIED));
    for answer in &answers {
        assert_eq!(
            reason_string(answer).as_deref(),
            Some("no rule allows publish on devices/b/up")
        );
    }
    assert_eq!(answers.len(), 2, "nothing is said at QoS 0");
    spy.silent();
    assert_eq!(
        bench.drive(|e, _| (e.counters().publishes_denied, e.gauges().retained_messages)),
        (3, 0)
    );
    let denied = |e| matches!(e, Event::Denied { action: Action::Publish, topic, .. } if topic == "devices/b/up");
    assert_eq!(
        bench.events().into_iter().filter(|e| denied(e.clone())).count(),
        1,
        "one record a second"
    );
}

// [MQTT-3.3.5-2] of 3.1.1: acknowledged as if nothing were wrong, and gone
#[test]
fn a_denied_publish_of_3_1_1_is_acknowledged() {
    let bench = bench();
    let mut a = bench.connect("a").v311().go();
    a.publish(message("devices/b/up", "x").qos(1).id(1));
    a.expect_puback(1, 0);
    a.publish(message("devices/b/up", "x").qos(2).id(2));
    a.expect_pubrec(2, 0);
    a.pubrel(2);
    a.expect_pubcomp(2, 0);
    assert!(!a.is_closed());
}

// [MQTT-4.3.3-9]: what was refused has not been received
#[test]
fn the_identifier_of_a_denied_publish_is_free() {
    let bench = bench();
    let mut spy = bench.connect("b").go();
    spy.subscribe("shared/#", 2);
    let mut a = bench.connect("a").go();
    a.publish(message("devices/b/up", "x").qos(2).id(7));
    a.expect_pubrec(7, DENIED);
    a.publish(message("shared/x", "allowed").qos(2).id(7));
    a.expect_pubrec(7, 0);
    spy.hears("shared/x", "allowed");
}

// [MQTT-3.1.2-29]: a client that wants no problem information gets no reason strings in acknowledgements
#[test]
fn reason_strings_stay_away_from_who_does_not_want_them() {
    let bench = bench();
    for dial in [
        bench.connect("a").property(Property::RequestProblemInformation(0)),
        // [MQTT-3.4.2-2], [MQTT-3.5.2-2], [MQTT-3.9.2-1]: nor from who has no room for them
        bench.connect("a").max_packet(20),
    ] {
        let mut a = dial.go();
        a.publish(message("no", "x").qos(1));
        a.publish(message("no", "x").qos(2));
        a.ask(0, &[filter("no", 0)]);
        let answers = a.all();
        assert_eq!(answers.len(), 3);
        for packet in answers {
            assert_eq!(reason_string(&packet), None);
        }
    }
}

// [MQTT-3.8.4-5], [MQTT-3.8.4-7], section 3.9.3, 0x87
#[test]
fn a_denied_subscription_is_one_code_among_others() {
    let bench = bench();
    let mut a = bench.connect("a").go();
    let filters = [
        filter("devices/a/#", 1),
        filter("#", 1),
        filter("devices/+/up", 1),
        filter("$share/g/devices/b/x", 1),
    ];
    a.ask(0, &filters);
    let answer = a.next();
    assert!(matches!(answer, Packet::Suback(s) if s.codes == [1, DENIED, DENIED, DENIED]));
    assert_eq!(reason_string(&answer).as_deref(), Some("no rule allows subscribe on #"));
    let mut old = bench.connect("old").v311().go();
    assert_eq!(old.subscribe_all(0, &filters[1..]), [0x80; 3]);
}

#[test]
fn a_denying_rule_is_named() {
    let rules = Rules::new(vec![
        rule("no-secrets", Effect::Deny, "shared/secret/#"),
        rule("shared", Effect::Allow, "shared/#"),
    ]);
    let bench = Bench::with(quiet(), rules.unwrap());
    let mut a = bench.connect("a").go();
    a.publish(message("shared/secret/x", "x").qos(1));
    assert_eq!(
        reason_string(&a.next()).as_deref(),
        Some("rule no-secrets denies publish on shared/secret/x")
    );
    // a filter that would see what is denied is denied as a whole
    assert_eq!(
        a.subscribe_all(0, &[filter("shared/#", 0), filter("shared/open", 0)]),
        [DENIED, 0]
    );
}

// Section 3.1.4: a will nobody may leave is refused with the CONNECT
#[test]
fn a_denied_will_refuses_the_connect() {
    let bench = bench();
    let refusal = bench.connect("a").will("devices/b/up", "x").dial().err().unwrap();
    assert_eq!(
        (refusal.reason, refusal.cause),
        (ReasonCode::NotAuthorized, "will-not-authorized")
    );
    assert!(refusal.summary.contains("devices/b/up") && !refusal.mend.is_empty());
    assert!(bench.connect("a").will("devices/a/up", "x").dial().is_ok());
    assert_eq!(bench.drive(|e, _| e.gauges().sessions), 1);
}

// $SYS is the broker's, whatever a rule says
#[test]
fn nobody_publishes_to_sys() {
    for dial in [
        Bench::new().connect("a"),
        Bench::with(quiet(), allowing(&["$SYS/#"])).connect("a"),
    ] {
        let mut a = dial.go();
        a.publish(message("$SYS/broker/version", "mine").qos(1).id(1));
        assert!(matches!(a.next(), Packet::Puback(ack) if ack.reason == DENIED));
    }
}

fn heard(bench: &Bench, client: &Client, topic: &str) -> bool {
    bench.connect("p").go().say(topic, "x");
    client.all().len() == 1
}

#[test]
fn new_rules_end_subscriptions_and_permits_at_once() {
    let bench = Bench::with(quiet(), allowing(&["#"]));
    let mut a = bench.connect("a").go();
    a.subscribe_all(0, &[filter("x/#", 0), filter("y/#", 0), filter("$share/g/x/#", 0)]);
    a.publish(message("x/1", "x").qos(1));
    a.all();
    bench.drive(|e, _| e.set_rules(allowing(&["y/#"])));
    a.publish(message("x/1", "x").qos(1).id(9));
    assert!(
        matches!(a.next(), Packet::Puback(ack) if ack.reason == DENIED),
        "not the remembered answer"
    );
    assert!(heard(&bench, &a, "y/1"));
    assert_eq!(bench.drive(|e, _| e.gauges().subscriptions), 1);
    bench.drive(|e, _| e.set_rules(allowing(&["#"])));
    assert!(!heard(&bench, &a, "x/1"), "what ended does not come back by itself");
}

// Retained messages that a subscription is still owed end with it
#[test]
fn new_rules_end_what_a_subscription_is_still_owed() {
    let limits = Limits {
        max_outbox_bytes: 4096,
        ..quiet()
    };
    let bench = Bench::with(limits, allowing(&["#"]));
    let mut p = bench.connect("p").go();
    for number in 0..2000 {
        p.publish(message(&format!("x/{number}"), [b'x'; 200]).retain());
    }
    let mut a = bench.connect("a").go();
    a.stall();
    a.ask(0, &[filter("x/#", 0)]);
    bench.drive(|e, _| e.set_rules(allowing(&["y/#"])));
    a.read_again();
    let mut came = 0;
    for _ in 0..100 {
        bench.advance(1);
        came += a.all().len();
    }
    assert!(came > 0, "nothing was owed, so nothing is shown");
    assert!(came < 1000, "{came} packets came of what the rules had taken away");
}

// A session that is away loses what its device may no longer hear
#[test]
fn new_rules_reach_sessions_that_are_away() {
    let bench = Bench::with(quiet(), allowing(&["#"]));
    let mut a = bench.connect("a").resume(60).go();
    a.subscribe_all(0, &[filter("x/#", 1), filter("y/#", 1)]);
    a.vanish();
    bench.drive(|e, _| e.set_rules(allowing(&["y/#", "x/{id}/#"])));
    let mut p = bench.connect("p").go();
    p.publish(message("x/p/1", "no longer").qos(1));
    p.publish(message("y/1", "still").qos(1));
    let a = bench.connect("a").resume(60).go();
    assert_eq!(a.payloads(), ["still"]);
}

// Rules decide by the identity, not by the client identifier
#[test]
fn a_second_client_of_a_device_has_the_rights_of_the_device() {
    let bench = bench();
    for version in [Version::V5, Version::V311] {
        let dial = bench.connect("a:phone");
        let mut phone = if version == Version::V5 {
            dial.go()
        } else {
            dial.v311().go()
        };
        phone.subscribe("devices/a/#", 0);
        phone.say("devices/a/x", "hello");
        phone.hears("devices/a/x", "hello");
    }
}

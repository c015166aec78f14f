//! An acknowledgement means that the record is safe: a log whose watermark the test moves.
//!
//! Refuses to know disks.

use crate::harness::{Bench, Client, HandLog, allowing, message, quiet};
use sealmq_codec::{Packet, ReasonCode};
use sealmq_engine::Limits;
use sealmq_engine::rules::Rules;

const NOBODY: u8 = ReasonCode::NoMatchingSubscribers as u8;

fn bench(limits: Limits, rules: Rules) -> (Bench, HandLog) {
    let log = HandLog::default();
    (Bench::with_log(limits, rules, Box::new(log.clone())), log)
}

fn advance(bench: &Bench) {
    bench.drive(|engine, _| engine.handle_log_advanced());
}

fn kinds(client: &Client) -> Vec<(&'static str, u16)> {
    let id = |packet: &Packet<'_>| match packet {
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubcomp(ack) => ack.packet_id,
        _ => 0,
    };
    client
        .all()
        .iter()
        .map(|packet| (packet.kind().name(), id(packet)))
        .collect()
}

#[test]
fn puback_and_pubrec_wait_for_the_log() {
    let (bench, log) = bench(quiet(), Rules::dangerous_allow_all());
    let mut p = bench.connect("p").go();
    p.publish(message("t", "x").qos(1).id(1));
    p.publish(message("t", "x").qos(2).id(2));
    p.publish(message("t", "x"));
    advance(&bench);
    p.silent();
    assert_eq!(log.appended(), 2, "nothing is promised at QoS 0");
    log.sync_to(1);
    p.silent();
    advance(&bench);
    p.expect_puback(1, NOBODY);
    p.silent();
    log.sync();
    advance(&bench);
    p.expect_pubrec(2, NOBODY);
    p.pubrel(2);
    p.expect_pubcomp(2, 0);
}

// Subscribers do not wait for the disk: the promise is to the publisher
#[test]
fn delivery_does_not_wait() {
    let (bench, _log) = bench(quiet(), Rules::dangerous_allow_all());
    let mut s = bench.connect("s").go();
    s.subscribe("t", 1);
    bench.connect("p").go().publish(message("t", "x").qos(1));
    s.hears("t", "x");
}

// [MQTT-4.6.0-2], [MQTT-4.6.0-3]: in the order of the PUBLISH packets, over many clients
#[test]
fn acknowledgements_leave_in_order() {
    let (bench, log) = bench(quiet(), Rules::dangerous_allow_all());
    let (mut a, mut b) = (bench.connect("a").go(), bench.connect("b").go());
    for id in [5, 3, 9] {
        a.publish(message("t", "x").qos(1).id(id));
        b.publish(message("t", "x").qos(2).id(id));
    }
    log.sync_to(3);
    advance(&bench);
    assert_eq!(kinds(&a), [("PUBACK", 5), ("PUBACK", 3)]);
    assert_eq!(kinds(&b), [("PUBREC", 5)]);
    log.sync();
    // a later PUBLISH does not overtake those whose record is safe but not yet told
    a.publish(message("t", "x").qos(1).id(4));
    log.sync();
    advance(&bench);
    assert_eq!(kinds(&a), [("PUBACK", 9), ("PUBACK", 4)]);
    assert_eq!(kinds(&b), [("PUBREC", 3), ("PUBREC", 9)]);
}

// [MQTT-4.6.0-2]: a refusal does not overtake either
#[test]
fn a_refusal_waits_its_turn() {
    let (bench, log) = bench(quiet(), allowing(&["yes"]));
    let mut p = bench.connect("p").go();
    p.publish(message("yes", "x").qos(1).id(1));
    p.publish(message("no", "x").qos(1).id(2));
    p.silent();
    log.sync();
    advance(&bench);
    p.expect_puback(1, NOBODY);
    p.expect_puback(2, ReasonCode::NotAuthorized as u8);
    p.publish(message("no", "x").qos(1).id(3));
    p.expect_puback(3, ReasonCode::NotAuthorized as u8);
}

// A repetition after a reconnect is no proof that the disk has it
#[test]
fn a_repeated_qos_2_publish_waits_for_the_same_record() {
    let (bench, log) = bench(quiet(), Rules::dangerous_allow_all());
    let mut p = bench.connect("p").resume(60).go();
    p.publish(message("t", "x").qos(2).id(1));
    p.vanish();
    let mut p = bench.connect("p").resume(60).go();
    p.publish(message("t", "x").qos(2).id(1).dup());
    p.silent();
    log.sync();
    advance(&bench);
    p.expect_pubrec(1, 0);
    assert_eq!(log.appended(), 1, "one message, one record");
    p.publish(message("t", "x").qos(2).id(1).dup());
    p.expect_pubrec(1, 0);
}

// Acknowledgements of a connection that is gone go nowhere, least of all to the next one
#[test]
fn held_acknowledgements_die_with_their_connection() {
    let (bench, log) = bench(quiet(), Rules::dangerous_allow_all());
    let mut p = bench.connect("p").resume(60).go();
    p.publish(message("t", "x").qos(1).id(1));
    p.vanish();
    let p = bench.connect("p").resume(60).go();
    log.sync();
    advance(&bench);
    p.silent();
}

// [MQTT-3.3.4-7]: an acknowledgement that is held is one not sent: the window stays as it was
#[test]
fn held_acknowledgements_count_in_the_window() {
    let limits = Limits {
        receive_maximum: 2,
        ..quiet()
    };
    let (bench, log) = bench(limits, Rules::dangerous_allow_all());
    let mut p = bench.connect("p").go();
    p.publish(message("t", "x").qos(1).id(1));
    p.publish(message("t", "x").qos(1).id(2));
    log.sync();
    advance(&bench);
    p.all();
    p.publish(message("t", "x").qos(1).id(3));
    p.publish(message("t", "x").qos(1).id(4));
    assert!(!p.is_closed());
    p.publish(message("t", "x").qos(1).id(5));
    p.expect_closed(ReasonCode::ReceiveMaximumExceeded);
}

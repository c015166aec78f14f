//! An acknowledgement means that it is safe: a log whose watermark the test moves, or which fails.
//!
//! Refuses to know how a disk works, and what a broker finds on it; see `durable_restart`.

use crate::harness::by_hand::{advance, back, bench, keeper, sync};
use crate::harness::{Client, filter, message, quiet};
use sealmq_codec::{Packet, ReasonCode};
use sealmq_engine::Limits;
use sealmq_store::Health;

const NOBODY: u8 = ReasonCode::NoMatchingSubscribers as u8;

fn kinds(client: &Client) -> Vec<(&'static str, u16)> {
    let id = |packet: &Packet<'_>| match packet {
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubcomp(ack) => ack.packet_id,
        _ => 0,
    };
    let all = client.all();
    all.iter().map(|packet| (packet.kind().name(), id(packet))).collect()
}

#[test]
fn puback_and_pubrec_wait_for_the_log() {
    let (bench, log) = bench(quiet());
    keeper(&bench, &log, "s", "t", 2).vanish();
    let mut p = bench.connect("p").go();
    p.publish(message("t", "x").qos(1).id(1));
    p.publish(message("t", "x").qos(2).id(2));
    p.publish(message("t", "x"));
    advance(&bench);
    p.silent();
    let appended = log.appended();
    log.sync_to(appended - 1);
    p.silent();
    advance(&bench);
    p.expect_puback(1, 0);
    p.silent();
    sync(&bench, &log);
    p.expect_pubrec(2, 0);
    p.pubrel(2);
    p.expect_pubcomp(2, 0);
}

// Nothing is written for a message that no kept session wants, and nobody waits for it
#[test]
fn no_promise_no_write() {
    let (bench, log) = bench(quiet());
    let mut p = bench.connect("p").go();
    let before = log.appended();
    p.publish(message("t", "x").qos(1).id(1));
    p.expect_puback(1, NOBODY);
    let mut s = bench.connect("s").go();
    s.subscribe("t", 1);
    p.publish(message("t", "x").qos(1).id(2));
    p.expect_puback(2, 0);
    s.hears("t", "x");
    assert_eq!(log.appended(), before);
}

// QoS 1 does not wait for the disk: the promise is to the publisher; nor does it overtake [MQTT-4.6.0-5]
#[test]
fn delivery_at_qos_1_does_not_wait_and_at_qos_2_does() {
    let (bench, log) = bench(quiet());
    let s = keeper(&bench, &log, "s", "t", 2);
    let mut p = bench.connect("p").go();
    p.publish(message("t", "one").qos(1));
    s.hears("t", "one");
    p.publish(message("t", "two").qos(2));
    p.publish(message("t", "three").qos(1));
    s.silent();
    sync(&bench, &log);
    s.hears("t", "two");
    s.hears("t", "three");
}

// A receiver that has it before the disk leaves nothing to write
#[test]
fn what_is_acknowledged_in_time_is_never_written() {
    let (bench, log) = bench(quiet());
    let s = keeper(&bench, &log, "s", "t", 1);
    let mut p = bench.connect("p").go();
    p.publish(message("t", "x").qos(1).id(1));
    s.puback(s.receive().packet_id);
    p.silent();
    sync(&bench, &log);
    p.expect_puback(1, 0);
    assert_eq!(log.disk().messages_written, 0);
    p.publish(message("t", "y").qos(1).id(2));
    log.cut();
    s.puback(s.receive().packet_id);
    sync(&bench, &log);
    assert_eq!((log.disk().messages_written, log.disk().queued()), (1, 0));
}

// [MQTT-4.6.0-2], [MQTT-4.6.0-3]: in the order of the PUBLISH packets, over many clients
#[test]
fn acknowledgements_leave_in_order() {
    let (bench, log) = bench(quiet());
    keeper(&bench, &log, "s", "t", 2).vanish();
    sync(&bench, &log);
    let (mut a, mut b) = (bench.connect("a").go(), bench.connect("b").go());
    let before = log.appended();
    for id in [5, 3, 9] {
        a.publish(message("t", "x").qos(1).id(id));
        b.publish(message("t", "x").qos(2).id(id));
    }
    log.sync_to(before + 3);
    advance(&bench);
    assert_eq!(kinds(&a), [("PUBACK", 5), ("PUBACK", 3)]);
    assert_eq!(kinds(&b), [("PUBREC", 5)]);
    log.sync();
    // a later PUBLISH does not overtake those whose record is safe but not yet told
    a.publish(message("nobody", "x").qos(1).id(4));
    advance(&bench);
    assert_eq!(kinds(&a), [("PUBACK", 9), ("PUBACK", 4)]);
    assert_eq!(kinds(&b), [("PUBREC", 3), ("PUBREC", 9)]);
}

// A repetition after a reconnect is no proof that the disk has it
#[test]
fn a_repeated_qos_2_publish_waits_for_the_same_record() {
    let (bench, log) = bench(quiet());
    keeper(&bench, &log, "s", "t", 2).vanish();
    let (mut p, _) = back(&bench, &log, "p");
    p.publish(message("t", "x").qos(2).id(1));
    p.vanish();
    let mut p = bench.connect("p").resume(60).wait();
    p.publish(message("t", "x").qos(2).id(1).dup());
    p.silent();
    sync(&bench, &log);
    assert!(matches!(p.next(), Packet::Connack(_)));
    p.expect_pubrec(1, 0);
    assert_eq!(log.disk().messages_written, 1, "one message, one record");
    p.publish(message("t", "x").qos(2).id(1).dup());
    p.expect_pubrec(1, 0);
}

// Acknowledgements of a connection that is gone go nowhere, least of all to the next one
#[test]
fn held_acknowledgements_die_with_their_connection() {
    let (bench, log) = bench(quiet());
    keeper(&bench, &log, "s", "t", 1).vanish();
    let mut p = bench.connect("p").go();
    p.publish(message("t", "x").qos(1).id(1));
    p.vanish();
    let p = bench.connect("p").go();
    sync(&bench, &log);
    p.silent();
}

// [MQTT-3.3.4-7]: an acknowledgement that is held is one not sent: the window stays as it was
#[test]
fn held_acknowledgements_count_in_the_window() {
    let limits = Limits {
        receive_maximum: 2,
        ..quiet()
    };
    let (bench, log) = bench(limits);
    keeper(&bench, &log, "s", "t", 1).vanish();
    let mut p = bench.connect("p").go();
    p.publish(message("t", "x").qos(1).id(1));
    p.publish(message("t", "x").qos(1).id(2));
    sync(&bench, &log);
    p.all();
    p.publish(message("t", "x").qos(1).id(3));
    p.publish(message("t", "x").qos(1).id(4));
    assert!(!p.is_closed());
    p.publish(message("t", "x").qos(1).id(5));
    p.expect_closed(ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn connack_suback_unsuback_and_pubcomp_wait_too() {
    let (bench, log) = bench(quiet());
    let mut s = bench.connect("s").resume(60).wait();
    // Nothing passes a CONNACK that is held back.
    bench.connect("p").go().say("t", "too early");
    s.ask(0, &[filter("t", 2)]);
    bench.connect("p").go().say("t", "x");
    s.silent();
    // A node asks for the output also when a socket takes bytes, and a fresh one does.
    s.read_again();
    s.silent();
    sync(&bench, &log);
    let names: Vec<_> = kinds(&s).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["CONNACK", "PUBLISH", "SUBACK"]);
    s.ask_to_end(&["t"]);
    s.silent();
    sync(&bench, &log);
    assert!(matches!(s.next(), Packet::Unsuback(_)));
    let keeper = keeper(&bench, &log, "k", "t", 2);
    s.publish(message("t", "x").qos(2).id(7));
    sync(&bench, &log);
    s.expect_pubrec(7, 0);
    s.pubrel(7);
    s.silent();
    sync(&bench, &log);
    s.expect_pubcomp(7, 0);
    // And PUBREL, the other way round.
    keeper.pubrec(keeper.receive().packet_id);
    keeper.silent();
    sync(&bench, &log);
    assert!(matches!(keeper.next(), Packet::Pubrel(_)));
}

// [MQTT-3.14.0-1]: a connection that ends before its CONNACK was safe has never been told anything
#[test]
fn a_connack_that_was_held_back_is_not_sent_at_the_end() {
    let (bench, log) = bench(quiet());
    let first = bench.connect("s").resume(60).wait();
    let second = bench.connect("s").resume(60).wait();
    assert!(first.is_closed());
    first.silent();
    sync(&bench, &log);
    assert!(matches!(second.next(), Packet::Connack(_)));
}

#[test]
fn a_full_queue_turns_messages_away() {
    let limits = Limits {
        max_queued_messages: 2,
        ..quiet()
    };
    let (bench, log) = bench(limits);
    keeper(&bench, &log, "s", "t", 1).vanish();
    let mut p = bench.connect("p").go();
    for id in 1..=3 {
        p.publish(message("t", "x").qos(1).id(id));
        sync(&bench, &log);
    }
    p.expect_puback(1, 0);
    p.expect_puback(2, 0);
    p.expect_puback(3, ReasonCode::QuotaExceeded as u8);
    // [MQTT-4.8.0-2] of 3.1.1: it has no such word, so the connection ends without an acknowledgement
    let mut old = bench.connect("o").v311().go();
    old.publish(message("t", "x").qos(1).id(1));
    assert!(old.is_closed());
    old.silent();
    assert!(bench.endings().contains(&"queue-full"));
    assert_eq!(log.disk().queued(), 2);
}

// MQTT 3.1.1 has no receive maximum, so memory has to be the bound
#[test]
fn who_releases_nothing_is_not_remembered_for_ever() {
    let limits = Limits {
        max_memory_bytes: 2 << 20,
        max_queued_messages: 1_000_000,
        ..quiet()
    };
    let (bench, log) = bench(limits);
    keeper(&bench, &log, "s", "t", 2).vanish();
    let p = bench.connect("p").v311().go();
    let before = bench.drive(|engine, _| engine.memory().used());
    let mut count = 0;
    for id in (1..=60_000).take_while(|_| !p.is_closed()) {
        p.send(&message("t", "x").qos(2).id(id).packet());
        sync(&bench, &log);
        count += p.all().len() as u64;
        let used = bench.drive(|engine, _| engine.memory().used());
        assert!(
            p.is_closed() || used >= before + 24 * count,
            "{used} bytes after {count} messages"
        );
    }
    assert!(count > 1_000 && p.is_closed(), "{count} messages");
    assert!(bench.endings().contains(&"memory-full"));
    let after = bench.drive(|engine, _| engine.memory().used());
    assert!(after < before, "{after} bytes when it has gone");
}

// Whoever is turned away has had all receivers looked at
#[test]
fn to_be_turned_away_is_work() {
    let limits = Limits {
        max_queued_messages: 1,
        ..quiet()
    };
    let (bench, log) = bench(limits);
    for n in 0..10 {
        keeper(&bench, &log, &format!("s{n}"), "t", 1).vanish();
    }
    let mut p = bench.connect("p").go();
    p.publish(message("t", "taken").qos(1));
    let before = bench.drive(|engine, _| engine.work());
    p.publish(message("t", "refused").qos(1));
    assert!(bench.drive(|engine, _| engine.work()) > before + 10);
    assert_eq!(bench.drive(|engine, _| engine.counters().messages_turned_away), 1);
}

#[test]
fn a_store_that_fails_stops_promises_and_nothing_else() {
    let (bench, log) = bench(quiet());
    let kept = keeper(&bench, &log, "kept", "t", 1);
    let mut clean = bench.connect("clean").go();
    clean.subscribe("t", 0);
    let mut p = bench.connect("p").go();
    let mut waiting = bench.connect("waiting").go();
    waiting.publish(message("t", "never safe").qos(1).id(1));
    clean.hears("t", "never safe");
    kept.hears("t", "never safe");
    log.fail("input/output error");
    advance(&bench);
    waiting.expect_closed(ReasonCode::ImplementationSpecificError);
    p.publish(message("t", "x").qos(1).id(1));
    p.expect_puback(1, ReasonCode::ImplementationSpecificError as u8);
    p.say("t", "at most once");
    clean.hears("t", "at most once");
    kept.hears("t", "at most once");
    let refused = bench.connect("new").resume(60).dial().err().expect("a refusal");
    assert_eq!(
        (refused.reason, refused.cause),
        (ReasonCode::ServerUnavailable, "store-failed")
    );
    bench.connect("fresh").go();
}

// Nobody is left waiting for what will never be safe: neither who asks after the failure, nor who is owed a message
#[test]
fn a_store_that_has_failed_leaves_nobody_waiting() {
    let (bench, log) = bench(quiet());
    let receiver = keeper(&bench, &log, "receiver", "r", 2);
    let mut leaver = keeper(&bench, &log, "leaver", "l", 1);
    let owed = keeper(&bench, &log, "owed", "o", 2);
    let mut sender = bench.connect("sender").resume(60).wait();
    let mut p = bench.connect("p").go();
    p.publish(message("r", "x").qos(2).id(1));
    sender.publish(message("o", "y").qos(2).id(7));
    sync(&bench, &log);
    sender.all();
    owed.receive();
    let first = receiver.receive().packet_id;
    p.publish(message("o", "never safe").qos(2).id(2));
    log.fail("input/output error");
    receiver.pubrec(first);
    leaver.ask_to_end(&["l"]);
    sender.pubrel(7);
    bench.advance(0);
    receiver.expect_closed(ReasonCode::ImplementationSpecificError);
    leaver.expect_closed(ReasonCode::ImplementationSpecificError);
    sender.expect_closed(ReasonCode::ImplementationSpecificError);
    owed.expect_closed(ReasonCode::ImplementationSpecificError);
    // To begin anew ends a session that is kept, and that cannot be promised either; the next time there is none.
    let anew = bench.connect("leaver").wait();
    bench.advance(0);
    assert!(anew.is_closed());
    anew.silent();
    bench.connect("leaver").go();
}

// What nobody would send again reaches whoever can have it
#[test]
fn a_store_that_fails_holds_up_neither_wills_nor_what_has_qos_0() {
    let (bench, log) = bench(quiet());
    let kept = keeper(&bench, &log, "kept", "w/#", 1);
    let mut clean = bench.connect("clean").go();
    clean.subscribe("w/#", 1);
    let dying = bench.connect("dying").will("w/will", "gone").wait();
    sync(&bench, &log);
    dying.next();
    log.fail("input/output error");
    advance(&bench);
    dying.vanish();
    clean.hears("w/will", "gone");
    kept.hears("w/will", "gone");
    let mut p = bench.connect("p").go();
    p.publish(message("w/state", "on").retain());
    clean.hears("w/state", "on");
    let mut late = bench.connect("late").go();
    late.subscribe("w/state", 0);
    assert!(late.hears("w/state", "on").retain);
    // One that is promised to nobody in vain stays refused.
    p.publish(message("w/state", "off").qos(1).id(1).retain());
    p.expect_puback(1, ReasonCode::ImplementationSpecificError as u8);
}

#[test]
fn a_store_without_room_turns_away_and_takes_again() {
    let (bench, log) = bench(quiet());
    keeper(&bench, &log, "s", "t", 1).vanish();
    sync(&bench, &log);
    let mut p = bench.connect("p").go();
    log.set_health(Health::Full);
    p.publish(message("t", "x").qos(1).id(1));
    p.expect_puback(1, ReasonCode::QuotaExceeded as u8);
    let refused = bench.connect("new").resume(60).dial().err().expect("a refusal");
    assert_eq!(refused.cause, "store-full");
    // Whoever comes back makes room.
    let (s, present) = back(&bench, &log, "s");
    assert!(present);
    s.vanish();
    log.set_health(Health::Good);
    p.publish(message("t", "x").qos(1).id(2));
    sync(&bench, &log);
    p.expect_puback(2, 0);
}

// MQTT 3.1.1 has no word for a refusal; ending the connection would bring the client back with the same message, for ever
#[test]
fn a_client_of_3_1_1_whose_own_queue_is_full_is_not_turned_away() {
    let limits = Limits {
        max_queued_messages: 2,
        max_inflight: 1,
        ..quiet()
    };
    let (bench, log) = crate::harness::by_hand::bench(limits);
    bench.hurry(&log);
    let mut own = bench.connect("a").v311().clean(false).go();
    own.subscribe("t", 1);
    for n in 0..5 {
        let id = own.publish(message("t", format!("{n}")).qos(1));
        let answers = own.all();
        assert!(
            answers
                .iter()
                .any(|p| matches!(p, Packet::Puback(ack) if ack.packet_id == id)),
            "{n}: {answers:?}"
        );
    }
    assert_eq!(
        bench.drive(|e, _| e.counters().messages_dropped),
        2,
        "one in flight, two wait"
    );
    let mut other = bench.connect("b").v311().go();
    other.publish(message("t", "x").qos(1));
    other.expect_closed(ReasonCode::QuotaExceeded);
}

// Two copies need two places
#[test]
fn a_session_that_is_reached_twice_has_room_for_both_or_for_neither() {
    let limits = Limits {
        max_queued_messages: 2,
        ..quiet()
    };
    let (bench, log) = crate::harness::by_hand::bench(limits);
    bench.hurry(&log);
    let mut away = bench.connect("a").resume(60).go();
    away.subscribe("t", 1);
    away.subscribe("u", 1);
    away.subscribe("$share/g/u", 1);
    away.vanish();
    let mut p = bench.connect("p").go();
    let id = p.publish(message("t", "one").qos(1));
    p.expect_puback(id, 0);
    let id = p.publish(message("u", "two").qos(1));
    p.expect_puback(id, ReasonCode::QuotaExceeded as u8);
    let away = bench.connect("a").resume(60).go();
    assert_eq!(away.payloads(), ["one"]);
}

#[test]
fn what_is_turned_away_is_not_retained_either() {
    let limits = Limits {
        max_queued_messages: 1,
        ..quiet()
    };
    let (bench, log) = bench(limits);
    let s = keeper(&bench, &log, "s", "t", 1);
    s.vanish();
    let mut p = bench.connect("p").go();
    p.publish(message("t", "taken").qos(1).id(1).retain());
    sync(&bench, &log);
    p.expect_puback(1, 0);
    p.publish(message("t", "refused").qos(1).id(2).retain());
    sync(&bench, &log);
    p.expect_puback(2, ReasonCode::QuotaExceeded as u8);
    let mut reader = bench.connect("r").go();
    reader.subscribe("t", 0);
    reader.hears("t", "taken");
    reader.silent();
}

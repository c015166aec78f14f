//! An acknowledgement means that it is safe: a log whose watermark the test moves, and brokers that start on its disk.
//!
//! Refuses to know how a disk works.

use crate::harness::{Bench, Client, HandLog, message, quiet};
use sealmq_codec::{Packet, Property, PropertyBuf, ReasonCode};
use sealmq_engine::Limits;
use sealmq_engine::rules::Rules;
use sealmq_store::Health;

const NOBODY: u8 = ReasonCode::NoMatchingSubscribers as u8;

fn bench(limits: Limits) -> (Bench, HandLog) {
    let log = HandLog::default();
    let bench = Bench::with_log(limits, Rules::dangerous_allow_all(), Box::new(log.clone()));
    (bench, log)
}

fn advance(bench: &Bench) {
    bench.drive(|engine, now| engine.handle_log_advanced(now));
}

/// All is safe, and every page that is wanted has been read.
fn sync(bench: &Bench, log: &HandLog) {
    loop {
        log.sync();
        let pages = log.read_pages();
        advance(bench);
        if pages == 0 && !log.has_news() {
            return;
        }
    }
}

/// The power goes; another broker starts on what is on disk, `later` milliseconds afterwards.
fn restart(bench: &Bench, log: &HandLog, later: u64) -> (Bench, HandLog) {
    Bench::revived(quiet(), Rules::dangerous_allow_all(), bench.now() + later, log.disk())
}

/// A session that is kept, with a subscription.
fn keeper(bench: &Bench, log: &HandLog, id: &str, filter: &str, qos: u8) -> Client {
    let mut client = bench.connect(id).resume(3600).wait();
    sync(bench, log);
    client.next();
    client.ask(0, &[crate::harness::filter(filter, qos)]);
    client.silent();
    sync(bench, log);
    client.next();
    client
}

/// Connect again, and the CONNACK with it.
fn back(bench: &Bench, log: &HandLog, id: &str) -> (Client, bool) {
    let client = bench.connect(id).resume(3600).wait();
    sync(bench, log);
    let Packet::Connack(connack) = client.next() else {
        panic!("no CONNACK");
    };
    (client, connack.session_present)
}

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

// QoS 1 does not wait for the disk: the promise is to the publisher
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
    s.ask(0, &[crate::harness::filter("t", 2)]);
    bench.connect("p").go().say("t", "x");
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

// A connection that ends before its CONNACK was safe has never been told anything
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
fn a_session_survives_with_all_it_has() {
    let (bench, log) = bench(quiet());
    let s = keeper(&bench, &log, "s", "a/+", 2);
    let (mut p, _) = back(&bench, &log, "p");
    p.publish(message("a/1", "first").qos(2).id(1));
    p.publish(message("a/2", "second").qos(1).id(2));
    p.publish(message("keep", "me").qos(1).id(3).retain());
    sync(&bench, &log);
    let (first, second) = (s.receive(), s.receive());
    s.pubrec(first.packet_id);
    sync(&bench, &log);
    s.expect_pubrel(first.packet_id, 0);

    let (bench, log) = restart(&bench, &log, 1000);
    let (s, present) = back(&bench, &log, "s");
    assert!(present);
    s.expect_pubrel(first.packet_id, 0);
    let again = s.receive();
    assert_eq!(
        (again.packet_id, again.dup, again.payload),
        (second.packet_id, true, &b"second"[..])
    );
    s.pubcomp(first.packet_id);
    s.puback(second.packet_id);
    s.silent();
    // The publisher's side of QoS 2: what it had not released is still known.
    let (mut p, present) = back(&bench, &log, "p");
    assert!(present);
    p.publish(message("a/1", "first").qos(2).id(1).dup());
    p.expect_pubrec(1, 0);
    s.silent();
    p.pubrel(1);
    sync(&bench, &log);
    p.expect_pubcomp(1, 0);
    p.publish(message("a/1", "third").qos(2).id(1));
    sync(&bench, &log);
    s.hears("a/1", "third");
    let mut reader = bench.connect("r").go();
    reader.subscribe("keep", 1);
    assert!(reader.hears("keep", "me").retain);

    s.vanish();
    sync(&bench, &log);
    let (bench, log) = restart(&bench, &log, 3_601_000);
    assert!(!back(&bench, &log, "s").1, "time went on while nobody ran");
}

#[test]
fn what_was_not_safe_was_never_promised() {
    let (bench, log) = bench(quiet());
    keeper(&bench, &log, "s", "t", 1).vanish();
    sync(&bench, &log);
    let mut p = bench.connect("p").go();
    p.publish(message("t", "kept").qos(1).id(1));
    sync(&bench, &log);
    p.expect_puback(1, 0);
    p.publish(message("t", "lost").qos(1).id(2));
    p.silent();
    let (bench, log) = restart(&bench, &log, 0);
    let (s, _) = back(&bench, &log, "s");
    assert_eq!(s.payloads(), ["kept"]);
}

#[test]
fn wills_survive() {
    let (bench, log) = bench(quiet());
    bench
        .connect("delayed")
        .resume(3600)
        .will("w/delayed", "x")
        .will_delay(60)
        .wait();
    bench.connect("clean").will("w/clean", "x").wait();
    let gone = bench.connect("gone").resume(3600).will("w/gone", "x").wait();
    let sleeper = bench
        .connect("sleeper")
        .resume(3600)
        .will("w/sleeper", "x")
        .will_delay(60)
        .wait();
    let watcher = keeper(&bench, &log, "watcher", "w/#", 1);
    gone.disconnect();
    sleeper.vanish();
    watcher.disconnect();
    sync(&bench, &log);
    bench.advance(20_000);
    let (bench, log) = restart(&bench, &log, 0);
    sync(&bench, &log);
    let (watcher, _) = back(&bench, &log, "watcher");
    assert_eq!(watcher.receive().topic, "w/clean", "its session ended with the broker");
    watcher.silent();
    bench.advance(40_000);
    sync(&bench, &log);
    assert_eq!(watcher.receive().topic, "w/sleeper", "60 seconds after it vanished");
    bench.advance(20_000);
    sync(&bench, &log);
    assert_eq!(watcher.receive().topic, "w/delayed", "60 seconds after the start");
    let (bench, log) = restart(&bench, &log, 1_000_000);
    let (watcher, _) = back(&bench, &log, "watcher");
    let topics: Vec<_> = std::iter::from_fn(|| watcher.all().into_iter().next()).collect();
    assert_eq!(
        topics.len(),
        1,
        "what was not acknowledged comes again, and no will is sent twice"
    );
}

#[test]
fn a_shutdown_defers_wills() {
    let (bench, log) = bench(quiet());
    let _s = bench.connect("s").resume(3600).will("w", "x").wait();
    let watcher = keeper(&bench, &log, "watcher", "w", 1);
    bench.drive(|engine, now| engine.shut_down(now));
    let told = watcher.all();
    assert!(matches!(told.as_slice(), [Packet::Disconnect(_)]), "{told:?}");
    log.sync();
    let (bench, log) = restart(&bench, &log, 0);
    let (watcher, _) = back(&bench, &log, "watcher");
    assert_eq!(watcher.payloads(), ["x"]);
}

// A session that is away costs no memory, and what waits comes back in order, page by page
#[test]
fn a_backlog_lives_on_disk() {
    let limits = Limits {
        max_queued_messages: 100_000,
        ..quiet()
    };
    let (bench, log) = bench(limits.clone());
    keeper(&bench, &log, "s", "t", 1).vanish();
    let mut p = bench.connect("p").go();
    for n in 0..3000u32 {
        p.publish(message("t", n.to_string()).qos(1).id(n as u16 % 1000 + 1));
        if n % 500 == 0 {
            sync(&bench, &log);
        }
    }
    sync(&bench, &log);
    let queued = bench.drive(|engine, _| engine.gauges());
    assert_eq!(queued.queued_messages, 3000);
    let (bench, log) = Bench::revived(limits, Rules::dangerous_allow_all(), bench.now(), log.disk());
    let (s, present) = back(&bench, &log, "s");
    assert!(present);
    let mut expected = 0u32;
    while expected <= 3000 {
        let mut heard = 0;
        for packet in s.all() {
            let Packet::Publish(publish) = packet else {
                panic!("{packet:?}")
            };
            assert_eq!(publish.payload, expected.to_string().as_bytes());
            expected += 1;
            heard += 1;
            s.puback(publish.packet_id);
            if expected == 1500 {
                // What is published meanwhile goes to the end.
                let mut p = bench.connect("p").go();
                p.publish(message("t", "3000").qos(1).id(1));
            }
        }
        assert!(heard > 0, "stuck at {expected}");
        sync(&bench, &log);
    }
    assert_eq!(log.disk().queued(), 0);
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
    // 3.1.1 has no such word: the connection ends without an acknowledgement
    let mut old = bench.connect("o").v311().go();
    old.publish(message("t", "x").qos(1).id(1));
    assert!(old.is_closed());
    old.silent();
    assert!(bench.endings().contains(&"queue-full"));
    assert_eq!(log.disk().queued(), 2);
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

// A session that the client ends with its DISCONNECT is not there after a restart
#[test]
fn an_ended_session_stays_ended() {
    let (bench, log) = bench(quiet());
    let s = keeper(&bench, &log, "s", "t", 1);
    let mut properties = PropertyBuf::new();
    properties.push(Property::SessionExpiry(0));
    s.disconnect_with(ReasonCode::Success, properties.as_properties());
    sync(&bench, &log);
    assert!(log.disk().is_empty());
}

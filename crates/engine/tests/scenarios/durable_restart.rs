//! What is safe is there after a restart, and what was not safe was never promised.
//!
//! Refuses to know when acknowledgements leave; see `durable`.

use crate::harness::by_hand::{advance, back, bench, keeper, restart, sync};
use crate::harness::{Bench, HandLog, allowing, filter, message, quiet};
use sealmq_codec::{Packet, Property, PropertyBuf, ReasonCode};
use sealmq_engine::Limits;
use sealmq_engine::rules::Rules;
use sealmq_store::Stored;

// [MQTT-3.3.1-9], [MQTT-4.3.3-1]: once SUBACK has left, every retained message comes, whenever the power goes, and at QoS 2
// no more than once
#[test]
fn what_a_subscription_is_owed_survives() {
    const COUNT: usize = 40;
    for cut in 0..=COUNT as u64 + 2 {
        let (bench, log) = bench(quiet());
        let mut p = bench.connect("p").go();
        for n in 0..COUNT {
            p.publish(message(&format!("r/{n:02}"), "x").qos(2).retain());
        }
        let (mut s, _) = back(&bench, &log, "s");
        let before = log.appended();
        s.ask(0, &[filter("r/+", 2)]);
        log.sync_to(before + 2);
        advance(&bench);
        assert!(matches!(s.next(), Packet::Suback(_)));
        log.sync_to((before + 2 + cut).min(log.appended()));
        advance(&bench);
        let mut had: Vec<String> = Vec::new();
        while let Some(Packet::Publish(publish)) = s.try_next() {
            had.push(publish.topic.into());
        }

        let (bench, log) = restart(&bench, &log, 1000);
        let (s, present) = back(&bench, &log, "s");
        assert!(present);
        let mut again = Vec::new();
        loop {
            bench.advance(0);
            sync(&bench, &log);
            match s.try_next() {
                Some(Packet::Publish(publish)) => {
                    // What had come may come again, with the identifier that it had.
                    assert_eq!(publish.dup, had.contains(&publish.topic.to_string()), "{cut}");
                    again.push(publish.topic.to_string());
                    s.pubrec(publish.packet_id);
                }
                Some(Packet::Pubrel(released)) => s.pubcomp(released.packet_id),
                Some(other) => panic!("{other:?}"),
                None => break,
            }
        }
        let wanted: Vec<String> = (0..COUNT).map(|n| format!("r/{n:02}")).collect();
        assert_eq!(again, wanted, "{cut}");
        // It is paid: nothing comes a second time.
        let (bench, log) = restart(&bench, &log, 1000);
        let (s, _) = back(&bench, &log, "s");
        bench.advance(0);
        sync(&bench, &log);
        s.silent();
    }
}

// As long as a session of the device is there, a purge that a crash cut short is known not to be done
#[test]
fn a_purge_that_is_cut_short_shows() {
    for cut in 0..=3 {
        let log = HandLog::default();
        let bench = Bench::with_log(quiet(), allowing(&["devices/{id}/#"]), Box::new(log.clone()));
        let mut device = bench.connect("d").device(Some("d")).resume(3600).wait();
        device.publish(message("devices/d/state", "on").qos(1).id(1).retain());
        device.publish(message("devices/d/fault", "none").qos(1).id(2).retain());
        sync(&bench, &log);
        device.vanish();
        sync(&bench, &log);
        let before = log.appended();
        let purged = bench.drive(|engine, now| engine.purge_device(now, "d"));
        assert_eq!((purged.sessions, purged.retained, purged.seq.0), (1, 2, before + 3));
        assert!(!bench.drive(|engine, _| engine.is_settled(purged.seq)));
        log.sync_to(before + cut);
        let (mut sessions, mut retained) = (0, 0);
        log.disk().load(&mut |stored| match stored {
            Stored::Session { .. } => sessions += 1,
            Stored::Retained(_) => retained += 1,
            _ => {}
        });
        assert_eq!((sessions, retained), (u64::from(cut < 3), 2 - cut.min(2)));
    }
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

#[test]
fn rules_that_changed_meanwhile_hold_for_sessions_that_are_away() {
    let (bench, log) = bench(quiet());
    let s = keeper(&bench, &log, "s", "secret/#", 1);
    s.vanish();
    sync(&bench, &log);
    let (bench, log) = Bench::revived(quiet(), allowing(&["open/#"]), bench.now(), log.disk());
    assert_eq!(bench.drive(|e, _| e.gauges()).subscriptions, 0);
    let secret = Rules::dangerous_allow_all();
    bench.drive(|engine, _| engine.set_rules(secret));
    let (mut p, _) = back(&bench, &log, "p");
    p.publish(message("secret/x", "for nobody").qos(1).id(1));
    sync(&bench, &log);
    let (s, is_present) = back(&bench, &log, "s");
    assert!(is_present);
    s.silent();
}

//! Windows, queues and slow readers: what happens when one side is faster than the other.
//!
//! Refuses to know what is in the messages.

use crate::harness::{Bench, Client, filter, message, quiet};
use sealmq_codec::{Packet, ReasonCode};
use sealmq_engine::Limits;
use sealmq_engine::rules::Rules;

fn bench(limits: Limits) -> Bench {
    Bench::with(limits, Rules::dangerous_allow_all())
}

fn publish_many(p: &mut Client, qos: u8, count: usize) {
    for n in 0..count {
        p.publish(message("t", n.to_string()).qos(qos));
    }
    p.all();
}

// [MQTT-3.3.4-9], [MQTT-4.9.0-1], [MQTT-4.9.0-2]: the client's receive maximum bounds what is in flight towards it
#[test]
fn the_window_of_the_client_is_kept() {
    let bench = Bench::new();
    let mut s = bench.connect("s").receive_maximum(2).go();
    s.subscribe("t", 2);
    let mut p = bench.connect("p").go();
    publish_many(&mut p, 1, 2);
    publish_many(&mut p, 2, 3);
    let (one, two) = (s.receive(), s.receive());
    s.silent();
    s.puback(one.packet_id);
    let three = s.receive();
    s.silent();
    s.puback(two.packet_id);
    let four = s.receive();
    // PUBREC does not open the window, PUBCOMP does
    s.pubrec(three.packet_id);
    s.expect_pubrel(three.packet_id, 0);
    s.silent();
    s.pubcomp(three.packet_id);
    let five = s.receive();
    assert_ne!(five.packet_id, four.packet_id);
    // [MQTT-3.3.4-10], [MQTT-4.9.0-3]: nothing else waits for the window
    p.say("t", "now");
    s.hears("t", "now");
    s.send(&Packet::Pingreq);
    s.expect(&Packet::Pingresp);
    s.subscribe("other", 0);
    s.publish(message("other", "mine").qos(1).id(9));
    s.hears("other", "mine");
    s.expect_puback(9, 0);
    s.silent();
}

// [MQTT-3.3.4-9] after a reconnect with a smaller window: the rest of what was in flight waits too
#[test]
fn a_smaller_window_after_a_reconnect_is_kept() {
    let bench = Bench::new();
    let mut s = bench.connect("s").resume(60).go();
    s.subscribe("t", 1);
    publish_many(&mut bench.connect("p").go(), 1, 4);
    assert_eq!(s.payloads(), ["0", "1", "2", "3"]);
    s.vanish();
    let s = bench.connect("s").resume(60).receive_maximum(1).go();
    for n in ["0", "1", "2", "3"] {
        let one = s.hears("t", n);
        assert!(one.dup);
        s.silent();
        s.puback(one.packet_id);
    }
    s.silent();
}

// [MQTT-3.3.4-7], 0x93: our receive maximum
#[test]
fn a_client_beyond_our_receive_maximum_is_disconnected() {
    let bench = bench(Limits {
        receive_maximum: 2,
        ..quiet()
    });
    let mut p = bench.connect("p").go();
    p.publish(message("t", "x").qos(2).id(1));
    p.publish(message("t", "x").qos(2).id(2));
    p.publish(message("t", "x").qos(2).id(1).dup());
    p.all();
    p.pubrel(1);
    p.expect_pubcomp(1, 0);
    p.publish(message("t", "x").qos(2).id(3));
    p.all();
    assert!(!p.is_closed(), "two are open, a repetition does not count twice");
    p.publish(message("t", "x").qos(2).id(4));
    p.expect_closed(ReasonCode::ReceiveMaximumExceeded);
    // 3.1.1 has no receive maximum
    let mut old = bench.connect("old").v311().go();
    (1..9).for_each(|id| {
        old.publish(message("t", "x").qos(2).id(id));
    });
    assert!(!old.is_closed());
}

// Section 4.9: acknowledging opens our window again
#[test]
fn acknowledged_messages_do_not_count() {
    let bench = bench(Limits {
        receive_maximum: 1,
        ..quiet()
    });
    let mut p = bench.connect("p").go();
    for id in 1..20 {
        p.publish(message("t", "x").qos(1).id(id));
        p.publish(message("t", "x").qos(2).id(id));
        p.pubrel(id);
    }
    assert!(!p.is_closed());
}

#[test]
fn a_queue_keeps_the_oldest_and_counts_what_it_drops() {
    let bench = bench(Limits {
        max_queued_messages: 3,
        reject_when_full: false,
        ..quiet()
    });
    let mut s = bench.connect("s").resume(60).go();
    s.subscribe("t", 1);
    s.vanish();
    bench.events();
    let mut p = bench.connect("p").go();
    publish_many(&mut p, 1, 5);
    assert_eq!(bench.drops(), [("queue-full", 1), ("queue-full", 1)]);
    let s = bench.connect("s").resume(60).go();
    assert_eq!(s.payloads(), ["0", "1", "2"]);
    assert_eq!(bench.drive(|e, _| e.counters().messages_dropped), 2);
}

#[test]
fn a_queue_is_bounded_in_bytes_too() {
    let bench = bench(Limits {
        max_queued_bytes: 5_000,
        ..quiet()
    });
    let mut s = bench.connect("s").resume(60).go();
    s.subscribe("t", 1);
    s.vanish();
    let mut p = bench.connect("p").go();
    for _ in 0..10 {
        p.publish(message("t", vec![b'x'; 1000]).qos(1));
    }
    assert_eq!(bench.drive(|e, _| e.gauges().queued_messages), 4);
}

// [MQTT-4.5.0-1] with a budget: QoS 0 may be lost, QoS 1 waits
#[test]
fn a_slow_reader_loses_qos_0_and_keeps_qos_1() {
    let bench = bench(Limits {
        max_outbox_bytes: 1_000,
        ..quiet()
    });
    let mut s = bench.connect("s").go();
    s.subscribe("t", 1);
    let mut p = bench.connect("p").go();
    s.stall();
    for n in 0..30 {
        p.publish(message("t", format!("one {n} {}", "x".repeat(100))).qos(1));
        p.publish(message("t", format!("zero {n}")));
    }
    assert!(s.outbox() < 1_300, "{} bytes wait", s.outbox());
    bench.events();
    s.read_again();
    let texts = s.payloads();
    let of = |kind: &str| texts.iter().filter(|t| t.starts_with(kind)).count();
    assert_eq!(of("one"), 30);
    assert!(of("zero") < 30);
    assert_eq!(bench.drops(), [("slow-reader", 30 - of("zero") as u64)]);
    let numbers: Vec<usize> = texts
        .iter()
        .filter_map(|t| t.strip_prefix("one ")?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>(), "in order");
}

// The slow reader is alone with its trouble
#[test]
fn a_slow_reader_does_not_slow_others() {
    let bench = bench(Limits {
        max_outbox_bytes: 100,
        ..quiet()
    });
    let (mut slow, mut fast) = (bench.connect("slow").go(), bench.connect("fast").go());
    slow.subscribe("t", 0);
    fast.subscribe("t", 0);
    slow.stall();
    publish_many(&mut bench.connect("p").go(), 0, 100);
    assert_eq!(fast.payloads().len(), 100);
    slow.read_again();
    assert!(slow.payloads().len() < 100);
}

// Retained messages are bounded like everything else, and yet all of them arrive
#[test]
fn many_retained_messages_do_not_burst_the_outbox() {
    let bench = bench(Limits {
        max_outbox_bytes: 1_000,
        ..quiet()
    });
    let mut p = bench.connect("p").go();
    for n in 0..100 {
        p.publish(message(&format!("r/{n}"), "x".repeat(90)).retain());
    }
    let mut s = bench.connect("s").go();
    s.stall();
    s.ask(0, &[crate::harness::filter("r/#", 0)]);
    assert!(s.outbox() < 1_300, "{} bytes wait", s.outbox());
    s.read_again();
    assert_eq!(s.all().len(), 101);
}

// A message waits when its receiver has no window; one that is gone without a session loses it
#[test]
fn a_session_without_expiry_takes_its_queue_with_it() {
    let bench = Bench::new();
    let mut s = bench.connect("s").receive_maximum(1).go();
    s.subscribe("t", 1);
    publish_many(&mut bench.connect("p").go(), 1, 5);
    assert_eq!(
        bench.drive(|e, _| (e.gauges().queued_messages, e.gauges().inflight_messages)),
        (4, 1)
    );
    s.vanish();
    assert_eq!(
        bench.drive(|e, _| (e.gauges().queued_messages, e.gauges().inflight_messages)),
        (0, 0)
    );
}

// Answers cannot be dropped, so their sum is bounded by the connection: who asks and never reads has to go
#[test]
fn a_client_that_asks_without_reading_is_disconnected() {
    let bench = bench(Limits {
        max_outbox_bytes: 1_000,
        max_packet_size: 2_000,
        ..quiet()
    });
    let (greedy, polite) = (bench.connect("greedy").go(), bench.connect("polite").go());
    greedy.stall();
    for _ in 0..2_000 {
        greedy.send(&Packet::Pingreq);
    }
    assert!(
        !greedy.is_closed(),
        "4000 bytes are within what the outbox and one packet may take"
    );
    greedy.send(&Packet::Pingreq);
    greedy.send(&Packet::Pingreq);
    assert!(greedy.is_closed());
    assert_eq!(bench.endings(), ["slow-reader"]);
    for _ in 0..3_000 {
        polite.send(&Packet::Pingreq);
        polite.expect(&Packet::Pingresp);
    }
}

// What was let in is sent however low the limits are by now, and whoever is still reading it may speak: else a kept session
// would come back to the same message for ever
#[test]
fn whoever_reads_what_was_let_in_before_the_limits_fell_is_no_slow_reader() {
    let limits = |max_outbox_bytes, max_packet_size| Limits {
        max_outbox_bytes,
        max_packet_size,
        ..quiet()
    };
    let (before, after) = (limits(20_000, 20_000), limits(100, 1_000));
    let large = || message("t", "x".repeat(10_000));
    type Begin<'a> = &'a dyn Fn(&mut Client, &mut Client, &dyn Fn());
    let ways: [(&str, Begin<'_>); 4] = [
        ("waiting", &|s, p, lower| {
            s.subscribe("t", 1);
            p.publish(message("t", "small").qos(1));
            p.publish(large().qos(1));
            let small = s.hears("t", "small");
            lower();
            s.stall();
            s.puback(small.packet_id);
        }),
        ("retained", &|s, p, lower| {
            p.publish(large().retain());
            lower();
            s.stall();
            s.ask(0, &[filter("t", 0)]);
        }),
        ("under way", &|s, p, lower| {
            s.subscribe("t", 0);
            s.stall();
            p.publish(large());
            lower();
        }),
        ("many under way", &|s, p, lower| {
            s.subscribe("t", 0);
            s.stall();
            (0..100).for_each(|_| p.say("t", &"x".repeat(100)));
            lower();
        }),
    ];
    for (way, begin) in ways {
        let bench = bench(before.clone());
        let (mut s, mut p) = (bench.connect("s").receive_maximum(1).go(), bench.connect("p").go());
        let lower = || bench.drive(|engine, _| engine.set_limits(after.clone()));
        begin(&mut s, &mut p, &lower);
        s.send(&Packet::Pingreq);
        s.send(&Packet::Pingreq);
        assert!(!s.is_closed(), "{way}: {:?}", bench.endings());
        assert!(s.outbox() > 10_000, "{way}");
        // Its answers are under the limits of now.
        (0..500).for_each(|_| s.send(&Packet::Pingreq));
        assert!(s.is_closed(), "{way}");
        assert_eq!(bench.endings(), ["slow-reader"], "{way}");
    }
}

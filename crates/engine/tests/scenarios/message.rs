//! What happens to a message on its way: properties, aliases, expiry, size.
//!
//! Refuses to know who may publish it.

use crate::harness::{Bench, message, quiet};
use sealmq_codec::{Packet, Property, Publish, ReasonCode};
use sealmq_engine::Limits;
use sealmq_engine::rules::Rules;

fn alias_of(publish: &Publish<'_>) -> Option<u16> {
    publish.properties.iter().find_map(|p| match p {
        Property::TopicAlias(alias) => Some(alias),
        _ => None,
    })
}

fn expiry_of(publish: &Publish<'_>) -> Option<u32> {
    publish.properties.iter().find_map(|p| match p {
        Property::MessageExpiry(seconds) => Some(seconds),
        _ => None,
    })
}

// [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20]: unaltered, user
// properties in order
#[test]
fn properties_travel_unaltered_and_in_order() {
    let bench = Bench::new();
    let (mut s, mut old) = (bench.connect("s").go(), bench.connect("old").v311().go());
    s.subscribe("t", 0);
    old.subscribe("t", 0);
    let properties = [
        Property::UserProperty("b", "1"),
        Property::PayloadFormat(1),
        Property::UserProperty("a", ""),
        Property::ResponseTopic("re/ply"),
        Property::UserProperty("b", "1"),
        Property::CorrelationData(&[0, 1, 255]),
        Property::ContentType("text/plain"),
    ];
    let message = properties.into_iter().fold(message("t", "x"), |m, p| m.property(p));
    let mut p = bench.connect("p").go();
    p.publish(message.clone());
    assert_eq!(s.receive().properties.iter().collect::<Vec<_>>(), properties);
    p.publish(message.alias(1).expiry(9));
    let received: Vec<Property<'_>> = s.receive().properties.iter().collect();
    assert_eq!(received, [&properties[..], &[Property::MessageExpiry(9)]].concat());
    assert_eq!(old.payloads(), ["x", "x"]);
}

// Section 3.3.2.3.2, 0x99: the payload is not what its format says
#[test]
fn a_payload_that_is_not_utf8_although_it_says_so_is_refused() {
    let bench = Bench::new();
    let mut s = bench.connect("s").go();
    s.subscribe("t", 1);
    let mut p = bench.connect("p").go();
    p.publish(message("t", [0xff]).qos(1).id(1).property(Property::PayloadFormat(1)));
    p.expect_puback(1, ReasonCode::PayloadFormatInvalid as u8);
    p.publish(message("t", [0xff]).qos(1).id(2).property(Property::PayloadFormat(0)));
    p.expect_puback(2, 0);
    assert_eq!(s.receive().payload, [0xff]);
    s.silent();
}

// [MQTT-3.3.2-12], section 3.3.2.3.4: an alias from the client stands for its topic name, for this connection only
#[test]
fn an_alias_of_the_client_is_understood() {
    let bench = Bench::new();
    let mut s = bench.connect("s").go();
    s.subscribe("#", 0);
    let mut p = bench.connect("p").resume(60).go();
    p.publish(message("one", "1").alias(1));
    p.publish(message("", "2").alias(1));
    p.publish(message("two", "3").alias(1));
    p.publish(message("", "4").alias(1));
    p.publish(message("", "5").alias(1).qos(1));
    for (topic, payload) in [("one", "1"), ("one", "2"), ("two", "3"), ("two", "4"), ("two", "5")] {
        assert_eq!(alias_of(&s.hears(topic, payload)), None, "the alias does not travel");
    }
    p.vanish();
    // [MQTT-3.3.2-7]
    let mut p = bench.connect("p").resume(60).go();
    p.publish(message("", "6").alias(1));
    p.expect_closed(ReasonCode::ProtocolError);
    s.silent();
}

// [MQTT-3.3.2-9], 0x94; an alias nobody defined and none at all, 0x82
#[test]
fn aliases_that_cannot_be_are_refused() {
    let bench = Bench::with(
        Limits {
            topic_alias_maximum: 2,
            ..quiet()
        },
        Rules::dangerous_allow_all(),
    );
    for (bad, reason) in [
        (message("t", "x").alias(3), ReasonCode::TopicAliasInvalid),
        (message("", "x").alias(2), ReasonCode::ProtocolError),
        (message("", "x"), ReasonCode::ProtocolError),
        (message("t", "x").alias(0), ReasonCode::ProtocolError),
    ] {
        let mut p = bench.connect("p").go();
        p.publish(bad);
        p.expect_closed(reason);
    }
    let mut p = bench.connect("p").go();
    p.publish(message("t", "x").alias(2));
    assert!(!p.is_closed());
}

// [MQTT-3.1.2-26], [MQTT-3.1.2-27], [MQTT-3.3.2-11]: aliases towards a client, as many as it takes, none otherwise
#[test]
fn aliases_towards_a_client_stay_within_its_maximum() {
    let bench = Bench::new();
    let (mut s, mut without) = (bench.connect("s").alias_maximum(2).go(), bench.connect("w").go());
    s.subscribe("#", 1);
    without.subscribe("#", 1);
    let mut p = bench.connect("p").go();
    let mut known = std::collections::HashMap::new();
    for (n, topic) in ["a", "b", "c", "a", "b", "c", "a"].into_iter().enumerate() {
        p.publish(message(topic, n.to_string()).qos((n % 2) as u8));
        let received = s.receive();
        let name = match alias_of(&received) {
            None => received.topic,
            Some(alias) => {
                assert!((1..=2).contains(&alias));
                if !received.topic.is_empty() {
                    known.insert(alias, received.topic);
                }
                known[&alias]
            }
        };
        assert_eq!((name, received.payload), (topic, n.to_string().as_bytes()));
        assert_eq!(alias_of(&without.hears(topic, &n.to_string())), None);
    }
    assert_eq!(known.len(), 2);
}

// [MQTT-3.3.2-7]: what the client was told on another connection does not count
#[test]
fn aliases_towards_a_client_end_with_the_connection() {
    let bench = Bench::new();
    let mut s = bench.connect("s").resume(60).alias_maximum(2).go();
    s.subscribe("#", 1);
    let mut p = bench.connect("p").go();
    for name in ["t", ""] {
        p.publish(message("t", "x").qos(1));
        let m = s.receive();
        assert_eq!((m.topic, alias_of(&m)), (name, Some(1)));
    }
    s.vanish();
    let s = bench.connect("s").resume(60).alias_maximum(2).go();
    assert_eq!((s.receive().topic, s.receive().topic), ("t", ""), "again, named once");
}

// [MQTT-3.3.2-6]: what is left of the expiry; [MQTT-3.3.2-5]: nothing when it has passed
#[test]
fn the_expiry_counts_down_while_a_message_waits() {
    let bench = Bench::new();
    let mut s = bench.connect("s").resume(600).go();
    s.subscribe("t", 1);
    s.vanish();
    let mut p = bench.connect("p").go();
    p.publish(message("t", "short").qos(1).expiry(10));
    p.publish(message("t", "long").qos(1).expiry(100));
    p.publish(message("t", "endless").qos(1));
    bench.advance(30_000);
    let s = bench.connect("s").resume(600).go();
    assert_eq!(expiry_of(&s.hears("t", "long")), Some(70));
    assert_eq!(expiry_of(&s.hears("t", "endless")), None);
    s.silent();
}

#[test]
fn a_message_that_expires_behind_a_closed_window_is_not_sent() {
    let bench = Bench::new();
    let mut s = bench.connect("s").receive_maximum(1).go();
    s.subscribe("t", 1);
    let mut p = bench.connect("p").go();
    for text in ["first", "second", "third"] {
        p.publish(message("t", text).qos(1).expiry(if text == "second" { 5 } else { 50 }));
    }
    let first = s.hears("t", "first");
    bench.advance(6_000);
    s.puback(first.packet_id);
    s.hears("t", "third");
}

#[test]
fn an_expiry_passes_through_whole_at_once() {
    let bench = Bench::new();
    let mut s = bench.connect("s").go();
    s.subscribe("t", 0);
    bench.connect("p").go().publish(message("t", "x").expiry(10));
    assert_eq!(expiry_of(&s.receive()), Some(10));
}

// [MQTT-3.1.2-24], [MQTT-3.1.2-25]: what is too large for one client is dropped for it, and for it alone
#[test]
fn a_client_never_gets_more_than_its_packet_size() {
    let bench = Bench::new();
    for qos in 0..3 {
        let (mut small, mut large) = (bench.connect("small").max_packet(100).go(), bench.connect("large").go());
        small.subscribe("t", qos);
        large.subscribe("t", qos);
        let mut p = bench.connect("p").go();
        p.publish(message("t", "x".repeat(200)).qos(qos));
        assert_eq!(large.payloads().len(), 1);
        small.silent();
        p.publish(message("t", "fits").qos(qos));
        assert_eq!(small.payloads(), ["fits"]);
    }
}

// [MQTT-3.1.2-24]: the limit is inclusive, with aliases and without
#[test]
fn a_message_of_exactly_the_packet_size_arrives() {
    let bench = Bench::new();
    for aliases in [0, 10] {
        for qos in 0..2u8 {
            let mut s = bench.connect("s").max_packet(50).alias_maximum(aliases).go();
            s.subscribe("t", qos);
            let mut p = bench.connect("p").go();
            // fixed header 2, topic 3, identifier 2 at QoS 1, property length 1
            let room = 50 - 2 - 3 - 1 - 2 * usize::from(qos);
            p.publish(message("t", "x".repeat(room)).qos(qos));
            assert_eq!(s.receive().payload.len(), room, "QoS {qos}, {aliases} aliases");
            p.publish(message("t", "x".repeat(room + 1)).qos(qos));
            assert_eq!(s.all().len(), 0, "one byte more does not fit");
        }
    }
}

// [MQTT-3.1.2-25]: discarded and done, also when it was in flight before the client got smaller
#[test]
fn what_no_longer_fits_after_a_reconnect_does_not_block_the_window() {
    let bench = Bench::new();
    let mut s = bench.connect("s").resume(60).receive_maximum(1).go();
    s.subscribe("t", 1);
    let mut p = bench.connect("p").go();
    p.publish(message("t", "x".repeat(200)).qos(1));
    s.receive();
    p.publish(message("t", "small").qos(1));
    s.vanish();
    let s = bench.connect("s").resume(60).receive_maximum(1).max_packet(100).go();
    s.hears("t", "small");
}

// Section 3.2.2.3.6, 0x95: our own limit, known from the fixed header
#[test]
fn a_packet_beyond_our_size_is_refused_before_it_is_there() {
    let bench = Bench::with(
        Limits {
            max_packet_size: 100,
            ..quiet()
        },
        Rules::dangerous_allow_all(),
    );
    let p = bench.connect("p").go();
    p.raw(&[0x30, 98]);
    assert!(!p.is_closed(), "100 bytes in all are allowed");
    let q = bench.connect("q").go();
    q.raw(&[0x30, 99]);
    q.expect_closed(ReasonCode::PacketTooLarge);
}

// Bytes come as the network likes
#[test]
fn packets_may_arrive_in_any_pieces() {
    let bench = Bench::new();
    let mut s = bench.connect("s").go();
    s.subscribe("t", 0);
    let p = bench.connect("p").go();
    let mut stream = Vec::new();
    for n in 0..3 {
        let payload = format!("message {n}");
        let publish = Packet::Publish(Publish {
            dup: false,
            qos: sealmq_codec::QoS::AtMostOnce,
            retain: false,
            topic: "t",
            packet_id: 0,
            properties: Default::default(),
            payload: payload.as_bytes(),
        });
        publish.encode(p.version, &mut stream);
    }
    let mut buffer: Vec<u8> = Vec::new();
    for byte in stream {
        buffer.push(byte);
        let intake = bench.drive(|e, now| e.handle_bytes(now, p.id, &buffer));
        buffer.drain(..intake.consumed);
        assert!(intake.need > buffer.len(), "another try is not worth it yet");
    }
    assert_eq!(s.payloads(), ["message 0", "message 1", "message 2"]);
}

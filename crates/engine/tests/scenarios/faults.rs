//! Bytes that must not be: each offence ends its own connection with its code, and nobody else's.
//!
//! Refuses to know all malformed packets there are; the vectors do.

use crate::harness::{Bench, message};
use sealmq_codec::ReasonCode::{self, MalformedPacket, ProtocolError, TopicNameInvalid};

/// What the client sends in 5.0, and the reason it is told.
const OFFENCES: &[(&str, &[u8], ReasonCode)] = &[
    ("packet type 0", b"\x00\x00", MalformedPacket),
    // [MQTT-2.1.3-1]
    ("flags of PINGREQ", b"\xc1\x00", MalformedPacket),
    // [MQTT-3.8.1-1]
    (
        "flags of SUBSCRIBE",
        b"\x80\x07\x00\x01\x00\x00\x01a\x00",
        MalformedPacket,
    ),
    // [MQTT-3.10.1-1]
    (
        "flags of UNSUBSCRIBE",
        b"\xa0\x06\x00\x01\x00\x00\x01a",
        MalformedPacket,
    ),
    // [MQTT-3.6.1-1]
    ("flags of PUBREL", b"\x60\x02\x00\x01", MalformedPacket),
    // [MQTT-3.14.1-1]
    ("flags of DISCONNECT", b"\xe1\x00", MalformedPacket),
    // [MQTT-3.15.1-1]
    ("flags of AUTH", b"\xf1\x00", MalformedPacket),
    // [MQTT-1.5.5-1]
    (
        "remaining length of five bytes",
        b"\x30\xff\xff\xff\xff\x01",
        MalformedPacket,
    ),
    // [MQTT-3.3.1-4]
    ("PUBLISH with QoS 3", b"\x36\x07\x00\x01a\x00\x01\x00x", MalformedPacket),
    // [MQTT-3.3.1-2]
    ("DUP at QoS 0", b"\x38\x05\x00\x01a\x00x", MalformedPacket),
    ("packet identifier 0", b"\x32\x07\x00\x01a\x00\x00\x00x", ProtocolError),
    // [MQTT-3.3.2-2], [MQTT-4.7.0-1]
    (
        "topic name with a wildcard",
        b"\x30\x05\x00\x01#\x00x",
        TopicNameInvalid,
    ),
    // [MQTT-1.5.4-1], [MQTT-3.3.2-1]
    (
        "topic name that is not UTF-8",
        b"\x30\x05\x00\x01\xff\x00x",
        MalformedPacket,
    ),
    // [MQTT-1.5.4-2], [MQTT-4.7.3-2]
    ("topic name with U+0000", b"\x30\x05\x00\x01\x00\x00x", MalformedPacket),
    (
        "topic name longer than the packet",
        b"\x30\x04\x00\x09ab",
        MalformedPacket,
    ),
    ("unknown property", b"\x30\x07\x00\x01a\x02\x7f\x00x", MalformedPacket),
    (
        "property of another packet",
        b"\x30\x09\x00\x01a\x05\x11\x00\x00\x00\x01",
        MalformedPacket,
    ),
    (
        "property twice",
        b"\x30\x08\x00\x01a\x04\x01\x00\x01\x00",
        ProtocolError,
    ),
    ("payload format 2", b"\x30\x06\x00\x01a\x02\x01\x02", ProtocolError),
    // [MQTT-3.3.4-6]
    (
        "subscription identifier from a client",
        b"\x30\x06\x00\x01a\x02\x0b\x01",
        ProtocolError,
    ),
    // [MQTT-3.8.3-2]
    ("SUBSCRIBE without filter", b"\x82\x03\x00\x01\x00", ProtocolError),
    // [MQTT-3.8.3-5]
    (
        "SUBSCRIBE with reserved bits",
        b"\x82\x07\x00\x01\x00\x00\x01a\xc0",
        MalformedPacket,
    ),
    (
        "SUBSCRIBE with QoS 3",
        b"\x82\x07\x00\x01\x00\x00\x01a\x03",
        ProtocolError,
    ),
    (
        "SUBSCRIBE with retain handling 3",
        b"\x82\x07\x00\x01\x00\x00\x01a\x30",
        ProtocolError,
    ),
    // [MQTT-3.8.3-4]
    (
        "no local on a shared subscription",
        b"\x82\x10\x00\x01\x00\x00\x0a$share/g/a\x04",
        ProtocolError,
    ),
    (
        "subscription identifier 0",
        b"\x82\x09\x00\x01\x02\x0b\x00\x00\x01a\x00",
        ProtocolError,
    ),
    // [MQTT-3.10.3-2]
    ("UNSUBSCRIBE without filter", b"\xa2\x03\x00\x01\x00", ProtocolError),
    ("PUBACK with an unknown reason", b"\x40\x03\x00\x01\x05", ProtocolError),
    ("PINGREQ with a body", b"\xc0\x01\x00", MalformedPacket),
    // [MQTT-4.12.0-7]
    ("AUTH nobody asked for", b"\xf0\x00", ProtocolError),
    ("CONNACK from a client", b"\x20\x03\x00\x00\x00", ProtocolError),
    ("SUBACK from a client", b"\x90\x04\x00\x01\x00\x00", ProtocolError),
    ("UNSUBACK from a client", b"\xb0\x04\x00\x01\x00\x00", ProtocolError),
    ("PINGRESP from a client", b"\xd0\x00", ProtocolError),
    (
        "server reference in DISCONNECT",
        b"\xe0\x06\x00\x04\x1c\x00\x01a",
        ProtocolError,
    ),
];

// [MQTT-3.14.4-2], [MQTT-4.13.1-1], [MQTT-4.13.2-1]: the right code, and everybody else goes on
#[test]
fn each_offence_is_answered_with_its_code_and_harms_nobody_else() {
    let bench = Bench::new();
    let mut witness = bench.connect("witness").go();
    witness.subscribe("t", 1);
    for (what, bytes, reason) in OFFENCES {
        let offender = bench.connect("offender").go();
        offender.raw(bytes);
        assert!(offender.is_closed(), "{what}");
        let text = offender.expect_closed(*reason);
        assert!(
            text.is_some_and(|t| t.starts_with(char::is_alphabetic) && !t.ends_with('.')),
            "{what}: {text:?}"
        );
        bench.connect("p").go().publish(message("t", *what).qos(1));
        let heard = witness.hears("t", what);
        witness.puback(heard.packet_id);
    }
    assert_eq!(bench.drive(|e, _| e.counters().protocol_faults), OFFENCES.len() as u64);
}

// [MQTT-4.8.0-1] of 3.1.1: no word for it, the connection just ends
#[test]
fn an_offence_of_3_1_1_closes_silently() {
    let offences: &[&[u8]] = &[
        b"\x00\x00",
        b"\xf0\x00",
        // [MQTT-2.2.2-1], [MQTT-2.2.2-2] of 3.1.1: flags of PINGREQ
        b"\xc1\x00",
        // [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1] of 3.1.1: those that have a number of their own
        b"\x60\x02\x00\x01",
        b"\x80\x06\x00\x01\x00\x01a\x00",
        b"\xa0\x05\x00\x01\x00\x01a",
        b"\xe1\x00",
        // [MQTT-3.3.1-4] of 3.1.1: QoS 3
        b"\x36\x06\x00\x01a\x00\x01x",
        // [MQTT-3.3.1-2] of 3.1.1: DUP at QoS 0
        b"\x38\x04\x00\x01ax",
        // [MQTT-2.3.1-1] of 3.1.1: identifier 0
        b"\x32\x06\x00\x01a\x00\x00x",
        // [MQTT-3.3.2-2], [MQTT-4.7.1-1] of 3.1.1: a wildcard in a topic name
        b"\x30\x04\x00\x01+x",
        // [MQTT-4.7.3-1] of 3.1.1: an empty topic name
        b"\x30\x02\x00\x00",
        // [MQTT-1.5.3-1], [MQTT-3.3.2-1] of 3.1.1: a topic name that is not UTF-8
        b"\x30\x04\x00\x01\xffx",
        // [MQTT-1.5.3-2], [MQTT-4.7.3-2] of 3.1.1: one with U+0000
        b"\x30\x04\x00\x01\x00x",
        // [MQTT-3.8.3-3], [MQTT-3.10.3-2] of 3.1.1: without a filter
        b"\x82\x02\x00\x01",
        b"\xa2\x02\x00\x01",
        // [MQTT-3.8.3-1], [MQTT-3.10.3-1] of 3.1.1: filters that are not UTF-8
        b"\x82\x06\x00\x01\x00\x01\xff\x00",
        b"\xa2\x05\x00\x01\x00\x01\xff",
        // [MQTT-3.8.3-4] of 3.1.1: reserved bits, and QoS 3
        b"\x82\x06\x00\x01\x00\x01a\x04",
        b"\x82\x06\x00\x01\x00\x01a\x03",
        b"\x40\x03\x00\x01\x00",
        b"\xe0\x01\x00",
    ];
    for bytes in offences {
        let bench = Bench::new();
        let client = bench.connect("a").v311().go();
        client.raw(bytes);
        client.expect_closed(MalformedPacket);
        assert!(bench.endings().len() == 1, "{bytes:02x?}");
    }
}

// What stands before the offence counts, what stands after it does not
#[test]
fn nothing_after_an_offence_is_carried_out() {
    let bench = Bench::new();
    let mut s = bench.connect("s").go();
    s.subscribe("#", 0);
    let p = bench.connect("p").go();
    p.raw(b"\x30\x05\x00\x01a\x001\x00\x00\x30\x05\x00\x01a\x002");
    assert_eq!(s.payloads(), ["1"]);
    p.expect_closed(MalformedPacket);
    p.raw(b"\x30\x05\x00\x01a\x003");
    s.silent();
}

// Section 3.14.4: nothing after DISCONNECT
#[test]
fn nothing_after_disconnect_is_carried_out() {
    let bench = Bench::new();
    let mut s = bench.connect("s").go();
    s.subscribe("#", 0);
    let p = bench.connect("p").go();
    p.raw(b"\xe0\x00\x30\x05\x00\x01a\x00x");
    assert!(p.is_closed());
    p.silent();
    s.silent();
}

// [MQTT-3.14.2-3], [MQTT-3.14.2-4]: a DISCONNECT that fits into the client's packet size, if need be without words
#[test]
fn a_disconnect_fits_the_client() {
    let bench = Bench::new();
    for size in [16, 30, 50, 70] {
        let client = bench.connect("b").max_packet(size).go();
        bench.drive(|e, now| e.shut_down(now));
        client.expect_closed(ReasonCode::ServerShuttingDown);
    }
    let client = bench.connect("a").max_packet(16).go();
    client.raw(b"\x00\x00");
    assert_eq!(client.expect_closed(MalformedPacket), None);
}

// A connection that ended is unknown afterwards, and its index serves the next one
#[test]
fn calls_for_a_connection_that_is_gone_do_nothing() {
    let bench = Bench::new();
    let gone = bench.connect("gone").go();
    gone.vanish();
    let next = bench.connect("next").go();
    assert_eq!(gone.id.index, next.id.index);
    gone.raw(b"\x00\x00");
    gone.vanish();
    bench.drive(|e, now| e.handle_taken(now, gone.id));
    assert!(bench.drive(|e, _| e.is_closing(gone.id) && !e.is_closing(next.id)));
    assert!(!next.is_closed());
}

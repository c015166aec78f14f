//! CONNECT and CONNACK: who comes in, and what both sides agree on.
//!
//! Refuses to know how identities are proven.

use crate::harness::{Bench, quiet};
use sealmq_codec::{Connack, Connect, Frame, Framed, Packet, Property, ReasonCode, Version, frame};
use sealmq_engine::rules::Rules;
use sealmq_engine::{Event, Limits, Refusal};

/// The CONNACK inside a refusal.
fn refused(refusal: &Refusal, version: Version) -> (u8, Option<String>) {
    let Ok(Framed::Whole(Frame { size, .. })) = frame(&refusal.bytes, u32::MAX) else {
        panic!("a refusal is one packet");
    };
    assert_eq!(size, refusal.bytes.len());
    let Ok(Framed::Whole(whole)) = frame(&refusal.bytes, u32::MAX) else {
        unreachable!()
    };
    match Packet::decode(version, whole) {
        Ok(Packet::Connack(Connack {
            session_present: false,
            code,
            properties,
        })) => {
            let text = properties.iter().find_map(|p| match p {
                Property::ReasonString(text) => Some(text.to_string()),
                _ => None,
            });
            (code, text)
        }
        other => panic!("{other:?} is no refusal"),
    }
}

// [MQTT-3.1.4-5], [MQTT-3.2.0-1], [MQTT-3.2.0-2]; [MQTT-3.1.4-4], [MQTT-3.2.0-1] of 3.1.1: one CONNACK, before anything else
#[test]
fn connack_is_the_first_and_only_answer() {
    let bench = Bench::new();
    for client in [bench.connect("a").v5().go(), bench.connect("b").v311().go()] {
        assert!(!client.connack.session_present);
        client.silent();
    }
}

// Section 3.2.2.3: the limits of this broker
#[test]
fn connack_tells_the_limits() {
    let limits = Limits {
        receive_maximum: 5,
        max_packet_size: 4096,
        topic_alias_maximum: 3,
        max_keep_alive_s: 60,
        max_session_expiry_s: 100,
        ..quiet()
    };
    let bench = Bench::with(limits, Rules::dangerous_allow_all());
    let client = bench.connect("a").keep_alive(600).expiry(1000).go();
    let told: Vec<Property<'_>> = client.connack.properties.iter().collect();
    for expected in [
        Property::ReceiveMaximum(5),
        Property::MaximumPacketSize(4096),
        Property::TopicAliasMaximum(3),
        Property::ServerKeepAlive(60),
        Property::SessionExpiry(100),
    ] {
        assert!(told.contains(&expected), "{expected:?} in {told:?}");
    }
    let modest = bench.connect("b").keep_alive(10).expiry(10).go();
    let kept = |p| matches!(p, Property::ServerKeepAlive(_) | Property::SessionExpiry(_));
    assert!(
        !modest.connack.properties.iter().any(kept),
        "what was asked for is granted"
    );
    let old = bench.connect("c").v311().go();
    assert!(old.connack.properties.is_empty());
}

// [MQTT-3.1.3-6], [MQTT-3.1.3-7], [MQTT-3.2.2-16]
#[test]
fn an_empty_client_id_gets_one_that_belongs_to_the_device() {
    let bench = Bench::new();
    let assigned = |device| {
        let client = bench.connect("").device(Some(device)).go();
        client.connack.properties.iter().find_map(|p| match p {
            Property::AssignedClientId(id) => Some(id.to_string()),
            _ => None,
        })
    };
    let (first, second) = (assigned("dev").unwrap(), assigned("dev").unwrap());
    assert!(first.starts_with("dev:") && second.starts_with("dev:"));
    assert_ne!(first, second);
    let named = bench.connect("dev").go();
    let is_assigned = |p| matches!(p, Property::AssignedClientId(_));
    assert!(!named.connack.properties.iter().any(is_assigned));
}

// [MQTT-3.1.3-8], [MQTT-3.2.2-4] of 3.1.1: an empty identifier and clean session 0
#[test]
fn a_nameless_session_cannot_be_kept_in_3_1_1() {
    let bench = Bench::new();
    let refusal = bench.connect("").v311().clean(false).device(Some("d")).dial();
    let refusal = refusal.err().unwrap();
    assert_eq!(refused(&refusal, Version::V311), (2, None));
    assert!(bench.connect("").v311().device(Some("d")).dial().is_ok());
}

// [MQTT-3.1.4-2], [MQTT-3.2.2-6]: the client identifier follows the certificate
#[test]
fn a_client_id_of_another_device_is_refused_with_a_reason() {
    let bench = Bench::new();
    for (client_id, device, is_own) in [
        ("a", Some("a"), true),
        ("a:phone", Some("a"), true),
        ("b", Some("a"), false),
        ("ab", Some("a"), false),
        ("a/b", Some("a"), false),
        ("a", None, false),
        ("anonymous:x", None, true),
    ] {
        let outcome = bench.connect(client_id).device(device).dial();
        assert_eq!(outcome.is_ok(), is_own, "{client_id} by {device:?}");
        if let Err(refusal) = outcome {
            assert_eq!(refusal.cause, "client-id-mismatch");
            let (code, text) = refused(&refusal, Version::V5);
            assert_eq!(code, ReasonCode::ClientIdentifierNotValid as u8);
            assert!(text.unwrap().contains(client_id) && !refusal.mend.is_empty());
        }
    }
    assert!(bench.connect("b").device(Some("a")).any_client_id().dial().is_ok());
    assert_eq!(bench.drive(|e, _| e.counters().connects_refused), 4);
}

// [MQTT-4.12.0-1]: a method that is not offered
#[test]
fn enhanced_authentication_is_refused_by_name() {
    let bench = Bench::new();
    let dial = bench
        .connect("a")
        .property(Property::AuthenticationMethod("SCRAM-SHA-256"));
    let refusal = dial.dial().err().unwrap();
    assert_eq!(
        refused(&refusal, Version::V5).0,
        ReasonCode::BadAuthenticationMethod as u8
    );
}

// [MQTT-3.1.0-2] of both: a second CONNECT is a protocol error, and ends only that connection
#[test]
fn a_second_connect_closes_the_connection() {
    let bench = Bench::new();
    let (a, b) = (bench.connect("a").go(), bench.connect("b").v311().go());
    let c = bench.connect("c").go();
    let mut other = bench.connect("other").go();
    let again = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 0,
        properties: Default::default(),
        client_id: "a",
        will: None,
        username: None,
        password: None,
    };
    a.send(&Packet::Connect(again));
    b.send(&Packet::Connect(Connect {
        version: Version::V311,
        ..again
    }));
    // Whatever version it is of: DISCONNECT has no code for that.
    c.raw(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 6, 2, 0, 0, 0, 0, 0]);
    a.expect_closed(ReasonCode::ProtocolError);
    b.expect_closed(ReasonCode::ProtocolError);
    c.expect_closed(ReasonCode::ProtocolError);
    other.subscribe("t", 0);
    assert!(!other.is_closed());
}

// [MQTT-3.12.4-1] of both
#[test]
fn pingreq_is_answered() {
    let bench = Bench::new();
    for client in [bench.connect("a").v5().go(), bench.connect("b").v311().go()] {
        client.send(&Packet::Pingreq);
        client.expect(&Packet::Pingresp);
        client.silent();
    }
}

// [MQTT-3.1.2-28], [MQTT-4.12.0-6]: nor is there any for who asks for it
#[test]
fn connack_has_no_response_information() {
    let bench = Bench::new();
    for wanted in [0, 1] {
        let client = bench
            .connect("a")
            .property(Property::RequestResponseInformation(wanted))
            .go();
        let extra = |p| matches!(p, Property::ResponseInformation(_) | Property::AuthenticationMethod(_));
        assert!(!client.connack.properties.iter().any(extra));
    }
}

// [MQTT-3.1.2-24]: the smallest packets there are
#[test]
fn a_client_without_room_for_connack_is_refused() {
    let bench = Bench::new();
    let (mut refused_in, mut accepted) = (Vec::new(), 0);
    for size in 1..100 {
        match bench.connect("a").max_packet(size).dial() {
            Ok(client) => {
                assert!(
                    matches!(client.next(), Packet::Connack(_)),
                    "within {size} bytes, as the bench checks"
                );
                accepted += 1;
            }
            Err(refusal) => {
                assert_eq!((refusal.cause, accepted), ("client-packet-size", 0));
                assert!(
                    refusal.bytes.len() <= size as usize,
                    "{:02x?} for {size}",
                    refusal.bytes
                );
                refused_in.push(refusal.bytes.len());
            }
        }
    }
    assert!(refused_in.contains(&0) && refused_in.contains(&5), "{refused_in:?}");
    assert!(accepted > 50);
}

// [MQTT-3.2.2-19]
#[test]
fn a_refusal_has_no_words_for_a_client_without_room() {
    let bench = Bench::new();
    let refusal = |size| {
        bench
            .connect("b")
            .device(Some("a"))
            .max_packet(size)
            .dial()
            .err()
            .unwrap()
    };
    assert!(refused(&refusal(200), Version::V5).1.is_some());
    let bytes = refusal(20).bytes;
    assert!(bytes.len() <= 20, "{bytes:02x?}");
}

#[test]
fn what_happened_is_observed() {
    let bench = Bench::new();
    bench.events();
    let client = bench.connect("a").v311().keep_alive(30).go();
    client.disconnect();
    let events = bench.events();
    assert!(matches!(
        &events[..],
        [
            Event::Connected { client_id, version: Version::V311, keep_alive_s: 30, clean_start: true, .. },
            Event::Disconnected { cause, .. },
        ] if &**client_id == "a" && cause.slug() == "client-disconnect"
    ));
}

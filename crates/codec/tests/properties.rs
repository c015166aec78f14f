//! Properties that hold for every packet and for every run of bytes, tried with random ones.
//!
//! Refuses to know particular packets; those are in the vectors.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sealmq_codec::{
    Connect, FilterBuf, Frame, Framed, Packet, PacketKind, Properties, Property, PropertyBuf, PropertySet, Publish,
    QoS, RetainHandling, Subscribe, SubscribeOptions, Version, Will, frame, topic, varint_len, write_varint,
};

/// What a property is made of, owned.
#[derive(Clone, Debug)]
enum Value {
    Byte(u8, bool),
    Number(u8, u32),
    Text(u8, String),
    Data(u8, Vec<u8>),
    User(String, String),
}

impl Value {
    fn identifier(&self) -> u8 {
        match self {
            Value::Byte(id, _) | Value::Number(id, _) | Value::Text(id, _) | Value::Data(id, _) => *id,
            Value::User(_, _) => 0x26,
        }
    }

    fn push(&self, block: &mut PropertyBuf) {
        let short = |n: &u32| (*n as u16).max(1);
        block.push(match self {
            Value::Byte(0x01, bit) => Property::PayloadFormat((*bit).into()),
            Value::Byte(0x17, bit) => Property::RequestProblemInformation((*bit).into()),
            Value::Byte(_, bit) => Property::RequestResponseInformation((*bit).into()),
            Value::Number(0x02, n) => Property::MessageExpiry(*n),
            Value::Number(0x0B, n) => Property::SubscriptionIdentifier((n & 0x0fff_ffff).max(1)),
            Value::Number(0x11, n) => Property::SessionExpiry(*n),
            Value::Number(0x18, n) => Property::WillDelay(*n),
            Value::Number(0x21, n) => Property::ReceiveMaximum(short(n)),
            Value::Number(0x22, n) => Property::TopicAliasMaximum(*n as u16),
            Value::Number(0x23, n) => Property::TopicAlias(short(n)),
            Value::Number(_, n) => Property::MaximumPacketSize((*n).max(1)),
            Value::Text(0x03, text) => Property::ContentType(text),
            Value::Text(0x15, text) => Property::AuthenticationMethod(text),
            Value::Text(_, text) => Property::ResponseTopic(text),
            Value::Data(_, data) => Property::CorrelationData(data),
            Value::User(name, value) => Property::UserProperty(name, value),
        });
    }
}

fn text() -> impl Strategy<Value = String> {
    "[^\u{0}]{0,12}"
}

fn topic() -> impl Strategy<Value = String> {
    "[^\u{0}+#]{1,20}"
}

fn value(identifier: u8) -> BoxedStrategy<Value> {
    match identifier {
        0x01 | 0x17 | 0x19 => any::<bool>().prop_map(move |bit| Value::Byte(identifier, bit)).boxed(),
        0x08 => topic().prop_map(move |text| Value::Text(identifier, text)).boxed(),
        0x03 | 0x15 => text().prop_map(move |text| Value::Text(identifier, text)).boxed(),
        0x09 => vec(any::<u8>(), 0..20)
            .prop_map(move |data| Value::Data(identifier, data))
            .boxed(),
        0x26 => (text(), text())
            .prop_map(|(name, value)| Value::User(name, value))
            .boxed(),
        _ => any::<u32>().prop_map(move |n| Value::Number(identifier, n)).boxed(),
    }
}

/// A block that may stand where `identifiers` may: in any order, each once, user properties as often as they like.
fn block(identifiers: &'static [u8]) -> impl Strategy<Value = Vec<Value>> {
    vec(prop::sample::select(identifiers).prop_flat_map(value), 0..10).prop_map(|mut values| {
        let mut seen = std::collections::HashSet::new();
        values.retain(|value| value.identifier() == 0x26 || seen.insert(value.identifier()));
        values
    })
}

fn built(values: &[Value]) -> PropertyBuf {
    let mut block = PropertyBuf::new();
    for value in values {
        value.push(&mut block);
    }
    block
}

fn of(version: Version, block: &PropertyBuf) -> Properties<'_> {
    match version {
        Version::V311 => Properties::EMPTY,
        Version::V5 => block.as_properties(),
    }
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

/// Encode, frame, decode: the same packet, and the header told the length right.
fn round_trip(version: Version, packet: &Packet<'_>) -> Result<(), TestCaseError> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    match frame(&bytes, u32::MAX) {
        Ok(Framed::Whole(whole)) => {
            prop_assert_eq!(whole.size, bytes.len());
            prop_assert_eq!(Packet::decode(version, whole), Ok(*packet));
        }
        other => prop_assert!(false, "{:?}", other),
    }
    Ok(())
}

/// Every length, and what lies around the borders between lengths.
fn number() -> impl Strategy<Value = usize> {
    let border = (prop::sample::select(vec![0x80usize, 0x4000, 0x20_0000]), -2..2isize);
    prop_oneof![
        0..=268_435_455usize,
        0..0x5000usize,
        border.prop_map(|(at, by)| at.saturating_add_signed(by))
    ]
}

const OF_PUBLISH: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26];
const OF_CONNECT: &[u8] = &[0x11, 0x15, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27];
const OF_WILL: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26];
const OF_SUBSCRIBE: &[u8] = &[0x0B, 0x26];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_publish_survives_the_wire(
        version in version(), qos in qos(), flags in any::<(bool, bool)>(), topic in topic(), id in 1..=u16::MAX,
        values in block(OF_PUBLISH), payload in vec(any::<u8>(), 0..300),
    ) {
        let properties = built(&values);
        let has_id = qos != QoS::AtMostOnce;
        let publish = Publish {
            dup: flags.0 && has_id,
            qos,
            retain: flags.1,
            topic: &topic,
            packet_id: if has_id { id } else { 0 },
            properties: of(version, &properties),
            payload: &payload,
        };
        round_trip(version, &Packet::Publish(publish))?;
    }

    #[test]
    fn a_connect_survives_the_wire(
        version in version(), clean_start in any::<bool>(), keep_alive in any::<u16>(), client_id in text(),
        values in block(OF_CONNECT), user in option::of(text()), password in option::of(vec(any::<u8>(), 0..20)),
        will in option::of((qos(), any::<bool>(), block(OF_WILL), topic(), vec(any::<u8>(), 0..50))),
    ) {
        let properties = built(&values);
        let will_properties = will.as_ref().map(|w| built(&w.2)).unwrap_or_default();
        let connect = Connect {
            version,
            clean_start,
            keep_alive,
            properties: of(version, &properties),
            client_id: &client_id,
            will: will.as_ref().map(|(qos, retain, _, topic, payload)| Will {
                qos: *qos,
                retain: *retain,
                properties: of(version, &will_properties),
                topic,
                payload,
            }),
            username: user.as_deref(),
            // 3.1.1 knows no password without a user name
            password: password.as_deref().filter(|_| version == Version::V5 || user.is_some()),
        };
        // The version a CONNECT is read with is its own.
        round_trip(Version::V311, &Packet::Connect(connect))?;
        round_trip(Version::V5, &Packet::Connect(connect))?;
    }

    #[test]
    fn a_subscribe_survives_the_wire(
        version in version(), packet_id in 1..=u16::MAX, values in block(OF_SUBSCRIBE),
        filters in vec((text(), qos(), any::<(bool, bool)>(), 0..3u8), 1..10),
    ) {
        let properties = built(&values);
        let mut list = FilterBuf::new();
        let mut expected = Vec::new();
        for (filter, qos, (no_local, retain_as_published), handling) in &filters {
            let full = SubscribeOptions {
                qos: *qos,
                no_local: *no_local,
                retain_as_published: *retain_as_published,
                retain_handling: match handling {
                    0 => RetainHandling::SendAlways,
                    1 => RetainHandling::SendIfNew,
                    _ => RetainHandling::DoNotSend,
                },
            };
            list.push(version, filter, full);
            expected.push((filter.as_str(), if version == Version::V5 { full } else { SubscribeOptions::plain(*qos) }));
        }
        let subscribe = Subscribe { packet_id, properties: of(version, &properties), filters: list.as_filters(version) };
        let read: Vec<_> = subscribe.filters.iter().map(|s| (s.filter, s.options)).collect();
        prop_assert_eq!(read, expected);
        round_trip(version, &Packet::Subscribe(subscribe))?;
    }

    /// A block that was built is valid where it belongs, and reads in the order it was written.
    #[test]
    fn properties_keep_their_order(values in block(OF_PUBLISH)) {
        let built = built(&values);
        let place = PropertySet::Packet(PacketKind::Publish);
        let checked = Properties::validate(built.as_properties().raw(), place);
        prop_assert_eq!(checked, Ok(built.as_properties()));
        let identifiers: Vec<u8> = built.as_properties().iter().map(|p| p.identifier()).collect();
        prop_assert_eq!(identifiers, values.iter().map(Value::identifier).collect::<Vec<_>>());
    }

    /// Whatever arrives is a packet, a fault, or too short; what was understood is written back and understood the same.
    #[test]
    fn random_bytes_never_break_the_decoder(version in version(), bytes in vec(any::<u8>(), 0..200), limit in 1..300u32) {
        match frame(&bytes, limit) {
            Ok(Framed::Whole(whole)) => {
                prop_assert!(whole.size <= bytes.len() && whole.size <= limit as usize);
                understood(version, whole)?;
            }
            Ok(Framed::Need(need)) => prop_assert!(need > bytes.len()),
            Err(fault) => prop_assert!(!fault.to_string().is_empty()),
        }
    }

    /// Bodies that look like packets get further than noise: a valid first byte, small lengths, familiar values.
    #[test]
    fn likely_bodies_never_break_the_decoder(
        version in version(), kind in 1..=15u8, flags in 0..16u8,
        body in vec(prop_oneof![4 => 0..8u8, 2 => Just(b'a'), 1 => any::<u8>(), 1 => 0x20..0x2bu8], 0..60),
        is_connect in any::<bool>(),
    ) {
        let usual = if matches!(kind, 6 | 8 | 10) { 2 } else { 0 };
        let first = (kind << 4) | if kind == 3 { flags } else { usual };
        let mut whole = Vec::new();
        if is_connect && kind == 1 {
            whole.extend_from_slice(b"\x00\x04MQTT");
        }
        whole.extend_from_slice(&body);
        understood(version, Frame { first, body: &whole, size: whole.len() + 2 })?;
    }

    /// Names and filters of few levels, so that they often match; also such as no packet can carry.
    #[test]
    fn a_pattern_matches_what_its_filter_does(filter in "[ab+#$/]{0,8}", name in "[ab+#$/]{0,8}") {
        let pattern = topic::Pattern::new(filter.as_str());
        prop_assert_eq!(pattern.matches(&name), topic::matches(&filter, &name));
        prop_assert_eq!(pattern.as_str(), filter);
    }

    #[test]
    fn variable_byte_integers_take_what_they_say(value in number()) {
        let mut bytes = Vec::new();
        write_varint(value, &mut bytes);
        prop_assert_eq!(bytes.len(), varint_len(value));
        bytes.insert(0, 0x30);
        let size = bytes.len() + value;
        let outcome = frame(&bytes, u32::MAX);
        prop_assert!(value == 0 || outcome == Ok(Framed::Need(size)), "{:?}", outcome);
    }
}

fn understood(version: Version, whole: Frame<'_>) -> Result<(), TestCaseError> {
    let Ok(packet) = Packet::decode(version, whole) else {
        return Ok(());
    };
    if let Packet::Subscribe(subscribe) = packet {
        prop_assert!(subscribe.filters.iter().count() > 0);
    }
    if let Packet::Unsubscribe(unsubscribe) = packet {
        prop_assert!(unsubscribe.filters().count() > 0);
    }
    round_trip(version, &packet)
}

//! Every packet that can be put together is written so that it is read as the same packet, and written again as the same
//! bytes.
//!
//! Refuses to know which packets make sense: a fault is an answer too, but not one that depends on who asks.
#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use sealmq_codec::{
    Ack, Connack, Connect, Disconnect, FilterBuf, Framed, Packet, Property, PropertyBuf, Publish, QoS, RetainHandling,
    SubackCodes, Subscribe, SubscribeOptions, Unsubscribe, Version, Will, frame, write_string,
};

fuzz_target!(|data: &[u8]| {
    let _ = attempt(&mut Unstructured::new(data));
});

fn attempt(u: &mut Unstructured<'_>) -> Result<()> {
    let version = if u.arbitrary()? { Version::V5 } else { Version::V311 };
    let properties = if version == Version::V5 { properties(u)? } else { PropertyBuf::new() };
    let properties = properties.as_properties();
    let packet_id = u.int_in_range(1..=u16::MAX)?;
    let ack = Ack {
        packet_id,
        reason: if version == Version::V5 { u.arbitrary()? } else { 0 },
        properties,
    };
    let (filter, name): (&str, &str) = (u.arbitrary()?, u.arbitrary()?);
    let codes: &[u8] = u.arbitrary()?;
    let mut filters = FilterBuf::new();
    filters.push(version, filter, options(u)?);
    let mut raw = Vec::new();
    write_string(filter, &mut raw);
    let qos = qos(u)?;
    let packet = match u.int_in_range(0..=11)? {
        0 => Packet::Publish(Publish {
            dup: qos != QoS::AtMostOnce && u.arbitrary()?,
            qos,
            retain: u.arbitrary()?,
            topic: name,
            packet_id: if qos == QoS::AtMostOnce { 0 } else { packet_id },
            properties,
            payload: codes,
        }),
        1 => Packet::Puback(ack),
        2 => Packet::Pubrec(ack),
        3 => Packet::Pubrel(ack),
        4 => Packet::Pubcomp(ack),
        5 => Packet::Subscribe(Subscribe {
            packet_id,
            properties,
            filters: filters.as_filters(version),
        }),
        6 => Packet::Suback(SubackCodes {
            packet_id,
            properties,
            codes,
        }),
        7 => Packet::Unsubscribe(Unsubscribe::new(packet_id, properties, &raw)),
        8 => Packet::Connack(Connack {
            session_present: u.arbitrary()?,
            code: u.arbitrary()?,
            properties,
        }),
        9 => Packet::Disconnect(Disconnect {
            reason: if version == Version::V5 { u.arbitrary()? } else { 0 },
            properties,
        }),
        10 => Packet::Connect(Connect {
            version,
            clean_start: u.arbitrary()?,
            keep_alive: u.arbitrary()?,
            properties,
            client_id: name,
            will: will(u, version)?,
            username: Some(filter),
            password: u.arbitrary()?,
        }),
        _ => Packet::Pingreq,
    };
    check(version, &packet);
    Ok(())
}

fn check(version: Version, packet: &Packet<'_>) {
    let mut written = Vec::new();
    packet.encode(version, &mut written);
    let Ok(Framed::Whole(whole)) = frame(&written, u32::MAX) else {
        panic!("{packet:?} is not written whole");
    };
    // What was put together may break the rules of the protocol, and then it is not read.
    let Ok(read) = Packet::decode(version, whole) else { return };
    assert_eq!(&read, packet);
    let mut again = Vec::new();
    read.encode(version, &mut again);
    assert_eq!(again, written);
}

fn qos(u: &mut Unstructured<'_>) -> Result<QoS> {
    u.choose(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]).copied()
}

fn options(u: &mut Unstructured<'_>) -> Result<SubscribeOptions> {
    Ok(SubscribeOptions {
        qos: qos(u)?,
        no_local: u.arbitrary()?,
        retain_as_published: u.arbitrary()?,
        retain_handling: *u.choose(&[
            RetainHandling::SendAlways,
            RetainHandling::SendIfNew,
            RetainHandling::DoNotSend,
        ])?,
    })
}

fn will<'a>(u: &mut Unstructured<'a>, version: Version) -> Result<Option<Will<'a>>> {
    if version == Version::V5 || !u.arbitrary()? {
        return Ok(None);
    }
    Ok(Some(Will {
        qos: qos(u)?,
        retain: u.arbitrary()?,
        properties: sealmq_codec::Properties::EMPTY,
        topic: u.arbitrary()?,
        payload: u.arbitrary()?,
    }))
}

fn properties(u: &mut Unstructured<'_>) -> Result<PropertyBuf> {
    let mut all = PropertyBuf::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let text = <&str>::arbitrary(u)?;
        all.push(match u.int_in_range(0..=9)? {
            0 => Property::MessageExpiry(u.arbitrary()?),
            1 => Property::SubscriptionIdentifier(u.int_in_range(1..=268_435_455)?),
            2 => Property::TopicAlias(u.arbitrary()?),
            3 => Property::UserProperty(text, "v"),
            4 => Property::ReasonString(text),
            5 => Property::ContentType(text),
            6 => Property::CorrelationData(text.as_bytes()),
            7 => Property::SessionExpiry(u.arbitrary()?),
            8 => Property::ReceiveMaximum(u.arbitrary()?),
            _ => Property::MaximumPacketSize(u.arbitrary()?),
        });
    }
    Ok(all)
}

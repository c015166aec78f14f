//! MQTT packets as JSON and back, for those who look at them: trace, recordings, tests.
//!
//! Refuses to know connections. The codec does the work; here are only the names.

use sealmq_codec::{
    Ack, Connect, Disconnect, FilterBuf, Framed, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe,
    SubscribeOptions, Version, frame,
};
use serde_json::{Map, Value, json};

/// `3.1.1` or `5.0`.
pub fn version(name: &str) -> Option<Version> {
    match name {
        "3.1.1" => Some(Version::V311),
        "5.0" => Some(Version::V5),
        _ => None,
    }
}

/// Decode packets from the start of `bytes` until one is not whole or not MQTT: a JSON object each (`kind`, `bytes`, its
/// fields by the specification's names), the bytes used, and the fault that ended it, if one did. A CONNECT sets the
/// version of what follows.
pub fn packets(mut version: Version, bytes: &[u8]) -> (Vec<Value>, usize, Option<String>) {
    let (mut found, mut used) = (Vec::new(), 0);
    loop {
        let whole = match frame(bytes.get(used..).unwrap_or_default(), u32::MAX) {
            Ok(Framed::Whole(whole)) => whole,
            Ok(Framed::Need(_)) => return (found, used, None),
            Err(fault) => return (found, used, Some(fault.to_string())),
        };
        match Packet::decode(version, whole) {
            Ok(packet) => {
                if let Packet::Connect(connect) = &packet {
                    version = connect.version;
                }
                let mut fields = describe(version, &packet);
                fields.insert("kind".into(), json!(packet.kind().name()));
                fields.insert("bytes".into(), json!(whole.size));
                found.push(Value::Object(fields));
                used += whole.size;
            }
            Err(fault) => return (found, used, Some(fault.to_string())),
        }
    }
}

/// Encode one packet from JSON: `kind` CONNECT, SUBSCRIBE, PUBLISH, PUBACK, PINGREQ or DISCONNECT with the fields that
/// [`packets`] shows for it. `None` when the kind is another or a field is missing.
pub fn encode(version: Version, packet: &Value) -> Option<Vec<u8>> {
    let text = |name: &str| packet.get(name).and_then(Value::as_str);
    let number = |name: &str| packet.get(name).and_then(Value::as_u64);
    let flag = |name: &str| packet.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut out = Vec::new();
    match text("kind")? {
        "CONNECT" => Packet::Connect(Connect {
            version,
            clean_start: packet.get("clean_start").and_then(Value::as_bool).unwrap_or(true),
            keep_alive: number("keep_alive").unwrap_or(60) as u16,
            properties: Properties::EMPTY,
            client_id: text("client_id").unwrap_or_default(),
            will: None,
            username: text("username"),
            password: text("password").map(str::as_bytes),
        })
        .encode(version, &mut out),
        "SUBSCRIBE" => {
            let mut filters = FilterBuf::new();
            let qos = QoS::from_bits(number("qos").unwrap_or(0) as u8)?;
            filters.push(version, text("filter")?, SubscribeOptions::plain(qos));
            let filters = filters.as_filters(version);
            let packet_id = number("packet_id")? as u16;
            Packet::Subscribe(Subscribe {
                packet_id,
                properties: Properties::EMPTY,
                filters,
            })
            .encode(version, &mut out);
        }
        "PUBLISH" => Packet::Publish(Publish {
            dup: false,
            qos: QoS::from_bits(number("qos").unwrap_or(0) as u8)?,
            retain: flag("retain"),
            topic: text("topic")?,
            packet_id: number("packet_id").unwrap_or(0) as u16,
            properties: Properties::EMPTY,
            payload: text("payload").unwrap_or_default().as_bytes(),
        })
        .encode(version, &mut out),
        "PUBACK" => {
            let ack = Ack {
                packet_id: number("packet_id")? as u16,
                reason: 0,
                properties: Properties::EMPTY,
            };
            Packet::Puback(ack).encode(version, &mut out);
        }
        "PINGREQ" => Packet::Pingreq.encode(version, &mut out),
        "DISCONNECT" => {
            Packet::Disconnect(Disconnect {
                reason: 0,
                properties: Properties::EMPTY,
            })
            .encode(version, &mut out);
        }
        _ => return None,
    }
    Some(out)
}

fn describe(version: Version, packet: &Packet<'_>) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| drop(fields.insert(name.into(), value));
    match packet {
        Packet::Connect(connect) => {
            set("version", json!(connect.version.name()));
            set("clean_start", json!(connect.clean_start));
            set("keep_alive", json!(connect.keep_alive));
            set("client_id", json!(connect.client_id));
            set("username", json!(connect.username));
            set("has_password", json!(connect.password.is_some()));
            set("properties", properties(connect.properties));
            if let Some(will) = &connect.will {
                set(
                    "will",
                    json!({
                        "topic": will.topic, "qos": will.qos as u8, "retain": will.retain, "payload_bytes": will.payload.len(),
                        "properties": properties(will.properties),
                    }),
                );
            }
        }
        Packet::Connack(connack) => {
            set("session_present", json!(connack.session_present));
            set("code", json!(connack.code));
            set("reason", json!(connack_reason(version, connack.code)));
            set("properties", properties(connack.properties));
        }
        Packet::Publish(publish) => {
            set("topic", json!(publish.topic));
            set("qos", json!(publish.qos as u8));
            set("retain", json!(publish.retain));
            set("dup", json!(publish.dup));
            set("packet_id", json!(publish.packet_id));
            set("payload_bytes", json!(publish.payload.len()));
            set("properties", properties(publish.properties));
        }
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            set("packet_id", json!(ack.packet_id));
            set("code", json!(ack.reason));
            set("reason", json!(reason(ack.reason)));
            set("properties", properties(ack.properties));
        }
        Packet::Subscribe(subscribe) => {
            set("packet_id", json!(subscribe.packet_id));
            let filters = subscribe
                .filters
                .iter()
                .map(|s| json!({"filter": s.filter, "qos": s.options.qos as u8}));
            set("filters", Value::Array(filters.collect()));
            set("properties", properties(subscribe.properties));
        }
        Packet::Suback(codes) | Packet::Unsuback(codes) => {
            set("packet_id", json!(codes.packet_id));
            set("codes", json!(codes.codes));
            set(
                "reasons",
                json!(codes.codes.iter().map(|&c| reason(c)).collect::<Vec<_>>()),
            );
            set("properties", properties(codes.properties));
        }
        Packet::Unsubscribe(unsubscribe) => {
            set("packet_id", json!(unsubscribe.packet_id));
            set("filters", json!(unsubscribe.filters().collect::<Vec<_>>()));
        }
        Packet::Disconnect(disconnect) => {
            set("code", json!(disconnect.reason));
            set("reason", json!(reason(disconnect.reason)));
            set("properties", properties(disconnect.properties));
        }
        Packet::Auth(auth) => {
            set("code", json!(auth.reason));
            set("reason", json!(reason(auth.reason)));
        }
        Packet::Pingreq | Packet::Pingresp => {}
    }
    fields
}

fn reason(code: u8) -> &'static str {
    ReasonCode::from_byte(code).map_or("unknown reason code", ReasonCode::name)
}

fn connack_reason(version: Version, code: u8) -> &'static str {
    match (version, code) {
        (Version::V5, code) => reason(code),
        (Version::V311, 0) => "connection accepted",
        (Version::V311, 1) => "unacceptable protocol version",
        (Version::V311, 2) => "identifier rejected",
        (Version::V311, 3) => "server unavailable",
        (Version::V311, 4) => "bad user name or password",
        (Version::V311, 5) => "not authorized",
        (Version::V311, _) => "unknown return code",
    }
}

/// Properties in wire order as `[name, value]` pairs, so that repeated ones stay.
fn properties(block: Properties<'_>) -> Value {
    let pair = |name: &str, value: Value| json!([name, value]);
    let pairs = block.iter().map(|property| match property {
        Property::PayloadFormat(v) => pair("payload_format", json!(v)),
        Property::MessageExpiry(v) => pair("message_expiry", json!(v)),
        Property::ContentType(v) => pair("content_type", json!(v)),
        Property::ResponseTopic(v) => pair("response_topic", json!(v)),
        Property::CorrelationData(v) => pair("correlation_data_bytes", json!(v.len())),
        Property::SubscriptionIdentifier(v) => pair("subscription_identifier", json!(v)),
        Property::SessionExpiry(v) => pair("session_expiry", json!(v)),
        Property::AssignedClientId(v) => pair("assigned_client_id", json!(v)),
        Property::ServerKeepAlive(v) => pair("server_keep_alive", json!(v)),
        Property::AuthenticationMethod(v) => pair("authentication_method", json!(v)),
        Property::AuthenticationData(v) => pair("authentication_data_bytes", json!(v.len())),
        Property::RequestProblemInformation(v) => pair("request_problem_information", json!(v)),
        Property::WillDelay(v) => pair("will_delay", json!(v)),
        Property::RequestResponseInformation(v) => pair("request_response_information", json!(v)),
        Property::ResponseInformation(v) => pair("response_information", json!(v)),
        Property::ServerReference(v) => pair("server_reference", json!(v)),
        Property::ReasonString(v) => pair("reason_string", json!(v)),
        Property::ReceiveMaximum(v) => pair("receive_maximum", json!(v)),
        Property::TopicAliasMaximum(v) => pair("topic_alias_maximum", json!(v)),
        Property::TopicAlias(v) => pair("topic_alias", json!(v)),
        Property::MaximumQos(v) => pair("maximum_qos", json!(v)),
        Property::RetainAvailable(v) => pair("retain_available", json!(v)),
        Property::UserProperty(k, v) => pair("user_property", json!([k, v])),
        Property::MaximumPacketSize(v) => pair("maximum_packet_size", json!(v)),
        Property::WildcardAvailable(v) => pair("wildcard_subscription_available", json!(v)),
        Property::SubscriptionIdentifiersAvailable(v) => pair("subscription_identifiers_available", json!(v)),
        Property::SharedAvailable(v) => pair("shared_subscription_available", json!(v)),
    });
    Value::Array(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_described_again() {
        for version in [Version::V311, Version::V5] {
            let mut bytes = Vec::new();
            for packet in [
                json!({"kind": "CONNECT", "client_id": "a", "keep_alive": 7}),
                json!({"kind": "SUBSCRIBE", "packet_id": 1, "filter": "a/+", "qos": 1}),
                json!({"kind": "PUBLISH", "topic": "a/b", "payload": "hello", "qos": 1, "packet_id": 2}),
                json!({"kind": "DISCONNECT"}),
            ] {
                bytes.extend(encode(version, &packet).unwrap());
            }
            bytes.push(0x30);
            let (found, used, fault) = packets(version, &bytes);
            let kinds: Vec<_> = found.iter().map(|p| p["kind"].as_str().unwrap()).collect();
            assert_eq!(kinds, ["CONNECT", "SUBSCRIBE", "PUBLISH", "DISCONNECT"]);
            assert_eq!((used, fault), (bytes.len() - 1, None));
            assert_eq!(found[2]["payload_bytes"], 5);
        }
    }

    #[test]
    fn a_fault_ends_the_list_with_a_sentence() {
        let (found, used, fault) = packets(Version::V311, &[0xc0, 0x00, 0xf0, 0x00]);
        assert_eq!((found.len(), used), (1, 2));
        assert!(fault.unwrap().contains("packet type 15"));
    }
}

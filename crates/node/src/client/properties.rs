//! Properties and reasons between the wire and JSON.
//!
//! Refuses to know packets: a place is named, and what does not belong there is refused.

use super::fault::{ClientError, misuse};
use sealmq_codec::{Properties, Property, PropertyBuf, PropertySet, ReasonCode};
use serde_json::{Map, Value, json};

pub(super) fn reason_text(code: u8, properties: Properties<'_>) -> String {
    let name = ReasonCode::from_byte(code).map_or("unknown reason", ReasonCode::name);
    let said = properties.iter().find_map(|p| {
        if let Property::ReasonString(s) = p {
            Some(s.to_owned())
        } else {
            None
        }
    });
    match said {
        Some(said) => format!("{name} ({code:#04x}): {said}"),
        None => format!("{name} ({code:#04x})"),
    }
}

pub(super) fn connack_v311(code: u8) -> &'static str {
    match code {
        1 => "unacceptable protocol version (1)",
        2 => "client identifier rejected (2)",
        3 => "server unavailable (3)",
        4 => "bad user name or password (4)",
        5 => "not authorized (5)",
        _ => "unknown return code",
    }
}

pub(super) fn hex(text: &str) -> Result<Vec<u8>, ClientError> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [a, b] => Some(digit(*a)? << 4 | digit(*b)?),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| misuse("payload is not hexadecimal"))
}

/// A property block for `place` from a JSON object (null: none). Names are those of MQTT 5.0 section 2.2.2.2 in
/// `snake_case`, `correlation_hex` for binary data, `user` a list of `[name, value]`.
pub(super) fn block(given: &Value, place: PropertySet) -> Result<PropertyBuf, ClientError> {
    let mut block = PropertyBuf::new();
    let Some(given) = given.as_object() else {
        return Ok(block);
    };
    for (name, value) in given {
        push(name, value, &mut block).ok_or_else(|| misuse(&format!("property {name} has no value that fits")))??;
    }
    if let Err(fault) = Properties::validate(block.as_properties().raw(), place) {
        return Err(misuse(&format!("properties do not belong there: {fault}")));
    }
    Ok(block)
}

/// `None`: the value does not fit.
fn push(name: &str, value: &Value, block: &mut PropertyBuf) -> Option<Result<(), ClientError>> {
    let byte = || value.as_u64().and_then(|v| u8::try_from(v).ok());
    let two = || value.as_u64().and_then(|v| u16::try_from(v).ok());
    let four = || value.as_u64().and_then(|v| u32::try_from(v).ok());
    match name {
        "payload_format" => block.push(Property::PayloadFormat(byte()?)),
        "message_expiry" => block.push(Property::MessageExpiry(four()?)),
        "content_type" => block.push(Property::ContentType(value.as_str()?)),
        "response_topic" => block.push(Property::ResponseTopic(value.as_str()?)),
        "correlation_hex" => block.push(Property::CorrelationData(&hex(value.as_str()?).ok()?)),
        "session_expiry" => block.push(Property::SessionExpiry(four()?)),
        "will_delay" => block.push(Property::WillDelay(four()?)),
        "topic_alias" => block.push(Property::TopicAlias(two()?)),
        "receive_maximum" => block.push(Property::ReceiveMaximum(two()?)),
        "topic_alias_maximum" => block.push(Property::TopicAliasMaximum(two()?)),
        "maximum_packet_size" => block.push(Property::MaximumPacketSize(four()?)),
        "request_problem_information" => block.push(Property::RequestProblemInformation(byte()?)),
        "request_response_information" => block.push(Property::RequestResponseInformation(byte()?)),
        "subscription_identifier" => block.push(Property::SubscriptionIdentifier(four()?)),
        "user" => {
            for pair in value.as_array()? {
                block.push(Property::UserProperty(pair.get(0)?.as_str()?, pair.get(1)?.as_str()?));
            }
            block
        }
        other => return Some(Err(misuse(&format!("property {other} is not known")))),
    };
    Some(Ok(()))
}

/// Properties of a received message as JSON, in the words of [`block`].
pub(super) fn of_message(properties: Properties<'_>) -> Value {
    let mut found = Map::new();
    let mut user = Vec::new();
    let mut identifiers = Vec::new();
    for property in properties.iter() {
        match property {
            Property::PayloadFormat(v) => drop(found.insert("payload_format".into(), json!(v))),
            Property::MessageExpiry(v) => drop(found.insert("message_expiry".into(), json!(v))),
            Property::ContentType(v) => drop(found.insert("content_type".into(), json!(v))),
            Property::ResponseTopic(v) => drop(found.insert("response_topic".into(), json!(v))),
            Property::CorrelationData(v) => {
                let hex: String = v.iter().map(|b| format!("{b:02x}")).collect();
                found.insert("correlation_hex".into(), json!(hex));
            }
            Property::UserProperty(k, v) => user.push(json!([k, v])),
            Property::SubscriptionIdentifier(v) => identifiers.push(json!(v)),
            _ => {}
        }
    }
    if !user.is_empty() {
        found.insert("user".into(), Value::Array(user));
    }
    if !identifiers.is_empty() {
        found.insert("subscription_identifiers".into(), Value::Array(identifiers));
    }
    Value::Object(found)
}

/// What a server grants in its CONNACK, under the names of section 3.2.2.3.
pub(super) fn of_connack(properties: Properties<'_>) -> Map<String, Value> {
    let mut found = Map::new();
    for property in properties.iter() {
        let (name, value) = match property {
            Property::AssignedClientId(v) => ("assigned_client_id", json!(v)),
            Property::ServerKeepAlive(v) => ("server_keep_alive", json!(v)),
            Property::SessionExpiry(v) => ("session_expiry", json!(v)),
            Property::ReceiveMaximum(v) => ("receive_maximum", json!(v)),
            Property::MaximumQos(v) => ("maximum_qos", json!(v)),
            Property::RetainAvailable(v) => ("retain_available", json!(v != 0)),
            Property::MaximumPacketSize(v) => ("maximum_packet_size", json!(v)),
            Property::TopicAliasMaximum(v) => ("topic_alias_maximum", json!(v)),
            Property::WildcardAvailable(v) => ("wildcard_available", json!(v != 0)),
            Property::SharedAvailable(v) => ("shared_available", json!(v != 0)),
            Property::SubscriptionIdentifiersAvailable(v) => ("subscription_identifiers_available", json!(v != 0)),
            Property::ResponseInformation(v) => ("response_information", json!(v)),
            _ => continue,
        };
        found.insert(name.into(), value);
    }
    found
}

/// Seconds after which a server that says goodbye wants its clients back: the user property `retry-after`.
pub(super) fn retry_after(properties: Properties<'_>) -> Option<u32> {
    properties.iter().find_map(|p| match p {
        Property::UserProperty("retry-after", seconds) => seconds.parse().ok(),
        _ => None,
    })
}

//! Properties and reasons between the wire and JSON.

use super::{ClientError, misuse};
use sealmq_codec::{Properties, Property, PropertyBuf, ReasonCode};
use serde_json::{Value, json};

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

/// Properties of a PUBLISH of ours, from JSON; what JSON has no word for is refused.
pub(super) fn publish_properties(given: &Value, block: &mut PropertyBuf) -> Result<(), ClientError> {
    let Some(given) = given.as_object() else { return Ok(()) };
    for (name, value) in given {
        let wrong = || misuse(&format!("property {name} has no value that fits"));
        match name.as_str() {
            "payload_format" => {
                block.push(Property::PayloadFormat(value.as_u64().ok_or_else(wrong)? as u8));
            }
            "message_expiry" => {
                let seconds = value.as_u64().and_then(|s| u32::try_from(s).ok()).ok_or_else(wrong)?;
                block.push(Property::MessageExpiry(seconds));
            }
            "content_type" => {
                block.push(Property::ContentType(value.as_str().ok_or_else(wrong)?));
            }
            "response_topic" => {
                block.push(Property::ResponseTopic(value.as_str().ok_or_else(wrong)?));
            }
            "correlation_hex" => {
                block.push(Property::CorrelationData(&hex(value.as_str().ok_or_else(wrong)?)?));
            }
            "user" => {
                for pair in value.as_array().ok_or_else(wrong)? {
                    let (key, value) = (pair.get(0).and_then(Value::as_str), pair.get(1).and_then(Value::as_str));
                    let (key, value) = key.zip(value).ok_or_else(wrong)?;
                    block.push(Property::UserProperty(key, value));
                }
            }
            other => return Err(misuse(&format!("property {other} does not belong in a PUBLISH"))),
        }
    }
    Ok(())
}

/// Properties of a received message as JSON, in the words of [`publish_properties`].
pub(super) fn message_properties(properties: Properties<'_>) -> Value {
    let mut found = serde_json::Map::new();
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

//! The CONNECT packet of a configuration.
//!
//! Refuses to know when it is sent.

use super::config::ClientConfig;
use super::fault::{ClientError, misuse};
use super::properties::{self, hex};
use sealmq_codec::{Connect, Packet, PacketKind, PropertyBuf, PropertySet, QoS, Version, Will, topic};
use serde_json::Value;

/// The packet in bytes; an error for what no CONNECT can say.
pub(super) fn connect_packet(config: &ClientConfig, version: Version) -> Result<Vec<u8>, ClientError> {
    let mut own = config.properties.as_object().cloned().unwrap_or_default();
    let block = match version {
        Version::V5 => {
            own.insert("receive_maximum".into(), config.bounds.receive_maximum.max(1).into());
            own.insert("topic_alias_maximum".into(), config.bounds.topic_aliases.into());
            own.insert("maximum_packet_size".into(), config.bounds.max_packet.max(1).into());
            properties::block(&Value::Object(own), PropertySet::Packet(PacketKind::Connect))?
        }
        Version::V311 if own.is_empty() => PropertyBuf::new(),
        Version::V311 => return Err(misuse("MQTT 3.1.1 has no properties")),
    };
    let will_properties = match &config.will {
        Some(will) if version == Version::V5 => properties::block(&will.properties, PropertySet::Will)?,
        _ => PropertyBuf::new(),
    };
    let payload = hex(config.will.as_ref().map_or("", |will| &will.payload_hex))?;
    let will = match &config.will {
        None => None,
        Some(will) if !topic::is_valid_name(&will.topic) => return Err(misuse("will topic is no topic name")),
        Some(will) => Some(Will {
            qos: QoS::from_bits(will.qos).ok_or_else(|| misuse("will QoS is not 0, 1 or 2"))?,
            retain: will.retain,
            properties: will_properties.as_properties(),
            topic: &will.topic,
            payload: &payload,
        }),
    };
    let password = config.password_hex.as_deref().map(hex).transpose()?;
    let longest = [&config.client_id, config.username.as_ref().unwrap_or(&config.client_id)];
    if longest.iter().any(|text| text.len() > usize::from(u16::MAX))
        || payload.len().max(password.as_ref().map_or(0, Vec::len)) > usize::from(u16::MAX)
    {
        return Err(misuse(
            "client id, user name, password or will is longer than 65,535 bytes",
        ));
    }
    let mut bytes = Vec::new();
    Packet::Connect(Connect {
        version,
        clean_start: config.clean_start,
        keep_alive: config.keep_alive,
        properties: block.as_properties(),
        client_id: &config.client_id,
        will,
        username: config.username.as_deref(),
        password: password.as_deref(),
    })
    .encode(version, &mut bytes);
    Ok(bytes)
}

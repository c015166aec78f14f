//! Writing a PUBLISH towards one subscriber: size, aliases, what is left of its life.
//!
//! Refuses to know sessions and why the message goes there.

use crate::conn::Conn;
use crate::message::Content;
use crate::time::Millis;
use alloc::boxed::Box;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sealmq_codec::{QoS, Version, varint_len, write_publish_header, write_varint};

/// How one PUBLISH is to be written.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub qos: QoS,
    pub dup: bool,
    pub retain: bool,
    pub packet_id: u16,
    pub identifiers: &'a [u32],
}

#[derive(PartialEq, Eq)]
pub(crate) enum Written {
    Yes,
    /// Larger than the client takes: treated as if delivered [MQTT-3.1.2-25].
    TooLarge,
}

/// Bytes of the packet with its topic name and without an alias.
fn publish_size(conn: &Conn, content: &Content<'_>, how: Outgoing<'_>) -> usize {
    let mut body = 2 + content.topic.len() + content.payload.len();
    if how.qos != QoS::AtMostOnce {
        body += 2;
    }
    if conn.version == Version::V5 {
        let properties = properties_size(content, how.identifiers);
        body += varint_len(properties) + properties;
    }
    1 + varint_len(body) + body
}

fn properties_size(content: &Content<'_>, identifiers: &[u32]) -> usize {
    let expiry = if content.expires_at.is_some() { 5 } else { 0 };
    content.properties.len() + expiry + identifiers.iter().map(|&i| 1 + varint_len(i as usize)).sum::<usize>()
}

/// The one place that writes a PUBLISH towards a subscriber: its DUP is `how`'s, never the publisher's [MQTT-3.3.1-3].
#[inline]
pub(crate) fn write_publish(conn: &mut Conn, now: Millis, content: &Content<'_>, how: Outgoing<'_>) -> Written {
    let (size, max) = (publish_size(conn, content, how), conn.limits.max_packet_size as usize);
    // [MQTT-3.1.2-24]
    if size > max {
        return Written::TooLarge;
    }
    conn.granted = conn.granted.max(size);
    let Outgoing {
        qos,
        dup,
        retain,
        packet_id,
        identifiers,
    } = how;
    if conn.version == Version::V311 {
        let after = content.payload.len();
        write_publish_header(dup, qos, retain, content.topic, packet_id, after, &mut conn.out);
        conn.out.extend_from_slice(content.payload);
        return Written::Yes;
    }
    // An alias that the client hears for the first time makes the packet longer, and maybe both its lengths.
    let alias = if size + 5 <= max {
        outgoing_alias(conn, content.topic)
    } else {
        None
    };
    let topic = if matches!(alias, Some((_, Alias::Known))) {
        ""
    } else {
        content.topic
    };
    let properties = properties_size(content, identifiers) + if alias.is_some() { 3 } else { 0 };
    let after = varint_len(properties) + properties + content.payload.len();
    let out = &mut conn.out;
    write_publish_header(dup, qos, retain, topic, packet_id, after, out);
    write_varint(properties, out);
    out.extend_from_slice(content.properties);
    if let Some(at) = content.expires_at {
        // [MQTT-3.3.2-6]: what is left of it
        out.push(0x02);
        out.extend_from_slice(&at.seconds_after(now).to_be_bytes());
    }
    for &identifier in identifiers {
        out.push(0x0B);
        write_varint(identifier as usize, out);
    }
    if let Some((alias, _)) = alias {
        out.push(0x23);
        out.extend_from_slice(&alias.to_be_bytes());
    }
    out.extend_from_slice(content.payload);
    Written::Yes
}

enum Alias {
    /// The client has been told the topic name.
    Known,
    Fresh,
}

/// The alias for `topic` on this connection; the first topics get one, as many as the client takes [MQTT-3.1.2-26],
/// [MQTT-3.1.2-27], [MQTT-3.3.2-11].
fn outgoing_alias(conn: &mut Conn, topic: &str) -> Option<(u16, Alias)> {
    if conn.limits.topic_alias_maximum == 0 {
        return None;
    }
    let aliases = conn.aliases_out.get_or_insert_with(|| {
        Box::new(HashMap::with_hasher(FixedState::with_seed(u64::from(
            conn.id.generation,
        ))))
    });
    if let Some(&alias) = aliases.get(topic) {
        return Some((alias, Alias::Known));
    }
    let next = u16::try_from(aliases.len() + 1)
        .ok()
        .filter(|&n| n <= conn.limits.topic_alias_maximum)?;
    aliases.insert(topic.into(), next);
    conn.count_alias(topic);
    Some((next, Alias::Fresh))
}

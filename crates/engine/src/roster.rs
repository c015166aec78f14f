//! Everyone who is here: connections and sessions, and how a message reaches one of them.
//!
//! Refuses to know topics, rules and who published.

use crate::conn::Conn;
use crate::event::Event;
use crate::limits::Limits;
use crate::message::{Content, Message};
use crate::router::Target;
use crate::session::{Pending, Session, Stage};
use crate::stats::Counters;
use crate::time::Millis;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sealmq_codec::{Ack, Packet, QoS, Version, varint_len, write_publish_header, write_varint};
use slab::Slab;

/// Events that nobody has taken yet; the oldest go first when the watcher is slow.
const EVENTS_KEPT: usize = 65_536;

pub(crate) struct Roster {
    pub limits: Limits,
    pub conns: Slab<Conn>,
    pub sessions: Slab<Session>,
    pub dirty: Vec<u32>,
    pub counters: Counters,
    events: VecDeque<Event>,
}

/// How one PUBLISH is to be written.
#[derive(Clone, Copy)]
struct Outgoing<'a> {
    qos: QoS,
    dup: bool,
    retain: bool,
    packet_id: u16,
    identifiers: &'a [u32],
}

#[derive(PartialEq, Eq)]
enum Written {
    Yes,
    /// Larger than the client takes: treated as if delivered [MQTT-3.1.2-25].
    TooLarge,
}

impl Roster {
    pub fn new(limits: Limits) -> Roster {
        Roster {
            limits,
            conns: Slab::new(),
            sessions: Slab::new(),
            dirty: Vec::new(),
            counters: Counters::default(),
            events: VecDeque::new(),
        }
    }

    pub fn observe(&mut self, event: Event) {
        if self.events.len() >= EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Append one packet of ours to the outbox of a connection.
    pub fn send(&mut self, index: u32, packet: &Packet<'_>) {
        if let Some(conn) = self.conns.get_mut(index as usize) {
            packet.encode(conn.version, &mut conn.out);
            touch(&mut self.dirty, conn);
        }
    }

    /// Append bytes that were encoded before.
    pub fn send_bytes(&mut self, index: u32, bytes: &[u8]) {
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.out.extend_from_slice(bytes);
            touch(&mut self.dirty, conn);
        }
    }

    pub fn mark_dirty(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index as usize) {
            touch(&mut self.dirty, conn);
        }
    }

    /// Hand a message to one target: into the outbox, into the queue, or nowhere. `kept` holds the shared copy once one
    /// receiver needs it; a message that everybody takes at once is never copied to the heap.
    #[inline]
    pub fn deliver(&mut self, now: Millis, target: &Target, content: &Content<'_>, kept: &mut Option<Arc<Message>>) {
        let Some(session) = self.sessions.get_mut(target.session as usize) else {
            return;
        };
        let qos = content.qos.min(target.qos);
        // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
        let retain = content.retain && target.retain_as_published;
        let conn = session.conn.and_then(|index| self.conns.get_mut(index as usize));
        if qos == QoS::AtMostOnce {
            let Some(conn) = conn else { return };
            if conn.out.len() > self.limits.max_outbox_bytes as usize {
                conn.dropped_since += 1;
                self.counters.messages_dropped += 1;
                return;
            }
            let how = Outgoing {
                qos,
                dup: false,
                retain,
                packet_id: 0,
                identifiers: &target.identifiers,
            };
            if write_publish(conn, now, content, how) == Written::Yes {
                self.counters.messages_sent += 1;
                touch(&mut self.dirty, conn);
            }
            return;
        }
        if conn.is_none() && !session.is_persistent() {
            return;
        }
        let message = Arc::clone(kept.get_or_insert_with(|| Arc::new(Message::from_content(content))));
        let pending = Pending {
            message,
            qos,
            retain,
            identifiers: target.identifiers.clone(),
        };
        self.push(now, target.session, pending);
    }

    /// A message for one session that is kept already (retained messages, wills on their way).
    pub fn deliver_kept(&mut self, now: Millis, session: u32, pending: Pending) {
        if pending.qos != QoS::AtMostOnce {
            return self.push(now, session, pending);
        }
        let Some(conn) = self
            .sessions
            .get(session as usize)
            .and_then(|s| s.conn)
            .and_then(|i| self.conns.get_mut(i as usize))
        else {
            return;
        };
        // Retained messages come in bulk: what the outbox cannot take now waits in the queue.
        if conn.out.len() > self.limits.max_outbox_bytes as usize {
            return self.push(now, session, pending);
        }
        let how = Outgoing {
            qos: QoS::AtMostOnce,
            dup: false,
            retain: pending.retain,
            packet_id: 0,
            identifiers: &pending.identifiers,
        };
        if write_publish(conn, now, &pending.message.content(), how) == Written::Yes {
            self.counters.messages_sent += 1;
            touch(&mut self.dirty, conn);
        }
    }

    /// QoS 1 and 2: in flight at once when the window is open and nothing waits before it, else into the queue.
    fn push(&mut self, now: Millis, session_index: u32, pending: Pending) {
        let Some(session) = self.sessions.get_mut(session_index as usize) else {
            return;
        };
        if let Some(conn) = session.conn.and_then(|index| self.conns.get_mut(index as usize)) {
            let is_open = session.queued() == 0
                && !session.has_unsent()
                && session.inflight() < usize::from(conn.limits.window)
                && conn.out.len() <= self.limits.max_outbox_bytes as usize;
            if is_open {
                if send_new(conn, session, now, pending) == Written::Yes {
                    self.counters.messages_sent += 1;
                    touch(&mut self.dirty, conn);
                }
                return;
            }
        }
        let client_id = Arc::clone(&session.client_id);
        if session.enqueue(pending, &self.limits).is_err() {
            self.counters.messages_dropped += 1;
            if let Some(conn) = session.conn.and_then(|index| self.conns.get_mut(index as usize)) {
                conn.dropped_since += 1;
            } else {
                self.observe(Event::Dropped {
                    client_id,
                    cause: "queue-full",
                    count: 1,
                });
            }
        }
    }

    /// Send what the window and the outbox allow: first what is in flight from an earlier connection, then the queue.
    pub fn pump(&mut self, now: Millis, session_index: u32) {
        let Some(session) = self.sessions.get_mut(session_index as usize) else {
            return;
        };
        let Some(conn) = session.conn.and_then(|index| self.conns.get_mut(index as usize)) else {
            return;
        };
        let window = usize::from(conn.limits.window);
        let bound = self.limits.max_outbox_bytes as usize;
        let before = conn.out.len();
        while session.has_unsent() {
            let mut oversized = Vec::new();
            for entry in session.unsent(window) {
                if conn.out.len() > bound {
                    break;
                }
                entry.sent = true;
                match &entry.stage {
                    // [MQTT-4.4.0-1]: the same identifier, DUP set
                    Stage::Publish(pending) => {
                        let how = Outgoing {
                            qos: pending.qos,
                            dup: true,
                            retain: pending.retain,
                            packet_id: entry.packet_id,
                            identifiers: &pending.identifiers,
                        };
                        if write_publish(conn, now, &pending.message.content(), how) == Written::Yes {
                            self.counters.messages_sent += 1;
                        } else {
                            oversized.push((entry.packet_id, pending.qos));
                        }
                    }
                    Stage::Pubrel => Packet::Pubrel(success(entry.packet_id)).encode(conn.version, &mut conn.out),
                }
            }
            if oversized.is_empty() {
                break;
            }
            // [MQTT-3.1.2-25]: no acknowledgement will come for these; the window is for the next ones
            for (packet_id, qos) in oversized {
                session.complete_publish(packet_id, qos);
            }
        }
        while !session.has_unsent() && session.inflight() < window && conn.out.len() <= bound {
            let Some(pending) = session.dequeue(now) else { break };
            if send_new(conn, session, now, pending) == Written::Yes {
                self.counters.messages_sent += 1;
            }
        }
        if conn.out.len() != before {
            touch(&mut self.dirty, conn);
        }
    }
}

/// An acknowledgement without anything special.
pub(crate) fn success(packet_id: u16) -> Ack<'static> {
    Ack {
        packet_id,
        reason: 0,
        properties: sealmq_codec::Properties::EMPTY,
    }
}

#[inline]
fn touch(dirty: &mut Vec<u32>, conn: &mut Conn) {
    if !conn.is_dirty {
        conn.is_dirty = true;
        dirty.push(conn.id.index);
    }
}

fn send_new(conn: &mut Conn, session: &mut Session, now: Millis, pending: Pending) -> Written {
    let message = Arc::clone(&pending.message);
    let content = message.content();
    let how = Outgoing {
        qos: pending.qos,
        dup: false,
        retain: pending.retain,
        packet_id: 0,
        identifiers: &pending.identifiers,
    };
    if publish_size(conn, &content, how) > conn.limits.max_packet_size as usize {
        return Written::TooLarge;
    }
    if pending.qos == QoS::AtMostOnce {
        return write_publish(conn, now, &content, how);
    }
    let identifiers = pending.identifiers.clone();
    let (qos, retain) = (pending.qos, pending.retain);
    let packet_id = session.track(pending);
    write_publish(
        conn,
        now,
        &content,
        Outgoing {
            qos,
            dup: false,
            retain,
            packet_id,
            identifiers: &identifiers,
        },
    )
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

/// The one place that writes a PUBLISH towards a subscriber.
#[inline]
fn write_publish(conn: &mut Conn, now: Millis, content: &Content<'_>, how: Outgoing<'_>) -> Written {
    let (size, max) = (publish_size(conn, content, how), conn.limits.max_packet_size as usize);
    // [MQTT-3.1.2-24]
    if size > max {
        return Written::TooLarge;
    }
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

/// The alias for `topic` on this connection; the first topics get one, as many as the client takes [MQTT-3.1.2-26].
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
    Some((next, Alias::Fresh))
}

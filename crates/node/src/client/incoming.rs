//! What the server sends: bytes to packets, packets to the inbox, to results, or to an end.
//!
//! Refuses to know who waits for it.

use super::fault::{ClientError, REFUSAL_RECORD, peer_fault};
use super::news::{Closing, Done, Message};
use super::properties::{connack_v311, of_connack, reason_text, retry_after};
use super::session::{DEFAULT_WINDOW, Session, plain_ack};
use sealmq_codec::{
    Connack, Disconnect, Framed, Packet, Properties, Property, Publish, QoS, SubackCodes, Version, frame,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest CONNACK taken, bytes: before it the server is nobody yet.
const MAX_CONNACK: u32 = 128 << 10;

impl Session {
    /// Take in bytes from the channel. Nothing is taken once the session is over.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.last_heard = now;
        if self.closing.is_some() {
            return;
        }
        // Only the start of a packet is ever kept; what is whole is read where it lies.
        if self.buffer.is_empty() {
            let used = self.handle_packets(bytes);
            self.buffer.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            self.buffer.extend_from_slice(bytes);
            let buffer = std::mem::take(&mut self.buffer);
            let used = self.handle_packets(&buffer);
            self.buffer = buffer;
            self.buffer.drain(..used);
            if self.buffer.is_empty() && self.buffer.capacity() > 1 << 20 {
                self.buffer = Vec::new();
            }
        }
    }

    fn handle_packets(&mut self, bytes: &[u8]) -> usize {
        if self.connack.is_none() && bytes.starts_with(b"HTTP/") {
            let what = "server answers in HTTP, not in MQTT";
            let mend = "check the port: MQTT over TLS is on 8883 by custom; for WebSocket the URL begins with wss://";
            self.end(ClientError::new("peer-fault", what, mend).into());
            return bytes.len();
        }
        let mut used = 0;
        while self.closing.is_none() {
            let limit = if self.connack.is_some() {
                self.bounds.max_packet
            } else {
                MAX_CONNACK.min(self.bounds.max_packet)
            };
            let handled = match frame(bytes.get(used..).unwrap_or_default(), limit) {
                Ok(Framed::Need(_)) => break,
                Ok(Framed::Whole(whole)) => {
                    used += whole.size;
                    match Packet::decode(self.version, whole) {
                        Ok(packet) => self.handle(&packet),
                        Err(fault) => Err(peer_fault(format!("server broke MQTT: {fault}")).into()),
                    }
                }
                Err(fault) => Err(peer_fault(format!("server broke MQTT: {fault}")).into()),
            };
            if let Err(closing) = handled {
                self.end(closing);
            }
        }
        used
    }

    fn handle(&mut self, packet: &Packet<'_>) -> Result<(), Closing> {
        if self.connack.is_none() && !matches!(packet, Packet::Connack(_)) {
            let what = format!("server sent {} before CONNACK", packet.kind().name());
            return Err(ClientError::new("peer-fault", what, "check what listens on this port").into());
        }
        match packet {
            Packet::Connack(connack) => self.handle_connack(connack),
            Packet::Publish(publish) => self.handle_publish(publish),
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                self.handle_end(ack.packet_id, ack.reason);
                Ok(())
            }
            Packet::Pubrec(ack) if ack.reason >= 0x80 => {
                self.handle_end(ack.packet_id, ack.reason);
                Ok(())
            }
            Packet::Pubrec(ack) => {
                let mut release = plain_ack(ack.packet_id);
                if !self.exchanges.handle_received(ack.packet_id) && self.version == Version::V5 {
                    release.reason = 0x92; // section 3.6.2.1: packet identifier not found
                }
                self.say(&Packet::Pubrel(release));
                Ok(())
            }
            Packet::Pubrel(ack) => {
                self.inbound.remove(&ack.packet_id);
                self.say(&Packet::Pubcomp(plain_ack(ack.packet_id)));
                Ok(())
            }
            Packet::Suback(codes) | Packet::Unsuback(codes) => self.handle_answer(codes),
            Packet::Pingresp => {
                self.pinged = None;
                Ok(())
            }
            Packet::Disconnect(disconnect) => Err(self.farewell(disconnect)),
            other => Err(peer_fault(format!(
                "server sent {}, which only a client sends",
                other.kind().name()
            ))
            .into()),
        }
    }

    fn handle_connack(&mut self, connack: &Connack<'_>) -> Result<(), Closing> {
        if self.connack.is_some() {
            return Err(peer_fault("server sent a second CONNACK").into());
        }
        if connack.code != 0 {
            let reason = match self.version {
                Version::V5 => reason_text(connack.code, connack.properties),
                Version::V311 => connack_v311(connack.code).to_owned(),
            };
            return Err(Closing {
                error: ClientError::new("connack", format!("server refused CONNECT: {reason}"), REFUSAL_RECORD),
                reason_code: Some(connack.code),
                retry_after: retry_after(connack.properties),
            });
        }
        for property in connack.properties.iter() {
            match property {
                Property::MaximumPacketSize(size) => self.server_max_packet = size,
                Property::MaximumQos(qos) => self.server_max_qos = qos,
                Property::ReceiveMaximum(window) => self.window = DEFAULT_WINDOW.min(usize::from(window)),
                Property::ServerKeepAlive(seconds) => self.keep_alive = Duration::from_secs(u64::from(seconds)),
                _ => {}
            }
        }
        let mut found = of_connack(connack.properties);
        found.insert("session_present".into(), json!(connack.session_present));
        found.insert("reason_code".into(), json!(connack.code));
        found.insert("tls".into(), self.tls_facts.take());
        self.connack = Some(Value::Object(found));
        self.take_up(connack.session_present);
        Ok(())
    }

    /// What an earlier connection left: the server sends again what was not acknowledged, and so does this side.
    fn take_up(&mut self, is_session_present: bool) {
        if is_session_present {
            self.inbox.retain(|message| message.packet_id == 0);
            self.inbound.retain(|_, is_received| *is_received);
        } else {
            for message in &mut self.inbox {
                message.packet_id = 0;
            }
            self.inbound.clear();
        }
        self.unacknowledged = 0;
        self.inbox_bytes = self.inbox.iter().map(Message::size).sum();
        let version = self.version;
        let release = |id, out: &mut Vec<u8>| Packet::Pubrel(plain_ack(id)).encode(version, out);
        let over = self
            .exchanges
            .resume(is_session_present, self.window, release, &mut self.output);
        self.done
            .extend(over.into_iter().map(|ticket| Done { ticket, codes: vec![0] }));
    }

    fn handle_end(&mut self, packet_id: u16, reason: u8) {
        if let Some(ticket) = self.exchanges.handle_end(packet_id, self.window, &mut self.output) {
            self.done.push_back(Done {
                ticket,
                codes: vec![reason],
            });
        }
    }

    fn handle_answer(&mut self, answer: &SubackCodes<'_>) -> Result<(), Closing> {
        let Some((ticket, count)) = self.requests.remove(&answer.packet_id) else {
            return Ok(());
        };
        let mut codes = answer.codes.to_vec();
        if codes.is_empty() {
            codes.resize(count, 0); // UNSUBACK of 3.1.1
        }
        if codes.len() != count {
            return Err(peer_fault(format!(
                "server answered {count} topic filters with {} codes",
                codes.len()
            ))
            .into());
        }
        self.done.push_back(Done { ticket, codes });
        Ok(())
    }

    fn handle_publish(&mut self, publish: &Publish<'_>) -> Result<(), Closing> {
        let topic = self.topic_of(publish)?;
        if publish.qos == QoS::ExactlyOnce {
            if let Some(&is_received) = self.inbound.get(&publish.packet_id) {
                // [MQTT-4.3.3-10]: the same message again; it is acknowledged when the first one is taken
                if is_received {
                    self.say(&Packet::Pubrec(plain_ack(publish.packet_id)));
                }
                return Ok(());
            }
            self.inbound.insert(publish.packet_id, false);
        }
        if publish.qos != QoS::AtMostOnce {
            self.unacknowledged += 1;
            let limit = usize::from(self.bounds.receive_maximum);
            if self.version == Version::V5 && self.unacknowledged > limit {
                self.say(&Packet::Disconnect(Disconnect {
                    reason: 0x93,
                    properties: Properties::EMPTY,
                }));
                return Err(peer_fault(format!(
                    "server sent more than {limit} messages without acknowledgement"
                ))
                .into());
            }
        }
        let message = Message {
            topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            properties: publish.properties.raw().to_vec(),
            packet_id: publish.packet_id,
        };
        self.inbox_bytes += message.size();
        self.inbox.push_back(message);
        Ok(())
    }

    /// The topic of a PUBLISH, by name or by alias (section 3.3.2.3.4).
    fn topic_of(&mut self, publish: &Publish<'_>) -> Result<Arc<str>, Closing> {
        let alias = match self.version {
            Version::V311 => None,
            Version::V5 => publish.properties.iter().find_map(|p| match p {
                Property::TopicAlias(alias) => Some(alias),
                _ => None,
            }),
        };
        if publish.topic.is_empty() {
            let known = alias.and_then(|alias| self.aliases.get(&alias));
            return match known {
                Some(topic) => Ok(Arc::clone(topic)),
                None => Err(peer_fault("server used a topic alias that it has not set").into()),
            };
        }
        // Message after message on one topic is the rule: the name is shared.
        if *self.topic != *publish.topic {
            self.topic = Arc::from(publish.topic);
        }
        let topic = Arc::clone(&self.topic);
        if let Some(alias) = alias {
            if alias > self.bounds.topic_aliases {
                return Err(peer_fault(format!("server set topic alias {alias}, which it was not offered")).into());
            }
            self.aliases.insert(alias, Arc::clone(&topic));
        }
        Ok(topic)
    }

    fn farewell(&self, disconnect: &Disconnect<'_>) -> Closing {
        let reason = reason_text(disconnect.reason, disconnect.properties);
        Closing {
            error: ClientError::new("closed", format!("server disconnected: {reason}"), ""),
            reason_code: Some(disconnect.reason),
            retry_after: retry_after(disconnect.properties),
        }
    }
}

//! What the server sends: bytes to packets, packets to the inbox, to waiting callers, or to an end.

use super::properties::{connack_v311, message_properties, reason_text};
use super::{Client, ClientError, MAX_PACKET, Message, Transport, plain_ack};
use rustls::HandshakeKind;
use sealmq_codec::{Connack, Framed, Packet, Property, Publish, QoS, Version, frame};
use serde_json::{Value, json};
use std::time::Duration;

impl Client {
    pub(super) fn take_in(&mut self, bytes: &mut [u8]) -> Result<(), ClientError> {
        if let Some(decoder) = &mut self.ws {
            let mut control = Vec::new();
            let decoded = decoder.decode(bytes, &mut self.buffer, &mut control);
            if !control.is_empty() {
                let _ = self.transport.write_all(&control);
            }
            match decoded {
                Err(fault) => return Err(self.fail(ClientError::new("peer-fault", fault.sentence(), ""))),
                Ok(decoded) if decoded.closed.is_some() => {
                    self.fail(ClientError::new(
                        "closed",
                        "server closed the WebSocket",
                        "look at its log",
                    ));
                }
                Ok(_) => {}
            }
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        if self.connack.is_null() && self.ws.is_none() && self.buffer.starts_with(b"HTTP/") {
            let what = "server answers in HTTP, not in MQTT";
            let mend = "check the port: MQTT over TLS is on 8883 by custom; for WebSocket the URL begins with wss://";
            return Err(self.fail(ClientError::new("peer-fault", what, mend)));
        }
        let buffer = std::mem::take(&mut self.buffer);
        let mut used = 0;
        let result = loop {
            match frame(buffer.get(used..).unwrap_or_default(), MAX_PACKET) {
                Ok(Framed::Need(_)) => break Ok(()),
                Ok(Framed::Whole(whole)) => {
                    used += whole.size;
                    let handled = match Packet::decode(self.version, whole) {
                        Ok(packet) => self.handle(&packet),
                        Err(fault) => Err(ClientError::new(
                            "peer-fault",
                            format!("server broke MQTT: {fault}"),
                            "",
                        )),
                    };
                    if let Err(error) = handled {
                        break Err(self.fail(error));
                    }
                }
                Err(fault) => {
                    let error = ClientError::new("peer-fault", format!("server broke MQTT: {fault}"), "");
                    break Err(self.fail(error));
                }
            }
        };
        self.buffer = buffer;
        self.buffer.drain(..used);
        result
    }

    fn handle(&mut self, packet: &Packet<'_>) -> Result<(), ClientError> {
        if self.connack.is_null() && !matches!(packet, Packet::Connack(_)) {
            let what = format!("server sent {} before CONNACK", packet.kind().name());
            return Err(ClientError::new("peer-fault", what, "check what listens on this port"));
        }
        match packet {
            Packet::Connack(connack) => self.handle_connack(connack),
            Packet::Publish(publish) => self.handle_publish(publish),
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                self.answers.insert(ack.packet_id, vec![ack.reason]);
                Ok(())
            }
            Packet::Pubrec(ack) if ack.reason >= 0x80 => {
                self.answers.insert(ack.packet_id, vec![ack.reason]);
                Ok(())
            }
            Packet::Pubrec(ack) => self.send(&Packet::Pubrel(plain_ack(ack.packet_id))),
            Packet::Pubrel(ack) => {
                self.inbound.remove(&ack.packet_id);
                self.send(&Packet::Pubcomp(plain_ack(ack.packet_id)))
            }
            Packet::Suback(codes) | Packet::Unsuback(codes) => {
                self.answers.insert(codes.packet_id, codes.codes.to_vec());
                Ok(())
            }
            Packet::Pingresp => {
                self.pinged = None;
                Ok(())
            }
            Packet::Disconnect(disconnect) => {
                let reason = reason_text(disconnect.reason, disconnect.properties);
                Err(ClientError::new("closed", format!("server disconnected: {reason}"), ""))
            }
            other => {
                let what = format!("server sent {}, which only a client sends", other.kind().name());
                Err(ClientError::new("peer-fault", what, ""))
            }
        }
    }

    fn handle_connack(&mut self, connack: &Connack<'_>) -> Result<(), ClientError> {
        if !self.connack.is_null() {
            return Err(ClientError::new("peer-fault", "server sent a second CONNACK", ""));
        }
        if connack.code != 0 {
            let reason = match self.version {
                Version::V5 => reason_text(connack.code, connack.properties),
                Version::V311 => connack_v311(connack.code).to_owned(),
            };
            let mend = "the refusal record of the broker says why: `sealmq status` shows the last ones";
            return Err(ClientError::new(
                "connack",
                format!("server refused CONNECT: {reason}"),
                mend,
            ));
        }
        let mut assigned = Value::Null;
        let mut server_keep_alive = Value::Null;
        for property in connack.properties.iter() {
            match property {
                Property::AssignedClientId(id) => assigned = json!(id),
                Property::MaximumPacketSize(size) => self.server_max_packet = size,
                Property::ServerKeepAlive(seconds) => {
                    server_keep_alive = json!(seconds);
                    self.keep_alive = Duration::from_secs(u64::from(seconds));
                }
                _ => {}
            }
        }
        self.connack = json!({
            "session_present": connack.session_present,
            "reason_code": connack.code,
            "assigned_client_id": assigned,
            "server_keep_alive": server_keep_alive,
            "tls": self.tls_facts(),
        });
        Ok(())
    }

    fn tls_facts(&self) -> Value {
        let Transport::Tls(stream) = &self.transport else {
            return Value::Null;
        };
        let conn = &stream.conn;
        json!({
            "version": if conn.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) { "TLS 1.3" } else { "TLS 1.2" },
            "cipher": conn.negotiated_cipher_suite().map(|s| format!("{:?}", s.suite()).replace("TLS13_", "TLS_")),
            "group": conn.negotiated_key_exchange_group().map(|g| format!("{:?}", g.name())),
            "resumed": conn.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }

    fn handle_publish(&mut self, publish: &Publish<'_>) -> Result<(), ClientError> {
        let is_new = publish.qos != QoS::ExactlyOnce || self.inbound.insert(publish.packet_id);
        if is_new {
            self.inbox.push_back(Message {
                topic: publish.topic.to_owned(),
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
                properties: message_properties(publish.properties),
            });
        }
        match publish.qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => self.send(&Packet::Puback(plain_ack(publish.packet_id))),
            QoS::ExactlyOnce => self.send(&Packet::Pubrec(plain_ack(publish.packet_id))),
        }
    }
}

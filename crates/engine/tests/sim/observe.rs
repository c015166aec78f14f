//! What the engine wrote, held against what the model says may leave; and the engine's own figures against the model's.
//!
//! Refuses to change anything but the model: whoever looks twice sees the same.

use crate::model::{Seen, Stage};
use crate::plan::Store;
use crate::player::serial;
use crate::sim::Sim;
use sealmq_codec::{Framed, Packet, Property, Publish, QoS, frame};
use sealmq_engine::Millis;

impl Sim {
    /// Do all that the engine wants done, look at all that it writes, and hold it against the model.
    pub fn settle(&mut self) {
        loop {
            self.observe();
            while let Some(id) = self.engine.poll_dirty() {
                let at = self.line_by_id(id).expect("a connection of this history");
                if self.lines[at].is_stalled && !self.engine.is_closing(id) {
                    continue;
                }
                self.drain(at, usize::MAX);
                self.observe();
            }
            while self.engine.poll_event().is_some() {}
            let Some(log) = self
                .log
                .clone()
                .filter(|log| self.plan.store == Store::Quick && log.has_news())
            else {
                break;
            };
            log.sync();
            log.read_pages();
            self.engine.handle_log_advanced(Millis(self.now));
        }
        self.model.now = self.now;
        self.compare();
        self.mark();
    }

    /// The network takes so many bytes of what the engine wrote for a line.
    pub fn drain(&mut self, at: usize, count: usize) {
        let Some(id) = self.lines[at].id else { return };
        let is_closing = self.engine.is_closing(id);
        let Some(out) = self.engine.output(id) else { return };
        let taken: Vec<u8> = out.drain(..count.min(out.len())).collect();
        let line = &mut self.lines[at];
        line.observed -= taken.len();
        line.to_client.put(&taken);
        if is_closing {
            let reason = line.doom;
            assert!(
                reason.is_some(),
                "client {} did nothing wrong, and is put out",
                line.client
            );
            self.engine.release(id);
            (line.id, line.has_broker) = (None, false);
        } else {
            self.engine.handle_taken(Millis(self.now), id);
        }
    }

    /// Look at every outbox, the oldest connection first.
    pub fn observe(&mut self) {
        for at in 0..self.lines.len() {
            let Some(id) = self.lines[at].id else { continue };
            let now = self.now;
            let client = self.lines[at].client;
            let is_here = self
                .model
                .sessions
                .get(&client)
                .is_some_and(|s| s.line == Some(self.lines[at].number));
            let Some(out) = self.engine.output(id) else {
                self.lines[at].sealed_since.get_or_insert(now);
                if is_here {
                    self.model.session(client).is_sealed = true;
                }
                continue;
            };
            let fresh = out
                .get(self.lines[at].observed..)
                .expect("an outbox only grows")
                .to_vec();
            let size = out.len();
            self.lines[at].observed = size;
            let since = self.lines[at].sealed_since.take().unwrap_or(now);
            if is_here {
                self.model.session(client).is_sealed = false;
            }
            let mut rest = &fresh[..];
            while !rest.is_empty() {
                let Ok(Framed::Whole(whole)) = frame(rest, u32::MAX) else {
                    panic!("output is no whole packet: {rest:02x?}");
                };
                let line = &self.lines[at];
                // [MQTT-3.1.2-24]
                assert!(
                    whole.size <= line.max_packet,
                    "{} bytes for a client that takes {}",
                    whole.size,
                    line.max_packet
                );
                let version = self.players[client].version;
                let packet = Packet::decode(version, whole).expect("output that decodes");
                self.check(at, &packet, since);
                rest = &rest[whole.size..];
            }
            let most = self.lines[at].max_packet;
            if is_here && self.lines[at].doom.is_none() {
                let bound = self.plan.limits.max_outbox_bytes as usize;
                self.model.settle_passing(client, size > bound, most);
                if most < usize::MAX {
                    self.model.excuse_large(client, most);
                }
            }
        }
    }

    fn check(&mut self, at: usize, packet: &Packet<'_>, since: u64) {
        self.tell(|sim| format!("    <- {} {}", crate::sim::name(sim.lines[at].client), words(packet)));
        let line = &mut self.lines[at];
        let client = line.client;
        // [MQTT-3.14.4-1]
        assert!(!line.is_over, "{packet:?} after DISCONNECT");
        let answers = &mut line.answers;
        // [MQTT-3.2.0-1]
        assert!(
            line.is_welcome || matches!(packet, Packet::Connack(_)),
            "{packet:?} before CONNACK"
        );
        match packet {
            Packet::Connack(connack) => {
                assert!(!line.is_welcome, "a second CONNACK");
                // [MQTT-3.2.2-2], [MQTT-3.2.2-3]
                assert_eq!(
                    (connack.code, connack.session_present),
                    (0, line.session_present == Some(true)),
                    "session present"
                );
                line.is_welcome = true;
                self.model.session(client).is_acknowledged = true;
            }
            Packet::Publish(publish) => self.check_publish(at, publish, since),
            // [MQTT-4.6.0-2], [MQTT-4.6.0-3]: in the order of the messages
            Packet::Puback(ack) => {
                let (id, reason, message) = answers.pubacks.pop_front().expect("no PUBACK is due");
                assert!(
                    ack.packet_id == id && ack.reason == reason,
                    "{ack:?} instead of {id} with {reason:#04x}"
                );
                if let Some(message) = message {
                    message.is_acknowledged.set(true);
                }
            }
            Packet::Pubrec(ack) => {
                let (id, reason, message) = answers.pubrecs.pop_front().expect("no PUBREC is due");
                assert!(
                    ack.packet_id == id && ack.reason == reason,
                    "{ack:?} instead of {id} with {reason:#04x}"
                );
                if let Some(message) = message {
                    message.is_acknowledged.set(true);
                }
            }
            Packet::Pubcomp(ack) => {
                // Whoever is not known waits for nothing, and may come first.
                let due = answers.pubcomps.iter().position(|(id, _)| *id == ack.packet_id);
                let (_, known) = due
                    .and_then(|at| answers.pubcomps.remove(at))
                    .expect("no PUBCOMP is due");
                assert!(!line.is_v5 || (ack.reason == 0) == known, "{ack:?}, known: {known}");
            }
            Packet::Pubrel(ack) => {
                let session = self.model.session(client);
                let mut all = session.deliveries.iter();
                let known = all.any(|d| d.packet_id == Some(ack.packet_id) && d.stage == Stage::Released);
                assert!(
                    known || ack.reason == 0x92 || !session.is_v5,
                    "PUBREL {} out of turn",
                    ack.packet_id
                );
            }
            Packet::Suback(codes) => {
                let due = answers.subacks.iter().position(|(id, ..)| *id == codes.packet_id);
                let (_, expected, filters) = due.and_then(|at| answers.subacks.remove(at)).expect("no SUBACK is due");
                assert!(codes.codes == expected, "{codes:?} instead of {expected:02x?}");
                let session = self.model.session(client);
                for (filter, number) in &filters {
                    if let Some(subscription) = session.subscriptions.get_mut(filter) {
                        subscription.is_acknowledged |= subscription.number == *number;
                    }
                }
            }
            Packet::Unsuback(codes) => {
                let due = answers.unsubacks.iter().position(|(id, ..)| *id == codes.packet_id);
                let (_, expected, ended) = due
                    .and_then(|at| answers.unsubacks.remove(at))
                    .expect("no UNSUBACK is due");
                let is_right = !line.is_v5 || codes.codes == expected;
                assert!(is_right, "{codes:?} instead of {expected:02x?}");
                self.model.session(client).ended.extend(ended);
            }
            Packet::Pingresp => answers.pingresps -= 1,
            Packet::Disconnect(disconnect) => {
                line.is_over = true;
                assert_eq!(
                    Some(disconnect.reason),
                    line.doom,
                    "DISCONNECT of client {client}: {disconnect:?}"
                );
            }
            other => panic!("{other:?} from a broker"),
        }
    }

    fn check_publish(&mut self, at: usize, publish: &Publish<'_>, since: u64) {
        let line = &mut self.lines[at];
        let mut topic = publish.topic.to_string();
        let (mut identifiers, mut expiry_s, mut mark) = (Vec::new(), None, None);
        for property in publish.properties.iter() {
            match property {
                Property::TopicAlias(number) => {
                    // [MQTT-3.1.2-26]
                    assert!(
                        number <= line.alias_maximum,
                        "alias {number} for a client that takes {}",
                        line.alias_maximum
                    );
                    if topic.is_empty() {
                        topic.clone_from(line.aliases_out.get(&number).expect("an alias that was told"));
                    } else {
                        line.aliases_out.insert(number, topic.clone());
                    }
                }
                Property::SubscriptionIdentifier(id) => identifiers.push(id),
                Property::MessageExpiry(seconds) => expiry_s = Some(seconds),
                Property::UserProperty("n", value) => mark = Some(value),
                other => panic!("{other:?} was not published"),
            }
        }
        identifiers.sort_unstable();
        if publish.qos != QoS::AtMostOnce {
            line.outstanding.insert(publish.packet_id);
            // [MQTT-3.3.4-9]
            let open = line.outstanding.len();
            assert!(
                open <= usize::from(line.receive_maximum),
                "{open} open, receive maximum {}",
                line.receive_maximum
            );
        }
        let (number, client, is_v5) = (line.number, line.client, line.is_v5);
        assert!(
            self.model.session(client).line == Some(number) || line.doom.is_some(),
            "a PUBLISH on a connection that is over"
        );
        self.model.leave(
            client,
            &Seen {
                line: number,
                topic: &topic,
                payload: publish.payload,
                qos: publish.qos as u8,
                retain: publish.retain,
                dup: publish.dup,
                packet_id: publish.packet_id,
                identifiers,
                expiry_s,
                mark,
                is_v5,
                since,
            },
        );
    }

    /// The engine's figures are the model's.
    fn compare(&mut self) {
        let (counters, gauges) = (self.engine.counters(), self.engine.gauges());
        let model = &self.model;
        // [MQTT-3.1.2-8], [MQTT-3.1.3-9]: exactly once, or taken back
        assert_eq!(counters.wills_published, model.wills, "wills sent");
        assert_eq!(counters.takeovers, model.takeovers, "takeovers");
        assert_eq!(counters.sessions_expired, model.expired, "sessions expired");
        assert_eq!(gauges.connections, model.connected() as u64, "connections");
        let subscriptions: usize = model.sessions.values().map(|s| s.subscriptions.len()).sum();
        assert_eq!(gauges.subscriptions, subscriptions as u64, "subscriptions");
        let views = self.engine.sessions();
        assert_eq!(views.len(), model.sessions.len(), "sessions");
        for (view, (client, session)) in views.iter().zip(&model.sessions) {
            assert_eq!(*view.client_id, *self.players[*client].name, "sessions");
            assert_eq!(
                view.subscriptions,
                session.subscriptions.len(),
                "subscriptions of {}",
                view.client_id
            );
            assert_eq!(
                view.conn.is_some(),
                session.line.is_some(),
                "connection of {}",
                view.client_id
            );
            // What was in flight is queued again when the connection of a session that is kept ends; and a message may come
            // twice at once, by a shared subscription too.
            let limits = &self.plan.limits;
            let bound = limits.max_queued_messages as usize + usize::from(limits.max_inflight) + 1;
            assert!(
                view.queued <= bound,
                "{} messages wait for {}",
                view.queued,
                view.client_id
            );
        }
        let waiting: Vec<(usize, usize)> = model
            .sessions
            .keys()
            .copied()
            .zip(views.iter().map(|v| v.queued))
            .collect();
        for (client, queued) in waiting {
            if self.has_room(client) && !(queued > 0 && self.waits_for_identifier(client)) {
                self.model.settle_dues(client);
            }
        }
    }

    /// Whether nothing holds up what is owed to a client.
    fn has_room(&self, client: usize) -> bool {
        let session = &self.model.sessions[&client];
        let Some(line) = session
            .line
            .and_then(|number| self.line_at(number))
            .map(|at| &self.lines[at])
        else {
            return false;
        };
        let window = usize::from(line.receive_maximum.min(self.plan.limits.max_inflight));
        let has_turn = self.engine.poll_deadline().is_none_or(|at| at.0 > self.now);
        let has_bytes = self.plan.limits.max_inflight_bytes > 1 << 20;
        let is_idle = self.log.as_ref().is_none_or(|log| !log.has_news());
        let is_open = !line.is_stalled && line.sealed_since.is_none() && line.doom.is_none() && line.is_welcome;
        is_open
            && has_turn
            && is_idle
            && session.waiting() == 0
            && (session.deliveries.is_empty() || session.deliveries.len() < window && has_bytes)
    }

    /// Whether an answer may wait in the queue for its packet identifier [MQTT-2.2.1-4]. Identifiers follow from the order of
    /// a session's messages, and each start of a broker leaves half of them out: after two starts the next ones may be those
    /// of a delivery that is not over yet, and come behind it.
    fn waits_for_identifier(&self, client: usize) -> bool {
        let session = &self.model.sessions[&client];
        session.restarts >= 2 && !session.deliveries.is_empty()
    }
}

/// A packet in a few words.
pub fn words(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Publish(p) => format!(
            "PUBLISH {:?} serial {} QoS {} id {}{}{} {:?}",
            p.topic,
            serial(p.payload),
            p.qos as u8,
            p.packet_id,
            if p.dup { " DUP" } else { "" },
            if p.retain { " RETAIN" } else { "" },
            p.properties.iter().collect::<Vec<_>>()
        ),
        Packet::Puback(a) | Packet::Pubrec(a) | Packet::Pubrel(a) | Packet::Pubcomp(a) => {
            format!("{} {} {:#04x}", packet.kind().name(), a.packet_id, a.reason)
        }
        Packet::Suback(c) | Packet::Unsuback(c) => {
            format!("{} {} {:02x?}", packet.kind().name(), c.packet_id, c.codes)
        }
        Packet::Connack(c) => format!("CONNACK session present {}", c.session_present),
        Packet::Disconnect(d) => format!("DISCONNECT {:#04x}", d.reason),
        Packet::Subscribe(s) => format!(
            "SUBSCRIBE {} {:?} {:?}",
            s.packet_id,
            s.filters
                .iter()
                .map(|f| (f.filter, f.options.to_byte()))
                .collect::<Vec<_>>(),
            s.properties.iter().collect::<Vec<_>>()
        ),
        Packet::Unsubscribe(u) => format!("UNSUBSCRIBE {} {:?}", u.packet_id, u.filters().collect::<Vec<_>>()),
        Packet::Connect(c) => format!(
            "CONNECT clean {} keep alive {} {:?} will {:?}",
            c.clean_start,
            c.keep_alive,
            c.properties.iter().collect::<Vec<_>>(),
            c.will
                .map(|w| (w.topic, w.qos, w.retain, w.properties.iter().collect::<Vec<_>>()))
        ),
        other => other.kind().name().into(),
    }
}

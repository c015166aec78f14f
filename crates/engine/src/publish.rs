//! PUBLISH and its acknowledgements, both directions (MQTT 5.0 sections 3.3 to 3.7 and 4.3).
//!
//! Refuses to know how bytes are encoded for a receiver.

use crate::conn::AckKind;
use crate::engine::Engine;
use crate::event::{EndCause, Event};
use crate::inbound::Received as Inbound;
use crate::message::{Content, Message, Received};
use crate::roster::success;
use crate::route::NoPlace;
use crate::router::RouteKey;
use crate::rules::{Action, Authorized, Denial};
use crate::session::Over;
use crate::time::Millis;
use alloc::string::String;
use alloc::sync::Arc;
use sealmq_codec::{Ack, Packet, Properties, Property, PropertyBuf, Publish, QoS, ReasonCode, Version};
use sealmq_store::{Change, Keeping, Origin, Seq, Urgency};

/// Units of work for keeping or forgetting a retained message.
const RETAIN_WORK: usize = 16;
/// Milliseconds between two denial records of one connection; what comes in between is counted.
const DENIAL_INTERVAL_MS: u64 = 1000;

impl Engine {
    #[inline]
    pub(crate) fn handle_publish(&mut self, now: Millis, index: u32, publish: &Publish<'_>) {
        self.roster.counters.messages_received += 1;
        let received = Received::sort(publish.properties);
        // [MQTT-3.3.4-6]
        if received.has_subscription_identifier {
            return self.protocol_error(now, index, "subscription identifier in a PUBLISH from a client");
        }
        let Some(alias) = received.topic_alias else {
            if publish.topic.is_empty() {
                return self.protocol_error(now, index, "PUBLISH with neither topic name nor topic alias");
            }
            return self.accept_publish(now, index, publish, publish.topic, &received);
        };
        // [MQTT-3.3.2-9], [MQTT-3.3.2-12]
        if alias > self.roster.limits.topic_alias_maximum {
            let sentence = "topic alias is larger than the maximum in CONNACK";
            return self.violation(
                now,
                index,
                ReasonCode::TopicAliasInvalid,
                "topic-alias-invalid",
                sentence,
            );
        }
        let slot = usize::from(alias - 1);
        let Some(conn) = self.roster.conns.get_mut(index as usize) else {
            return;
        };
        if !publish.topic.is_empty() {
            if publish.topic.len() <= self.roster.limits.max_topic_bytes as usize {
                conn.set_alias(slot, publish.topic);
            }
            return self.accept_publish(now, index, publish, publish.topic, &received);
        }
        // Taken out for the call and put back: the name is not copied for each message.
        let Some(topic) = conn.aliases_in.get_mut(slot).and_then(Option::take) else {
            return self.protocol_error(
                now,
                index,
                "topic alias was never given a topic name on this connection",
            );
        };
        self.accept_publish(now, index, publish, &topic, &received);
        if let Some(entry) = self
            .roster
            .conns
            .get_mut(index as usize)
            .and_then(|c| c.aliases_in.get_mut(slot))
        {
            *entry = Some(topic);
        }
    }

    /// A PUBLISH with its topic name: to be kept, passed on and answered as its QoS demands [MQTT-3.3.4-1]. At QoS 1 each
    /// is a new message [MQTT-4.3.2-5]; at QoS 2 one whose identifier is not known here [MQTT-4.3.3-12].
    fn accept_publish(&mut self, now: Millis, index: u32, publish: &Publish<'_>, topic: &str, received: &Received) {
        let Some(conn) = self.roster.conns.get(index as usize) else {
            return;
        };
        let (session_index, version) = (conn.session, conn.version);
        if publish.qos == QoS::ExactlyOnce
            && let Some(session) = self.roster.sessions.get(session_index as usize)
            // [MQTT-4.3.3-10]: seen already, acknowledge (once it is safe) and do not deliver twice
            && let Some(Inbound { seq, .. }) = session.inbound.get(publish.packet_id)
        {
            return self.acknowledge_publish(index, publish.qos, success(publish.packet_id), seq);
        }
        if publish.qos != QoS::AtMostOnce && version == Version::V5 {
            let open = self
                .roster
                .sessions
                .get(session_index as usize)
                .map_or(0, |s| s.inbound.len())
                + usize::from(conn.unacknowledged);
            // [MQTT-3.3.4-7]
            if open >= usize::from(self.roster.limits.receive_maximum) {
                let sentence = "client has more unacknowledged messages than the receive maximum in CONNACK";
                let reason = ReasonCode::ReceiveMaximumExceeded;
                return self.violation(now, index, reason, "receive-maximum-exceeded", sentence);
            }
        }
        if let Some(sentence) = self.topic_over_budget(topic) {
            return self.refuse_publish(index, publish, ReasonCode::TopicNameInvalid, sentence);
        }
        if received.user_properties > self.roster.limits.max_user_properties {
            let sentence = "more user properties than limits.max_user_properties".into();
            let why = NoPlace(ReasonCode::QuotaExceeded, "too-many-user-properties", sentence);
            return self.turn_away(now, index, publish, why);
        }
        if received.is_utf8 && core::str::from_utf8(publish.payload).is_err() {
            let sentence = "payload is not UTF-8 although its format indicator says so";
            return self.refuse_publish(index, publish, ReasonCode::PayloadFormatInvalid, sentence);
        }
        // A name is remembered only once somebody was allowed to use it.
        let before = conn.allowed_route.map(|(key, _)| key);
        let key = self.router.key(topic, before);
        let authorized = match self.authorize(index, key, topic) {
            Ok(authorized) => authorized,
            Err(denial) => return self.deny_publish(now, index, publish, topic, &denial),
        };
        let content = Content {
            topic,
            properties: received.travelling(publish.properties),
            payload: publish.payload,
            expires_at: received.message_expiry.map(|seconds| now.plus_seconds(seconds)),
            qos: publish.qos,
            retain: publish.retain,
        };
        let mut seq = Seq(0);
        let mut before = None;
        // [MQTT-3.3.1-8]
        if publish.retain {
            self.router.work += RETAIN_WORK;
            before = self.retained.find(topic).cloned();
            match self.retain(&content) {
                Ok(kept) => seq = kept,
                Err(why) => return self.turn_away(now, index, publish, why),
            }
        }
        let origin = match self.roster.sessions.get(session_index as usize) {
            Some(session) if publish.qos == QoS::ExactlyOnce && session.is_kept => Origin::Received {
                session: session.id,
                packet_id: publish.packet_id,
            },
            _ => Origin::Nothing,
        };
        let routed = match self.route(now, authorized, key, Some(session_index), &content, origin) {
            Ok(routed) => routed,
            Err(why) => {
                if publish.retain {
                    self.put_back(topic, before);
                }
                return self.turn_away(now, index, publish, why);
            }
        };
        if publish.qos == QoS::AtMostOnce {
            return;
        }
        seq = seq.max(routed.seq);
        // Section 3.4.2.1: nobody subscribed is a success worth telling
        let reason = if routed.reached == 0 && version == Version::V5 {
            ReasonCode::NoMatchingSubscribers as u8
        } else {
            0
        };
        let ack = Ack {
            packet_id: publish.packet_id,
            reason,
            properties: Properties::EMPTY,
        };
        if publish.qos == QoS::ExactlyOnce
            && let Some(session) = self.roster.sessions.get_mut(session_index as usize)
        {
            let is_kept = session.is_kept && routed.seq > Seq(0);
            session.inbound.insert(publish.packet_id, Inbound { seq, is_kept });
        }
        self.acknowledge_publish(index, publish.qos, ack, seq);
    }

    /// The answer of the rules, remembered while the connection keeps publishing to the same topic.
    #[inline]
    fn authorize(&mut self, index: u32, key: Option<RouteKey>, topic: &str) -> Result<Authorized, Denial> {
        let Some(conn) = self.roster.conns.get_mut(index as usize) else {
            return Err(Denial { rule: None });
        };
        if let Some((allowed, authorized)) = conn.allowed_route
            && Some(allowed) == key
        {
            return Ok(authorized);
        }
        let authorized = conn.permit.publish(topic)?;
        conn.allowed_route = key.map(|key| (key, authorized));
        Ok(authorized)
    }

    /// PUBACK or PUBREC once the change at `seq` is safe [MQTT-2.2.1-5], [MQTT-4.3.2-4], [MQTT-4.3.3-8].
    fn acknowledge_publish(&mut self, index: u32, qos: QoS, ack: Ack<'_>, seq: Seq) {
        if qos == QoS::AtLeastOnce {
            self.acknowledge(index, &Packet::Puback(ack), AckKind::EndsQos1, seq);
        } else {
            self.acknowledge(index, &Packet::Pubrec(ack), AckKind::Other, seq);
        }
    }

    /// Keep or forget the retained message of a topic [MQTT-3.3.1-5], [MQTT-3.3.1-6]; when it is safe.
    fn retain(&mut self, content: &Content<'_>) -> Result<Seq, NoPlace> {
        let urgency = self
            .durability
            .of(content.topic)
            .filter(|_| !content.topic.starts_with("$SYS/"));
        let urgency = urgency.filter(|_| self.roster.log.keeping() == Keeping::Changes);
        let refusal = urgency.and_then(|_| self.no_promises());
        let urgency = match (urgency, refusal) {
            // Nobody waits for what has QoS 0: it goes to disk when there is room, and is kept in memory all the same.
            (Some(_), refusal) if content.qos == QoS::AtMostOnce => refusal.is_none().then_some(Urgency::Lazy),
            (Some(_), Some(refusal)) => return Err(refusal),
            (urgency, _) => urgency,
        };
        // [MQTT-3.3.1-7]
        let change = if content.payload.is_empty() {
            self.retained.remove(content.topic);
            Change::Unretain { topic: content.topic }
        } else {
            self.retained
                .set(content, &self.roster.limits, &self.roster.memory)
                .map_err(|_| {
                    let sentence = "no room for another retained message";
                    NoPlace(ReasonCode::QuotaExceeded, "retained-full", sentence.into())
                })?;
            Change::Retain { body: content.body() }
        };
        Ok(urgency.map_or(Seq(0), |urgency| self.roster.log.append(&change, urgency)))
    }

    /// What is turned away is not retained either: `topic` has what it had before.
    fn put_back(&mut self, topic: &str, before: Option<Arc<Message>>) {
        let change = match &before {
            Some(message) => {
                self.retained.restore(Arc::clone(message));
                Change::Retain {
                    body: message.content().body(),
                }
            }
            None => {
                self.retained.remove(topic);
                Change::Unretain { topic }
            }
        };
        if self.roster.log.keeping() == Keeping::Changes && self.durability.of(topic).is_some() {
            self.roster.log.append(&change, Urgency::Lazy);
        }
    }

    /// Retain if asked, then route: for messages that no client waits to be told about.
    pub(crate) fn distribute(
        &mut self,
        now: Millis,
        authorized: Authorized,
        publisher: Option<u32>,
        content: &Content<'_>,
        origin: Origin<'_>,
    ) {
        let kept = !content.retain || self.retain(content).is_ok();
        let key = self.router.key(content.topic, None);
        let routed = self.route(now, authorized, key, publisher, content, origin);
        if routed.is_err() {
            self.route_loosely(now, publisher, content, origin);
        }
        if routed.is_err() || !kept {
            self.roster.counters.messages_dropped += 1;
        }
    }

    /// No rule allows it: MQTT 5 is told with 0x87; MQTT 3.1.1 has no word for it, so it is acknowledged as
    /// [MQTT-3.3.5-2] of 3.1.1 demands, and the log says what happened.
    fn deny_publish(&mut self, now: Millis, index: u32, publish: &Publish<'_>, topic: &str, denial: &Denial) {
        self.roster.counters.publishes_denied += 1;
        let sentence = denial.sentence(Action::Publish, topic);
        self.observe_denial(now, index, Action::Publish, topic, &sentence);
        self.refuse_publish(index, publish, ReasonCode::NotAuthorized, &sentence);
    }

    /// There is no place for it now. MQTT 3.1.1 has no word for that, and an acknowledgement would be a lie: the client is
    /// to come back and send it again [MQTT-4.8.0-2] of 3.1.1.
    fn turn_away(&mut self, now: Millis, index: u32, publish: &Publish<'_>, why: NoPlace) {
        let NoPlace(reason, slug, sentence) = why;
        self.roster.counters.messages_turned_away += 1;
        let is_v5 = self
            .roster
            .conns
            .get(index as usize)
            .is_some_and(|c| c.version == Version::V5);
        if is_v5 || publish.qos == QoS::AtMostOnce {
            return self.refuse_publish(index, publish, reason, &sentence);
        }
        self.end(now, index, reason, EndCause::Store(slug, sentence));
    }

    /// Answer a PUBLISH that goes nowhere [MQTT-3.4.2-1], [MQTT-3.5.2-1]; the words only where they fit [MQTT-3.4.2-2],
    /// [MQTT-3.5.2-2], [MQTT-3.1.2-29], and nothing else [MQTT-3.4.2-3], [MQTT-3.5.2-3]. Its identifier is free again
    /// [MQTT-4.3.3-9].
    fn refuse_publish(&mut self, index: u32, publish: &Publish<'_>, reason: ReasonCode, sentence: &str) {
        let Some(conn) = self.roster.conns.get(index as usize) else {
            return;
        };
        let (version, session) = (conn.version, conn.session);
        let mut properties = PropertyBuf::new();
        if conn.limits.problem_information && sentence.len() + 16 <= conn.limits.max_packet_size as usize {
            properties.push(Property::ReasonString(sentence));
        }
        let ack = match version {
            Version::V311 => success(publish.packet_id),
            Version::V5 => Ack {
                packet_id: publish.packet_id,
                reason: reason as u8,
                properties: properties.as_properties(),
            },
        };
        if publish.qos == QoS::AtMostOnce {
            return;
        }
        if publish.qos == QoS::ExactlyOnce
            && version == Version::V311
            && let Some(session) = self.roster.sessions.get_mut(session as usize)
        {
            let seq = Seq(0);
            session
                .inbound
                .insert(publish.packet_id, Inbound { seq, is_kept: false });
        }
        // Nothing was kept, so nothing has to be safe: only its turn is waited for.
        self.acknowledge_publish(index, publish.qos, ack, Seq(0));
    }

    pub(crate) fn observe_denial(&mut self, now: Millis, index: u32, action: Action, topic: &str, why: &str) {
        let Some(conn) = self.roster.conns.get_mut(index as usize) else {
            return;
        };
        if conn.denied_at.is_some_and(|at| now.since(at) < DENIAL_INTERVAL_MS) {
            conn.denied_since += 1;
            return;
        }
        conn.denied_at = Some(now);
        let event = Event::Denied {
            conn: conn.id,
            client_id: Arc::clone(&conn.client_id),
            action,
            topic: String::from(topic),
            why: String::from(why),
            suppressed: core::mem::take(&mut conn.denied_since),
        };
        self.roster.observe(event);
    }

    // acknowledgements of what we sent

    /// A failure ends the delivery as well [MQTT-4.4.0-2], [MQTT-4.8.2-6].
    pub(crate) fn handle_puback(&mut self, now: Millis, index: u32, ack: Ack<'_>) {
        let Some(session_index) = self.roster.conns.get(index as usize).map(|c| c.session) else {
            return;
        };
        let session = self.roster.sessions.get_mut(session_index as usize);
        if let Some(over) =
            session.and_then(|s| s.complete_publish(ack.packet_id, QoS::AtLeastOnce, &mut self.roster.spares))
        {
            self.roster.forget(session_index, over);
        }
        self.pump(now, session_index);
    }

    pub(crate) fn handle_pubrec(&mut self, now: Millis, index: u32, ack: Ack<'_>) {
        let Some(session_index) = self.roster.conns.get(index as usize).map(|c| c.session) else {
            return;
        };
        let Some(session) = self.roster.sessions.get_mut(session_index as usize) else {
            return;
        };
        // [MQTT-4.4.0-2], [MQTT-4.8.2-6]: a PUBREC of 0x80 or more ends the exchange
        if ack.reason >= 0x80 {
            if let Some(over) = session.complete_publish(ack.packet_id, QoS::ExactlyOnce, &mut self.roster.spares) {
                self.roster.forget(session_index, over);
            }
            return self.pump(now, session_index);
        }
        let session_id = session.id;
        let Some(released) = session.release(ack.packet_id, &mut self.roster.spares) else {
            return self.send_paired(index, ack.packet_id, false, Packet::Pubrel, Seq(0));
        };
        // Were it forgotten after PUBREL had left, the message would be sent once more, to a client that has let go of it.
        let seq = if released.must_be_recorded {
            let (session, order) = (session_id, released.order);
            self.record(&Change::Release { session, order })
        } else {
            Seq(0)
        };
        // [MQTT-4.3.3-4]
        self.send_paired(index, ack.packet_id, true, Packet::Pubrel, seq);
    }

    pub(crate) fn handle_pubcomp(&mut self, now: Millis, index: u32, ack: Ack<'_>) {
        let Some(session_index) = self.roster.conns.get(index as usize).map(|c| c.session) else {
            return;
        };
        let session = self.roster.sessions.get_mut(session_index as usize);
        if let Some(Over { order, kept }) =
            session.and_then(|s| s.complete_pubrel(ack.packet_id, &mut self.roster.spares))
        {
            self.roster.forget(session_index, Over { order, kept });
        }
        self.pump(now, session_index);
    }

    // the second half of what we received

    pub(crate) fn handle_pubrel(&mut self, index: u32, ack: Ack<'_>) {
        let Some(session_index) = self.roster.conns.get(index as usize).map(|c| c.session) else {
            return;
        };
        let Some(session) = self.roster.sessions.get_mut(session_index as usize) else {
            return;
        };
        // [MQTT-4.3.3-11], [MQTT-4.3.3-13]
        let received = session.inbound.remove(ack.packet_id);
        let (session, packet_id) = (session.id, ack.packet_id);
        // Were it forgotten after PUBCOMP had left, the next message under this identifier would pass for a repetition.
        let seq = if received.is_some_and(|r| r.is_kept) {
            self.record(&Change::Completed { session, packet_id })
        } else {
            Seq(0)
        };
        self.send_paired(index, packet_id, received.is_some(), Packet::Pubcomp, seq);
    }

    /// PUBREL or PUBCOMP, once the change at `seq` is safe; an identifier that nobody knows gets 0x92 in MQTT 5
    /// [MQTT-3.6.2-1], [MQTT-3.7.2-1]. Neither has properties [MQTT-3.6.2-2], [MQTT-3.6.2-3], [MQTT-3.7.2-2],
    /// [MQTT-3.7.2-3].
    fn send_paired(
        &mut self,
        index: u32,
        packet_id: u16,
        known: bool,
        packet: fn(Ack<'static>) -> Packet<'static>,
        seq: Seq,
    ) {
        let reason = if known {
            0
        } else {
            ReasonCode::PacketIdentifierNotFound as u8
        };
        let packet = packet(Ack {
            packet_id,
            reason,
            properties: Properties::EMPTY,
        });
        if seq == Seq(0) {
            return self.roster.send(index, &packet);
        }
        self.acknowledge(index, &packet, AckKind::Other, seq);
    }
}

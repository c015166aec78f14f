//! PUBLISH and its acknowledgements, both directions (MQTT 5.0 sections 3.3 to 3.7 and 4.3).
//!
//! Refuses to know how bytes are encoded for a receiver.

use crate::conn::HeldAck;
use crate::engine::Engine;
use crate::event::Event;
use crate::message::{Content, Message, Received};
use crate::roster::success;
use crate::router::{Own, RouteKey, Target};
use crate::rules::{Action, Authorized, Denial};
use crate::time::Millis;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use sealmq_codec::{Ack, Packet, PacketKind, Properties, Property, PropertyBuf, Publish, QoS, ReasonCode, Version};
use sealmq_store::{Durable, Keeping, Seq};

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
        // [MQTT-3.3.2-9]
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
        if conn.aliases_in.len() <= slot {
            conn.aliases_in.resize(slot + 1, None);
        }
        if !publish.topic.is_empty() {
            if let Some(entry) = conn.aliases_in.get_mut(slot) {
                *entry = Some(publish.topic.into());
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

    fn accept_publish(&mut self, now: Millis, index: u32, publish: &Publish<'_>, topic: &str, received: &Received) {
        let Some(conn) = self.roster.conns.get(index as usize) else {
            return;
        };
        let (session_index, version) = (conn.session, conn.version);
        if publish.qos == QoS::ExactlyOnce
            && let Some(session) = self.roster.sessions.get(session_index as usize)
            // [MQTT-4.3.3-10]: seen already, acknowledge (once it is safe) and do not deliver twice
            && let Some(&seq) = session.inbound.get(&publish.packet_id)
        {
            return self.acknowledge(index, publish.qos, success(publish.packet_id), seq);
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
        if self.too_many_levels(topic) {
            return self.refuse_publish(
                index,
                publish,
                ReasonCode::TopicNameInvalid,
                "topic name has too many levels",
            );
        }
        if received.is_utf8 && core::str::from_utf8(publish.payload).is_err() {
            let sentence = "payload is not UTF-8 although its format indicator says so";
            return self.refuse_publish(index, publish, ReasonCode::PayloadFormatInvalid, sentence);
        }
        // A name is remembered only once somebody was allowed to use it.
        let key = self.router.key(topic);
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
        if publish.retain && self.retain(&content).is_err() {
            return self.refuse_publish(
                index,
                publish,
                ReasonCode::QuotaExceeded,
                "no room for another retained message",
            );
        }
        let reached = self.route(now, authorized, key, Some(session_index), &content);
        if publish.qos == QoS::AtMostOnce {
            return;
        }
        let seq = self.persist(&content);
        // Section 3.4.2.1: nobody subscribed is a success worth telling
        let reason = if reached == 0 && version == Version::V5 {
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
            session.inbound.insert(publish.packet_id, seq);
        }
        self.acknowledge(index, publish.qos, ack, seq);
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

    /// Keep or forget the retained message of a topic [MQTT-3.3.1-5], [MQTT-3.3.1-6].
    fn retain(&mut self, content: &Content<'_>) -> Result<(), crate::retained::Full> {
        if content.payload.is_empty() {
            self.retained.remove(content.topic);
            return Ok(());
        }
        self.retained
            .set(Arc::new(Message::from_content(content)), &self.roster.limits)
    }

    /// Retain if asked, then route: for messages that no client waits to be told about.
    pub(crate) fn distribute(
        &mut self,
        now: Millis,
        authorized: Authorized,
        publisher: Option<u32>,
        content: &Content<'_>,
    ) {
        if content.retain && self.retain(content).is_err() {
            self.roster.counters.messages_dropped += 1;
        }
        let key = self.router.key(content.topic);
        self.route(now, authorized, key, publisher, content);
    }

    /// Give the message to everyone whose subscription matches; how many that were.
    #[inline]
    fn route(
        &mut self,
        now: Millis,
        _authorized: Authorized,
        key: Option<RouteKey>,
        publisher: Option<u32>,
        content: &Content<'_>,
    ) -> usize {
        let (router, roster) = (&mut self.router, &mut self.roster);
        let Some((route, turn)) = router.route(key, content.topic) else {
            return 0;
        };
        if route.is_empty() {
            return 0;
        }
        let mut kept = None;
        let mut reached = 0;
        for target in &route.targets {
            let target = match &target.own {
                Own::Same => target,
                _ if Some(target.session) != publisher => target,
                Own::Only(own) => own,
                Own::Nothing => continue,
            };
            roster.deliver(now, target, content, &mut kept);
            reached += 1;
        }
        for group in &route.groups {
            if let Some(target) = self::choose(roster, group, turn) {
                roster.deliver(now, target, content, &mut kept);
                reached += 1;
            }
        }
        reached
    }

    fn persist(&mut self, content: &Content<'_>) -> Seq {
        if self.log.keeping() == Keeping::Nothing {
            return Seq(0);
        }
        let mut record = Vec::new();
        let properties = Properties::validate(
            content.properties,
            sealmq_codec::PropertySet::Packet(PacketKind::Publish),
        )
        .unwrap_or_default();
        let publish = Publish {
            dup: false,
            qos: content.qos,
            retain: content.retain,
            topic: content.topic,
            packet_id: 1,
            properties,
            payload: content.payload,
        };
        Packet::Publish(publish).encode(Version::V5, &mut record);
        self.log.append(self.shard, &record)
    }

    /// PUBACK or PUBREC once the record at `seq` is safe: at once, or when the watermark gets there.
    fn acknowledge(&mut self, index: u32, qos: QoS, ack: Ack<'_>, seq: Seq) {
        let packet = if qos == QoS::AtLeastOnce {
            Packet::Puback(ack)
        } else {
            Packet::Pubrec(ack)
        };
        let proof = self.log.watermark(self.shard).proves(seq);
        let Some(conn) = self.roster.conns.get_mut(index as usize) else {
            return;
        };
        // What was held before goes first: acknowledgements leave in order [MQTT-4.6.0-2].
        if let Some(durable) = proof.filter(|_| conn.held_acks.is_empty()) {
            return self.send_ack(index, &packet, durable);
        }
        let mut bytes = Vec::new();
        packet.encode(conn.version, &mut bytes);
        let ends_qos1 = qos == QoS::AtLeastOnce;
        if ends_qos1 {
            conn.unacknowledged += 1;
        }
        // Whoever holds something already is in the list.
        if conn.held_acks.is_empty() {
            self.holding.push(conn.id);
        }
        conn.held_acks.push_back(HeldAck {
            seq,
            bytes: bytes.into_boxed_slice(),
            ends_qos1,
        });
    }

    /// The door of an acknowledgement that says "this is kept": it takes the proof.
    fn send_ack(&mut self, index: u32, packet: &Packet<'_>, _durable: Durable) {
        self.roster.send(index, packet);
    }

    /// The same door for one that was held.
    pub(crate) fn release_ack(&mut self, index: u32, bytes: &[u8], _durable: Durable) {
        self.roster.send_bytes(index, bytes);
    }

    /// No rule allows it: MQTT 5 is told with 0x87; MQTT 3.1.1 has no word for it, so it is acknowledged as
    /// [MQTT-3.3.5-2] of 3.1.1 demands, and the log says what happened.
    fn deny_publish(&mut self, now: Millis, index: u32, publish: &Publish<'_>, topic: &str, denial: &Denial) {
        self.roster.counters.publishes_denied += 1;
        let sentence = denial.sentence(Action::Publish, topic);
        self.observe_denial(now, index, Action::Publish, topic, &sentence);
        self.refuse_publish(index, publish, ReasonCode::NotAuthorized, &sentence);
    }

    /// Answer a PUBLISH that goes nowhere.
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
            session.inbound.insert(publish.packet_id, Seq(0));
        }
        // Nothing was kept, so nothing has to be safe: only its turn is waited for.
        self.acknowledge(index, publish.qos, ack, Seq(0));
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

    pub(crate) fn handle_puback(&mut self, now: Millis, index: u32, ack: Ack<'_>) {
        let Some(session_index) = self.roster.conns.get(index as usize).map(|c| c.session) else {
            return;
        };
        if let Some(session) = self.roster.sessions.get_mut(session_index as usize) {
            session.complete_publish(ack.packet_id, QoS::AtLeastOnce);
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
        // Section 4.3.3: a PUBREC of 0x80 or more ends the exchange
        if ack.reason >= 0x80 {
            session.complete_publish(ack.packet_id, QoS::ExactlyOnce);
            return self.pump(now, session_index);
        }
        let known = session.release(ack.packet_id);
        self.send_paired(index, ack.packet_id, known, Packet::Pubrel);
    }

    pub(crate) fn handle_pubcomp(&mut self, now: Millis, index: u32, ack: Ack<'_>) {
        let Some(session_index) = self.roster.conns.get(index as usize).map(|c| c.session) else {
            return;
        };
        if let Some(session) = self.roster.sessions.get_mut(session_index as usize) {
            session.complete_pubrel(ack.packet_id);
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
        // [MQTT-4.3.3-11]
        let known = session.inbound.remove(&ack.packet_id).is_some();
        self.send_paired(index, ack.packet_id, known, Packet::Pubcomp);
    }

    /// PUBREL or PUBCOMP; an identifier that nobody knows gets 0x92 in MQTT 5.
    fn send_paired(&mut self, index: u32, packet_id: u16, known: bool, packet: fn(Ack<'static>) -> Packet<'static>) {
        let reason = if known {
            0
        } else {
            ReasonCode::PacketIdentifierNotFound as u8
        };
        self.roster.send(
            index,
            &packet(Ack {
                packet_id,
                reason,
                properties: Properties::EMPTY,
            }),
        );
    }
}

/// The member of a shared subscription whose turn it is: somebody connected if there is one, else a session that can
/// keep the message [MQTT-4.8.2-3].
fn choose<'a>(roster: &crate::roster::Roster, group: &'a [Target], turn: usize) -> Option<&'a Target> {
    let start = turn.checked_rem(group.len())?;
    let rotated = || group.iter().cycle().skip(start).take(group.len());
    let session = |t: &&Target| roster.sessions.get(t.session as usize);
    rotated()
        .find(|t| session(t).is_some_and(|s| s.conn.is_some()))
        .or_else(|| rotated().find(|t| session(t).is_some_and(|s| s.is_persistent())))
}

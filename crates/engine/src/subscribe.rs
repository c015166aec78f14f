//! SUBSCRIBE and UNSUBSCRIBE, and the retained messages that answer them (MQTT 5.0 sections 3.8 to 3.11).
//!
//! Refuses to know how matching works.

use crate::conn::AckKind;
use crate::engine::Engine;
use crate::route::NoPlace;
use crate::rules::{Action, Permit};
use crate::time::Millis;
use crate::tree::Entry;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use sealmq_codec::topic::{Filter, parse_filter};
use sealmq_codec::{
    Packet, PacketKind, Property, PropertyBuf, ReasonCode, RetainHandling, SubackCodes, Subscribe, Subscription,
    Unsubscribe, Version, varint_len,
};
use sealmq_store::{Change, Seq};

/// Units of work for one filter.
const FILTER_WORK: usize = 4;

/// Whether a granted subscription is to be answered with retained messages.
enum Outcome {
    Granted { is_new: bool },
    Refused(ReasonCode, String),
}

impl Engine {
    /// Each filter by itself, one SUBACK [MQTT-3.8.4-1], [MQTT-3.8.4-5], [MQTT-3.8.4-6], [MQTT-3.8.4-7].
    pub(crate) fn handle_subscribe(&mut self, now: Millis, index: u32, subscribe: &Subscribe<'_>) {
        let Some(conn) = self.roster.conns.get(index as usize) else {
            return;
        };
        let (session, version) = (conn.session, conn.version);
        let identifier = subscribe
            .properties
            .iter()
            .find_map(|p| {
                if let Property::SubscriptionIdentifier(id) = p {
                    Some(id)
                } else {
                    None
                }
            })
            .unwrap_or(0);
        self.recorded = Seq(0);
        let mut codes = Vec::new();
        let mut reason_string = None;
        let mut wants_retained = Vec::new();
        let most = self.roster.limits.max_filters as usize;
        for (place, subscription) in subscribe.filters.iter().enumerate() {
            self.router.work += FILTER_WORK;
            let outcome = if place < most {
                self.subscribe_one(now, index, session, identifier, &subscription)
            } else {
                let sentence = alloc::format!("one SUBSCRIBE may have {most} filters (limits.max_filters)");
                Outcome::Refused(ReasonCode::QuotaExceeded, sentence)
            };
            let code = match outcome {
                Outcome::Granted { is_new } => {
                    let wanted = match subscription.options.retain_handling {
                        RetainHandling::SendAlways => true,
                        // [MQTT-3.3.1-10], [MQTT-3.3.1-11], [MQTT-3.8.4-4]
                        RetainHandling::SendIfNew => is_new,
                        RetainHandling::DoNotSend => false,
                    };
                    // Section 4.8.2: a shared subscription gets no retained messages
                    if wanted && !subscription.filter.starts_with("$share/") {
                        let debt = self.record_debt(session, &subscription, now);
                        wants_retained.push((subscription, debt));
                    }
                    subscription.options.qos as u8
                }
                Outcome::Refused(reason, sentence) => {
                    reason_string.get_or_insert(sentence);
                    if version == Version::V311 { 0x80 } else { reason as u8 }
                }
            };
            codes.push(code);
        }
        let seq = core::mem::take(&mut self.recorded);
        self.answer(
            now,
            index,
            subscribe.packet_id,
            &codes,
            reason_string.as_deref(),
            PacketKind::Suback,
            seq,
        );
        self.owe_retained(now, session, identifier, &wants_retained);
    }

    fn subscribe_one(
        &mut self,
        now: Millis,
        index: u32,
        session_index: u32,
        identifier: u32,
        subscription: &Subscription<'_>,
    ) -> Outcome {
        let text = subscription.filter;
        let Some(filter) = parse_filter(text) else {
            let sentence = alloc::format!("{text} is not a valid topic filter");
            return Outcome::Refused(ReasonCode::TopicFilterInvalid, sentence);
        };
        if let Some(sentence) = self.topic_over_budget(text) {
            return Outcome::Refused(ReasonCode::TopicFilterInvalid, sentence.into());
        }
        let Some(conn) = self.roster.conns.get(index as usize) else {
            return Outcome::Refused(ReasonCode::UnspecifiedError, String::new());
        };
        if let Err(denial) = conn.permit.subscribe(filter.filter) {
            self.roster.counters.subscribes_denied += 1;
            let sentence = denial.sentence(Action::Subscribe, filter.filter);
            self.observe_denial(now, index, Action::Subscribe, text, &sentence);
            return Outcome::Refused(ReasonCode::NotAuthorized, sentence);
        }
        let Some(session) = self.roster.sessions.get(session_index as usize) else {
            return Outcome::Refused(ReasonCode::UnspecifiedError, String::new());
        };
        let is_new = !session.subscriptions().contains(text);
        if is_new && let Some(sentence) = self.roster.no_room_to_subscribe(session, text) {
            return Outcome::Refused(ReasonCode::QuotaExceeded, sentence);
        }
        let (id, is_kept) = (session.id, session.is_kept);
        if is_kept && let Some(NoPlace(reason, _, sentence)) = self.no_promises() {
            return Outcome::Refused(reason, sentence);
        }
        let Some(session) = self.roster.sessions.get_mut(session_index as usize) else {
            return Outcome::Refused(ReasonCode::UnspecifiedError, String::new());
        };
        // [MQTT-3.8.4-3]: the same filter again replaces the subscription
        session.subscribe(text);
        let options = subscription.options;
        let entry = Entry {
            session: session_index,
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            identifier,
        };
        self.router.tree.insert(filter.group, filter.filter, entry);
        if is_kept {
            self.record(&Change::Subscribe {
                session: id,
                filter: text,
                options: options.to_byte(),
                identifier,
            });
        }
        Outcome::Granted { is_new }
    }

    /// Each filter by itself, one UNSUBACK [MQTT-3.10.4-1], [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-3.10.4-6],
    /// [MQTT-3.11.3-1]; what is under way stays [MQTT-3.10.4-3].
    pub(crate) fn handle_unsubscribe(&mut self, now: Millis, index: u32, unsubscribe: &Unsubscribe<'_>) {
        let Some(session_index) = self.roster.conns.get(index as usize).map(|c| c.session) else {
            return;
        };
        self.recorded = Seq(0);
        let mut codes = Vec::new();
        for filter in unsubscribe.filters() {
            let session = self.roster.sessions.get_mut(session_index as usize);
            let removed = session.is_some_and(|s| s.unsubscribe(filter));
            codes.push(if removed {
                self.end_subscription(session_index, filter);
                ReasonCode::Success as u8
            } else if parse_filter(filter).is_none() {
                ReasonCode::TopicFilterInvalid as u8
            } else {
                ReasonCode::NoSubscriptionExisted as u8
            });
        }
        let seq = core::mem::take(&mut self.recorded);
        self.answer(
            now,
            index,
            unsubscribe.packet_id,
            &codes,
            None,
            PacketKind::Unsuback,
            seq,
        );
    }

    /// Take a subscription out of the tree [MQTT-3.10.4-2]; the session's own list is the caller's.
    pub(crate) fn forget_subscription(&mut self, session: u32, filter: &str) {
        if let Some(Filter { group, filter }) = parse_filter(filter) {
            self.router.tree.remove(group, filter, session);
        }
    }

    /// The same for a session that lives on: the log hears of it.
    fn end_subscription(&mut self, session_index: u32, filter: &str) {
        self.forget_subscription(session_index, filter);
        if let Some(session) = self.roster.sessions.get(session_index as usize).filter(|s| s.is_kept) {
            let session = session.id;
            self.record(&Change::Unsubscribe { session, filter });
        }
    }

    /// End the subscriptions of a session that `permit` does not allow (any more).
    pub(crate) fn revisit_subscriptions(&mut self, session_index: u32, permit: &Permit) {
        let Some(session) = self.roster.sessions.get_mut(session_index as usize) else {
            return;
        };
        let gone: Vec<Box<str>> = session
            .subscriptions()
            .iter()
            .filter(|text| parse_filter(text).is_none_or(|f| permit.subscribe(f.filter).is_err()))
            .cloned()
            .collect();
        for filter in &gone {
            session.unsubscribe(filter);
        }
        for filter in &gone {
            self.end_subscription(session_index, filter);
        }
    }

    /// The same for every session under the rules of now, those that are away too: what they may no longer hear must not wait
    /// for them.
    pub(crate) fn revisit_all(&mut self) {
        let sessions: Vec<u32> = self.roster.sessions.iter().map(|(index, _)| index as u32).collect();
        for index in sessions {
            if let Some(session) = self.roster.sessions.get(index as usize) {
                let permit = self.rules.resolve(session.device.as_deref(), &session.client_id);
                self.revisit_subscriptions(index, &permit);
            }
        }
    }

    /// SUBACK or UNSUBACK [MQTT-2.2.1-6], [MQTT-3.8.4-2]; no properties but the words of a SUBACK [MQTT-3.9.2-2],
    /// [MQTT-3.11.2-1], [MQTT-3.11.2-2].
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one answer, put together in one place"
    )]
    fn answer(
        &mut self,
        now: Millis,
        index: u32,
        packet_id: u16,
        codes: &[u8],
        reason: Option<&str>,
        kind: PacketKind,
        seq: Seq,
    ) {
        let Some(conn) = self.roster.conns.get(index as usize) else {
            return;
        };
        let mut properties = PropertyBuf::new();
        if let Some(reason) = reason
            && conn.version == Version::V5
            && conn.limits.problem_information
            // [MQTT-3.9.2-1]
            && reason.len() + codes.len() + 16 <= conn.limits.max_packet_size as usize
        {
            properties.push(Property::ReasonString(reason));
        }
        let codes = SubackCodes {
            packet_id,
            properties: properties.as_properties(),
            codes,
        };
        // [MQTT-3.1.2-24]: it cannot be told, and must not be kept from the client either
        let body = 3 + codes.codes.len();
        if conn.version == Version::V5 && 1 + varint_len(body) + body > conn.limits.max_packet_size as usize {
            let sentence = "client takes no packet that answers as many filters";
            return self.violation(now, index, ReasonCode::PacketTooLarge, "answer-too-large", sentence);
        }
        let packet = if kind == PacketKind::Suback {
            Packet::Suback(codes)
        } else {
            Packet::Unsuback(codes)
        };
        if seq == Seq(0) {
            return self.roster.send(index, &packet);
        }
        self.acknowledge(index, &packet, AckKind::Other, seq);
    }
}

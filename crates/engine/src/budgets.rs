//! What a client may make of a topic, a CONNECT, a SUBSCRIBE: the budgets that are looked at before anything changes.
//!
//! Refuses to know what is done afterwards. The budgets of queues stand with the session, those of all together in `memory`.

use crate::connect::Peer;
use crate::engine::Engine;
use crate::inbound::Inbound;
use crate::message::Received;
use crate::roster::Roster;
use crate::route::NoPlace;
use crate::session::Session;
use alloc::format;
use alloc::string::String;
use sealmq_codec::{Connect, ReasonCode};

/// Bytes of memory that a newcomer needs at least: a connection, a session, and something to work with.
const NEWCOMER_BYTES: u64 = 32 * 1024;

impl Engine {
    /// Why a topic name or filter is too much, if it is.
    #[inline]
    pub(crate) fn topic_over_budget(&self, topic: &str) -> Option<&'static str> {
        let limits = &self.roster.limits;
        if topic.len() > limits.max_topic_bytes as usize {
            return Some("topic is longer than limits.max_topic_bytes");
        }
        let levels = 1 + topic.bytes().filter(|&b| b == b'/').count();
        (levels > limits.max_topic_levels as usize).then_some("topic has more levels than limits.max_topic_levels")
    }

    /// Why a CONNECT is too much, if it is: cause, sentence, mend.
    pub(crate) fn connect_over_budget(
        &self,
        connect: &Connect<'_>,
        client_id: &str,
        peer: &Peer,
    ) -> Option<(&'static str, String, &'static str)> {
        let limits = &self.roster.limits;
        if let Some(will) = &connect.will {
            let bytes = will.topic.len() + will.payload.len() + will.properties.raw().len();
            if bytes > limits.max_will_bytes as usize {
                let sentence = format!(
                    "will of {client_id} has {bytes} bytes, limits.max_will_bytes is {}",
                    limits.max_will_bytes
                );
                return Some((
                    "will-too-large",
                    sentence,
                    "send a smaller will, or raise limits.max_will_bytes",
                ));
            }
            if Received::sort(will.properties).user_properties > limits.max_user_properties {
                let sentence = format!(
                    "will of {client_id} has more than {} user properties",
                    limits.max_user_properties
                );
                return Some((
                    "will-too-large",
                    sentence,
                    "send fewer of them, or raise limits.max_user_properties",
                ));
            }
        }
        if self.by_client.contains_key(client_id) {
            return None;
        }
        let who = peer.device.as_deref().unwrap_or("anonymous");
        if self
            .roster
            .owners
            .get(&peer.device)
            .is_some_and(|&count| count >= limits.max_sessions_per_device)
        {
            let sentence = format!("{who} has {} sessions already", limits.max_sessions_per_device);
            let mend =
                "look for a client that makes up a new identifier each time; else raise limits.max_sessions_per_device";
            return Some(("too-many-sessions", sentence, mend));
        }
        if self.roster.sessions.len() >= limits.max_sessions as usize {
            let sentence = format!("broker has {} sessions already", limits.max_sessions);
            let mend = "shorten limits.max_session_expiry_s, or raise limits.max_sessions";
            return Some(("too-many-sessions", sentence, mend));
        }
        if !self.roster.memory.allows(0, NEWCOMER_BYTES) {
            let sentence = format!(
                "broker holds {} of {} bytes",
                self.roster.memory.used(),
                self.roster.memory.bound()
            );
            let mend = "find who fills its memory with `sealmq status`, or raise limits.max_memory_bytes";
            return Some(("memory-full", sentence, mend));
        }
        None
    }
}

impl Roster {
    /// Why a QoS 2 message of this publisher cannot be remembered until it is released, if it cannot: MQTT 3.1.1 knows no
    /// receive maximum.
    pub fn no_room_to_remember(&self, publisher: u32) -> Option<NoPlace> {
        let held = self.sessions.get(publisher as usize)?.inbound.bytes();
        let is_allowed = self.memory.allows(held, Inbound::ENTRY_BYTES);
        let sentence = "there is no memory for another message that its publisher has not released";
        (!is_allowed).then(|| NoPlace(ReasonCode::QuotaExceeded, "memory-full", sentence.into()))
    }

    /// Why a session may not have another subscription, if it may not.
    pub fn no_room_to_subscribe(&self, session: &Session, filter: &str) -> Option<String> {
        let most = self.limits.max_subscriptions;
        if session.subscriptions().len() >= most as usize {
            return Some(format!(
                "session has {most} subscriptions already (limits.max_subscriptions)"
            ));
        }
        let is_allowed = self.memory.allows(0, Session::subscription_bytes(filter));
        (!is_allowed).then(|| "there is no memory for another subscription now".into())
    }
}

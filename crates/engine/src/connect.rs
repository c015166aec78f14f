//! CONNECT: who may come in, which session they get (MQTT 5.0 section 3.1.4).
//!
//! Refuses to know how the identity was proven; it takes the verified device id as given.

use crate::conn::{CONNECTION_BYTES, ClientLimits, Conn, ConnId};
use crate::connack::{Refusal, connack_size, refusal_bytes};
use crate::durability::STORE_FULL;
use crate::engine::{Engine, Timer};
use crate::event::{EndCause, Event};
use crate::memory::Memory;
use crate::message::{Content, Message, Received};
use crate::route::NoPlace;
use crate::rules::{Action, Permit};
use crate::session::{Session, WillState};
use crate::time::Millis;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use foldhash::fast::FixedState;
use sealmq_codec::{Connack, Connect, Packet, Property, PropertyBuf, ReasonCode, Version, Will};
use sealmq_store::{Change, Keeping, Seq, SessionId, StoredWill};

/// Who is at the other end, as the node verified it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The device id of the certificate; `None` for a client without one (only `[dangerous] anonymous`).
    pub device: Option<Arc<str>>,
    pub client_ids: ClientIds,
}

/// Which client identifiers a device may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientIds {
    /// `<id>` and `<id>:<anything>`; an identity may be any client identifier of letters and digits [MQTT-3.1.3-5].
    OwnOnly,
    /// Any (only `[dangerous] any_client_id`).
    Any,
}

struct Settings {
    session_expiry_s: u32,
    asked_expiry_s: u32,
    limits: ClientLimits,
}

impl Engine {
    /// A CONNECT arrived on a connection that is ready for it. On success the CONNACK is in the connection's output, the
    /// first packet there [MQTT-3.1.4-5], [MQTT-3.2.0-1], [MQTT-3.2.0-2].
    pub fn handle_connect(&mut self, now: Millis, connect: &Connect<'_>, peer: &Peer) -> Result<ConnId, Refusal> {
        let refuse = |reason: ReasonCode, cause: &'static str, summary: String, mend: String| Refusal {
            bytes: refusal_bytes(connect, reason, &summary),
            reason,
            cause,
            summary,
            mend,
        };
        let accepted = self.admit(connect, peer);
        let (client_id, permit) = match accepted {
            Ok(accepted) => accepted,
            Err((reason, cause, summary, mend)) => {
                self.roster.counters.connects_refused += 1;
                return Err(refuse(reason, cause, summary, mend));
            }
        };
        let settings = self.settings(connect);
        let budget = self.connect_over_budget(connect, &client_id, peer);
        if let Some((cause, summary, mend)) = budget {
            self.roster.counters.connects_refused += 1;
            return Err(refuse(ReasonCode::QuotaExceeded, cause, summary, mend.into()));
        }
        // Whoever comes back to a session takes away what fills the store; a new one would have to be promised.
        let comes_back = self.by_client.contains_key(&client_id);
        let refusal = self.no_promises().filter(|_| settings.session_expiry_s > 0);
        if let Some(NoPlace(_, cause, summary)) = refusal.filter(|no| no.1 != STORE_FULL || !comes_back) {
            self.roster.counters.connects_refused += 1;
            let mend = "see `sealmq status` for the store; a session that ends with its connection is taken meanwhile";
            return Err(refuse(ReasonCode::ServerUnavailable, cause, summary, mend.into()));
        }
        let agreed = self.agreed(connect, &client_id, &settings);
        // [MQTT-3.1.2-24]: who has no room for this has none for any answer
        let needed = connack_size(connect.version, &agreed);
        if needed > settings.limits.max_packet_size as usize {
            self.roster.counters.connects_refused += 1;
            let most = settings.limits.max_packet_size;
            return Err(refuse(
                ReasonCode::PacketTooLarge,
                "client-packet-size",
                format!("client takes packets of {most} bytes at most, and CONNACK has {needed}"),
                "raise the maximum packet size of the client, or leave it out".into(),
            ));
        }
        self.recorded = Seq(0);
        let (session, session_present) = self.attach(now, connect, &client_id, peer, &settings);
        self.revisit_subscriptions(session, &permit);
        let id = self.open(now, connect, client_id, peer, permit, session, &settings);
        let connack = Connack {
            session_present,
            code: 0,
            properties: agreed.as_properties(),
        };
        self.roster.send(id.index, &Packet::Connack(connack));
        self.seal(id.index, self.recorded);
        self.roster.counters.connects += 1;
        let live = self.roster.conns.len() as u64;
        self.roster.counters.connections_peak = self.roster.counters.connections_peak.max(live);
        if let Some(conn) = self.roster.conns.get(id.index as usize) {
            let event = Event::Connected {
                conn: id,
                client_id: Arc::clone(&conn.client_id),
                version: connect.version,
                keep_alive_s: connect.keep_alive,
                clean_start: connect.clean_start,
                session_present,
            };
            self.roster.observe(event);
        }
        self.pump(now, session);
        Ok(id)
    }

    /// Everything that may be wrong with a CONNECT before any state changes [MQTT-3.1.3-8], [MQTT-3.1.4-2],
    /// [MQTT-4.12.0-1].
    #[allow(
        clippy::type_complexity,
        reason = "the four parts of a refusal, made into one by the only caller"
    )]
    fn admit(
        &mut self,
        connect: &Connect<'_>,
        peer: &Peer,
    ) -> Result<(Arc<str>, Permit), (ReasonCode, &'static str, String, String)> {
        if connect
            .properties
            .iter()
            .any(|p| matches!(p, Property::AuthenticationMethod(_)))
        {
            return Err((
                ReasonCode::BadAuthenticationMethod,
                "enhanced-authentication",
                "client asks for enhanced authentication, which this broker does not offer".into(),
                "connect without an authentication method: the certificate is the identity".into(),
            ));
        }
        let owner = peer.device.as_deref().unwrap_or("anonymous");
        let client_id: Arc<str> = if connect.client_id.is_empty() {
            // [MQTT-3.1.3-8] of 3.1.1
            if connect.version == Version::V311 && !connect.clean_start {
                return Err((
                    ReasonCode::ClientIdentifierNotValid,
                    "client-id-missing",
                    "client asks to keep a session without a client identifier".into(),
                    format!("set the client identifier to {owner} or {owner}:<anything>"),
                ));
            }
            self.assigned_client_id(owner)
        } else {
            connect.client_id.into()
        };
        let is_own = client_id
            .strip_prefix(owner)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
        if peer.client_ids == ClientIds::OwnOnly && !is_own {
            return Err((
                ReasonCode::ClientIdentifierNotValid,
                "client-id-mismatch",
                format!("client identifier {client_id} does not belong to device {owner}"),
                format!(
                    "set the client identifier to {owner} or {owner}:<anything>, or use the certificate of {client_id}"
                ),
            ));
        }
        let permit = self.rules.resolve(peer.device.as_deref(), &client_id);
        if let Some(will) = &connect.will {
            if let Some(sentence) = self.topic_over_budget(will.topic) {
                return Err((
                    ReasonCode::TopicNameInvalid,
                    "will-topic-too-long",
                    format!("{sentence} (will of {client_id})"),
                    "use fewer or shorter levels, or raise the limit".into(),
                ));
            }
            if let Err(denial) = permit.publish(will.topic) {
                return Err((
                    ReasonCode::NotAuthorized,
                    "will-not-authorized",
                    format!("{} (will of {client_id})", denial.sentence(Action::Will, will.topic)),
                    format!(
                        "allow {owner} to publish to {} in the rule file, or change the will topic",
                        will.topic
                    ),
                ));
            }
        }
        Ok((client_id, permit))
    }

    /// A client identifier that nobody has [MQTT-3.1.3-6], [MQTT-3.2.2-16].
    fn assigned_client_id(&mut self, owner: &str) -> Arc<str> {
        self.serial += 1;
        let mut state = FixedState::with_seed(self.seed).build_hasher();
        state.write_u64(self.serial);
        format!("{owner}:auto-{:x}-{:x}", self.serial, state.finish() & 0xffff_ffff).into()
    }

    fn settings(&self, connect: &Connect<'_>) -> Settings {
        let limits = &self.roster.limits;
        // Clean session 0 of 3.1.1 is a session without end; the cap makes it one with.
        let mut asked_expiry_s = match connect.version {
            Version::V311 if !connect.clean_start => u32::MAX,
            _ => 0,
        };
        let mut client = ClientLimits {
            max_packet_size: u32::MAX,
            window: limits.max_inflight,
            topic_alias_maximum: 0,
            problem_information: true,
        };
        for property in connect.properties.iter() {
            match property {
                Property::SessionExpiry(seconds) => asked_expiry_s = seconds,
                Property::ReceiveMaximum(window) => client.window = window.min(limits.max_inflight),
                Property::MaximumPacketSize(size) => client.max_packet_size = size,
                // Bounded: each alias keeps a topic name in memory here.
                Property::TopicAliasMaximum(n) => client.topic_alias_maximum = n.min(limits.topic_alias_maximum),
                Property::RequestProblemInformation(wanted) => client.problem_information = wanted == 1,
                _ => {}
            }
        }
        let session_expiry_s = asked_expiry_s.min(limits.max_session_expiry_s);
        Settings {
            session_expiry_s,
            asked_expiry_s,
            limits: client,
        }
    }

    /// The session for this client identifier: the one there is, or a new one [MQTT-3.1.2-4], [MQTT-3.1.2-5],
    /// [MQTT-3.1.2-6], [MQTT-3.1.3-2], [MQTT-3.1.4-4]; and whether there was one [MQTT-3.2.2-2], [MQTT-3.2.2-3].
    fn attach(
        &mut self,
        now: Millis,
        connect: &Connect<'_>,
        client_id: &Arc<str>,
        peer: &Peer,
        settings: &Settings,
    ) -> (u32, bool) {
        let expiry_s = settings.session_expiry_s;
        // [MQTT-3.1.4-3]
        if let Some(&existing) = self.by_client.get(client_id)
            && let Some(old) = self.roster.sessions.get(existing as usize).and_then(|s| s.conn)
        {
            self.roster.counters.takeovers += 1;
            self.end(now, old, ReasonCode::SessionTakenOver, EndCause::SessionTakenOver);
        }
        if let Some(&existing) = self.by_client.get(client_id) {
            // A session is its identity's; with any_client_id another one may come by the same name.
            let is_theirs = |s: &Session| s.device == peer.device;
            if let Some(session) = self.roster.sessions.get(existing as usize)
                && !connect.clean_start
                && is_theirs(session)
            {
                let (session, is_kept) = (session.id, session.is_kept);
                if is_kept {
                    self.record(&Change::Attach { session, expiry_s });
                }
                return (existing, true);
            }
            self.remove_session(now, existing);
        }
        self.serial += 1;
        let mut session = Session::new(
            Arc::clone(client_id),
            peer.device.clone(),
            SessionId(self.serial),
            &self.roster.memory,
        );
        if expiry_s > 0 && self.roster.log.keeping() == Keeping::Changes {
            session.is_kept = true;
            self.record(&Change::Begin {
                session: session.id,
                client_id,
                device: peer.device.as_deref(),
                expiry_s,
            });
        }
        let index = self.roster.add_session(session);
        self.by_client.insert(Arc::clone(client_id), index);
        (index, false)
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one CONNECT, put together in one place"
    )]
    fn open(
        &mut self,
        now: Millis,
        connect: &Connect<'_>,
        client_id: Arc<str>,
        peer: &Peer,
        permit: Permit,
        session_index: u32,
        settings: &Settings,
    ) -> ConnId {
        self.serial += 1;
        let share = self.roster.memory.share(CONNECTION_BYTES);
        let memory = self.roster.memory.clone();
        let entry = self.roster.conns.vacant_entry();
        let id = ConnId {
            index: entry.key() as u32,
            generation: self.serial as u32,
        };
        let keep_alive_s = capped_keep_alive(connect.keep_alive, self.roster.limits.max_keep_alive_s);
        // [MQTT-3.1.2-22], [MQTT-3.2.2-22]: one and a half times
        let keep_alive_ms = u64::from(keep_alive_s) * 1500;
        entry.insert(Conn {
            id,
            version: connect.version,
            session: session_index,
            client_id,
            device: peer.device.clone(),
            permit,
            limits: settings.limits,
            out: Vec::new(),
            granted: 0,
            sealed: None,
            is_dirty: false,
            is_closing: false,
            keep_alive_ms,
            last_seen: now,
            connect_expiry_s: settings.asked_expiry_s,
            // [MQTT-3.3.2-7]
            aliases_in: Vec::new(),
            aliases_out: None,
            held_acks: VecDeque::new(),
            unacknowledged: 0,
            allowed_route: None,
            denied_at: None,
            denied_since: 0,
            dropped_since: 0,
            waiting: 0,
            aliases_bytes: 0,
            share,
        });
        if keep_alive_ms > 0 {
            self.schedule(
                now + keep_alive_ms,
                Timer::KeepAlive {
                    index: id.index,
                    generation: id.generation,
                },
            );
        }
        if let Some(session) = self.roster.sessions.get_mut(session_index as usize) {
            session.conn = Some(id.index);
            session.epoch += 1;
            session.expiry_s = settings.session_expiry_s;
            session.mark_all_unsent();
            let will = connect.will.as_ref().map(|will| Box::new(kept_will(will, &memory)));
            self.set_will(session_index, will);
        }
        id
    }

    /// The will of a session from now on [MQTT-3.1.2-7]; the log hears of it.
    fn set_will(&mut self, session_index: u32, will: Option<Box<WillState>>) {
        let Some(session) = self.roster.sessions.get_mut(session_index as usize) else {
            return;
        };
        let had_one = core::mem::replace(&mut session.will, will).is_some();
        if self.roster.log.keeping() == Keeping::Nothing {
            return;
        }
        let urgency = self.durability.of_sessions();
        let change = match &session.will {
            Some(will) => Change::Will {
                session: session.id,
                client_id: &session.client_id,
                will: StoredWill {
                    body: will.message.content().body(),
                    delay_s: will.delay_s,
                    expiry_s: will.expiry_s,
                },
            },
            None if had_one => Change::WillGone { session: session.id },
            None => return,
        };
        self.recorded = self.roster.log.append(&change, urgency);
    }

    /// What CONNACK tells of the limits; no response information, no authentication method, no user properties
    /// [MQTT-3.1.2-28], [MQTT-3.2.2-20], [MQTT-4.12.0-6].
    fn agreed(&self, connect: &Connect<'_>, client_id: &str, settings: &Settings) -> PropertyBuf {
        let limits = &self.roster.limits;
        let mut properties = PropertyBuf::new();
        if connect.version == Version::V311 {
            return properties;
        }
        if settings.session_expiry_s != settings.asked_expiry_s {
            properties.push(Property::SessionExpiry(settings.session_expiry_s));
        }
        if limits.receive_maximum < u16::MAX {
            properties.push(Property::ReceiveMaximum(limits.receive_maximum));
        }
        properties.push(Property::MaximumPacketSize(limits.max_packet_size));
        if limits.topic_alias_maximum > 0 {
            properties.push(Property::TopicAliasMaximum(limits.topic_alias_maximum));
        }
        let capped = capped_keep_alive(connect.keep_alive, limits.max_keep_alive_s);
        if capped != connect.keep_alive {
            properties.push(Property::ServerKeepAlive(capped));
        }
        // [MQTT-3.1.3-7]
        if connect.client_id.is_empty() {
            properties.push(Property::AssignedClientId(client_id));
        }
        properties
    }
}

fn capped_keep_alive(asked: u16, cap: u16) -> u16 {
    if cap > 0 && (asked == 0 || asked > cap) {
        cap
    } else {
        asked
    }
}

/// The will as it will be published: its flags and its properties in their order [MQTT-3.1.2-14], [MQTT-3.1.2-15],
/// [MQTT-3.1.3-10].
fn kept_will(will: &Will<'_>, memory: &Memory) -> WillState {
    let received = Received::sort(will.properties);
    let content = Content {
        topic: will.topic,
        properties: received.travelling(will.properties),
        payload: will.payload,
        expires_at: None,
        qos: will.qos,
        retain: will.retain,
    };
    WillState {
        message: Message::new(&content, memory),
        delay_s: received.will_delay.unwrap_or(0),
        expiry_s: received.message_expiry,
    }
}

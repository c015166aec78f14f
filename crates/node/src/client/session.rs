//! The MQTT of a client as a machine without a clock or a network: bytes and commands in, bytes and news out.
//!
//! Refuses to know sockets and threads. Order of calls: [`Session::begin`] once the channel is verified,
//! [`Session::handle_bytes`] for what comes, [`Session::output`] for what is to go, [`Session::handle_time`] when
//! [`Session::deadline`] has passed. When it has ended, [`Session::resume_from`] carries its promises into the next one.

use super::config::{Bounds, ClientConfig};
use super::connect::connect_packet;
use super::exchanges::Exchanges;
use super::fault::{ClientError, misuse};
use super::news::{Closing, Done, Message, Taken};
use super::properties;
use sealmq_codec::{
    Ack, Disconnect, FilterBuf, Packet, PacketKind, Properties, PropertyBuf, PropertySet, Publish, QoS, Subscribe,
    SubscribeOptions, Unsubscribe, Version, topic, write_string,
};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Results that nobody asked for, beyond which nothing new is taken.
const RESULTS: usize = 100_000;
/// A SUBSCRIBE or UNSUBSCRIBE awaits its answer; more at a time than that is no program's need.
const REQUESTS: usize = 500;

pub struct Session {
    pub(super) version: Version,
    pub(super) bounds: Bounds,
    pub(super) buffer: Vec<u8>,
    pub(super) output: Vec<u8>,
    pub(super) inbox: VecDeque<Message>,
    pub(super) inbox_bytes: usize,
    pub(super) done: VecDeque<Done>,
    pub(super) exchanges: Exchanges,
    /// SUBSCRIBE and UNSUBSCRIBE by identifier: ticket, and how many codes an answer has.
    pub(super) requests: HashMap<u16, (u64, usize)>,
    /// QoS 2 identifiers received and not yet released; whether PUBREC is out.
    pub(super) inbound: HashMap<u16, bool>,
    /// Messages of QoS 1 and 2 in the inbox.
    pub(super) unacknowledged: usize,
    pub(super) aliases: HashMap<u16, Arc<str>>,
    pub(super) topic: Arc<str>,
    next_ticket: u64,
    pub(super) keep_alive: Duration,
    timeout: Duration,
    /// Until when CONNACK has to come.
    connect_by: Option<Instant>,
    pub(super) last_sent: Instant,
    pub(super) last_heard: Instant,
    pub(super) pinged: Option<Instant>,
    pub(super) window: usize,
    pub(super) server_max_packet: u32,
    pub(super) server_max_qos: u8,
    pub(super) tls_facts: Value,
    pub(super) connack: Option<Value>,
    pub(super) closing: Option<Closing>,
    pub(super) is_leaving: bool,
}

impl Session {
    pub fn new(config: &ClientConfig, now: Instant) -> Result<Session, ClientError> {
        let version = match config.version.as_str() {
            "3.1.1" => Version::V311,
            "5.0" => Version::V5,
            other => {
                let what = format!("version {other} is neither 3.1.1 nor 5.0");
                return Err(ClientError::new("config-invalid", what, "use 5.0 or 3.1.1"));
            }
        };
        Ok(Session {
            version,
            bounds: config.bounds,
            buffer: Vec::new(),
            output: connect_packet(config, version)?,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            done: VecDeque::new(),
            exchanges: Exchanges::default(),
            requests: HashMap::new(),
            inbound: HashMap::new(),
            unacknowledged: 0,
            aliases: HashMap::new(),
            topic: Arc::from(""),
            next_ticket: 0,
            keep_alive: Duration::from_secs(u64::from(config.keep_alive)),
            timeout: Duration::from_millis(config.timeout_ms.max(1)),
            connect_by: None,
            last_sent: now,
            last_heard: now,
            pinged: None,
            window: DEFAULT_WINDOW,
            server_max_packet: u32::MAX,
            server_max_qos: 2,
            tls_facts: Value::Null,
            connack: None,
            closing: None,
            is_leaving: false,
        })
    }

    /// Take over what `previous`, which has ended, left unacknowledged, undelivered and unsaid.
    pub fn resume_from(&mut self, previous: &mut Session) {
        self.exchanges = std::mem::take(&mut previous.exchanges);
        self.inbound = std::mem::take(&mut previous.inbound);
        self.inbox = std::mem::take(&mut previous.inbox);
        self.inbox_bytes = std::mem::take(&mut previous.inbox_bytes);
        self.unacknowledged = std::mem::take(&mut previous.unacknowledged);
        self.done = std::mem::take(&mut previous.done);
        self.next_ticket = previous.next_ticket;
    }

    // --- getters

    /// The CONNACK, once it has come and said yes.
    pub fn connack(&self) -> Option<&Value> {
        self.connack.as_ref()
    }

    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    pub fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Whether another publish is taken.
    pub fn has_room(&self) -> bool {
        self.output.len() + self.exchanges.bytes() < self.bounds.outbox_bytes
            && !self.exchanges.is_full()
            && self.done.len() < RESULTS
    }

    /// Whether more bytes may be handed in: the inbox has room, and the server listens to its answers.
    pub fn wants_bytes(&self) -> bool {
        self.inbox.len() < self.bounds.inbox_messages
            && self.inbox_bytes < self.bounds.inbox_bytes
            && self.output.len() < 2 * self.bounds.outbox_bytes.max(1 << 16)
    }

    pub fn inbox_len(&self) -> usize {
        self.inbox.len()
    }

    pub fn results_len(&self) -> usize {
        self.done.len()
    }

    pub fn has_messages(&self) -> bool {
        !self.inbox.is_empty()
    }

    pub fn has_results(&self) -> bool {
        !self.done.is_empty()
    }

    /// Bytes that wait to be taken by [`Session::output`].
    pub fn pending(&self) -> usize {
        self.output.len()
    }

    /// When [`Session::handle_time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        if self.closing.is_some() {
            return None;
        }
        if self.connack.is_none() {
            return self.connect_by;
        }
        if self.keep_alive.is_zero() {
            return None;
        }
        Some(match self.pinged {
            Some(at) => at + self.keep_alive.min(self.timeout),
            None => self.last_sent.min(self.last_heard) + self.keep_alive * 3 / 4,
        })
    }

    // --- commands

    /// The channel is verified: CONNECT may leave, and its answer has to come in time.
    pub fn begin(&mut self, tls_facts: Value, now: Instant) {
        self.tls_facts = tls_facts;
        self.connect_by = Some(now + self.timeout);
        self.last_heard = now;
    }

    /// Publish on `topic`; `properties` as JSON, null for none.
    pub fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        properties: &Value,
    ) -> Result<Taken, ClientError> {
        self.check_open()?;
        if !self.has_room() {
            return Ok(Taken::NoRoom);
        }
        if !topic::is_valid_name(topic) || topic.len() > usize::from(u16::MAX) {
            return Err(ClientError::new(
                "topic-invalid",
                format!("topic {topic:?} is no topic name"),
                "a topic to publish on is not empty, has no wildcards, and at most 65,535 bytes",
            ));
        }
        if qos as u8 > self.server_max_qos {
            return Err(ClientError::new(
                "qos-not-supported",
                format!("server takes no QoS above {}", self.server_max_qos),
                "publish with a lower QoS",
            ));
        }
        let block = match self.version {
            Version::V5 => properties::block(properties, PropertySet::Packet(PacketKind::Publish))?,
            Version::V311 if properties.is_null() => PropertyBuf::new(),
            Version::V311 => return Err(misuse("MQTT 3.1.1 has no properties")),
        };
        let mut publish = Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id: 0,
            properties: block.as_properties(),
            payload,
        };
        let size = 5 + 4 + topic.len() + block.as_properties().encoded_len() + payload.len();
        self.check_size(size)?;
        if qos == QoS::AtMostOnce {
            Packet::Publish(publish).encode(self.version, &mut self.output);
            return Ok(Taken::Sent);
        }
        let requests = &self.requests;
        publish.packet_id = self.exchanges.fresh_id(|id| requests.contains_key(&id));
        let mut packet = Vec::with_capacity(size);
        Packet::Publish(publish).encode(self.version, &mut packet);
        let ticket = self.fresh_ticket();
        // Before CONNACK nobody knows what the server takes.
        let window = if self.connack.is_some() { self.window } else { 0 };
        self.exchanges
            .start(publish.packet_id, ticket, packet, window, &mut self.output);
        Ok(Taken::Under(ticket))
    }

    /// Subscribe; the ticket under which one code per filter comes. `properties`: `subscription_identifier`, `user`.
    pub fn subscribe(
        &mut self,
        filters: &[(String, SubscribeOptions)],
        properties: &Value,
    ) -> Result<u64, ClientError> {
        let mut entries = FilterBuf::new();
        for (filter, options) in filters {
            if !topic::is_valid_filter(filter) {
                return Err(ClientError::new(
                    "topic-invalid",
                    format!("topic filter {filter:?} is none"),
                    "+ is a whole level, # the whole last one",
                ));
            }
            entries.push(self.version, filter, *options);
        }
        let block = properties::block(properties, PropertySet::Packet(PacketKind::Subscribe))?;
        let (packet_id, ticket) = self.request(filters.len())?;
        self.say(&Packet::Subscribe(Subscribe {
            packet_id,
            properties: block.as_properties(),
            filters: entries.as_filters(self.version),
        }));
        Ok(ticket)
    }

    /// Unsubscribe; the ticket under which one code per filter comes, zeros in 3.1.1.
    pub fn unsubscribe(&mut self, filters: &[String]) -> Result<u64, ClientError> {
        let mut raw = Vec::new();
        for filter in filters {
            if !topic::is_valid_filter(filter) {
                return Err(misuse(&format!("topic filter {filter:?} is none")));
            }
            write_string(filter, &mut raw);
        }
        let (packet_id, ticket) = self.request(filters.len())?;
        self.say(&Packet::Unsubscribe(Unsubscribe::new(
            packet_id,
            Properties::EMPTY,
            &raw,
        )));
        Ok(ticket)
    }

    /// Up to `max` messages; what they ask for is acknowledged with this: they are the caller's now.
    pub fn take_messages(&mut self, max: usize) -> Vec<Message> {
        let count = max.min(self.inbox.len());
        let taken: Vec<Message> = self.inbox.drain(..count).collect();
        for message in &taken {
            self.inbox_bytes -= message.size();
            if message.packet_id != 0 {
                self.unacknowledged -= 1;
                self.acknowledge(message.packet_id, message.qos);
            }
        }
        taken
    }

    /// What is over since the last call.
    pub fn take_results(&mut self) -> Vec<Done> {
        self.done.drain(..).collect()
    }

    /// The result of one ticket, when it has come.
    pub fn take_result(&mut self, ticket: u64) -> Option<Vec<u8>> {
        let place = self.done.iter().position(|done| done.ticket == ticket)?;
        self.done.remove(place).map(|done| done.codes)
    }

    /// Say DISCONNECT after all that was said before; nothing is taken any more.
    pub fn leave(&mut self) {
        if self.closing.is_some() || self.is_leaving {
            return;
        }
        self.is_leaving = true;
        if self.connack.is_some() {
            self.say(&Packet::Disconnect(Disconnect {
                reason: 0,
                properties: Properties::EMPTY,
            }));
        } else {
            self.output.clear();
        }
    }

    /// It is over; the first reason counts. Requests are forgotten, publishes are kept for the next connection.
    pub fn end(&mut self, closing: Closing) {
        self.requests.clear();
        self.closing.get_or_insert(closing);
    }

    // --- what to do now

    /// Move what is to be sent to `out`.
    pub fn output(&mut self, now: Instant, out: &mut Vec<u8>) {
        if !self.output.is_empty() {
            self.last_sent = now;
            if out.is_empty() {
                std::mem::swap(out, &mut self.output);
            } else {
                out.append(&mut self.output);
            }
        }
    }

    /// Look after the connection: a PINGREQ in time, an end to silence.
    pub fn handle_time(&mut self, now: Instant) {
        if self.deadline().is_none_or(|at| now < at) {
            return;
        }
        if self.connack.is_none() {
            let mend = "look at the log of the broker; it may be busy, or not speak MQTT";
            self.end(ClientError::new("timeout", "server did not answer CONNECT in time", mend).into());
        } else if self.pinged.is_none() {
            self.pinged = Some(now);
            self.say(&Packet::Pingreq);
        } else if self.wants_bytes() {
            self.end(ClientError::new("timeout", "server did not answer PINGREQ", "").into());
        } else {
            self.pinged = Some(now); // its answer waits behind what nobody has asked for yet
        }
    }

    // --- within

    pub(super) fn say(&mut self, packet: &Packet<'_>) {
        packet.encode(self.version, &mut self.output);
    }

    pub(super) fn acknowledge(&mut self, packet_id: u16, qos: u8) {
        let ack = plain_ack(packet_id);
        if qos == 1 {
            self.say(&Packet::Puback(ack));
        } else {
            if let Some(is_received) = self.inbound.get_mut(&packet_id) {
                *is_received = true;
            }
            self.say(&Packet::Pubrec(ack));
        }
    }

    fn request(&mut self, codes: usize) -> Result<(u16, u64), ClientError> {
        self.check_open()?;
        if self.requests.len() >= REQUESTS {
            return Err(misuse("too many requests await their answer"));
        }
        let requests = &self.requests;
        let packet_id = self.exchanges.fresh_id(|id| requests.contains_key(&id));
        let ticket = self.fresh_ticket();
        self.requests.insert(packet_id, (ticket, codes));
        Ok((packet_id, ticket))
    }

    fn fresh_ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn check_open(&self) -> Result<(), ClientError> {
        match &self.closing {
            Some(closing) => Err(closing.error.clone()),
            None if self.is_leaving => Err(ClientError::new("closed", "this side has disconnected", "")),
            None => Ok(()),
        }
    }

    fn check_size(&self, size: usize) -> Result<(), ClientError> {
        // [MQTT-3.2.2-15]; no packet is larger than what its length can say.
        let limit = self.server_max_packet.min(268_435_455) as usize;
        if size > limit {
            return Err(ClientError::new(
                "packet-too-large",
                format!("packet of {size} bytes is larger than the {limit} that the server takes"),
                "send less at a time, or raise limits.max_packet_size of the broker",
            ));
        }
        Ok(())
    }
}

/// Publishes of QoS 1 and 2 under way at a server that states no receive maximum.
pub(super) const DEFAULT_WINDOW: usize = 10_000;

pub(super) fn plain_ack(packet_id: u16) -> Ack<'static> {
    Ack {
        packet_id,
        reason: 0,
        properties: Properties::EMPTY,
    }
}

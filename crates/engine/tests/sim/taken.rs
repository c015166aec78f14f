//! Bytes that arrive at the broker: into the engine, and, packet by packet, into the model.
//!
//! Refuses to know who sent them and why.

use crate::model::{Entry, Fate, Message, Routing, Subscription, Will};
use crate::observe::words;
use crate::sim::{Sim, name};
use crate::topics::parts;
use sealmq_codec::{Connect, Framed, Packet, Property, Publish, QoS, Subscribe, Version, frame};
use sealmq_engine::{ClientIds, Millis, Peer};
use std::rc::Rc;

impl Sim {
    /// So many bytes of what a client sent arrive.
    pub fn arrive(&mut self, at: usize, count: usize) {
        let line = &mut self.lines[at];
        if !line.has_broker {
            return;
        }
        let bytes = line.to_broker.take(count);
        line.unread.extend(bytes);
        while self.feed(at) {}
    }

    /// The broker's side notices that a connection is gone.
    pub fn notice(&mut self, at: usize) {
        let line = &mut self.lines[at];
        line.has_broker = false;
        let (id, client, is_doomed) = (line.id, line.client, line.doom.is_some());
        if let Some(id) = id {
            self.tell(|_| format!("{}: the broker notices that it is gone", name(client)));
            if !is_doomed {
                self.engine.handle_closed(Millis(self.now), id, "connection reset");
                self.doom(at, 0);
                self.settle();
            }
            self.engine.release(id);
            self.lines[at].id = None;
        }
    }

    /// One call into the engine; whether there may be more to do.
    fn feed(&mut self, at: usize) -> bool {
        let unread = std::mem::take(&mut self.lines[at].unread);
        if self.lines[at].doom.is_some() || !self.lines[at].has_broker {
            return false;
        }
        let Ok(Framed::Whole(first)) = frame(&unread, u32::MAX) else {
            return self.feed_part(at, unread);
        };
        let Some(id) = self.lines[at].id else {
            let Ok(Packet::Connect(connect)) = Packet::decode(Version::V5, first) else {
                panic!("the first packet is CONNECT");
            };
            self.connect(at, &connect);
            self.lines[at].unread = unread[first.size..].to_vec();
            return true;
        };
        let end = if self.plan.has_batches {
            together(&unread)
        } else {
            first.size
        };
        let before = self.engine.counters();
        let intake = self.engine.handle_bytes(Millis(self.now), id, &unread[..end]);
        assert_eq!(intake.consumed, end, "whole packets are carried out");
        let is_refused = self.engine.counters().messages_turned_away > before.messages_turned_away;
        self.lines[at].last_seen = self.now;
        let version = self.players[self.lines[at].client].version;
        let mut rest = &unread[..end];
        while !rest.is_empty() {
            let Ok(Framed::Whole(whole)) = frame(rest, u32::MAX) else {
                panic!("half a packet");
            };
            let packet = Packet::decode(version, whole).expect("a client that behaves");
            self.take(at, &packet, is_refused);
            rest = &rest[whole.size..];
        }
        self.settle();
        self.lines[at].unread = unread[end..].to_vec();
        true
    }

    /// Half a packet: the engine has to leave it where it is.
    fn feed_part(&mut self, at: usize, unread: Vec<u8>) -> bool {
        if let Some(id) = self.lines[at].id {
            let intake = self.engine.handle_bytes(Millis(self.now), id, &unread);
            assert!(
                intake.consumed == 0 && intake.need > unread.len(),
                "{intake:?} of {} bytes",
                unread.len()
            );
        }
        self.lines[at].unread = unread;
        false
    }

    fn connect(&mut self, at: usize, connect: &Connect<'_>) {
        let line = &mut self.lines[at];
        let (client, number, is_v5) = (line.client, line.number, line.is_v5);
        let mut expiry_s = if is_v5 || connect.clean_start { 0 } else { u32::MAX };
        for property in connect.properties.iter() {
            match property {
                Property::SessionExpiry(seconds) => expiry_s = seconds,
                Property::ReceiveMaximum(n) => line.receive_maximum = n,
                Property::TopicAliasMaximum(n) => line.alias_maximum = n,
                Property::MaximumPacketSize(n) => line.max_packet = n as usize,
                _ => {}
            }
        }
        line.last_seen = self.now;
        let peer = Peer {
            device: Some(name(client).into()),
            client_ids: ClientIds::OwnOnly,
        };
        let will = connect.will.as_ref().map(|will| self.will(client, will));
        let is_allowed = will
            .as_ref()
            .is_none_or(|w| self.law.lets_publish(client, &w.message.topic));
        self.tell(|_| {
            format!(
                "{}: {} (connection {number})",
                name(client),
                words(&Packet::Connect(*connect))
            )
        });
        match self.engine.handle_connect(Millis(self.now), connect, &peer) {
            Ok(id) => {
                assert!(is_allowed, "a will that no rule allows");
                self.lines[at].id = Some(id);
                if let Some(old) = self
                    .model
                    .sessions
                    .get(&client)
                    .and_then(|s| s.line)
                    .and_then(|n| self.line_at(n))
                {
                    self.lines[old].doom = Some(0x8E);
                }
                let is_present = self.model.connect(Entry {
                    client,
                    line: number,
                    is_v5,
                    clean: connect.clean_start,
                    expiry_s: expiry_s.min(self.plan.limits.max_session_expiry_s),
                    will,
                });
                self.lines[at].session_present = Some(is_present);
                if !self.lines[at].has_client {
                    self.learn(at);
                }
            }
            Err(refusal) => {
                assert!(!is_allowed, "{refusal:?}");
                self.tell(|_| format!("{}: refused, {}", name(client), refusal.summary));
                let line = &mut self.lines[at];
                line.to_client.put(&refusal.bytes);
                line.has_broker = false;
            }
        }
        self.settle();
    }

    fn will(&mut self, client: usize, will: &sealmq_codec::Will<'_>) -> Will {
        let (mut delay_s, mut expiry_s) = (0, None);
        for property in will.properties.iter() {
            match property {
                Property::WillDelay(seconds) => delay_s = seconds,
                Property::MessageExpiry(seconds) => expiry_s = Some(seconds),
                _ => {}
            }
        }
        let message = Message {
            serial: crate::player::serial(will.payload),
            publisher: Some(client),
            topic: will.topic.into(),
            payload: will.payload.to_vec(),
            is_marked: false,
            is_acknowledged: false.into(),
        };
        Will {
            message: Rc::new(message),
            qos: will.qos as u8,
            retain: will.retain,
            delay_s,
            expiry_s,
        }
    }

    /// The engine has carried out a packet: the model does the same.
    fn take(&mut self, at: usize, packet: &Packet<'_>, is_refused: bool) {
        let client = self.lines[at].client;
        self.tell(|_| format!("{}: {}", name(client), words(packet)));
        let line = &mut self.lines[at];
        match packet {
            Packet::Publish(publish) => self.take_publish(at, publish, is_refused),
            Packet::Puback(ack) => {
                line.outstanding.remove(&ack.packet_id);
                self.model.acknowledged(client, ack.packet_id, 1);
            }
            Packet::Pubrec(ack) => self.model.released(client, ack.packet_id),
            Packet::Pubrel(ack) => {
                let known = self.model.session(client).received.remove(&ack.packet_id).is_some();
                self.lines[at].answers.pubcomps.push_back((ack.packet_id, known));
            }
            Packet::Pubcomp(ack) => {
                line.outstanding.remove(&ack.packet_id);
                self.model.completed(client, ack.packet_id);
            }
            Packet::Subscribe(subscribe) => self.take_subscribe(at, subscribe),
            Packet::Unsubscribe(unsubscribe) => {
                let ended: Vec<Option<u64>> = unsubscribe
                    .filters()
                    .map(|f| self.model.unsubscribe(client, f))
                    .collect();
                let codes = ended
                    .iter()
                    .map(|grant| if grant.is_some() { 0 } else { 0x11 })
                    .collect();
                let answer = (unsubscribe.packet_id, codes, ended.into_iter().flatten().collect());
                self.lines[at].answers.unsubacks.push_back(answer);
            }
            Packet::Pingreq => line.answers.pingresps += 1,
            Packet::Disconnect(disconnect) => {
                for property in disconnect.properties.iter() {
                    if let Property::SessionExpiry(seconds) = property {
                        self.model.session(client).expiry_s = seconds.min(self.plan.limits.max_session_expiry_s);
                    }
                }
                line.doom = Some(0);
                let fate = if disconnect.reason == 0 {
                    Fate::Delete
                } else {
                    Fate::Publish
                };
                self.model.close(client, fate);
            }
            other => panic!("{other:?} from a client"),
        }
    }

    fn take_subscribe(&mut self, at: usize, subscribe: &Subscribe<'_>) {
        let (client, is_v5) = (self.lines[at].client, self.lines[at].is_v5);
        let identifier = subscribe.properties.iter().find_map(|p| match p {
            Property::SubscriptionIdentifier(id) => Some(id),
            _ => None,
        });
        let (mut codes, mut filters) = (Vec::new(), Vec::new());
        for asked in subscribe.filters.iter() {
            let options = asked.options;
            let subscription = Subscription {
                qos: options.qos as u8,
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                identifier: identifier.unwrap_or(0),
                number: 0,
                is_acknowledged: false,
            };
            let granted = self
                .model
                .subscribe(client, asked.filter, subscription, options.retain_handling as u8);
            codes.push(match (granted.is_some(), is_v5) {
                (true, _) => options.qos as u8,
                (false, true) => 0x87,
                (false, false) => 0x80,
            });
            filters.extend(granted.map(|number| (asked.filter.to_string(), number)));
        }
        self.lines[at]
            .answers
            .subacks
            .push_back((subscribe.packet_id, codes, filters));
    }

    fn take_publish(&mut self, at: usize, publish: &Publish<'_>, is_refused: bool) {
        let line = &mut self.lines[at];
        let (client, is_v5) = (line.client, line.is_v5);
        let mut topic = publish.topic.to_string();
        let mut expires_at = None;
        for property in publish.properties.iter() {
            match property {
                Property::TopicAlias(number) if topic.is_empty() => topic.clone_from(&line.aliases_in[&number]),
                Property::TopicAlias(number) => drop(line.aliases_in.insert(number, topic.clone())),
                Property::MessageExpiry(seconds) => expires_at = Some(self.now + u64::from(seconds) * 1000),
                _ => {}
            }
        }
        let id = publish.packet_id;
        let received = &self.model.session(client).received;
        if publish.qos == QoS::ExactlyOnce && received.contains_key(&id) {
            // [MQTT-4.3.3-10]
            self.lines[at].answers.pubrecs.push_back((id, 0, None));
            return;
        }
        let message = self.published(client, publish, &topic);
        let reason = self.judge(at, &message, publish, expires_at, is_refused);
        if publish.qos == QoS::AtMostOnce {
            return;
        }
        let Some(reason) = reason else { return };
        let code = if is_v5 { reason } else { 0 };
        let answers = &mut self.lines[at].answers;
        let list = if publish.qos == QoS::AtLeastOnce {
            &mut answers.pubacks
        } else {
            &mut answers.pubrecs
        };
        // What 3.1.1 is told of a message that no rule allows is no promise.
        let promise = (reason < 0x80).then_some(message);
        list.push_back((id, code, promise));
        if publish.qos == QoS::ExactlyOnce && (reason < 0x80 || !is_v5) {
            self.model.session(client).received.entry(id).or_insert(false);
        }
    }

    /// The message as its publisher knows it; sent again, it is a message of its own.
    fn published(&self, client: usize, publish: &Publish<'_>, topic: &str) -> Rc<Message> {
        let mark = publish.properties.iter().find_map(|p| match p {
            Property::UserProperty("n", serial) => serial.parse().ok(),
            _ => None,
        });
        let is_it = |m: &&Rc<Message>| {
            m.payload == publish.payload && m.topic == topic && mark == m.is_marked.then_some(m.serial)
        };
        let found = self.players[client].sent.iter().rev().find(is_it);
        Rc::new(found.expect("a message of this client").again())
    }

    /// What the broker does with a message; the reason code to come, or `None` where the connection ends instead.
    fn judge(
        &mut self,
        at: usize,
        message: &Rc<Message>,
        publish: &Publish<'_>,
        expires_at: Option<u64>,
        is_refused: bool,
    ) -> Option<u8> {
        let (client, is_v5) = (self.lines[at].client, self.lines[at].is_v5);
        let qos = publish.qos as u8;
        if !self.law.lets_publish(client, &message.topic) {
            assert!(!is_refused);
            return Some(0x87);
        }
        if is_refused {
            assert!(
                qos > 0 && self.model.may_refuse(&message.topic),
                "turned away though there is room: {message:?}"
            );
            if !is_v5 {
                self.doom(at, 0x97);
                return None;
            }
            return Some(0x97);
        }
        if publish.retain {
            self.model.retain(message, qos, expires_at);
        }
        let (reached, is_kept) = self.model.route(&Routing {
            message: Rc::clone(message),
            qos,
            retain: publish.retain,
            expires_at,
        });
        if qos == 2 {
            let session = self.model.session(client);
            let is_kept = is_kept && session.is_kept;
            session.received.insert(publish.packet_id, is_kept);
        }
        Some(if reached == 0 { 0x10 } else { 0 })
    }

    /// Whether it is left to chance who gets a message here, and so what of it a crash leaves.
    pub fn is_shared(topic: &str) -> bool {
        crate::topics::FILTERS
            .iter()
            .any(|f| parts(f).0.is_some() && crate::topics::reaches(parts(f).1, topic))
    }
}

/// As many whole packets as there are; SUBSCRIBE, UNSUBSCRIBE and DISCONNECT alone, so that it is plain what was written
/// before them and what after.
fn together(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Ok(Framed::Whole(whole)) = frame(&bytes[end..], u32::MAX) {
        if matches!(whole.first, 0x82 | 0xA2 | 0xE0) {
            return if end == 0 { whole.size } else { end };
        }
        end += whole.size;
    }
    end
}

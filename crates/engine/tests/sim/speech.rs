//! What clients say: messages, subscriptions, and the ends of them.
//!
//! Refuses to know how it travels and what comes of it.

use crate::model::Message;
use crate::plan::Store;
use crate::player::Flight;
use crate::sim::Sim;
use crate::topics::{FILTERS, TOPICS};
use sealmq_codec::{
    FilterBuf, Packet, Properties, Property, PropertyBuf, QoS, RetainHandling, Subscribe, SubscribeOptions,
    Unsubscribe, Version, write_string,
};
use std::rc::Rc;

impl Sim {
    /// The line on which a client may say something.
    pub fn welcome(&self, client: usize) -> Option<usize> {
        self.line_of(client).filter(|_| self.players[client].is_welcome)
    }

    pub fn say(&mut self, client: usize, bytes: &[u8]) {
        if let Some(at) = self.line_of(client) {
            self.lines[at].to_broker.put(bytes);
        }
    }

    pub fn send(&mut self, client: usize, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.players[client].version, &mut bytes);
        self.say(client, &bytes);
    }

    pub fn speak(&mut self, client: usize) {
        if self.welcome(client).is_none() {
            return;
        }
        for _ in 0..1 + self.dice.below(3) {
            match self.dice.below(20) {
                0..4 => self.subscribe(client),
                4 => self.unsubscribe(client),
                5 => self.send(client, &Packet::Pingreq),
                _ => {
                    let topic = self.dice.pick(&TOPICS);
                    self.publish(client, topic);
                }
            }
        }
        if let Some(at) = self.line_of(client).filter(|_| self.dice.chance(60)) {
            self.arrive(at, usize::MAX);
        }
    }

    fn publish(&mut self, client: usize, topic: &str) {
        let dice = &mut self.dice;
        let mut qos = dice.pick(&[0, 1, 1, 2, 2]);
        if Sim::is_shared(topic) {
            // At QoS 1 a message may be sent twice, and it is open which member got which; and a crash does not tell who was
            // chosen.
            qos = if self.plan.store == Store::Crashing || qos == 0 {
                0
            } else {
                2
            };
        }
        let retain = dice.chance(25);
        let payload_size = dice.pick(&[0, 0, 10, 90]);
        let clears = retain && !Sim::is_shared(topic) && dice.chance(20);
        let is_marked = dice.chance(30) && self.players[client].is_v5();
        let expiry_s = (!clears && dice.chance(20)).then(|| dice.pick(&[1, 5, 100]));
        let by_alias = dice.chance(50);
        self.serial += 1;
        let payload = if clears {
            Vec::new()
        } else {
            format!("{}:{}", self.serial, "x".repeat(payload_size)).into()
        };
        let message = Rc::new(Message {
            serial: self.serial,
            publisher: Some(client),
            topic: topic.into(),
            payload,
            is_marked,
            is_acknowledged: false.into(),
        });
        self.utter(client, message, qos, retain, expiry_s, by_alias);
    }

    /// A message of a client's goes on its way, if its window is open.
    fn utter(
        &mut self,
        client: usize,
        message: Rc<Message>,
        qos: u8,
        retain: bool,
        expiry_s: Option<u32>,
        by_alias: bool,
    ) {
        let player = &mut self.players[client];
        let most = player.receive_maximum.min(self.plan.limits.receive_maximum);
        if qos > 0 && player.flights.len() >= usize::from(most) {
            return;
        }
        let flight = Flight {
            packet_id: if qos > 0 { player.packet_id() } else { 0 },
            message: Rc::clone(&message),
            qos,
            retain,
            expiry_s: expiry_s.filter(|_| player.is_v5()),
            is_released: false,
        };
        let bytes = player.publish(&flight, false, by_alias);
        player.sent.push(message);
        if qos > 0 {
            player.flights.push(flight);
        }
        self.say(client, &bytes);
    }

    fn subscribe(&mut self, client: usize) {
        let version = self.players[client].version;
        let is_v5 = version == Version::V5;
        let dice = &mut self.dice;
        let mut list = FilterBuf::new();
        let mut chosen: Vec<&str> = (0..1 + dice.below(3)).map(|_| dice.pick(&FILTERS)).collect();
        // A shared subscription is told from the others by its identifier.
        let is_shared = is_v5 && chosen[0].starts_with("$share/");
        chosen.truncate(if is_shared { 1 } else { 3 });
        chosen.retain(|filter| is_shared || !filter.starts_with("$share/"));
        if chosen.is_empty() {
            return;
        }
        chosen.sort_unstable();
        chosen.dedup();
        // What is forwarded as retained is told from an answer by its identifier, too, and is no answer.
        let is_as_published = is_v5 && !is_shared && dice.chance(25);
        for filter in chosen {
            let options = SubscribeOptions {
                qos: QoS::from_bits(dice.pick(&[0, 1, 1, 2, 2])).expect("a QoS"),
                no_local: is_v5 && !is_shared && dice.chance(25),
                retain_as_published: is_as_published || is_shared,
                retain_handling: match dice.below(4) {
                    0 if is_v5 && !is_as_published => RetainHandling::SendIfNew,
                    1 if is_v5 => RetainHandling::DoNotSend,
                    _ if is_as_published => RetainHandling::DoNotSend,
                    _ => RetainHandling::SendAlways,
                },
            };
            list.push(version, filter, options);
        }
        let mut properties = PropertyBuf::new();
        if is_shared || is_as_published {
            let from = if is_shared { 1000 } else { 2000 };
            properties.push(Property::SubscriptionIdentifier(from + dice.below(300) as u32));
        } else if is_v5 && dice.chance(60) {
            properties.push(Property::SubscriptionIdentifier(1 + dice.below(300) as u32));
        }
        let packet_id = self.players[client].request();
        self.send(
            client,
            &Packet::Subscribe(Subscribe {
                packet_id,
                properties: properties.as_properties(),
                filters: list.as_filters(version),
            }),
        );
    }

    fn unsubscribe(&mut self, client: usize) {
        let mut raw = Vec::new();
        write_string(self.dice.pick(&FILTERS), &mut raw);
        let packet_id = self.players[client].request();
        self.send(
            client,
            &Packet::Unsubscribe(Unsubscribe::new(packet_id, Properties::EMPTY, &raw)),
        );
    }
}

//! What happens next: clients come, speak, fall silent and go; links carry, and are cut; the disk goes on; rules change.
//!
//! Refuses to know what should come of it.

use crate::line::Line;
use crate::plan::Store;
use crate::player::{ANSWERS, Reading};
use crate::sim::{Sim, name};
use crate::topics::Law;
use sealmq_codec::{Connect, Disconnect, Framed, Packet, Property, PropertyBuf, QoS, ReasonCode, Will, frame};
use sealmq_engine::Millis;

/// How a client wants to connect.
pub struct Wish {
    pub clean: bool,
    pub expiry_s: u32,
    pub receive_maximum: u16,
    pub alias_maximum: u16,
    pub max_packet: Option<u32>,
    pub keep_alive: u16,
    pub has_will: bool,
}

impl Sim {
    /// One thing happens.
    pub fn step(&mut self) {
        let client = self.dice.below(self.players.len());
        if self.players[client].line.is_none() && self.dice.chance(70) {
            self.come(client);
            if self.dice.chance(75) {
                self.everything(client);
            }
            return;
        }
        match self.dice.below(100) {
            0..34 => self.speak(client),
            34..50 => self.carry(client),
            50..64 => self.answer(client),
            64..78 => self.everything(client),
            78..80 => self.cut(client),
            80 => self.leave(client),
            81..84 => self.stall(client),
            84..87 => {
                let ms = self.dice.pick(&[0, 1, 1, 500, 500, 3_000, 11_000, 40_000]);
                self.tell(|_| format!("{ms} ms pass"));
                self.advance(ms);
            }
            87 => self.rule(client),
            88..98 => self.disk(),
            98 if self.plan.store == Store::Crashing => {
                let is_graceful = self.dice.chance(30);
                self.restart(is_graceful);
            }
            _ => self.zombies(),
        }
    }

    pub fn come(&mut self, client: usize) {
        let is_timed = self.dice.chance(50)
            || self
                .lines
                .iter()
                .any(|l| l.keep_alive > 0 && l.doom.is_none() && l.has_broker);
        let dice = &mut self.dice;
        let wish = Wish {
            clean: dice.chance(15),
            expiry_s: dice.pick(&[0, 20, 300, 300, 300]),
            receive_maximum: dice.pick(&[1, 2, 5, 100]),
            alias_maximum: dice.pick(&[0, 1, 3]),
            max_packet: dice.chance(10).then_some(60),
            // Of two that fall silent at one moment it would be open who hears of the other.
            keep_alive: if is_timed { 0 } else { 20 },
            has_will: dice.chance(40),
        };
        self.connect_as(client, wish);
    }

    /// A CONNECT is on its way, on a new line; an old one is the network's.
    pub fn connect_as(&mut self, client: usize, wish: Wish) {
        self.numbers += 1;
        let number = self.numbers;
        let clean = wish.clean || self.players[client].must_begin;
        for line in self
            .lines
            .iter_mut()
            .filter(|l| l.client == client && l.session_present.is_none())
        {
            // A CONNECT that is still on its way does not come after this one.
            (line.has_client, line.has_broker) = (false, false);
        }
        let player = &mut self.players[client];
        player.begin(clean);
        (player.line, player.expiry_s) = (Some(number), wish.expiry_s);
        let is_v5 = player.is_v5();
        let mut properties = PropertyBuf::new();
        if is_v5 {
            if wish.expiry_s > 0 {
                properties.push(Property::SessionExpiry(wish.expiry_s));
            }
            properties.push(Property::ReceiveMaximum(wish.receive_maximum));
            properties.push(Property::TopicAliasMaximum(wish.alias_maximum));
            if let Some(most) = wish.max_packet {
                properties.push(Property::MaximumPacketSize(most));
                self.players[client].was_narrow = true;
            }
        }
        self.serial += 1;
        let (topic, payload) = (self.will_topic(client), format!("{}:will", self.serial));
        let will_properties = self.will_properties(is_v5);
        let will = wish.has_will.then(|| Will {
            qos: QoS::from_bits(self.dice.below(3) as u8).expect("a QoS"),
            retain: self.dice.chance(30),
            properties: will_properties.as_properties(),
            topic: &topic,
            payload: payload.as_bytes(),
        });
        let connect = Connect {
            version: self.players[client].version,
            clean_start: clean,
            keep_alive: wish.keep_alive,
            properties: properties.as_properties(),
            client_id: &name(client),
            will,
            username: None,
            password: None,
        };
        let mut bytes = Vec::new();
        Packet::Connect(connect).encode(connect.version, &mut bytes);
        let mut line = Line::new(number, client, is_v5);
        line.to_broker.put(&bytes);
        line.keep_alive = connect.keep_alive;
        self.lines.push(line);
    }

    fn will_topic(&mut self, client: usize) -> String {
        if self.dice.chance(15) {
            return "d/w".into();
        }
        format!("will/{}", name(client))
    }

    fn will_properties(&mut self, is_v5: bool) -> PropertyBuf {
        let mut properties = PropertyBuf::new();
        if is_v5 {
            let delay_s = self.dice.pick(&[0, 0, 5, 50]);
            if delay_s > 0 {
                properties.push(Property::WillDelay(delay_s));
            }
            if self.dice.chance(20) {
                properties.push(Property::MessageExpiry(10));
            }
        }
        properties
    }

    /// Bytes arrive at one end or the other.
    fn carry(&mut self, client: usize) {
        let Some(at) = self.line_of(client) else { return };
        let count = self.dice.pick(&[1, 3, 20, 100, 100_000, 100_000]);
        if self.dice.chance(50) {
            self.arrive(at, count);
        } else {
            self.hear(at, count);
        }
    }

    /// So many bytes of what the broker sent arrive, and are read.
    pub fn hear(&mut self, at: usize, count: usize) {
        let bytes = self.lines[at].to_client.take(count);
        self.lines[at].inbox.extend(bytes);
        let client = self.lines[at].client;
        loop {
            let line = &mut self.lines[at];
            let Ok(Framed::Whole(whole)) = frame(&line.inbox, u32::MAX) else {
                break;
            };
            let size = whole.size;
            let bytes: Vec<u8> = line.inbox.drain(..size).collect();
            let Ok(Framed::Whole(whole)) = frame(&bytes, u32::MAX) else {
                break;
            };
            let packet = Packet::decode(self.players[client].version, whole).expect("output that decodes");
            match self.players[client].read(&packet) {
                Reading::Nothing => {}
                Reading::Resume => {
                    for bytes in self.players[client].resume() {
                        self.say(client, &bytes);
                    }
                }
                Reading::Counted(serial, count) => {
                    let most = self.model.granted.get(&(client, serial)).copied().unwrap_or(0);
                    // [MQTT-4.3.3-10]
                    assert!(
                        serial == 0 || count <= most,
                        "QoS 2 message {serial} reached {} {count} times",
                        name(client)
                    );
                }
            }
        }
        let line = &self.lines[at];
        if !line.has_broker && line.to_client.len() == 0 {
            self.hang_up(at);
        }
    }

    /// The client's side of a line is over.
    fn hang_up(&mut self, at: usize) {
        let line = &mut self.lines[at];
        line.has_client = false;
        self.learn(at);
        let line = &self.lines[at];
        let player = &mut self.players[line.client];
        if player.line == Some(line.number) {
            (player.line, player.is_welcome) = (None, false);
        }
    }

    /// A CONNACK that tells of a new session may be lost, and MQTT has no other word for it: the client would go on with an
    /// old session that is no more. Here it is told.
    pub fn learn(&mut self, at: usize) {
        let line = &self.lines[at];
        let player = &mut self.players[line.client];
        if line.session_present == Some(false) && !(player.is_welcome && player.line == Some(line.number)) {
            player.forget();
        }
    }

    /// A client sends some of the acknowledgements it owes: in order within each kind, at will across them.
    fn answer(&mut self, client: usize) {
        for _ in 0..1 + self.dice.below(6) {
            let kind = self.dice.pick(&ANSWERS);
            self.answer_one(client, kind);
        }
    }

    pub fn answer_one(&mut self, client: usize, kind: crate::player::Answer) -> bool {
        if self.welcome(client).is_none() {
            return false;
        }
        let player = &mut self.players[client];
        let Some(packet_id) = player.answers[kind as usize].pop_front() else {
            return false;
        };
        let bytes = player.answer_bytes(kind, packet_id);
        self.say(client, &bytes);
        true
    }

    /// The network ends, at whatever byte it was; the broker may learn of it later.
    fn cut(&mut self, client: usize) {
        let Some(at) = self.line_of(client) else { return };
        self.tell(|_| format!("{}: the link is cut", name(client)));
        let count = self.dice.below(1 + self.lines[at].to_broker.len());
        let rest = self.lines[at].to_broker.take(usize::MAX);
        self.lines[at].to_broker.put(&rest[..count]);
        self.hang_up(at);
        if self.dice.chance(60) {
            self.arrive(at, usize::MAX);
            self.notice(at);
        }
    }

    /// What nobody is at the other end of ends sooner or later.
    fn zombies(&mut self) {
        let Some(at) = self.lines.iter().position(|l| !l.has_client && l.has_broker) else {
            return;
        };
        if self.dice.chance(50) {
            self.arrive(at, 40);
        } else {
            self.notice(at);
        }
    }

    /// A client says DISCONNECT.
    fn leave(&mut self, client: usize) {
        let Some(at) = self.welcome(client) else { return };
        let is_v5 = self.players[client].is_v5();
        let mut properties = PropertyBuf::new();
        if is_v5 && self.players[client].expiry_s > 0 && self.dice.chance(30) {
            properties.push(Property::SessionExpiry(self.dice.pick(&[0, 10, 400])));
        }
        let reason = if is_v5 && self.dice.chance(30) { 4 } else { 0 };
        self.send(
            client,
            &Packet::Disconnect(Disconnect {
                reason,
                properties: properties.as_properties(),
            }),
        );
        self.hang_up(at);
        if self.dice.chance(70) {
            self.arrive(at, usize::MAX);
        }
    }

    /// A client's network takes nothing for a while; then it does again.
    fn stall(&mut self, client: usize) {
        let Some(at) = self.line_of(client) else { return };
        if self.lines[at].is_stalled && self.dice.chance(40) {
            let count = self.dice.below(100);
            self.drain(at, count);
        } else if self.lines[at].is_stalled {
            self.unstall(at);
        } else {
            self.tell(|_| format!("{}: takes nothing", name(client)));
            self.lines[at].is_stalled = true;
        }
        self.settle();
    }

    pub fn unstall(&mut self, at: usize) {
        self.tell(|sim| format!("{}: takes bytes again", name(sim.lines[at].client)));
        self.lines[at].is_stalled = false;
        self.drain(at, usize::MAX);
        self.settle();
    }

    /// An operator changes the rules, or sends a device away.
    fn rule(&mut self, client: usize) {
        if self.dice.chance(30) {
            self.tell(|_| format!("{} is revoked", name(client)));
            self.engine.disconnect_device(
                Millis(self.now),
                &name(client),
                ReasonCode::AdministrativeAction,
                "revoked",
            );
            let number = self.model.sessions.get(&client).and_then(|s| s.line);
            if let Some(at) = number.and_then(|number| self.line_at(number)) {
                self.doom(at, ReasonCode::AdministrativeAction as u8);
            }
            self.settle();
            self.engine.purge_device(Millis(self.now), &name(client));
            self.model.purge(client);
            self.settle();
            // The client may have its answer before the end of its old session is safe.
            if let Some(log) = &self.log {
                log.sync();
                self.log_advanced();
            }
        } else {
            self.law = self
                .dice
                .pick(&[Law::Open, Law::Open, Law::Closed, Law::ClosedTo(client)]);
            self.tell(|sim| format!("rules: {:?}", sim.law));
            self.engine.set_rules(self.law.rules());
            self.model.set_law(self.law);
        }
        self.settle();
    }

    /// The disk goes on: part of what was appended is safe, a batch is under way, pages are read.
    fn disk(&mut self) {
        let Some(log) = self.log.clone().filter(|_| self.plan.store != Store::Quick) else {
            return;
        };
        match self.dice.below(4) {
            0 => log.cut(),
            1 => drop(log.read_pages()),
            _ => {
                let last = self.marks.len() - 1;
                let at = if self.dice.chance(50) {
                    last
                } else {
                    self.dice.below(last + 1)
                };
                log.sync_to(self.marks[at].0.max(log.safe()));
            }
        }
        self.tell(|_| format!("the log is safe up to {} of {}", log.safe(), log.appended()));
        self.log_advanced();
    }

    /// All that is on the way of one client arrives, and is answered.
    fn everything(&mut self, client: usize) {
        let Some(at) = self.line_of(client) else { return };
        self.arrive(at, usize::MAX);
        self.hear(at, usize::MAX);
        for kind in ANSWERS {
            while self.answer_one(client, kind) {}
        }
    }
}

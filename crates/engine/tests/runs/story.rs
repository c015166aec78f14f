//! A story of a few clients, told to both brokers: what the second carries out in one turn, the first hears packet by packet.
//!
//! Refuses to know what is said; only when it arrives, and what happens in between.

use crate::client::Client;
use crate::dice::Dice;
use crate::harness::HandLog;
use crate::speech::TOPICS;
use crate::twin::{Twin, rules};
use sealmq_codec::{Framed, ReasonCode, frame};
use sealmq_engine::{ConnId, Durability, Limits, Millis, Mode, Retain};
use sealmq_store::Health;

const STEPS: usize = 80;
const TURNS: [usize; 5] = [1, 3, 10, 50, 4000];

pub struct Story {
    dice: Dice,
    /// Packet by packet; in turns.
    twins: [Twin; 2],
    clients: Vec<Client>,
    limits: Limits,
    durability: Durability,
    now: Millis,
    /// There is little memory, and one receiver of messages that nobody acknowledges: with more, who gets the last of it is a
    /// matter of their order.
    is_tight: bool,
}

fn limits(dice: &mut Dice) -> Limits {
    Limits {
        max_packet_size: dice.pick(&[200, 1 << 20]),
        receive_maximum: dice.pick(&[4, 20, 1024]),
        max_inflight: dice.pick(&[1, 7, 30, 1024]),
        max_queued_messages: dice.pick(&[5, 10_000]),
        max_queued_bytes: dice.pick(&[2_000, 64 << 20, 64 << 20]),
        reject_when_full: dice.chance(50),
        max_inflight_bytes: dice.pick(&[3_000, 16 << 20]),
        max_outbox_bytes: dice.pick(&[60, 600, 1 << 20, 1 << 20]),
        max_topic_levels: dice.pick(&[1, 32, 32, 32]),
        topic_alias_maximum: 4,
        sys_interval_s: 0,
        ..Limits::default()
    }
}

/// The first packet of `bytes`, if it is whole.
fn first(bytes: &[u8]) -> Option<&[u8]> {
    match frame(bytes, u32::MAX) {
        Ok(Framed::Whole(whole)) => bytes.get(..whole.size),
        _ => None,
    }
}

fn durability(dice: &mut Dice) -> Durability {
    let modes = [Mode::Sync, Mode::Os, Mode::Memory];
    let topics = vec![("b".into(), dice.pick(&modes))];
    Durability::new(dice.pick(&modes[..2]), topics).expect("a filter")
}

impl Story {
    pub fn new(seed: u64) -> Story {
        let mut dice = Dice::new(seed);
        let (mut limits, durability) = (limits(&mut dice), durability(&mut dice));
        let (is_kept, is_late) = (dice.chance(40), dice.chance(1));
        if is_late {
            // Little waits, so that what comes is in flight at once.
            limits.max_inflight = 1024;
            limits.max_queued_messages = 5;
        }
        let twin = || Twin::new(&limits, &durability, is_kept.then(HandLog::default));
        let mut story = Story {
            twins: [twin(), twin()],
            clients: Vec::new(),
            limits,
            durability,
            now: Millis(1_000_000),
            is_tight: dice.chance(15),
            dice,
        };
        for number in 0..2 + story.dice.below(3) {
            let mut client = Client::new(number, &mut story.dice);
            client.is_sensor = story.is_tight && number > 0;
            story.clients.push(client);
            story.connect(number);
            for _ in 0..if is_late { 6 } else { story.dice.below(3) } {
                story.clients[number].subscribe(&mut story.dice);
            }
            story.arrive(number);
        }
        story.limits.max_memory_bytes = story.memory();
        for Twin { engine, .. } in &mut story.twins {
            engine.set_limits(story.limits.clone());
        }
        if is_late {
            story.use_up_identifiers();
        }
        story
    }

    /// Bytes that may be held: what there is and a little, or more than enough.
    fn memory(&mut self) -> u64 {
        if !self.is_tight {
            return Limits::default().max_memory_bytes;
        }
        let used = self.twins[0].engine.gauges().memory_bytes;
        used + self.dice.pick(&[2_000, 10_000, 40_000, 100_000])
    }

    /// Messages of the broker's own, until one of those to come has the last packet identifier, or the first one once more.
    fn use_up_identifiers(&mut self) {
        // Its first delivery is over, or never will be.
        let lasting = self.dice.chance(50).then_some(1);
        let mut left = 65_535 - self.dice.below(30);
        while left > 0 {
            let batch = left.min(500);
            left -= batch;
            for Twin { engine, .. } in &mut self.twins {
                (0..batch).for_each(|_| engine.publish_own(self.now, "a/b", b"own", Retain::Pass));
            }
            for number in (0..self.clients.len()).cycle().take(3 * self.clients.len()) {
                self.read(number);
                self.clients[number].answer_all_but(lasting);
                self.arrive(number);
            }
            self.sync();
        }
    }

    pub fn tell(mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        for number in 0..self.clients.len() {
            (0..100).for_each(|_| self.arrive(number));
        }
    }

    fn step(&mut self) {
        let number = self.dice.below(self.clients.len());
        let Some(id) = self.clients[number].id else {
            return self.connect(number);
        };
        if self.twins[0].engine.is_closing(id) {
            self.read(number);
            return self.leave(number, id);
        }
        match self.dice.below(22) {
            0..=10 => {
                let client = &mut self.clients[number];
                let before = client.said.len();
                if before == 0 || self.dice.chance(30) {
                    client.speak(&mut self.dice);
                    if !self.is_tight && self.dice.chance(3) {
                        client.garble(before, &mut self.dice);
                    }
                }
                self.arrive(number);
            }
            11..=16 => self.read(number),
            17 => self.sync(),
            18 => {
                self.now = self.now + self.dice.pick(&[0, 500, 1000, 3000]);
                self.twins.iter_mut().for_each(|twin| twin.engine.handle_tick(self.now));
            }
            19 if self.dice.chance(30) => self.part(number, id),
            20 if self.dice.chance(50) => self.administer(number, id),
            21 if self.dice.chance(5) => self.restart(),
            _ => {}
        }
        self.compare();
    }

    // the network

    fn connect(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let clean_start = self.dice.chance(10);
        let ids = self.twins.each_mut().map(|twin| {
            client.connect(clean_start, |connect, peer| {
                let outcome = twin.engine.handle_connect(self.now, connect, peer);
                outcome.map_err(|refusal| refusal.summary)
            })
        });
        assert_eq!(ids[0], ids[1]);
        // Whoever is refused keeps the connection that it has.
        if let [Ok(id), _] = ids {
            client.begin(Some(id));
        }
        self.compare();
    }

    /// Some bytes of what a client said arrive, and have a turn.
    fn arrive(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let Some(id) = client.id else {
            return client.hang_up();
        };
        let late = client.said.len() - client.arrived;
        let (more, turn) = match self.is_tight {
            // What waits for another turn, or for the rest of its packet, takes memory meanwhile; and what is sent for many
            // acknowledgements at once is counted at once.
            true if number == 0 => (first(&client.said).map_or(0, <[u8]>::len), usize::MAX),
            true => (late, usize::MAX),
            false if self.dice.chance(25) => (self.dice.below(late + 1), self.dice.pick(&TURNS)),
            false => (late, self.dice.pick(&TURNS)),
        };
        client.arrived += more;
        let there = &client.said[..client.arrived];
        let [single, whole] = &mut self.twins;
        whole.engine.set_turn(turn);
        let until = whole.engine.work().saturating_add(turn);
        let intake = whole.engine.handle_bytes(self.now, id, there);
        let (is_over, mut consumed) = (whole.engine.is_closing(id), 0);
        while let Some(packet) = first(&there[consumed..intake.consumed]) {
            assert!(
                is_over || single.engine.work() < until,
                "no packet is begun after the turn"
            );
            single.engine.handle_bytes(self.now, id, packet);
            consumed += packet.len();
        }
        let begun = &there[consumed..];
        client.arrived = begun.len();
        client.waiting = begun.len();
        if !intake.is_cut_short {
            // Both wait for the rest of the same packet.
            single.engine.handle_bytes(self.now, id, begun);
            client.waiting = 0;
        }
        assert!(
            is_over || consumed == intake.consumed,
            "packets are consumed as a whole"
        );
        client.said.drain(..consumed);
        if is_over {
            client.hang_up();
        }
        self.compare();
    }

    /// A client reads everything, or some of it.
    fn read(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let Some(id) = client.id else { return };
        let [single, whole] = &mut self.twins;
        let (Some(out), Some(_)) = (single.engine.output(id), whole.engine.output(id)) else {
            return;
        };
        let count = if self.dice.chance(20) {
            self.dice.below(out.len() + 1)
        } else {
            out.len()
        };
        client.hear(&out[..count]);
        // Mostly in runs.
        if self.dice.chance(80) {
            client.sort_answers();
        }
        for twin in &mut self.twins {
            if let Some(out) = twin.engine.output(id) {
                out.drain(..count);
            }
            twin.engine.handle_taken(self.now, id);
            if count == 0 {
                twin.engine.rest(id);
            }
        }
        self.compare();
    }

    /// A client goes, or comes once more.
    fn part(&mut self, number: usize, id: ConnId) {
        if self.dice.chance(50) {
            for Twin { engine, .. } in &mut self.twins {
                engine.handle_closed(self.now, id, "gone");
            }
            return self.leave(number, id);
        }
        self.connect(number);
        if self.clients[number].id != Some(id) {
            self.twins.iter_mut().for_each(|twin| twin.engine.release(id));
        }
    }

    fn leave(&mut self, number: usize, id: ConnId) {
        self.twins.iter_mut().for_each(|twin| twin.engine.release(id));
        self.clients[number].begin(None);
    }

    // the broker's side

    /// The store gets somewhere, or nowhere.
    fn sync(&mut self) {
        let (is_all, part) = (self.dice.chance(70), self.dice.bits());
        let health = match self.dice.below(12) {
            0 => Health::Full,
            1 => Health::Failed("broken".into()),
            _ => Health::Good,
        };
        for twin in &mut self.twins {
            if let Some(log) = &twin.log {
                let open = log.appended() - log.safe();
                log.sync_to(log.safe() + if is_all { open } else { part % (open + 1) });
                log.read_pages();
                log.set_health(health.clone());
            }
            twin.engine.handle_log_advanced(self.now);
        }
    }

    fn administer(&mut self, number: usize, id: ConnId) {
        let topic = self.dice.pick(&TOPICS[..3]);
        let act = self.dice.below(80);
        let (mut limits, retain) = (limits(&mut self.dice), self.dice.pick(&[Retain::Keep, Retain::Pass]));
        limits.max_memory_bytes = self.memory();
        let name = self.clients[number].name.as_str();
        for Twin { engine, .. } in &mut self.twins {
            match act {
                0..=29 => engine.publish_own(self.now, topic, b"own", retain),
                30..=39 => engine.set_rules(rules(topic)),
                40..=49 => engine.set_rules(rules("forbidden")),
                50..=59 => engine.set_limits(limits.clone()),
                60..=69 => drop(engine.disconnect_device(self.now, name, ReasonCode::AdministrativeAction, "go")),
                70 => engine.shut_down(self.now),
                // More topics than are remembered.
                71 => (0..20_000).for_each(|n| engine.publish_own(self.now, &format!("n/{n}"), b"", Retain::Pass)),
                _ if engine.is_closing(id) => {}
                _ => {
                    engine.disconnect_device(self.now, name, ReasonCode::NotAuthorized, "revoked");
                    engine.purge_device(self.now, name);
                }
            }
        }
        if (50..=59).contains(&act) {
            self.limits = limits;
        }
    }

    /// The power goes: two other brokers start on what is on disk.
    fn restart(&mut self) {
        let disks = self.twins.each_ref().map(|twin| twin.log.as_ref().map(HandLog::disk));
        assert_eq!(format!("{:?}", disks[0]), format!("{:?}", disks[1]));
        let [Some(single), Some(whole)] = disks else { return };
        let revive = |disk| Twin::revived(&self.limits, &self.durability, self.now, disk);
        self.twins = [revive(single), revive(whole)];
        self.clients.iter_mut().for_each(|client| client.begin(None));
        (0..self.clients.len()).for_each(|number| self.connect(number));
    }

    fn compare(&mut self) {
        let ids: Vec<ConnId> = self.clients.iter().filter_map(|client| client.id).collect();
        let [single, whole] = &mut self.twins;
        let open = self
            .clients
            .iter()
            .filter(|c| c.id.is_some_and(|id| !whole.engine.is_closing(id)));
        let waiting = open.map(|client| client.waiting).sum();
        let (single, whole) = (single.view(&ids, 0), whole.view(&ids, waiting));
        assert_eq!(single.books, whole.books);
        assert_eq!(single, whole);
    }
}

//! The end of a history: everybody comes back and reads everything, then everybody leaves for good.
//!
//! Refuses to know how the history went.

use crate::acts::Wish;
use crate::model::{Delivery, Message};
use crate::plan::LONGEST_EXPIRY_S;
use crate::player::ANSWERS;
use crate::sim::{Sim, name};
use crate::topics::Law;
use sealmq_engine::Millis;
use std::rc::Rc;

impl Sim {
    /// Nothing that was promised is missing, and nothing is left behind.
    pub fn finish(&mut self) {
        self.tell(|_| "--- everybody comes back and reads all".into());
        self.law = Law::Open;
        self.engine.set_rules(self.law.rules());
        self.model.set_law(self.law);
        // A 3.1.1 client whose own queue is full is put out whenever it repeats what it published: give it room.
        self.plan.limits.max_queued_messages = 10_000;
        self.model.most_queued = 10_000;
        self.engine.set_limits(self.plan.limits.clone());
        self.settle();
        self.drain_all(false);
        self.model.settle();
        for (client, player) in self.players.iter().enumerate() {
            assert!(
                player.flights.is_empty(),
                "{}: {} messages never answered",
                name(client),
                player.flights.len()
            );
            let open: Vec<_> = player.received.iter().collect();
            assert!(
                open.is_empty() || player.was_narrow,
                "{}: never released: {open:?}",
                name(client)
            );
        }
        for line in &self.lines {
            assert!(
                !line.has_broker || line.answers.is_empty(),
                "{} was not answered",
                name(line.client)
            );
        }
        self.check_dropped();
        self.tell(|_| "--- everybody leaves for good".into());
        self.drain_all(true);
        self.advance(u64::from(LONGEST_EXPIRY_S) * 1000 + 60_000);
        self.clear_retained();
        let gauges = self.engine.gauges();
        let left = [
            gauges.connections,
            gauges.sessions,
            gauges.subscriptions,
            gauges.queued_messages,
            gauges.inflight_messages,
            gauges.retained_messages,
            gauges.retained_bytes,
            gauges.memory_bytes,
        ];
        assert_eq!(left, [0; 8], "something is left: {gauges:?}");
        if let Some(log) = &self.log {
            log.sync();
            assert!(log.disk().is_empty(), "something is left on disk: {:?}", log.disk());
        }
    }

    /// Everybody is here, and everything flows until nothing moves.
    fn drain_all(&mut self, for_good: bool) {
        for round in 0.. {
            assert!(round < 2000, "it never ends");
            let mut moves = 0;
            for at in 0..self.lines.len() {
                if self.lines[at].is_stalled {
                    self.unstall(at);
                }
                if !self.lines[at].has_client && self.lines[at].has_broker {
                    self.arrive(at, usize::MAX);
                    self.notice(at);
                    moves += 1;
                }
            }
            for client in 0..self.players.len() {
                if self.players[client].line.is_none() || (for_good && round == 0) {
                    self.connect_as(
                        client,
                        Wish {
                            clean: for_good,
                            expiry_s: if for_good { 0 } else { 300 },
                            receive_maximum: 50,
                            alias_maximum: 0,
                            max_packet: None,
                            keep_alive: 0,
                            has_will: false,
                        },
                    );
                    moves += 1;
                }
                let Some(at) = self.line_of(client) else { continue };
                moves += self.lines[at].to_broker.len() + self.lines[at].to_client.len();
                self.arrive(at, usize::MAX);
                self.hear(at, usize::MAX);
                for kind in ANSWERS {
                    while self.answer_one(client, kind) {
                        moves += 1;
                    }
                }
                moves += usize::from(self.players[client].line.is_none());
            }
            while let Some(log) = self.log.clone().filter(|log| log.has_news()) {
                log.sync();
                log.read_pages();
                self.log_advanced();
                moves += 1;
            }
            if self.engine.poll_deadline().is_some_and(|at| at.0 <= self.now) {
                self.tick();
                moves += 1;
            }
            if moves == 0 {
                break;
            }
        }
        if for_good {
            for at in 0..self.lines.len() {
                self.notice(at);
            }
        }
    }

    /// What did not come although a queue had been full was dropped, and the engine says so.
    fn check_dropped(&self) {
        let is_missed = |d: &&Delivery| {
            let is_late = d.expires_at.is_some_and(|at| at <= self.now);
            d.excuse == Some("the queue was full") && d.group.is_none() && !is_late
        };
        let sessions = self.model.sessions.values();
        let missed = sessions.flat_map(|s| &s.deliveries).filter(is_missed).count();
        let dropped = self.dropped + self.engine.counters().messages_dropped;
        assert!(missed == 0 || dropped > 0, "{missed} messages missed, none dropped");
    }

    fn clear_retained(&mut self) {
        let topics: Vec<String> = self.model.retained.keys().cloned().collect();
        for topic in topics {
            self.engine
                .publish_own(Millis(self.now), &topic, b"", sealmq_engine::Retain::Keep);
            self.model.forget_retained(&topic);
            let message = Message {
                serial: 0,
                publisher: None,
                topic,
                payload: Vec::new(),
                is_marked: false,
                is_acknowledged: false.into(),
            };
            self.model.route(&crate::model::Routing {
                message: Rc::new(message),
                qos: 1,
                retain: true,
                expires_at: None,
            });
            self.settle();
        }
    }
}

//! One history: the real engine, the model beside it, the clock, the links between the clients and the broker.
//!
//! Refuses to know what happens next; `acts` decides that, `taken` tells the model, `observe` compares.

use crate::dice::Dice;
use crate::harness::{HandLog, rule};
use crate::line::Line;
use crate::model::{Fate, Model};
use crate::plan::Plan;
use crate::player::Player;
use crate::story::Story;
use crate::topics::Law;
use sealmq_codec::Version;
use sealmq_engine::rules::{Effect, Rules};
use sealmq_engine::{Config, ConnId, Durability, Engine, Millis};
use sealmq_store::{Log, MemoryLog};

pub struct Sim {
    pub dice: Dice,
    pub plan: Plan,
    pub now: u64,
    pub engine: Engine,
    pub log: Option<HandLog>,
    pub lines: Vec<Line>,
    pub players: Vec<Player>,
    pub model: Model,
    /// Places in the log, and the model as of each; the first is safe.
    pub marks: Vec<(u64, Model)>,
    pub story: Story,
    pub law: Law,
    pub serial: u32,
    pub numbers: u64,
    /// Messages that the engine says it dropped, of brokers that are no more.
    pub dropped: u64,
}

impl Law {
    pub fn rules(self) -> Rules {
        let deny = |who: &str| {
            let mut rule = rule("closed", Effect::Deny, "d/#");
            rule.who = who.into();
            rule
        };
        let (all, own) = (rule("all", Effect::Allow, "#"), rule("own", Effect::Allow, "$t/#"));
        let list = match self {
            Law::Open => vec![all, own],
            Law::Closed => vec![deny("*"), all, own],
            Law::ClosedTo(client) => vec![deny(&name(client)), all, own],
        };
        Rules::new(list).expect("rules that hold")
    }
}

pub fn name(client: usize) -> String {
    format!("c{client}")
}

impl Sim {
    pub fn new(seed: u64, story: Story) -> Sim {
        let mut dice = Dice::new(seed);
        let plan = Plan::new(&mut dice);
        let log = plan.keeps().then(HandLog::default);
        let law = Law::Open;
        let boxed: Box<dyn Log> = match &log {
            Some(log) => Box::new(log.clone()),
            None => Box::new(MemoryLog),
        };
        let players = (0..plan.players).map(|n| {
            let version = if dice.chance(30) { Version::V311 } else { Version::V5 };
            Player::new(name(n), version)
        });
        let players = players.collect();
        let model = Model {
            now: 1_000_000,
            keeps: plan.keeps(),
            most_queued: plan.limits.max_queued_messages as usize,
            may_miss: !plan.limits.reject_when_full,
            ..Model::default()
        };
        let mut sim = Sim {
            engine: Engine::new(config(&plan, law), boxed),
            dice,
            plan,
            now: 1_000_000,
            log,
            lines: Vec::new(),
            players,
            marks: vec![(0, model.clone())],
            model,
            story,
            law,
            serial: 0,
            numbers: 0,
            dropped: 0,
        };
        sim.tell(|sim| format!("{:?}", sim.plan));
        sim.tick();
        sim
    }

    pub fn tell(&mut self, what: impl FnOnce(&Sim) -> String) {
        if self.story.is_told() {
            let line = what(self);
            self.story.tell(self.now, &line);
        }
    }

    pub fn line_at(&self, number: u64) -> Option<usize> {
        self.lines.iter().position(|line| line.number == number)
    }

    pub fn line_of(&self, client: usize) -> Option<usize> {
        self.players[client].line.and_then(|number| self.line_at(number))
    }

    pub fn line_by_id(&self, id: ConnId) -> Option<usize> {
        self.lines.iter().position(|line| line.id == Some(id))
    }

    /// Time stands here: what is due is done, by the engine and by the model.
    pub fn tick(&mut self) {
        self.engine.handle_tick(Millis(self.now));
        self.model.now = self.now;
        let silence = |at: &usize| self.lines[*at].silent_at().filter(|due| *due <= self.now);
        let mut silent: Vec<usize> = (0..self.lines.len()).filter(|at| silence(at).is_some()).collect();
        // Of two at one moment, the one with the lower index goes first and may tell the other.
        silent.sort_by_key(|at| (silence(at), self.lines[*at].id.map(|id| (id.index, id.generation))));
        for at in silent {
            // [MQTT-3.1.2-22]
            self.doom(at, 0x8D);
        }
        self.model.tick(self.now);
        self.settle();
    }

    /// Let time pass, stopping wherever the engine or the model has something to do.
    pub fn advance(&mut self, ms: u64) {
        let until = self.now + ms;
        loop {
            let deadlines = [
                self.engine.poll_deadline().map(|at| at.0),
                self.model.deadline(),
                self.silence(),
            ];
            let next = deadlines
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(until)
                .clamp(self.now, until);
            self.now = next;
            self.tick();
            if next == until {
                return;
            }
        }
    }

    /// When the next connection has been silent for too long.
    fn silence(&self) -> Option<u64> {
        self.lines.iter().filter_map(Line::silent_at).min()
    }

    /// The broker will close this connection, or has done so: by the model it is over.
    pub fn doom(&mut self, at: usize, reason: u8) {
        let line = &mut self.lines[at];
        line.doom = Some(reason);
        let (client, number) = (line.client, line.number);
        if self.model.sessions.get(&client).is_some_and(|s| s.line == Some(number)) {
            self.model.close(client, Fate::Publish);
        }
    }

    /// The log says what is safe, the engine goes on.
    pub fn log_advanced(&mut self) {
        self.engine.handle_log_advanced(Millis(self.now));
        self.settle();
    }

    /// A place to which the log may be safe, and what then has to be there.
    pub fn mark(&mut self) {
        let Some(log) = &self.log else { return };
        let (appended, safe) = (log.appended(), log.safe());
        if self.marks.last().is_some_and(|(at, _)| *at == appended) {
            self.marks.pop();
        }
        self.marks.push((appended, self.model.clone()));
        let first = self.marks.iter().rposition(|(at, _)| *at <= safe).unwrap_or(0);
        self.marks.drain(..first);
    }

    /// The broker dies, by accident or by intent, and another one starts on what is on disk.
    pub fn restart(&mut self, is_graceful: bool) {
        let Some(log) = self.log.clone() else { return };
        if is_graceful {
            self.engine.shut_down(Millis(self.now));
            for at in 0..self.lines.len() {
                let line = &mut self.lines[at];
                if line.id.is_some() && line.doom.is_none() {
                    line.doom = Some(0x8B);
                    let client = line.client;
                    self.model.close(client, Fate::Defer);
                }
            }
            self.settle();
            log.sync();
            self.mark();
        }
        let safe = log.safe();
        self.tell(|_| {
            format!(
                "the broker ends ({}); {safe} changes are safe",
                if is_graceful { "stopped" } else { "crash" }
            )
        });
        self.dropped += self.engine.counters().messages_dropped;
        self.now += self.dice.pick(&[0, 1, 900, 20_000]);
        let disk = log.disk();
        let fresh = HandLog::on(disk.clone());
        let now = Millis(self.now);
        let mut engine = Engine::new(config(&self.plan, self.law), Box::new(MemoryLog));
        let mut restorer = engine.restore();
        disk.load(&mut |stored| restorer.take(now, &stored));
        restorer.finish(now, disk.next_session(), Box::new(fresh.clone()));
        self.engine = engine;
        self.log = Some(fresh);
        let at = self
            .marks
            .iter()
            .rposition(|(at, _)| *at <= safe)
            .expect("a mark that is safe");
        assert_eq!(self.marks[at].0, safe, "safe up to a mark");
        let kept = self.marks.swap_remove(at).1;
        // What the new broker finds is what it finds again should it end before anything more is safe.
        self.marks = vec![(0, kept.clone())];
        self.model.crash(kept, self.now);
        for line in &mut self.lines {
            (line.has_broker, line.id) = (false, None);
        }
        self.tick();
    }
}

fn config(plan: &Plan, law: Law) -> Config {
    Config {
        limits: plan.limits.clone(),
        rules: law.rules(),
        durability: Durability::default(),
        seed: 7,
        version: "sim".into(),
    }
}

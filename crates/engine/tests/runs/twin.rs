//! One of the two brokers, and all that anybody can see of it.
//!
//! Refuses to know who says what to it.

use crate::harness::{Disk, HandLog, rule};
use sealmq_engine::rules::{Effect, Rules};
use sealmq_engine::{Config, ConnId, Durability, Engine, Gauges, Limits, Millis};
use sealmq_store::{Log, MemoryLog};
use std::collections::BTreeSet;

pub struct Twin {
    pub engine: Engine,
    pub log: Option<HandLog>,
    events: Vec<String>,
    /// Connections that were to be looked at since the last view.
    dirty: BTreeSet<(u32, u32)>,
}

/// What both brokers must have in common.
#[derive(Debug, PartialEq)]
pub struct View {
    outputs: Vec<Option<Vec<u8>>>,
    over: Vec<bool>,
    dirty: BTreeSet<(u32, u32)>,
    /// Counters, gauges, sessions, events, and whatever else is told.
    pub books: String,
}

/// Everything but the topic `denied` and what nobody may.
pub fn rules(denied: &str) -> Rules {
    let no = |topic| rule("no", Effect::Deny, topic);
    let list = vec![no("forbidden"), no(denied), rule("rest", Effect::Allow, "#")];
    Rules::new(list).expect("rules")
}

fn config(limits: &Limits, durability: &Durability) -> Config {
    Config {
        limits: limits.clone(),
        rules: rules("forbidden"),
        durability: durability.clone(),
        seed: 1,
        version: String::new(),
    }
}

impl Twin {
    pub fn new(limits: &Limits, durability: &Durability, log: Option<HandLog>) -> Twin {
        let end: Box<dyn Log> = match &log {
            Some(log) => Box::new(log.clone()),
            None => Box::new(MemoryLog),
        };
        Twin::begin(Engine::new(config(limits, durability), end), Millis(0), log)
    }

    /// Another broker on what is on disk.
    pub fn revived(limits: &Limits, durability: &Durability, now: Millis, disk: Disk) -> Twin {
        let log = HandLog::on(disk.clone());
        let mut engine = Engine::new(config(limits, durability), Box::new(MemoryLog));
        let mut restorer = engine.restore();
        disk.load(&mut |stored| restorer.take(now, &stored));
        restorer.finish(now, disk.next_session(), Box::new(log.clone()));
        Twin::begin(engine, now, Some(log))
    }

    fn begin(mut engine: Engine, now: Millis, log: Option<HandLog>) -> Twin {
        engine.handle_tick(now);
        Twin {
            engine,
            log,
            events: Vec::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// `waiting` bytes were handed in and not carried out: the other broker has not heard of them.
    pub fn view(&mut self, ids: &[ConnId], waiting: usize) -> View {
        while let Some(event) = self.engine.poll_event() {
            self.events.push(format!("{event:?}"));
        }
        // A run is carried out for one receiver after the other.
        self.events.sort();
        while let Some(id) = self.engine.poll_dirty() {
            self.dirty.insert((id.index, id.generation));
        }
        let outputs = ids.iter().map(|&id| self.engine.output(id).cloned()).collect();
        let engine = &self.engine;
        let gauges = engine.gauges();
        let gauges = Gauges {
            memory_bytes: gauges.memory_bytes - waiting as u64,
            ..gauges
        };
        let (counters, sessions, deadline) = (engine.counters(), engine.sessions(), engine.poll_deadline());
        let appended = self.log.as_ref().map(HandLog::appended);
        let (work, events) = (engine.work(), std::mem::take(&mut self.events));
        View {
            outputs,
            over: ids.iter().map(|&id| engine.is_closing(id)).collect(),
            dirty: std::mem::take(&mut self.dirty),
            books: format!("{counters:?} {gauges:?} {sessions:?} {deadline:?} {appended:?} {work} {events:?}"),
        }
    }
}

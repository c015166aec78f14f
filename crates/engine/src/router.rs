//! From a topic name to the sessions that want it, remembered until a subscription changes.
//!
//! Refuses to know connections, rules and bytes.

use crate::tree::{Entry, Found, SessionIndex, Tree};
use alloc::boxed::Box;
use alloc::vec::Vec;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sealmq_codec::QoS;

/// One session that receives a message, all its overlapping subscriptions taken together.
#[derive(Debug)]
pub(crate) struct Target {
    pub session: SessionIndex,
    pub qos: QoS,
    pub own: Own,
    pub retain_as_published: bool,
    pub identifiers: Box<[u32]>,
}

/// What becomes of a message that the session published itself [MQTT-3.8.3-3].
#[derive(Debug)]
pub(crate) enum Own {
    /// No matching subscription said no local.
    Same,
    /// All of them did.
    Nothing,
    /// The subscriptions that did not say so, taken together.
    Only(Box<Target>),
}

#[derive(Debug, Default)]
pub(crate) struct Route {
    generation: u64,
    pub targets: Vec<Target>,
    /// Shared subscriptions: one member of each group receives the message.
    pub groups: Vec<Vec<Target>>,
}

impl Route {
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.groups.is_empty()
    }
}

/// Names a remembered route; another epoch means that the memory was emptied in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteKey {
    index: u32,
    epoch: u32,
}

/// Topics remembered before all are forgotten: bounds what publishing to ever new names can cost.
const REMEMBERED: usize = 16_384;

pub(crate) struct Router {
    pub tree: Tree,
    by_topic: HashMap<Box<str>, u32, FixedState>,
    routes: Vec<Route>,
    epoch: u32,
    turn: usize,
}

impl Router {
    pub fn new(seed: u64) -> Router {
        Router {
            tree: Tree::new(seed),
            by_topic: HashMap::with_hasher(FixedState::with_seed(seed)),
            routes: Vec::new(),
            epoch: 0,
            turn: 0,
        }
    }

    /// The key of a topic name, known or new.
    pub fn key(&mut self, topic: &str) -> RouteKey {
        if let Some(&index) = self.by_topic.get(topic) {
            return RouteKey {
                index,
                epoch: self.epoch,
            };
        }
        if self.routes.len() >= REMEMBERED {
            self.by_topic.clear();
            self.routes.clear();
            self.epoch = self.epoch.wrapping_add(1);
        }
        let index = self.routes.len() as u32;
        self.routes.push(Route {
            generation: u64::MAX,
            ..Route::default()
        });
        self.by_topic.insert(topic.into(), index);
        RouteKey {
            index,
            epoch: self.epoch,
        }
    }

    /// Who receives a message on `topic`, and which turn it is for shared subscriptions. `key` must be that topic's.
    pub fn route(&mut self, key: RouteKey, topic: &str) -> Option<(&Route, usize)> {
        let generation = self.tree.generation();
        let route = self.routes.get_mut(key.index as usize)?;
        if route.generation != generation {
            let mut collector = Collector::default();
            self.tree.matches(topic, &mut collector);
            route.targets = merge(collector.entries);
            route.groups = collector.groups.into_iter().map(merge).collect();
            route.generation = generation;
        }
        if !route.groups.is_empty() {
            self.turn = self.turn.wrapping_add(1);
        }
        Some((route, self.turn))
    }
}

#[derive(Default)]
struct Collector {
    entries: Vec<Entry>,
    groups: Vec<Vec<Entry>>,
}

impl Found for Collector {
    fn entry(&mut self, entry: &Entry) {
        self.entries.push(entry.clone());
    }

    fn group(&mut self, members: &[Entry]) {
        self.groups.push(members.to_vec());
    }
}

/// One target per session: the highest QoS, all identifiers (section 3.3.4).
fn merge(mut entries: Vec<Entry>) -> Vec<Target> {
    entries.sort_by_key(|e| e.session);
    entries
        .chunk_by(|a, b| a.session == b.session)
        .filter_map(|same| {
            let mut target = together(same.iter())?;
            if same.iter().any(|e| e.no_local) {
                let own = together(same.iter().filter(|e| !e.no_local));
                target.own = own.map_or(Own::Nothing, |own| Own::Only(Box::new(own)));
            }
            Some(target)
        })
        .collect()
}

fn together<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> Option<Target> {
    Some(Target {
        session: entries.clone().next()?.session,
        qos: entries.clone().map(|e| e.qos).max()?,
        own: Own::Same,
        retain_as_published: entries.clone().any(|e| e.retain_as_published),
        identifiers: entries.map(|e| e.identifier).filter(|&i| i != 0).collect(),
    })
}

//! From a topic name to the sessions that want it, remembered until a subscription changes.
//!
//! Refuses to know connections, rules and bytes.

use crate::tree::{Entry, Found, SessionIndex, Tree};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::BuildHasher;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use sealmq_codec::QoS;

/// One session that receives a message, all its overlapping subscriptions taken together.
#[derive(Debug)]
pub(crate) struct Target {
    pub session: SessionIndex,
    /// Of a shared subscription; its session may be reached by its own subscriptions as well.
    pub is_member: bool,
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
    /// Empty for what is not remembered.
    topic: Box<str>,
    generation: u64,
    /// Sorted by session.
    pub targets: Vec<Target>,
    /// Shared subscriptions: one member of each group receives the message.
    pub groups: Vec<Vec<Target>>,
}

impl Route {
    fn unknown(topic: &str) -> Route {
        Route {
            topic: topic.into(),
            generation: u64::MAX,
            ..Route::default()
        }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    fn size(&self) -> usize {
        self.targets.len() + self.groups.iter().map(Vec::len).sum::<usize>()
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
/// Targets remembered in all routes together: some 40 MB, whatever the product of topics and subscribers would be.
const TARGETS_REMEMBERED: usize = 1_000_000;
/// Bytes of a topic name worth remembering; longer ones are matched each time.
const LONGEST_REMEMBERED: usize = 512;
/// The route of what is not remembered.
const PASSING: u32 = 0;

pub(crate) struct Router {
    pub tree: Tree,
    hasher: FixedState,
    /// Indices of `routes`, by the hash of their topic.
    by_topic: HashTable<u32>,
    routes: Vec<Route>,
    /// Targets in all routes.
    targets: usize,
    epoch: u32,
    turn: usize,
    /// Units of work so far: a node looked at, a target found, what the engine adds.
    pub work: usize,
}

impl Router {
    pub fn new(seed: u64) -> Router {
        let mut router = Router {
            tree: Tree::new(seed),
            hasher: FixedState::with_seed(seed),
            by_topic: HashTable::new(),
            routes: Vec::new(),
            targets: 0,
            epoch: 0,
            turn: 0,
            work: 0,
        };
        router.forget();
        router
    }

    /// The key of a topic name that is remembered; `guess` is what it may be.
    #[inline]
    pub fn key(&self, topic: &str, guess: Option<RouteKey>) -> Option<RouteKey> {
        let is_of = |index: &u32| self.routes.get(*index as usize).is_some_and(|r| &*r.topic == topic);
        // Nobody's topic is empty: what is not remembered has no key.
        if let Some(guess) = guess.filter(|guess| guess.epoch == self.epoch && is_of(&guess.index)) {
            return Some(guess);
        }
        let index = *self.by_topic.find(self.hasher.hash_one(topic), is_of)?;
        Some(RouteKey {
            index,
            epoch: self.epoch,
        })
    }

    /// Who receives a message on `topic`, and which turn it is for shared subscriptions. `key` must be that topic's.
    #[inline]
    pub fn route(&mut self, key: Option<RouteKey>, topic: &str) -> Option<(&Route, usize)> {
        let mut index = match key {
            Some(key) => key.index,
            None => self.remember(topic),
        };
        let route = self.routes.get(index as usize)?;
        if route.generation != self.tree.generation() || index == PASSING {
            if self.targets >= TARGETS_REMEMBERED {
                self.forget();
                index = self.remember(topic);
            }
            self.work_out(index, topic);
        }
        let route = self.routes.get(index as usize)?;
        if !route.groups.is_empty() {
            self.turn = self.turn.wrapping_add(1);
        }
        Some((route, self.turn))
    }

    /// The route behind `key`, if it is still what [`Router::route`] would find, and it is the same for each message.
    #[inline]
    pub fn known(&self, key: RouteKey) -> Option<&Route> {
        let route = self
            .routes
            .get(key.index as usize)
            .filter(|_| key.epoch == self.epoch)?;
        (route.generation == self.tree.generation() && route.groups.is_empty()).then_some(route)
    }

    fn work_out(&mut self, index: u32, topic: &str) {
        let mut collector = Collector::default();
        self.work += self.tree.matches(topic, &mut collector);
        let Some(route) = self.routes.get_mut(index as usize) else {
            return;
        };
        self.targets -= route.size();
        route.targets = merge(collector.entries);
        let as_member = |target| Target {
            is_member: true,
            ..target
        };
        let groups = collector.groups.into_iter().map(merge);
        route.groups = groups.map(|group| group.into_iter().map(as_member).collect()).collect();
        route.generation = self.tree.generation();
        self.targets += route.size();
        self.work += route.size();
    }

    fn remember(&mut self, topic: &str) -> u32 {
        if topic.len() > LONGEST_REMEMBERED {
            return PASSING;
        }
        if self.routes.len() >= REMEMBERED {
            self.forget();
        }
        let index = self.routes.len() as u32;
        self.routes.push(Route::unknown(topic));
        let Router {
            by_topic,
            routes,
            hasher,
            ..
        } = self;
        let hash = |index: &u32| hasher.hash_one(routes.get(*index as usize).map_or("", |r| &*r.topic));
        by_topic.insert_unique(hasher.hash_one(topic), index, hash);
        index
    }

    fn forget(&mut self) {
        self.by_topic.clear();
        self.routes.clear();
        self.routes.push(Route::unknown(""));
        self.targets = 0;
        self.epoch = self.epoch.wrapping_add(1);
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

/// One target for each session: the highest QoS of its subscriptions, and all their identifiers [MQTT-3.3.4-2],
/// [MQTT-3.3.4-3], [MQTT-3.3.4-4].
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
        is_member: false,
        qos: entries.clone().map(|e| e.qos).max()?,
        own: Own::Same,
        retain_as_published: entries.clone().any(|e| e.retain_as_published),
        identifiers: entries.map(|e| e.identifier).filter(|&i| i != 0).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    // A run is on the topic behind its key: of a key that outlives its topic it would be on another, which nobody allowed
    #[test]
    fn a_key_is_of_no_topic_that_takes_its_place() {
        let mut router = Router::new(1);
        assert!(router.route(None, "t").is_some());
        let key = router.key("t", None).expect("it is remembered");
        assert_eq!(router.known(key).map(Route::topic), Some("t"));
        for n in 0..REMEMBERED {
            assert!(router.route(None, &format!("n/{n}")).is_some());
        }
        assert!(router.known(key).is_none() && router.key("t", Some(key)).is_none());
    }
}

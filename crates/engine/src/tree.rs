//! The subscription tree: filters in, the subscriptions that match a topic name out.
//!
//! Refuses to know sessions beyond their index, and who may subscribe.
//!
//! One hash table holds the edges of the whole tree, keyed by (parent, level); a node costs no table of its own.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use sealmq_codec::QoS;
use slab::Slab;

/// Index of a session in the engine.
pub(crate) type SessionIndex = u32;

/// One subscription as the tree keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub session: SessionIndex,
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    /// 0 when the subscription has no identifier.
    pub identifier: u32,
}

#[derive(Debug)]
struct Group {
    name: Box<str>,
    members: Vec<Entry>,
}

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

#[derive(Debug, Default)]
struct Node {
    name: Box<str>,
    parent: u32,
    plus: u32,
    hash: u32,
    children: u32,
    entries: Vec<Entry>,
    groups: Vec<Group>,
}

impl Node {
    fn new(parent: u32, name: &str) -> Node {
        Node {
            name: name.into(),
            parent,
            plus: NONE,
            hash: NONE,
            ..Node::default()
        }
    }
}

/// What [`Tree::matches`] reports to.
pub(crate) trait Found {
    fn entry(&mut self, entry: &Entry);
    fn group(&mut self, members: &[Entry]);
}

pub(crate) struct Tree {
    nodes: Slab<Node>,
    edges: HashTable<u32>,
    hasher: FixedState,
    /// Rises with every change, so that a cached answer knows when it is stale.
    generation: u64,
    count: usize,
    stack: Vec<(u32, usize)>,
}

impl Tree {
    pub fn new(seed: u64) -> Tree {
        let mut nodes = Slab::new();
        nodes.insert(Node::new(NONE, ""));
        Tree {
            nodes,
            edges: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            generation: 0,
            count: 0,
            stack: Vec::new(),
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Subscriptions in the tree.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Add or replace the subscription of `entry.session` at (group, filter).
    pub fn insert(&mut self, group: Option<&str>, filter: &str, entry: Entry) {
        self.generation += 1;
        let mut at = ROOT;
        for level in filter.split('/') {
            at = self.child_or_insert(at, level);
        }
        let Some(node) = self.nodes.get_mut(at as usize) else {
            return;
        };
        let entries = match group {
            None => &mut node.entries,
            Some(name) => {
                let found = node.groups.iter().position(|g| &*g.name == name);
                let index = found.unwrap_or_else(|| {
                    node.groups.push(Group {
                        name: name.into(),
                        members: Vec::new(),
                    });
                    node.groups.len() - 1
                });
                match node.groups.get_mut(index) {
                    Some(group) => &mut group.members,
                    None => return,
                }
            }
        };
        // Sorted, so that a filter that everybody has costs no look at everybody.
        match entries.binary_search_by_key(&entry.session, |e| e.session) {
            Ok(at) => {
                if let Some(present) = entries.get_mut(at) {
                    *present = entry;
                }
            }
            Err(at) => {
                entries.insert(at, entry);
                self.count += 1;
            }
        }
    }

    /// Remove the subscription of `session` at (group, filter), and every node that nobody needs any more.
    pub fn remove(&mut self, group: Option<&str>, filter: &str, session: SessionIndex) {
        let mut at = ROOT;
        for level in filter.split('/') {
            match self.child(at, level) {
                Some(next) => at = next,
                None => return,
            }
        }
        let Some(node) = self.nodes.get_mut(at as usize) else {
            return;
        };
        let entries = match group {
            None => Some(&mut node.entries),
            Some(name) => node
                .groups
                .iter_mut()
                .find(|g| &*g.name == name)
                .map(|g| &mut g.members),
        };
        if let Some(entries) = entries
            && let Ok(at) = entries.binary_search_by_key(&session, |e| e.session)
        {
            entries.remove(at);
            self.count -= 1;
        }
        node.groups.retain(|g| !g.members.is_empty());
        self.generation += 1;
        self.prune(at);
    }

    /// Report everything that matches `name` [MQTT-3.3.2-3], [MQTT-4.7.3-4]; how many nodes were looked at, which the
    /// nodes of the tree and the levels of `name` bound.
    pub fn matches(&mut self, name: &str, found: &mut impl Found) -> usize {
        let levels: Vec<&str> = name.split('/').collect();
        let is_dollar = name.starts_with('$');
        let mut stack = core::mem::take(&mut self.stack);
        stack.clear();
        stack.push((ROOT, 0));
        let mut visited = 0;
        while let Some((at, depth)) = stack.pop() {
            visited += 1;
            let Some(node) = self.nodes.get(at as usize) else {
                continue;
            };
            // [MQTT-4.7.2-1]: no wildcard in the first level reaches a $-topic
            let wild = !(is_dollar && depth == 0);
            if wild && node.hash != NONE {
                self.report(node.hash, found);
            }
            match levels.get(depth) {
                None => self.report(at, found),
                Some(level) => {
                    if wild && node.plus != NONE {
                        stack.push((node.plus, depth + 1));
                    }
                    if node.children > 0
                        && let Some(next) = self.child(at, level)
                    {
                        stack.push((next, depth + 1));
                    }
                }
            }
        }
        self.stack = stack;
        visited
    }

    fn report(&self, at: u32, found: &mut impl Found) {
        if let Some(node) = self.nodes.get(at as usize) {
            for entry in &node.entries {
                found.entry(entry);
            }
            for group in &node.groups {
                found.group(&group.members);
            }
        }
    }

    fn edge_hash(hasher: &FixedState, parent: u32, level: &str) -> u64 {
        let mut state = hasher.build_hasher();
        state.write_u32(parent);
        state.write(level.as_bytes());
        state.finish()
    }

    /// The child of `at` for one level; `+` and `#` are children like any other, with a pointer besides.
    fn child(&self, at: u32, level: &str) -> Option<u32> {
        match level {
            "+" => self.nodes.get(at as usize).map(|n| n.plus).filter(|&n| n != NONE),
            "#" => self.nodes.get(at as usize).map(|n| n.hash).filter(|&n| n != NONE),
            _ => {
                let hash = Self::edge_hash(&self.hasher, at, level);
                self.edges
                    .find(hash, |&index| {
                        self.nodes
                            .get(index as usize)
                            .is_some_and(|n| n.parent == at && &*n.name == level)
                    })
                    .copied()
            }
        }
    }

    fn child_or_insert(&mut self, at: u32, level: &str) -> u32 {
        if let Some(found) = self.child(at, level) {
            return found;
        }
        let index = self.nodes.insert(Node::new(at, level)) as u32;
        if let Some(parent) = self.nodes.get_mut(at as usize) {
            match level {
                "+" => parent.plus = index,
                "#" => parent.hash = index,
                _ => parent.children += 1,
            }
        }
        if level != "+" && level != "#" {
            let hash = Self::edge_hash(&self.hasher, at, level);
            let (nodes, hasher) = (&self.nodes, &self.hasher);
            self.edges.insert_unique(hash, index, |&i| {
                nodes
                    .get(i as usize)
                    .map_or(0, |n| Self::edge_hash(hasher, n.parent, &n.name))
            });
        }
        index
    }

    fn prune(&mut self, mut at: u32) {
        while at != ROOT {
            let Some(node) = self.nodes.get(at as usize) else {
                return;
            };
            let needed = node.children > 0
                || node.plus != NONE
                || node.hash != NONE
                || !node.entries.is_empty()
                || !node.groups.is_empty();
            if needed {
                return;
            }
            let parent = node.parent;
            let is_edge = &*node.name != "+" && &*node.name != "#";
            if is_edge {
                let hash = Self::edge_hash(&self.hasher, parent, &node.name);
                if let Ok(edge) = self.edges.find_entry(hash, |&i| i == at) {
                    edge.remove();
                }
            }
            let _ = self.nodes.try_remove(at as usize);
            if let Some(above) = self.nodes.get_mut(parent as usize) {
                if above.plus == at {
                    above.plus = NONE;
                } else if above.hash == at {
                    above.hash = NONE;
                } else {
                    above.children = above.children.saturating_sub(1);
                }
            }
            at = parent;
        }
    }

    #[cfg(test)]
    fn nodes(&self) -> usize {
        self.nodes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;
    use proptest::prelude::*;
    use sealmq_codec::topic;

    #[derive(Default)]
    struct Sessions(Vec<u32>);
    impl Found for Sessions {
        fn entry(&mut self, entry: &Entry) {
            self.0.push(entry.session);
        }
        fn group(&mut self, members: &[Entry]) {
            self.0.extend(members.iter().map(|m| m.session));
        }
    }

    fn entry(session: u32) -> Entry {
        Entry {
            session,
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            identifier: 0,
        }
    }

    fn matching(tree: &mut Tree, name: &str) -> Vec<u32> {
        let mut found = Sessions::default();
        tree.matches(name, &mut found);
        found.0.sort_unstable();
        found.0
    }

    #[test]
    fn an_emptied_tree_is_the_root_alone() {
        let mut tree = Tree::new(1);
        let filters = ["a/b/c", "a/+/c", "a/#", "#", "+/+/+", "a"];
        for (i, filter) in filters.iter().enumerate() {
            tree.insert(None, filter, entry(i as u32));
            tree.insert(Some("g"), filter, entry(i as u32));
        }
        assert_eq!(tree.len(), 12);
        for (i, filter) in filters.iter().enumerate() {
            tree.remove(None, filter, i as u32);
            tree.remove(Some("g"), filter, i as u32);
        }
        assert_eq!((tree.len(), tree.nodes()), (0, 1));
    }

    #[test]
    fn a_session_subscribing_again_replaces_itself() {
        let mut tree = Tree::new(1);
        tree.insert(None, "a", entry(1));
        tree.insert(None, "a", entry(1));
        assert_eq!(matching(&mut tree, "a"), vec![1]);
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just(""), Just("$x"), Just("+")]
    }

    fn filter() -> impl Strategy<Value = String> {
        (prop::collection::vec(level(), 1..5), any::<bool>()).prop_map(|(levels, hash)| {
            let mut text = levels.join("/");
            if hash {
                text.push_str("/#");
            }
            text
        })
    }

    proptest! {
        /// The tree and the definition of matching agree on every topic, before and after removals.
        #[test]
        fn the_tree_agrees_with_matching_filter_by_filter(
            filters in prop::collection::vec(filter(), 1..20),
            names in prop::collection::vec(prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just(""), Just("$x")], 1..5), 1..10),
            keep in any::<u32>(),
        ) {
            let mut tree = Tree::new(7);
            for (i, filter) in filters.iter().enumerate() {
                tree.insert(None, filter, entry(i as u32));
            }
            for (i, filter) in filters.iter().enumerate() {
                if keep & (1 << i) == 0 {
                    tree.remove(None, filter, i as u32);
                }
            }
            for levels in names {
                let name = levels.join("/");
                if name.is_empty() { continue; }
                let expected: Vec<u32> = filters.iter().enumerate()
                    .filter(|(i, f)| keep & (1 << i) != 0 && topic::is_valid_filter(f) && topic::matches(f, &name))
                    .map(|(i, _)| i as u32).collect();
                prop_assert_eq!(matching(&mut tree, &name), expected);
            }
        }
    }
}

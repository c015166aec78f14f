//! Retained messages: one for each topic name, found by filter.
//!
//! Refuses to know who asks. Children are kept sorted, so that the order of delivery does not depend on a hash.

use crate::limits::Limits;
use crate::memory::{Memory, Share};
use crate::message::{Content, Message};
use crate::time::Millis;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

#[derive(Debug, Default)]
struct Node {
    message: Option<Arc<Message>>,
    children: BTreeMap<Box<str>, Node>,
}

/// The budget for retained messages is used up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Retained messages together have at most this part of all memory: they belong to nobody who would stop at his share.
const PART: u64 = 2;
/// What a retained message takes in the tree besides itself.
const PLACE_BYTES: u64 = 256;

#[derive(Debug)]
pub(crate) struct Retained {
    root: Node,
    share: Share,
    count: u32,
    bytes: u64,
    /// Messages set with an expiry since the last sweep found none.
    may_expire: bool,
}

impl Retained {
    pub fn new(memory: &Memory) -> Retained {
        Retained {
            root: Node::default(),
            share: memory.share(0),
            count: 0,
            bytes: 0,
            may_expire: false,
        }
    }

    pub fn len(&self) -> u32 {
        self.count
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keep the message for its topic in place of the one before [MQTT-3.3.1-5].
    pub fn set(&mut self, content: &Content<'_>, limits: &Limits, memory: &Memory) -> Result<(), Full> {
        let size = content.size();
        let replaced = self.find(content.topic).map_or(0, |m| m.size());
        let count_after = self.count + u32::from(replaced == 0);
        if count_after > limits.max_retained_messages
            || self.bytes - replaced + size > limits.max_retained_bytes
            || self.bytes - replaced + size + self.share.bytes() + PLACE_BYTES > memory.bound() / PART
            || !memory.allows(0, size + PLACE_BYTES)
        {
            return Err(Full);
        }
        self.place(Arc::new(Message::new(content, memory)), replaced);
        Ok(())
    }

    /// The same for a message that was kept before: it counts, but no budget refuses it.
    pub fn restore(&mut self, message: Arc<Message>) {
        let replaced = self.find(message.content().topic).map_or(0, |m| m.size());
        self.place(message, replaced);
    }

    fn place(&mut self, message: Arc<Message>, replaced: u64) {
        let size = message.size();
        let topic_owner = Arc::clone(&message);
        let topic = topic_owner.content().topic;
        let mut node = &mut self.root;
        for level in topic.split('/') {
            node = node.children.entry(level.into()).or_default();
        }
        node.message = Some(message);
        self.count += u32::from(replaced == 0);
        self.may_expire |= topic_owner.content().expires_at.is_some();
        self.bytes = self.bytes - replaced + size;
        self.share.set(u64::from(self.count) * PLACE_BYTES);
    }

    /// Forget the message of `topic` [MQTT-3.3.1-6].
    pub fn remove(&mut self, topic: &str) {
        let mut levels = topic.split('/');
        if let Some(first) = levels.next()
            && let Some(message) = remove_below(&mut self.root, first, &mut levels)
        {
            self.count -= 1;
            self.bytes -= message.size();
            self.share.set(u64::from(self.count) * PLACE_BYTES);
        }
    }

    /// The message kept for `topic`.
    pub fn find(&self, topic: &str) -> Option<&Arc<Message>> {
        let mut node = &self.root;
        for level in topic.split('/') {
            node = node.children.get(level)?;
        }
        node.message.as_ref()
    }

    /// Some of the retained messages that `filter` matches, in topic order: from the beginning, or on from where an
    /// earlier page ended. Looks at no more of the tree than `budget` allows.
    pub fn page(&self, filter: &str, from: Option<&Place>, budget: Budget, now: Millis) -> Page {
        let levels: Vec<&str> = filter.split('/').collect();
        let mut walk = Walk {
            levels: &levels,
            budget,
            now,
            visited: 0,
            bytes: 0,
            path: Vec::new(),
            found: Vec::new(),
        };
        let is_done = walk.visit(&self.root, 0, from.map(|place| &*place.0));
        let next = if is_done {
            None
        } else {
            Some(Place(walk.path.iter().map(|&level| level.into()).collect()))
        };
        Page {
            found: walk.found,
            visited: walk.visited,
            next,
        }
    }

    #[cfg(test)]
    pub fn matching(&self, filter: &str, now: Millis) -> Vec<Arc<Message>> {
        let budget = Budget {
            nodes: usize::MAX,
            bytes: u64::MAX,
        };
        self.page(filter, None, budget, now).found
    }

    /// Take out what has expired; called seldom, the answer of [`Retained::page`] does not depend on it.
    pub fn sweep(&mut self, now: Millis) -> Vec<Arc<Message>> {
        if !self.may_expire {
            return Vec::new();
        }
        let mut all = Vec::new();
        collect_all(&self.root, &mut all);
        self.may_expire = all.iter().any(|m| m.content().expires_at.is_some_and(|at| at > now));
        all.retain(|m| m.is_expired(now));
        for message in &all {
            self.remove(message.content().topic);
        }
        all
    }
}

/// `rest` is a trait object so that the recursion has one type.
fn remove_below(node: &mut Node, level: &str, rest: &mut dyn Iterator<Item = &str>) -> Option<Arc<Message>> {
    let child = node.children.get_mut(level)?;
    let removed = match rest.next() {
        Some(next) => remove_below(child, next, rest),
        None => child.message.take(),
    };
    if child.message.is_none() && child.children.is_empty() {
        node.children.remove(level);
    }
    removed
}

/// How much of the tree one page may look at, and how much it may find.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub nodes: usize,
    pub bytes: u64,
}

/// Where a page ended: the levels of the last topic looked at. Topics may come and go before it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place(Box<[Box<str>]>);

impl Place {
    /// Behind `topic`; `None` is the beginning, where no topic is.
    pub fn behind(topic: &str) -> Option<Place> {
        (!topic.is_empty()).then(|| Place(topic.split('/').map(Into::into).collect()))
    }
}

#[derive(Debug)]
pub(crate) struct Page {
    pub found: Vec<Arc<Message>>,
    /// Nodes looked at, for the budget of the caller.
    pub visited: usize,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<Place>,
}

/// One walk over the tree in topic order: a node before its children, children by name.
struct Walk<'a> {
    levels: &'a [&'a str],
    budget: Budget,
    now: Millis,
    visited: usize,
    bytes: u64,
    path: Vec<&'a str>,
    found: Vec<Arc<Message>>,
}

impl<'a> Walk<'a> {
    /// Visit `node`, reached with `at` levels of the filter used up. `resume` is what is left of the path to the place
    /// where an earlier walk ended. `false` when the budget is used up; `path` then names the last node looked at.
    fn visit(&mut self, node: &'a Node, at: usize, resume: Option<&[Box<str>]>) -> bool {
        let level = self.levels.get(at).copied();
        if resume.is_none() {
            self.visited += 1;
            // "sport/#" includes "sport" itself; at the root there is no such topic
            if matches!(level, None | Some("#"))
                && let Some(message) = node.message.as_ref().filter(|m| !m.is_expired(self.now))
            {
                self.bytes += message.size();
                self.found.push(Arc::clone(message));
            }
            if self.visited >= self.budget.nodes || self.bytes >= self.budget.bytes {
                return false;
            }
        }
        match level {
            None => true,
            Some("#") => self.visit_children(node, at, resume),
            Some("+") => self.visit_children(node, at + 1, resume),
            Some(level) => {
                let rest = match resume.and_then(<[_]>::split_first) {
                    // The earlier walk had passed this child already.
                    Some((name, _)) if **name > *level => return true,
                    Some((name, rest)) if **name == *level => Some(rest),
                    _ => None,
                };
                node.children
                    .get_key_value(level)
                    .is_none_or(|(name, child)| self.descend(name, child, at + 1, rest))
            }
        }
    }

    fn visit_children(&mut self, node: &'a Node, at: usize, resume: Option<&[Box<str>]>) -> bool {
        let from = resume.and_then(<[_]>::split_first);
        let start = from.map_or(Bound::Unbounded, |(name, _)| Bound::Included(&**name));
        for (name, child) in node.children.range::<str, _>((start, Bound::Unbounded)) {
            // [MQTT-4.7.2-1]
            if self.path.is_empty() && name.starts_with('$') {
                continue;
            }
            let rest = from.filter(|(first, _)| *first == name).map(|(_, rest)| rest);
            if !self.descend(name, child, at, rest) {
                return false;
            }
        }
        true
    }

    fn descend(&mut self, name: &'a str, child: &'a Node, at: usize, resume: Option<&[Box<str>]>) -> bool {
        self.path.push(name);
        let goes_on = self.visit(child, at, resume);
        if goes_on {
            self.path.pop();
        }
        goes_on
    }
}

fn collect_all(node: &Node, found: &mut Vec<Arc<Message>>) {
    found.extend(node.message.clone());
    for child in node.children.values() {
        collect_all(child, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use alloc::vec;
    use sealmq_codec::QoS;

    fn content(topic: &str, expires_at: Option<Millis>) -> Content<'_> {
        Content {
            topic,
            properties: &[],
            payload: b"x",
            expires_at,
            qos: QoS::AtMostOnce,
            retain: true,
        }
    }

    fn memory() -> Memory {
        Memory::new(1 << 30)
    }

    fn topics(retained: &Retained, filter: &str) -> Vec<String> {
        retained
            .matching(filter, Millis(0))
            .iter()
            .map(|m| m.content().topic.to_string())
            .collect()
    }

    #[test]
    fn filters_find_what_they_match() {
        let mut retained = Retained::new(&memory());
        for topic in ["a", "a/b", "a/b/c", "b", "$SYS/x", "$inner/a", "b/$x"] {
            retained
                .set(&content(topic, None), &Limits::default(), &memory())
                .unwrap();
        }
        assert_eq!(topics(&retained, "a/#"), vec!["a", "a/b", "a/b/c"]);
        assert_eq!(topics(&retained, "#"), vec!["a", "a/b", "a/b/c", "b", "b/$x"]);
        assert_eq!(topics(&retained, "+"), vec!["a", "b"]);
        assert_eq!(topics(&retained, "$SYS/#"), vec!["$SYS/x"]);
        assert_eq!(topics(&retained, "+/b"), vec!["a/b"]);
        assert_eq!(topics(&retained, "b/+"), vec!["b/$x"]);
        retained.remove("a/b");
        assert_eq!(topics(&retained, "a/#"), vec!["a", "a/b/c"]);
        for topic in ["a", "a/b/c", "b", "b/$x", "$SYS/x", "$inner/a", "never/there"] {
            retained.remove(topic);
        }
        assert_eq!(
            (retained.len(), retained.bytes(), retained.root.children.len()),
            (0, 0, 0)
        );
    }

    /// Whatever the size of a page, the pages together are the whole, even when topics vanish in between.
    #[test]
    fn pages_together_are_the_whole() {
        let mut retained = Retained::new(&memory());
        for topic in ["a", "a/b", "a/b/c", "a/c", "b", "b/", "b//x", "c/b", "d/b/c", "$SYS/x"] {
            retained
                .set(&content(topic, None), &Limits::default(), &memory())
                .unwrap();
        }
        for filter in ["#", "+", "a/#", "+/b", "+/b/#", "+/+/+", "a/b/c", "b/+/x", "$SYS/#"] {
            for nodes in 1..12 {
                let budget = Budget { nodes, bytes: u64::MAX };
                let (mut place, mut seen) = (None, Vec::new());
                loop {
                    let page = retained.page(filter, place.as_ref(), budget, Millis(0));
                    assert!(page.visited <= nodes);
                    seen.extend(page.found.iter().map(|m| m.content().topic.to_string()));
                    place = page.next;
                    if place.is_none() {
                        break;
                    }
                }
                assert_eq!(seen, topics(&retained, filter), "{filter} in pages of {nodes}");
            }
        }
        let budget = Budget {
            nodes: 3,
            bytes: u64::MAX,
        };
        let first = retained.page("#", None, budget, Millis(0));
        for topic in ["a", "a/b", "a/b/c", "a/c"] {
            retained.remove(topic);
        }
        let second = retained.page("#", first.next.as_ref(), Budget { nodes: 100, ..budget }, Millis(0));
        let rest: Vec<_> = second.found.iter().map(|m| m.content().topic.to_string()).collect();
        assert_eq!(rest, ["b", "b/", "b//x", "c/b", "d/b/c"]);
    }

    #[test]
    fn a_full_store_takes_replacements_only() {
        let limits = Limits {
            max_retained_messages: 1,
            ..Limits::default()
        };
        let mut retained = Retained::new(&memory());
        retained.set(&content("a", None), &limits, &memory()).unwrap();
        assert_eq!(retained.set(&content("b", None), &limits, &memory()), Err(Full));
        retained.set(&content("a", None), &limits, &memory()).unwrap();
        assert_eq!(retained.len(), 1);
    }

    #[test]
    fn what_has_expired_is_not_delivered_and_is_swept() {
        let mut retained = Retained::new(&memory());
        retained
            .set(&content("a", Some(Millis(10))), &Limits::default(), &memory())
            .unwrap();
        assert_eq!(retained.matching("a", Millis(9)).len(), 1);
        assert_eq!(retained.matching("a", Millis(10)).len(), 0);
        assert_eq!(retained.sweep(Millis(10)).len(), 1);
        assert_eq!(retained.len(), 0);
    }
}

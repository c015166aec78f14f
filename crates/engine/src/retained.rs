//! Retained messages: one for each topic name, found by filter.
//!
//! Refuses to know who asks. Children are kept sorted, so that the order of delivery does not depend on a hash.

use crate::limits::Limits;
use crate::message::Message;
use crate::time::Millis;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

#[derive(Debug, Default)]
struct Node {
    message: Option<Arc<Message>>,
    children: BTreeMap<Box<str>, Node>,
}

/// The budget for retained messages is used up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug, Default)]
pub(crate) struct Retained {
    root: Node,
    count: u32,
    bytes: u64,
}

impl Retained {
    pub fn len(&self) -> u32 {
        self.count
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keep `message` for its topic in place of the one before [MQTT-3.3.1-5].
    pub fn set(&mut self, message: Arc<Message>, limits: &Limits) -> Result<(), Full> {
        let size = message.size();
        let topic_owner = Arc::clone(&message);
        let topic = topic_owner.content().topic;
        let replaced = self.find(topic).map_or(0, |m| m.size());
        let count_after = self.count + u32::from(replaced == 0);
        if count_after > limits.max_retained_messages || self.bytes - replaced + size > limits.max_retained_bytes {
            return Err(Full);
        }
        let mut node = &mut self.root;
        for level in topic.split('/') {
            node = node.children.entry(level.into()).or_default();
        }
        node.message = Some(message);
        self.count = count_after;
        self.bytes = self.bytes - replaced + size;
        Ok(())
    }

    /// Forget the message of `topic` [MQTT-3.3.1-6].
    pub fn remove(&mut self, topic: &str) {
        let mut levels = topic.split('/');
        if let Some(first) = levels.next()
            && let Some(message) = remove_below(&mut self.root, first, &mut levels)
        {
            self.count -= 1;
            self.bytes -= message.size();
        }
    }

    fn find(&self, topic: &str) -> Option<&Arc<Message>> {
        let mut node = &self.root;
        for level in topic.split('/') {
            node = node.children.get(level)?;
        }
        node.message.as_ref()
    }

    /// Every retained message that `filter` matches and that has not expired, in topic order.
    pub fn matching(&self, filter: &str, now: Millis) -> Vec<Arc<Message>> {
        let levels: Vec<&str> = filter.split('/').collect();
        let mut found = Vec::new();
        collect(&self.root, &levels, 0, &mut found);
        found.retain(|m| !m.content().is_expired(now));
        found
    }

    /// Drop what has expired; called seldom, the answer of [`Retained::matching`] does not depend on it.
    pub fn sweep(&mut self, now: Millis) {
        let mut expired = Vec::new();
        collect_all(&self.root, &mut expired);
        for message in expired.iter().filter(|m| m.content().is_expired(now)) {
            self.remove(message.content().topic);
        }
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

fn collect(node: &Node, levels: &[&str], depth: usize, found: &mut Vec<Arc<Message>>) {
    match levels.get(depth) {
        None => found.extend(node.message.clone()),
        Some(&"#") => {
            // "sport/#" includes "sport" itself; at the root there is no such topic
            found.extend(node.message.clone());
            for (name, child) in &node.children {
                // [MQTT-4.7.2-1]
                if depth > 0 || !name.starts_with('$') {
                    collect_all(child, found);
                }
            }
        }
        Some(&"+") => {
            for (name, child) in &node.children {
                if depth > 0 || !name.starts_with('$') {
                    collect(child, levels, depth + 1, found);
                }
            }
        }
        Some(level) => {
            if let Some(child) = node.children.get(*level) {
                collect(child, levels, depth + 1, found);
            }
        }
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
    use crate::message::Content;
    use alloc::string::{String, ToString};
    use alloc::vec;
    use sealmq_codec::QoS;

    fn message(topic: &str, expires_at: Option<Millis>) -> Arc<Message> {
        let content = Content {
            topic,
            properties: &[],
            payload: b"x",
            expires_at,
            qos: QoS::AtMostOnce,
            retain: true,
        };
        Arc::new(Message::from_content(&content))
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
        let mut retained = Retained::default();
        for topic in ["a", "a/b", "a/b/c", "b", "$SYS/x", "$inner/a", "b/$x"] {
            retained.set(message(topic, None), &Limits::default()).unwrap();
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

    #[test]
    fn a_full_store_takes_replacements_only() {
        let limits = Limits {
            max_retained_messages: 1,
            ..Limits::default()
        };
        let mut retained = Retained::default();
        retained.set(message("a", None), &limits).unwrap();
        assert_eq!(retained.set(message("b", None), &limits), Err(Full));
        retained.set(message("a", None), &limits).unwrap();
        assert_eq!(retained.len(), 1);
    }

    #[test]
    fn what_has_expired_is_not_delivered_and_is_swept() {
        let mut retained = Retained::default();
        retained
            .set(message("a", Some(Millis(10))), &Limits::default())
            .unwrap();
        assert_eq!(retained.matching("a", Millis(9)).len(), 1);
        assert_eq!(retained.matching("a", Millis(10)).len(), 0);
        retained.sweep(Millis(10));
        assert_eq!(retained.len(), 0);
    }
}

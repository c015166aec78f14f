//! The topics and filters of all histories, and which matches which, worked out level by level.
//!
//! Refuses to know the codec's way of matching: this is the other opinion.

pub const TOPICS: [&str; 10] = ["a/b", "a/c", "b", "c/b/d", "d", "d/x", "d/y", "s/1", "s/2", "$t/x"];

/// No two shared ones match the same topic: a message would not tell which of them it came by.
pub const FILTERS: [&str; 17] = [
    "a/b",
    "a/+",
    "a/#",
    "+/b",
    "#",
    "b",
    "c/#",
    "+/b/#",
    "d/x",
    "d/#",
    "+/x",
    "$t/#",
    "will/#",
    "s/+",
    "$share/g/s/1",
    "$share/h/s/2/#",
    "$share/g/c/#",
];

/// The group of a shared subscription, and the filter behind it.
pub fn parts(text: &str) -> (Option<&str>, &str) {
    match text.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
        Some((group, filter)) => (Some(group), filter),
        None => (None, text),
    }
}

/// Whether `filter` (without `$share`) reaches `topic` (section 4.7).
pub fn reaches(filter: &str, topic: &str) -> bool {
    let (filter, topic): (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
    if topic[0].starts_with('$') && matches!(filter[0], "#" | "+") {
        return false;
    }
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            ([], []) | (["#"], _) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
            ([one, filter @ ..], [other, topic @ ..]) => one == other && levels(filter, topic),
            _ => false,
        }
    }
    levels(&filter, &topic)
}

/// Who may do what in a history: three rule sets, told in words and, for the engine, as rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// Everything is allowed.
    Open,
    /// Nobody touches `d/#`.
    Closed,
    /// One client does not touch `d/#`.
    ClosedTo(usize),
}

impl Law {
    fn binds(self, client: usize) -> bool {
        match self {
            Law::Open => false,
            Law::Closed => true,
            Law::ClosedTo(one) => one == client,
        }
    }

    pub fn lets_publish(self, client: usize, topic: &str) -> bool {
        !self.binds(client) || !reaches("d/#", topic)
    }

    /// A filter is refused as soon as it reaches into `d/#`.
    pub fn lets_subscribe(self, client: usize, text: &str) -> bool {
        let first = parts(text).1.split('/').next();
        !self.binds(client) || !matches!(first, Some("#" | "+" | "d"))
    }
}

//! Topic names and topic filters: validity, matching, covering (MQTT 5.0 section 4.7).
//!
//! Refuses to know who may use a topic, and where subscriptions are kept.

use crate::Fault;
use crate::wire::Reader;
pub use pattern::Pattern;

mod pattern;

/// Whether `name` may stand in a PUBLISH: not empty, no wildcard, no U+0000 [MQTT-3.3.2-2], [MQTT-4.7.3-1].
#[inline]
pub fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 65_535 && !has_barred(name.as_bytes())
}

/// A topic name off the wire: valid, or empty.
#[inline]
pub(crate) fn read_name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Fault> {
    let bytes = reader.binary()?;
    // [MQTT-1.5.4-1]
    let name = core::str::from_utf8(bytes).map_err(|_| Fault::NotUtf8)?;
    match has_barred(bytes) {
        false => Ok(name),
        // [MQTT-1.5.4-2]
        true if bytes.contains(&0) => Err(Fault::NulInString),
        true => Err(Fault::BadTopicName),
    }
}

/// Wildcards and U+0000: looked for in all of it at once, for they are hardly ever there.
#[inline]
fn has_barred(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(false, |found, byte| found | matches!(byte, b'+' | b'#' | 0))
}

/// Whether `filter` (without a `$share` prefix) places its wildcards as section 4.7.1 demands.
pub fn is_valid_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.len() > 65_535 || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        match level {
            // [MQTT-4.7.1-1]: last level only
            "#" => return levels.peek().is_none(),
            "+" => {}
            // [MQTT-4.7.1-2]: a wildcard fills its whole level
            other if other.contains(['+', '#']) => return false,
            _ => {}
        }
    }
    true
}

/// A filter as subscribed: `$share/{group}/{filter}` or a plain filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter<'a> {
    /// The share name of a shared subscription [MQTT-4.8.2-1].
    pub group: Option<&'a str>,
    pub filter: &'a str,
}

/// Take `$share/...` apart and validate; `None` when the filter is malformed.
pub fn parse_filter(text: &str) -> Option<Filter<'_>> {
    let Some(shared) = text.strip_prefix("$share/") else {
        return is_valid_filter(text).then_some(Filter {
            group: None,
            filter: text,
        });
    };
    let (group, filter) = shared.split_once('/')?;
    // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    if group.is_empty() || group.contains(['+', '#']) || !is_valid_filter(filter) {
        return None;
    }
    Some(Filter {
        group: Some(group),
        filter,
    })
}

/// Whether a plain filter matches a topic name.
pub fn matches(filter: &str, name: &str) -> bool {
    // [MQTT-4.7.2-1]: a wildcard in the first level does not reach $-topics.
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    levels_match(filter, name)
}

/// Level by level, whatever the first ones are.
fn levels_match(filter: &str, name: &str) -> bool {
    if filter == "#" {
        return true;
    }
    let mut names = name.split('/');
    for level in filter.split('/') {
        match (level, names.next()) {
            // "sport/#" also matches "sport": the caller of split sees '#' after the names ran out
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Whether every topic that `inner` matches is matched by `outer` too: the question of authorising a subscription.
pub fn covers(outer: &str, inner: &str) -> bool {
    if inner.starts_with('$') && outer.starts_with(['+', '#']) {
        return false;
    }
    let mut inners = inner.split('/');
    for level in outer.split('/') {
        match (level, inners.next()) {
            ("#", _) => return true,
            (_, Some("#")) => return false,
            ("+", Some(_)) => {}
            (level, Some(inner)) if level == inner => {}
            _ => return false,
        }
    }
    inners.next().is_none()
}

/// Whether some topic is matched by both filters: what a deny rule asks of a subscription.
pub fn overlaps(a: &str, b: &str) -> bool {
    let wild = ['+', '#'];
    if (a.starts_with('$') && b.starts_with(wild)) || (b.starts_with('$') && a.starts_with(wild)) {
        return false;
    }
    let (mut left, mut right) = (a.split('/'), b.split('/'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some("#"), _) | (_, Some("#")) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_follows_the_examples_of_section_4_7() {
        for (filter, name, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "sport", true),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/monitor", false),
            ("+/monitor", "$SYS/monitor", false),
            ("$SYS/#", "$SYS/monitor", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
        ] {
            assert_eq!(matches(filter, name), expected, "{filter} against {name}");
        }
    }

    #[test]
    fn covering_is_the_subset_relation() {
        for (outer, inner, expected) in [
            ("devices/a/#", "devices/a/#", true),
            ("devices/a/#", "devices/a", true),
            ("devices/a/#", "devices/a/+/x", true),
            ("devices/a/#", "devices/+/x", false),
            ("devices/a/#", "devices/#", false),
            ("devices/a/#", "#", false),
            ("devices/+/up", "devices/a/up", true),
            ("devices/+/up", "devices/+/up", true),
            ("devices/+/up", "devices/#", false),
            ("#", "$SYS/broker", false),
            ("#", "$SYS/#", false),
            ("+/a", "#", false),
            ("a/+", "a/#", false),
        ] {
            assert_eq!(covers(outer, inner), expected, "{outer} covers {inner}");
        }
    }

    #[test]
    fn overlap_is_symmetric_and_sees_wildcards() {
        for (a, b, expected) in [
            ("a/#", "a/b", true),
            ("a/#", "a", true),
            ("a/+/c", "a/b/+", true),
            ("a/b", "a/c", false),
            ("#", "$SYS/x", false),
            ("a/b/c", "a/b", false),
            ("+/secret", "shared/#", true),
        ] {
            assert_eq!(overlaps(a, b), expected, "{a} and {b}");
            assert_eq!(overlaps(b, a), expected, "{b} and {a}");
        }
    }

    #[test]
    fn shared_filters_come_apart() {
        assert_eq!(
            parse_filter("$share/g/a/+"),
            Some(Filter {
                group: Some("g"),
                filter: "a/+"
            })
        );
        for bad in [
            "$share/g",
            "$share//a",
            "$share/g+/a",
            "$share/g/",
            "a/#/b",
            "a+",
            "",
            "#a",
        ] {
            assert_eq!(parse_filter(bad), None, "{bad}");
        }
    }
}

//! A topic filter that is compared with many names: what stands before its wildcards is looked at once, in one piece.
//!
//! Refuses to know whether the filter is valid: it matches what [`matches()`](super::matches) says.

use super::levels_match;
use alloc::boxed::Box;

/// A topic filter without a `$share` prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    filter: Box<str>,
    /// Bytes before the first level that is a wildcard, the separator included; all of them when there is none.
    literal: usize,
}

impl Pattern {
    pub fn new(filter: impl Into<Box<str>>) -> Pattern {
        let filter = filter.into();
        let mut literal = 0;
        for level in filter.split('/') {
            if matches!(level, "+" | "#") {
                break;
            }
            literal += level.len() + 1;
        }
        Pattern {
            literal: literal.min(filter.len()),
            filter,
        }
    }

    pub fn as_str(&self) -> &str {
        &self.filter
    }

    /// Whether it matches a topic name (MQTT 5.0 section 4.7).
    #[inline]
    pub fn matches(&self, name: &str) -> bool {
        let Some((literal, wild)) = self.filter.split_at_checked(self.literal) else {
            return false;
        };
        if wild.is_empty() {
            return literal == name;
        }
        match name.strip_prefix(literal) {
            // [MQTT-4.7.2-1]: a wildcard in the first level does not reach $-topics.
            Some(_) if literal.is_empty() && name.starts_with('$') => false,
            Some(rest) => levels_match(wild, rest),
            // "sport/#" also matches "sport"
            None => literal.strip_suffix('/') == Some(name) && (wild == "#" || wild.starts_with("#/")),
        }
    }
}

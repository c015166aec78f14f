//! Facts as they lie one behind the other: those that wait in the ring, and those that were handed out.
//!
//! Refuses to know how they came, and when they are handed out.

use super::text::LONGEST_TEXT;

/// Bytes of memory that are kept for the next facts.
const RETAINED: usize = 1 << 20;

/// What a fact about a connection is sorted by, so that not all of a storm need be read whole; empty where it has none.
#[derive(Clone, Copy, Default)]
pub struct Outline<'a> {
    pub client_id: &'a str,
    pub device: &'a str,
    pub peer: &'a str,
    /// SHA-256, hex.
    pub certificate: &'a str,
}

/// Facts, oldest first, one behind the other in one piece of memory.
#[derive(Default)]
pub struct Facts {
    text: String,
    /// Of the four texts of the outline, the event, and the JSON.
    lengths: Vec<[usize; 6]>,
}

impl Facts {
    /// Of each its outline (`client_id`, `device`, `peer`, `certificate`), its event, and the whole as JSON.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = [&str; 6]> {
        let mut rest = self.text.as_str();
        self.lengths.iter().map(move |lengths| {
            lengths.map(|length| {
                let (text, behind) = rest.split_at(length);
                rest = behind;
                text
            })
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// How many bytes.
    pub(super) fn size(&self) -> usize {
        self.text.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    pub(super) fn push(&mut self, event: &str, outline: Outline<'_>, fact: &str) {
        let outline = [outline.client_id, outline.device, outline.peer, outline.certificate];
        let [client_id, device, peer, certificate] = outline.map(|text| self.add_bounded(text));
        self.text.push_str(event);
        self.text.push_str(fact);
        self.lengths
            .push([client_id, device, peer, certificate, event.len(), fact.len()]);
    }

    /// A peer's text as facts have it; how many bytes that is.
    fn add_bounded(&mut self, text: &str) -> usize {
        let before = self.text.len();
        // as many bytes are at least as many characters
        let beyond = (text.len() > LONGEST_TEXT).then(|| text.char_indices().nth(LONGEST_TEXT));
        match beyond.flatten() {
            Some((end, _)) => self.text.extend([text.get(..end).unwrap_or_default(), "…"]),
            None => self.text.push_str(text),
        }
        self.text.len() - before
    }

    /// Take what is in `others`, behind what is here.
    pub(super) fn append(&mut self, others: &mut Facts) {
        self.text.push_str(&others.text);
        self.lengths.append(&mut others.lengths);
        others.text.clear();
    }

    /// Forget the older half; how many that were.
    pub(super) fn halve(&mut self) -> usize {
        let half = self.lengths.len() / 2;
        let length: usize = self.lengths.drain(..half).flatten().sum();
        self.text.drain(..length);
        half
    }

    /// Forget all, and keep the memory unless it is that of a flood.
    pub(super) fn clear(&mut self) {
        match self.text.capacity() > RETAINED {
            true => *self = Facts::default(),
            false => {
                self.text.clear();
                self.lengths.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_peers_are_as_long_as_in_the_fact() {
        let long = "é".repeat(LONGEST_TEXT + 1);
        let cut = format!("{}…", "é".repeat(LONGEST_TEXT));
        let mut facts = Facts::default();
        for client_id in ["", "short", &cut[..2 * LONGEST_TEXT], &long] {
            let outline = Outline {
                client_id,
                peer: "p",
                ..Outline::default()
            };
            facts.push("event", outline, "{}");
        }
        let found: Vec<_> = facts.iter().collect();
        let rest = ["", "p", "", "event", "{}"];
        let expected = ["", "short", &cut[..2 * LONGEST_TEXT], &cut].map(|id| {
            let [device, peer, certificate, event, fact] = rest;
            [id, device, peer, certificate, event, fact]
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn the_memory_of_a_flood_is_not_kept() {
        let mut facts = Facts::default();
        facts.push("event", Outline::default(), &"x".repeat(RETAINED + 1));
        facts.clear();
        assert!(facts.is_empty() && facts.text.capacity() == 0);
    }
}

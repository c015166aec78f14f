//! The ring of facts between the data plane and whoever watches: bounded, never blocking the writer.
//!
//! Refuses to know who watches and what a fact means.

use serde::{Deserialize, Serialize};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Facts kept for a slow watcher; beyond it the oldest are lost and counted.
const KEPT: usize = 65_536;
/// After facts were handed out, the next ones are gathered for so long: a watcher that is woken for each of a storm's facts
/// costs more than what it does with them.
const GATHERING: Duration = Duration::from_millis(10);
/// Characters of a text in a fact.
const LONGEST_TEXT: usize = 512;

#[derive(Default)]
struct Ring {
    facts: VecDeque<String>,
    lost: u64,
    is_closed: bool,
    handed_out: Option<Instant>,
    /// Facts handed out so far.
    count: u64,
}

/// Facts as JSON text, oldest first.
#[derive(Default)]
pub struct Events {
    ring: Mutex<Ring>,
    arrived: Condvar,
}

impl Events {
    /// Add a fact: `event`, `at` and `fields`, which is an object.
    pub fn push(&self, event: &str, fields: &impl Serialize) {
        let fact = fact(event, fields);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.facts.len() >= KEPT {
            ring.facts.pop_front();
            ring.lost += 1;
        }
        let is_first = ring.facts.is_empty();
        ring.facts.push_back(fact);
        drop(ring);
        if is_first {
            self.arrived.notify_one();
        }
    }

    /// No more facts will come: nobody waits for one from here on.
    pub fn close(&self) {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.arrived.notify_all();
    }

    /// How many facts whoever drained all of them had by now.
    pub fn count(&self) -> u64 {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.count + ring.facts.len() as u64 + u64::from(ring.lost > 0)
    }

    /// All facts there are, waiting up to `timeout` for the first, and a little for more when facts come one upon another.
    pub fn drain(&self, timeout: Duration) -> Vec<String> {
        let deadline = Instant::now() + timeout;
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        while ring.facts.is_empty() && !ring.is_closed {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                return Vec::new();
            };
            ring = self
                .arrived
                .wait_timeout(ring, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let gathered = ring.handed_out.map_or(GATHERING, |at| at.elapsed());
        if let Some(left) = GATHERING
            .checked_sub(gathered)
            .filter(|_| !timeout.is_zero() && !ring.is_closed)
        {
            let gathered = self
                .arrived
                .wait_timeout_while(ring, left.min(timeout), |ring| !ring.is_closed);
            ring = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        ring.handed_out = Some(Instant::now());
        if ring.lost > 0 {
            let lost = std::mem::take(&mut ring.lost);
            ring.facts.push_front(fact("lost", &Lost { count: lost }));
        }
        ring.count += ring.facts.len() as u64;
        ring.facts.drain(..).collect()
    }
}

/// Facts that nobody fetched in time.
#[derive(Serialize)]
struct Lost {
    count: u64,
}

/// A fact as JSON, written in one go: there are two for each connection that comes and goes.
fn fact(event: &str, fields: &impl Serialize) -> String {
    let mut text = Vec::with_capacity(512);
    text.extend_from_slice(br#"{"event":"#);
    // Numbers and texts into memory: nothing of this can fail.
    let _ = event.serialize(&mut Serializer::new(&mut text));
    text.extend_from_slice(br#","at":"#);
    let _ = now_ms().serialize(&mut Serializer::new(&mut text));
    let begin = text.len();
    let _ = fields.serialize(&mut Serializer::with_formatter(&mut text, Bounded::default()));
    match text.get_mut(begin..) {
        Some([opening @ b'{', second, ..]) if *second != b'}' => *opening = b',',
        _ => {
            text.truncate(begin);
            text.push(b'}');
        }
    }
    String::from_utf8(text).unwrap_or_default()
}

/// What a fact is sorted by, read without the rest of it: of a hundred facts of a storm few are read whole.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub struct Outline<'a> {
    #[serde(borrow)]
    event: Text<'a>,
    #[serde(borrow, default)]
    client_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    device: Option<Text<'a>>,
    #[serde(borrow, default)]
    peer: Option<Text<'a>>,
    #[serde(borrow, default)]
    certificate: Option<Fingerprint<'a>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct Fingerprint<'a> {
    #[serde(borrow, default)]
    sha256: Option<Text<'a>>,
}

/// A text that stays where it lies, unless it was escaped.
#[derive(Debug, Default, PartialEq, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Outline<'a> {
    /// The outline of a fact from `Events::drain`.
    pub fn of(fact: &'a str) -> Outline<'a> {
        serde_json::from_str(fact).unwrap_or_default()
    }

    /// `event`, `client_id`, `device`, `peer` and the certificate's `sha256`; empty where the fact has none.
    pub fn fields(&self) -> [&str; 5] {
        let sha256 = self.certificate.as_ref().and_then(|c| c.sha256.as_ref());
        [
            Some(&self.event),
            self.client_id.as_ref(),
            self.device.as_ref(),
            self.peer.as_ref(),
            sha256,
        ]
        .map(|field| field.map_or("", |text| &*text.0))
    }
}

/// Writes what peers chose (client identifiers, topics, subjects) without the length they chose: facts are kept. Lists are
/// bounded by whoever makes them.
#[derive(Default)]
struct Bounded {
    /// Characters that the text being written may still have.
    left: usize,
    is_cut: bool,
}

impl Bounded {
    fn cut<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.left = 0;
        match std::mem::replace(&mut self.is_cut, true) {
            true => Ok(()),
            false => writer.write_all("…".as_bytes()),
        }
    }
}

impl Formatter for Bounded {
    fn begin_string<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        (self.left, self.is_cut) = (LONGEST_TEXT, false);
        CompactFormatter.begin_string(writer)
    }

    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        match fragment.char_indices().nth(self.left) {
            None => {
                self.left -= fragment.chars().count();
                writer.write_all(fragment.as_bytes())
            }
            Some((end, _)) => {
                writer.write_all(fragment.get(..end).unwrap_or_default().as_bytes())?;
                self.cut(writer)
            }
        }
    }

    fn write_char_escape<W: io::Write + ?Sized>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        if self.left == 0 {
            return self.cut(writer);
        }
        self.left -= 1;
        CompactFormatter.write_char_escape(writer, escape)
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fields(fact: &str) -> Value {
        let mut fields: Value = serde_json::from_str(fact).unwrap();
        assert!(fields.as_object_mut().unwrap().remove("at").unwrap().is_u64());
        fields
    }

    #[test]
    fn a_fact_is_an_object_with_a_name_and_a_time() {
        assert_eq!(fields(&fact("x", &json!({}))), json!({"event": "x"}));
        assert_eq!(
            fields(&fact("x", &json!({"a": [1, null]}))),
            json!({"event": "x", "a": [1, null]})
        );
        assert_eq!(
            fields(&fact("x", &Lost { count: 3 })),
            json!({"event": "x", "count": 3})
        );
    }

    #[test]
    fn a_text_keeps_its_first_512_characters() {
        let whole = [
            "a".repeat(512),
            "é".repeat(512),
            "\"".repeat(512),
            "\n\u{1}é\\".repeat(128),
        ];
        for text in whole {
            let written = fields(&fact("x", &json!({"text": text, "next": text})));
            assert_eq!(written, json!({"event": "x", "text": text, "next": text}));
            for more in ["b", "\"", "é\n"] {
                let written = fields(&fact("x", &json!({"text": format!("{text}{more}"), "next": text})));
                assert_eq!(written, json!({"event": "x", "text": format!("{text}…"), "next": text}));
                let long = format!("{text}{more}");
                let written = fields(&fact("x", &json!({"text": long, "next": long})));
                assert_eq!(written["text"], written["next"], "each of two is cut");
            }
        }
    }

    #[test]
    fn facts_that_come_one_upon_another_are_handed_out_together() {
        let events = Events::default();
        events.push("first", &json!({}));
        assert_eq!(events.drain(Duration::from_secs(60)).len(), 1);
        events.push("second", &json!({}));
        events.push("third", &json!({}));
        assert_eq!(events.drain(Duration::from_secs(60)).len(), 2);
        assert!(events.drain(Duration::ZERO).is_empty());
        assert_eq!(events.count(), 3);
        events.push("fourth", &json!({}));
        assert_eq!(events.count(), 4);
    }
}

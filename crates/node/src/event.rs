//! The ring of facts between the data plane and whoever watches: bounded, never blocking the writer.
//!
//! Refuses to know who watches and what a fact means.

use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Facts kept for a slow watcher; beyond it the oldest are lost and counted.
const KEPT: usize = 65_536;
/// After facts were handed out, the next ones are gathered for so long: a watcher that is woken for each of a storm's facts
/// costs more than what it does with them.
const GATHERING: Duration = Duration::from_millis(10);
/// Characters of a text in a fact.
const LONGEST_TEXT: usize = 512;
/// Characters of a text in a list: names of suites and protocols.
const LONGEST_ITEM: usize = 48;
/// Items of a list in a fact.
const LONGEST_LIST: usize = 64;

#[derive(Default)]
struct Ring {
    facts: VecDeque<String>,
    lost: u64,
    is_closed: bool,
    handed_out: Option<Instant>,
}

/// Facts as JSON text, oldest first.
#[derive(Default)]
pub struct Events {
    ring: Mutex<Ring>,
    arrived: Condvar,
}

impl Events {
    /// Add a fact; `event` and `at` are added to `fields`.
    pub fn push(&self, event: &str, fields: Value) {
        let mut fact = Map::new();
        fact.insert("event".into(), json!(event));
        fact.insert("at".into(), json!(now_ms()));
        if let Value::Object(fields) = bounded(fields, LONGEST_TEXT) {
            fact.extend(fields);
        }
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.facts.len() >= KEPT {
            ring.facts.pop_front();
            ring.lost += 1;
        }
        let is_first = ring.facts.is_empty();
        ring.facts.push_back(Value::Object(fact).to_string());
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
            ring.facts
                .push_front(json!({"event": "lost", "at": now_ms(), "count": lost}).to_string());
        }
        ring.facts.drain(..).collect()
    }
}

/// What peers chose (client identifiers, topics, subjects, offers) without the length they chose: facts are kept.
fn bounded(value: Value, longest: usize) -> Value {
    match value {
        Value::String(text) => match text.char_indices().nth(longest) {
            Some((end, _)) => Value::String(format!("{}…", text.get(..end).unwrap_or_default())),
            None => Value::String(text),
        },
        Value::Array(items) => {
            let items = items.into_iter().take(LONGEST_LIST);
            Value::Array(items.map(|item| bounded(item, LONGEST_ITEM)).collect())
        }
        Value::Object(fields) => {
            let fields = fields.into_iter();
            Value::Object(fields.map(|(name, value)| (name, bounded(value, longest))).collect())
        }
        other => other,
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

//! The ring of facts between the data plane and whoever watches: bounded, never blocking the writer.
//!
//! Refuses to know who watches and what a fact means.

use serde::Serialize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

mod facts;
mod text;
pub use facts::{Facts, Outline};

/// Facts kept for a slow watcher; beyond it the older half is lost and counted.
const KEPT: usize = 65_536;
/// The same in bytes: what peers can put into a fact is bounded and not little.
const KEPT_BYTES: usize = 64 << 20;
/// After facts were handed out, the next ones are gathered for so long: a watcher that is woken for each of a storm's facts
/// costs more than what it does with them.
const GATHERING: Duration = Duration::from_millis(10);
/// The same after at least `STORM` were handed out at once.
const STORM_GATHERING: Duration = Duration::from_millis(25);
const STORM: usize = 16;

#[derive(Default)]
struct Ring {
    facts: Facts,
    lost: usize,
    is_closed: bool,
    /// Somebody waits for the first.
    is_awaited: bool,
    /// Many were handed out at once.
    is_storm: bool,
    /// Until when the next ones are gathered.
    gathers_until: Option<Instant>,
    /// Facts handed out so far.
    count: usize,
}

/// Facts on their way to whoever watches.
#[derive(Default)]
pub struct Events {
    ring: Mutex<Ring>,
    arrived: Condvar,
}

impl Events {
    /// Add a fact: `event`, `at` and `fields`, which is an object.
    pub fn push(&self, event: &str, fields: &impl Serialize) {
        self.push_about(Outline::default(), event, fields);
    }

    /// Add a fact that is sorted by `outline`.
    pub fn push_about(&self, outline: Outline<'_>, event: &str, fields: &impl Serialize) {
        text::with_fact(event, fields, |fact| {
            let mut ring = self.lock();
            if ring.facts.len() >= KEPT || ring.facts.size() >= KEPT_BYTES {
                ring.lost += ring.facts.halve();
            }
            ring.facts.push(event, outline, fact);
            if std::mem::take(&mut ring.is_awaited) {
                drop(ring);
                self.arrived.notify_one();
            }
        });
    }

    /// No more facts will come: nobody waits for one from here on.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_all();
    }

    /// How many facts whoever drained all of them had by now.
    pub fn count(&self) -> usize {
        let ring = self.lock();
        ring.count + ring.facts.len() + usize::from(ring.lost > 0)
    }

    /// Put all facts there are into `into`, in place of what is there, waiting up to `timeout` for the first, and a little for
    /// more when facts come one upon another.
    pub fn drain(&self, timeout: Duration, into: &mut Facts) {
        into.clear();
        let deadline = Instant::now() + timeout;
        let mut ring = self.lock();
        if ring.is_storm {
            // The first of the next ones would only wake the watcher for it to wait for the others.
            ring = self.gather(ring, timeout);
        }
        while ring.facts.is_empty() && !ring.is_closed {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                return;
            };
            ring.is_awaited = true;
            ring = self
                .arrived
                .wait_timeout(ring, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        ring = self.gather(ring, timeout);
        match std::mem::take(&mut ring.lost) {
            0 => std::mem::swap(&mut ring.facts, into),
            count => {
                text::with_fact("lost", &Lost { count }, |fact| {
                    into.push("lost", Outline::default(), fact)
                });
                into.append(&mut ring.facts);
            }
        }
        ring.count += into.len();
        ring.is_storm = into.len() >= STORM;
        let gathering = match ring.is_storm {
            true => STORM_GATHERING,
            false => GATHERING,
        };
        ring.gathers_until = Some(Instant::now() + gathering);
    }

    /// Let more come until it is time, for `most` at the most.
    fn gather<'a>(&'a self, ring: MutexGuard<'a, Ring>, most: Duration) -> MutexGuard<'a, Ring> {
        let left = ring
            .gathers_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
            .min(most);
        if left.is_zero() {
            return ring;
        }
        self.arrived
            .wait_timeout_while(ring, left, |ring| !ring.is_closed)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Facts that nobody fetched in time.
#[derive(Serialize)]
struct Lost {
    count: usize,
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
    use serde_json::json;

    /// The events that are there, waiting up to a minute for the first.
    fn drained(events: &Events) -> Vec<String> {
        let mut facts = Facts::default();
        events.drain(Duration::from_secs(60), &mut facts);
        facts.iter().map(|[.., event, _]| event.to_owned()).collect()
    }

    #[test]
    fn facts_that_come_one_upon_another_are_handed_out_together() {
        let events = Events::default();
        events.push("first", &json!({}));
        assert_eq!(drained(&events), ["first"]);
        events.push("second", &json!({}));
        events.push("third", &json!({}));
        assert_eq!(drained(&events), ["second", "third"]);
        let mut none = Facts::default();
        events.drain(Duration::ZERO, &mut none);
        assert!(none.is_empty());
        assert_eq!(events.count(), 3);
        events.push("fourth", &json!({}));
        assert_eq!(events.count(), 4);
    }

    #[test]
    fn after_many_come_more_each_in_its_order_and_the_end_does_not_wait() {
        let events = Events::default();
        for number in 0..STORM {
            events.push(&number.to_string(), &json!({}));
        }
        assert_eq!(drained(&events).len(), STORM);
        events.push("one", &json!({}));
        assert_eq!(drained(&events), ["one"]);
        events.push("last", &json!({}));
        events.close();
        assert_eq!(drained(&events), ["last"]);
        assert!(
            drained(&events).is_empty(),
            "who waits for what cannot come is told at once"
        );
    }

    #[test]
    fn who_waits_is_woken_by_the_first_and_by_the_end() {
        let events = Events::default();
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| (drained(&events), drained(&events)));
            while !events.lock().is_awaited {
                std::thread::yield_now();
            }
            events.push("first", &json!({}));
            while !events.lock().is_awaited {
                std::thread::yield_now();
            }
            events.close();
            assert_eq!(watcher.join().unwrap(), (vec!["first".to_owned()], vec![]));
        });
    }

    #[test]
    fn facts_of_many_bytes_are_fewer() {
        let events = Events::default();
        let text = "x".repeat(text::LONGEST_TEXT);
        let long = json!(std::iter::repeat_n(text, 64).collect::<Vec<_>>());
        let each = serde_json::to_string(&long).unwrap().len();
        let count = 2 * KEPT_BYTES / each;
        assert!(count < KEPT);
        for _ in 0..count {
            events.push("long", &json!({ "texts": long }));
        }
        assert!(events.lock().facts.size() <= KEPT_BYTES + 2 * each);
        let lost = events.lock().lost;
        assert_eq!(events.lock().facts.len() + lost, count);
        assert!(lost > 0);
    }

    #[test]
    fn what_is_beyond_the_bound_is_lost_from_the_oldest_and_counted() {
        let events = Events::default();
        for number in 0..=KEPT {
            events.push(&number.to_string(), &json!({}));
        }
        assert_eq!(events.count(), KEPT / 2 + 2);
        let mut facts = Facts::default();
        events.drain(Duration::ZERO, &mut facts);
        let mut found = facts.iter();
        let [.., name, lost] = found.next().unwrap();
        let lost: serde_json::Value = serde_json::from_str(lost).unwrap();
        assert_eq!((name, lost["count"].as_u64()), ("lost", Some(KEPT as u64 / 2)));
        let rest: Vec<_> = found.map(|[.., event, _]| event.parse::<usize>().unwrap()).collect();
        assert_eq!(rest, (KEPT / 2..=KEPT).collect::<Vec<_>>());
        assert_eq!(events.count(), KEPT / 2 + 2);
    }
}

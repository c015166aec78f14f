//! A broker's life as a function of a number: change `i` is always the same, so that a state found on disk tells how far it came.
//!
//! Refuses to know what happens to the process.

use crate::model::Model;
use crate::place::{delivery, receiver};
use sealmq_store::sqlite::Handle;
use sealmq_store::{Body, Change, Delivery, Entry, Log, Order, Origin, Receiver, Seq, SessionId, Urgency};

/// Every fourth change says where the script is.
const MARKER: &str = "script/at";

/// Make change `i`; tell the log or the model.
fn change(i: u64, mut tell: impl FnMut(Entry<'_>)) {
    let payload = vec![i as u8; if i % 29 == 0 { 3000 } else { i as usize % 100 }];
    let session = |n: u64| SessionId(1 + n % 5);
    match i {
        0..5 => tell(Entry::Change(Change::Begin {
            session: session(i),
            client_id: &format!("client-{i}"),
            device: None,
            expiry_s: 3600,
        })),
        _ if i % 4 == 0 => {
            let marker = i.to_string();
            let body = Body {
                topic: MARKER,
                retain: true,
                ..delivery(marker.as_bytes()).body
            };
            tell(Entry::Change(Change::Retain { body }));
        }
        _ if i % 4 == 1 => {
            let fan_out = if i % 8 == 1 { 1 } else { 4 };
            let receivers: Vec<Receiver<'_>> = (0..fan_out).map(|n| receiver(session(i + n).0, i)).collect();
            let origin = Origin::Received {
                session: session(i),
                packet_id: (i % 1000) as u16,
            };
            tell(Entry::Delivery(
                Delivery {
                    origin,
                    body: delivery(&payload).body,
                },
                receivers,
            ));
        }
        _ if i % 4 == 2 => tell(Entry::Change(Change::Completed {
            session: session(i - 1),
            packet_id: (i % 1000) as u16 - 1,
        })),
        // Of four receivers one is left behind, so that something stays.
        _ => {
            let before = if i > 50 { i - 42 } else { i - 2 };
            for n in 0..3 {
                tell(Entry::Change(Change::Done {
                    session: session(before + n),
                    order: Order(before),
                }));
            }
        }
    }
}

/// The state after changes `0..end`.
pub fn model_after(end: u64) -> Model {
    let mut model = Model::default();
    (0..end).for_each(|i| change(i, |entry| model.apply(&entry)));
    model
}

/// Say changes `from..to` to a log; the place of each. Several entries of one change are told one by one.
pub fn say(log: &mut Handle, from: u64, to: u64, mut said: impl FnMut(u64, Seq)) {
    for i in from..to {
        let mut last = Seq(0);
        change(i, |entry| match entry {
            // As `done` says it of a message whose batch is gone; here its place is wanted.
            Entry::Change(change @ Change::Done { .. }) => last = log.append(&change, Urgency::Lazy),
            Entry::Change(change) => last = log.append(&change, Urgency::Sync),
            Entry::Delivery(delivery, mut receivers) => last = log.deliver(&delivery, &mut receivers, Urgency::Sync),
        });
        said(i, last);
    }
}

/// How many changes a state has seen, when it is that of a prefix; at least `safe`.
pub fn changes_in(found: &Model, safe: u64) -> u64 {
    let at = found
        .retained
        .get(MARKER)
        .map_or(0, |marker| String::from_utf8_lossy(&marker.payload).parse().unwrap());
    let mut nearest = Model::default();
    // Of the three entries of the last kind some may be missing: they are changes of their own.
    for end in at.max(safe)..=at.max(safe) + 5 {
        let model = model_after(end);
        if model == *found {
            return end;
        }
        let mut partial = model;
        let (mut is_found, mut is_whole) = (false, false);
        change(end, |entry| {
            partial.apply(&entry);
            is_whole = partial == *found;
            is_found |= is_whole;
        });
        // What is there in part is said again as a whole: the rest of it would be missing for good.
        if is_found {
            return end + u64::from(is_whole);
        }
        nearest = partial;
    }
    panic!(
        "no prefix of at least {safe}: marker {at}, {} messages, expected about {}",
        found.queue.len(),
        nearest.queue.len()
    );
}

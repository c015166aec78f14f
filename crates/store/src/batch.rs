//! Changes on their way to the disk: appended at the end, taken all at once, and a receiver that is done before that taken
//! back out.
//!
//! Refuses to know when a batch is taken and what becomes of it.

use crate::change::{Change, Delivery, Entry, Receiver};
use crate::wire::{Damaged, Reader, put_change, put_delivery};
use crate::{Seq, Urgency};
use alloc::vec::Vec;

/// Where a receiver stands in a batch that may still be open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    batch: u32,
    offset: u32,
}

impl Slot {
    /// In batch number `batch` (from 1). A place that does not fit counts as no place.
    pub(crate) fn at(batch: u32, offset: usize) -> Slot {
        u32::try_from(offset).map_or(Slot::default(), |offset| Slot { batch, offset })
    }
}

/// Changes that will become safe together.
#[derive(Debug)]
pub struct Batch {
    number: u32,
    bytes: Vec<u8>,
    last: Seq,
    urgency: Urgency,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch {
            number: 1,
            bytes: Vec::new(),
            last: Seq(0),
            urgency: Urgency::Lazy,
        }
    }
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of the changes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The place of the last change.
    pub fn last(&self) -> Seq {
        self.last
    }

    /// The most urgent of the changes.
    pub fn urgency(&self) -> Urgency {
        self.urgency
    }

    pub fn append(&mut self, change: &Change<'_>, urgency: Urgency) -> Seq {
        put_change(&mut self.bytes, change);
        self.step(urgency)
    }

    pub fn deliver(&mut self, delivery: &Delivery<'_>, receivers: &mut [Receiver<'_>], urgency: Urgency) -> Seq {
        put_delivery(&mut self.bytes, self.number, delivery, receivers);
        self.step(urgency)
    }

    /// Take a receiver back out; `false` when its batch is gone already.
    pub fn cancel(&mut self, slot: Slot) -> bool {
        if slot.batch != self.number {
            return false;
        }
        match self.bytes.get_mut(slot.offset as usize) {
            Some(is_waiting) => {
                *is_waiting = 0;
                true
            }
            None => false,
        }
    }

    /// Everything so far; the batch goes on empty under a new number, in the memory of `spare`.
    pub fn take(&mut self, spare: Vec<u8>) -> Batch {
        let mut spare = spare;
        spare.clear();
        // Numbers come again after four thousand million batches; a slot lives for one.
        let number = self.number.wrapping_add(1).max(1);
        let next = Batch {
            number,
            bytes: spare,
            last: self.last,
            urgency: Urgency::Lazy,
        };
        core::mem::replace(self, next)
    }

    /// The memory of the batch, for another one.
    pub fn into_memory(self) -> Vec<u8> {
        self.bytes
    }

    /// The changes in their order.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry<'_>, Damaged>> {
        let mut reader = Reader(&self.bytes);
        let mut is_broken = false;
        core::iter::from_fn(move || {
            if is_broken || reader.0.is_empty() {
                return None;
            }
            let entry = reader.entry();
            is_broken = entry.is_err();
            Some(entry)
        })
    }

    fn step(&mut self, urgency: Urgency) -> Seq {
        self.urgency = self.urgency.max(urgency);
        self.last.0 += 1;
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Body, Order, Origin, SessionId, StoredWill};
    use alloc::borrow::Cow;
    use alloc::vec;

    fn body() -> Body<'static> {
        Body {
            topic: "a/b",
            properties: &[1, 0],
            payload: b"payload",
            expires_at: Some(0),
            qos: 2,
            retain: true,
        }
    }

    fn every_change() -> Vec<Change<'static>> {
        let session = SessionId(300);
        let will = StoredWill {
            body: Body {
                expires_at: None,
                ..body()
            },
            delay_s: 7,
            expiry_s: Some(u32::MAX),
        };
        vec![
            Change::Begin {
                session,
                client_id: "client",
                device: None,
                expiry_s: u32::MAX,
            },
            Change::Begin {
                session,
                client_id: "client",
                device: Some("device"),
                expiry_s: 0,
            },
            Change::Attach { session, expiry_s: 1 },
            Change::Detach {
                session,
                at: u64::MAX,
                expiry_s: 2,
                sent: Order(9),
            },
            Change::End { session },
            Change::Subscribe {
                session,
                filter: "$share/g/+/#",
                options: 0x2d,
                identifier: 268_435_455,
            },
            Change::Unsubscribe { session, filter: "+" },
            Change::Owe { session, filter: "+/#" },
            Change::Paid { session, filter: "#" },
            Change::Release {
                session,
                order: Order(1 << 40),
            },
            Change::Done {
                session,
                order: Order(0),
            },
            Change::Completed {
                session,
                packet_id: u16::MAX,
            },
            Change::Will {
                session,
                client_id: "client",
                will,
            },
            Change::WillGone { session },
            Change::Retain { body: body() },
            Change::Unretain { topic: "a/b" },
        ]
    }

    fn receiver(session: u64, order: u64) -> Receiver<'static> {
        Receiver {
            session: SessionId(session),
            order: Order(order),
            qos: 1,
            retain: false,
            identifiers: Cow::Owned(vec![1, 128]),
            slot: Slot::default(),
        }
    }

    #[test]
    fn what_goes_in_comes_out_in_its_order() {
        let mut batch = Batch::default();
        for (at, change) in (1..).zip(every_change()) {
            assert_eq!(batch.append(&change, Urgency::Lazy), Seq(at));
        }
        let delivery = Delivery {
            origin: Origin::Received {
                session: SessionId(1),
                packet_id: 2,
            },
            body: body(),
        };
        let mut receivers = vec![receiver(1, 2), receiver(3, 4)];
        batch.deliver(&delivery, &mut receivers, Urgency::Sync);
        assert_eq!(batch.urgency(), Urgency::Sync);
        let found: Vec<_> = batch.entries().map(Result::unwrap).collect();
        let mut expected: Vec<_> = every_change().into_iter().map(Entry::Change).collect();
        for receiver in &mut receivers {
            receiver.slot = Slot::default();
        }
        expected.push(Entry::Delivery(delivery, receivers));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_receiver_that_is_done_in_time_leaves_nothing() {
        let mut batch = Batch::default();
        let delivery = Delivery {
            origin: Origin::Nothing,
            body: body(),
        };
        let mut receivers = vec![receiver(1, 2), receiver(3, 4)];
        batch.deliver(&delivery, &mut receivers, Urgency::Sync);
        let slot = receivers.first().unwrap().slot;
        assert!(batch.cancel(slot));
        let taken = batch.take(Vec::new());
        assert!(!batch.cancel(slot), "its batch is under way");
        assert!(!batch.cancel(Slot::default()));
        let Some(Ok(Entry::Delivery(_, left))) = taken.entries().next() else {
            panic!("the delivery is there");
        };
        assert_eq!(left.iter().map(|r| r.session).collect::<Vec<_>>(), [SessionId(3)]);
        assert_eq!(
            batch.append(&Change::End { session: SessionId(1) }, Urgency::Os),
            Seq(2)
        );
        assert_eq!((taken.last(), batch.last()), (Seq(1), Seq(2)));
    }

    #[test]
    fn damage_is_an_error_at_every_length() {
        let mut batch = Batch::default();
        for change in every_change() {
            batch.append(&change, Urgency::Lazy);
        }
        let mut receivers = vec![receiver(1, 2)];
        let delivery = Delivery {
            origin: Origin::Will { session: SessionId(1) },
            body: body(),
        };
        batch.deliver(&delivery, &mut receivers, Urgency::Lazy);
        let whole = batch.entries().count();
        for length in 0..batch.bytes.len() {
            let cut = Batch {
                number: 1,
                bytes: batch.bytes.get(..length).unwrap().to_vec(),
                last: Seq(0),
                urgency: Urgency::Lazy,
            };
            let good = cut.entries().filter(Result::is_ok).count();
            assert!(good < whole);
            assert!(cut.entries().filter(Result::is_err).count() <= 1);
        }
    }
}

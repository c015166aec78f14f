//! The packet identifiers of QoS 2 messages that a client has sent and not released [MQTT-4.3.3-10].
//!
//! Refuses to know the messages. Identifiers come and go in rows, so that they are bits of words; only what the log knows, or
//! is still to know, has an entry of its own.

use crate::memory::{Memory, Share};
use alloc::vec::Vec;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sealmq_store::Seq;

/// A QoS 2 message received and not yet released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// When this is safe, PUBREC may leave.
    pub seq: Seq,
    /// The log knows of it.
    pub is_kept: bool,
}

/// 64 identifiers side by side; at least one of them is in use.
#[derive(Debug)]
struct Row {
    number: u16,
    used: u64,
}

#[derive(Debug)]
pub(crate) struct Inbound {
    /// By number.
    rows: Vec<Row>,
    /// Where the last identifier was: the next one is mostly beside it.
    last: usize,
    count: usize,
    /// Those that are more than an identifier.
    told: HashMap<u16, Received, FixedState>,
    /// What those take; the bits of all the others are some KiB at most.
    share: Share,
}

fn place(packet_id: u16) -> (u16, u64) {
    (packet_id >> 6, 1 << (packet_id & 63))
}

impl Inbound {
    /// What an identifier takes that is more than one: an entry and its byte of the table.
    pub const ENTRY_BYTES: u64 = 1 + core::mem::size_of::<(u16, Received)>() as u64;

    pub fn new(memory: &Memory) -> Inbound {
        Inbound {
            rows: Vec::new(),
            last: 0,
            count: 0,
            told: HashMap::with_hasher(FixedState::with_seed(0)),
            share: memory.share(0),
        }
    }

    /// Bytes of what is more than an identifier.
    pub fn bytes(&self) -> u64 {
        self.share.bytes()
    }

    fn weigh(&mut self) {
        if self.told.is_empty() && self.told.capacity() > 64 {
            self.told = HashMap::with_hasher(FixedState::with_seed(0));
        }
        self.share.set(self.told.capacity() as u64 * Inbound::ENTRY_BYTES);
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn get(&self, packet_id: u16) -> Option<Received> {
        let (number, bit) = place(packet_id);
        let at = self.find(number).ok()?;
        self.rows.get(at).filter(|row| row.used & bit != 0)?;
        Some(self.told.get(&packet_id).copied().unwrap_or_default())
    }

    #[inline]
    fn find(&self, number: u16) -> Result<usize, usize> {
        if self.rows.get(self.last).is_some_and(|row| row.number == number) {
            return Ok(self.last);
        }
        self.rows.binary_search_by_key(&number, |row| row.number)
    }

    /// Take an identifier that nothing more is to be known of than that it is in use; whether it was free.
    #[inline]
    pub fn take(&mut self, packet_id: u16) -> bool {
        let (number, bit) = place(packet_id);
        let at = self.find(number).unwrap_or_else(|at| {
            self.rows.insert(at, Row { number, used: 0 });
            at
        });
        self.last = at;
        let Some(row) = self.rows.get_mut(at).filter(|row| row.used & bit == 0) else {
            return false;
        };
        row.used |= bit;
        self.count += 1;
        true
    }

    pub fn insert(&mut self, packet_id: u16, received: Received) {
        self.take(packet_id);
        if received == Received::default() {
            self.told.remove(&packet_id);
        } else {
            self.told.insert(packet_id, received);
        }
        self.weigh();
    }

    /// The identifier is free again, unless there is more to it; whether it is.
    #[inline]
    pub fn give_back(&mut self, packet_id: u16) -> bool {
        (self.told.is_empty() || !self.told.contains_key(&packet_id)) && self.free(packet_id)
    }

    /// The identifier is free again. `None` when it was not in use.
    pub fn remove(&mut self, packet_id: u16) -> Option<Received> {
        let received = self.told.remove(&packet_id).unwrap_or_default();
        self.weigh();
        self.free(packet_id).then_some(received)
    }

    #[inline]
    fn free(&mut self, packet_id: u16) -> bool {
        let (number, bit) = place(packet_id);
        let Ok(at) = self.find(number) else { return false };
        self.last = at;
        let Some(row) = self.rows.get_mut(at).filter(|row| row.used & bit != 0) else {
            return false;
        };
        row.used &= !bit;
        self.count -= 1;
        if row.used == 0 {
            self.rows.remove(at);
        }
        true
    }

    /// Entries it has memory for.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.rows.capacity() + self.told.capacity()
    }

    /// When it is empty it keeps no memory.
    pub fn rest(&mut self) {
        if self.is_empty() {
            *self = Inbound::new(self.share.memory());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    /// The same numbers on every machine, most of them near each other.
    fn identifiers() -> impl Iterator<Item = u16> {
        let mut state = 1u32;
        core::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let spread = if state & 0x0100 == 0 { 200 } else { 65_535 };
            ((state >> 12) % spread) as u16 + 1
        })
    }

    #[test]
    fn it_is_a_map_from_identifiers() {
        let memory = Memory::new(1 << 30);
        let (mut inbound, mut map) = (Inbound::new(&memory), BTreeMap::new());
        for (step, id) in identifiers().take(50_000).enumerate() {
            let more = Received {
                seq: Seq(u64::from(id)),
                is_kept: id % 2 == 0,
            };
            match step % 5 {
                0 => {
                    inbound.insert(id, more);
                    map.insert(id, more);
                }
                1 | 2 => {
                    let is_free = !map.contains_key(&id);
                    assert_eq!(inbound.take(id), is_free);
                    map.entry(id).or_insert_with(Received::default);
                }
                3 => assert_eq!(inbound.remove(id), map.remove(&id)),
                _ => {
                    let is_plain = map.get(&id) == Some(&Received::default());
                    assert_eq!(inbound.give_back(id), is_plain);
                    if is_plain {
                        map.remove(&id);
                    }
                }
            }
            assert_eq!((inbound.len(), inbound.get(id)), (map.len(), map.get(&id).copied()));
            if step % 100 == 0 {
                let more = map.values().filter(|&&received| received != Received::default());
                assert!(inbound.bytes() >= more.count() as u64 * Inbound::ENTRY_BYTES);
                assert_eq!(memory.used(), inbound.bytes());
            }
        }
        for id in 0..=u16::MAX {
            assert_eq!(inbound.get(id), map.get(&id).copied());
            assert_eq!(inbound.remove(id), map.remove(&id));
        }
        assert!(inbound.is_empty() && inbound.rows.is_empty() && inbound.told.is_empty());
        assert!(memory.used() <= 64 * Inbound::ENTRY_BYTES);
    }

    #[test]
    fn empty_it_keeps_no_memory() {
        let mut inbound = Inbound::new(&Memory::new(1 << 30));
        (1..=1000).for_each(|id| assert!(inbound.take(id)));
        inbound.insert(
            2000,
            Received {
                seq: Seq(1),
                is_kept: true,
            },
        );
        inbound.rest();
        assert_eq!(inbound.len(), 1001, "what is in use stays");
        assert_eq!((1..=2000).filter_map(|id| inbound.remove(id)).count(), 1001);
        inbound.rest();
        assert_eq!(inbound.capacity(), 0);
    }
}

//! What a seed decides once: the broker's limits, how it remembers, how long the history is.
//!
//! Refuses to know what happens in it.

use crate::dice::Dice;
use crate::harness::quiet;
use sealmq_engine::Limits;

/// Where the broker remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Memory,
    /// A log, and a disk that is done at once.
    Quick,
    /// A disk that is as far as it is.
    Lagging,
    /// The same, and the power goes now and then.
    Crashing,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub store: Store,
    pub limits: Limits,
    pub players: usize,
    pub steps: usize,
    /// Whether several packets reach the engine in one call.
    pub has_batches: bool,
}

/// Seconds; every session ends after so long, so that a history has an end.
pub const LONGEST_EXPIRY_S: u32 = 1000;

impl Plan {
    pub fn new(dice: &mut Dice) -> Plan {
        let store = dice.pick(&[
            Store::Memory,
            Store::Memory,
            Store::Quick,
            Store::Lagging,
            Store::Crashing,
            Store::Crashing,
        ]);
        let has_small_queues = store != Store::Crashing && dice.chance(25);
        let has_batches = !has_small_queues && dice.chance(40);
        let mut limits = Limits {
            max_session_expiry_s: LONGEST_EXPIRY_S,
            max_packet_size: 64 << 10,
            receive_maximum: dice.pick(&[3, 8, 20]),
            topic_alias_maximum: dice.pick(&[0, 2, 8]),
            max_inflight: dice.pick(&[1, 3, 16]),
            max_inflight_bytes: dice.pick(&[300, 16 << 20, 16 << 20]),
            max_outbox_bytes: dice.pick(&[150, 600, 1 << 20]),
            ..quiet()
        };
        if has_small_queues {
            limits.max_queued_messages = dice.pick(&[2, 6]);
            limits.reject_when_full = dice.chance(60);
        }
        Plan {
            store,
            limits,
            players: 2 + dice.below(4),
            steps: 60 + dice.below(240),
            has_batches,
        }
    }

    pub fn keeps(&self) -> bool {
        self.store != Store::Memory
    }
}

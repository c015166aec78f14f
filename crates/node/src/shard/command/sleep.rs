//! Whether a shard sleeps, and who wakes it: one of those who give it something to do, and nobody while it is awake.
//!
//! Refuses to know what there is to do and how one is woken.
//!
//! Calling order of the one who sleeps: `begin`, look for something to do, wait only if there was nothing, `end`, look again.
//! Of the others: give it something to do, then ask `is_over`, and wake it if so.
//!
//! All three are read-modify-write, and so each of them sees what whoever came before it in their one order had done until
//! then. Whoever gave something before `begin` is therefore seen by the look behind it; whoever did so after `begin` finds the
//! sleep begun and ends it, or comes behind somebody who did and is seen by the look behind `end`, or behind the next `begin`.
//! A plain store in `end` would cut that chain: what was given by the second of two who come at once could be overlooked.

use super::atomic::{AtomicBool, Ordering};

#[derive(Default)]
pub(super) struct Sleep {
    is_asleep: AtomicBool,
}

impl Sleep {
    /// Whoever gives something to do from here on ends it.
    pub fn begin(&self) {
        self.is_asleep.swap(true, Ordering::AcqRel);
    }

    /// Awake: nobody need wake it.
    pub fn end(&self) {
        self.is_asleep.swap(false, Ordering::AcqRel);
    }

    /// Whether it is on the caller to wake it: it slept, and nobody else has been told the same.
    pub fn is_over(&self) -> bool {
        self.is_asleep.swap(false, Ordering::AcqRel)
    }
}

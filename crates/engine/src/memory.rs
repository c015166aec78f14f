//! What peers make the broker hold, in bytes, and how much of what is left one of them may take.
//!
//! Refuses to know what is held. Whoever may have a share of the memory that is still free, never a fixed part of all of it,
//! leaves room for those who come later: the more hogs there are, the less each of them gets, and those who hold little
//! never notice (the "dynamic threshold" of shared packet buffers, Choudhury and Hahne 1998).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

/// One holder may have as much as this part of what is left.
const PART: u64 = 4;

/// The memory of one engine. Clones see the same figures; only the engine's thread changes them.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Figures>);

#[derive(Debug)]
struct Figures {
    used: AtomicU64,
    bound: AtomicU64,
}

impl Memory {
    pub(crate) fn new(bound: u64) -> Memory {
        Memory(Arc::new(Figures {
            used: AtomicU64::new(0),
            bound: AtomicU64::new(bound),
        }))
    }

    /// Bytes held for peers: connections, sessions, messages, what waits for networks.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be held.
    pub fn bound(&self) -> u64 {
        self.0.bound.load(Ordering::Relaxed)
    }

    pub fn free(&self) -> u64 {
        self.bound().saturating_sub(self.used())
    }

    /// Whether somebody who holds `held` bytes may take `more`.
    #[inline]
    pub fn allows(&self, held: u64, more: u64) -> bool {
        held.saturating_add(more) <= self.free() / PART
    }

    pub(crate) fn set_bound(&self, bound: u64) {
        self.0.bound.store(bound, Ordering::Relaxed);
    }

    pub(crate) fn share(&self, bytes: u64) -> Share {
        let mut share = Share {
            memory: self.clone(),
            bytes: 0,
        };
        share.set(bytes);
        share
    }
}

/// Bytes that one thing holds; they are free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    memory: Memory,
    bytes: u64,
}

impl Share {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// It holds this much now.
    #[inline]
    pub fn set(&mut self, bytes: u64) {
        // One thread writes, so that a load and a store do, at a fraction of an atomic addition.
        let used = &self.memory.0.used;
        let others = used.load(Ordering::Relaxed).wrapping_sub(self.bytes);
        used.store(others.wrapping_add(bytes), Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn what_is_dropped_is_free_again() {
        let memory = Memory::new(1000);
        let mut share = memory.share(100);
        let other = memory.share(50);
        share.set(30);
        assert_eq!((memory.used(), memory.free()), (80, 920));
        drop(share);
        drop(other);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn hogs_leave_room_for_whoever_comes_later() {
        let memory = Memory::new(1_000_000);
        let mut hogs: Vec<Share> = (0..100).map(|_| memory.share(0)).collect();
        for _ in 0..20_000 {
            for hog in &mut hogs {
                if memory.allows(hog.bytes(), 100) {
                    hog.set(hog.bytes() + 100);
                }
            }
        }
        assert!(memory.allows(0, 5_000), "{} bytes are free", memory.free());
        assert!(memory.used() > 900_000, "what there is, is used: {}", memory.used());
    }

    #[test]
    fn a_bound_that_shrinks_below_what_is_used_lets_nobody_take_more() {
        let memory = Memory::new(1000);
        let _share = memory.share(500);
        memory.set_bound(100);
        assert_eq!(memory.free(), 0);
        assert!(!memory.allows(0, 1));
    }
}

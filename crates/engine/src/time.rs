//! The engine's clock: milliseconds handed in by the caller, so that a test may own time.

use core::ops::Add;

/// Milliseconds since some fixed moment; only differences mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// Milliseconds from `earlier` to `self`, 0 when the clock stood still.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `seconds` later.
    pub fn plus_seconds(self, seconds: u32) -> Millis {
        Millis(self.0.saturating_add(u64::from(seconds) * 1000))
    }

    /// Whole seconds left until `self`, rounded up; 0 when it has passed.
    pub fn seconds_after(self, now: Millis) -> u32 {
        u32::try_from(self.since(now).div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

impl Add<u64> for Millis {
    type Output = Millis;
    fn add(self, millis: u64) -> Millis {
        Millis(self.0.saturating_add(millis))
    }
}

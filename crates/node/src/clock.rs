//! The one clock of a node.
//!
//! Refuses to know what is timed.

use sealmq_engine::Millis;
use std::time::Instant;

/// The time of an engine: milliseconds since the Unix epoch as the wall clock had them at the start, and from there on a
/// clock that nobody sets. So what is written down means the same to the next process.
#[derive(Clone, Copy)]
pub struct Clock {
    began: Instant,
    epoch_ms: u64,
}

impl Clock {
    pub fn new() -> Clock {
        Clock {
            began: Instant::now(),
            epoch_ms: crate::event::now_ms(),
        }
    }

    pub fn now(&self) -> Millis {
        Millis(self.epoch_ms + self.began.elapsed().as_millis() as u64)
    }
}

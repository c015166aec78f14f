//! The events of a history in words, for whoever replays one.
//!
//! Refuses to know what is worth telling.

/// Nothing is written unless somebody listens: most histories are nobody's business.
pub struct Story {
    is_told: bool,
}

impl Story {
    pub fn silent() -> Story {
        Story { is_told: false }
    }

    pub fn aloud() -> Story {
        Story { is_told: true }
    }

    pub fn is_told(&self) -> bool {
        self.is_told
    }

    pub fn tell(&self, now: u64, line: &str) {
        println!("{:>9}.{:03}  {line}", now / 1000, now % 1000);
    }
}

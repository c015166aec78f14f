//! Figures of a store: what it holds, what it costs.
//!
//! Refuses to know who reads them.

use super::ledger::Counts;
use crate::Health;

/// What a store holds and has done since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub sessions: u64,
    /// Over all sessions; a message for three of them counts three times.
    pub queued_messages: u64,
    /// Of their topic names, properties and payloads.
    pub queued_bytes: u64,
    pub retained: u64,
    /// The file and its write-ahead log, as the file system counts them.
    pub file_bytes: u64,
    pub wal_bytes: u64,
    pub pages: u64,
    /// Pages of the file that hold nothing and are used before it grows.
    pub free_pages: u64,
    pub commits: u64,
    /// Commits that waited for the device.
    pub syncs: u64,
    /// Changes by what they have to survive.
    pub changes_lazy: u64,
    pub changes_os: u64,
    pub changes_sync: u64,
    /// Written to the log, and from there to the file.
    pub written_bytes: u64,
    /// Microseconds from the moment a batch was taken until it was safe: of every other commit no more than this, of 99 in a
    /// hundred, of all. Rounded up by at most a quarter.
    pub commit_p50_us: u64,
    pub commit_p99_us: u64,
    pub commit_max_us: u64,
    pub health: Health,
}

/// The writer's part of [`Stats`].
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub counts: Counts,
    pub pages: u64,
    pub free_pages: u64,
    pub commits: u64,
    pub syncs: u64,
    pub written_bytes: u64,
    pub commit_us: Histogram,
}

/// Counts in four steps for each doubling.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    buckets: [u64; 256],
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: [0; 256],
            count: 0,
            max: 0,
        }
    }
}

impl Histogram {
    pub fn add(&mut self, value: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket_of(value)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// The value that `percent` in a hundred do not exceed; 0 when there is none.
    pub fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if rank > 0 && seen >= rank {
                return top_of(at).min(self.max);
            }
        }
        self.max
    }

    pub fn max(&self) -> u64 {
        self.max
    }
}

fn bucket_of(value: u64) -> usize {
    let value = value.max(4);
    let octave = value.ilog2();
    (octave * 4 + (value >> (octave - 2) & 3) as u32) as usize
}

/// The largest value of a bucket.
fn top_of(bucket: usize) -> u64 {
    let (octave, step) = (bucket / 4, bucket as u64 % 4);
    if octave < 2 {
        return 4;
    }
    ((4 + step + 1) << (octave - 2)).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_quarter() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(50), 0);
        for value in 1..=1000 {
            histogram.add(value);
        }
        for (percent, exact) in [(1, 10), (50, 500), (99, 990), (100, 1000)] {
            let found = histogram.percentile(percent);
            assert!((exact..=exact * 5 / 4).contains(&found), "{percent}: {found}");
        }
        assert_eq!(histogram.max(), 1000);
    }

    #[test]
    fn every_value_has_a_bucket_that_reaches_it() {
        for value in (0..64).map(|shift| 1u64 << shift).chain([0, 3, 5, 1023, u64::MAX]) {
            assert!(top_of(bucket_of(value)) >= value);
        }
    }
}

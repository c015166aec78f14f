//! A log whose watermark is moved by hand: the disk of a test.
//!
//! Refuses to know what the records mean.

use sealmq_store::{Keeping, Log, Seq, Shard, Watermark};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Disk {
    records: Vec<Vec<u8>>,
    safe: u64,
}

/// Both ends of the log: one goes into the engine, a clone stays with the test.
#[derive(Clone, Default)]
pub struct HandLog {
    disk: Arc<Mutex<Disk>>,
}

impl HandLog {
    /// The number of records appended.
    pub fn appended(&self) -> u64 {
        self.disk.lock().unwrap().records.len() as u64
    }

    /// Everything up to the record number `safe` is on disk now.
    pub fn sync_to(&self, safe: u64) {
        let mut disk = self.disk.lock().unwrap();
        assert!(safe >= disk.safe, "a watermark never goes back");
        disk.safe = safe;
    }

    /// Everything appended is on disk now.
    pub fn sync(&self) {
        self.sync_to(self.appended());
    }
}

impl Log for HandLog {
    fn keeping(&self) -> Keeping {
        Keeping::Records
    }

    fn append(&mut self, _shard: Shard, record: &[u8]) -> Seq {
        let mut disk = self.disk.lock().unwrap();
        disk.records.push(record.to_vec());
        Seq(disk.records.len() as u64)
    }

    fn watermark(&self, _shard: Shard) -> Watermark {
        Watermark(Seq(self.disk.lock().unwrap().safe))
    }

    fn tail(&self, _shard: Shard, from: Seq, visit: &mut dyn FnMut(Seq, &[u8])) {
        let disk = self.disk.lock().unwrap();
        for (seq, record) in (1..).zip(&disk.records).filter(|(seq, _)| *seq > from.0) {
            visit(Seq(seq), record);
        }
    }
}

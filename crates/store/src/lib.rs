//! The seam between the broker and what survives it: records appended in order, a watermark that says which are safe.
//!
//! Refuses to know MQTT: a record is bytes, its layout belongs to the engine.
//!
//! # The contract of a [`Log`]
//! * **Order**: records of one shard get rising [`Seq`]s, in the order of the calls.
//! * **Durability**: once [`Log::watermark`] covers a `Seq`, that record and all before it in the shard survive what the
//!   log promises to survive. The watermark never goes back.
//! * **Acknowledgement**: what must not be acknowledged before it is safe asks the watermark for a [`Durable`] token;
//!   there is no other way to make one.
//! * **Replay**: [`Log::tail`] gives back every record that the log kept, in order.
#![forbid(unsafe_code)]

/// The place of a record in its shard; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(pub u64);

/// Which part of the broker a record belongs to: sessions are spread over shards by client identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shard(pub u16);

/// Everything up to a [`Seq`] is safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermark(pub Seq);

/// Proof that a record is safe; only a [`Watermark`] gives it.
#[derive(Debug)]
pub struct Durable(());

impl Watermark {
    /// A token when `seq` is covered.
    pub fn proves(self, seq: Seq) -> Option<Durable> {
        (seq <= self.0).then_some(Durable(()))
    }
}

/// Whether a log wants to see records at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// Records are kept: build them.
    Records,
    /// Nothing is kept: building a record would be work for nobody.
    Nothing,
}

/// An ordered log of records; see the module text for its duties.
pub trait Log: Send {
    fn keeping(&self) -> Keeping;

    /// Append one record. Returns at once; the record is safe when the watermark covers the returned place.
    fn append(&mut self, shard: Shard, record: &[u8]) -> Seq;

    fn watermark(&self, shard: Shard) -> Watermark;

    /// Visit the records of `shard` after `from`, oldest first.
    fn tail(&self, shard: Shard, from: Seq, visit: &mut dyn FnMut(Seq, &[u8]));
}

/// The log of a broker whose state lives in memory: keeps nothing, and therefore is never behind.
#[derive(Debug, Default)]
pub struct MemoryLog {
    last: u64,
}

impl Log for MemoryLog {
    fn keeping(&self) -> Keeping {
        Keeping::Nothing
    }

    fn append(&mut self, _shard: Shard, _record: &[u8]) -> Seq {
        self.last += 1;
        Seq(self.last)
    }

    fn watermark(&self, _shard: Shard) -> Watermark {
        Watermark(Seq(self.last))
    }

    fn tail(&self, _shard: Shard, _from: Seq, _visit: &mut dyn FnMut(Seq, &[u8])) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_log_is_never_behind_and_proves_nothing_it_was_not_given() {
        let mut log = MemoryLog::default();
        let seq = log.append(Shard(0), b"record");
        assert!(log.watermark(Shard(0)).proves(seq).is_some());
        assert!(log.watermark(Shard(0)).proves(Seq(seq.0 + 1)).is_none());
    }
}

//! The seam between the broker and what survives it: changes appended in order, a watermark that says which are safe.
//!
//! Refuses to know MQTT's rules: it keeps sessions, messages and packet identifiers without asking what they are for.
//! The seam itself touches nothing but memory; with the feature `sqlite` the crate opens files, and no other crate of
//! the data plane does.
//!
//! # The contract of a [`Log`]
//! * **Order**: changes get rising [`Seq`]s, in the order of the calls. A later change never becomes safe before an
//!   earlier one.
//! * **Wholeness**: one [`Change`], and one [`Delivery`] with all its receivers and its [`Origin`], is safe entirely or not
//!   at all.
//! * **Durability**: once [`Log::watermark`] covers a `Seq`, that change and all before it survive what its [`Urgency`]
//!   promises. The watermark never goes back.
//! * **Acknowledgement**: what must not be acknowledged before it is safe asks the watermark for a [`Durable`] token;
//!   there is no other way to make one.
//! * **Crash**: what a reader finds after a crash is the result of a prefix of the changes, and that prefix reaches at
//!   least to the last watermark that anybody was shown.
//! * **Short lives**: a receiver that is [`Log::done`] before its delivery was cut into a batch leaves nothing behind.
//! * **Failure**: [`Health::Full`] keeps what it was given and goes on when there is room; after [`Health::Failed`] the
//!   watermark stands still for ever, because nobody knows what a disk did that has refused to sync.
//! * **Concurrency**: a handle belongs to one thread. Nothing here waits for the disk.
#![cfg_attr(not(any(feature = "sqlite", test)), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

extern crate alloc;

mod batch;
mod change;
mod page;
mod stored;
mod wire;

#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use batch::{Batch, Slot};
pub use change::{Body, Change, Delivery, Entry, Order, Origin, Receiver, SessionId, StoredWill};
pub use page::{Page, PageRequest, StoredMessage};
pub use stored::Stored;

use alloc::string::String;

/// The place of a change in the log; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(pub u64);

/// Everything up to a [`Seq`] is safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermark(pub Seq);

/// Proof that a change is safe; only a [`Watermark`] gives it.
#[derive(Debug)]
pub struct Durable(());

impl Watermark {
    /// A token when `seq` is covered.
    pub fn proves(self, seq: Seq) -> Option<Durable> {
        (seq <= self.0).then_some(Durable(()))
    }
}

/// What a change has to survive before the watermark covers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nobody waits for it: it goes to disk with what comes next, or after a while.
    #[default]
    Lazy,
    /// Handed to the operating system: survives the end of this process.
    Os,
    /// Synced to the device: survives the end of the machine's power.
    Sync,
}

/// Whether a log wants to see changes at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// Changes are kept: build them.
    Changes,
    /// Nothing is kept: building a change would be work for nobody.
    Nothing,
}

/// How the disk is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Good,
    /// No room for another message, by the disk's word or by the configured bound.
    Full,
    /// A write or a sync failed: nothing more is promised until a restart. The sentence says what the system said.
    Failed(String),
}

/// An ordered log of changes; see the module text for its duties.
pub trait Log: Send {
    fn keeping(&self) -> Keeping;

    fn health(&self) -> Health;

    /// Append one change. Returns at once; the change is safe when the watermark covers the returned place.
    fn append(&mut self, change: &Change<'_>, urgency: Urgency) -> Seq;

    /// Append one message for its receivers, the body once, and fill in each receiver's [`Receiver::slot`].
    fn deliver(&mut self, delivery: &Delivery<'_>, receivers: &mut [Receiver<'_>], urgency: Urgency) -> Seq;

    /// The receiver has it: nothing needs to be kept for `order` any more. Never forces a commit.
    fn done(&mut self, session: SessionId, order: Order, slot: Slot);

    fn watermark(&self) -> Watermark;

    /// Ask for a part of what waits on disk for a session; the answer comes by [`Log::take_page`].
    fn request_page(&mut self, request: PageRequest);

    /// An answer to [`Log::request_page`], if one has come.
    fn take_page(&mut self) -> Option<Page>;
}

/// The log of a broker whose state lives in memory: keeps nothing, and therefore is never behind.
#[derive(Debug, Default)]
pub struct MemoryLog;

impl Log for MemoryLog {
    fn keeping(&self) -> Keeping {
        Keeping::Nothing
    }

    fn health(&self) -> Health {
        Health::Good
    }

    fn append(&mut self, _change: &Change<'_>, _urgency: Urgency) -> Seq {
        Seq(0)
    }

    fn deliver(&mut self, _delivery: &Delivery<'_>, _receivers: &mut [Receiver<'_>], _urgency: Urgency) -> Seq {
        Seq(0)
    }

    fn done(&mut self, _session: SessionId, _order: Order, _slot: Slot) {}

    fn watermark(&self) -> Watermark {
        Watermark(Seq(0))
    }

    fn request_page(&mut self, _request: PageRequest) {}

    fn take_page(&mut self) -> Option<Page> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_proves_what_it_covers_and_nothing_else() {
        let watermark = Watermark(Seq(3));
        assert!(watermark.proves(Seq(3)).is_some());
        assert!(watermark.proves(Seq(4)).is_none());
        assert!(MemoryLog.watermark().proves(Seq(0)).is_some());
    }
}

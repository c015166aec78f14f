//! The broker's end of the store.
//!
//! Refuses to know files: everything it does is done in memory, and at once.

use super::inbox::Inbox;
use crate::{
    Change, Delivery, Health, Keeping, Log, Order, Page, PageRequest, Receiver, Seq, SessionId, Slot, Urgency,
    Watermark,
};
use std::sync::Arc;

/// A [`Log`] that ends in a file.
///
/// Nothing here is bounded by itself: what waits for the disk is bounded by what the broker lets in, and it lets nothing in
/// without acknowledging it, which waits for the watermark. Should 64 MiB wait all the same, the health is [`Health::Full`]
/// until they are written.
///
/// A page shows everything that was appended before it was asked for, and may show more than `as_of` says: orders tell. While
/// the health is not good a page shows what is in the file, so that a full store can be emptied.
pub struct Handle(pub(super) Arc<Inbox>);

impl Log for Handle {
    fn keeping(&self) -> Keeping {
        Keeping::Changes
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    fn append(&mut self, change: &Change<'_>, urgency: Urgency) -> Seq {
        self.0.put(urgency, |batch| batch.append(change, urgency))
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, receivers: &mut [Receiver<'_>], urgency: Urgency) -> Seq {
        self.0.put(urgency, |batch| batch.deliver(delivery, receivers, urgency))
    }

    fn done(&mut self, session: SessionId, order: Order, slot: Slot) {
        if !self.0.cancel(slot) {
            self.append(&Change::Done { session, order }, Urgency::Lazy);
        }
    }

    fn watermark(&self) -> Watermark {
        Watermark(self.0.watermark())
    }

    fn request_page(&mut self, request: PageRequest) {
        self.0.ask(request);
    }

    fn take_page(&mut self) -> Option<Page> {
        self.0.take_page()
    }
}

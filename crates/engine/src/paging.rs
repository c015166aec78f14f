//! What waits on disk for a session, read back in pages while it is connected and has room.
//!
//! Refuses to know how the log finds it.

use crate::engine::Engine;
use crate::memory::Memory;
use crate::message::{Content, Held, Message};
use crate::roster::Roster;
use crate::session::{Kept, Pending};
use crate::time::Millis;
use alloc::boxed::Box;
use sealmq_codec::QoS;
use sealmq_store::{Order, Page, PageRequest, Slot, StoredMessage};

/// The size of a page: a few milliseconds of sending, and what the queue holds in memory anyway.
const MESSAGES: u32 = 256;
const BYTES: u64 = 256 * 1024;

impl Roster {
    /// Ask for the next page of a session, if what it needs next is on disk.
    pub fn turn_page(&mut self, session_index: u32) {
        let Some(session) = self.sessions.get_mut(session_index as usize) else {
            return;
        };
        let is_free = !session.is_paging && !session.is_awaiting;
        let Some(spill) = session.spill().filter(|_| is_free && session.wants_page()) else {
            return;
        };
        session.is_paging = true;
        self.paging.insert(session.id, session_index);
        self.log.request_page(PageRequest {
            session: session.id,
            from: spill.from,
            max_messages: MESSAGES,
            max_bytes: BYTES,
        });
    }

    /// A page has come: its session, if it still wants it.
    fn take_in(&mut self, now: Millis, page: Page) -> Option<u32> {
        let &index = self.paging.get(&page.session)?;
        let session = self.sessions.get_mut(index as usize).filter(|s| s.id == page.session)?;
        // An answer to an earlier connection's question leaves this one's open.
        let spill = session.spill().filter(|spill| spill.from == page.from)?;
        self.paging.remove(&page.session);
        session.is_paging = false;
        let until = spill.until;
        let end = page.messages.last().map(|m| m.order);
        for stored in page.messages {
            let (order, is_released) = (stored.order, stored.is_released);
            let kept = Kept {
                seq: page.as_of,
                slot: Slot::default(),
            };
            let pending = restored(stored, kept, &self.memory);
            // [MQTT-3.3.2-5], [MQTT-4.3.3-7]: what the client may have already does not expire any more
            if !is_released && !session.may_have_sent(order) && pending.message.is_expired(now) {
                session.shrink_spill(pending.message.size());
                self.log.done(session.id, order, Slot::default());
                continue;
            }
            session.take_in(pending, is_released);
        }
        match end {
            _ if page.is_last && page.as_of >= until => session.advance_spill(None),
            Some(order) => session.advance_spill(Some(Order(order.0 + 1))),
            // What is to come is not safe yet.
            None if self.log.watermark().0 < until => self.await_log(index),
            None => {}
        }
        Some(index)
    }
}

impl Engine {
    /// Pages that have come: to their sessions, and on to the clients.
    pub(crate) fn handle_pages(&mut self, now: Millis) {
        while let Some(page) = self.roster.log.take_page() {
            if let Some(index) = self.roster.take_in(now, page) {
                self.pump(now, index);
            }
        }
    }
}

fn restored(stored: StoredMessage, kept: Kept, memory: &Memory) -> Pending {
    let qos = QoS::from_bits(stored.qos).unwrap_or(QoS::AtLeastOnce);
    let content = Content {
        topic: &stored.topic,
        properties: &stored.properties,
        payload: &stored.payload,
        expires_at: stored.expires_at.map(Millis),
        qos,
        retain: stored.retain,
    };
    Pending {
        message: Held::Alone(Box::new(Message::new(&content, memory))),
        qos,
        retain: stored.retain,
        identifiers: stored.identifiers.into(),
        order: stored.order,
        kept: Some(kept),
    }
}

//! What a session remembers between connections: subscriptions, what waits, what is in flight.
//!
//! Refuses to know connections beyond an index, and bytes on the wire.
//!
//! Messages of QoS 1 and 2 have an [`Order`], which rises, and from which the packet identifier follows: so a message keeps
//! its identifier over a restart without anybody writing it down. In order they are in flight, then in the queue in
//! memory, and, for a session that the log keeps, from some order on only on disk (the [`Spill`]).

use crate::delivery::IDENTIFIERS;
pub(crate) use crate::delivery::{Inflight, Kept, Over, Pending, Release, Sent, Spill, Stage};
use crate::feed::RetainedDue;
use crate::inbound::Inbound;
use crate::limits::Limits;
use crate::memory::{Memory, Share};
use crate::message::{Held, Message};
use crate::spares::Spares;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use sealmq_codec::QoS;
use sealmq_store::{Order, Seq, SessionId};

/// Messages of a session that is kept on disk which wait in memory as well, and their bytes; the rest is read in pages.
const MESSAGES_IN_MEMORY: usize = 256;
const BYTES_IN_MEMORY: u64 = 256 * 1024;
/// What a session takes besides what is counted; what a subscription takes besides its filter, which stands in the session
/// and in the tree.
const SESSION_BYTES: u64 = 1024;
const SUBSCRIPTION_BYTES: u64 = 256;

/// A will waiting for its connection to end badly.
#[derive(Debug)]
pub(crate) struct WillState {
    pub message: Message,
    pub delay_s: u32,
    /// Seconds of life of the message, counted from its publication.
    pub expiry_s: Option<u32>,
}

/// The budget of this session is used up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

#[derive(Debug)]
pub(crate) struct Session {
    pub client_id: Arc<str>,
    pub device: Option<Arc<str>>,
    /// Index of the connection, while there is one.
    pub conn: Option<u32>,
    /// Seconds the session outlives its connection; `u32::MAX` is for ever.
    pub expiry_s: u32,
    /// Tells this session from every other, now and in the log.
    pub id: SessionId,
    /// Rises when the session is attached or detached, so that an old timer knows it is stale.
    pub epoch: u64,
    /// The log knows of it.
    pub is_kept: bool,
    /// Filters as subscribed, `$share` prefix included; their options are in the tree.
    subscriptions: BTreeSet<Box<str>>,
    subscriptions_bytes: u64,
    pub will: Option<Box<WillState>>,
    pub inbound: Inbound,
    /// Subscriptions whose retained messages have not all been sent, in turn; at most one for each subscription.
    pub retained_due: VecDeque<RetainedDue>,
    /// In the engine's line of sessions to be fed.
    pub is_feeding: bool,
    /// In the list of sessions with something to do when the log has advanced.
    pub is_awaiting: bool,
    /// A page of the spill is on its way.
    pub is_paging: bool,
    queue: VecDeque<Pending>,
    queued_bytes: u64,
    inflight: VecDeque<Inflight>,
    inflight_bytes: u64,
    share: Share,
    spill: Option<Spill>,
    next: Order,
    /// Orders up to this may have reached the client.
    sent: Option<Order>,
}

impl Session {
    /// What a message takes in flight besides itself.
    pub const ENTRY_BYTES: u64 = core::mem::size_of::<Inflight>() as u64;

    pub fn new(client_id: Arc<str>, device: Option<Arc<str>>, id: SessionId, memory: &Memory) -> Session {
        Session {
            client_id,
            device,
            conn: None,
            expiry_s: 0,
            id,
            epoch: 0,
            is_kept: false,
            subscriptions: BTreeSet::new(),
            subscriptions_bytes: 0,
            will: None,
            inbound: Inbound::new(memory),
            retained_due: VecDeque::new(),
            is_feeding: false,
            is_awaiting: false,
            is_paging: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            share: memory.share(SESSION_BYTES),
            spill: None,
            next: Order(0),
            sent: None,
        }
    }

    // getters

    /// Messages that wait, in memory and on disk.
    pub fn queued(&self) -> usize {
        self.queue.len() + self.spill.map_or(0, |s| s.count as usize)
    }

    pub fn inflight(&self) -> usize {
        self.inflight.len()
    }

    /// Of those in flight, how many do not wait for something on disk. The others, which the log never had, must not keep
    /// what comes before them from being read: nothing would ever go on.
    pub fn inflight_before_spill(&self) -> usize {
        let before = |spill: Spill| self.inflight.partition_point(|f| f.order < spill.from);
        self.spill.map_or(self.inflight.len(), before)
    }

    pub fn subscriptions(&self) -> &BTreeSet<Box<str>> {
        &self.subscriptions
    }

    pub fn is_persistent(&self) -> bool {
        self.expiry_s > 0
    }

    pub fn spill(&self) -> Option<Spill> {
        self.spill
    }

    /// The highest order that may have reached the client.
    pub fn sent(&self) -> Order {
        self.sent.unwrap_or_default()
    }

    /// Whether `count` more messages of `size` bytes are more than the budget.
    pub fn is_full(&self, count: usize, size: u64, limits: &Limits) -> bool {
        let bytes = self.queued_bytes + self.spill.map_or(0, |s| s.bytes);
        self.queued() + count > limits.max_queued_messages as usize
            || bytes + count as u64 * size > limits.max_queued_bytes
    }

    /// Whether another message may be in flight: one may always be, more of them within their bytes.
    pub fn has_window_for(&self, size: u64, limits: &Limits) -> bool {
        self.inflight.is_empty() || self.inflight_bytes + size <= limits.max_inflight_bytes && self.has_memory_for(size)
    }

    /// How many new messages are sure to find the window of `window` open, when they are `bytes` for the budget of what is in
    /// flight and take no more than `cost` bytes of memory altogether, wherever it is held.
    pub fn sure_window(&self, window: usize, bytes: u64, cost: u64, limits: &Limits) -> usize {
        let held = self.queued_bytes + self.inflight_bytes;
        // Some of it is taken while the last of them still asks for a part of what is left.
        let is_sure = self.is_quiet()
            && self.inflight_bytes + bytes <= limits.max_inflight_bytes
            && self.share.memory().allows(held, 2 * cost);
        if !is_sure {
            return 0;
        }
        let since = self
            .inflight
            .front()
            .map_or(0, |oldest| self.next.0.saturating_sub(oldest.order.0));
        let identifiers = IDENTIFIERS.saturating_sub(since) as usize;
        window.saturating_sub(self.inflight.len()).min(identifiers)
    }

    /// Whether it holds little enough for another message of `size` bytes in memory.
    fn has_memory_for(&self, size: u64) -> bool {
        let held = self.queued_bytes + self.inflight_bytes;
        self.share.memory().allows(held, size + Session::ENTRY_BYTES)
    }

    /// Count what it holds, messages excepted: they count themselves, once for all who share them.
    fn weigh(&mut self) {
        let entries = (self.queue.len() + self.inflight.len()) as u64 * Session::ENTRY_BYTES;
        self.share.set(SESSION_BYTES + self.subscriptions_bytes + entries);
    }

    /// It has been quiet for a while: what is empty keeps no memory.
    pub fn rest(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        if self.inflight.is_empty() {
            self.inflight = VecDeque::new();
        }
        self.inbound.rest();
    }

    // subscriptions

    /// Bytes of a subscription to `filter`.
    pub fn subscription_bytes(filter: &str) -> u64 {
        SUBSCRIPTION_BYTES + 2 * filter.len() as u64
    }

    pub fn subscribe(&mut self, filter: &str) {
        if self.subscriptions.insert(filter.into()) {
            self.subscriptions_bytes += Session::subscription_bytes(filter);
            self.weigh();
        }
    }

    /// End a subscription and what it is owed; whether there was one.
    pub fn unsubscribe(&mut self, filter: &str) -> bool {
        self.retained_due.retain(|due| &*due.filter != filter);
        let was_there = self.subscriptions.remove(filter);
        if was_there {
            self.subscriptions_bytes -= Session::subscription_bytes(filter);
            self.weigh();
        }
        was_there
    }

    // the queue: messages that were not sent yet

    /// The place of the next QoS 1 or 2 message.
    pub fn take_order(&mut self) -> Order {
        let order = self.next;
        self.next.0 += 1;
        order
    }

    /// Let `pending` wait: in memory, or on disk alone when the log has it and memory is for others.
    pub fn enqueue(&mut self, pending: Pending, limits: &Limits) -> Result<(), QueueFull> {
        let size = pending.message.size();
        if self.is_full(1, size, limits) {
            return Err(QueueFull);
        }
        if let Some(kept) = pending.kept {
            let is_small = self.queue.len() < MESSAGES_IN_MEMORY
                && self.queued_bytes + size <= BYTES_IN_MEMORY
                && self.has_memory_for(size);
            if self.conn.is_none() || self.spill.is_some() || !is_small {
                self.put_aside(pending.order, kept.seq, size);
                return Ok(());
            }
        } else if !self.has_memory_for(size) {
            return Err(QueueFull);
        }
        self.queued_bytes += size;
        self.queue.push_back(pending);
        self.weigh();
        Ok(())
    }

    /// The oldest waiting message, unless one on disk comes before it.
    pub fn front(&self) -> Option<&Pending> {
        self.queue.front().filter(|p| self.is_before_spill(p.order))
    }

    /// Take what [`Session::front`] showed.
    pub fn dequeue(&mut self) -> Option<Pending> {
        self.front()?;
        let pending = self.queue.pop_front()?;
        self.queued_bytes = self.queued_bytes.saturating_sub(pending.message.size());
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        self.weigh();
        Some(pending)
    }

    /// Whether what comes next is on disk.
    pub fn wants_page(&self) -> bool {
        self.spill.is_some() && self.front().is_none()
    }

    fn is_before_spill(&self, order: Order) -> bool {
        self.spill.is_none_or(|s| order < s.from)
    }

    fn put_aside(&mut self, order: Order, seq: Seq, size: u64) {
        let spill = self.spill.get_or_insert(Spill {
            from: order,
            until: seq,
            count: 0,
            bytes: 0,
        });
        spill.from = spill.from.min(order);
        spill.until = spill.until.max(seq);
        spill.count += 1;
        spill.bytes += size;
    }

    /// The connection is gone: what the log has needs no memory.
    pub fn put_all_aside(&mut self) {
        self.is_paging = false;
        for entry in core::mem::take(&mut self.inflight) {
            match entry.kept {
                Some(kept) => {
                    let size = entry.size();
                    self.inflight_bytes -= size;
                    self.put_aside(entry.order, kept.seq, size);
                }
                None => self.inflight.push_back(entry),
            }
        }
        for pending in core::mem::take(&mut self.queue) {
            match pending.kept {
                Some(kept) => {
                    let size = pending.message.size();
                    self.queued_bytes = self.queued_bytes.saturating_sub(size);
                    self.put_aside(pending.order, kept.seq, size);
                }
                None => self.queue.push_back(pending),
            }
        }
        self.weigh();
    }

    /// Messages that were found on disk at start.
    pub fn restore_spill(&mut self, spill: Spill, last: Order) {
        self.next = self.next.max(Order(last.0 + 1));
        self.spill = Some(spill);
    }

    /// What is known of the client's side at start. Orders go on beyond a gap: messages that were never on disk may have
    /// used the identifiers just after the last one that was.
    pub fn restore_sent(&mut self, sent: Order) {
        const GAP: u64 = IDENTIFIERS / 2;
        self.sent = Some(sent);
        self.next = Order(self.next.0.max(sent.0 + 1) + GAP);
    }

    /// Whether the client may have the message of this order.
    pub fn may_have_sent(&self, order: Order) -> bool {
        self.sent.is_some_and(|sent| order <= sent)
    }

    /// A message of a page: back in flight if the client may have it, else into the queue.
    pub fn take_in(&mut self, pending: Pending, is_released: bool) {
        self.shrink_spill(pending.message.size());
        let order = pending.order;
        if !is_released && !self.may_have_sent(order) {
            self.queued_bytes += pending.message.size();
            let at = self.queue.partition_point(|p| p.order < order);
            self.queue.insert(at, pending);
            return self.weigh();
        }
        let at = self.inflight.partition_point(|f| f.order < order);
        let kept = pending.kept;
        let stage = if is_released {
            Stage::Pubrel
        } else {
            Stage::Publish(pending.into())
        };
        let entry = Inflight {
            order,
            stage,
            kept,
            sent: false,
        };
        self.inflight_bytes += entry.size();
        self.inflight.insert(at, entry);
        self.weigh();
    }

    /// One message fewer is on disk alone.
    pub fn shrink_spill(&mut self, size: u64) {
        if let Some(spill) = &mut self.spill {
            spill.count = spill.count.saturating_sub(1);
            spill.bytes = spill.bytes.saturating_sub(size);
        }
    }

    /// A page ended: the rest begins at `from`, or there is none.
    pub fn advance_spill(&mut self, from: Option<Order>) {
        match (&mut self.spill, from) {
            (Some(spill), Some(from)) => spill.from = from,
            (spill, _) => *spill = None,
        }
    }

    // in flight: messages that the client may have

    /// Whether the packet identifier of `order` is free [MQTT-2.2.1-4]: it is, unless a delivery is a whole turn behind.
    pub fn is_identifier_free(&self, order: Order) -> bool {
        self.inflight
            .front()
            .is_none_or(|oldest| order.0 - oldest.order.0.min(order.0) < IDENTIFIERS)
    }

    /// `pending` goes out now, at QoS 1 and 2 under the packet identifier of its order [MQTT-4.3.2-1], [MQTT-4.3.3-1]. Whoever resumes the session gets it
    /// until it is acknowledged [MQTT-4.3.2-3], [MQTT-4.3.3-3], [MQTT-4.8.2-4], and nobody else ever does [MQTT-4.8.2-5].
    pub fn track(&mut self, pending: Pending) {
        if pending.qos == QoS::AtMostOnce {
            return;
        }
        let (order, kept) = (pending.order, pending.kept);
        self.sent = self.sent.max(Some(order));
        self.inflight_bytes += pending.message.size();
        self.inflight.push_back(Inflight {
            order,
            stage: Stage::Publish(pending.into()),
            kept,
            sent: true,
        });
        self.weigh();
    }

    /// The same for new messages in a row, one for each of `parts`, which get their orders here; the log has none of them.
    pub fn track_new<T>(
        &mut self,
        qos: QoS,
        parts: impl Iterator<Item = T>,
        mut message: impl FnMut(T, Order) -> Held,
    ) {
        let Session {
            inflight,
            inflight_bytes,
            next,
            ..
        } = self;
        inflight.extend(parts.map(|part| {
            let order = *next;
            next.0 += 1;
            let message = message(part, order);
            *inflight_bytes += message.size();
            let sent = Sent {
                message,
                qos,
                retain: false,
                identifiers: Box::default(),
            };
            Inflight {
                order,
                stage: Stage::Publish(sent),
                kept: None,
                sent: true,
            }
        }));
        self.sent = self.sent.max(self.inflight.back().map(|last| last.order));
        self.weigh();
    }

    /// A new connection: everything in flight is to be sent again, in its order [MQTT-4.4.0-1], [MQTT-4.6.0-1].
    pub fn mark_all_unsent(&mut self) {
        for entry in &mut self.inflight {
            entry.sent = false;
        }
    }

    /// The first entries that still have to go out on this connection, at most `window` outstanding.
    pub fn unsent(&mut self, window: usize) -> impl Iterator<Item = &mut Inflight> {
        let from = self.spill.map(|s| s.from);
        self.inflight
            .iter_mut()
            .take(window)
            .filter(move |f| !f.sent && from.is_none_or(|from| f.order < from))
    }

    /// Whether nothing waits to be sent, in memory or on disk.
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.spill.is_none() && !self.has_unsent()
    }

    pub fn has_unsent(&self) -> bool {
        // What is unsent is a tail of the queue: sending goes in order.
        self.inflight.back().is_some_and(|f| !f.sent)
    }
}

mod answers;
#[cfg(test)]
mod tests;

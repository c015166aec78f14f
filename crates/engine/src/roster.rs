//! Everyone who is here: connections and sessions, and how a message reaches one of them.
//!
//! Refuses to know topics, rules and who published.

use crate::conn::Conn;
use crate::delivery::packet_id;
use crate::event::Event;
use crate::feed::Debt;
use crate::limits::Limits;
use crate::memory::Memory;
use crate::message::{Content, Held, Message};
use crate::outgoing::{Outgoing, Written, write_publish};
use crate::router::Target;
use crate::session::{Kept, Over, Pending, Session, Stage};
use crate::spares::Spares;
use crate::stats::Counters;
use crate::time::Millis;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sealmq_codec::{Ack, Packet, QoS};
use sealmq_store::{Delivery, Log, Order, Origin, Receiver, SessionId, Slot, Urgency};
use slab::Slab;

/// Events that nobody has taken yet; the oldest go first when the watcher is slow.
const EVENTS_KEPT: usize = 65_536;

/// Bytes that every outbox may have.
const SMALL_OUTBOX: u64 = 4096;

pub(crate) struct Roster {
    pub limits: Limits,
    pub conns: Slab<Conn>,
    pub sessions: Slab<Session>,
    pub dirty: Vec<u32>,
    pub counters: Counters,
    pub memory: Memory,
    pub spares: Spares,
    /// Sessions of each identity.
    pub owners: HashMap<Option<Arc<str>>, u32, FixedState>,
    pub log: Box<dyn Log>,
    /// Sessions that the log keeps.
    pub kept_sessions: usize,
    /// Sessions with something to do when the log has advanced.
    pub(crate) awaiting: Vec<(u32, SessionId)>,
    /// Sessions for which a page was asked.
    pub(crate) paging: HashMap<SessionId, u32, FixedState>,
    events: VecDeque<Event>,
}

impl Roster {
    pub fn new(limits: Limits, log: Box<dyn Log>) -> Roster {
        Roster {
            memory: Memory::new(limits.max_memory_bytes),
            spares: Spares::default(),
            owners: HashMap::with_hasher(FixedState::with_seed(0)),
            limits,
            conns: Slab::new(),
            sessions: Slab::new(),
            dirty: Vec::new(),
            counters: Counters::default(),
            log,
            kept_sessions: 0,
            awaiting: Vec::new(),
            paging: HashMap::with_hasher(FixedState::with_seed(0)),
            events: VecDeque::new(),
        }
    }

    pub fn observe(&mut self, event: Event) {
        if self.events.len() >= EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Messages that a connection was too slow for, if there were any.
    pub fn observe_dropped(&mut self, client_id: &Arc<str>, count: u64) {
        if count > 0 {
            self.observe(Event::Dropped {
                client_id: Arc::clone(client_id),
                cause: "slow-reader",
                count,
            });
        }
    }

    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn add_session(&mut self, session: Session) -> u32 {
        *self.owners.entry(session.device.clone()).or_default() += 1;
        self.kept_sessions += usize::from(session.is_kept);
        self.sessions.insert(session) as u32
    }

    pub fn take_session(&mut self, index: u32) -> Option<Session> {
        let session = self.sessions.try_remove(index as usize)?;
        if let Some(count) = self.owners.get_mut(&session.device) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&session.device);
            }
        }
        self.kept_sessions -= usize::from(session.is_kept);
        Some(session)
    }

    /// Append one packet of ours to the outbox of a connection.
    pub fn send(&mut self, index: u32, packet: &Packet<'_>) {
        if let Some(conn) = self.conns.get_mut(index as usize) {
            packet.encode(conn.version, &mut conn.out);
            touch(&mut self.dirty, conn);
        }
    }

    /// Append bytes that were encoded before.
    pub fn send_bytes(&mut self, index: u32, bytes: &[u8]) {
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.out.extend_from_slice(bytes);
            touch(&mut self.dirty, conn);
        }
    }

    pub fn mark_dirty(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index as usize) {
            touch(&mut self.dirty, conn);
        }
    }

    /// Hand a message to one target [MQTT-4.5.0-1]: into the outbox, into the queue, or nowhere. `shared` holds the copy
    /// that all receivers share once one needs it; a message that everybody takes at once is never copied to the heap.
    /// `place` is where the log has it for this session, if it does. Whoever is alone takes the copy itself.
    #[inline]
    pub fn deliver(
        &mut self,
        now: Millis,
        (target, is_alone): (&Target, bool),
        content: &Content<'_>,
        shared: &mut Option<Arc<Message>>,
        place: Option<(Order, Kept)>,
    ) {
        let Some(session) = self.sessions.get_mut(target.session as usize) else {
            return;
        };
        // [MQTT-3.8.4-8], [MQTT-4.8.2-3]
        let qos = content.qos.min(target.qos);
        // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
        let retain = content.retain && target.retain_as_published;
        let conn = session.conn.and_then(|index| self.conns.get_mut(index as usize));
        if qos == QoS::AtMostOnce {
            let Some(conn) = conn else { return };
            if conn.out.len() > outbox_bound(&self.limits, &self.memory) {
                conn.dropped_since += 1;
                self.counters.messages_dropped += 1;
                return;
            }
            // [MQTT-3.3.4-10], [MQTT-4.3.1-1]: no window for it
            let how = Outgoing {
                qos,
                dup: false,
                retain,
                packet_id: 0,
                identifiers: &target.identifiers,
            };
            if write_publish(conn, now, content, how) == Written::Yes {
                self.counters.messages_sent += 1;
                touch(&mut self.dirty, conn);
            }
            return;
        }
        if conn.is_none() && !session.is_persistent() {
            return;
        }
        let pending = Pending {
            message: self.spares.hold(content, &self.memory, (!is_alone).then_some(shared)),
            qos,
            retain,
            identifiers: target.identifiers.clone(),
            order: place.map_or_else(|| session.take_order(), |(order, _)| order),
            kept: place.map(|(_, kept)| kept),
        };
        self.push(now, target.session, pending, content);
    }

    /// A retained message for one session; `urgency` says how the log keeps messages of its topic, if it does.
    pub fn deliver_retained(
        &mut self,
        now: Millis,
        session_index: u32,
        message: Arc<Message>,
        qos: QoS,
        identifiers: Box<[u32]>,
        urgency: Option<Urgency>,
    ) {
        let Some(session) = self.sessions.get_mut(session_index as usize) else {
            return;
        };
        let Some(conn) = session.conn.and_then(|i| self.conns.get_mut(i as usize)) else {
            return;
        };
        // They come in bulk: what the outbox cannot take now waits in the queue.
        if qos == QoS::AtMostOnce && conn.out.len() <= outbox_bound(&self.limits, &self.memory) {
            let how = Outgoing {
                qos,
                dup: false,
                retain: true,
                packet_id: 0,
                identifiers: &identifiers,
            };
            if write_publish(conn, now, &message.content(), how) == Written::Yes {
                self.counters.messages_sent += 1;
                touch(&mut self.dirty, conn);
            }
            return;
        }
        let order = session.take_order();
        let kept = urgency
            .filter(|_| qos != QoS::AtMostOnce && session.is_kept)
            .map(|urgency| {
                let mut receiver = [Receiver {
                    session: session.id,
                    order,
                    qos: qos as u8,
                    retain: true,
                    identifiers: Cow::Borrowed(&identifiers),
                    slot: Slot::default(),
                }];
                let due = session.retained_due.front();
                let origin = due
                    .filter(|due| due.debt == Debt::Recorded)
                    .map_or(Origin::Nothing, |due| Origin::Owed {
                        session: session.id,
                        filter: &due.filter,
                    });
                let delivery = Delivery {
                    origin,
                    body: message.content().body(),
                };
                let seq = self.log.deliver(&delivery, &mut receiver, urgency);
                let [Receiver { slot, .. }] = receiver;
                Kept { seq, slot }
            });
        let pending = Pending {
            message: Held::Shared(Arc::clone(&message)),
            qos,
            retain: true,
            identifiers,
            order,
            kept,
        };
        self.push(now, session_index, pending, &message.content());
    }

    /// QoS 1 and 2: in flight at once when the window is open [MQTT-3.3.4-9], [MQTT-4.9.0-2] and nothing waits before it
    /// [MQTT-4.6.0-5], [MQTT-4.6.0-6], else into the queue.
    fn push(&mut self, now: Millis, session_index: u32, pending: Pending, content: &Content<'_>) {
        let may_leave = self.may_leave(&pending);
        let Some(session) = self.sessions.get_mut(session_index as usize) else {
            return;
        };
        if let Some(conn) = session.conn.and_then(|index| self.conns.get_mut(index as usize)) {
            let is_open = session.queued() == 0
                && !session.has_unsent()
                && session.inflight() < usize::from(conn.limits.window)
                && session.is_identifier_free(pending.order)
                && session.has_window_for(pending.message.size(), &self.limits)
                && conn.out.len() <= outbox_bound(&self.limits, &self.memory);
            if is_open && may_leave {
                if write_new(conn, now, &pending, content) == Written::Yes {
                    self.counters.messages_sent += 1;
                    touch(&mut self.dirty, conn);
                    session.track(pending);
                } else {
                    self.forget(session_index, Over::of(&pending));
                }
                return;
            }
            if is_open {
                self.await_log(session_index);
            }
        }
        let over = Over::of(&pending);
        let Some(session) = self.sessions.get_mut(session_index as usize) else {
            return;
        };
        if session.enqueue(pending, &self.limits).is_err() {
            self.dropped(session_index);
            self.forget(session_index, over);
        }
    }

    fn dropped(&mut self, session_index: u32) {
        let Some(session) = self.sessions.get(session_index as usize) else {
            return;
        };
        self.counters.messages_dropped += 1;
        if let Some(conn) = session.conn.and_then(|index| self.conns.get_mut(index as usize)) {
            conn.dropped_since += 1;
        } else {
            let client_id = Arc::clone(&session.client_id);
            self.observe(Event::Dropped {
                client_id,
                cause: "queue-full",
                count: 1,
            });
        }
    }

    /// Whether a message may go to its receiver now. QoS 2 waits until it is safe: were it lost after the client had it,
    /// the publisher would send it again, and exactly once would have been twice.
    #[inline]
    fn may_leave(&self, pending: &Pending) -> bool {
        match pending.kept {
            Some(kept) if pending.qos == QoS::ExactlyOnce => self.log.watermark().proves(kept.seq).is_some(),
            _ => true,
        }
    }

    /// Look at the session again when the log has advanced.
    pub fn await_log(&mut self, session_index: u32) {
        if let Some(session) = self.sessions.get_mut(session_index as usize)
            && !session.is_awaiting
        {
            session.is_awaiting = true;
            self.awaiting.push((session_index, session.id));
        }
    }

    /// A delivery is over: the log need not know of it any more.
    pub fn forget(&mut self, session_index: u32, over: Over) {
        if let Some(session) = self.sessions.get(session_index as usize) {
            forget(&mut *self.log, session.id, over);
        }
    }

    /// Send what the window and the outbox allow: first what is in flight from an earlier connection, then the queue.
    pub fn pump(&mut self, now: Millis, session_index: u32) {
        let Some(session) = self.sessions.get_mut(session_index as usize) else {
            return;
        };
        let Some(conn) = session.conn.and_then(|index| self.conns.get_mut(index as usize)) else {
            return;
        };
        if conn.sealed.is_some() || session.is_quiet() {
            return;
        }
        let window = usize::from(conn.limits.window);
        let bound = outbox_bound(&self.limits, &self.memory);
        let before = conn.out.len();
        let mut over = Vec::new();
        while session.has_unsent() {
            let (mut oversized, mut sent) = (Vec::new(), 0);
            for entry in session.unsent(window) {
                if conn.out.len() > bound {
                    break;
                }
                entry.sent = true;
                sent += 1;
                match &entry.stage {
                    // [MQTT-3.3.1-1], [MQTT-4.4.0-1]: the same identifier, DUP set
                    Stage::Publish(pending) => {
                        let how = Outgoing {
                            qos: pending.qos,
                            dup: true,
                            retain: pending.retain,
                            packet_id: entry.packet_id(),
                            identifiers: &pending.identifiers,
                        };
                        if write_publish(conn, now, &pending.message.content(), how) == Written::Yes {
                            self.counters.messages_sent += 1;
                        } else {
                            oversized.push((entry.packet_id(), pending.qos));
                        }
                    }
                    Stage::Pubrel => Packet::Pubrel(success(entry.packet_id())).encode(conn.version, &mut conn.out),
                }
            }
            if oversized.is_empty() || sent == 0 {
                break;
            }
            // [MQTT-3.1.2-25]: no acknowledgement will come for these; the window is for the next ones
            for (packet_id, qos) in oversized {
                over.extend(session.complete_publish(packet_id, qos, &mut self.spares));
            }
        }
        let mut waits = false;
        while !session.has_unsent() && session.inflight() < window && conn.out.len() <= bound {
            let Some(front) = session.front() else { break };
            // [MQTT-3.3.2-5]
            if front.message.is_expired(now) {
                over.extend(session.dequeue().filter(|p| p.kept.is_some()).as_ref().map(Over::of));
                continue;
            }
            let has_window = || session.has_window_for(front.message.size(), &self.limits);
            if front.qos != QoS::AtMostOnce && !(session.is_identifier_free(front.order) && has_window()) {
                break;
            }
            let is_safe = |kept: Kept| self.log.watermark().proves(kept.seq).is_some();
            if front.qos == QoS::ExactlyOnce && front.kept.is_some_and(|kept| !is_safe(kept)) {
                waits = true;
                break;
            }
            let Some(pending) = session.dequeue() else { break };
            if write_new(conn, now, &pending, &pending.message.content()) == Written::TooLarge {
                over.push(Over::of(&pending));
                continue;
            }
            self.counters.messages_sent += 1;
            session.track(pending);
        }
        let has_room = session.inflight_before_spill() < window && conn.out.len() <= bound;
        if conn.out.len() != before {
            touch(&mut self.dirty, conn);
        }
        if waits {
            self.await_log(session_index);
        }
        for over in over {
            self.forget(session_index, over);
        }
        if has_room {
            self.turn_page(session_index);
        }
    }
}

/// The log need not know any more of a delivery to `session`.
#[inline]
pub(crate) fn forget(log: &mut dyn Log, session: SessionId, over: Over) {
    if let Some(kept) = over.kept {
        log.done(session, over.order, kept.slot);
    }
}

/// An acknowledgement without anything special.
pub(crate) fn success(packet_id: u16) -> Ack<'static> {
    Ack {
        packet_id,
        reason: 0,
        properties: sealmq_codec::Properties::EMPTY,
    }
}

/// Bytes of one outbox beyond which nothing is added: less than the limit when memory is short.
#[inline]
pub(crate) fn outbox_bound(limits: &Limits, memory: &Memory) -> usize {
    let most = u64::from(limits.max_outbox_bytes);
    most.min((memory.free() / 8).max(SMALL_OUTBOX)) as usize
}

#[inline]
pub(crate) fn touch(dirty: &mut Vec<u32>, conn: &mut Conn) {
    conn.weigh();
    if !conn.is_dirty {
        conn.is_dirty = true;
        dirty.push(conn.id.index);
    }
}

/// For the first time [MQTT-4.3.2-2], [MQTT-4.3.3-2]; `content` is the message's.
#[inline]
fn write_new(conn: &mut Conn, now: Millis, pending: &Pending, content: &Content<'_>) -> Written {
    let how = Outgoing {
        qos: pending.qos,
        dup: false,
        retain: pending.retain,
        packet_id: packet_id(pending.order),
        identifiers: &pending.identifiers,
    };
    write_publish(conn, now, content, how)
}

//! PUBLISH packets on one topic that stand one behind the other, carried out together: looked at once, copied as they lie.
//!
//! Refuses to know anything unusual. A run is as long as it is sure that one packet after the other (in `publish`) would come
//! to the same, and the packet that ends it goes that way; a receiver who cannot take it as it lies gets the messages one by
//! one.

use crate::conn::Conn;
use crate::delivery::packet_id;
use crate::engine::Engine;
use crate::intake::{BYTES_PER_UNIT, Turn};
use crate::message::{Content, Message};
use crate::roster::{Roster, outbox_bound, touch};
use crate::route::{copying, targets, units};
use crate::router::{Own, Route, Target};
use crate::session::Session;
use crate::time::Millis;
use alloc::sync::Arc;
use sealmq_codec::{Alike, PacketKind, QoS, Version};
use sealmq_store::Seq;

/// What all packets of a run have in common.
#[derive(Clone, Copy)]
struct Run<'a> {
    version: Version,
    qos: QoS,
    topic: &'a str,
    /// The packets, one behind the other.
    bytes: &'a [u8],
    /// Bytes of the longest of them.
    longest: usize,
}

/// One packet of a run.
#[derive(Debug)]
pub(crate) struct Part {
    packet_id: u16,
    /// Where in the run its payload begins, and where it ends.
    payload: u32,
    end: u32,
    /// The copy that receivers share, once one needs it.
    message: Option<Arc<Message>>,
}

impl<'a> Run<'a> {
    fn content(&self, part: &Part) -> Content<'a> {
        let payload = self.bytes.get(part.payload as usize..part.end as usize);
        Content {
            topic: self.topic,
            properties: &[],
            payload: payload.unwrap_or_default(),
            expires_at: None,
            qos: self.qos,
            retain: false,
        }
    }

    /// Whether the packets are, but for their identifiers, what `conn` is to get for `target`.
    fn suits(&self, conn: &Conn, target: &Target) -> bool {
        self.qos <= target.qos
            && target.identifiers.is_empty()
            && conn.version == self.version
            && conn.limits.topic_alias_maximum == 0
            && self.longest <= conn.limits.max_packet_size as usize
    }

    /// Bytes between packet identifier and payload: the length of no properties.
    fn gap(&self) -> usize {
        usize::from(self.version == Version::V5)
    }
}

impl Engine {
    /// Carry out the PUBLISH packets at the start of `bytes` that are alike, on the topic that this connection used last and
    /// may use; how many bytes they take.
    #[inline(never)]
    pub(crate) fn handle_publishes(&mut self, now: Millis, index: u32, bytes: &[u8], turn: Turn) -> usize {
        let qos = match bytes.first() {
            Some(0x30) => QoS::AtMostOnce,
            Some(0x32) => QoS::AtLeastOnce,
            Some(0x34) => QoS::ExactlyOnce,
            _ => return 0,
        };
        let roster = &mut self.roster;
        // Nothing of this is kept, so that nothing has to be safe: only what is answered before must not wait.
        let Some(durable) = roster.log.watermark().proves(Seq(0)) else {
            return 0;
        };
        let Some(conn) = roster.conns.get(index as usize).filter(|c| c.held_acks.is_empty()) else {
            return 0;
        };
        let (version, publisher) = (conn.version, conn.session);
        let Some(route) = conn.allowed_route.and_then(|(key, _allowed)| self.router.known(key)) else {
            return 0;
        };
        let alike = Alike::new(version, qos, route.topic(), bytes);
        let Some(reached) = roster.reached_by_run(publisher, qos, alike, route) else {
            return 0;
        };
        let Some(session) = roster.sessions.get_mut(publisher as usize) else {
            return 0;
        };
        let most = match (qos, version) {
            (QoS::AtMostOnce, _) => usize::MAX,
            (_, Version::V311) => turn.answers,
            // [MQTT-3.3.4-7]
            (_, Version::V5) => {
                let receive_maximum = usize::from(roster.limits.receive_maximum);
                turn.answers.min(receive_maximum.saturating_sub(session.inbound.len()))
            }
        };
        if most == 0 {
            return 0;
        }
        let mut parts = core::mem::take(&mut self.parts);
        let (deliveries, mut length, mut longest, mut work) = (units(qos, reached), 0, 0, 0);
        for like in alike.take(most) {
            let size = like.packet.len();
            if self.router.work + work >= turn.until || size > roster.limits.max_packet_size as usize {
                break;
            }
            // [MQTT-4.3.3-10]
            if qos == QoS::ExactlyOnce && !session.inbound.take(like.packet_id) {
                break;
            }
            length += size;
            longest = longest.max(size);
            work += 1 + size / BYTES_PER_UNIT + deliveries + copying(like.payload.len(), reached);
            parts.push(Part {
                packet_id: like.packet_id,
                payload: (length - like.payload.len()) as u32,
                end: length as u32,
                message: None,
            });
        }
        let run = Run {
            version,
            qos,
            topic: route.topic(),
            bytes: bytes.get(..length).unwrap_or_default(),
            longest,
        };
        for target in targets(route, Some(publisher)) {
            roster.deliver_run(now, (target, reached == 1), &run, &mut parts);
        }
        self.router.work += work;
        roster.counters.messages_received += parts.len() as u64;
        let ids = parts.iter().map(|part| part.packet_id);
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.send_acks(index, PacketKind::Puback, ids, durable),
            QoS::ExactlyOnce => self.send_acks(index, PacketKind::Pubrec, ids, durable),
        }
        parts.clear();
        self.parts = parts;
        length
    }
}

/// How many the route names besides the publisher; `None` when it is to get its own messages.
fn others(route: &Route, publisher: u32) -> Option<usize> {
    let own = route.targets.binary_search_by_key(&publisher, |target| target.session);
    match own.ok().and_then(|at| route.targets.get(at)) {
        None => Some(route.targets.len()),
        Some(target) => matches!(target.own, Own::Nothing).then_some(route.targets.len() - 1),
    }
}

impl Roster {
    /// How many get the messages of `publisher` that begin with the first of `alike`. `None` when it is not such a message, or
    /// is to be carried out by itself; receivers are looked at for nothing but a message that counts as work.
    #[inline(never)]
    fn reached_by_run(&self, publisher: u32, qos: QoS, mut alike: Alike<'_>, route: &Route) -> Option<usize> {
        let (first, session) = (alike.next()?, self.sessions.get(publisher as usize)?);
        // [MQTT-4.3.3-10]
        if qos == QoS::ExactlyOnce && session.inbound.get(first.packet_id).is_some() {
            return None;
        }
        let reached = others(route, publisher).filter(|&reached| reached > 0)?;
        let is_kept = qos != QoS::AtMostOnce && self.kept_sessions > 0 && self.reaches_kept(route);
        (!is_kept).then_some(reached)
    }

    /// Hand a run to one target: what it cannot take as it lies as by [`Roster::deliver`].
    fn deliver_run(&mut self, now: Millis, (target, is_alone): (&Target, bool), run: &Run<'_>, parts: &mut [Part]) {
        let taken = match run.qos {
            QoS::AtMostOnce => self.copy_run(target, run, parts),
            _ => self.push_run((target, is_alone), run, parts),
        };
        for part in parts.iter_mut().skip(taken) {
            let content = run.content(part);
            self.deliver(now, (target, is_alone), &content, &mut part.message, None);
        }
    }

    /// QoS 0: all of it into the outbox, or nothing; how many messages there were.
    fn copy_run(&mut self, target: &Target, run: &Run<'_>, parts: &[Part]) -> usize {
        let session = self.sessions.get(target.session as usize);
        let conn = session
            .and_then(|s| s.conn)
            .and_then(|index| self.conns.get_mut(index as usize));
        let Some(conn) = conn.filter(|conn| run.suits(conn, target)) else {
            return 0;
        };
        // Twice: the bound falls by a part of what is taken.
        if conn.out.len() + 2 * run.bytes.len() > outbox_bound(&self.limits, &self.memory) {
            return 0;
        }
        conn.out.extend_from_slice(run.bytes);
        self.counters.messages_sent += parts.len() as u64;
        touch(&mut self.dirty, conn);
        parts.len()
    }

    /// QoS 1 and 2: into the outbox and in flight, under packet identifiers of ours, as long as the window is sure to be open;
    /// how many messages there were.
    fn push_run(&mut self, (target, is_alone): (&Target, bool), run: &Run<'_>, parts: &mut [Part]) -> usize {
        let Some(session) = self.sessions.get_mut(target.session as usize) else {
            return 0;
        };
        let conn = session.conn.and_then(|index| self.conns.get_mut(index as usize));
        let Some(conn) = conn.filter(|conn| run.suits(conn, target)) else {
            return 0;
        };
        let held = run.bytes.len() + parts.len() * core::mem::size_of::<Message>();
        let cost = held + run.bytes.len() + parts.len() * Session::ENTRY_BYTES as usize;
        if conn.out.len() + 2 * cost > outbox_bound(&self.limits, &self.memory) {
            return 0;
        }
        let window = usize::from(conn.limits.window);
        let count = session.sure_window(window, held as u64, cost as u64, &self.limits);
        let count = count.min(parts.len());
        let Some(sent) = parts.get_mut(..count).filter(|sent| !sent.is_empty()) else {
            return 0;
        };
        let start = conn.out.len();
        let end = sent.last().map_or(0, |part| part.end as usize);
        conn.out.extend_from_slice(run.bytes.get(..end).unwrap_or_default());
        let copy = conn.out.get_mut(start..).unwrap_or_default();
        let (spares, memory, gap) = (&mut self.spares, &self.memory, run.gap());
        session.track_new(run.qos, sent.iter_mut(), |part, order| {
            let id_end = part.payload as usize - gap;
            if let Some(id) = copy.get_mut(id_end - 2..id_end) {
                id.copy_from_slice(&packet_id(order).to_be_bytes());
            }
            let content = run.content(part);
            spares.hold(&content, memory, (!is_alone).then_some(&mut part.message))
        });
        self.counters.messages_sent += count as u64;
        touch(&mut self.dirty, conn);
        count
    }
}

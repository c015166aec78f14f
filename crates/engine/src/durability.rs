//! What has to be safe before it is acknowledged, and the acknowledgements that wait for it.
//!
//! Refuses to know how the log makes things safe.

use crate::conn::{AckKind, HeldAck};
use crate::engine::Engine;
use crate::event::EndCause;
use crate::roster::touch;
use crate::route::NoPlace;
use crate::time::Millis;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use sealmq_codec::topic::{Pattern, parse_filter};
use sealmq_codec::{Packet, PacketKind, ReasonCode, write_short_ack};
use sealmq_store::{Change, Durable, Health, Keeping, Seq, Urgency};

/// The slug of a refusal for want of room.
pub(crate) const STORE_FULL: &str = "store-full";

/// What an acknowledged message survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The end of the machine's power: synced to the device.
    #[default]
    Sync,
    /// The end of this process: handed to the operating system.
    Os,
    /// Nothing: it is in memory.
    Memory,
}

impl Mode {
    pub fn from_name(name: &str) -> Option<Mode> {
        match name {
            "sync" => Some(Mode::Sync),
            "os" => Some(Mode::Os),
            "memory" => Some(Mode::Memory),
            _ => None,
        }
    }

    /// What the log is asked for; `None` when it is not asked.
    fn urgency(self) -> Option<Urgency> {
        match self {
            Mode::Sync => Some(Urgency::Sync),
            Mode::Os => Some(Urgency::Os),
            Mode::Memory => None,
        }
    }
}

/// A topic filter that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurabilityFault {
    pub filter: String,
}

/// The mode of each topic: the first filter that matches decides, else the default.
#[derive(Clone, Debug, Default)]
pub struct Durability {
    default: Mode,
    topics: Vec<(Pattern, Mode)>,
}

impl Durability {
    pub fn new(default: Mode, topics: Vec<(String, Mode)>) -> Result<Durability, DurabilityFault> {
        let mut checked = Vec::new();
        for (filter, mode) in topics {
            if parse_filter(&filter).is_none_or(|f| f.group.is_some()) {
                return Err(DurabilityFault { filter });
            }
            checked.push((Pattern::new(filter), mode));
        }
        Ok(Durability {
            default,
            topics: checked,
        })
    }

    /// Nothing is kept.
    pub fn in_memory() -> Durability {
        Durability {
            default: Mode::Memory,
            topics: Vec::new(),
        }
    }

    /// Whether anything at all is to be kept.
    pub fn keeps_anything(&self) -> bool {
        self.default != Mode::Memory || self.topics.iter().any(|(_, mode)| *mode != Mode::Memory)
    }

    #[inline]
    pub(crate) fn of(&self, topic: &str) -> Option<Urgency> {
        let listed = self.topics.iter().find(|(pattern, _)| pattern.matches(topic));
        listed.map_or(self.default, |(_, mode)| *mode).urgency()
    }

    /// For sessions and subscriptions.
    pub(crate) fn of_sessions(&self) -> Urgency {
        self.default.urgency().unwrap_or(Urgency::Os)
    }
}

impl Engine {
    /// Tell the log of a change that somebody waits for; where it stands. `Seq(0)` when nothing is kept.
    pub(crate) fn record(&mut self, change: &Change<'_>) -> Seq {
        let urgency = self.durability.of_sessions();
        self.recorded = self.roster.log.append(change, urgency);
        self.recorded
    }

    /// How the log is.
    pub fn log_health(&self) -> Health {
        self.roster.log.health()
    }

    /// Whether nothing is left to wait for at `seq`: it is safe, or nobody knows when it will be.
    pub fn is_settled(&self, seq: Seq) -> bool {
        self.roster.log.watermark().proves(seq).is_some() || self.roster.log.health() != Health::Good
    }

    /// Why nothing more can be promised, if so: the answer to whoever asks for a promise.
    pub(crate) fn no_promises(&self) -> Option<NoPlace> {
        if self.roster.log.keeping() == Keeping::Nothing {
            return None;
        }
        match self.roster.log.health() {
            Health::Good => None,
            Health::Full => Some(NoPlace(
                ReasonCode::QuotaExceeded,
                STORE_FULL,
                "the broker's store has no room".into(),
            )),
            Health::Failed(why) => Some(NoPlace(
                ReasonCode::ImplementationSpecificError,
                "store-failed",
                format!("the broker's store has failed: {why}"),
            )),
        }
    }

    /// An acknowledgement once the change at `seq` is safe: at once, or when the watermark gets there. All of a connection
    /// leave in the order of these calls [MQTT-4.6.0-2].
    pub(crate) fn acknowledge(&mut self, index: u32, packet: &Packet<'_>, kind: AckKind, seq: Seq) {
        let proof = self.roster.log.watermark().proves(seq);
        let Some(conn) = self.roster.conns.get_mut(index as usize) else {
            return;
        };
        if let Some(durable) = proof.filter(|_| conn.held_acks.is_empty()) {
            return self.send_ack(index, packet, durable);
        }
        let mut bytes = Vec::new();
        packet.encode(conn.version, &mut bytes);
        if kind == AckKind::EndsQos1 {
            conn.unacknowledged += 1;
        }
        // Whoever holds something already is in the list.
        if conn.held_acks.is_empty() && conn.sealed.is_none() {
            self.holding.push(conn.id);
        }
        conn.held_acks.push_back(HeldAck {
            seq,
            bytes: bytes.into_boxed_slice(),
            kind,
        });
    }

    /// The door of an acknowledgement that says "this is kept": it takes the proof.
    fn send_ack(&mut self, index: u32, packet: &Packet<'_>, _durable: Durable) {
        self.roster.send(index, packet);
    }

    /// The same door for many in their shortest form.
    pub(crate) fn send_acks(
        &mut self,
        index: u32,
        kind: PacketKind,
        ids: impl Iterator<Item = u16>,
        _durable: Durable,
    ) {
        if let Some(conn) = self.roster.conns.get_mut(index as usize) {
            ids.for_each(|id| write_short_ack(kind, id, &mut conn.out));
            touch(&mut self.roster.dirty, conn);
        }
    }

    /// The same door for one that was held.
    fn release_ack(&mut self, index: u32, bytes: &[u8], _durable: Durable) {
        self.roster.send_bytes(index, bytes);
    }

    /// The same door for a CONNACK, and what has gathered behind it.
    fn unseal(&mut self, index: u32, _durable: Durable) {
        if let Some(conn) = self.roster.conns.get_mut(index as usize) {
            conn.sealed = None;
        }
        self.roster.mark_dirty(index);
    }

    /// Keep what is in the outbox of a new connection there until `seq` is safe.
    pub(crate) fn seal(&mut self, index: u32, seq: Seq) {
        if self.roster.log.watermark().proves(seq).is_some() {
            return;
        }
        if let Some(conn) = self.roster.conns.get_mut(index as usize) {
            conn.sealed = Some(seq);
            self.holding.push(conn.id);
        }
    }

    /// The log has news: its watermark moved, a page has come, or its health is another. Acknowledgements that waited may
    /// leave, and messages that waited with them.
    pub fn handle_log_advanced(&mut self, now: Millis) {
        if let Health::Failed(why) = self.roster.log.health() {
            return self.break_promises(now, &why);
        }
        let watermark = self.roster.log.watermark();
        let mut still = Vec::new();
        for id in core::mem::take(&mut self.holding) {
            let Some(conn) = self.roster.conns.get_mut(id.index as usize).filter(|c| c.id == id) else {
                continue;
            };
            if let Some(seq) = conn.sealed {
                let Some(durable) = watermark.proves(seq) else {
                    still.push(id);
                    continue;
                };
                let session = conn.session;
                self.unseal(id.index, durable);
                self.pump(now, session);
            }
            while let Some(conn) = self.roster.conns.get_mut(id.index as usize).filter(|c| c.id == id) {
                let Some(durable) = conn.held_acks.front().and_then(|held| watermark.proves(held.seq)) else {
                    if !conn.held_acks.is_empty() {
                        still.push(id);
                    }
                    break;
                };
                if let Some(held) = conn.held_acks.pop_front() {
                    if held.kind == AckKind::EndsQos1 {
                        conn.unacknowledged = conn.unacknowledged.saturating_sub(1);
                    }
                    self.release_ack(id.index, &held.bytes, durable);
                }
            }
        }
        self.holding = still;
        for (index, session) in core::mem::take(&mut self.roster.awaiting) {
            if let Some(found) = self.roster.sessions.get_mut(index as usize).filter(|s| s.id == session) {
                found.is_awaiting = false;
                self.pump(now, index);
            }
        }
        self.handle_pages(now);
    }

    /// Whoever has begun to wait since the log failed must not wait for ever: some answers are asked for and only then
    /// found to need the log.
    pub(crate) fn leave_nobody_waiting(&mut self, now: Millis) {
        if self.holding.is_empty() && self.roster.awaiting.is_empty() {
            return;
        }
        if let Health::Failed(why) = self.roster.log.health() {
            self.break_promises(now, &why);
        }
    }

    /// The log has failed: what waits for it will never be safe, and whoever waits, for an answer or for a message, is told
    /// by the end of its connection.
    fn break_promises(&mut self, now: Millis, why: &str) {
        let mut waiting = core::mem::take(&mut self.holding);
        for (index, session) in core::mem::take(&mut self.roster.awaiting) {
            let Some(found) = self.roster.sessions.get_mut(index as usize).filter(|s| s.id == session) else {
                continue;
            };
            found.is_awaiting = false;
            let conn = found.conn.and_then(|index| self.roster.conns.get(index as usize));
            waiting.extend(conn.map(|conn| conn.id));
        }
        let sentence = format!("the broker's store has failed: {why}");
        for id in waiting {
            if self.conn(id).is_some() {
                let cause = EndCause::Store("store-failed", sentence.clone());
                self.end(now, id.index, ReasonCode::ImplementationSpecificError, cause);
            }
        }
    }
}

//! Bytes in: whole packets to whoever carries them out, what breaks the encoding to the end of its connection.
//!
//! Refuses to know how a packet is carried out, and keeps no byte: the rest is the caller's.

use crate::conn::ConnId;
use crate::engine::Engine;
use crate::event::EndCause;
use crate::time::Millis;
use alloc::string::ToString;
use sealmq_codec::{Fault, Frame, Framed, Packet, ReasonCode, SHORT_ACK, frame};

/// Bytes of a packet that is taken in however little memory is left.
const SMALL_PACKET: usize = 64 * 1024;

/// How much of the bytes handed in was used, and how many are worth another call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intake {
    pub consumed: usize,
    /// The rest must be at least this long before a packet in it can be whole.
    pub need: usize,
    /// The connection has had its turn, and there is more in the rest: the others come first.
    pub is_cut_short: bool,
}

impl Intake {
    fn up_to(consumed: usize, need: usize) -> Intake {
        Intake {
            consumed,
            need,
            is_cut_short: false,
        }
    }
}

/// Bytes of a packet whose decoding counts as a unit of work.
pub(crate) const BYTES_PER_UNIT: usize = 256;

/// What is left of a turn.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    /// No packet is begun at that much work.
    pub until: usize,
    /// Nor with that many answers of [`SHORT_ACK`] bytes, for a client that does not read them.
    pub answers: usize,
}

/// Whether the packet behind `frame`, with which `rest` begins, looks like it as far as its topic name: there may be many.
#[inline]
fn is_followed(frame: &Frame<'_>, rest: &[u8]) -> bool {
    if rest.get(frame.size) != Some(&frame.first) {
        return false;
    }
    if !matches!(frame.first, 0x30..0x40) {
        return true;
    }
    let (header, topic) = (frame.size - frame.body.len(), frame.body.first_chunk::<2>());
    let length = topic.map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
    let next = rest.get(frame.size + header..).and_then(|next| next.get(..2 + length));
    next.is_some() && next == frame.body.get(..2 + length)
}

impl Engine {
    /// How much one call of [`Engine::handle_bytes`] may do from now on, in units of about a tenth of a microsecond to one: a
    /// packet, a node of the subscription tree looked at, a delivery, some KiB of payload written. One packet is always carried
    /// out as a whole.
    pub fn set_turn(&mut self, units: usize) {
        self.turn = units;
    }

    /// Units of work done so far, of which only differences mean something.
    pub fn work(&self) -> usize {
        self.router.work
    }

    /// Bytes arrived. Whole packets at the start of `bytes` are carried out; the rest is the caller's to keep.
    pub fn handle_bytes(&mut self, now: Millis, id: ConnId, bytes: &[u8]) -> Intake {
        let max = self.roster.limits.max_packet_size;
        let bound = self.roster.limits.max_outbox_bytes as usize;
        let mut consumed = 0;
        let until = self.router.work.saturating_add(self.turn);
        loop {
            let rest = bytes.get(consumed..).unwrap_or_default();
            let Some(conn) = self
                .roster
                .conns
                .get_mut(id.index as usize)
                .filter(|c| c.id == id && !c.is_closing)
            else {
                return Intake::up_to(bytes.len(), 0);
            };
            // Messages fill the outbox to its bound and one more, which is as long as a packet may be now or could be once;
            // the rest is room for answers. They are not dropped like messages, so whoever asks without ever reading has to go.
            let unread = bound.saturating_mul(2).saturating_add(conn.granted.max(max as usize));
            if conn.out.len() > unread {
                let sentence = "client leaves more unread than the outbox holds";
                self.violation(now, id.index, ReasonCode::QuotaExceeded, "slow-reader", sentence);
                continue;
            }
            match frame(rest, max) {
                Ok(Framed::Whole(_)) if self.router.work >= until => {
                    conn.waiting = rest.len();
                    conn.weigh();
                    return Intake {
                        is_cut_short: true,
                        ..Intake::up_to(consumed, 0)
                    };
                }
                Ok(Framed::Whole(frame)) => {
                    conn.last_seen = now;
                    let version = conn.version;
                    if is_followed(&frame, rest) {
                        let answers = (unread - conn.out.len()) / SHORT_ACK + 1;
                        let length = self.handle_run(now, id.index, rest, Turn { until, answers });
                        if length > 0 {
                            consumed += length;
                            continue;
                        }
                    }
                    self.router.work += 1 + frame.size / BYTES_PER_UNIT;
                    consumed += frame.size;
                    self.roster.counters.bytes_received += frame.size as u64;
                    match Packet::decode(version, frame) {
                        Ok(packet) => self.dispatch(now, id.index, packet),
                        Err(fault) => self.fault(now, id.index, fault),
                    }
                }
                Ok(Framed::Need(need)) => {
                    if need > SMALL_PACKET && !self.roster.memory.allows(0, need as u64) {
                        let sentence = "there is no memory for a packet of this size now";
                        self.violation(now, id.index, ReasonCode::QuotaExceeded, "memory-full", sentence);
                        continue;
                    }
                    conn.waiting = if rest.is_empty() { 0 } else { need };
                    conn.weigh();
                    return Intake::up_to(consumed, need);
                }
                Err(fault) => self.fault(now, id.index, fault),
            }
        }
    }

    /// Carry out the packets at the start of `bytes` that can be taken together; how many bytes they take.
    #[inline]
    fn handle_run(&mut self, now: Millis, index: u32, bytes: &[u8], turn: Turn) -> usize {
        let length = match bytes.first() {
            Some(0x30..0x40) => self.handle_publishes(now, index, bytes, turn),
            Some(0x40..0x80) => self.handle_acks(now, index, bytes, turn),
            _ => 0,
        };
        self.roster.counters.bytes_received += length as u64;
        length
    }

    /// Whatever the window towards this client is [MQTT-4.9.0-3].
    #[inline]
    fn dispatch(&mut self, now: Millis, index: u32, packet: Packet<'_>) {
        match packet {
            Packet::Publish(publish) => self.handle_publish(now, index, &publish),
            Packet::Puback(ack) => self.handle_puback(now, index, ack),
            Packet::Pubrec(ack) => self.handle_pubrec(now, index, ack),
            Packet::Pubrel(ack) => self.handle_pubrel(index, ack),
            Packet::Pubcomp(ack) => self.handle_pubcomp(now, index, ack),
            Packet::Subscribe(subscribe) => self.handle_subscribe(now, index, &subscribe),
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(now, index, &unsubscribe),
            // [MQTT-3.12.4-1]
            Packet::Pingreq => self.roster.send(index, &Packet::Pingresp),
            Packet::Disconnect(disconnect) => self.handle_disconnect(now, index, &disconnect),
            // [MQTT-3.1.0-2]
            Packet::Connect(_) => self.protocol_error(now, index, "second CONNECT on one connection"),
            // [MQTT-4.12.0-7]
            Packet::Auth(_) => self.protocol_error(now, index, "AUTH without an authentication method in CONNECT"),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                self.protocol_error(now, index, "packet that only a server sends");
            }
        }
    }

    /// The peer broke the encoding: say so where the version can, and close [MQTT-4.13.1-1].
    fn fault(&mut self, now: Millis, index: u32, fault: Fault) {
        self.roster.counters.protocol_faults += 1;
        let reason = match fault.reason_code() {
            // Of a second CONNECT, whose version is the least of it [MQTT-3.1.0-2]; DISCONNECT has no such code.
            ReasonCode::UnsupportedProtocolVersion => ReasonCode::ProtocolError,
            reason => reason,
        };
        self.end(now, index, reason, EndCause::PeerFault(fault.slug(), fault.to_string()));
    }

    pub(crate) fn protocol_error(&mut self, now: Millis, index: u32, sentence: &str) {
        self.violation(now, index, ReasonCode::ProtocolError, "protocol-error", sentence);
    }

    pub(crate) fn violation(
        &mut self,
        now: Millis,
        index: u32,
        reason: ReasonCode,
        slug: &'static str,
        sentence: &str,
    ) {
        self.roster.counters.protocol_faults += 1;
        self.end(now, index, reason, EndCause::PeerFault(slug, sentence.into()));
    }
}

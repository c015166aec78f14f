//! Acknowledgements of one kind that stand one behind the other, carried out together (MQTT 5.0 sections 3.4 to 3.7).
//!
//! Refuses to know what is not plain: an identifier that nobody waits for, a reason code, a change that the log must know of
//! first. Such a packet ends the run and is carried out by itself, in `publish`.

use crate::engine::Engine;
use crate::intake::Turn;
use crate::roster::{forget, touch};
use crate::time::Millis;
use sealmq_codec::{PacketKind, SHORT_ACK, short_acks, write_short_ack};

impl Engine {
    /// Carry out the acknowledgements at the start of `bytes` that are of one kind and plain; how many bytes they take.
    #[inline(never)]
    pub(crate) fn handle_acks(&mut self, now: Millis, index: u32, bytes: &[u8], turn: Turn) -> usize {
        // A unit of work for each.
        let most = turn.answers.min(turn.until - self.router.work);
        let roster = &mut self.roster;
        let Some(conn) = roster.conns.get_mut(index as usize) else {
            return 0;
        };
        let session_index = conn.session;
        let Some(session) = roster.sessions.get_mut(session_index as usize) else {
            return 0;
        };
        let Some((kind, ids)) = short_acks(bytes) else {
            return 0;
        };
        let (mut ids, spares, id) = (ids.take(most), &mut roster.spares, session.id);
        let forget = |over| forget(&mut *roster.log, id, over);
        let count = match kind {
            PacketKind::Puback => session.complete_publishes(ids, spares, forget),
            PacketKind::Pubcomp => session.complete_pubrels(ids, spares, forget),
            PacketKind::Pubrec => {
                session.release_all(ids, spares, |id| write_short_ack(PacketKind::Pubrel, id, &mut conn.out))
            }
            // [MQTT-4.3.3-11], [MQTT-4.3.3-13]
            _ => {
                let is_over = |&id: &u16| session.inbound.give_back(id);
                let over = ids.by_ref().take_while(is_over);
                over.map(|id| write_short_ack(PacketKind::Pubcomp, id, &mut conn.out))
                    .count()
            }
        };
        if count == 0 {
            return 0;
        }
        self.router.work += count;
        if matches!(kind, PacketKind::Puback | PacketKind::Pubcomp) {
            self.pump(now, session_index);
        } else {
            touch(&mut roster.dirty, conn);
        }
        count * SHORT_ACK
    }
}

//! What a client's acknowledgements do to its session: one of them, or as many in a row as are plain.
//!
//! Refuses to know the packets, and what is sent in return.

use super::{Inflight, Over, Release, Session, Spares, Stage};
use crate::delivery::IDENTIFIERS;
use sealmq_codec::QoS;
use sealmq_store::Order;

impl Session {
    /// PUBACKs: messages that are done, told to `over`; how many of `ids` were awaited, from the first on.
    pub fn complete_publishes(
        &mut self,
        ids: impl Iterator<Item = u16>,
        spares: &mut Spares,
        over: impl FnMut(Over),
    ) -> usize {
        let is_awaited = |stage: &Stage| matches!(stage, Stage::Publish(sent) if sent.qos == QoS::AtLeastOnce);
        self.complete(ids, is_awaited, spares, over)
    }

    /// PUBCOMPs: deliveries that are over, told to `over`; how many of `ids` were awaited, from the first on.
    pub fn complete_pubrels(
        &mut self,
        ids: impl Iterator<Item = u16>,
        spares: &mut Spares,
        over: impl FnMut(Over),
    ) -> usize {
        self.complete(ids, |stage| matches!(stage, Stage::Pubrel), spares, over)
    }

    #[inline]
    fn complete(
        &mut self,
        ids: impl Iterator<Item = u16>,
        is_awaited: impl Fn(&Stage) -> bool,
        spares: &mut Spares,
        mut tell: impl FnMut(Over),
    ) -> usize {
        let (mut count, mut at) = (0, 0);
        for id in ids {
            // What is over makes place for the one behind it.
            let Some(place) = self.position_near(at, id) else { break };
            if !self.inflight.get(place).is_some_and(|entry| is_awaited(&entry.stage)) {
                break;
            }
            let Some(over) = self.over(place, spares) else { break };
            tell(over);
            (count, at) = (count + 1, place);
        }
        self.weigh();
        count
    }

    /// PUBRECs that come for the first time, and that the log need not know of: `answer` gets the identifiers of the PUBRELs
    /// [MQTT-4.3.3-4]; how many of `ids` were such, from the first on.
    pub fn release_all(
        &mut self,
        ids: impl Iterator<Item = u16>,
        spares: &mut Spares,
        mut answer: impl FnMut(u16),
    ) -> usize {
        let (mut count, mut at) = (0, 0);
        for id in ids {
            let Some(place) = self.position_near(at, id) else { break };
            let Some(entry) = self.inflight.get_mut(place).filter(|entry| entry.kept.is_none()) else {
                break;
            };
            if !matches!(&entry.stage, Stage::Publish(sent) if sent.qos == QoS::ExactlyOnce) {
                break;
            }
            self.inflight_bytes -= entry.size();
            entry.release(spares);
            answer(id);
            (count, at) = (count + 1, place + 1);
        }
        count
    }

    /// The place in flight of an identifier that is likely to be at `guess`.
    #[inline]
    fn position_near(&self, guess: usize, packet_id: u16) -> Option<usize> {
        let entry = self.inflight.get(guess)?;
        if entry.packet_id() == packet_id && self.has_one_turn() {
            return Some(guess);
        }
        self.position(packet_id)
    }

    /// Whether each identifier is in flight once at most.
    #[inline]
    fn has_one_turn(&self) -> bool {
        match (self.inflight.front(), self.inflight.back()) {
            (Some(first), Some(last)) => last.order.0.saturating_sub(first.order.0) < IDENTIFIERS,
            _ => true,
        }
    }

    fn position(&self, packet_id: u16) -> Option<usize> {
        let (first, last) = (self.inflight.front()?, self.inflight.back()?);
        // Orders rise: of those that have this identifier, the oldest one that could be there.
        let (wanted, oldest) = (u64::from(packet_id), u64::from(first.packet_id()));
        let order = Order(first.order.0 + (wanted + IDENTIFIERS - oldest) % IDENTIFIERS);
        // Mostly nothing is missing in between.
        let guess = (order.0 - first.order.0) as usize;
        if self.inflight.get(guess).is_some_and(|f| f.order == order) {
            return Some(guess);
        }
        // What the client may have from before two restarts can be more than a turn behind.
        let turns = (order.0..=last.order.0).step_by(IDENTIFIERS as usize);
        let mut found = turns.map(|order| self.inflight.binary_search_by_key(&Order(order), |f| f.order));
        found.find_map(Result::ok)
    }

    /// PUBACK, or PUBREC with a failure: the message is done. `None` when nothing waits for it.
    pub fn complete_publish(&mut self, packet_id: u16, qos: QoS, spares: &mut Spares) -> Option<Over> {
        let at = self.position(packet_id)?;
        match self.inflight.get(at) {
            Some(Inflight {
                stage: Stage::Publish(pending),
                ..
            }) if pending.qos == qos => self.over(at, spares).inspect(|_| self.weigh()),
            _ => None,
        }
    }

    /// PUBREC: from now on only PUBREL is sent again [MQTT-4.3.3-5], [MQTT-4.3.3-6]. `None` when the identifier is unknown.
    pub fn release(&mut self, packet_id: u16, spares: &mut Spares) -> Option<Release> {
        let entry = self.position(packet_id).and_then(|at| self.inflight.get_mut(at))?;
        let is_first = match &entry.stage {
            Stage::Publish(pending) if pending.qos != QoS::ExactlyOnce => return None,
            Stage::Publish(_) => true,
            Stage::Pubrel => false,
        };
        self.inflight_bytes -= entry.size();
        entry.release(spares);
        Some(Release {
            order: entry.order,
            must_be_recorded: is_first && entry.kept.is_some(),
        })
    }

    /// PUBCOMP: the delivery is over. `None` when no PUBREL waits for it.
    pub fn complete_pubrel(&mut self, packet_id: u16, spares: &mut Spares) -> Option<Over> {
        let at = self.position(packet_id)?;
        match self.inflight.get(at) {
            Some(Inflight {
                stage: Stage::Pubrel, ..
            }) => self.over(at, spares).inspect(|_| self.weigh()),
            _ => None,
        }
    }

    fn over(&mut self, at: usize, spares: &mut Spares) -> Option<Over> {
        let entry = self.inflight.get_mut(at)?;
        self.inflight_bytes -= entry.size();
        entry.release(spares);
        let over = Over {
            order: entry.order,
            kept: entry.kept,
        };
        if at == 0 {
            self.inflight.pop_front();
        } else {
            self.inflight.remove(at);
        }
        Some(over)
    }
}

//! What a client's acknowledgements do to its session: one of them, or as many in a row as are plain.
//!
//! Refuses to know the packets, and what is sent in return.

use super::{Inflight, Over, Release, Session, Spares, Stage};
use crate::delivery::IDENTIFIERS;
use core::ops::Range;
use sealmq_codec::QoS;
use sealmq_store::Order;

impl Session {
    /// PUBACKs: messages that are done, told to `tell`; how many of `ids` were awaited in this order, from the first on.
    pub fn complete_publishes(
        &mut self,
        ids: impl Iterator<Item = u16> + Clone,
        spares: &mut Spares,
        tell: impl FnMut(Over),
    ) -> usize {
        self.complete(ids, |entry| entry.awaits(QoS::AtLeastOnce), spares, tell)
    }

    /// PUBCOMPs: deliveries that are over, told to `tell`; how many of `ids` were awaited in this order, from the first on.
    pub fn complete_pubrels(
        &mut self,
        ids: impl Iterator<Item = u16> + Clone,
        spares: &mut Spares,
        tell: impl FnMut(Over),
    ) -> usize {
        self.complete(ids, |entry| matches!(entry.stage, Stage::Pubrel), spares, tell)
    }

    #[inline]
    fn complete(
        &mut self,
        ids: impl Iterator<Item = u16> + Clone,
        is_awaited: impl Fn(&Inflight) -> bool,
        spares: &mut Spares,
        mut tell: impl FnMut(Over),
    ) -> usize {
        let places = self.in_a_row(ids, is_awaited);
        let count = places.len();
        for entry in self.inflight.drain(places) {
            self.inflight_bytes -= entry.size();
            tell(Over {
                order: entry.order,
                kept: entry.kept,
            });
            if let Stage::Publish(sent) = entry.stage {
                spares.take_back(sent.message);
            }
        }
        self.weigh();
        count
    }

    /// PUBRECs that come for the first time, and that the log need not know of: `answer` gets the identifiers of the PUBRELs
    /// [MQTT-4.3.3-4]; how many of `ids` were such in this order, from the first on.
    pub fn release_all(
        &mut self,
        ids: impl Iterator<Item = u16> + Clone,
        spares: &mut Spares,
        mut answer: impl FnMut(u16),
    ) -> usize {
        let places = self.in_a_row(ids, |entry| entry.kept.is_none() && entry.awaits(QoS::ExactlyOnce));
        let count = places.len();
        for entry in self.inflight.range_mut(places) {
            self.inflight_bytes -= entry.size();
            entry.release(spares);
            answer(entry.packet_id());
        }
        count
    }

    /// Where in flight those are which have these identifiers, one behind the other, as long as they are wanted.
    #[inline]
    fn in_a_row(&self, ids: impl Iterator<Item = u16> + Clone, is_wanted: impl Fn(&Inflight) -> bool) -> Range<usize> {
        let first = ids.clone().next().filter(|_| self.has_one_turn());
        let Some(first) = first.and_then(|id| self.position(id)) else {
            return 0..0;
        };
        let entries = self.inflight.range(first..).zip(ids);
        let count = entries.take_while(|&(entry, id)| entry.packet_id() == id && is_wanted(entry));
        first..first + count.count()
    }

    /// Whether each identifier is in flight once at most.
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
        self.inflight.get(at).filter(|entry| entry.awaits(qos))?;
        self.over(at, spares)
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
        let entry = self.inflight.get(at);
        entry.filter(|entry| matches!(entry.stage, Stage::Pubrel))?;
        self.over(at, spares)
    }

    fn over(&mut self, at: usize, spares: &mut Spares) -> Option<Over> {
        let mut entry = self.inflight.remove(at)?;
        self.inflight_bytes -= entry.size();
        entry.release(spares);
        self.weigh();
        Some(Over {
            order: entry.order,
            kept: entry.kept,
        })
    }
}

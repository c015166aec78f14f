//! One message on its way to everyone whose subscription matches, and into the log where somebody must not miss it.
//!
//! Refuses to know who published it and who is told.

use crate::engine::Engine;
use crate::message::Content;
use crate::roster::Roster;
use crate::router::{Own, Route, RouteKey, Target};
use crate::rules::Authorized;
use crate::session::Kept;
use crate::time::Millis;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use sealmq_codec::{QoS, ReasonCode};
use sealmq_store::{Delivery, Keeping, Origin, Receiver, Seq, Slot, Urgency};

/// How a message fared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Routed {
    /// Sessions that it was meant for.
    pub reached: usize,
    /// When this is safe, nobody can miss it any more.
    pub seq: Seq,
}

/// It would not be safe with somebody: reason code, slug, sentence. Nobody has got it.
#[derive(Debug)]
pub(crate) struct NoPlace(pub ReasonCode, pub &'static str, pub String);

impl Engine {
    /// Give the message to everyone whose subscription matches.
    #[inline]
    pub(crate) fn route(
        &mut self,
        now: Millis,
        _authorized: Authorized,
        key: Option<RouteKey>,
        publisher: Option<u32>,
        content: &Content<'_>,
        origin: Origin,
    ) -> Result<Routed, NoPlace> {
        let is_promised = content.qos != QoS::AtMostOnce
            && self.roster.kept_sessions > 0
            && self.roster.log.keeping() == Keeping::Changes;
        if is_promised && let Some(urgency) = self.durability.of(content.topic) {
            return self.route_kept(now, key, publisher, content, origin, urgency);
        }
        let (router, roster) = (&mut self.router, &mut self.roster);
        let mut routed = Routed::default();
        if let Some((route, turn)) = router.route(key, content.topic) {
            let mut shared = None;
            for target in targets(route, publisher) {
                roster.deliver(now, target, content, &mut shared, None);
                routed.reached += 1;
            }
            for group in &route.groups {
                if let Some(target) = choose(roster, group, turn) {
                    roster.deliver(now, target, content, &mut shared, None);
                    routed.reached += 1;
                }
            }
        }
        if let Origin::Will { session } = origin
            && roster.log.keeping() == Keeping::Changes
        {
            let change = sealmq_store::Change::WillGone { session };
            routed.seq = roster.log.append(&change, self.durability.of_sessions());
        }
        Ok(routed)
    }

    /// The same where sessions take part that the log keeps: first everyone is asked for room, then the log gets the
    /// message with all its receivers, then they do.
    fn route_kept(
        &mut self,
        now: Millis,
        key: Option<RouteKey>,
        publisher: Option<u32>,
        content: &Content<'_>,
        origin: Origin,
        urgency: Urgency,
    ) -> Result<Routed, NoPlace> {
        let refusal = self.no_promises();
        let (router, roster) = (&mut self.router, &mut self.roster);
        let mut chosen = Vec::new();
        if let Some((route, turn)) = router.route(key, content.topic) {
            chosen.extend(targets(route, publisher));
            chosen.extend(route.groups.iter().filter_map(|group| choose(roster, group, turn)));
        }
        let size = content.size();
        let mut receivers = Vec::new();
        for target in chosen.iter().filter(|t| t.qos != QoS::AtMostOnce) {
            let Some(session) = roster.sessions.get_mut(target.session as usize).filter(|s| s.is_kept) else {
                continue;
            };
            if let Some((reason, slug, sentence)) = refusal.clone() {
                return Err(NoPlace(reason, slug, sentence));
            }
            if roster.limits.reject_when_full && session.is_full(size, &roster.limits) {
                let sentence = format!("the queue of session {} is full", session.client_id);
                return Err(NoPlace(ReasonCode::QuotaExceeded, "queue-full", sentence));
            }
            receivers.push((target, session.id));
        }
        let mut receivers: Vec<Receiver<'_>> = receivers
            .into_iter()
            .filter_map(|(target, id)| {
                let session = roster.sessions.get_mut(target.session as usize)?;
                Some(Receiver {
                    session: id,
                    order: session.take_order(),
                    qos: content.qos.min(target.qos) as u8,
                    retain: content.retain && target.retain_as_published,
                    identifiers: Cow::Borrowed(&target.identifiers),
                    slot: Slot::default(),
                })
            })
            .collect();
        // Without a receiver that is kept there is nothing to keep, but a will is gone all the same.
        let is_will = matches!(origin, Origin::Will { .. });
        let body = content.body();
        let seq = if receivers.is_empty() && !is_will {
            Seq(0)
        } else {
            roster.log.deliver(&Delivery { origin, body }, &mut receivers, urgency)
        };
        let mut shared = None;
        let mut places = receivers.into_iter();
        for target in &chosen {
            let is_kept = target.qos != QoS::AtMostOnce
                && roster.sessions.get(target.session as usize).is_some_and(|s| s.is_kept);
            let place = if is_kept { places.next() } else { None };
            let place = place.map(|r| (r.order, Kept { seq, slot: r.slot }));
            roster.deliver(now, target, content, &mut shared, place);
        }
        Ok(Routed {
            reached: chosen.len(),
            seq,
        })
    }
}

/// Whom the route names, each as the publisher's own subscriptions want it [MQTT-3.8.3-3].
fn targets(route: &Route, publisher: Option<u32>) -> impl Iterator<Item = &Target> {
    route.targets.iter().filter_map(move |target| match &target.own {
        Own::Same => Some(target),
        _ if Some(target.session) != publisher => Some(target),
        Own::Only(own) => Some(&**own),
        Own::Nothing => None,
    })
}

/// The member of a shared subscription whose turn it is: somebody connected if there is one, else a session that can
/// keep the message [MQTT-4.8.2-3].
fn choose<'a>(roster: &Roster, group: &'a [Target], turn: usize) -> Option<&'a Target> {
    let start = turn.checked_rem(group.len())?;
    let rotated = || group.iter().cycle().skip(start).take(group.len());
    let session = |t: &&Target| roster.sessions.get(t.session as usize);
    rotated()
        .find(|t| session(t).is_some_and(|s| s.conn.is_some()))
        .or_else(|| rotated().find(|t| session(t).is_some_and(|s| s.is_persistent())))
}

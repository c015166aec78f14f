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
use sealmq_codec::{QoS, ReasonCode, Version};
use sealmq_store::{Change, Delivery, Keeping, Origin, Receiver, Seq, Slot, Urgency};

/// Deliveries at QoS 0 that count as a unit of work: each is the writing of one packet into an outbox.
const QOS0_PER_UNIT: usize = 8;
/// Bytes of payload written into outboxes that count as a unit of work.
const COPIED_PER_UNIT: usize = 4096;

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
    /// Give the message to everyone whose subscription matches; where sessions take part that the log keeps, it gets the
    /// message first. When one of them has no room, or the log takes nothing, nobody gets it.
    #[inline]
    pub(crate) fn route(
        &mut self,
        now: Millis,
        _authorized: Authorized,
        key: Option<RouteKey>,
        publisher: Option<u32>,
        content: &Content<'_>,
        origin: Origin<'_>,
    ) -> Result<Routed, NoPlace> {
        let is_promised = content.qos != QoS::AtMostOnce
            && self.roster.kept_sessions > 0
            && self.roster.log.keeping() == Keeping::Changes;
        let urgency = if is_promised {
            self.durability.of(content.topic)
        } else {
            None
        };
        // A will is over when it is sent.
        let remembers = content.qos == QoS::ExactlyOnce && !matches!(origin, Origin::Will { .. });
        let remembering = publisher.filter(|_| remembers);
        let no_room = || remembering.and_then(|publisher| self.roster.no_room_to_remember(publisher));
        let refusal = urgency.and_then(|_| self.no_promises().or_else(no_room));
        let (router, roster) = (&mut self.router, &mut self.roster);
        let route = router.route(key, content.topic);
        if let (Some((route, turn)), Some(urgency)) = (route, urgency)
            && roster.reaches_kept(route)
        {
            let chosen = roster.choose(route, turn, publisher);
            let (room, reached) = (roster.check_room(&chosen, publisher, content, refusal), chosen.len());
            let routed = room.map(|()| roster.deliver_kept(now, &chosen, content, origin, urgency));
            // Writing for the log costs more than an outbox does; for a refusal all of them were looked at as well.
            self.router.work += 4 * reached + copying(content.payload.len(), reached);
            return routed;
        }
        let mut routed = Routed::default();
        if let Some((route, turn)) = route {
            routed.reached = roster.deliver_all(now, route, turn, publisher, content);
            // A turn that ends early has all these outboxes flushed for little: that costs more than filling them does.
            self.router.work += units(content.qos, routed.reached) + copying(content.payload.len(), routed.reached);
        }
        routed.seq = self.forget_origin(origin);
        Ok(routed)
    }

    /// The same for a message that nobody would send again: whoever has room gets it, and the log does not.
    pub(crate) fn route_loosely(
        &mut self,
        now: Millis,
        publisher: Option<u32>,
        content: &Content<'_>,
        origin: Origin<'_>,
    ) {
        let key = self.router.key(content.topic, None);
        if let Some((route, turn)) = self.router.route(key, content.topic) {
            self.roster.deliver_all(now, route, turn, publisher, content);
        }
        self.forget_origin(origin);
    }

    /// A will is sent once, also when no delivery takes it out of the log.
    fn forget_origin(&mut self, origin: Origin<'_>) -> Seq {
        match origin {
            Origin::Will { session } if self.roster.log.keeping() == Keeping::Changes => {
                self.record(&Change::WillGone { session })
            }
            _ => Seq(0),
        }
    }
}

impl Roster {
    fn speaks_v311(&self, session: u32) -> bool {
        let conn = self.sessions.get(session as usize).and_then(|s| s.conn);
        conn.and_then(|index| self.conns.get(index as usize))
            .is_some_and(|c| c.version == Version::V311)
    }

    fn is_kept(&self, target: &Target) -> bool {
        target.qos != QoS::AtMostOnce && self.sessions.get(target.session as usize).is_some_and(|s| s.is_kept)
    }

    pub fn reaches_kept(&self, route: &Route) -> bool {
        let mut all = route.targets.iter().chain(route.groups.iter().flatten());
        all.any(|target| self.is_kept(target))
    }

    #[inline]
    fn deliver_all(
        &mut self,
        now: Millis,
        route: &Route,
        turn: usize,
        publisher: Option<u32>,
        content: &Content<'_>,
    ) -> usize {
        let (mut shared, mut reached) = (None, 0);
        let is_alone = route.groups.is_empty() && route.targets.len() == 1;
        for target in targets(route, publisher) {
            self.deliver(now, (target, is_alone), content, &mut shared, None);
            reached += 1;
        }
        for group in &route.groups {
            if let Some(target) = choose(self, group, turn) {
                self.deliver(now, (target, false), content, &mut shared, None);
                reached += 1;
            }
        }
        reached
    }

    fn choose<'r>(&self, route: &'r Route, turn: usize, publisher: Option<u32>) -> Vec<&'r Target> {
        let members = route.groups.iter().filter_map(|group| choose(self, group, turn));
        targets(route, publisher).chain(members).collect()
    }

    /// Whether every kept session among them can take the message, before any of them does.
    ///
    /// The publisher's own session is left out in MQTT 3.1.1, which has no word for a refusal: its connection would end,
    /// the client would come back, send the message again before it could empty its queue, and so on for ever.
    fn check_room(
        &self,
        chosen: &[&Target],
        publisher: Option<u32>,
        content: &Content<'_>,
        refusal: Option<NoPlace>,
    ) -> Result<(), NoPlace> {
        let mut kept = chosen.iter().filter(|target| self.is_kept(target));
        if let Some(refusal) = refusal {
            return kept.next().map_or(Ok(()), |_| Err(refusal));
        }
        if !self.limits.reject_when_full {
            return Ok(());
        }
        let size = content.size();
        // One by its own subscription; each turn of a shared one is another copy.
        let copies = |session: u32| {
            chosen
                .iter()
                .filter(|t| t.session == session && self.is_kept(t))
                .count()
        };
        let is_full = |target: &&&Target| {
            let session = self.sessions.get(target.session as usize)?;
            let count = if target.is_member { copies(target.session) } else { 1 };
            session.is_full(count, size, &self.limits).then_some(session)
        };
        let forgiven = publisher.filter(|&index| self.speaks_v311(index));
        kept.filter(|target| Some(target.session) != forgiven)
            .find_map(|target| is_full(&target))
            .map_or(Ok(()), |full| {
                let sentence = format!("the queue of session {} is full", full.client_id);
                Err(NoPlace(ReasonCode::QuotaExceeded, "queue-full", sentence))
            })
    }

    /// The log gets the message with all receivers that it keeps, then everybody does.
    fn deliver_kept(
        &mut self,
        now: Millis,
        chosen: &[&Target],
        content: &Content<'_>,
        origin: Origin<'_>,
        urgency: Urgency,
    ) -> Routed {
        let mut receivers = Vec::new();
        for target in chosen.iter().filter(|target| target.qos != QoS::AtMostOnce) {
            let session = self.sessions.get_mut(target.session as usize);
            if let Some(session) = session.filter(|s| s.is_kept) {
                receivers.push(Receiver {
                    session: session.id,
                    order: session.take_order(),
                    qos: content.qos.min(target.qos) as u8,
                    retain: content.retain && target.retain_as_published,
                    identifiers: Cow::Borrowed(&target.identifiers),
                    slot: Slot::default(),
                });
            }
        }
        // Without a receiver that is kept there is nothing to keep, but a will is gone all the same.
        let is_will = matches!(origin, Origin::Will { .. });
        let body = content.body();
        let seq = if receivers.is_empty() && !is_will {
            Seq(0)
        } else {
            self.log.deliver(&Delivery { origin, body }, &mut receivers, urgency)
        };
        let mut shared = None;
        let mut places = receivers.into_iter();
        for target in chosen {
            let place = if self.is_kept(target) { places.next() } else { None };
            let place = place.map(|r| (r.order, Kept { seq, slot: r.slot }));
            self.deliver(now, (target, false), content, &mut shared, place);
        }
        let reached = chosen.len();
        Routed { reached, seq }
    }
}

/// Units of work for handing a message to so many.
#[inline]
pub(crate) fn units(qos: QoS, reached: usize) -> usize {
    match qos {
        QoS::AtMostOnce => reached / QOS0_PER_UNIT,
        _ => reached,
    }
}

/// Units of work for writing a payload of so many bytes into so many outboxes.
#[inline]
pub(crate) fn copying(payload: usize, reached: usize) -> usize {
    payload * reached / COPIED_PER_UNIT
}

/// Whom the route names, each as the publisher's own subscriptions want it [MQTT-3.8.3-3].
pub(crate) fn targets(route: &Route, publisher: Option<u32>) -> impl Iterator<Item = &Target> {
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

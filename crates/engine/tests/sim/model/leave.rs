//! What may leave the broker towards a client, and what its acknowledgements end (sections 4.3, 4.4, 4.6, 4.9).
//!
//! Refuses to know bytes. Whatever leaves must be explained by a subscription; what is explained is ticked off.

use super::{Delivery, Look, Model, Passing, Stage};

/// One PUBLISH as it was written for a client, aliases resolved.
pub struct Seen<'a> {
    pub line: u64,
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub packet_id: u16,
    /// Rising.
    pub identifiers: Vec<u32>,
    /// Seconds it is told to live on.
    pub expiry_s: Option<u32>,
    pub mark: Option<&'a str>,
    pub is_v5: bool,
    /// When it was written, at the earliest.
    pub since: u64,
}

impl Seen<'_> {
    /// Whether the words are those of `message`, as long as it lives on.
    fn is(&self, message: &super::Message, expires_at: Option<u64>, now: u64) -> bool {
        if self.topic != message.topic || self.payload != message.payload {
            return false;
        }
        if !self.is_v5 {
            return true;
        }
        let left = |then: u64| expires_at.map(|at| u32::try_from(at.saturating_sub(then).div_ceil(1000)).unwrap());
        let mark = message.is_marked.then(|| message.serial.to_string());
        // [MQTT-3.3.2-6]: what is left of its life; [MQTT-3.3.2-17]: properties travel along
        (left(now) <= self.expiry_s && self.expiry_s <= left(self.since)) && mark.as_deref() == self.mark
    }

    fn is_like(&self, qos: u8, retain: bool, identifiers: &[u32]) -> bool {
        // 3.1.1 has no identifiers to tell
        self.qos == qos && self.retain == retain && (!self.is_v5 || self.identifiers == identifiers)
    }
}

impl Model {
    /// A PUBLISH leaves for `client`: it has to be one that it is to get now.
    pub fn leave(&mut self, client: usize, seen: &Seen<'_>) {
        if seen.qos == 0 {
            // [MQTT-3.3.1-2]
            assert!(!seen.dup, "DUP at QoS 0");
            return self.leave_at_once(client, seen);
        }
        if seen.dup && self.leave_again(client, seen) {
            return;
        }
        let now = self.now;
        let session = self.session(client);
        // [MQTT-2.2.1-4]
        let in_use = session
            .deliveries
            .iter()
            .find(|d| d.packet_id == Some(seen.packet_id) && d.stage != Stage::Waiting);
        assert!(
            in_use.is_none(),
            "packet identifier {} is in use for {in_use:?}",
            seen.packet_id
        );
        let fits = |d: &Delivery| {
            d.stage == Stage::Waiting
                && d.is_like_seen(seen)
                && seen.is(&d.message, d.expires_at, now)
                && (!seen.dup || d.may_repeat)
                // [MQTT-3.3.2-5]
                && (d.may_repeat || d.expires_at.is_none_or(|at| at > seen.since))
        };
        session.sent += 1;
        let (line, sent, packet_id) = (seen.line, session.sent, seen.packet_id);
        let fitting: Vec<usize> = (0..session.deliveries.len())
            .filter(|at| fits(&session.deliveries[*at]))
            .collect();
        let next = self.likeliest(client, &fitting, seen.since);
        let session = self.session(client);
        if let (Some(next), Some(last)) = (next, fitting.last()) {
            // Of two alike that were sent by one who repeats himself, this was not the one that was lost.
            if let Some(excuse) = session.deliveries[next].excuse.take()
                && *last != next
            {
                session.deliveries[*last].excuse = Some(excuse);
            }
            let delivery = &mut session.deliveries[next];
            delivery.stage = Stage::Published;
            delivery.packet_id = Some(packet_id);
            (delivery.line, delivery.sent) = (line, sent);
            let (id, group, key) = (delivery.id, delivery.group.take(), delivery.stream());
            if group.is_none() {
                session.newest.insert(key, id);
            }
            let before = self.memory.sent.insert(id, (packet_id, sent));
            // [MQTT-4.4.0-1]
            assert!(
                before.is_none_or(|b| b.0 == packet_id),
                "another packet identifier than {before:?}"
            );
            return self.claim(client, group);
        }
        self.leave_as_answer(client, seen);
    }

    /// Which of several deliveries that look the same it was: one that is in its turn [MQTT-4.6.0-5], [MQTT-4.6.0-6], that has
    /// not expired, and that fewest others could get.
    fn likeliest(&self, client: usize, fitting: &[usize], since: u64) -> Option<usize> {
        let session = &self.sessions[&client];
        let is_next = |d: &Delivery| {
            // Members of a group may get the first or the second of a message that was sent again.
            let newest = session.newest.get(&d.stream());
            // What was left out for its size may come after all, from a broker that has forgotten it.
            let is_late = session.is_restored && d.excuse.is_some();
            d.group.is_some() || is_late || newest.is_none_or(|newest| *newest < d.id)
        };
        let candidates = |d: &Delivery| {
            let of_it = |s: &&super::Session| s.deliveries.iter().any(|other| other.group == d.group);
            d.group.map_or(0, |_| self.sessions.values().filter(of_it).count())
        };
        let in_turn = fitting
            .iter()
            .map(|at| (*at, &session.deliveries[*at]))
            .filter(|(_, d)| is_next(d));
        let found = in_turn.min_by_key(|(_, d)| (d.expires_at.is_some_and(|at| at <= since), candidates(d)));
        found.map(|(at, _)| at)
    }

    /// Sent again, on another connection: the same message under the same identifier, in the old order.
    fn leave_again(&mut self, client: usize, seen: &Seen<'_>) -> bool {
        let now = self.now;
        let session = self.session(client);
        let last = session
            .deliveries
            .iter()
            .filter(|d| d.line == seen.line)
            .map(|d| d.sent)
            .max();
        let is_restored = session.is_restored;
        let found = |d: &&mut Delivery| d.packet_id == Some(seen.packet_id) && d.stage != Stage::Waiting;
        let Some(delivery) = session.deliveries.iter_mut().find(found) else {
            return false;
        };
        // [MQTT-4.3.3-6]
        assert!(delivery.stage == Stage::Published, "PUBLISH after PUBREC: {delivery:?}");
        assert!(
            delivery.is_like_seen(seen) && seen.is(&delivery.message, delivery.expires_at, now),
            "DUP of something else than {delivery:?}"
        );
        assert!(delivery.line != seen.line, "twice on one connection: {delivery:?}");
        // [MQTT-4.6.0-1]
        assert!(
            is_restored || last.is_none_or(|last| last < delivery.sent),
            "sent again out of order: {delivery:?}"
        );
        delivery.line = seen.line;
        true
    }

    fn leave_at_once(&mut self, client: usize, seen: &Seen<'_>) {
        let now = self.now;
        let session = self.session(client);
        let fits = |p: &Passing| seen.is_like(0, p.retain, &p.identifiers) && seen.is(&p.message, p.expires_at, now);
        match session.passing.iter().position(fits) {
            Some(at) => {
                let group = session.passing.remove(at).group;
                self.claim(client, group);
            }
            None => self.leave_as_answer(client, seen),
        }
    }

    /// A retained message that answers a subscription [MQTT-3.3.1-8], [MQTT-3.3.1-9].
    fn leave_as_answer(&mut self, client: usize, seen: &Seen<'_>) {
        let now = self.now;
        let id = self.memory.number();
        let session = self.session(client);
        // What a broker that starts again repeats of its answers stands where it comes.
        let on_line = session
            .deliveries
            .iter()
            .filter(|d| d.line == seen.line)
            .map(|d| d.sent)
            .max();
        let sent = if seen.dup { on_line.unwrap_or(0) } else { session.sent };
        let mut found = None;
        // Of two that could be meant, the one that must be answered.
        session
            .dues
            .sort_by_key(|due| due.is_optional || due.topics.get(seen.topic).is_none_or(|owed| !owed.is_certain));
        let looks: Vec<(String, Vec<Look>)> = session
            .dues
            .iter()
            .map(|due| (due.filter.clone(), due.looks()))
            .collect();
        // Of a filter that was subscribed to again meanwhile it may be open which answer was whose: the likely ones first.
        'found: for is_open in [false, true] {
            for due in &mut session.dues {
                let of_filter = looks.iter().filter(|(filter, _)| *filter == due.filter);
                let looks: Vec<Look> = match is_open {
                    true if due.is_optional => of_filter.flat_map(|(_, looks)| looks).cloned().collect(),
                    _ => due.looks(),
                };
                let candidates = due.topics.get(seen.topic).map_or(&[][..], |owed| &owed.candidates);
                let fits = |c: &&super::Retained| {
                    looks
                        .iter()
                        .any(|(qos, identifiers)| seen.is_like(c.qos.min(*qos), true, identifiers))
                        && seen.is(&c.message, c.expires_at, now)
                        && c.expires_at.is_none_or(|at| at > seen.since || seen.dup)
                };
                if let Some(candidate) = candidates.iter().find(fits) {
                    found = Some((candidate.clone(), seen.identifiers.clone()));
                    due.topics.remove(seen.topic);
                    break 'found;
                }
            }
        }
        let Some((candidate, identifiers)) = found else {
            let text = String::from_utf8_lossy(seen.payload);
            panic!(
                "nobody asked for {} ({text:?}) at QoS {}, retain {}, dup {}, identifiers {:?}, expiry {:?}, mark {:?}",
                seen.topic, seen.qos, seen.retain, seen.dup, seen.identifiers, seen.expiry_s, seen.mark
            );
        };
        if seen.qos == 0 {
            return;
        }
        session.deliveries.push(Delivery {
            id,
            message: candidate.message,
            qos: seen.qos,
            retain: true,
            identifiers,
            expires_at: candidate.expires_at,
            stage: Stage::Published,
            packet_id: Some(seen.packet_id),
            line: seen.line,
            sent,
            group: None,
            excuse: None,
            may_repeat: false,
            is_answer: true,
        });
    }

    /// One member of a group has it: nobody else gets it.
    fn claim(&mut self, client: usize, group: Option<u64>) {
        let Some(group) = group else { return };
        let before = self.memory.claims.insert(group, client);
        assert!(
            before.is_none_or(|b| b == client),
            "two members of a shared subscription got one message"
        );
        for session in self.sessions.values_mut() {
            session.deliveries.retain(|d| d.group != Some(group));
            session.passing.retain(|p| p.group != Some(group));
        }
    }

    /// After a call into the engine: what was to go to `client` at QoS 0 has gone, unless the outbox was full or the client
    /// takes no packet of that size.
    pub fn settle_passing(&mut self, client: usize, was_full: bool, most: usize) {
        let passing = std::mem::take(&mut self.session(client).passing);
        let is_v5 = self.session(client).is_v5;
        for one in passing {
            let size = packet_size(&one.message, 0, &one.identifiers, one.expires_at, is_v5);
            if was_full || size > most {
                self.memory.excused.extend(one.group);
                continue;
            }
            let others = |s: &super::Session| {
                s.passing.iter().any(|p| p.group == one.group) || s.deliveries.iter().any(|d| d.group == one.group)
            };
            let may_be_elsewhere = one
                .group
                .is_some_and(|group| self.memory.excused.contains(&group) || self.sessions.values().any(others));
            assert!(
                may_be_elsewhere,
                "a QoS 0 message did not leave for client {client}: {one:?}"
            );
        }
    }

    /// What is larger than the client takes is not sent [MQTT-3.1.2-25].
    pub fn excuse_large(&mut self, client: usize, most: usize) {
        let session = self.session(client);
        let is_v5 = session.is_v5;
        for d in &mut session.deliveries {
            if packet_size(&d.message, d.qos, &d.identifiers, d.expires_at, is_v5) > most {
                d.excuse = Some("larger than the client takes");
            }
        }
        for due in &mut session.dues {
            due.is_optional = true;
        }
    }

    /// PUBACK, or PUBREC with a failure.
    pub fn acknowledged(&mut self, client: usize, packet_id: u16, qos: u8) -> bool {
        self.finish(client, packet_id, |d| d.qos == qos && d.stage == Stage::Published)
    }

    /// PUBREC: only PUBREL is sent from now on.
    pub fn released(&mut self, client: usize, packet_id: u16) {
        let session = self.session(client);
        let open = |d: &&mut Delivery| d.packet_id == Some(packet_id) && d.qos == 2 && d.stage != Stage::Waiting;
        if let Some(delivery) = session.deliveries.iter_mut().find(open) {
            delivery.stage = Stage::Released;
        }
    }

    pub fn completed(&mut self, client: usize, packet_id: u16) -> bool {
        self.finish(client, packet_id, |d| d.stage == Stage::Released)
    }

    fn finish(&mut self, client: usize, packet_id: u16, ends: impl Fn(&Delivery) -> bool) -> bool {
        let deliveries = &mut self.session(client).deliveries;
        let found = deliveries
            .iter()
            .position(|d| d.packet_id == Some(packet_id) && ends(d));
        found.map(|at| deliveries.remove(at)).is_some()
    }

    /// At the very end: everybody has read everything. What is still here was lost, or there is a reason.
    pub fn settle(&self) {
        for (client, session) in &self.sessions {
            for delivery in &session.deliveries {
                let is_late = delivery.expires_at.is_some_and(|at| at <= self.now);
                let elsewhere = delivery.group.is_some_and(|group| {
                    let of_it = |d: &Delivery| d.group == Some(group) && d.excuse.is_some();
                    self.memory.excused.contains(&group)
                        || self.sessions.values().any(|s| s.deliveries.iter().any(of_it))
                });
                let is_sent = delivery.stage != Stage::Waiting && delivery.excuse.is_none();
                assert!(
                    (is_late && !is_sent) || delivery.excuse.is_some() || elsewhere,
                    "never came to client {client}: {delivery:?}"
                );
            }
        }
    }
}

impl Delivery {
    /// What has an order: messages of one publisher on one topic.
    fn stream(&self) -> (Option<usize>, String) {
        (self.message.publisher, self.message.topic.clone())
    }

    fn is_like_seen(&self, seen: &Seen<'_>) -> bool {
        seen.is_like(self.qos, self.retain, &self.identifiers)
    }
}

/// Bytes of the PUBLISH with its topic name and without an alias.
fn packet_size(message: &super::Message, qos: u8, identifiers: &[u32], expires_at: Option<u64>, is_v5: bool) -> usize {
    let varint = |n: usize| if n < 128 { 1 } else { 2 };
    let mut body = 2 + message.topic.len() + message.payload.len() + if qos > 0 { 2 } else { 0 };
    if is_v5 {
        let mark = if message.is_marked {
            6 + message.serial.to_string().len()
        } else {
            0
        };
        let expiry = if expires_at.is_some() { 5 } else { 0 };
        let properties = mark + expiry + identifiers.iter().map(|&i| 1 + varint(i as usize)).sum::<usize>();
        body += varint(properties) + properties;
    }
    1 + varint(body) + body
}

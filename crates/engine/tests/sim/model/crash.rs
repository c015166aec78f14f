//! What is left after the power went: the state as of the last change that was safe (what was acknowledged is in it), merged
//! with what the world has already seen.
//!
//! Refuses to know how the log is written.

use super::{Model, Session, Stage};

impl Model {
    /// The broker is gone at `now`; the log is as far as when the model was `kept`.
    pub fn crash(&mut self, kept: Model, now: u64) {
        let mut next = kept;
        next.memory = std::mem::take(&mut self.memory);
        next.now = now;
        next.law = self.law;
        (next.wills, next.expired, next.takeovers) = (0, 0, 0);
        self.check_promises(&next);
        // A session that is not kept was sent what it was sent.
        for (key, count) in &self.granted {
            if self.sessions.get(&key.0).is_none_or(|s| !s.is_kept) {
                let granted = next.granted.entry(*key).or_default();
                *granted = (*granted).max(*count);
            }
        }
        for session in next.sessions.values().filter(|s| !s.is_kept) {
            next.orphans.extend(session.will.clone());
        }
        let gone: Vec<Session> = next.sessions.values().filter(|s| !s.is_kept).cloned().collect();
        gone.iter().for_each(|session| next.excuse_groups(session));
        next.sessions.retain(|_, s| s.is_kept);
        for (client, session) in &mut next.sessions {
            let present = self.sessions.get(client).filter(|s| s.number == session.number);
            merge(session, present, &next.memory);
            if session.line.take().is_some() {
                let at = |seconds: u32| now + u64::from(seconds) * 1000;
                session.ends_at = Some(at(session.expiry_s));
                session.will_at = session.will.as_ref().map(|will| at(will.delay_s.min(session.expiry_s)));
            }
        }
        *self = next;
        // Rules that changed meanwhile hold for what was kept, too.
        self.obey();
        for will in std::mem::take(&mut self.orphans) {
            self.send_will(&will);
        }
    }

    /// Nothing that a client was told is missing from what is left.
    fn check_promises(&self, next: &Model) {
        for (client, present) in self.sessions.iter().filter(|(_, s)| s.is_kept) {
            let Some(kept) = next.sessions.get(client).filter(|s| s.number == present.number) else {
                assert!(
                    !present.is_acknowledged,
                    "the session of client {client} was promised and is lost"
                );
                continue;
            };
            for (text, subscription) in &present.subscriptions {
                let is_there = kept.subscriptions.contains_key(text);
                assert!(
                    is_there || !subscription.is_acknowledged,
                    "subscription {text} was promised and is lost"
                );
            }
            for (text, subscription) in &kept.subscriptions {
                let is_back = present.ended.contains(&subscription.number);
                assert!(!is_back, "subscription {text} was ended and is back");
            }
            for lost in present.deliveries.iter().filter(|d| !d.is_answer) {
                if kept.deliveries.iter().any(|d| d.id == lost.id) {
                    continue;
                }
                let is_sure = lost.group.is_none() && lost.excuse.is_none();
                assert!(
                    !(is_sure && lost.message.is_acknowledged.get()),
                    "acknowledged and lost: {lost:?}"
                );
                // It comes again with its publisher, and must not have been there before.
                assert!(
                    lost.qos < 2 || lost.stage == Stage::Waiting,
                    "sent before it was safe: {lost:?}"
                );
            }
        }
        for (topic, present) in &self.retained {
            let is_there = next
                .retained
                .get(topic)
                .is_some_and(|r| r.message.serial == present.message.serial);
            let is_promised = present.qos > 0 && present.message.is_acknowledged.get();
            assert!(
                is_there || !is_promised,
                "the retained message of {topic} was acknowledged and is lost"
            );
        }
    }
}

/// A session as it was kept, and what has become of it since.
fn merge(kept: &mut Session, present: Option<&Session>, memory: &super::Memory) {
    kept.received.retain(|_, is_kept| *is_kept);
    kept.passing.clear();
    kept.is_restored = true;
    kept.restarts += 1;
    kept.is_sealed = false;
    for due in &mut kept.dues {
        due.is_optional = true;
        due.as_found = kept.subscriptions.get(&due.filter).map(|s| (s.qos, s.identifier));
    }
    kept.sent = kept.sent.max(present.map_or(0, |s| s.sent));
    for delivery in &mut kept.deliveries {
        let found = present.and_then(|s| s.deliveries.iter().find(|d| d.id == delivery.id));
        // Whoever was connected may have been sent anything.
        delivery.may_repeat = true;
        match found {
            Some(now) => {
                delivery.line = now.line;
                delivery.excuse = delivery.excuse.or(now.excuse);
                delivery.group = now.group;
            }
            None => delivery.excuse = Some("it was over before the crash"),
        }
        if let Some(&(packet_id, sent)) = memory.sent.get(&delivery.id) {
            (delivery.packet_id, delivery.sent) = (Some(packet_id), sent);
            delivery.stage = delivery.stage.max(Stage::Published);
        }
    }
    if let Some(present) = present {
        for (key, id) in &present.newest {
            let newest = kept.newest.entry(key.clone()).or_default();
            *newest = (*newest).max(*id);
        }
    }
}

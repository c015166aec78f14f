//! Who gets a message: one delivery for each session, one member of each shared subscription (sections 3.3.4, 4.8.2).
//!
//! Refuses to know when it is sent.

use super::{Delivery, Message, Model, Passing, Stage, Subscription, Will};
use crate::topics::{parts, reaches};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A message in the moment it is routed.
#[derive(Clone)]
pub struct Routing {
    pub message: Rc<Message>,
    pub qos: u8,
    pub retain: bool,
    pub expires_at: Option<u64>,
}

impl Model {
    /// A PUBLISH is taken in, and the broker says that it has place for it; how many sessions it is for, and whether one of
    /// them is kept by the log.
    pub fn route(&mut self, routing: &Routing) -> (usize, bool) {
        let (mut reached, mut is_kept) = (0, false);
        let topic = &routing.message.topic;
        let publisher = routing.message.publisher;
        let clients: Vec<usize> = self.sessions.keys().copied().collect();
        let mut groups: BTreeMap<String, Vec<(usize, Subscription)>> = BTreeMap::new();
        for client in clients {
            let session = &self.sessions[&client];
            let mut own = Vec::new();
            for (text, subscription) in &session.subscriptions {
                let (group, filter) = parts(text);
                if !reaches(filter, topic) {
                    continue;
                }
                if group.is_some() {
                    groups
                        .entry(text.clone())
                        .or_default()
                        .push((client, subscription.clone()));
                } else if !(subscription.no_local && publisher == Some(client)) {
                    own.push(subscription.clone());
                }
            }
            if !own.is_empty() {
                reached += 1;
                is_kept |= session.is_kept && own.iter().any(|s| s.qos > 0);
                self.give(client, &own, routing, None);
            }
        }
        for members in groups.into_values() {
            reached += 1;
            self.give_one(&members, routing);
        }
        (reached, is_kept)
    }

    /// One of the members that can take it now: somebody connected if there is one.
    fn give_one(&mut self, members: &[(usize, Subscription)], routing: &Routing) {
        let is_here = |client: &usize| self.sessions[client].line.is_some();
        let somebody = members.iter().any(|(client, _)| is_here(client));
        let candidates: Vec<_> = members
            .iter()
            .filter(|(client, _)| is_here(client) || !somebody)
            .collect();
        let group = self.memory.number();
        for (client, subscription) in candidates {
            if subscription.qos.min(routing.qos) == 0 && !somebody {
                self.memory.excused.insert(group);
            }
            self.give(*client, std::slice::from_ref(subscription), routing, Some(group));
        }
    }

    fn give(&mut self, client: usize, matching: &[Subscription], routing: &Routing, group: Option<u64>) {
        let qos = matching.iter().map(|s| s.qos).max().unwrap_or(0).min(routing.qos);
        let mut identifiers: Vec<u32> = matching.iter().map(|s| s.identifier).filter(|&i| i != 0).collect();
        identifiers.sort_unstable();
        let retain = routing.retain && matching.iter().any(|s| s.retain_as_published);
        let id = self.memory.number();
        let most = self.most_queued;
        let may_miss = self.may_miss;
        let session = self.session(client);
        let message = Rc::clone(&routing.message);
        let expires_at = routing.expires_at;
        if qos == 0 {
            if session.line.is_some() {
                session.passing.push(Passing {
                    message,
                    retain,
                    identifiers,
                    expires_at,
                    group,
                });
            }
            return;
        }
        if !session.takes() {
            return;
        }
        // What is kept is refused before it is missed, but for what a 3.1.1 client sends to itself: it has no word for a refusal.
        let is_own = routing.message.publisher == Some(client) && !session.is_v5;
        let is_full = session.queued() >= most && (may_miss || is_own || !session.is_kept || group.is_some());
        session.deliveries.push(Delivery {
            id,
            message,
            qos,
            retain,
            identifiers,
            expires_at,
            stage: Stage::Waiting,
            packet_id: None,
            line: 0,
            sent: 0,
            group,
            excuse: is_full.then_some("the queue was full"),
            may_repeat: false,
            is_answer: false,
        });
        if qos == 2 {
            *self.granted.entry((client, routing.message.serial)).or_default() += 1;
        }
    }

    /// Whether some session that the log keeps may have no room for a message on `topic`.
    pub fn may_refuse(&self, topic: &str) -> bool {
        self.sessions.values().any(|session| {
            let wants = |text: &String| reaches(parts(text).1, topic);
            session.is_kept && session.queued() + 1 >= self.most_queued && session.subscriptions.keys().any(wants)
        })
    }

    /// A will is sent (section 3.1.2.5).
    pub(super) fn send_will(&mut self, will: &Will) {
        self.wills += 1;
        let expires_at = will.expiry_s.map(|s| self.now + u64::from(s) * 1000);
        if will.retain {
            self.retain(&will.message, will.qos, expires_at);
        }
        // Nobody would send it again: where there is no room it is missed.
        let before = std::mem::replace(&mut self.may_miss, true);
        self.route(&Routing {
            message: Rc::clone(&will.message),
            qos: will.qos,
            retain: will.retain,
            expires_at,
        });
        self.may_miss = before;
    }
}

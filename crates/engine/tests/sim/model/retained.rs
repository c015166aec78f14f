//! Retained messages: as last written, and what new subscriptions are owed of them (section 3.3.1.3).
//!
//! Refuses to know how they reach anybody.

use super::{Due, Look, Message, Model, Owed, Retained};
use crate::topics::reaches;
use std::collections::BTreeMap;
use std::rc::Rc;

impl Due {
    /// What an answer looks like.
    pub fn looks(&self) -> Vec<Look> {
        let asked = Some((self.qos, self.identifier));
        let looks = [asked, self.as_found].into_iter().flatten();
        looks
            .map(|(qos, identifier)| (qos, Vec::from_iter((identifier != 0).then_some(identifier))))
            .collect()
    }
}

impl Model {
    /// Keep or forget; whoever is being answered may see the old state or the new.
    pub fn retain(&mut self, message: &Rc<Message>, qos: u8, expires_at: Option<u64>) {
        let topic = &message.topic;
        if message.payload.is_empty() {
            self.forget_retained(topic);
            return;
        }
        let retained = Retained {
            message: Rc::clone(message),
            qos,
            expires_at,
        };
        for (client, session) in &mut self.sessions {
            for due in session.dues.iter_mut().filter(|due| reaches(&due.filter, topic)) {
                let owed = due.topics.entry(topic.clone()).or_default();
                owed.candidates.push(retained.clone());
                *self.granted.entry((*client, message.serial)).or_default() += 1;
            }
        }
        self.retained.insert(topic.clone(), retained);
    }

    pub fn forget_retained(&mut self, topic: &str) {
        self.retained.remove(topic);
        for session in self.sessions.values_mut() {
            for due in &mut session.dues {
                if let Some(owed) = due.topics.get_mut(topic) {
                    owed.is_certain = false;
                }
            }
        }
    }

    pub fn is_current(&self, retained: &Retained) -> bool {
        retained.expires_at.is_none_or(|at| at > self.now)
    }

    pub(super) fn owe(&mut self, client: usize, filter: &str, qos: u8, identifier: u32) {
        let mut topics = BTreeMap::new();
        for (topic, retained) in &self.retained {
            if reaches(filter, topic) && self.is_current(retained) {
                let owed = Owed {
                    candidates: vec![retained.clone()],
                    is_certain: true,
                };
                topics.insert(topic.clone(), owed);
                *self.granted.entry((client, retained.message.serial)).or_default() += 1;
            }
        }
        // Where the queue is small the answer may not fit.
        let is_optional = self.most_queued < 1000;
        let session = self.session(client);
        // What is under way already stays so.
        session
            .dues
            .iter_mut()
            .filter(|due| due.filter == filter)
            .for_each(|due| due.is_optional = true);
        session.dues.push(Due {
            filter: filter.into(),
            qos,
            identifier,
            topics,
            is_optional,
            as_found: None,
        });
    }

    /// The client has room and has had time: it has all that it was owed.
    pub fn settle_dues(&mut self, client: usize) {
        let now = self.now;
        let session = self.session(client);
        let dues = std::mem::take(&mut session.dues);
        for due in &dues {
            // Of answers that look the same it is not known which was for whom.
            let alike = dues.iter().filter(|other| other.identifier == due.identifier).count();
            for (topic, owed) in due.topics.iter().filter(|_| !due.is_optional && alike == 1) {
                let may_expire = owed.candidates.iter().any(|c| c.expires_at.is_some_and(|at| at <= now));
                assert!(
                    !owed.is_certain || may_expire,
                    "retained message of {topic} did not answer the subscription to {}",
                    due.filter
                );
            }
        }
    }
}

//! What the broker does of its own accord: it ends a connection, it publishes a message of its own.
//!
//! Refuses to know who asked for it.

use crate::conn::ConnId;
use crate::engine::Engine;
use crate::event::EndCause;
use crate::message::Content;
use crate::retained::Budget;
use crate::rules;
use crate::time::Millis;
use alloc::vec::Vec;
use sealmq_codec::{QoS, ReasonCode};
use sealmq_store::{Change, Origin, Seq};

/// Whether a message stays for those who subscribe later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    Keep,
    Pass,
}

/// What was left of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub sessions: usize,
    pub retained: usize,
    /// Where the log stands with it; see [`Engine::is_settled`].
    pub seq: Seq,
}

impl Engine {
    /// Forget a device: its sessions end with all they hold, wills too, and the retained messages under its own topics (where
    /// a rule with `{id}` lets it publish) go. Close its connections first. Its sessions go last: as long as one is there,
    /// after a crash for instance, the purge is not done.
    pub fn purge_device(&mut self, now: Millis, device: &str) -> Purged {
        self.recorded = Seq(0);
        let mut purged = Purged::default();
        let all = Budget {
            nodes: usize::MAX,
            bytes: u64::MAX,
        };
        for filter in self.rules.own_topics(device) {
            for message in self.retained.page(&filter, None, all, now).found {
                let topic = message.content().topic;
                self.retained.remove(topic);
                self.record(&Change::Unretain { topic });
                purged.retained += 1;
            }
        }
        let sessions = self
            .roster
            .sessions
            .iter()
            .filter(|(_, s)| s.device.as_deref() == Some(device));
        let indices: Vec<u32> = sessions.map(|(index, _)| index as u32).collect();
        for index in indices {
            if let Some(session) = self.roster.sessions.get_mut(index as usize) {
                let (session_id, had_will) = (session.id, session.will.take().is_some());
                if had_will {
                    self.record(&Change::WillGone { session: session_id });
                }
                purged.sessions += 1;
                self.remove_session(now, index);
            }
        }
        purged.seq = core::mem::take(&mut self.recorded);
        purged
    }

    /// Close one connection (MQTT 5: DISCONNECT with `reason` and the sentence of `cause`); `false` when it is over already.
    pub fn disconnect(&mut self, now: Millis, id: ConnId, reason: ReasonCode, cause: EndCause) -> bool {
        let is_live = !self.is_closing(id);
        if is_live {
            self.end(now, id.index, reason, cause);
        }
        is_live
    }

    /// Publish at QoS 1 to whoever subscribes to `topic`, which must be a valid topic name; no rule is asked. An empty
    /// payload that is to be kept removes what was kept [MQTT-3.3.1-6].
    pub fn publish_own(&mut self, now: Millis, topic: &str, payload: &[u8], retain: Retain) {
        let content = Content {
            topic,
            properties: &[],
            payload,
            expires_at: None,
            qos: QoS::AtLeastOnce,
            retain: retain == Retain::Keep,
        };
        self.distribute(now, rules::broker_itself(), None, &content, Origin::Nothing);
    }
}

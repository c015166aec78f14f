//! What the broker does of its own accord: it ends a connection, it publishes a message of its own.
//!
//! Refuses to know who asked for it.

use crate::conn::ConnId;
use crate::engine::Engine;
use crate::event::EndCause;
use crate::message::Content;
use crate::rules;
use crate::time::Millis;
use sealmq_codec::{QoS, ReasonCode};
use sealmq_store::Origin;

/// Whether a message stays for those who subscribe later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    Keep,
    Pass,
}

impl Engine {
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

//! The $SYS tree: what the broker says about itself, as retained messages.
//!
//! Refuses to know who may read it; that is a rule like any other.

use crate::engine::{Engine, Timer};
use crate::message::Content;
use crate::rules;
use crate::time::Millis;
use alloc::format;
use alloc::string::{String, ToString};
use sealmq_codec::QoS;
use sealmq_store::{Change, Origin, Urgency};

/// Seconds between two looks for expired retained messages while $SYS is off; then, too, they must not fill the store.
const SWEEP_S: u32 = 60;

impl Engine {
    pub(crate) fn start_sys(&mut self, now: Millis) {
        if self.roster.limits.sys_interval_s > 0 {
            let version = format!("sealmq {}", self.version);
            self.publish_sys_value(now, "version", &version);
        }
        self.publish_sys(now);
    }

    pub(crate) fn publish_sys(&mut self, now: Millis) {
        let interval = self.roster.limits.sys_interval_s;
        self.sweep_retained(now);
        if interval == 0 {
            return self.schedule(now.plus_seconds(SWEEP_S), Timer::Sys);
        }
        let (counters, gauges) = (self.counters(), self.gauges());
        let uptime = now.since(self.started.unwrap_or(now)) / 1000;
        let values: [(&str, String); 14] = [
            ("uptime", format!("{uptime} seconds")),
            ("clients/connected", gauges.connections.to_string()),
            ("clients/total", gauges.sessions.to_string()),
            ("clients/maximum", counters.connections_peak.to_string()),
            ("clients/expired", counters.sessions_expired.to_string()),
            ("subscriptions/count", gauges.subscriptions.to_string()),
            ("retained messages/count", gauges.retained_messages.to_string()),
            ("store/messages/bytes", gauges.retained_bytes.to_string()),
            (
                "store/messages/count",
                (gauges.queued_messages + gauges.inflight_messages).to_string(),
            ),
            ("publish/messages/received", counters.messages_received.to_string()),
            ("publish/messages/sent", counters.messages_sent.to_string()),
            ("publish/messages/dropped", counters.messages_dropped.to_string()),
            ("bytes/received", counters.bytes_received.to_string()),
            ("publish/messages/denied", counters.publishes_denied.to_string()),
        ];
        for (name, value) in &values {
            self.publish_sys_value(now, name, value);
        }
        self.schedule(now.plus_seconds(interval), Timer::Sys);
    }

    /// Drop retained messages that have expired; the log may forget them too.
    fn sweep_retained(&mut self, now: Millis) {
        for message in self.retained.sweep(now) {
            let topic = message.content().topic;
            if self.durability.of(topic).is_some() {
                self.roster.log.append(&Change::Unretain { topic }, Urgency::Lazy);
            }
        }
    }

    fn publish_sys_value(&mut self, now: Millis, name: &str, value: &str) {
        let topic = format!("$SYS/broker/{name}");
        let content = Content {
            topic: &topic,
            properties: &[],
            payload: value.as_bytes(),
            expires_at: None,
            qos: QoS::AtMostOnce,
            retain: true,
        };
        self.distribute(now, rules::broker_itself(), None, &content, Origin::Nothing);
    }
}

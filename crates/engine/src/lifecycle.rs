//! How connections and sessions end: DISCONNECT, timeouts, takeover, expiry, wills.
//!
//! Refuses to know how they began.

use crate::engine::{Engine, Timer};
use crate::event::{EndCause, Event};
use crate::message::Content;
use crate::rules;
use crate::session::WillState;
use crate::time::Millis;
use alloc::string::ToString;
use alloc::sync::Arc;
use sealmq_codec::{Disconnect, Packet, Property, PropertyBuf, ReasonCode, Version};
use sealmq_store::{Change, Keeping, Origin, SessionId};

/// What happens to the will when a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WillFate {
    /// [MQTT-3.1.2-8]
    Publish,
    /// A normal DISCONNECT deletes it [MQTT-3.1.2-10], [MQTT-3.14.4-3].
    Delete,
    /// The broker goes down: the log has it, and it is sent after the next start (section 3.1.2.5).
    Defer,
}

impl Engine {
    pub(crate) fn handle_disconnect(&mut self, now: Millis, index: u32, disconnect: &Disconnect<'_>) {
        let Some(conn) = self.roster.conns.get(index as usize) else {
            return;
        };
        let (session, connect_expiry_s) = (conn.session, conn.connect_expiry_s);
        for property in disconnect.properties.iter() {
            match property {
                Property::SessionExpiry(seconds) => {
                    // Section 3.14.2.2.2
                    if connect_expiry_s == 0 && seconds > 0 {
                        return self.protocol_error(
                            now,
                            index,
                            "session expiry in DISCONNECT after a CONNECT without one",
                        );
                    }
                    let capped = seconds.min(self.roster.limits.max_session_expiry_s);
                    if let Some(session) = self.roster.sessions.get_mut(session as usize) {
                        session.expiry_s = capped;
                    }
                }
                Property::ServerReference(_) => {
                    return self.protocol_error(now, index, "server reference in a DISCONNECT from a client");
                }
                _ => {}
            }
        }
        let fate = if disconnect.reason == 0 {
            WillFate::Delete
        } else {
            WillFate::Publish
        };
        self.close(now, index, EndCause::ClientDisconnect, fate);
    }

    /// End a connection from this side: DISCONNECT with a reason where the version has one, then close [MQTT-3.14.4-1],
    /// [MQTT-3.14.4-2], [MQTT-4.13.2-1]. It carries no session expiry [MQTT-3.14.2-2].
    pub(crate) fn end(&mut self, now: Millis, index: u32, reason: ReasonCode, cause: EndCause) {
        let Some(conn) = self.roster.conns.get(index as usize).filter(|c| !c.is_closing) else {
            return;
        };
        if conn.version == Version::V5 {
            let sentence = cause.sentence();
            let mut properties = PropertyBuf::new();
            // A DISCONNECT may carry a reason string whatever the client said about problem information (3.1.2.11.7),
            // but it must not exceed the client's packet size [MQTT-3.14.2-3].
            if sentence.len() + 16 <= conn.limits.max_packet_size as usize {
                properties.push(Property::ReasonString(&sentence));
            }
            if let EndCause::ServerShutdown { retry_after_s } = cause {
                let seconds = retry_after_s.to_string();
                // [MQTT-3.14.2-4]
                if sentence.len() + 48 <= conn.limits.max_packet_size as usize {
                    properties.push(Property::UserProperty("retry-after", &seconds));
                }
            }
            let packet = Disconnect {
                reason: reason as u8,
                properties: properties.as_properties(),
            };
            self.roster.send(index, &Packet::Disconnect(packet));
        }
        let fate = match cause {
            EndCause::ServerShutdown { .. } if self.roster.log.keeping() == Keeping::Changes => WillFate::Defer,
            EndCause::ServerShutdown { .. } => WillFate::Delete,
            _ => WillFate::Publish,
        };
        self.close(now, index, cause, fate);
    }

    /// The network is gone already: nothing can be said.
    pub(crate) fn finish(&mut self, now: Millis, index: u32, cause: EndCause) {
        self.close(now, index, cause, WillFate::Publish);
    }

    fn close(&mut self, now: Millis, index: u32, cause: EndCause, fate: WillFate) {
        let Some(conn) = self.roster.conns.get_mut(index as usize).filter(|c| !c.is_closing) else {
            return;
        };
        conn.is_closing = true;
        // The rest of its bytes is not waited for.
        conn.waiting = 0;
        let dropped = core::mem::take(&mut conn.dropped_since);
        conn.held_acks.clear();
        if conn.sealed.take().is_some() {
            // The CONNACK was not to leave, and nothing may go before it [MQTT-3.14.0-1].
            conn.out.clear();
        }
        let (id, session_index, client_id) = (conn.id, conn.session, Arc::clone(&conn.client_id));
        self.roster.mark_dirty(index);
        self.roster.observe_dropped(&client_id, dropped);
        self.roster.observe(Event::Disconnected {
            conn: id,
            client_id,
            cause,
        });
        let Some(session) = self.roster.sessions.get_mut(session_index as usize) else {
            return;
        };
        session.conn = None;
        session.epoch += 1;
        let has_will = session.will.is_some();
        if fate != WillFate::Publish && (fate == WillFate::Delete || !session.is_persistent()) {
            session.will = None;
        }
        let (id, expiry_s) = (session.id, session.expiry_s);
        let is_persistent = session.is_persistent();
        if session.is_kept && is_persistent {
            session.put_all_aside();
            let sent = session.sent();
            // An answer that is still to come is nobody's now.
            self.roster.paging.remove(&id);
            self.record(&Change::Detach {
                session: id,
                at: now.0,
                expiry_s,
                sent,
            });
        }
        if fate == WillFate::Delete && has_will && self.roster.log.keeping() == Keeping::Changes {
            self.record(&Change::WillGone { session: id });
        }
        // [MQTT-3.1.2-23], [MQTT-4.1.0-1]: it stays after its connection, or goes with it
        if !is_persistent {
            return self.remove_session(now, session_index);
        }
        if fate == WillFate::Defer {
            return;
        }
        self.await_end(now, session_index, now);
    }

    /// A session without a connection: when its will is sent, and when it ends. Both are counted from `since`.
    pub(crate) fn await_end(&mut self, now: Millis, session_index: u32, since: Millis) {
        let Some(session) = self.roster.sessions.get(session_index as usize) else {
            return;
        };
        let (id, epoch, expiry_s) = (session.id, session.epoch, session.expiry_s);
        // [MQTT-3.1.3-9]: the delay ends with the session at the latest
        match session.will.as_ref().map(|w| w.delay_s.min(expiry_s)) {
            Some(delay) if since.plus_seconds(delay) <= now => self.publish_will(now, session_index),
            Some(delay) => {
                let timer = Timer::WillDelay {
                    session: session_index,
                    id,
                    epoch,
                };
                self.schedule(since.plus_seconds(delay), timer);
            }
            None => {}
        }
        if expiry_s != u32::MAX {
            let timer = Timer::SessionExpiry {
                session: session_index,
                id,
                epoch,
            };
            self.schedule(since.plus_seconds(expiry_s), timer);
        }
    }

    /// The end of a session: its will if one still waits, its subscriptions, everything it held.
    pub(crate) fn remove_session(&mut self, now: Millis, index: u32) {
        self.publish_will(now, index);
        let Some(session) = self.roster.take_session(index) else {
            return;
        };
        for filter in session.subscriptions() {
            self.forget_subscription(index, filter);
        }
        if self.by_client.get(&session.client_id) == Some(&index) {
            self.by_client.remove(&session.client_id);
        }
        if session.is_kept {
            self.roster.paging.remove(&session.id);
            self.record(&Change::End { session: session.id });
        }
    }

    fn publish_will(&mut self, now: Millis, session: u32) {
        let Some(owner) = self.roster.sessions.get_mut(session as usize) else {
            return;
        };
        let Some(will) = owner.will.take() else { return };
        let id = owner.id;
        self.send_will(now, Some(session), id, *will);
    }

    /// Send a will, and let the log forget it with the same change that keeps the message.
    pub(crate) fn send_will(&mut self, now: Millis, publisher: Option<u32>, session: SessionId, mut will: WillState) {
        self.roster.counters.wills_published += 1;
        will.message
            .set_expiry(will.expiry_s.map(|seconds| now.plus_seconds(seconds)));
        // Allowed at CONNECT, before the will was kept; see `admit`.
        let content: Content<'_> = will.message.content();
        self.distribute(
            now,
            rules::broker_itself(),
            publisher,
            &content,
            Origin::Will { session },
        );
    }

    /// Whether a timer still speaks of something there is.
    pub(crate) fn is_awaited(&self, timer: Timer) -> bool {
        match timer {
            Timer::KeepAlive { index, generation } => self
                .roster
                .conns
                .get(index as usize)
                .is_some_and(|c| c.id.generation == generation && !c.is_closing),
            Timer::SessionExpiry { session, id, epoch } | Timer::WillDelay { session, id, epoch } => {
                self.is_current(session, id, epoch)
            }
            Timer::Sys => true,
        }
    }

    pub(crate) fn handle_timer(&mut self, now: Millis, timer: Timer) {
        if !self.is_awaited(timer) {
            return;
        }
        match timer {
            Timer::KeepAlive { index, .. } => {
                let Some(conn) = self.roster.conns.get(index as usize) else {
                    return;
                };
                let due = conn.last_seen + conn.keep_alive_ms;
                if due > now {
                    return self.schedule(due, timer);
                }
                self.roster.counters.keep_alive_timeouts += 1;
                // [MQTT-3.1.2-22]
                self.end(now, index, ReasonCode::KeepAliveTimeout, EndCause::KeepAliveTimeout);
            }
            // [MQTT-4.1.0-2]
            Timer::SessionExpiry { session, .. } => {
                self.roster.counters.sessions_expired += 1;
                self.remove_session(now, session);
            }
            Timer::WillDelay { session, .. } => self.publish_will(now, session),
            Timer::Sys => self.publish_sys(now),
        }
    }

    /// Whether a timer set for a detached session still speaks of the same absence.
    fn is_current(&self, session: u32, id: SessionId, epoch: u64) -> bool {
        self.roster
            .sessions
            .get(session as usize)
            .is_some_and(|s| s.id == id && s.epoch == epoch && s.conn.is_none())
    }
}

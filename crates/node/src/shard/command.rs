//! What other threads ask of a shard, and how it answers.
//!
//! Refuses to know why they ask.

use super::{Arrival, Shard};
use crate::denylist::Revocation;
use mio::Waker;
use sealmq_codec::ReasonCode;
use sealmq_engine::rules::Rules;
use sealmq_engine::{Counters, Gauges, Limits, Purged, Retain, SessionView};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

pub struct ShardReport {
    pub counters: Counters,
    pub gauges: Gauges,
}

/// A session with what the shard knows of its connection.
pub struct SessionReport {
    pub view: SessionView,
    pub peer: Option<String>,
    pub listener: Option<Arc<str>>,
}

pub enum Command {
    Arrive(Box<Arrival>),
    DisconnectDevice {
        device: String,
        reason: ReasonCode,
        text: String,
        reply: Sender<usize>,
    },
    Revoke {
        revocation: Arc<Revocation>,
        /// How many connections were closed, once they are.
        reply: Sender<usize>,
    },
    Publish {
        topic: Box<str>,
        payload: Box<[u8]>,
        retain: Retain,
    },
    Purge {
        device: String,
        /// What was left of it, once that cannot come back.
        reply: Sender<Purged>,
    },
    Reload {
        rules: Box<Rules>,
        limits: Box<Limits>,
    },
    Report {
        reply: Sender<ShardReport>,
    },
    Sessions {
        reply: Sender<Vec<SessionReport>>,
    },
    ShutDown {
        deadline: Instant,
    },
}

/// The way into a shard from other threads.
#[derive(Clone)]
pub struct ShardHandle {
    pub commands: Sender<Command>,
    pub waker: Arc<Waker>,
}

impl ShardHandle {
    pub fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

impl Shard {
    pub(super) fn carry_out(&mut self, command: Command) {
        match command {
            Command::Arrive(arrival) => self.seat(*arrival),
            Command::DisconnectDevice {
                device,
                reason,
                text,
                reply,
            } => {
                let now = self.now();
                let closed = self.engine.disconnect_device(now, &device, reason, &text);
                let _ = reply.send(closed);
            }
            Command::Revoke { revocation, reply } => {
                let closed = self.expel_revoked(&revocation);
                let _ = reply.send(closed);
            }
            Command::Publish { topic, payload, retain } => {
                let now = self.now();
                self.engine.publish_own(now, &topic, &payload, retain);
            }
            Command::Purge { device, reply } => {
                let now = self.now();
                let purged = self.engine.purge_device(now, &device);
                self.purges.push((purged, reply));
            }
            Command::Reload { rules, limits } => {
                self.engine.set_limits(*limits);
                self.engine.set_rules(*rules);
                self.expel_unwelcome();
            }
            Command::Report { reply } => {
                let _ = reply.send(ShardReport {
                    counters: self.engine.counters(),
                    gauges: self.engine.gauges(),
                });
            }
            Command::Sessions { reply } => {
                let sessions = self.engine.sessions().into_iter().map(|view| {
                    let seat = view.conn.and_then(|id| self.seats.get(id.index as usize)?.as_ref());
                    let (peer, listener) = (seat.map(|s| s.peer.clone()), seat.map(|s| Arc::clone(&s.listener)));
                    SessionReport { view, peer, listener }
                });
                let _ = reply.send(sessions.collect());
            }
            Command::ShutDown { deadline } => {
                let now = self.now();
                self.engine.shut_down(now);
                self.stop_at = Some(deadline);
            }
        }
    }

    /// Answer for the purges that are safe.
    pub(super) fn answer_purges(&mut self) {
        let engine = &self.engine;
        self.purges.retain(|(purged, reply)| {
            let is_settled = engine.is_settled(purged.seq);
            if is_settled {
                let _ = reply.send(*purged);
            }
            !is_settled
        });
    }
}

//! The machine itself: its state, its doors, and which packet goes where.
//!
//! Refuses to know how a packet is carried out; that is in `connect`, `publish`, `subscribe` and `lifecycle`.

use crate::conn::{Conn, ConnId};
use crate::durability::Durability;
use crate::event::{EndCause, Event};
use crate::limits::Limits;
use crate::memory::Memory;
use crate::retained::Retained;
use crate::roster::Roster;
use crate::router::Router;
use crate::rules::Rules;
use crate::run::Part;
use crate::stats::{Counters, Gauges};
use crate::time::Millis;
use alloc::collections::{BinaryHeap, VecDeque};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sealmq_codec::{ReasonCode, Version};
use sealmq_store::{Log, Seq, SessionId};

/// What an engine is made from.
pub struct Config {
    pub limits: Limits,
    pub rules: Rules,
    pub durability: Durability,
    /// Seeds hash tables and assigned client identifiers; random in production, fixed in a test.
    pub seed: u64,
    /// Published at $SYS/broker/version.
    pub version: String,
}

/// One session as an operator sees it.
#[derive(Clone, Debug)]
pub struct SessionView {
    pub client_id: Arc<str>,
    pub device: Option<Arc<str>>,
    pub conn: Option<ConnId>,
    pub version: Option<Version>,
    pub subscriptions: usize,
    pub queued: usize,
    pub inflight: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    KeepAlive { index: u32, generation: u32 },
    SessionExpiry { session: u32, id: SessionId, epoch: u64 },
    WillDelay { session: u32, id: SessionId, epoch: u64 },
    Sys,
}

/// Clients that a broker which starts again should see in a second.
const RETURNS_PER_SECOND: usize = 500;

/// The broker of one shard.
pub struct Engine {
    pub(crate) roster: Roster,
    pub(crate) router: Router,
    pub(crate) retained: Retained,
    pub(crate) rules: Rules,
    pub(crate) by_client: HashMap<Arc<str>, u32, FixedState>,
    pub(crate) durability: Durability,
    /// Connections with something that waits for the log.
    pub(crate) holding: Vec<ConnId>,
    /// Sessions with retained messages to come, each in its turn.
    pub(crate) feeding: VecDeque<(u32, SessionId)>,
    pub(crate) started: Option<Millis>,
    pub(crate) version: String,
    pub(crate) seed: u64,
    pub(crate) serial: u64,
    /// The last change that the log was told of by [`Engine::record`].
    pub(crate) recorded: Seq,
    timers: BinaryHeap<Reverse<(Millis, Timer)>>,
    /// Those of a run; empty between two.
    pub(crate) parts: Vec<Part>,
    /// Units of work in one call of [`Engine::handle_bytes`].
    pub(crate) turn: usize,
}

impl Engine {
    pub fn new(config: Config, log: alloc::boxed::Box<dyn Log>) -> Engine {
        let roster = Roster::new(config.limits, log);
        Engine {
            retained: Retained::new(&roster.memory),
            roster,
            router: Router::new(config.seed),
            rules: config.rules,
            by_client: HashMap::with_hasher(FixedState::with_seed(config.seed)),
            durability: config.durability,
            holding: Vec::new(),
            feeding: VecDeque::new(),
            started: None,
            version: config.version,
            seed: config.seed,
            serial: 0,
            recorded: Seq(0),
            timers: BinaryHeap::new(),
            parts: Vec::new(),
            turn: usize::MAX,
        }
    }

    // getters

    pub fn counters(&self) -> Counters {
        self.roster.counters
    }

    pub fn gauges(&self) -> Gauges {
        let sessions = &self.roster.sessions;
        Gauges {
            connections: self.roster.conns.iter().filter(|(_, c)| !c.is_closing).count() as u64,
            sessions: sessions.len() as u64,
            subscriptions: self.router.tree.len() as u64,
            retained_messages: u64::from(self.retained.len()),
            retained_bytes: self.retained.bytes(),
            queued_messages: sessions.iter().map(|(_, s)| s.queued() as u64).sum(),
            memory_bytes: self.roster.memory.used(),
            inflight_messages: sessions.iter().map(|(_, s)| s.inflight() as u64).sum(),
        }
    }

    pub fn sessions(&self) -> Vec<SessionView> {
        let mut views: Vec<SessionView> = self
            .roster
            .sessions
            .iter()
            .map(|(_, session)| {
                let conn = session.conn.and_then(|index| self.roster.conns.get(index as usize));
                SessionView {
                    client_id: Arc::clone(&session.client_id),
                    device: session.device.clone(),
                    conn: conn.map(|c| c.id),
                    version: conn.map(|c| c.version),
                    subscriptions: session.subscriptions().len(),
                    queued: session.queued(),
                    inflight: session.inflight(),
                }
            })
            .collect();
        views.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        views
    }

    /// What is held for all peers together, as it changes.
    pub fn memory(&self) -> Memory {
        self.roster.memory.clone()
    }

    /// Whether the connection is over: send its output, then close it.
    pub fn is_closing(&self, id: ConnId) -> bool {
        self.conn(id).is_none_or(|c| c.is_closing)
    }

    pub(crate) fn conn(&self, id: ConnId) -> Option<&Conn> {
        self.roster.conns.get(id.index as usize).filter(|c| c.id == id)
    }

    // handle_*

    /// The network connection ended by itself; `how` is a sentence for the record.
    pub fn handle_closed(&mut self, now: Millis, id: ConnId, how: &str) {
        if self.conn(id).is_some_and(|c| !c.is_closing) {
            self.finish(now, id.index, EndCause::NetworkClosed(how.into()));
        }
    }

    /// The network has taken output of a connection: when none is left, more of what waits may follow.
    pub fn handle_taken(&mut self, now: Millis, id: ConnId) {
        let Some(conn) = self.roster.conns.get_mut(id.index as usize).filter(|c| c.id == id) else {
            return;
        };
        conn.weigh();
        if !conn.out.is_empty() {
            return;
        }
        let session = conn.session;
        let (dropped, client_id) = (core::mem::take(&mut conn.dropped_since), Arc::clone(&conn.client_id));
        self.roster.observe_dropped(&client_id, dropped);
        if self.roster.conns.get(id.index as usize).is_some_and(|c| !c.is_closing) {
            self.pump(now, session);
        }
    }

    /// Time passed: keep-alives, expiries, delayed wills, $SYS.
    pub fn handle_tick(&mut self, now: Millis) {
        if self.started.is_none() {
            self.started = Some(now);
            self.start_sys(now);
        }
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            self.handle_timer(now, timer);
        }
        self.feed_line(now);
        self.leave_nobody_waiting(now);
    }

    // poll_*

    /// The next connection with output to send or a close to carry out.
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        while let Some(index) = self.roster.dirty.pop() {
            if let Some(conn) = self.roster.conns.get_mut(index as usize) {
                conn.is_dirty = false;
                // What is sealed is marked again when it may leave.
                if conn.sealed.is_none() {
                    return Some(conn.id);
                }
            }
        }
        None
    }

    /// The encoded packets of a connection; the caller removes what it sends. `None` while nothing may leave, whoever asks.
    pub fn output(&mut self, id: ConnId) -> Option<&mut Vec<u8>> {
        self.roster
            .conns
            .get_mut(id.index as usize)
            .filter(|c| c.id == id && c.sealed.is_none())
            .map(|c| &mut c.out)
    }

    /// A connection has been quiet for a while: what is empty keeps no memory, here and in its session.
    pub fn rest(&mut self, id: ConnId) {
        let Some(conn) = self.roster.conns.get_mut(id.index as usize).filter(|c| c.id == id) else {
            return;
        };
        if conn.out.is_empty() {
            conn.out = Vec::new();
        }
        if let Some(session) = self.roster.sessions.get_mut(conn.session as usize) {
            session.rest();
        }
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.roster.next_event()
    }

    /// When [`Engine::handle_tick`] has work next.
    pub fn poll_deadline(&self) -> Option<Millis> {
        if self.started.is_none() || !self.feeding.is_empty() {
            return Some(Millis(0));
        }
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    // commands

    /// Close every live connection of `device`; how many there were.
    pub fn disconnect_device(&mut self, now: Millis, device: &str, reason: ReasonCode, text: &str) -> usize {
        let indices = self.live(|c| c.device.as_deref() == Some(device));
        for &index in &indices {
            self.end(now, index, reason, EndCause::Administrative(text.to_string()));
        }
        indices.len()
    }

    /// Say goodbye to everybody (MQTT 5: DISCONNECT 0x8B with a user property `retry-after`, seconds spread over all of them).
    /// Sessions stay.
    pub fn shut_down(&mut self, now: Millis) {
        for (place, index) in self.live(|_| true).into_iter().enumerate() {
            let retry_after_s = 1 + (place / RETURNS_PER_SECOND) as u32;
            let cause = EndCause::ServerShutdown { retry_after_s };
            self.end(now, index, ReasonCode::ServerShuttingDown, cause);
        }
    }

    /// Take new rules: permits are resolved again, and subscriptions that no rule allows any more end.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        for index in self.live(|_| true) {
            let Some(conn) = self.roster.conns.get_mut(index as usize) else {
                continue;
            };
            conn.permit = self.rules.resolve(conn.device.as_deref(), &conn.client_id);
            conn.allowed_route = None;
        }
        self.revisit_all();
    }

    /// Take new limits; what is already beyond them stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.roster.memory.set_bound(limits.max_memory_bytes);
        self.roster.limits = limits;
        // What is remembered as allowed was within the budget for topics.
        for (_, conn) in &mut self.roster.conns {
            conn.allowed_route = None;
            conn.granted = conn.granted.max(conn.out.len());
        }
    }

    /// Forget a closed connection; its index may be used again.
    pub fn release(&mut self, id: ConnId) {
        if self.conn(id).is_some() {
            self.roster.conns.try_remove(id.index as usize);
        }
    }

    pub(crate) fn live(&self, wanted: impl Fn(&Conn) -> bool) -> Vec<u32> {
        self.roster
            .conns
            .iter()
            .filter(|(_, c)| !c.is_closing && wanted(c))
            .map(|(i, _)| i as u32)
            .collect()
    }

    pub(crate) fn schedule(&mut self, at: Millis, timer: Timer) {
        // Each coming and going leaves a timer behind that nobody waits for, for days: they must not pile up. A connection
        // has one timer, a session two, so that this finds at least half of them stale.
        let wanted = 1 + self.roster.conns.len() + 2 * self.roster.sessions.len();
        if self.timers.len() > 1024 + 2 * wanted {
            let mut timers = core::mem::take(&mut self.timers);
            timers.retain(|Reverse((_, timer))| self.is_awaited(*timer));
            self.timers = timers;
        }
        self.timers.push(Reverse((at, timer)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientIds, Peer};
    use sealmq_codec::{Connect, Properties, Property, PropertyBuf};

    #[test]
    fn timers_of_what_is_gone_do_not_pile_up() {
        let config = Config {
            limits: Limits::default(),
            rules: Rules::dangerous_allow_all(),
            durability: Durability::default(),
            seed: 1,
            version: String::new(),
        };
        let mut engine = Engine::new(config, alloc::boxed::Box::new(sealmq_store::MemoryLog));
        let peer = Peer {
            device: Some("a".into()),
            client_ids: ClientIds::OwnOnly,
        };
        let mut properties = PropertyBuf::new();
        properties.push(Property::SessionExpiry(3600));
        let connect = Connect {
            version: Version::V5,
            clean_start: false,
            keep_alive: 600,
            properties: properties.as_properties(),
            client_id: "a",
            will: None,
            username: None,
            password: None,
        };
        let plain = Connect {
            properties: Properties::EMPTY,
            client_id: "a:2",
            ..connect
        };
        let second = engine.handle_connect(Millis(0), &plain, &peer).unwrap();
        for _ in 0..5_000 {
            let id = engine.handle_connect(Millis(0), &connect, &peer).unwrap();
            engine.handle_closed(Millis(0), id, "gone");
            engine.release(id);
        }
        assert!(engine.timers.len() < 1_100, "{} timers", engine.timers.len());
        engine.handle_tick(Millis(900_000));
        assert!(engine.is_closing(second), "a timer that is awaited stays");
        engine.handle_tick(Millis(3_600_000));
        assert_eq!(engine.gauges().sessions, 0);
    }
}

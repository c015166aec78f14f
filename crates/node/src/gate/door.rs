//! Who comes in at all: the places of the broker, of an address, and of those who have not said anything yet.
//!
//! Refuses to read a byte.

use super::addresses::{Objection, TurnedAway, site_of};
use super::causes::{crowded_out, turned_away};
use super::{Gate, Pending, Step, is_past};
use crate::config::ListenerKind;
use crate::link::Link;
use crate::node::Settings;
use crate::recording::Tap;
use mio::net::TcpStream;
use mio::{Interest, Token};
use serde_json::json;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Pause after the system refused another file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the log is told of that.
const EXHAUSTED_EVERY: Duration = Duration::from_secs(10);
/// How long a connection that gets no further keeps its place when others wait for one.
const SILENCE: Duration = Duration::from_millis(250);
/// The same for one that gets further and further and never to the end.
const DAWDLING: Duration = Duration::from_secs(2);
/// Accepted in one turn, so that handshakes under way get theirs.
const ACCEPT_BATCH: usize = 32;
/// Accepted in one turn when most of them are turned away at once.
const TURNED_AWAY: usize = 8 * ACCEPT_BATCH;
/// What a connection needs until it has come through the gate: TLS with both certificate chains.
const CONNECTION_BYTES: u64 = 64 * 1024;

impl Gate {
    /// Take in whoever waits, as long as there is a permit and time; one at least.
    pub(super) fn accept(&mut self, until: Option<Instant>) {
        if self.accept_after.is_some_and(|at| at > Instant::now()) || !self.is_accepting {
            return;
        }
        self.accept_after = None;
        self.is_accepting = false;
        let settings = self.shared.settings();
        // Where many wait for their turn, or they would become more and more.
        let is_crowded = until.is_some() && self.again.len() >= ACCEPT_BATCH;
        let batch = if is_crowded { 1 } else { ACCEPT_BATCH };
        for index in 0..self.listeners.len() {
            let mut taken = 0;
            for turn in 0.. {
                if taken == batch || turn == TURNED_AWAY || (turn > 0 && is_past(until)) {
                    self.is_accepting = true;
                    break;
                }
                // The permit comes before the accept: who has none stays in the kernel's queue.
                let is_full = self.pending.len() >= settings.limits.max_handshakes as usize;
                if is_full && !self.make_room() {
                    self.is_accepting = true;
                    self.accept_after = Some(Instant::now());
                    break;
                }
                let Some(listener) = self.listeners.get(index) else {
                    break;
                };
                match listener.socket.accept() {
                    Ok((stream, peer)) => taken += usize::from(self.admit(stream, peer, index, &settings)),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
                    Err(e) => {
                        // Out of file descriptors, most likely: others may close some.
                        self.tell_exhausted(&e);
                        self.is_accepting = true;
                        self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
                        break;
                    }
                }
            }
        }
    }

    /// For as long as it lasts, now and then.
    fn tell_exhausted(&mut self, error: &io::Error) {
        if self.told_exhausted.is_some_and(|at| at.elapsed() < EXHAUSTED_EVERY) {
            return;
        }
        self.told_exhausted = Some(Instant::now());
        self.shared.events.push(
            "failure",
            &json!({
                "summary": format!("cannot accept connections: {error}"),
                "mend": "raise the limit of open files (ulimit -n) or lower limits.max_connections",
            }),
        );
    }

    /// Whether it is in; a record is left of those who are not.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, listener: usize, settings: &Arc<Settings>) -> bool {
        let Some((kind, name)) = self.listeners.get(listener).map(|l| (l.kind, Arc::clone(&l.name))) else {
            return false;
        };
        self.shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let is_memory_full = !self.shared.memory.allows(0, CONNECTION_BYTES);
        let general = is_memory_full.then_some(Objection::Memory);
        let place = match self.shared.addresses.admit(peer.ip(), now, &settings.limits, general) {
            Ok(place) => place,
            // Closed at once: whoever floods is not worth a word, and the log is told once a second.
            Err(away) => {
                self.turn_away(&away, peer, &name, settings);
                return false;
            }
        };
        let (step, timeout) = if kind == ListenerKind::Plaintext {
            (Step::Connect, settings.limits.connect_timeout_ms)
        } else {
            (Step::Hello, settings.limits.handshake_timeout_ms)
        };
        let mut pending = Pending {
            link: Link::new(stream, place),
            peer,
            listener,
            since: now,
            heard: now,
            deadline: now + Duration::from_millis(u64::from(timeout)),
            step,
            hello: None,
            certificate: None,
            device: None,
            user: None,
            login: None,
            tls: None,
            waiting: None,
            plain: Vec::new(),
            received: 0,
            verdict: None,
            settings: Arc::clone(settings),
        };
        if self.shared.recorder.is_armed() {
            pending.link.tap = Some(Box::new(Tap::new()));
        }
        let token = Token(self.listeners.len() + self.pending.vacant_key());
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        let is_in = registry.register(&mut pending.link.stream, token, interest).is_ok();
        if is_in {
            self.pending.insert(pending);
        }
        is_in
    }

    fn turn_away(&self, away: &TurnedAway, peer: SocketAddr, listener: &str, settings: &Settings) {
        let refusal = turned_away(away.objection, peer.ip(), &settings.limits);
        let Some(count) = away.told else {
            return self.shared.count_refused(refusal.cause);
        };
        let mut record = refusal.record(&peer.to_string(), listener, None, None, None);
        if let Some(record) = record.as_object_mut() {
            record.insert("count".into(), count.into());
        }
        self.shared.refused(refusal.cause, record);
    }

    /// Everybody's place is taken: of the address that has the most connections that get no further, the one that has
    /// been silent longest gives up its place. `false` when all of them are new or at work.
    fn make_room(&mut self) -> bool {
        let idle = |p: &&Pending| {
            // Whoever waits for his turn or his login waits for us.
            p.waiting.is_none()
                && p.step != Step::Login
                && (p.heard.elapsed() >= SILENCE || p.since.elapsed() >= DAWDLING)
        };
        let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
        for pending in self.pending.iter().map(|(_, p)| p).filter(idle) {
            *crowds.entry(site_of(pending.peer.ip())).or_default() += 1;
        }
        let crowd = |p: &Pending| crowds.get(&site_of(p.peer.ip())).copied().unwrap_or_default();
        let all = self.pending.iter().filter(|(_, p)| idle(p));
        let oldest = all.min_by_key(|(_, p)| (Reverse(crowd(p)), p.heard));
        let Some((key, step, received)) = oldest.map(|(key, p)| (key, p.step, p.received)) else {
            return false;
        };
        if step != Step::Leaving {
            self.refuse(key, crowded_out(step, received));
        }
        self.drop_pending(key);
        true
    }
}

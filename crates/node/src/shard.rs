//! A shard: the thread that owns sessions and their connections once they are established.
//!
//! One loop: wait, take commands, read what is there, let the engine work, flush every connection once. Refuses to
//! know MQTT (that is the engine's) and handshakes (that is the gate's).

use crate::certificate::CertificateFacts;
use crate::clock::Clock;
use crate::gate::{Keeper, TlsFacts};
use crate::keep::Keep;
use crate::link::{Ended, Link, LinkFault, Scratch};
use crate::node::Shared;
use command::Inbox;
use mio::{Events as Ready, Poll, Token};
use sealmq_engine::{ConnId, Engine, Millis, Purged};
use sealmq_store::Health;
use standing::{Expiries, Validity};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

mod arrive;
mod command;
mod observe;
mod output;
mod standing;

pub use arrive::Arrival;
pub use command::{Command, ShardHandle, line};

/// Token of the waker.
pub const WAKE: Token = Token(usize::MAX);
/// Token of the gate, while it is kept here.
const GATE: Token = Token(usize::MAX - 1);
/// Socket reads of one connection in one turn; whoever has more waits for its next turn.
const READS_PER_TURN: usize = 4;
/// Units of work for all connections that have more than their turn allowed, and what a turn is at least and at most: a
/// round is over in milliseconds, whatever some of them ask for, and who asks for little comes first in each.
const ROUND: usize = 16_000;
const TURNS: std::ops::RangeInclusive<usize> = 100..=4_000;
/// How long a closed connection may take to read our last words.
const LINGER: Duration = Duration::from_secs(2);
/// How often those who leave are looked at.
const LEAVING: Duration = Duration::from_millis(50);
/// How long a connection keeps the memory of what is empty after its last use.
const COOLING: Duration = Duration::from_secs(1);

struct Seat {
    id: ConnId,
    link: Link,
    /// MQTT bytes of a packet that is not whole.
    partial: Vec<u8>,
    /// `partial` must be this long before the engine is asked again.
    need: usize,
    /// There are whole packets in `partial`: its turn was over.
    is_cut_short: bool,
    peer: String,
    listener: Arc<str>,
    tls: Option<TlsFacts>,
    device: Option<Arc<str>>,
    user: Option<Arc<str>>,
    /// Until the record of the connection is written.
    certificate: Option<Arc<CertificateFacts>>,
    validity: Option<Validity>,
    /// In one of the lists of connections that have something to read.
    is_ready: bool,
    /// In the list of connections whose outbox still has memory.
    is_warm: bool,
    /// The poll tells when its network takes bytes again.
    awaits_room: bool,
}

/// A connection that is over, while its peer may still read why.
struct Leaving {
    link: Link,
    deadline: Instant,
}

pub struct Shard {
    poll: Poll,
    engine: Engine,
    inbox: Inbox,
    shared: Arc<Shared>,
    seats: Vec<Option<Box<Seat>>>,
    leaving: Vec<Leaving>,
    /// When those who leave are looked at next.
    leaving_at: Instant,
    expiries: Expiries,
    /// Connections with something new to read.
    ready: VecDeque<u32>,
    /// Connections with more than one turn allowed.
    again: VecDeque<u32>,
    /// Connections whose TLS or WebSocket answers for itself.
    answering: Vec<u32>,
    warm: Vec<(u32, Instant)>,
    scratch: Scratch,
    clock: Clock,
    keep: Arc<Keep>,
    health: Health,
    /// What waits for the store.
    purges: Vec<(Purged, Sender<Purged>)>,
    stop_at: Option<Instant>,
    keeper: Keeper,
}

impl Shard {
    pub fn new(
        poll: Poll,
        engine: Engine,
        inbox: Inbox,
        shared: Arc<Shared>,
        (clock, keep): (Clock, Arc<Keep>),
        keeper: Keeper,
    ) -> Shard {
        Shard {
            poll,
            engine,
            inbox,
            shared,
            seats: Vec::new(),
            leaving: Vec::new(),
            leaving_at: Instant::now(),
            expiries: Expiries::default(),
            ready: VecDeque::new(),
            again: VecDeque::new(),
            answering: Vec::new(),
            warm: Vec::new(),
            scratch: Scratch::new(),
            clock,
            keep,
            health: Health::Good,
            purges: Vec::new(),
            stop_at: None,
            keeper,
        }
    }

    /// Run until told to shut down and everyone has left, or time is up.
    pub fn run(mut self) {
        let mut ready = Ready::with_capacity(1024);
        loop {
            let mut timeout = self.timeout();
            let first = self.inbox.lie_down();
            if first.is_some() {
                timeout = Some(Duration::ZERO);
            }
            let polled = self.poll.poll(&mut ready, timeout);
            self.inbox.rise();
            if let Err(e) = polled
                && e.kind() != io::ErrorKind::Interrupted
            {
                return self.shared.fatal(&format!("shard cannot wait for the network: {e}"));
            }
            let mut next = first.or_else(|| self.inbox.next());
            while let Some(command) = next {
                self.carry_out(command);
                next = self.inbox.next();
            }
            if self.keep.news.take() {
                self.hear_news();
            }
            self.answer_purges();
            for event in &ready {
                if let Token(index) = event.token()
                    && !matches!(event.token(), WAKE | GATE)
                {
                    if event.is_read_closed()
                        && let Some(seat) = self.seat_mut(index as u32)
                    {
                        seat.link.is_read_closed = true;
                    }
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        self.mark_ready(index as u32);
                    }
                    if event.is_writable() {
                        self.resume_writing(index as u32);
                    }
                }
            }
            self.round();
            let now = self.now();
            self.engine.handle_tick(now);
            self.end_expired(now);
            self.flush_all();
            self.answer();
            // Newcomers come after those who are in.
            let is_called = ready.iter().any(|event| event.token() == GATE);
            if let Err(e) = self.attend_gate(is_called, now) {
                return self.shared.fatal(&format!("gate cannot wait for the network: {e}"));
            }
            self.forward_events();
            self.tidy();
            if self.stop_at.is_some_and(|at| self.is_empty() || Instant::now() >= at) {
                return;
            }
        }
    }

    /// Everybody who has something new, then as many of the others as there is time for.
    fn round(&mut self) {
        let turn = ROUND / (self.ready.len() + self.again.len()).max(1);
        self.engine.set_turn(turn.clamp(*TURNS.start(), *TURNS.end()));
        let until = self.engine.work() + ROUND;
        let waiting = self.again.len();
        while let Some(index) = self.ready.pop_front() {
            self.read(index);
        }
        for _ in 0..waiting {
            let Some(index) = self.again.pop_front() else { return };
            self.read(index);
            if self.engine.work() >= until {
                return;
            }
        }
    }

    fn now(&self) -> Millis {
        self.clock.now()
    }

    /// The store has something to say: what waited for it goes on.
    fn hear_news(&mut self) {
        let now = self.now();
        self.engine.handle_log_advanced(now);
        let health = self.engine.log_health();
        if health != self.health {
            self.shared.events.push("store", &self.keep.record(&health));
            self.health = health;
        }
    }

    fn attend_gate(&mut self, is_called: bool, now: Millis) -> io::Result<()> {
        let counters = self.engine.counters();
        let messages = counters.messages_received + counters.messages_sent;
        self.keeper.note_messages(messages, now);
        self.keeper.turn(&self.poll, is_called, now)
    }

    fn is_empty(&self) -> bool {
        self.leaving.is_empty() && self.seats.iter().all(Option::is_none)
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let mut timeout = self
            .engine
            .poll_deadline()
            .map(|at| Duration::from_millis(at.since(self.now()) + u64::from(at > self.now())));
        let mut at_most = |limit: Duration| timeout = Some(timeout.map_or(limit, |t| t.min(limit)));
        if !self.leaving.is_empty() || self.stop_at.is_some() {
            at_most(LEAVING);
        }
        if !self.warm.is_empty() {
            at_most(COOLING);
        }
        if let Some(wait) = self.keeper.timeout() {
            at_most(wait);
        }
        if let Some(wait) = self.expiries.wait() {
            at_most(wait);
        }
        timeout
    }

    fn seat_mut(&mut self, index: u32) -> Option<&mut Seat> {
        self.seats.get_mut(index as usize).and_then(Option::as_deref_mut)
    }

    fn mark_ready(&mut self, index: u32) {
        if let Some(seat) = self.seat_mut(index)
            && !seat.is_ready
        {
            seat.is_ready = true;
            self.ready.push_back(index);
        }
    }

    fn mark_again(&mut self, index: u32) {
        if let Some(seat) = self.seat_mut(index)
            && !seat.is_ready
        {
            seat.is_ready = true;
            self.again.push_back(index);
        }
    }

    /// Read what is there, at most a few times; whoever has more is put at the end of the line.
    fn read(&mut self, index: u32) {
        let Some(seat) = self.seat_mut(index) else { return };
        seat.is_ready = false;
        if seat.is_cut_short {
            self.consume_partial(index);
        }
        for _ in 0..READS_PER_TURN {
            let now = self.now();
            let Some(seat) = self.seats.get_mut(index as usize).and_then(Option::as_deref_mut) else {
                return;
            };
            if seat.is_cut_short {
                return self.mark_again(index);
            }
            self.scratch.plain.clear();
            let outcome = seat.link.read(&mut self.scratch);
            let id = seat.id;
            if seat.link.has_outgoing() && !seat.link.is_blocked() {
                self.answering.push(index);
            }
            if !self.scratch.plain.is_empty() {
                let plain = std::mem::take(&mut self.scratch.plain);
                self.take_in(index, &plain);
                self.scratch.plain = plain;
            }
            match outcome {
                Ok(outcome) => {
                    if let Some(how) = outcome.ended {
                        self.consume_all(index);
                        let sentence = match how {
                            Ended::Cleanly => "client closed the connection without DISCONNECT",
                            Ended::Abruptly => "network connection ended without a word",
                        };
                        self.engine.handle_closed(now, id, sentence);
                        return;
                    }
                    let seat = self.seat_mut(index);
                    if !outcome.more && !seat.is_some_and(|seat| seat.is_cut_short) {
                        return;
                    }
                }
                Err(fault) => {
                    self.broken(index, id, &fault);
                    return;
                }
            }
        }
        self.mark_again(index);
    }

    /// Bytes of MQTT: what began earlier is completed by just what it lacks, so that the rest goes to the engine where it lies.
    fn take_in(&mut self, index: u32, mut plain: &[u8]) {
        let now = self.now();
        while !plain.is_empty() {
            let Some(seat) = self.seats.get_mut(index as usize).and_then(Option::as_deref_mut) else {
                return;
            };
            if seat.is_cut_short {
                return seat.partial.extend_from_slice(plain);
            }
            if seat.partial.is_empty() {
                let intake = self.engine.handle_bytes(now, seat.id, plain);
                seat.partial
                    .extend_from_slice(plain.get(intake.consumed..).unwrap_or_default());
                seat.need = intake.need;
                seat.is_cut_short = intake.is_cut_short;
                return;
            }
            let lacking = seat.need.saturating_sub(seat.partial.len()).clamp(1, plain.len());
            let (head, rest) = plain.split_at_checked(lacking).unwrap_or((plain, &[]));
            seat.partial.extend_from_slice(head);
            plain = rest;
            self.consume_partial(index);
        }
    }

    /// Give the engine what was kept, once it can be whole.
    fn consume_partial(&mut self, index: u32) {
        let now = self.now();
        let Some(seat) = self.seats.get_mut(index as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        if seat.partial.is_empty() || seat.partial.len() < seat.need {
            return;
        }
        let intake = self.engine.handle_bytes(now, seat.id, &seat.partial);
        seat.need = intake.need;
        seat.is_cut_short = intake.is_cut_short;
        if intake.consumed == seat.partial.len() {
            seat.partial = Vec::new();
        } else {
            seat.partial.drain(..intake.consumed);
        }
    }

    /// There will be no further turn: what has arrived counts.
    fn consume_all(&mut self, index: u32) {
        while self.seat_mut(index).is_some_and(|seat| seat.is_cut_short) {
            self.consume_partial(index);
        }
    }

    fn broken(&mut self, index: u32, id: ConnId, fault: &LinkFault) {
        self.consume_all(index);
        let now = self.now();
        if let Some(seat) = self.seat_mut(index) {
            let _ = seat.link.flush();
        }
        self.engine.handle_closed(now, id, &fault.sentence());
    }
}

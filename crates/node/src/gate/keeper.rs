//! Who keeps the gate: a thread of its own while there are messages that a handshake could hold up, else the shard.
//!
//! Two threads that hand each newcomer over wake each other, which is a fifth of what a resumed handshake costs. Where nobody
//! publishes nobody waits, and one thread does it all. The gate goes from one to the other as it is, with those who are in it;
//! it stays where it is until something happens in it. Refuses to know what a gate does.

use super::Gate;
use crate::shard::{Command, ShardHandle};
use mio::unix::SourceFd;
use mio::{Events as Ready, Interest, Poll, Token};
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use sealmq_engine::Millis;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

/// How much the gate's own thread gives way: half the weight of a shard's.
const YIELDING: i32 = 3;
/// How long there must have been no message before a shard keeps the gate.
const CALM_MS: u64 = 100;
/// How long a shard serves the gate before it looks after its own again: a message may be on its way by now.
const TURN: Duration = Duration::from_millis(2);
/// Events of the gate that a shard takes at a time.
const EVENTS: usize = 64;

/// The gate's own thread: keeps each gate that comes over `gates` until it is calm, or the node stops.
pub fn keep_apart(gates: &Receiver<Box<Gate>>, shard: &ShardHandle) {
    // Established traffic comes before newcomers, also where there are fewer processors than threads.
    let _ = setpriority_process(Some(gettid()), YIELDING);
    let mut ready = Ready::with_capacity(256);
    for mut gate in gates {
        let mut since = Instant::now();
        loop {
            if let Err(e) = gate.wait(&mut ready, gate.timeout()) {
                return gate.shared.fatal(&format!("gate cannot wait for the network: {e}"));
            }
            gate.serve(&ready, None);
            if gate.is_stopping() {
                return;
            }
            if since.elapsed() >= Duration::from_millis(CALM_MS) {
                if !shard.had_messages() {
                    shard.send(Command::KeepGate(gate));
                    break;
                }
                since = Instant::now();
            }
        }
    }
}

/// A shard's place for the gate, and the way to the gate's own thread.
pub struct Keeper {
    gate: Option<Box<Gate>>,
    apart: Sender<Box<Gate>>,
    ready: Ready,
    /// Somebody in the gate waits for its next turn.
    has_more: bool,
    /// Messages that the shard has had, and when it had the last one.
    messages: u64,
    last_message: Option<Millis>,
}

impl Keeper {
    pub fn new(apart: Sender<Box<Gate>>) -> Keeper {
        Keeper {
            gate: None,
            apart,
            ready: Ready::with_capacity(EVENTS),
            has_more: false,
            messages: 0,
            last_message: None,
        }
    }

    /// Keep the gate; from here on `poll` tells under `token` that something happens in it.
    ///
    /// Raises what the system says when that cannot be watched.
    pub fn take(&mut self, gate: Box<Gate>, poll: &Poll, token: Token) -> io::Result<()> {
        if !gate.is_stopping() {
            let watched = gate.poll.as_raw_fd();
            poll.registry()
                .register(&mut SourceFd(&watched), token, Interest::READABLE)?;
            self.has_more = true;
            self.gate = Some(gate);
        }
        Ok(())
    }

    /// Nobody comes in any more.
    pub fn close(&mut self) {
        self.gate = None;
    }

    /// The shard has had so many messages by now; whether there are new ones.
    pub fn note_messages(&mut self, messages: u64, now: Millis) -> bool {
        let is_new = messages != self.messages;
        if is_new {
            self.messages = messages;
            self.last_message = Some(now);
        }
        is_new
    }

    /// How long the gate, if it is here, can wait for the network; `None`: until something comes.
    pub fn timeout(&self) -> Option<Duration> {
        match (&self.gate, self.has_more) {
            (None, _) => None,
            (Some(_), true) => Some(Duration::ZERO),
            (Some(gate), false) => gate.timeout(),
        }
    }

    /// The gate's turn, if it is here and something has happened in it (`is_called`), somebody in it waits, or deadlines are
    /// due. Where there are messages to keep away from, it goes to its own thread instead.
    ///
    /// Raises what the system says when it is impossible to tell what has happened.
    pub fn turn(&mut self, poll: &Poll, is_called: bool, now: Millis) -> io::Result<()> {
        let Some(gate) = &mut self.gate else { return Ok(()) };
        let is_due = || gate.is_busy() && Instant::now() >= gate.patrol_at;
        if !is_called && !self.has_more && !is_due() {
            return Ok(());
        }
        if self.last_message.is_some_and(|at| now.since(at) < CALM_MS) {
            poll.registry().deregister(&mut SourceFd(&gate.poll.as_raw_fd()))?;
            if let Some(gate) = self.gate.take() {
                let _ = self.apart.send(gate);
            }
            return Ok(());
        }
        gate.wait(&mut self.ready, Some(Duration::ZERO))?;
        gate.serve(&self.ready, Some(Instant::now() + TURN));
        // The shard that serves it is awake.
        gate.wake_shards(Duration::ZERO);
        // Events that did not fit in are told by the next look, and by nobody before.
        self.has_more = gate.has_more() || self.ready.iter().count() == EVENTS;
        Ok(())
    }
}

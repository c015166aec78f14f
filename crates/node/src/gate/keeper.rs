//! Who keeps the gate: a thread of its own while there are messages that a handshake could hold up, else the shard.
//!
//! Two threads that hand each newcomer over wake each other, which is a fifth of what a resumed handshake costs. Where nobody
//! publishes no message waits, and one thread does it all. The gate goes from one to the other as it is, with those who are in
//! it; it stays where it is until something happens in it. Refuses to know what a gate does.

use super::Gate;
use crate::clock::Clock;
use crate::shard::{Command, ShardHandle};
use mio::unix::SourceFd;
use mio::{Events as Ready, Interest, Poll, Token};
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use sealmq_engine::Millis;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How much the gate's own thread gives way: half the weight of a shard's.
const YIELDING: i32 = 3;
/// How long there must have been no message before a shard keeps the gate: devices that report every second are spared.
const CALM_MS: u64 = 2_000;
/// How long a shard serves the gate before it looks after its own again: a message may be on its way by now.
const TURN: Duration = Duration::from_millis(2);
/// Events of the gate that a shard takes at a time: all there are, so that it knows who waits for it.
const EVENTS: usize = 1024;

/// When the shard had its last message.
#[derive(Clone, Default)]
struct LastMessage(Arc<AtomicU64>);

impl LastMessage {
    fn was_at(&self, now: Millis) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    fn is_long_ago(&self, now: Millis) -> bool {
        now.since(Millis(self.0.load(Ordering::Relaxed))) >= CALM_MS
    }
}

/// The keeper of a shard, and the other one, for the gate's own thread.
pub fn keepers() -> (Keeper, KeeperApart) {
    let (apart, gates) = channel();
    let last_message = LastMessage::default();
    let other = KeeperApart {
        gates,
        last_message: last_message.clone(),
    };
    let keeper = Keeper {
        gate: None,
        apart,
        ready: Ready::with_capacity(EVENTS),
        has_more: false,
        messages: 0,
        last_message,
    };
    (keeper, other)
}

/// Keeps the gate away from the shard.
pub struct KeeperApart {
    gates: Receiver<Box<Gate>>,
    last_message: LastMessage,
}

impl KeeperApart {
    /// Keep the gate whenever the shard gives it away, until no message has come for long enough; until the node stops.
    pub fn run(self, shard: &ShardHandle, clock: Clock) {
        // Established traffic comes before newcomers, also where there are fewer processors than threads.
        let _ = setpriority_process(Some(gettid()), YIELDING);
        let mut ready = Ready::with_capacity(256);
        for mut gate in self.gates {
            loop {
                // Whoever waited before may have taken the call to stop.
                if gate.is_stopping() {
                    return;
                }
                if let Err(e) = gate.wait(&mut ready, gate.timeout()) {
                    return gate.shared.fatal(&format!("gate cannot wait for the network: {e}"));
                }
                gate.serve(&ready, None);
                if self.last_message.is_long_ago(clock.now()) {
                    shard.send(Command::KeepGate(gate));
                    break;
                }
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
    /// Messages that the shard has had.
    messages: u64,
    last_message: LastMessage,
}

impl Keeper {
    /// Keep the gate; from here on `poll` tells under `token` that something happens in it. Where the system cannot watch it
    /// for want of memory, it stays with its own thread.
    pub fn take(&mut self, gate: Box<Gate>, poll: &Poll, token: Token) {
        if gate.is_stopping() {
            return;
        }
        let watched = gate.poll.as_raw_fd();
        let watching = poll
            .registry()
            .register(&mut SourceFd(&watched), token, Interest::READABLE);
        if watching.is_err() {
            let _ = self.apart.send(gate);
            return;
        }
        self.has_more = true;
        self.gate = Some(gate);
    }

    fn give_away(&mut self, poll: &Poll) {
        if let Some(gate) = self.gate.take() {
            let _ = poll.registry().deregister(&mut SourceFd(&gate.poll.as_raw_fd()));
            let _ = self.apart.send(gate);
        }
    }

    /// Nobody comes in any more.
    pub fn close(&mut self) {
        self.gate = None;
    }

    /// The shard has had so many messages by `now`.
    pub fn note_messages(&mut self, messages: u64, now: Millis) {
        if messages != self.messages {
            self.messages = messages;
            self.last_message.was_at(now);
        }
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
        if !is_called && !self.has_more && !gate.is_due() {
            return Ok(());
        }
        if !self.last_message.is_long_ago(now) {
            self.give_away(poll);
            return Ok(());
        }
        gate.wait(&mut self.ready, Some(Duration::ZERO))?;
        gate.serve(&self.ready, Some(Instant::now() + TURN));
        // The shard that serves it is awake.
        gate.wake_shards(Duration::ZERO);
        // Events that did not fit in are told by the next look, and by nobody before.
        self.has_more = gate.has_more() || self.ready.iter().count() >= EVENTS;
        Ok(())
    }
}

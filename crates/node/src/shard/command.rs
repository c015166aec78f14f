//! What other threads ask of a shard, and how it answers.
//!
//! Refuses to know why they ask.

use super::{Arrival, GATE, Shard};
use crate::denylist::Revocation;
use crate::gate::Gate;
use mio::Waker;
use sealmq_codec::ReasonCode;
use sealmq_engine::rules::Rules;
use sealmq_engine::{Counters, Gauges, Limits, Purged, Retain, SessionView};
use sleep::Sleep;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, atomic};
use std::time::Instant;

#[cfg(test)]
mod schedules;
mod sleep;

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
    KeepGate(Box<Gate>),
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

/// The two ends of the line to a shard; `waker` ends its wait for the network.
pub fn line(waker: Arc<Waker>) -> (ShardHandle, Inbox) {
    let (sender, commands) = channel();
    let sleep = Arc::new(Sleep::default());
    let handle = ShardHandle {
        commands: sender,
        waker,
        sleep: Arc::clone(&sleep),
    };
    (handle, Inbox { commands, sleep })
}

/// The way into a shard from other threads.
#[derive(Clone)]
pub struct ShardHandle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    sleep: Arc<Sleep>,
}

impl ShardHandle {
    pub fn send(&self, command: Command) {
        self.queue(command);
        self.wake();
    }

    /// To be carried out in the shard's next turn; should it sleep, after [`ShardHandle::wake`].
    pub fn queue(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Wake the shard if it sleeps. One that is awake costs no system call, and looks before it sleeps.
    pub fn wake(&self) {
        if self.sleep.is_over() {
            let _ = self.waker.wake();
        }
    }
}

/// What others ask of a shard, in the order in which they did.
pub struct Inbox {
    commands: Receiver<Command>,
    sleep: Arc<Sleep>,
}

impl Inbox {
    /// The shard is about to sleep: whoever sends from here on wakes it; what came earlier is handed out now.
    pub(super) fn lie_down(&self) -> Option<Command> {
        self.sleep.begin();
        self.next()
    }

    pub(super) fn rise(&self) {
        self.sleep.end();
    }

    pub(super) fn next(&self) -> Option<Command> {
        self.commands.try_recv().ok()
    }
}

impl Shard {
    pub(super) fn carry_out(&mut self, command: Command) {
        match command {
            Command::KeepGate(gate) => self.keeper.take(gate, &self.poll, GATE),
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
                self.keeper.close();
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

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll, Token};
    use std::sync::mpsc::TryRecvError;
    use std::time::Duration;

    fn turns(inbox: &Inbox) -> usize {
        std::iter::from_fn(|| inbox.next()).count()
    }

    fn ask() -> Command {
        Command::Report { reply: channel().0 }
    }

    /// Whether the poll ends at once.
    fn is_woken(poll: &mut Poll) -> bool {
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    }

    #[test]
    fn only_a_shard_that_sleeps_is_woken_and_once() {
        let mut poll = Poll::new().unwrap();
        let (handle, inbox) = line(Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        handle.send(ask());
        assert!(!is_woken(&mut poll), "it is awake, and looks before it sleeps");
        assert!(inbox.lie_down().is_some());
        inbox.rise();
        assert!(inbox.lie_down().is_none());
        handle.queue(ask());
        assert!(!is_woken(&mut poll), "nobody has asked for that");
        handle.send(ask());
        assert!(is_woken(&mut poll));
        handle.send(ask());
        assert!(!is_woken(&mut poll), "it is on its way");
        inbox.rise();
        assert_eq!(turns(&inbox), 3);
    }

    /// Two threads without a pause between them: the sleeper is never left asleep with something to do.
    #[test]
    fn nothing_sent_while_it_lies_down_is_overlooked() {
        let mut poll = Poll::new().unwrap();
        let (handle, inbox) = line(Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        let asked = 20_000;
        let sending = handle.clone();
        let sender = std::thread::spawn(move || {
            for _ in 0..asked {
                let (reply, answer) = channel();
                sending.send(Command::Report { reply });
                // Dropped with its command, when the shard is about to lie down again.
                while matches!(answer.try_recv(), Err(TryRecvError::Empty)) {
                    std::hint::spin_loop();
                }
            }
        });
        let mut events = Events::with_capacity(8);
        let mut answered = 0;
        while answered < asked {
            match inbox.lie_down() {
                Some(_) => answered += 1,
                None => {
                    poll.poll(&mut events, Some(Duration::from_secs(60))).unwrap();
                    assert!(!events.is_empty(), "asleep with something to do after {answered}");
                }
            }
            inbox.rise();
            answered += turns(&inbox);
        }
        sender.join().unwrap();
    }
}

//! The clients of a load and the one thread that serves them.
//!
//! Refuses to know when a load is over; whoever turns it says so.

use crate::Outcome;
use crate::client::{Client, Session, Tally};
use crate::options::Options;
use mio::{Events, Poll};
use sealmq_codec::QoS;
use std::time::{Duration, Instant};

/// The groups of who speaks to nobody and hears nobody.
pub const NOBODY: (u16, u16) = (u16::MAX, u16::MAX);
/// Without an arrival for so long, what is missing counts as lost.
const STALLED: Duration = Duration::from_secs(3);

/// Who speaks to whom: sender `i` of as many as there are receivers to receiver `i`, else each to all.
#[derive(Clone, Copy)]
pub struct Shape {
    pub senders: usize,
    pub receivers: usize,
}

impl Shape {
    pub fn is_paired(self) -> bool {
        self.senders == self.receivers
    }

    /// Deliveries that one message of each sender makes.
    pub fn fan(self) -> usize {
        if self.is_paired() { 1 } else { self.receivers }
    }

    /// Of sender or receiver `number`.
    pub fn topic(self, number: usize) -> String {
        format!("shared/bench/{}", self.group(number))
    }

    /// Those that sender `number` uses in turn: `--topics N`, else the one.
    pub fn topics(self, options: &Options, number: usize) -> Vec<String> {
        let topic = self.topic(number);
        match options.number("topics", 1) {
            1 => vec![topic],
            count => (0..count).map(|n| format!("{topic}/{n}")).collect(),
        }
    }

    fn group(self, number: usize) -> u16 {
        if self.is_paired() { number as u16 } else { 0 }
    }

    /// Which group a client of the bare relay speaks to and which it hears, senders first; each group has a way back.
    fn groups(self, client: usize) -> (u16, u16) {
        match client.checked_sub(self.senders) {
            None => (2 * self.group(client), 2 * self.group(client) + 1),
            Some(receiver) => (2 * self.group(receiver) + 1, 2 * self.group(receiver)),
        }
    }
}

pub struct Crowd {
    pub poll: Poll,
    pub clients: Vec<Client>,
    pub tally: Tally,
    events: Events,
    patience: Duration,
    /// Connections under way at a time.
    parallel: usize,
    heard: Instant,
    arrived: usize,
}

impl Crowd {
    pub fn new(options: &Options) -> Outcome<Crowd> {
        Ok(Crowd {
            poll: Poll::new()?,
            clients: Vec::new(),
            tally: Tally::new(),
            events: Events::with_capacity(1024),
            patience: options.patience(),
            parallel: options.number("parallel", 64),
            heard: Instant::now(),
            arrived: 0,
        })
    }

    /// Connect `count` more clients, a few at a time; their names are numbered from `first`.
    pub fn connect(&mut self, options: &Options, count: usize, first: usize, session: Session) -> Outcome<()> {
        self.connect_in(options, count, (first, session), |_| NOBODY)
    }

    fn connect_in(
        &mut self,
        options: &Options,
        count: usize,
        (first, session): (usize, Session),
        groups: impl Fn(usize) -> (u16, u16),
    ) -> Outcome<()> {
        let (before, mut dialled) = (self.tally.connected, 0);
        self.until(|crowd| {
            let standing = crowd.tally.connected - before;
            while dialled < count && dialled - standing < crowd.parallel {
                let at = (crowd.poll.registry(), crowd.clients.len());
                let client = Client::dial(options, (first + dialled, session), groups(dialled), at)?;
                crowd.clients.push(client);
                dialled += 1;
            }
            Ok(standing == count)
        })
    }

    /// Connect senders and then receivers, and subscribe the latter.
    pub fn arrange(&mut self, options: &Options, shape: Shape, qos: QoS) -> Outcome<()> {
        let first = self.clients.len();
        let count = shape.senders + shape.receivers;
        self.connect_in(options, count, (0, Session::Clean), |client| shape.groups(client))?;
        if options.is_bare() {
            return Ok(());
        }
        let before = self.tally.subscribed;
        for receiver in 0..shape.receivers {
            let topics = shape.topics(options, receiver);
            self.clients[first + shape.senders + receiver].subscribe(&topics, qos)?;
        }
        self.until(|crowd| Ok(crowd.tally.subscribed - before == shape.receivers))
    }

    /// Serve whoever the poll names, once, for at most so long.
    pub fn turn(&mut self, wait: Duration) -> Outcome<()> {
        self.poll.poll(&mut self.events, Some(wait))?;
        for event in &self.events {
            if let Some(client) = self.clients.get_mut(event.token().0) {
                client.turn(&mut self.tally)?;
            }
        }
        Ok(())
    }

    /// Turn until `done`, which is asked before each turn.
    pub fn until(&mut self, mut done: impl FnMut(&mut Crowd) -> Outcome<bool>) -> Outcome<()> {
        let began = Instant::now();
        while !done(self)? {
            self.turn(Duration::from_millis(100))?;
            if began.elapsed() > self.patience {
                let Tally {
                    connected, received, ..
                } = self.tally;
                return Err(format!("no end in sight: {connected} connected, {received} received").into());
            }
        }
        Ok(())
    }

    /// Whether nothing has arrived for some seconds; to be asked once a turn.
    pub fn is_stalled(&mut self) -> bool {
        let arrived = self.tally.received + self.tally.acknowledged;
        if arrived != self.arrived {
            (self.arrived, self.heard) = (arrived, Instant::now());
        }
        self.heard.elapsed() > STALLED
    }

    /// Start to count anew.
    pub fn reset(&mut self) {
        (self.tally.received, self.tally.acknowledged) = (0, 0);
        (self.arrived, self.heard) = (0, Instant::now());
        for client in &mut self.clients {
            (client.received, client.acknowledged) = (0, 0);
        }
    }
}

//! The thread of one connection: it moves bytes between channel and session, and tells who waits.
//!
//! Refuses to know MQTT, and decides nothing: when to connect again is the caller's question.

use super::Outgoing;
use super::channel::Channel;
use super::config::ClientConfig;
use super::dial::{SOCKET, establish};
use super::fault::ClientError;
use super::news::Taken;
use super::session::Session;
use super::trust::Tickets;
use mio::{Events, Poll, Waker};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a goodbye may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// Socket reads in one turn, before what was read is told.
const READS: usize = 4;

/// What the thread and the callers share.
pub(super) struct Shared {
    session: Mutex<State>,
    news: Condvar,
    waker: Waker,
    is_woken: AtomicBool,
    bell: UnixStream,
}

pub(super) struct State {
    pub session: Session,
    /// Nobody has looked since the bell rang.
    pub is_rung: bool,
    /// The thread has ended.
    pub is_over: bool,
    had_room: bool,
}

impl State {
    pub(super) fn publish(&mut self, message: &Outgoing<'_>) -> Result<Taken, ClientError> {
        let taken = self.session.publish(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            &message.properties,
        );
        self.had_room = self.session.has_room();
        taken
    }
}

impl Shared {
    pub(super) fn new(session: Session, waker: Waker, bell: UnixStream) -> Shared {
        let state = State {
            session,
            is_rung: false,
            is_over: false,
            had_room: true,
        };
        Shared {
            session: Mutex::new(state),
            news: Condvar::new(),
            waker,
            is_woken: AtomicBool::new(false),
            bell,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleep until something happened, at most until `deadline`; false when it has passed.
    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>, deadline: Instant) -> (MutexGuard<'a, State>, bool) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return (state, false);
        }
        let (state, _) = self
            .news
            .wait_timeout(state, left)
            .unwrap_or_else(PoisonError::into_inner);
        (state, true)
    }

    /// Let the thread look at the session.
    pub(super) fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            let _ = self.waker.wake();
        }
    }

    /// Let whoever waits look at the session.
    pub(super) fn tell(&self, state: &mut State) {
        self.news.notify_all();
        if !state.is_rung {
            state.is_rung = true;
            let _ = (&self.bell).write(&[1]);
        }
    }
}

/// Connect and serve the connection until it ends.
pub(super) fn run(config: &ClientConfig, tickets: &Tickets, shared: &Shared, mut poll: Poll) {
    let deadline = Instant::now() + Duration::from_millis(config.timeout_ms.max(1));
    let is_wanted = || !shared.lock().session.is_leaving();
    match establish(config, tickets, &mut poll, deadline, &is_wanted) {
        Ok((channel, early)) => serve(channel, early, shared, &mut poll),
        Err(error) => shared.lock().session.end(error.into()),
    }
    let mut state = shared.lock();
    state
        .session
        .end(ClientError::new("closed", "this side has disconnected", "").into());
    state.is_over = true;
    shared.tell(&mut state);
}

fn serve(mut channel: Channel, early: Vec<u8>, shared: &Shared, poll: &mut Poll) {
    let mut turn = Turn {
        plain: early,
        output: Vec::new(),
        is_readable: true,
        is_paused: false,
        farewell: None,
    };
    shared.lock().session.begin(channel.tls_facts(), Instant::now());
    let mut events = Events::with_capacity(16);
    loop {
        let (deadline, is_over) = turn.take(&mut channel, shared);
        if is_over {
            break;
        }
        let wait = match deadline {
            _ if turn.is_readable && !turn.is_paused => Some(Duration::ZERO),
            Some(at) => Some(at.saturating_duration_since(Instant::now()) + Duration::from_millis(1)),
            None => None,
        };
        if poll.poll(&mut events, wait).is_err() {
            continue; // interrupted
        }
        shared.is_woken.store(false, Ordering::Release);
        turn.is_readable |= events.iter().any(|e| e.token() == SOCKET && e.is_readable());
    }
    channel.close();
}

/// What one turn leaves for the next.
struct Turn {
    plain: Vec<u8>,
    output: Vec<u8>,
    is_readable: bool,
    /// The session wants nothing more until somebody takes what it has.
    is_paused: bool,
    /// Until when a goodbye has to be out.
    farewell: Option<Instant>,
}

impl Turn {
    /// Read, let the session work, write. When to come back at the latest, and whether all is over.
    fn take(&mut self, channel: &mut Channel, shared: &Shared) -> (Option<Instant>, bool) {
        let mut fault = None;
        if self.is_readable && shared.lock().session.wants_bytes() {
            fault = self.read(channel).err();
        }
        let now = Instant::now();
        let mut state = shared.lock();
        let before = Standing::of(&state);
        if !self.plain.is_empty() {
            state.session.handle_bytes(now, &self.plain);
            self.plain.clear();
        }
        if let Some(error) = fault {
            state.session.end(error.into());
        }
        state.session.handle_time(now);
        if channel.is_idle() {
            state.session.output(now, &mut self.output);
        }
        let is_closed = state.session.closing().is_some();
        let wants_bytes = state.session.wants_bytes();
        let deadline = state.session.deadline();
        let is_leaving = state.session.is_leaving();
        let has_more = state.session.pending() > 0;
        if before.has_news(&mut state) {
            shared.tell(&mut state);
        }
        drop(state);
        if !self.output.is_empty() {
            channel.write(&mut self.output);
        }
        let written = channel.flush();
        if let Err(error) = written {
            let mut state = shared.lock();
            state.session.end(error.into());
            return (None, true);
        }
        self.is_paused = !wants_bytes;
        if is_leaving {
            let by = *self.farewell.get_or_insert(now + FAREWELL);
            let is_said = channel.is_idle() && !has_more;
            return (Some(by), is_said || now >= by || is_closed);
        }
        (deadline, is_closed)
    }

    fn read(&mut self, channel: &mut Channel) -> Result<(), ClientError> {
        for _ in 0..READS {
            let found = channel.read(&mut self.plain)?;
            if found.ended {
                return Err(ClientError::new(
                    "closed",
                    "server closed the connection",
                    "look at its log",
                ));
            }
            if !found.more {
                self.is_readable = false;
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What somebody may be waiting for, as it stood before a turn.
struct Standing {
    messages: usize,
    results: usize,
    is_open: bool,
    is_closed: bool,
}

impl Standing {
    fn of(state: &State) -> Standing {
        let session = &state.session;
        Standing {
            messages: session.inbox_len(),
            results: session.results_len(),
            is_open: session.connack().is_some(),
            is_closed: session.closing().is_some(),
        }
    }

    fn has_news(&self, state: &mut State) -> bool {
        let now = Standing::of(state);
        let has_room = state.session.has_room();
        let got_room = has_room && !state.had_room;
        state.had_room = has_room;
        got_room
            || now.messages > self.messages
            || now.results > self.results
            || now.is_open != self.is_open
            || now.is_closed != self.is_closed
    }
}

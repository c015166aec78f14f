//! A client connection: verified TLS, MQTT, a thread of its own that keeps it alive; batches in and out.
//!
//! Refuses to know when to connect again and who uses it. Nothing of MQTT leaves before the server is verified.
//!
//! Order of calls: [`Client::open`], [`Client::connack`]; then publishes and requests, whose results come by
//! [`Client::poll`] under their tickets, together with messages; at last [`Client::disconnect`].

use self::pump::{Shared, State};
use self::session::Session;
use self::trust::Tickets;
use mio::{Poll, Token, Waker};
use sealmq_codec::{QoS, SubscribeOptions};
use serde_json::Value;
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

mod certificates;
mod channel;
mod config;
mod connect;
mod dial;
mod exchanges;
mod fault;
mod incoming;
mod news;
mod peer;
mod properties;
mod pump;
#[cfg(not(feature = "fuzzing"))]
mod session;
#[cfg(feature = "fuzzing")]
pub mod session;
#[cfg(test)]
mod tests;
mod tls;
mod trust;

pub use config::{ClientConfig, TlsVersions};
pub use fault::{ClientError, TlsFailure};
pub use news::{Closing, Done, Message, Taken};
pub use peer::{PeerConfig, PeerState, TlsPeer};

/// Bytes of output that are worth a write of their own.
const WORTH_A_WRITE: usize = 32 * 1024;

/// How long the thread of a connection that is over may need to end.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// What [`Client::poll`] found.
pub struct News {
    pub messages: Vec<Message>,
    pub results: Vec<Done>,
}

/// A publish as it crosses the border.
pub struct Outgoing<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: QoS,
    pub retain: bool,
    /// JSON, null for none.
    pub properties: Value,
}

pub struct Client {
    shared: Arc<Shared>,
    tickets: Tickets,
    bell: UnixStream,
}

impl Client {
    /// Begin to connect, and return at once. With `previous`, a connection that has ended, its TLS tickets go over to
    /// the new one, and, unless it ended by [`Client::disconnect`], what it left unacknowledged and what nobody took.
    pub fn open(config: ClientConfig, previous: Option<&Client>) -> Result<Client, ClientError> {
        let mut session = Session::new(&config, Instant::now())?;
        let tickets = match previous {
            None => Tickets::default(),
            Some(previous) => {
                if previous.closing().is_none() || !previous.disconnect(LAST_MOMENTS) {
                    return Err(fault::misuse("previous connection has not ended"));
                }
                let mut state = previous.shared.lock();
                // Whoever said goodbye has given up what was under way.
                if !state.session.is_leaving() {
                    session.resume_from(&mut state.session);
                }
                previous.tickets.clone()
            }
        };
        let cannot = |e: std::io::Error| ClientError::new("environment", format!("client cannot start: {e}"), "");
        let poll = Poll::new().map_err(cannot)?;
        let waker = Waker::new(poll.registry(), Token(1)).map_err(cannot)?;
        let (bell, ringer) = UnixStream::pair().map_err(cannot)?;
        bell.set_nonblocking(true).map_err(cannot)?;
        ringer.set_nonblocking(true).map_err(cannot)?;
        let shared = Arc::new(Shared::new(session, waker, ringer));
        let (theirs, known) = (Arc::clone(&shared), tickets.clone());
        std::thread::Builder::new()
            .name("sealmq-client".into())
            .spawn(move || pump::run(&config, &known, &theirs, poll))
            .map_err(cannot)?;
        Ok(Client { shared, tickets, bell })
    }

    /// What the server answered to CONNECT, waiting up to `timeout` for it; `None` when it has not yet.
    pub fn connack(&self, timeout: Duration) -> Result<Option<Value>, ClientError> {
        self.until(timeout, |state| state.session.connack().cloned())
    }

    /// Becomes readable when [`Client::poll`] may have something to give; reading it is `poll`'s business.
    pub fn fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Publish. Small packets wait for [`Client::flush`], so that many leave together.
    pub fn publish(&self, message: &Outgoing<'_>) -> Result<Taken, ClientError> {
        let mut state = self.shared.lock();
        let taken = state.publish(message)?;
        self.wake_for(&state);
        Ok(taken)
    }

    /// Publish one after the other while there is room; what became of each that was taken.
    pub fn publish_many<'a>(&self, messages: impl Iterator<Item = Outgoing<'a>>) -> Result<Vec<Taken>, ClientError> {
        let mut all = Vec::new();
        let mut state = self.shared.lock();
        for message in messages {
            match state.publish(&message)? {
                Taken::NoRoom => break,
                taken => all.push(taken),
            }
        }
        drop(state);
        self.flush();
        Ok(all)
    }

    /// Let what was published leave.
    pub fn flush(&self) {
        self.shared.wake();
    }

    /// Subscribe; the ticket of its result, one code per filter.
    pub fn subscribe(&self, filters: &[(String, SubscribeOptions)], properties: &Value) -> Result<u64, ClientError> {
        let ticket = self.shared.lock().session.subscribe(filters, properties)?;
        self.shared.wake();
        Ok(ticket)
    }

    /// Unsubscribe; the ticket of its result, one code per filter.
    pub fn unsubscribe(&self, filters: &[String]) -> Result<u64, ClientError> {
        let ticket = self.shared.lock().session.unsubscribe(filters)?;
        self.shared.wake();
        Ok(ticket)
    }

    /// Up to `max` messages and all results, waiting up to `timeout` for the first. An error once the connection is
    /// over and nothing is left.
    pub fn poll(&self, max: usize, timeout: Duration) -> Result<News, ClientError> {
        self.until(timeout, |state| {
            let has_news = state.session.has_results() || (max > 0 && state.session.has_messages());
            has_news.then(|| {
                let was_full = !state.session.wants_bytes();
                let news = News {
                    messages: state.session.take_messages(max),
                    results: state.session.take_results(),
                };
                if was_full || state.session.pending() > 0 {
                    self.shared.wake();
                }
                news
            })
        })
        .map(|news| {
            news.unwrap_or(News {
                messages: Vec::new(),
                results: Vec::new(),
            })
        })
    }

    /// The result of one ticket, waiting up to `timeout`; `None` when it has not come.
    pub fn result(&self, ticket: u64, timeout: Duration) -> Result<Option<Vec<u8>>, ClientError> {
        self.shared.wake();
        self.until(timeout, |state| state.session.take_result(ticket))
    }

    /// Whether another publish is taken, waiting up to `timeout` for it.
    pub fn has_room(&self, timeout: Duration) -> Result<bool, ClientError> {
        self.until(timeout, |state| state.session.has_room().then_some(true))
            .map(|room| room.unwrap_or(false))
    }

    /// Why it is over, as far as it is.
    pub fn closing(&self) -> Option<Closing> {
        self.shared.lock().session.closing().cloned()
    }

    /// Say DISCONNECT and close, after all that was published; whether that is done within `timeout`. Calling it again
    /// does nothing else.
    pub fn disconnect(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        state.session.leave();
        self.shared.wake();
        while !state.is_over {
            let (next, in_time) = self.shared.wait(state, deadline);
            state = next;
            if !in_time {
                return state.is_over;
            }
        }
        true
    }

    fn wake_for(&self, state: &MutexGuard<'_, State>) {
        if state.session.pending() >= WORTH_A_WRITE {
            self.shared.wake();
        }
    }

    /// Look at the state until `found` has something, the connection is over, or `timeout` has passed.
    fn until<T>(
        &self,
        timeout: Duration,
        mut found: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<Option<T>, ClientError> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            if std::mem::take(&mut state.is_rung) {
                let _ = (&self.bell).read(&mut [0; 8]);
            }
            if let Some(value) = found(&mut state) {
                // The end is news too, and whoever takes this has not heard of it.
                if state.session.closing().is_some() {
                    self.shared.tell(&mut state);
                }
                return Ok(Some(value));
            }
            if let Some(closing) = state.session.closing() {
                return Err(closing.error.clone());
            }
            let (next, in_time) = self.shared.wait(state, deadline);
            state = next;
            if !in_time {
                return Ok(None);
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.disconnect(Duration::ZERO);
    }
}

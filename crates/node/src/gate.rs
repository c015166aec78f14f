//! The gate: accepts connections, looks at their first bytes, carries out the handshake, waits for CONNECT.
//!
//! Refuses to know sessions, and on which thread it runs ([`Keeper`]): with the CONNECT in hand the connection moves to its
//! shard. Whoever does not get that far leaves one refusal record.

use self::causes::stalled;
use crate::certificate::CertificateFacts;
use crate::config::ListenerKind;
use crate::hello::{ClientHello, cipher_name};
use crate::link::{Channel, Link, Scratch};
use crate::node::{Settings, Shared};
use crate::refusal::Refusal;
use crate::shard::{Arrival, Command, ShardHandle};
use crate::users::{Answer, Logins};
use mio::net::TcpListener;
use mio::{Events as Ready, Interest, Poll, Token};
use rustls::HandshakeKind;
use serde::Serialize;
use serde_json::json;
use slab::Slab;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

mod addresses;
mod causes;
mod credentials;
mod door;
mod keeper;
mod keys;
mod steps;

pub use addresses::{Addresses, Place};
pub use keeper::{Keeper, keepers};

/// Token of the waker; listeners come first, connections after them.
pub const WAKE: Token = Token(usize::MAX);
/// How long a refused peer may take to read why.
const LINGER: Duration = Duration::from_secs(2);
/// How often deadlines are looked at while somebody is in the gate.
const PATROL: Duration = Duration::from_millis(50);
/// How long a connection waits for others that go over with it before its shard is woken: those cost one wake-up.
const PATIENCE: Duration = Duration::from_millis(1);

pub struct Listener {
    pub socket: TcpListener,
    pub kind: ListenerKind,
    /// `mqtts 127.0.0.1:8883`, for records.
    pub name: Arc<str>,
}

/// What TLS agreed on.
#[derive(Clone, Debug, Serialize)]
pub struct TlsFacts {
    pub version: &'static str,
    pub cipher: &'static str,
    /// Empty where no key was agreed on.
    pub group: &'static str,
    pub resumed: bool,
    /// The identity of the pre-shared key.
    pub psk: Option<String>,
}

impl TlsFacts {
    fn of(tls: &Channel) -> TlsFacts {
        match tls {
            Channel::Certificate(tls) => TlsFacts {
                version: match tls.protocol_version() {
                    Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
                    _ => "TLS 1.2",
                },
                cipher: tls
                    .negotiated_cipher_suite()
                    .and_then(|s| cipher_name(s.suite().into()))
                    .unwrap_or_default(),
                group: tls
                    .negotiated_key_exchange_group()
                    .and_then(|g| g.name().as_str())
                    .unwrap_or_default(),
                resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
                psk: None,
            },
            Channel::PreSharedKey(psk) => TlsFacts {
                version: psk.version(),
                cipher: psk.cipher(),
                group: psk.group(),
                resumed: false,
                psk: psk.identity().map(str::to_owned),
            },
        }
    }
}

/// How far a connection in the gate has come; each step only leads to a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Hello,
    Handshake,
    Http,
    Connect,
    /// Its password is being verified.
    Login,
    /// Refused; the peer may read why.
    Leaving,
}

struct Pending {
    link: Link,
    peer: SocketAddr,
    listener: usize,
    /// When it was accepted.
    since: Instant,
    /// When something last came from it, or it was accepted.
    heard: Instant,
    deadline: Instant,
    step: Step,
    hello: Option<Box<ClientHello>>,
    certificate: Option<Arc<CertificateFacts>>,
    device: Option<Arc<str>>,
    user: Option<Arc<str>>,
    /// Of the login under way, and the bytes of its CONNECT.
    login: Option<(u64, usize)>,
    tls: Option<TlsFacts>,
    /// Since when it waits for its turn.
    waiting: Option<Instant>,
    /// Decoded bytes that are not a whole CONNECT or upgrade request yet.
    plain: Vec<u8>,
    /// Bytes received in all, for the record of a stall.
    received: usize,
    /// A refusal that waits for the CONNECT, to be answered with a reason instead of a bare close.
    verdict: Option<Refusal>,
    settings: Arc<Settings>,
}

impl Pending {
    /// Time in which it waited for its turn is not held against it.
    fn wait_is_over(&mut self) {
        if let Some(waited) = self.waiting.take().map(|since| since.elapsed()) {
            self.since += waited;
            self.heard += waited;
            self.deadline += waited;
        }
    }

    fn hear(&mut self, received: usize) {
        if received > 0 {
            self.received += received;
            self.heard = Instant::now();
        }
    }
}

/// Whether that time, if there is one, has come.
fn is_past(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() >= until)
}

pub struct Gate {
    poll: Poll,
    listeners: Vec<Listener>,
    pending: Slab<Pending>,
    shared: Arc<Shared>,
    shards: Vec<ShardHandle>,
    logins: Logins,
    answers: Receiver<Answer>,
    /// Logins so far: each gets its own number.
    login_count: u64,
    scratch: Scratch,
    is_accepting: bool,
    accept_after: Option<Instant>,
    /// When the log was last told that the system gives no more connections.
    told_exhausted: Option<Instant>,
    patrol_at: Instant,
    /// Connections with more to read than one turn allows.
    again: Vec<usize>,
    /// Since when somebody who was handed over waits for his shard to be woken.
    handed_over: Option<Instant>,
}

impl Gate {
    pub fn new(
        poll: Poll,
        mut listeners: Vec<Listener>,
        shared: Arc<Shared>,
        shards: Vec<ShardHandle>,
        (logins, answers): (Logins, Receiver<Answer>),
    ) -> io::Result<Gate> {
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry()
                .register(&mut listener.socket, Token(index), Interest::READABLE)?;
        }
        Ok(Gate {
            poll,
            listeners,
            pending: Slab::new(),
            shared,
            shards,
            logins,
            answers,
            login_count: 0,
            scratch: Scratch::new(),
            is_accepting: true,
            accept_after: None,
            told_exhausted: None,
            patrol_at: Instant::now(),
            again: Vec::new(),
            handed_over: None,
        })
    }

    /// How long it can wait for the network; `None`: until something comes.
    fn timeout(&self) -> Option<Duration> {
        match self.has_more() || self.handed_over.is_some() {
            true => Some(Duration::ZERO),
            false => self
                .is_busy()
                .then(|| self.patrol_at.saturating_duration_since(Instant::now())),
        }
    }

    /// Whether it is time to look at deadlines.
    fn is_due(&self) -> bool {
        self.is_busy() && Instant::now() >= self.patrol_at
    }

    /// Whether there are deadlines to look at.
    fn is_busy(&self) -> bool {
        !self.pending.is_empty() || self.accept_after.is_some()
    }

    /// Whether somebody waits for the next turn.
    fn has_more(&self) -> bool {
        !self.again.is_empty() || (self.is_accepting && self.accept_after.is_none())
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    fn wait(&mut self, ready: &mut Ready, timeout: Option<Duration>) -> io::Result<()> {
        loop {
            match self.poll.poll(ready, timeout) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Serve those who have waited, those who are ready, and whoever is new. Who has not had his turn by `until` is among those
    /// who wait.
    fn serve(&mut self, ready: &Ready, until: Option<Instant>) {
        if ready.is_empty() {
            // Nothing else to do.
            self.wake_shards(Duration::ZERO);
        }
        for (count, key) in mem::take(&mut self.again).into_iter().enumerate() {
            if let Some(pending) = self.pending.get_mut(key) {
                pending.wait_is_over();
            }
            self.take_turn(key, until.filter(|_| count > 0));
        }
        for event in ready {
            match event.token() {
                WAKE => {}
                Token(index) if index < self.listeners.len() => self.is_accepting = true,
                Token(token) => {
                    let key = token - self.listeners.len();
                    if event.is_read_closed()
                        && let Some(pending) = self.pending.get_mut(key)
                    {
                        pending.link.is_read_closed = true;
                    }
                    self.take_turn(key, until);
                }
            }
        }
        self.take_answers();
        self.accept(until);
        self.patrol(until);
    }

    fn take_turn(&mut self, key: usize, until: Option<Instant>) {
        if is_past(until) {
            return self.wait_for_turn(key);
        }
        self.advance(key);
        self.wake_shards(PATIENCE);
    }

    fn wait_for_turn(&mut self, key: usize) {
        if let Some(pending) = self.pending.get_mut(key)
            && pending.waiting.is_none()
        {
            pending.waiting = Some(Instant::now());
            self.again.push(key);
        }
    }

    /// The connection belongs to a shard from here on.
    fn hand_over(&mut self, key: usize, connect_size: usize) {
        let Some(mut pending) = self.pending.try_remove(key) else {
            return;
        };
        let _ = self.poll.registry().deregister(&mut pending.link.stream);
        let listener = self.listeners.get(pending.listener);
        let arrival = Arrival {
            link: pending.link,
            plain: pending.plain,
            connect_size,
            peer: pending.peer.to_string(),
            listener: listener.map_or_else(|| "".into(), |l| Arc::clone(&l.name)),
            device: pending.device,
            user: pending.user,
            certificate: pending.certificate,
            hello: pending.hello,
            tls: pending.tls,
        };
        // One shard today; with more, the client identifier decides, so that a session has one owner.
        if let Some(shard) = self.shards.first() {
            shard.queue(Command::Arrive(Box::new(arrival)));
            self.handed_over.get_or_insert_with(Instant::now);
        }
    }

    /// Wake the shards, if somebody was handed over and has waited for so long.
    fn wake_shards(&mut self, patience: Duration) {
        if self.handed_over.is_some_and(|at| at.elapsed() >= patience) {
            self.handed_over = None;
            for shard in &self.shards {
                shard.wake();
            }
        }
    }

    /// One record, the answer that is queued, and the door.
    fn refuse(&mut self, key: usize, refusal: Refusal) {
        let Some(pending) = self.pending.get_mut(key) else {
            return;
        };
        if pending.step == Step::Leaving {
            return;
        }
        let listener = self.listeners.get(pending.listener).map_or("", |l| &*l.name);
        let record = refusal.record(
            &pending.peer.to_string(),
            listener,
            pending.hello.as_deref(),
            pending.certificate.as_deref(),
            None,
        );
        self.shared.refused(refusal.cause, record.clone());
        if pending.link.tls.as_ref().is_some_and(|t| !t.is_handshaking()) {
            pending.link.shut();
        }
        pending.step = Step::Leaving;
        pending.deadline = Instant::now() + LINGER;
        let sent = pending.link.finish();
        if let Some(tap) = pending.link.tap.take() {
            let device = pending.certificate.as_ref().and_then(|c| c.device_id()).map(|id| &**id);
            self.shared
                .recorder
                .offer(&tap, device, json!({"outcome": "refused", "refusal": record}));
        }
        match sent {
            Ok(_) if !pending.link.discard(&mut self.scratch) => {}
            _ => self.drop_pending(key),
        }
    }

    fn drop_pending(&mut self, key: usize) {
        if let Some(mut pending) = self.pending.try_remove(key) {
            let _ = self.poll.registry().deregister(&mut pending.link.stream);
        }
    }

    /// Deadlines: whoever stalls is refused with a record, whoever lingers too long is let go.
    fn patrol(&mut self, until: Option<Instant>) {
        let now = Instant::now();
        // A look at everybody is cheap now and then, and dear after each event of a storm.
        if now < self.patrol_at {
            return;
        }
        self.patrol_at = now + PATROL;
        let overdue: Vec<usize> = self
            .pending
            .iter()
            .filter(|(_, p)| p.deadline <= now)
            .map(|(k, _)| k)
            .collect();
        for (count, key) in overdue.into_iter().enumerate() {
            if count > 0 && is_past(until) {
                self.patrol_at = now;
                return;
            }
            match self.pending.get(key).map(|p| (p.step, p.received)) {
                Some((Step::Leaving, _)) | None => self.drop_pending(key),
                Some((step, received)) => {
                    self.refuse(key, stalled(step, received));
                    if step == Step::Hello {
                        // Nothing was said that it could still read: its place is for others.
                        self.drop_pending(key);
                    }
                }
            }
        }
    }
}

//! The gate: accepts connections, looks at their first bytes, carries out the handshake, waits for CONNECT.
//!
//! It has a thread of its own, so that handshakes never hold up established traffic. Refuses to know sessions: with the
//! CONNECT in hand the connection moves to its shard. Whoever does not get that far leaves one refusal record.

use self::causes::{crowded_out, stalled};
use crate::certificate::CertificateFacts;
use crate::config::ListenerKind;
use crate::hello::ClientHello;
use crate::link::{Channel, Link, Scratch};
use crate::node::{Settings, Shared};
use crate::recording::Tap;
use crate::refusal::{Refusal, Stage};
use crate::shard::{Arrival, Command, ShardHandle};
use crate::users::{Answer, Logins};
use mio::net::{TcpListener, TcpStream};
use mio::{Events as Ready, Interest, Poll, Token};
use rustls::HandshakeKind;
use serde_json::{Value, json};
use slab::Slab;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

mod causes;
mod credentials;
mod keys;
mod steps;

/// Token of the waker; listeners come first, connections after them.
pub const WAKE: Token = Token(usize::MAX);
/// How long a refused peer may take to read why.
const LINGER: Duration = Duration::from_secs(2);
/// How often deadlines are looked at while somebody is in the gate.
const PATROL: Duration = Duration::from_millis(50);
/// Pause after the system refused another file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Silence after which TCP asks whether the peer is still there, and the pause between two questions.
const TCP_IDLE: Duration = Duration::from_secs(300);
const TCP_PROBE: Duration = Duration::from_secs(30);
/// How long a silent connection keeps its place when others wait for one.
const SILENCE: Duration = Duration::from_millis(250);
/// Accepted in one turn, so that handshakes under way get theirs.
const ACCEPT_BATCH: usize = 32;

pub struct Listener {
    pub socket: TcpListener,
    pub kind: ListenerKind,
    /// `mqtts 127.0.0.1:8883`, for records.
    pub name: Arc<str>,
}

/// What TLS agreed on.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    pub version: &'static str,
    pub cipher: String,
    pub group: String,
    pub resumed: bool,
}

impl TlsFacts {
    pub fn to_json(&self) -> Value {
        json!({"version": self.version, "cipher": self.cipher, "group": self.group, "resumed": self.resumed})
    }

    fn of(tls: &Channel) -> TlsFacts {
        match tls {
            Channel::Certificate(tls) => TlsFacts {
                version: match tls.protocol_version() {
                    Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
                    _ => "TLS 1.2",
                },
                cipher: tls
                    .negotiated_cipher_suite()
                    .map_or_else(String::new, |s| format!("{:?}", s.suite()).replace("TLS13_", "TLS_")),
                group: tls
                    .negotiated_key_exchange_group()
                    .map_or_else(String::new, |g| format!("{:?}", g.name())),
                resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
            },
            Channel::PreSharedKey(psk) => TlsFacts {
                version: psk.version(),
                cipher: psk.cipher().to_owned(),
                group: psk.group().to_owned(),
                resumed: false,
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
    deadline: Instant,
    step: Step,
    hello: Option<Box<ClientHello>>,
    certificate: Option<Box<CertificateFacts>>,
    device: Option<Arc<str>>,
    user: Option<Arc<str>>,
    /// Of the login under way, and the bytes of its CONNECT.
    login: Option<(u64, usize)>,
    tls: Option<TlsFacts>,
    /// Decoded bytes that are not a whole CONNECT or upgrade request yet.
    plain: Vec<u8>,
    /// Bytes received in all, for the record of a stall.
    received: usize,
    /// A refusal that waits for the CONNECT, to be answered with a reason instead of a bare close.
    verdict: Option<Refusal>,
    settings: Arc<Settings>,
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
    patrol_at: Instant,
    /// Connections with more to read than one turn allows.
    again: Vec<usize>,
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
            patrol_at: Instant::now(),
            again: Vec::new(),
        })
    }

    /// Run until the node stops.
    pub fn run(mut self) {
        let mut ready = Ready::with_capacity(256);
        while !self.shared.stopping.load(Ordering::Acquire) {
            let is_busy = !self.pending.is_empty() || self.accept_after.is_some();
            let timeout = match self.again.is_empty() {
                true => is_busy.then_some(PATROL),
                false => Some(Duration::ZERO),
            };
            if let Err(e) = self.poll.poll(&mut ready, timeout)
                && e.kind() != io::ErrorKind::Interrupted
            {
                self.shared.events.push(
                    "failure",
                    json!({"summary": format!("gate cannot wait for the network: {e}"), "fatal": true}),
                );
                return;
            }
            for event in &ready {
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
                        self.advance(key);
                    }
                }
            }
            for key in std::mem::take(&mut self.again) {
                self.advance(key);
            }
            self.take_answers();
            self.accept();
            self.patrol();
        }
    }

    /// Take in whoever waits, as long as there is a permit.
    fn accept(&mut self) {
        if self.accept_after.is_some_and(|at| at > Instant::now()) || !self.is_accepting {
            return;
        }
        self.accept_after = None;
        self.is_accepting = false;
        let settings = self.shared.settings();
        for index in 0..self.listeners.len() {
            for turn in 0.. {
                // The permit comes before the accept: who has none stays in the kernel's queue.
                let is_full = self.pending.len() >= settings.limits.max_handshakes as usize;
                if is_full && !self.make_room() || turn == ACCEPT_BATCH {
                    self.is_accepting = true;
                    self.accept_after = Some(Instant::now());
                    break;
                }
                let Some(listener) = self.listeners.get(index) else {
                    break;
                };
                match listener.socket.accept() {
                    Ok((stream, peer)) => self.admit(stream, peer, index, &settings),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
                    Err(e) => {
                        // Out of file descriptors, most likely: others may close some.
                        self.shared.events.push(
                            "failure",
                            json!({
                                "summary": format!("cannot accept connections: {e}"),
                                "mend": "raise the limit of open files (ulimit -n) or lower limits.max_connections",
                            }),
                        );
                        self.is_accepting = true;
                        self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
                        break;
                    }
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, listener: usize, settings: &Arc<Settings>) {
        let Some(kind) = self.listeners.get(listener).map(|l| l.kind) else {
            return;
        };
        self.shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let _ = stream.set_nodelay(true);
        // A peer that vanished with keep-alive 0 is found by TCP, if by nobody else.
        let probes = TcpKeepalive::new().with_time(TCP_IDLE).with_interval(TCP_PROBE);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&probes);
        let timeout = if kind == ListenerKind::Plaintext {
            settings.limits.connect_timeout_ms
        } else {
            settings.limits.handshake_timeout_ms
        };
        let mut pending = Pending {
            link: Link::new(stream),
            peer,
            listener,
            since: Instant::now(),
            deadline: Instant::now() + Duration::from_millis(u64::from(timeout)),
            step: if kind == ListenerKind::Plaintext {
                Step::Connect
            } else {
                Step::Hello
            },
            hello: None,
            certificate: None,
            device: None,
            user: None,
            login: None,
            tls: None,
            plain: Vec::new(),
            received: 0,
            verdict: None,
            settings: Arc::clone(settings),
        };
        if self.shared.recorder.is_armed() {
            pending.link.tap = Some(Box::new(Tap::new()));
        }
        let key = self.pending.vacant_key();
        let token = Token(self.listeners.len() + key);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self
            .poll
            .registry()
            .register(&mut pending.link.stream, token, interest)
            .is_err()
        {
            return;
        }
        let live = self.shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        self.pending.insert(pending);
        if live > settings.limits.max_connections as usize {
            self.refuse(
                key,
                Refusal::new(
                    Stage::Tcp,
                    "too-many-connections",
                    format!("broker has {} connections already", settings.limits.max_connections),
                    "raise limits.max_connections, or find out who connects so often",
                ),
            );
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
            shard.send(Command::Arrive(Box::new(arrival)));
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
            let device = pending.certificate.as_ref().and_then(|c| c.device.as_deref());
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
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Everybody's place is taken: the one who has been silent longest, or has been refused, gives up his. `false` when
    /// all of them are new or at work.
    fn make_room(&mut self) -> bool {
        let idle = |p: &Pending| p.step == Step::Leaving || (p.step == Step::Hello && p.received == 0);
        let oldest = self
            .pending
            .iter()
            .filter(|(_, p)| idle(p))
            .min_by_key(|(_, p)| p.since);
        let Some((key, step)) = oldest
            .filter(|(_, p)| p.since.elapsed() >= SILENCE)
            .map(|(k, p)| (k, p.step))
        else {
            return false;
        };
        if step == Step::Hello {
            self.refuse(key, crowded_out());
        }
        self.drop_pending(key);
        true
    }

    /// Deadlines: whoever stalls is refused with a record, whoever lingers too long is let go.
    fn patrol(&mut self) {
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
        for key in overdue {
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

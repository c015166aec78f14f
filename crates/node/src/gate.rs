//! The gate: accepts connections, looks at their first bytes, carries out the handshake, waits for CONNECT.
//!
//! It has a thread of its own, so that handshakes never hold up established traffic. Refuses to know sessions: with the
//! CONNECT in hand the connection moves to its shard. Whoever does not get that far leaves one refusal record.

use crate::certificate::{self, CertificateFacts};
use crate::config::ListenerKind;
use crate::hello::{ClientHello, HelloLimits, Sniff, alert_record, sniff};
use crate::http::{HttpLimits, Upgrade, UpgradeRules, upgrade};
use crate::link::{Ended, Link, LinkFault, ReadOutcome, Scratch};
use crate::node::{Settings, Shared};
use crate::refusal::{Refusal, Stage};
use crate::shard::{Arrival, Command, ShardHandle};
use crate::tls;
use mio::net::{TcpListener, TcpStream};
use mio::{Events as Ready, Interest, Poll, Token};
use rustls::server::UnbufferedServerConnection;
use rustls::{Error as TlsError, HandshakeKind};
use sealmq_codec::{Connect, Fault, Framed, ReasonCode, frame};
use sealmq_engine::refusal_bytes;
use serde_json::{Value, json};
use slab::Slab;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Token of the waker; listeners come first, connections after them.
pub const WAKE: Token = Token(usize::MAX);
/// How long a refused peer may take to read why.
const LINGER: Duration = Duration::from_secs(2);
/// How often deadlines are looked at while somebody is in the gate.
const PATROL: Duration = Duration::from_millis(50);
/// Pause after the system refused another file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
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

    fn of(tls: &UnbufferedServerConnection) -> TlsFacts {
        let name = |debug: String| debug;
        TlsFacts {
            version: match tls.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
                _ => "TLS 1.2",
            },
            cipher: tls.negotiated_cipher_suite().map_or_else(String::new, |s| {
                name(format!("{:?}", s.suite())).replace("TLS13_", "TLS_")
            }),
            group: tls
                .negotiated_key_exchange_group()
                .map_or_else(String::new, |g| name(format!("{:?}", g.name()))),
            resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
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
    /// Refused; the peer may read why.
    Leaving,
}

struct Pending {
    link: Link,
    peer: SocketAddr,
    listener: usize,
    deadline: Instant,
    step: Step,
    hello: Option<Box<ClientHello>>,
    certificate: Option<CertificateFacts>,
    device: Option<Arc<str>>,
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
    scratch: Scratch,
    is_accepting: bool,
    accept_after: Option<Instant>,
}

impl Gate {
    pub fn new(
        poll: Poll,
        mut listeners: Vec<Listener>,
        shared: Arc<Shared>,
        shards: Vec<ShardHandle>,
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
            scratch: Scratch::new(),
            is_accepting: true,
            accept_after: None,
        })
    }

    /// Run until the node stops.
    pub fn run(mut self) {
        let mut ready = Ready::with_capacity(256);
        while !self.shared.stopping.load(Ordering::Acquire) {
            let is_busy = !self.pending.is_empty() || self.accept_after.is_some();
            if let Err(e) = self.poll.poll(&mut ready, is_busy.then_some(PATROL))
                && e.kind() != io::ErrorKind::Interrupted
            {
                self.shared.events.push(
                    "failure",
                    json!({"what": format!("gate cannot wait for the network: {e}")}),
                );
                return;
            }
            for event in &ready {
                match event.token() {
                    WAKE => {}
                    Token(index) if index < self.listeners.len() => self.is_accepting = true,
                    Token(token) => self.advance(token - self.listeners.len()),
                }
            }
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
                if self.pending.len() >= settings.limits.max_handshakes as usize || turn == ACCEPT_BATCH {
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
                                "what": format!("cannot accept connections: {e}"),
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
        let timeout = if kind == ListenerKind::Plaintext {
            settings.limits.connect_timeout_ms
        } else {
            settings.limits.handshake_timeout_ms
        };
        let mut pending = Pending {
            link: Link::new(stream),
            peer,
            listener,
            deadline: Instant::now() + Duration::from_millis(u64::from(timeout)),
            step: if kind == ListenerKind::Plaintext {
                Step::Connect
            } else {
                Step::Hello
            },
            hello: None,
            certificate: None,
            device: None,
            tls: None,
            plain: Vec::new(),
            received: 0,
            verdict: None,
            settings: Arc::clone(settings),
        };
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

    /// Something happened on a connection: go as far as the bytes allow.
    fn advance(&mut self, key: usize) {
        loop {
            let Some(pending) = self.pending.get_mut(key) else {
                return;
            };
            if pending.link.flush().is_err() {
                return self.drop_pending(key);
            }
            let outcome = match pending.step {
                Step::Leaving => {
                    let _ = pending.link.finish();
                    if pending.link.discard(&mut self.scratch) {
                        self.drop_pending(key);
                    }
                    return;
                }
                Step::Hello => self.read_hello(key),
                Step::Handshake | Step::Http | Step::Connect => self.read(key),
            };
            match outcome {
                Ok(true) => {}
                Ok(false) => return,
                Err(refusal) => return self.refuse(key, refusal),
            }
        }
    }

    /// The first bytes, before TLS is trusted with them. `true`: look again.
    fn read_hello(&mut self, key: usize) -> Result<bool, Refusal> {
        let Some(pending) = self.pending.get_mut(key) else {
            return Ok(false);
        };
        let limits = HelloLimits::default();
        let outcome = pending
            .link
            .read_raw(&mut self.scratch, limits.total)
            .map_err(|e| closed_early(&LinkFault::Io(e).sentence(), pending.link.incoming().len()))?;
        pending.received += outcome.received;
        match sniff(pending.link.incoming(), limits) {
            Sniff::NeedMore if outcome.ended.is_some() => Err(closed_early(
                "peer closed the connection",
                pending.link.incoming().len(),
            )),
            Sniff::NeedMore => Ok(outcome.more),
            Sniff::NotTls(found) => {
                // A TLS alert tells an SSL library more than a bare close would; others ignore it.
                Err(Refusal::new(
                    Stage::ClientHello,
                    found.slug(),
                    found.sentence(),
                    found.mend(),
                ))
            }
            Sniff::Malformed(fault) => {
                pending.link.queue_raw(&alert_record(fault.alert()));
                Err(Refusal::new(
                    Stage::ClientHello,
                    fault.slug(),
                    fault.sentence(),
                    fault.mend(),
                ))
            }
            Sniff::Hello(hello) => {
                let kind = self
                    .listeners
                    .get(pending.listener)
                    .map_or(ListenerKind::Mqtts, |l| l.kind);
                let verdict = hello.judge(&tls::policy(kind));
                pending.hello = Some(hello);
                if let Some(alert) = verdict.alert() {
                    pending.link.queue_raw(&alert_record(alert));
                    return Err(Refusal::new(
                        Stage::Handshake,
                        verdict.slug(),
                        verdict.sentence(),
                        verdict.mend(),
                    ));
                }
                let config = pending.settings.tls(kind);
                let server = UnbufferedServerConnection::new(config).map_err(|e| internal(&e))?;
                pending.link.tls = Some(Box::new(server));
                pending.step = Step::Handshake;
                self.scratch.plain.clear();
                tls::forget_last_seen();
                let ended = pending.link.decode_incoming(&mut self.scratch);
                self.after_tls(
                    key,
                    ended.map(|ended| ReadOutcome {
                        received: 0,
                        ended,
                        more: true,
                    }),
                )
            }
        }
    }

    /// Bytes of a handshake or after it. `true`: there may be more.
    fn read(&mut self, key: usize) -> Result<bool, Refusal> {
        let Some(pending) = self.pending.get_mut(key) else {
            return Ok(false);
        };
        self.scratch.plain.clear();
        tls::forget_last_seen();
        let outcome = pending.link.read(&mut self.scratch);
        self.after_tls(key, outcome)
    }

    fn after_tls(&mut self, key: usize, outcome: Result<ReadOutcome, LinkFault>) -> Result<bool, Refusal> {
        let Some(pending) = self.pending.get_mut(key) else {
            return Ok(false);
        };
        let fleet = Arc::clone(&pending.settings);
        if let Some(seen) = tls::last_seen() {
            pending.certificate = certificate::facts(&seen, &fleet.fleet);
        }
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(LinkFault::Tls(e)) => return Err(Refusal::from_tls(&e, pending.certificate.as_ref())),
            Err(other) => return Err(unfinished(pending.step, &other.sentence(), pending.received)),
        };
        pending.received += outcome.received;
        pending.plain.extend_from_slice(&self.scratch.plain);
        let _ = pending.link.flush();
        if pending.step == Step::Handshake && pending.link.tls.as_ref().is_some_and(|t| !t.is_handshaking()) {
            self.finish_handshake(key);
        }
        self.use_plain(key)?;
        let Some(pending) = self.pending.get_mut(key) else {
            return Ok(false);
        };
        match outcome.ended {
            Some(how) if pending.step != Step::Leaving => {
                let said = if how == Ended::Cleanly {
                    "peer said goodbye"
                } else {
                    "peer closed the connection"
                };
                Err(unfinished(pending.step, said, pending.received))
            }
            _ => Ok(outcome.received > 0 && outcome.more),
        }
    }

    /// The channel is secure: who is it?
    fn finish_handshake(&mut self, key: usize) {
        let Some(pending) = self.pending.get_mut(key) else {
            return;
        };
        let Some(server) = &pending.link.tls else { return };
        let facts = TlsFacts::of(server);
        let counter = if facts.resumed {
            &self.shared.counters.handshakes_resumed
        } else {
            &self.shared.counters.handshakes_full
        };
        counter.fetch_add(1, Ordering::Relaxed);
        pending.tls = Some(facts);
        if let Some(leaf) = server.peer_certificates().and_then(|chain| chain.first()) {
            let fleet = &pending.settings.fleet;
            pending.certificate = certificate::facts(leaf, fleet);
            match certificate::device_id(leaf, fleet) {
                Ok(id) => pending.device = Some(id.into()),
                Err(fault) => {
                    pending.verdict = Some(Refusal::new(
                        Stage::Certificate,
                        fault.slug(),
                        fault.sentence(fleet),
                        fault.mend(fleet),
                    ));
                }
            }
            // A resumed session brings the certificate of its first handshake: its end is looked at again.
            if let Some(facts) = &pending.certificate
                && facts.not_after_unix * 1000 < crate::event::now_ms() as i64
            {
                let expired = TlsError::InvalidCertificate(rustls::CertificateError::Expired);
                pending.verdict = Some(Refusal::from_tls(&expired, Some(facts)));
            }
        }
        let kind = self.listeners.get(pending.listener).map(|l| l.kind);
        pending.step = if kind == Some(ListenerKind::Wss) {
            Step::Http
        } else {
            Step::Connect
        };
        let timeout = u64::from(pending.settings.limits.connect_timeout_ms);
        pending.deadline = Instant::now() + Duration::from_millis(timeout);
    }

    /// Decoded bytes: an upgrade request, then a CONNECT.
    fn use_plain(&mut self, key: usize) -> Result<(), Refusal> {
        let Some(pending) = self.pending.get_mut(key) else {
            return Ok(());
        };
        if pending.step == Step::Http && !pending.plain.is_empty() {
            let rules = UpgradeRules {
                path: "/mqtt",
                origins: &[],
                limits: HttpLimits::default(),
            };
            match upgrade(&pending.plain, &rules) {
                Upgrade::NeedMore => {}
                Upgrade::Accept { consumed, response } => {
                    pending
                        .link
                        .queue(&response)
                        .map_err(|e| unfinished(Step::Http, &e.sentence(), 0))?;
                    pending
                        .link
                        .speak_websocket(pending.settings.limits.max_packet_size as usize * 2);
                    let mut frames = pending.plain.split_off(consumed);
                    pending.plain.clear();
                    pending
                        .link
                        .unframe(&mut frames, &mut pending.plain)
                        .map_err(|e| unfinished(Step::Connect, &e.sentence(), pending.received))?;
                    pending.step = Step::Connect;
                    let _ = pending.link.flush();
                }
                Upgrade::Refuse {
                    response,
                    cause,
                    sentence,
                    mend,
                } => {
                    let _ = pending.link.queue(&response);
                    return Err(Refusal::new(Stage::Http, cause, sentence, mend));
                }
            }
        }
        if pending.step != Step::Connect || pending.plain.is_empty() {
            return Ok(());
        }
        // [MQTT-3.1.0-1]: told by its first byte, however long the packet claims to be
        if pending.plain.first().is_some_and(|&first| first >> 4 != 1) {
            return Err(Refusal::new(
                Stage::Connect,
                "not-connect",
                "first packet is not CONNECT",
                "speak MQTT 3.1.1 or 5.0 on this port, beginning with CONNECT",
            ));
        }
        match frame(&pending.plain, pending.settings.limits.max_packet_size) {
            Ok(Framed::Need(_)) => Ok(()),
            Ok(Framed::Whole(whole)) => match Connect::decode(whole.body) {
                Ok(_) if whole.first & 0x0f != 0 => Err(bad_connect(Fault::BadFixedHeaderFlags {
                    packet_type: 1,
                    flags: whole.first & 0x0f,
                })),
                Ok(connect) => {
                    if let Some(refusal) = pending.verdict.take() {
                        let bytes = refusal_bytes(connect.version, ReasonCode::NotAuthorized, &refusal.summary);
                        let _ = pending.link.queue(&bytes);
                        return Err(refusal);
                    }
                    let size = whole.size;
                    self.hand_over(key, size);
                    Ok(())
                }
                Err(fault) => {
                    if matches!(fault, Fault::UnsupportedProtocolLevel(_)) {
                        // [MQTT-3.1.2-2]: the form of 3.1.1, which older clients read
                        let _ = pending.link.queue(&[0x20, 0x02, 0x00, 0x01]);
                    }
                    Err(bad_connect(fault))
                }
            },
            Err(fault) => Err(bad_connect(fault)),
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
            certificate: pending.certificate,
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
            pending.certificate.as_ref(),
            None,
        );
        self.shared.refused(refusal.cause, record);
        if pending.link.tls.as_ref().is_some_and(|t| !t.is_handshaking()) {
            pending.link.shut();
        }
        pending.step = Step::Leaving;
        pending.deadline = Instant::now() + LINGER;
        match pending.link.finish() {
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

    /// Deadlines: whoever stalls is refused with a record, whoever lingers too long is let go.
    fn patrol(&mut self) {
        let now = Instant::now();
        let overdue: Vec<usize> = self
            .pending
            .iter()
            .filter(|(_, p)| p.deadline <= now)
            .map(|(k, _)| k)
            .collect();
        for key in overdue {
            match self.pending.get(key).map(|p| (p.step, p.received)) {
                Some((Step::Leaving, _)) | None => self.drop_pending(key),
                Some((step, received)) => self.refuse(key, stalled(step, received)),
            }
        }
    }
}

fn bad_connect(fault: Fault) -> Refusal {
    let mend = match fault {
        Fault::UnsupportedProtocolLevel(_) => "use MQTT 3.1.1 or 5.0",
        Fault::PacketTooLarge { .. } => "send a smaller will or password, or raise limits.max_packet_size",
        _ => "look at the client library: its CONNECT breaks the specification",
    };
    Refusal::new(
        Stage::Connect,
        fault.slug(),
        format!("CONNECT cannot be read: {fault}"),
        mend,
    )
}

fn internal(error: &TlsError) -> Refusal {
    Refusal::new(
        Stage::Handshake,
        "internal",
        format!("TLS could not begin: {error}"),
        "report this as a defect",
    )
}

/// A peer that left before its ClientHello was whole.
fn closed_early(how: &str, received: usize) -> Refusal {
    if received == 0 {
        return Refusal::new(
            Stage::Tcp,
            "port-scan",
            format!("{how} without sending anything"),
            "nothing to mend if this was a port scan or a health check by TCP; a client would have sent a ClientHello",
        );
    }
    Refusal::new(
        Stage::ClientHello,
        "client-hello-incomplete",
        format!("{how} after {received} bytes, before its ClientHello was whole"),
        "look for a network that cuts connections, or a client that crashed",
    )
}

fn unfinished(step: Step, how: &str, received: usize) -> Refusal {
    match step {
        Step::Http => Refusal::new(
            Stage::Http,
            "closed-before-upgrade",
            format!("{how} before it asked for a WebSocket"),
            "ask for a WebSocket at /mqtt with the subprotocol mqtt",
        ),
        Step::Connect => Refusal::new(
            Stage::Connect,
            "closed-before-connect",
            format!("{how} after the secure channel was up and before CONNECT"),
            "a TLS test looks like this; an MQTT client sends CONNECT",
        ),
        _ => Refusal::new(
            Stage::Handshake,
            "closed-during-handshake",
            format!("{how} during the TLS handshake, {received} bytes in, without an alert"),
            "the client may distrust this broker's certificate: give it the CA (`sealmq ca export`) and connect by a name in the certificate",
        ),
    }
}

fn stalled(step: Step, received: usize) -> Refusal {
    match step {
        Step::Hello => Refusal::new(
            Stage::ClientHello,
            "handshake-stalled",
            format!("peer sent {received} bytes and no whole ClientHello within limits.handshake_timeout_ms"),
            "a TLS client speaks first and at once; a silent or dripping peer is no client, or its network is broken",
        ),
        Step::Http => Refusal::new(
            Stage::Http,
            "upgrade-stalled",
            "peer finished the TLS handshake and sent no whole upgrade request in time",
            "ask for a WebSocket at /mqtt with the subprotocol mqtt",
        ),
        Step::Connect => Refusal::new(
            Stage::Connect,
            "connect-stalled",
            "peer finished the TLS handshake and sent no whole CONNECT within limits.connect_timeout_ms",
            "an MQTT client sends CONNECT at once",
        ),
        _ => Refusal::new(
            Stage::Handshake,
            "handshake-stalled",
            format!("TLS handshake did not end within limits.handshake_timeout_ms, {received} bytes in"),
            "look for packet loss, a path MTU problem, or a device that needs longer: limits.handshake_timeout_ms",
        ),
    }
}

//! A running broker: threads started, told, asked, stopped.
//!
//! Refuses to know files, logging and people.

use crate::config::{Dangerous, ListenerConfig, ListenerKind, NodeConfig, NodeLimits};
use crate::event::Events;
use crate::gate::{Gate, Listener};
use crate::recording::{Recorder, ThreadKeyLog, Wanted};
use crate::shard::{Command, Shard, ShardHandle};
use crate::tls::{self, ClientCertificate, TlsFault};
use crate::{gate, shard};
use mio::{Poll, Waker};
use rustls::ServerConfig;
use sealmq_codec::ReasonCode;
use sealmq_engine::{Config as EngineConfig, Engine};
use sealmq_store::{MemoryLog, Shard as ShardNumber};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The node could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeError {
    pub code: &'static str,
    pub what: String,
    pub mend: String,
}

impl NodeError {
    fn new(code: &'static str, what: impl Into<String>, mend: impl Into<String>) -> NodeError {
        NodeError {
            code,
            what: what.into(),
            mend: mend.into(),
        }
    }
}

impl From<TlsFault> for NodeError {
    fn from(fault: TlsFault) -> NodeError {
        NodeError::new(fault.code, fault.what, fault.mend)
    }
}

/// What may change while the node runs; a connection keeps the generation it began with.
pub struct Settings {
    pub limits: NodeLimits,
    pub fleet: String,
    pub dangerous: Dangerous,
    mqtts: Arc<ServerConfig>,
    wss: Arc<ServerConfig>,
}

impl Settings {
    fn new(config: &NodeConfig) -> Result<Settings, NodeError> {
        if let Some(sentence) = config.limits.out_of_bounds() {
            return Err(NodeError::new(
                "config-invalid",
                sentence,
                "choose a value within the bounds",
            ));
        }
        let certificate = if config.dangerous.anonymous {
            ClientCertificate::Optional
        } else {
            ClientCertificate::Required
        };
        Ok(Settings {
            limits: config.limits.clone(),
            fleet: config.fleet.clone(),
            dangerous: config.dangerous,
            mqtts: tls::server_config(&config.tls, ListenerKind::Mqtts, certificate)?,
            wss: tls::server_config(&config.tls, ListenerKind::Wss, certificate)?,
        })
    }

    /// The same configuration, with the secrets of its handshakes handed to this thread's tap.
    pub fn tls_recorded(&self, kind: ListenerKind) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.tls(kind));
        config.key_log = Arc::new(ThreadKeyLog);
        Arc::new(config)
    }

    pub fn tls(&self, kind: ListenerKind) -> Arc<ServerConfig> {
        Arc::clone(if kind == ListenerKind::Wss {
            &self.wss
        } else {
            &self.mqtts
        })
    }
}

/// Counts that more than one thread adds to.
#[derive(Default)]
pub struct NodeCounters {
    pub accepted: AtomicU64,
    pub handshakes_full: AtomicU64,
    pub handshakes_resumed: AtomicU64,
    pub bytes_sent: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

/// What all threads of a node see.
pub struct Shared {
    pub events: Events,
    pub counters: NodeCounters,
    /// Connections from accept to close.
    pub connections: AtomicUsize,
    pub stopping: AtomicBool,
    pub recorder: Recorder,
    settings: RwLock<Arc<Settings>>,
}

impl Shared {
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// One refused connection: counted by cause, recorded.
    pub fn refused(&self, cause: &'static str, record: Value) {
        *self
            .counters
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(cause)
            .or_default() += 1;
        self.events.push("refused", record);
    }
}

pub struct Node {
    shared: Arc<Shared>,
    shards: Vec<ShardHandle>,
    addresses: Vec<(&'static str, String)>,
    gate_waker: Arc<Waker>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    began: Instant,
}

fn broken(what: &str, error: &io::Error) -> NodeError {
    NodeError::new("environment", format!("{what}: {error}"), "")
}

impl Node {
    /// Start listeners and threads; returns once every listener accepts.
    pub fn start(config: &NodeConfig) -> Result<Node, NodeError> {
        check(config)?;
        let settings = Settings::new(config)?;
        let rules = compiled(config)?;
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            listeners.push(listen(listener)?);
        }
        let addresses = listeners
            .iter()
            .map(|(l, address)| (l.kind.name(), address.clone()))
            .collect();
        let shared = Arc::new(Shared {
            events: Events::default(),
            counters: NodeCounters::default(),
            connections: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            recorder: Recorder::default(),
            settings: RwLock::new(Arc::new(settings)),
        });
        let engine = Engine::new(
            EngineConfig {
                limits: config.limits.for_engine(),
                rules,
                shard: ShardNumber(0),
                seed: random_seed()?,
                version: config.version.clone(),
            },
            Box::new(MemoryLog::default()),
        );
        let mut threads = Vec::new();
        let poll = Poll::new().map_err(|e| broken("cannot watch the network", &e))?;
        let waker = Waker::new(poll.registry(), shard::WAKE).map_err(|e| broken("cannot make a waker", &e))?;
        let (sender, receiver) = channel();
        let handle = ShardHandle {
            commands: sender,
            waker: Arc::new(waker),
        };
        let shard = Shard::new(poll, engine, receiver, Arc::clone(&shared));
        threads.push(spawn("sealmq-shard-0", Arc::clone(&shared), move || shard.run())?);

        let poll = Poll::new().map_err(|e| broken("cannot watch the network", &e))?;
        let waker = Waker::new(poll.registry(), gate::WAKE).map_err(|e| broken("cannot make a waker", &e))?;
        let gate_waker = Arc::new(waker);
        let listeners = listeners.into_iter().map(|(l, _)| l).collect();
        let gate = Gate::new(poll, listeners, Arc::clone(&shared), vec![handle.clone()])
            .map_err(|e| broken("cannot watch the listeners", &e))?;
        threads.push(spawn("sealmq-gate", Arc::clone(&shared), move || gate.run())?);
        Ok(Node {
            shared,
            shards: vec![handle],
            addresses,
            gate_waker,
            threads: Mutex::new(threads),
            began: Instant::now(),
        })
    }

    /// (kind, `HOST:PORT`) of each listener, in the order of the configuration.
    pub fn addresses(&self) -> &[(&'static str, String)] {
        &self.addresses
    }

    /// Facts since the last call, waiting up to `timeout` for the first.
    pub fn poll_events(&self, timeout: Duration) -> Vec<String> {
        self.shared.events.drain(timeout)
    }

    /// Record the next connection that fits, from its first byte to its first answer, with the keys to read it. `None` when
    /// nobody came within `timeout`.
    pub fn record_next(&self, wanted: Wanted, timeout: Duration) -> Result<Option<Value>, NodeError> {
        self.shared.recorder.record(wanted, timeout).map_err(|_| {
            NodeError::new(
                "recorder-busy",
                "another recording is under way",
                "wait for it to end, then try again",
            )
        })
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Value {
        let (sender, receiver) = channel();
        for shard in &self.shards {
            shard.send(Command::Report { reply: sender.clone() });
        }
        drop(sender);
        let Ok(report) = receiver.recv_timeout(Duration::from_secs(5)) else {
            return json!({});
        };
        let (c, g, n) = (report.counters, report.gauges, &self.shared.counters);
        json!({
            "uptime_s": self.began.elapsed().as_secs(),
            "connections": g.connections,
            "connections_peak": c.connections_peak,
            "connections_accepted": n.accepted.load(Ordering::Relaxed),
            "connections_open": self.shared.connections.load(Ordering::Relaxed),
            "connects": c.connects,
            "sessions": g.sessions,
            "sessions_expired": c.sessions_expired,
            "subscriptions": g.subscriptions,
            "retained": g.retained_messages,
            "retained_bytes": g.retained_bytes,
            "queued": g.queued_messages,
            "inflight": g.inflight_messages,
            "messages_received": c.messages_received,
            "messages_sent": c.messages_sent,
            "messages_dropped": c.messages_dropped,
            "bytes_received": c.bytes_received,
            "bytes_sent": n.bytes_sent.load(Ordering::Relaxed),
            "publishes_denied": c.publishes_denied,
            "subscribes_denied": c.subscribes_denied,
            "keep_alive_timeouts": c.keep_alive_timeouts,
            "takeovers": c.takeovers,
            "protocol_faults": c.protocol_faults,
            "wills_published": c.wills_published,
            "handshakes_full": n.handshakes_full.load(Ordering::Relaxed),
            "handshakes_resumed": n.handshakes_resumed.load(Ordering::Relaxed),
            "refused": *n.refused.lock().unwrap_or_else(PoisonError::into_inner),
        })
    }

    /// Every session, live or waiting.
    pub fn sessions(&self) -> Value {
        let (sender, receiver) = channel();
        for shard in &self.shards {
            shard.send(Command::Sessions { reply: sender.clone() });
        }
        drop(sender);
        let mut sessions = Vec::new();
        while let Ok(part) = receiver.recv_timeout(Duration::from_secs(5)) {
            sessions.extend(part.into_iter().map(|s| {
                json!({
                    "client_id": &*s.view.client_id,
                    "device": s.view.device.as_deref(),
                    "connected": s.view.conn.is_some(),
                    "peer": s.peer,
                    "listener": s.listener.as_deref(),
                    "protocol": s.view.version.map(|v| v.name()),
                    "subscriptions": s.view.subscriptions,
                    "queued": s.view.queued,
                    "inflight": s.view.inflight,
                })
            }));
        }
        Value::Array(sessions)
    }

    /// Close every live connection of a device; how many there were.
    pub fn disconnect_device(&self, device: &str, reason: u8, text: &str) -> Result<usize, NodeError> {
        let reason = ReasonCode::from_byte(reason)
            .filter(|r| r.is_failure())
            .ok_or_else(|| {
                NodeError::new(
                    "config-invalid",
                    format!("reason code {reason:#04x} does not end a connection"),
                    "",
                )
            })?;
        let (sender, receiver) = channel();
        for shard in &self.shards {
            shard.send(Command::DisconnectDevice {
                device: device.to_owned(),
                reason,
                text: text.to_owned(),
                reply: sender.clone(),
            });
        }
        drop(sender);
        let mut closed = 0;
        while let Ok(count) = receiver.recv_timeout(Duration::from_secs(5)) {
            closed += count;
        }
        Ok(closed)
    }

    /// Take new certificates, trust, rules and limits; all or nothing. New ticket keys end resumption of old trust.
    pub fn reload(&self, config: &NodeConfig) -> Result<(), NodeError> {
        check(config)?;
        let settings = Settings::new(config)?;
        let rules = compiled(config)?;
        *self.shared.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        for shard in &self.shards {
            shard.send(Command::Reload {
                rules: Box::new(rules.clone()),
                limits: Box::new(config.limits.for_engine()),
            });
        }
        Ok(())
    }

    /// Stop accepting, say goodbye, end all threads within `grace`.
    pub fn stop(&self, grace: Duration) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        let _ = self.gate_waker.wake();
        for shard in &self.shards {
            shard.send(Command::ShutDown {
                deadline: Instant::now() + grace,
            });
        }
        for thread in threads.drain(..) {
            let _ = thread.join();
        }
        self.shared.events.close();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// What contradicts itself is an error before anything starts.
fn check(config: &NodeConfig) -> Result<(), NodeError> {
    let has_plaintext = config.listeners.iter().any(|l| l.kind == ListenerKind::Plaintext);
    if has_plaintext && !config.dangerous.anonymous {
        return Err(NodeError::new(
            "config-invalid",
            "plaintext listener admits nobody: no certificate can be shown in clear",
            "set dangerous.anonymous = true as well, or drop the plaintext listener",
        ));
    }
    if config.listeners.is_empty() {
        return Err(NodeError::new(
            "config-invalid",
            "broker has no listener",
            "give at least one mqtts address",
        ));
    }
    Ok(())
}

fn compiled(config: &NodeConfig) -> Result<sealmq_engine::rules::Rules, NodeError> {
    config.compiled_rules().map_err(|fault| {
        NodeError::new(
            "rule-invalid",
            format!("rule {}: {}", fault.rule, fault.what),
            "mend the rule file",
        )
    })
}

fn random_seed() -> Result<u64, NodeError> {
    getrandom::u64().map_err(|e| NodeError::new("environment", format!("system has no randomness: {e}"), ""))
}

/// Start a thread. Should it ever panic, the broker must not live on as a half of itself: the fact says that it is fatal.
fn spawn(
    name: &'static str,
    shared: Arc<Shared>,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, NodeError> {
    let watched = move || {
        if catch_unwind(AssertUnwindSafe(body)).is_err() {
            shared.events.push(
                "failure",
                json!({"summary": format!("thread {name} has panicked"), "fatal": true,
                       "mend": "restart the broker, and report this as a defect with what stands above it"}),
            );
        }
    };
    std::thread::Builder::new()
        .name(name.into())
        .spawn(watched)
        .map_err(|e| broken("cannot start a thread", &e))
}

/// Bind and listen; the error says which address and what to do.
fn listen(config: &ListenerConfig) -> Result<(Listener, String), NodeError> {
    let text = &config.address;
    let address: SocketAddr = text
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .ok_or_else(|| {
            NodeError::new(
                "address-invalid",
                format!(
                    "{} address {text} is not HOST:PORT, or the host has no address",
                    config.kind.name()
                ),
                "give HOST:PORT such as 127.0.0.1:8883 or [::]:8883",
            )
        })?;
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::AddrInUse => NodeError::new(
            "address-in-use",
            format!("{text} is in use by another program"),
            format!(
                "stop that program (`ss -ltnp | grep :{}` names it), or choose another address",
                address.port()
            ),
        ),
        io::ErrorKind::PermissionDenied => NodeError::new(
            "permission-denied",
            format!("{text} needs privileges that this process does not have"),
            "choose a port above 1023, or give the process CAP_NET_BIND_SERVICE",
        ),
        io::ErrorKind::AddrNotAvailable => NodeError::new(
            "address-not-available",
            format!("{text} is no address of this machine"),
            "choose an address of this machine, or 0.0.0.0 for all of them",
        ),
        _ => NodeError::new("environment", format!("cannot listen on {text}: {e}"), ""),
    };
    let bind = || -> io::Result<mio::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        Ok(mio::net::TcpListener::from_std(socket.into()))
    };
    let socket = bind().map_err(failed)?;
    let real = socket
        .local_addr()
        .map_err(|e| broken("cannot read the address of a listener", &e))?
        .to_string();
    let name: Arc<str> = format!("{} {real}", config.kind.name()).into();
    Ok((
        Listener {
            socket,
            kind: config.kind,
            name,
        },
        real,
    ))
}

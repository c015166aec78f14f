//! A running broker: threads started, told, asked, stopped.
//!
//! Refuses to know files, logging and people.

use crate::clock::Clock;
use crate::config::{ListenerKind, NodeConfig, RevokedConfig};
use crate::denylist::Revocation;
use crate::event::Facts;
use crate::gate::Gate;
use crate::keep::Keep;
use crate::recording::Wanted;
use crate::shard::{Command, Shard, ShardHandle};
use crate::tls::{Standing, TlsFault};
use crate::users::{self, Logins};
use crate::{gate, shard};
use listen::listen;
use mio::{Poll, Waker};
use sealmq_codec::ReasonCode;
use sealmq_codec::topic::{is_valid_name, parse_filter};
use sealmq_engine::rules::Action;
use sealmq_engine::{Config as EngineConfig, Retain};
use serde_json::{Value, json};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

mod listen;
mod shared;

pub use shared::{Settings, Shared};

/// The node could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeError {
    pub code: &'static str,
    pub what: String,
    pub mend: String,
}

impl NodeError {
    pub(crate) fn new(code: &'static str, what: impl Into<String>, mend: impl Into<String>) -> NodeError {
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

/// What closing the store may take beyond the grace.
const CLOSING: Duration = Duration::from_secs(5);

pub struct Node {
    shared: Arc<Shared>,
    keep: Arc<Keep>,
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
        let keep = Arc::new(Keep::open(config.store.as_ref())?);
        let standing = Standing::new(&config.listeners)?;
        let settings = Settings::new(config, &standing)?;
        let rules = compiled(config)?;
        standing.denylist.replace(revocation(&config.revoked)?);
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            listeners.push(listen(listener)?);
        }
        let addresses = listeners
            .iter()
            .map(|(l, address)| (l.kind.name(), address.clone()))
            .collect();
        let clock = Clock::new();
        let engine = EngineConfig {
            limits: config.engine_limits(),
            rules,
            durability: keep.durability.clone(),
            seed: random_seed()?,
            version: config.version.clone(),
        };
        let engine = keep.revive(engine, clock.now())?;
        let shared = Arc::new(Shared::new(settings, standing, engine.memory()));
        let mut threads = Vec::new();
        let poll = Poll::new().map_err(|e| broken("cannot watch the network", &e))?;
        let waker = Waker::new(poll.registry(), shard::WAKE).map_err(|e| broken("cannot make a waker", &e))?;
        let waker = Arc::new(waker);
        keep.news.wake_with(Arc::clone(&waker));
        let (handle, inbox) = shard::line(waker);
        let (keeper, apart) = gate::keepers();
        let shard = Shard::new(
            poll,
            engine,
            inbox,
            Arc::clone(&shared),
            (clock, Arc::clone(&keep)),
            keeper,
        );
        threads.push(spawn("sealmq-shard-0", Arc::clone(&shared), move || shard.run())?);

        let poll = Poll::new().map_err(|e| broken("cannot watch the network", &e))?;
        let waker = Waker::new(poll.registry(), gate::WAKE).map_err(|e| broken("cannot make a waker", &e))?;
        let gate_waker = Arc::new(waker);
        let listeners = listeners.into_iter().map(|(l, _)| l).collect();
        let (logins, line) = Logins::new();
        let (answer, answers) = channel();
        let waker = Arc::clone(&gate_waker);
        threads.push(spawn("sealmq-logins", Arc::clone(&shared), move || {
            users::serve(&line, &answer, || drop(waker.wake()));
        })?);
        let gate = Gate::new(
            poll,
            listeners,
            Arc::clone(&shared),
            vec![handle.clone()],
            (logins, answers),
        )
        .map_err(|e| broken("cannot watch the listeners", &e))?;
        let shard = handle.clone();
        threads.push(spawn("sealmq-gate", Arc::clone(&shared), move || {
            apart.run(&shard, clock)
        })?);
        handle.send(Command::KeepGate(Box::new(gate)));
        Ok(Node {
            shared,
            keep,
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

    /// Put the facts since the last call into `into`, waiting up to `timeout` for the first.
    pub fn poll_events(&self, timeout: Duration, into: &mut Facts) {
        self.shared.events.drain(timeout, into);
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
            "store": self.keep.stats(),
            "events": self.shared.events.count(),
            "uptime_s": self.began.elapsed().as_secs(),
            "connections": g.connections,
            "connections_peak": c.connections_peak,
            "connections_accepted": n.accepted.load(Ordering::Relaxed),
            "connections_open": self.shared.addresses.live(),
            "connects": c.connects,
            "sessions": g.sessions,
            "sessions_expired": c.sessions_expired,
            "subscriptions": g.subscriptions,
            "retained": g.retained_messages,
            "retained_bytes": g.retained_bytes,
            "memory_bytes": g.memory_bytes,
            "memory_bound_bytes": self.shared.memory.bound(),
            "queued": g.queued_messages,
            "inflight": g.inflight_messages,
            "messages_received": c.messages_received,
            "messages_sent": c.messages_sent,
            "messages_dropped": c.messages_dropped,
            "messages_turned_away": c.messages_turned_away,
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

    /// Forget a device: its sessions with all they hold, and the retained messages under its own topics.
    pub fn purge_device(&self, device: &str) -> Value {
        let (sender, receiver) = channel();
        for shard in &self.shards {
            shard.send(Command::Purge {
                device: device.to_owned(),
                reply: sender.clone(),
            });
        }
        drop(sender);
        let (mut sessions, mut retained) = (0, 0);
        for purged in receiver.iter() {
            sessions += purged.sessions;
            retained += purged.retained;
        }
        json!({"sessions": sessions, "retained": retained})
    }

    /// A copy of the store, taken while the broker runs.
    pub fn store_backup(&self, to: &Path) -> Result<Value, NodeError> {
        self.keep.backup(to)
    }

    /// What is wrong with the store, a sentence each.
    pub fn store_check(&self) -> Result<Vec<String>, NodeError> {
        self.keep.check()
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
                let identity = s.view.device.as_deref();
                let user = identity.and_then(|identity| identity.strip_prefix("user:"));
                json!({
                    "client_id": &*s.view.client_id,
                    "device": identity.filter(|_| user.is_none()),
                    "user": user,
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

    /// Refuse these devices and certificates from now on, and close every live connection of theirs (MQTT 5: DISCONNECT 0x98
    /// with a reason string): `closed` and `micros` (microseconds), once all that has happened.
    pub fn revoke(&self, revoked: &RevokedConfig) -> Result<Value, NodeError> {
        let began = Instant::now();
        let revocation = Arc::new(revocation(revoked)?);
        // First the list, then the question: see `denylist`.
        self.shared.standing.denylist.add(&revocation);
        let (sender, receiver) = channel();
        for shard in &self.shards {
            shard.send(Command::Revoke {
                revocation: Arc::clone(&revocation),
                reply: sender.clone(),
            });
        }
        drop(sender);
        let closed: Vec<usize> = receiver.iter().collect();
        if closed.len() < self.shards.len() {
            return Err(NodeError::new(
                "stopped",
                "data plane has stopped; nobody is connected",
                "start the broker again: it refuses whom its configuration names",
            ));
        }
        let closed: usize = closed.iter().sum();
        Ok(json!({"closed": closed, "micros": began.elapsed().as_micros() as u64}))
    }

    /// Publish a message of the broker's own at QoS 1; no rule is asked.
    pub fn publish(&self, topic: &str, payload: &[u8], retain: Retain) -> Result<(), NodeError> {
        if !is_valid_name(topic) {
            return Err(NodeError::new(
                "config-invalid",
                format!("{topic:?} is no topic name"),
                "use 1 to 65,535 bytes without + # and null characters",
            ));
        }
        for shard in &self.shards {
            shard.send(Command::Publish {
                topic: topic.into(),
                payload: payload.into(),
                retain,
            });
        }
        Ok(())
    }

    /// Take new certificates, trust, rules, limits, users and revocations; all or nothing. Connections of those who may not
    /// stay are closed; tickets of another set of client CAs open no more.
    pub fn reload(&self, config: &NodeConfig) -> Result<(), NodeError> {
        check(config)?;
        let settings = Settings::new(config, &self.shared.standing)?;
        let rules = compiled(config)?;
        let revocation = revocation(&config.revoked)?;
        self.shared.standing.denylist.replace(revocation);
        self.shared.set_settings(settings);
        for shard in &self.shards {
            shard.send(Command::Reload {
                rules: Box::new(rules.clone()),
                limits: Box::new(config.engine_limits()),
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
        let deadline = Instant::now() + grace;
        let _ = self.gate_waker.wake();
        for shard in &self.shards {
            shard.send(Command::ShutDown { deadline });
        }
        for thread in threads.drain(..) {
            let _ = thread.join();
        }
        // Sessions have said that they are detached: the rest of the time is for the disk.
        let left = deadline.saturating_duration_since(Instant::now()).max(CLOSING);
        if let Some(record) = self.keep.close(left) {
            self.shared.events.push("store", &record);
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

fn revocation(config: &RevokedConfig) -> Result<Revocation, NodeError> {
    Revocation::new(config).map_err(|text| {
        NodeError::new(
            "config-invalid",
            format!("revoked certificate {text:?} is no SHA-256 digest"),
            "give the digest of its DER in 64 hexadecimal digits",
        )
    })
}

/// Which rule of a configuration decides about an action (`publish` or `subscribe`) on a topic name or topic filter, and
/// why: `allowed`, `rule` (null when none decides), `why` (a sentence). `identity` is a device id, `user:NAME`, or nothing
/// for a client without either.
pub fn explain_rule(
    config: &NodeConfig,
    identity: Option<&str>,
    client_id: &str,
    action: &str,
    topic: &str,
) -> Result<Value, NodeError> {
    let unfit = |what: &str| NodeError::new("config-invalid", format!("{topic:?} is no {what}"), "");
    let permit = compiled(config)?.resolve(identity, client_id);
    let found = match action {
        "publish" if is_valid_name(topic) => permit.explain(Action::Publish, topic),
        "publish" => return Err(unfit("topic name")),
        "subscribe" => {
            let subscription = parse_filter(topic).ok_or_else(|| unfit("topic filter"))?;
            permit.explain(Action::Subscribe, subscription.filter)
        }
        _ => {
            return Err(NodeError::new(
                "config-invalid",
                format!("action {action:?} is neither publish nor subscribe"),
                "",
            ));
        }
    };
    Ok(json!({"allowed": found.is_allowed, "rule": found.rule, "why": found.why}))
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
                &json!({"summary": format!("thread {name} has panicked"), "fatal": true,
                       "mend": "restart the broker, and report this as a defect with what stands above it"}),
            );
        }
    };
    std::thread::Builder::new()
        .name(name.into())
        .spawn(watched)
        .map_err(|e| broken("cannot start a thread", &e))
}

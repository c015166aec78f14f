//! What all threads of a node see: settings, facts, counters, who is refused.
//!
//! Refuses to know threads.

use super::NodeError;
use crate::config::{Dangerous, ListenerKind, NodeConfig, NodeLimits};
use crate::event::Events;
use crate::gate::Addresses;
use crate::hello::ClientHello;
use crate::link::SMALLEST_RECORD;
use crate::psk::PreSharedKeys;
use crate::recording::{Recorder, ThreadKeyLog};
use crate::tls::{self, ClientCertificate, Standing};
use crate::users::Users;
use rustls::ServerConfig;
use sealmq_engine::Memory;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// What may change while the node runs; a connection keeps the generation it began with.
pub struct Settings {
    pub limits: NodeLimits,
    pub fleet: String,
    pub dangerous: Dangerous,
    pub users: Arc<Users>,
    pub origins: Vec<String>,
    /// Where a listener asks for them.
    pub psk: Option<PreSharedKeys>,
    mqtts: [BySize; 2],
    wss: [BySize; 2],
}

/// One configuration for each limit on records of a handshake that is kept to (bytes of plaintext), the largest first.
type BySize = Vec<(usize, Arc<ServerConfig>)>;

/// What a ClientHello's limit is rounded down to. A limit of RFC 6066 is among the upper ones.
const RECORD_SIZES: [usize; 9] = [16_384, 8_192, 4_096, 2_048, 1_024, 512, 256, 128, SMALLEST_RECORD];
/// What rustls counts with a record's plaintext: the header (RFC 8446 section 5.1).
const RECORD_HEADER: usize = 5;

impl Settings {
    pub(super) fn new(config: &NodeConfig, standing: &Standing) -> Result<Settings, NodeError> {
        if let Some(sentence) = config.limits.out_of_bounds() {
            return Err(NodeError::new(
                "config-invalid",
                sentence,
                "choose a value within the bounds",
            ));
        }
        let users = Users::new(&config.users).map_err(|sentence| {
            NodeError::new(
                "user-invalid",
                sentence,
                "make the user anew with `sealmq user add NAME`",
            )
        })?;
        let certificate = if config.dangerous.anonymous || !users.is_empty() {
            ClientCertificate::Optional
        } else {
            ClientCertificate::Required
        };
        let tls = tls::server_config(&config.tls, &config.fleet, certificate, standing)?;
        let for_listener = |kind| {
            [false, true].map(|follows_client| {
                let sized = RECORD_SIZES.iter().map(|&size| {
                    let mut tls = tls.clone();
                    tls.alpn_protocols = tls::alpn(kind);
                    tls.ignore_client_order = !follows_client;
                    tls.max_fragment_size = Some(size + RECORD_HEADER);
                    (size, Arc::new(tls))
                });
                sized.collect()
            })
        };
        let psk = standing.decoys.as_ref();
        let psk = psk.map(|decoys| PreSharedKeys::new(&config.psk, decoys, &standing.denylist));
        Ok(Settings {
            limits: config.limits.clone(),
            fleet: config.fleet.clone(),
            dangerous: config.dangerous,
            users: Arc::new(users),
            origins: config.origins.clone(),
            psk: psk.transpose()?,
            mqtts: for_listener(ListenerKind::Mqtts),
            wss: for_listener(ListenerKind::Wss),
        })
    }

    /// Whether a device has a pre-shared key.
    pub fn has_key(&self, device: &str) -> bool {
        self.psk.as_ref().is_some_and(|keys| keys.knows(device))
    }

    /// The same configuration, with the secrets of its handshakes handed to this thread's tap.
    pub fn tls_recorded(&self, kind: ListenerKind, hello: &ClientHello) -> Option<Arc<ServerConfig>> {
        let mut config = ServerConfig::clone(&*self.tls(kind, hello)?);
        config.key_log = Arc::new(ThreadKeyLog);
        Some(Arc::new(config))
    }

    /// The configuration for a client that opens like this, of a listener with certificates: the records of the handshake
    /// keep within what the client asks for, and the cipher suite is what suits both.
    pub fn tls(&self, kind: ListenerKind, hello: &ClientHello) -> Option<Arc<ServerConfig>> {
        let [ours, theirs] = match kind {
            ListenerKind::Mqtts => &self.mqtts,
            ListenerKind::Wss => &self.wss,
            ListenerKind::Psk | ListenerKind::Plaintext => return None,
        };
        let sized = if tls::follows_client(hello) { theirs } else { ours };
        let limit = hello.handshake_record_limit().unwrap_or(usize::MAX);
        let fits = sized.iter().find(|(size, _)| *size <= limit).or(sized.last());
        fits.map(|(_, config)| Arc::clone(config))
    }
}

/// Counts that more than one thread adds to.
#[derive(Default)]
pub struct NodeCounters {
    pub accepted: AtomicU64,
    pub handshakes_full: AtomicU64,
    pub handshakes_resumed: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub(super) refused: Mutex<BTreeMap<&'static str, u64>>,
}

/// What all threads of a node see.
pub struct Shared {
    pub events: Events,
    pub counters: NodeCounters,
    /// Connections from accept to close.
    pub addresses: Arc<Addresses>,
    /// What the engine holds for peers.
    pub memory: Memory,
    pub stopping: AtomicBool,
    pub recorder: Recorder,
    pub standing: Standing,
    settings: RwLock<Arc<Settings>>,
}

impl Shared {
    pub(super) fn new(settings: Settings, standing: Standing, memory: Memory) -> Shared {
        Shared {
            events: Events::default(),
            counters: NodeCounters::default(),
            addresses: Arc::default(),
            memory,
            stopping: AtomicBool::new(false),
            recorder: Recorder::default(),
            standing,
            settings: RwLock::new(Arc::new(settings)),
        }
    }

    pub(super) fn set_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The node can go no further, and whoever watches it is told to end.
    pub fn fatal(&self, summary: &str) {
        self.events.push("failure", &json!({"summary": summary, "fatal": true}));
    }

    /// One refused connection: counted by cause, recorded.
    pub fn refused(&self, cause: &'static str, record: Value) {
        self.count_refused(cause);
        self.events.push("refused", &record);
    }

    /// One refused connection of many, whose record tells of all of them.
    pub fn count_refused(&self, cause: &'static str) {
        *self
            .counters
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(cause)
            .or_default() += 1;
    }
}

//! What all threads of a node see: settings, facts, counters, who is refused.
//!
//! Refuses to know threads.

use super::NodeError;
use crate::config::{Dangerous, ListenerKind, NodeConfig, NodeLimits};
use crate::event::Events;
use crate::recording::{Recorder, ThreadKeyLog};
use crate::tls::{self, ClientCertificate, Standing};
use crate::users::Users;
use rustls::ServerConfig;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// What may change while the node runs; a connection keeps the generation it began with.
pub struct Settings {
    pub limits: NodeLimits,
    pub fleet: String,
    pub dangerous: Dangerous,
    pub users: Arc<Users>,
    pub origins: Vec<String>,
    mqtts: Arc<ServerConfig>,
    wss: Arc<ServerConfig>,
}

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
            let mut tls = tls.clone();
            tls.alpn_protocols = tls::alpn(kind);
            Arc::new(tls)
        };
        Ok(Settings {
            limits: config.limits.clone(),
            fleet: config.fleet.clone(),
            dangerous: config.dangerous,
            users: Arc::new(users),
            origins: config.origins.clone(),
            mqtts: for_listener(ListenerKind::Mqtts),
            wss: for_listener(ListenerKind::Wss),
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
    pub(super) refused: Mutex<BTreeMap<&'static str, u64>>,
}

/// What all threads of a node see.
pub struct Shared {
    pub events: Events,
    pub counters: NodeCounters,
    /// Connections from accept to close.
    pub connections: AtomicUsize,
    pub stopping: AtomicBool,
    pub recorder: Recorder,
    pub standing: Standing,
    settings: RwLock<Arc<Settings>>,
}

impl Shared {
    pub(super) fn new(settings: Settings, standing: Standing) -> Shared {
        Shared {
            events: Events::default(),
            counters: NodeCounters::default(),
            connections: AtomicUsize::new(0),
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

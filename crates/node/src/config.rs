//! What the node is told: one JSON document for the broker, one for a client.
//!
//! Refuses to know files and where a setting came from; that is decided before it gets here.

use crate::machine;
use sealmq_engine::rules::{Effect, Rule, RuleFault, Rules};
use sealmq_engine::{Durability, Limits, Mode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerKind {
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSocket over TLS.
    Wss,
    /// MQTT over TLS, with pre-shared keys in place of certificates.
    Psk,
    /// MQTT in clear; only `[dangerous] plaintext` leads here.
    Plaintext,
}

impl ListenerKind {
    pub fn name(self) -> &'static str {
        match self {
            ListenerKind::Mqtts => "mqtts",
            ListenerKind::Wss => "wss",
            ListenerKind::Psk => "psk",
            ListenerKind::Plaintext => "plaintext",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    pub kind: ListenerKind,
    pub address: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    pub certificate_chain_pem: String,
    pub private_key_pem: String,
    pub client_ca_pem: String,
    /// Further identities of the server, chosen by the name a client asks for (SNI, RFC 6066 section 3).
    #[serde(default)]
    pub also: Vec<ServerIdentityConfig>,
    /// CRLs of client CAs; empty when there are none.
    #[serde(default)]
    pub client_crls_pem: String,
    /// Newest first: the first seals, all open. Empty: random keys of this process.
    #[serde(default)]
    pub ticket_keys: Vec<TicketKeyConfig>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerIdentityConfig {
    pub certificate_chain_pem: String,
    pub private_key_pem: String,
}

/// A key of session tickets, in hexadecimal digits.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketKeyConfig {
    /// 32 digits, public: a ticket says which key sealed it.
    pub name: String,
    /// 64 digits, secret.
    pub key: String,
}

/// The pre-shared key of a device. The device id is the identity that it shows in the handshake.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PskConfig {
    pub device: String,
    /// What the handshake says; empty: the device id. While a key is replaced there are two, each with its own.
    #[serde(default)]
    pub identity: String,
    /// 32 to 128 hexadecimal digits, secret.
    pub key: String,
}

/// Who is refused although his certificate verifies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RevokedConfig {
    pub devices: Vec<String>,
    /// SHA-256 of the DER in hexadecimal digits.
    pub certificates: Vec<String>,
}

/// Who may come with a password in place of a certificate.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    pub name: String,
    /// A PHC string of argon2id.
    pub hash: String,
}

/// Decode exactly as many hexadecimal digits as fill `bytes`; `false` when the text is anything else.
pub fn unhex(text: &str, bytes: &mut [u8]) -> bool {
    let digits = text.as_bytes();
    let digit = |d: u8| char::from(d).to_digit(16).map(|value| value as u8);
    digits.len() == 2 * bytes.len()
        && bytes.iter_mut().zip(digits.chunks_exact(2)).all(|(byte, pair)| {
            let value = pair.iter().try_fold(0, |sum, &d| Some(sum << 4 | digit(d)?));
            value.is_some_and(|value| {
                *byte = value;
                true
            })
        })
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    pub name: String,
    pub effect: EffectConfig,
    pub who: String,
    pub publish: bool,
    pub subscribe: bool,
    pub filter: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EffectConfig {
    Allow,
    Deny,
}

/// The door that has a name: each of these weakens the broker.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dangerous {
    pub anonymous: bool,
    pub any_client_id: bool,
    pub allow_all: bool,
}

/// What survives, and where.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The file.
    pub path: PathBuf,
    /// Whose store it has to be; `None` asks nothing.
    #[serde(default)]
    pub fleet: Option<String>,
    /// `sync`, `os` or `memory`: for every topic that `topics` does not name, and for sessions.
    pub durability: String,
    /// The first filter that matches decides.
    #[serde(default)]
    pub topics: Vec<TopicDurability>,
    /// Bytes of the file and its log.
    pub max_bytes: u64,
    /// Whether a message is refused that the queue of a kept session has no room for; else that session misses it.
    pub refuse_when_full: bool,
    /// Whether a broker whose store has failed ends, with status 1; else it goes on with what needs no store.
    pub stop_when_failed: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicDurability {
    pub filter: String,
    pub durability: String,
}

impl StoreConfig {
    /// The modes by name; the sentence says which is none.
    pub fn modes(&self) -> Result<Durability, String> {
        let mode =
            |name: &str| Mode::from_name(name).ok_or_else(|| format!("durability {name:?} is not sync, os or memory"));
        let mut topics = Vec::new();
        for topic in &self.topics {
            topics.push((topic.filter.clone(), mode(&topic.durability)?));
        }
        Durability::new(mode(&self.durability)?, topics)
            .map_err(|fault| format!("durability names {:?}, which is no topic filter", fault.filter))
    }
}

/// Everything a broker node needs to start.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    pub listeners: Vec<ListenerConfig>,
    pub tls: TlsConfig,
    pub fleet: String,
    pub rules: Vec<RuleConfig>,
    #[serde(default)]
    pub dangerous: Dangerous,
    #[serde(default)]
    pub limits: NodeLimits,
    /// Without it everything is in memory.
    #[serde(default)]
    pub store: Option<StoreConfig>,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub revoked: RevokedConfig,
    /// The groups of each device that is in one.
    #[serde(default)]
    pub groups: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub users: Vec<UserConfig>,
    #[serde(default)]
    pub psk: Vec<PskConfig>,
    /// Origins of web pages (`https://host[:port]`) that may open a WebSocket besides the broker's own host.
    #[serde(default)]
    pub origins: Vec<String>,
}

impl NodeConfig {
    /// The limits of the engine; whether a full queue refuses is the store's to say.
    pub fn engine_limits(&self) -> Limits {
        Limits {
            reject_when_full: self.store.as_ref().is_some_and(|s| s.refuse_when_full),
            ..self.limits.for_engine()
        }
    }

    pub fn compiled_rules(&self) -> Result<Rules, RuleFault> {
        if self.dangerous.allow_all {
            return Ok(Rules::dangerous_allow_all());
        }
        let rules = self.rules.iter().map(|rule| Rule {
            name: rule.name.clone(),
            effect: match rule.effect {
                EffectConfig::Allow => Effect::Allow,
                EffectConfig::Deny => Effect::Deny,
            },
            who: rule.who.clone(),
            publish: rule.publish,
            subscribe: rule.subscribe,
            filter: rule.filter.clone(),
        });
        Rules::new(rules.collect())?.with_groups(self.groups.clone())
    }
}

macro_rules! limits {
    ($($name:ident: $type:ty = $default:expr, $min:expr, $max:expr, $unit:literal, $reason:literal;)*) => {
        /// Every budget of the data plane.
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct NodeLimits { $(pub $name: $type,)* }

        impl Default for NodeLimits {
            fn default() -> NodeLimits { NodeLimits { $($name: $default,)* } }
        }

        impl NodeLimits {
            /// The first limit outside its bounds, as a sentence.
            pub fn out_of_bounds(&self) -> Option<String> {
                $(if !($min..=$max).contains(&(self.$name as u64)) {
                    return Some(format!(
                        "limits.{} is {}, allowed are {} to {} {}", stringify!($name), self.$name, $min as u64, $max as u64, $unit
                    ));
                })*
                None
            }
        }

        /// Name, default, bounds, unit and reason of every limit.
        pub fn default_limits() -> BTreeMap<&'static str, LimitInfo> {
            BTreeMap::from([$((stringify!($name), LimitInfo {
                default: $default as u64, min: $min, max: $max, unit: $unit, reason: $reason,
            }),)*])
        }
    };
}

/// One limit, described.
#[derive(Clone, Debug, Serialize)]
pub struct LimitInfo {
    pub default: u64,
    pub min: u64,
    pub max: u64,
    pub unit: &'static str,
    pub reason: &'static str,
}

const MIB: u64 = 1 << 20;

limits! {
    max_packet_size: u32 = 1 << 20, 256, 256 * MIB, "bytes", "bounds the buffer that one packet of a peer makes the broker hold";
    handshake_timeout_ms: u32 = 10_000, 100, 600_000, "milliseconds", "ends a TLS handshake that does not come to its end";
    connect_timeout_ms: u32 = 10_000, 100, 600_000, "milliseconds", "ends a connection that never says CONNECT";
    max_handshake_bytes: u32 = 65_536, 4_096, 16 * MIB, "bytes", "received from one peer before its handshake has ended";
    max_connect_bytes: u32 = 131_072, 1_024, 256 * MIB, "bytes", "one CONNECT, its will included: held before anybody is let in";
    max_connections: u32 = 100_000, 1, 10_000_000, "connections", "bounds memory and file descriptors";
    max_connections_per_address: u32 = 10_000, 0, 10_000_000, "connections", "so that one address cannot take the places of all; 0 is no bound";
    max_connect_rate_per_address: u32 = 1_000, 0, 1_000_000, "connections each second", "beyond it they are closed before TLS begins; 0 is no bound";
    max_handshakes: u32 = 1_000, 1, 1_000_000, "connections", "connections in handshake at once; more wait to be accepted";
    receive_maximum: u16 = 1_024, 1, 65_535, "messages", "QoS 1 and 2 messages a client may have unacknowledged towards the broker";
    topic_alias_maximum: u16 = 64, 0, 65_535, "aliases", "each alias keeps one topic name per connection";
    max_session_expiry_s: u32 = 7 * 24 * 3600, 0, 0xffff_ffff, "seconds", "how long a session may outlive its connection";
    max_keep_alive_s: u16 = 0, 0, 65_535, "seconds", "longest keep-alive a client may choose; 0 leaves it to the client";
    max_inflight: u16 = 1_024, 1, 65_535, "messages", "QoS 1 and 2 messages unacknowledged towards one client";
    max_queued_messages: u32 = 10_000, 0, 100_000_000, "messages", "messages waiting in one session";
    max_queued_bytes: u64 = 64 * MIB, 0, 1u64 << 40, "bytes", "bytes waiting in one session";
    max_inflight_bytes: u64 = 16 * MIB, 0, 1u64 << 40, "bytes", "the same, by their bytes; one message may always be in flight";
    max_outbox_bytes: u32 = 1 << 20, 4_096, 1u64 << 30, "bytes", "encoded for one connection and not yet taken by the network; beyond it QoS 0 is dropped";
    max_subscriptions: u32 = 1_000, 1, 10_000_000, "subscriptions", "subscriptions of one session";
    max_filters: u32 = 1_000, 1, 1_000_000, "filters", "filters of one SUBSCRIBE; further ones are refused in its SUBACK";
    max_topic_bytes: u32 = 4_096, 16, 65_535, "bytes", "each subscription, alias and retained message keeps a topic";
    max_topic_levels: u32 = 32, 1, 1_024, "levels", "bounds the depth of the subscription tree";
    max_user_properties: u32 = 100, 0, 1_000_000, "properties", "user properties of one message, which travel on to every receiver";
    max_will_bytes: u32 = 64 << 10, 0, 256 * MIB, "bytes", "a will, which is held as long as its session";
    max_sessions: u32 = 1_000_000, 1, 100_000_000, "sessions", "sessions in all, with a client and without";
    max_sessions_per_device: u32 = 1_000, 1, 10_000_000, "sessions", "sessions of one device or user, with a client and without";
    max_memory_bytes: u64 = 0, 0, 1u64 << 50, "bytes", "held for all clients together; 0 is half of what the machine or its container has";
    max_retained_messages: u32 = 1_000_000, 0, 1u64 << 31, "messages", "retained messages in all";
    max_retained_bytes: u64 = 256 * MIB, 0, 1u64 << 42, "bytes", "bytes of retained messages in all";
    sys_interval_s: u32 = 10, 0, 86_400, "seconds", "between two updates of $SYS; 0 turns it off";
}

impl NodeLimits {
    fn for_engine(&self) -> Limits {
        Limits {
            max_packet_size: self.max_packet_size,
            receive_maximum: self.receive_maximum,
            topic_alias_maximum: self.topic_alias_maximum,
            max_session_expiry_s: self.max_session_expiry_s,
            max_keep_alive_s: self.max_keep_alive_s,
            max_inflight: self.max_inflight,
            max_queued_messages: self.max_queued_messages,
            max_queued_bytes: self.max_queued_bytes,
            max_inflight_bytes: self.max_inflight_bytes,
            max_outbox_bytes: self.max_outbox_bytes,
            max_subscriptions: self.max_subscriptions,
            max_filters: self.max_filters,
            max_topic_bytes: self.max_topic_bytes,
            max_topic_levels: self.max_topic_levels,
            max_user_properties: self.max_user_properties,
            max_will_bytes: self.max_will_bytes,
            max_sessions: self.max_sessions,
            max_sessions_per_device: self.max_sessions_per_device,
            max_memory_bytes: match self.max_memory_bytes {
                0 => machine::memory_bytes() / 2,
                bytes => bytes,
            },
            max_retained_messages: self.max_retained_messages,
            max_retained_bytes: self.max_retained_bytes,
            sys_interval_s: self.sys_interval_s,
            ..Limits::default()
        }
    }
}

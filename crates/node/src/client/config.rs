//! What a client connection needs, as it crosses the border in JSON.
//!
//! Refuses to know where it came from.

use super::trust::Offer;
use crate::psk::{KeyLogging, PskIdentity, PskOffer};
use serde::Deserialize;
use serde_json::Value;

/// One connection. Secrets are in here: no `Debug`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    pub scheme: String,
    pub host: String,
    pub port: u16,
    #[serde(default)]
    pub path: String,
    #[serde(default)]
    pub trust: TrustConfig,
    #[serde(default)]
    pub certificate_pem: Option<String>,
    #[serde(default)]
    pub key_pem: Option<String>,
    /// For the scheme `mqtts+psk`, in place of trust and certificate.
    #[serde(default)]
    pub psk: Option<PskIdentity>,
    #[serde(default)]
    pub server_name: Option<String>,
    #[serde(default)]
    pub tls_versions: TlsVersions,
    pub version: String,
    pub client_id: String,
    pub keep_alive: u16,
    pub clean_start: bool,
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub password_hex: Option<String>,
    /// Of CONNECT, in the words of [`super::properties`].
    #[serde(default)]
    pub properties: Value,
    #[serde(default)]
    pub will: Option<WillConfig>,
    #[serde(default)]
    pub bounds: Bounds,
    pub timeout_ms: u64,
    #[serde(default)]
    pub allow_plaintext: bool,
}

impl ClientConfig {
    /// The host that the server has to be: without the brackets of an address.
    pub(super) fn server_name(&self) -> &str {
        let name = self.server_name.as_deref().unwrap_or(&self.host);
        name.trim_matches(['[', ']'])
    }

    /// What is offered to a server with a certificate.
    pub(super) fn offer(&self) -> Offer<'_> {
        Offer {
            trust: &self.trust,
            certificate_pem: self.certificate_pem.as_deref(),
            key_pem: self.key_pem.as_deref(),
            alpn: if self.scheme == "wss" { &["http/1.1"] } else { &["mqtt"] },
            versions: self.tls_versions,
            groups: &[],
            logging: KeyLogging::Off,
        }
    }

    /// What is offered to a server with the same key.
    pub(super) fn psk_offer(&self) -> PskOffer<'_> {
        PskOffer {
            server_name: self.server_name(),
            versions: self.tls_versions,
            suites: None,
            alpn: &["mqtt"],
            logging: KeyLogging::Off,
        }
    }
}

/// The versions of TLS to offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TlsVersions {
    #[default]
    #[serde(rename = "")]
    Both,
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

/// How the server is verified; see [`super::trust`].
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrustConfig {
    pub ca_pem: String,
    /// Anchors that this library cannot use are skipped: the folder of a system holds what its owner never chose.
    pub is_system_store: bool,
    pub crls_pem: String,
    /// SHA-256 of a SubjectPublicKeyInfo, 64 hexadecimal digits each; none: no pinning.
    pub pins: Vec<String>,
    /// For tests of what must not be done: any certificate is believed.
    pub dangerous_unverified: bool,
}

/// The will of a CONNECT.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WillConfig {
    pub topic: String,
    pub payload_hex: String,
    pub qos: u8,
    pub retain: bool,
    #[serde(default)]
    pub properties: Value,
}

/// What a client keeps at most; each has a default.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// The largest packet taken, bytes; told to a server of MQTT 5.
    pub max_packet: u32,
    /// Messages received and not yet asked for; beyond either bound the connection is not read.
    pub inbox_messages: usize,
    pub inbox_bytes: usize,
    /// Bytes of publishes that wait for the network or for an acknowledgement.
    pub outbox_bytes: usize,
    /// Messages of QoS 1 and 2 that a server of MQTT 5 may send before the first is taken.
    pub receive_maximum: u16,
    /// Topic aliases that a server of MQTT 5 may set.
    pub topic_aliases: u16,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            max_packet: 64 << 20,
            inbox_messages: 20_000,
            inbox_bytes: 16 << 20,
            outbox_bytes: 16 << 20,
            receive_maximum: 4096,
            topic_aliases: 32,
        }
    }
}

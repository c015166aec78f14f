//! A TLS client without a socket, for whoever wants to see each byte of a connection and the secrets to read it.
//!
//! Refuses to know the network, MQTT, and what is looked for. It verifies as [`super::Client`] does; what came before a
//! failure has been in the caller's hands all along.
//!
//! Order of calls: [`TlsPeer::open`], [`TlsPeer::take`]; then [`TlsPeer::feed`] and [`TlsPeer::take`] in turn.

use super::config::{TlsVersions, TrustConfig};
use super::fault::{ClientError, TlsFailure, misuse};
use super::tls::Tls;
use super::trust::{Offer, Tickets};
use crate::psk::{KeyLogging, PskIdentity, PskOffer};
use crate::recording::take_keys;
use serde::Deserialize;
use serde_json::Value;

/// Whom to expect and what to show, as it crosses the border in JSON: either a key, or trust and perhaps a certificate.
/// Secrets are in here: no `Debug`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    pub server_name: String,
    #[serde(default)]
    pub versions: TlsVersions,
    #[serde(default)]
    pub alpn: Vec<String>,
    #[serde(default)]
    pub psk: Option<PskIdentity>,
    /// Of TLS 1.2, in OpenSSL's words; for a key alone.
    #[serde(default)]
    pub suites: Option<String>,
    #[serde(default)]
    pub trust: TrustConfig,
    #[serde(default)]
    pub certificate_pem: Option<String>,
    #[serde(default)]
    pub key_pem: Option<String>,
    /// By name, the first with a key share; for certificates alone.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    Handshaking,
    Open,
    /// The server has said close_notify.
    Closed,
}

pub struct TlsPeer {
    tls: Tls,
    tickets: Tickets,
    plain: Vec<u8>,
    outgoing: Vec<u8>,
    keys: Vec<String>,
    is_closed: bool,
}

impl TlsPeer {
    /// A connection to be, its ClientHello waiting in [`TlsPeer::take`]. With `previous`, its tickets are used if trust
    /// and certificate are the same; there are none with a pre-shared key.
    pub fn open(config: &PeerConfig, previous: Option<&TlsPeer>) -> Result<TlsPeer, ClientError> {
        let tickets = previous.map_or_else(Tickets::default, |peer| peer.tickets.clone());
        let alpn: Vec<&str> = config.alpn.iter().map(String::as_str).collect();
        let logging = KeyLogging::Recorded;
        let tls = match &config.psk {
            Some(psk) => {
                let is_mixed = config.certificate_pem.is_some() || !config.groups.is_empty();
                if is_mixed || !config.trust.ca_pem.is_empty() {
                    return Err(misuse("certificates and their groups do not go with a pre-shared key"));
                }
                let offer = PskOffer {
                    server_name: &config.server_name,
                    versions: config.versions,
                    suites: config.suites.as_deref(),
                    alpn: &alpn,
                    logging,
                };
                Tls::pre_shared(psk, &offer)?
            }
            None if config.suites.is_some() => return Err(misuse("suites are chosen with a pre-shared key alone")),
            None => {
                let offer = Offer {
                    trust: &config.trust,
                    certificate_pem: config.certificate_pem.as_deref(),
                    key_pem: config.key_pem.as_deref(),
                    alpn: &alpn,
                    versions: config.versions,
                    groups: &config.groups,
                    logging,
                };
                Tls::certified(&tickets, &config.server_name, &offer)?
            }
        };
        let mut peer = TlsPeer {
            tls,
            tickets,
            plain: Vec::new(),
            outgoing: Vec::new(),
            keys: Vec::new(),
            is_closed: false,
        };
        peer.keep_keys();
        Ok(peer)
    }

    /// How far it is.
    pub fn state(&self) -> PeerState {
        if self.is_closed {
            PeerState::Closed
        } else if self.tls.is_handshaking() {
            PeerState::Handshaking
        } else {
            PeerState::Open
        }
    }

    /// `version`, `cipher`, `group`, `alpn`, `resumed`, once the handshake is over.
    pub fn facts(&self) -> Option<Value> {
        (!self.tls.is_handshaking()).then(|| self.tls.facts())
    }

    /// Bytes from the server, as they were on the wire. After a failure the alert about it is in [`TlsPeer::take`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<PeerState, TlsFailure> {
        let fed = self.tls.decrypt(bytes, &mut self.plain);
        self.keep_keys();
        self.is_closed |= fed?;
        Ok(self.state())
    }

    /// Encrypt; the records are in [`TlsPeer::take`]. Raises `config-invalid` unless the handshake is over.
    pub fn write(&mut self, mut plain: &[u8]) -> Result<(), ClientError> {
        while !plain.is_empty() {
            let taken = self.tls.encrypt(plain).map_err(|e| misuse(&e.to_string()))?;
            if taken == 0 {
                return Err(misuse("channel is not open"));
            }
            plain = plain.get(taken..).unwrap_or_default();
            self.collect();
        }
        Ok(())
    }

    /// Say close_notify; it is in [`TlsPeer::take`].
    pub fn close(&mut self) {
        self.tls.close();
    }

    /// What has to be sent.
    pub fn take(&mut self) -> Vec<u8> {
        self.collect();
        std::mem::take(&mut self.outgoing)
    }

    /// What the server has said.
    pub fn read(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plain)
    }

    /// New lines in the format of NSS key logs.
    pub fn key_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.keys)
    }

    fn collect(&mut self) {
        // A vector takes everything.
        let _ = self.tls.send(&mut self.outgoing);
    }

    fn keep_keys(&mut self) {
        self.keys.append(&mut take_keys());
    }
}

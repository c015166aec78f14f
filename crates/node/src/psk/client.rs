//! The client's side of a pre-shared key: an identity and its key become a channel.
//!
//! Refuses to know where they were kept. The handshake proves both sides to each other: a server without the key is
//! nobody, one that shows a certificate in its place too, and nothing of MQTT is sent to either.

use super::{KeyLogging, PskChannel, Secret, context, is_sendable};
use crate::client::TlsVersions;
use crate::recording::keep_key_line;
use crate::tls::{TlsFault, fault};
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslMethod, SslVerifyMode, SslVersion};
use serde::Deserialize;
use std::net::IpAddr;

/// Who a client is, and how it proves it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PskIdentity {
    identity: String,
    key: Secret,
}

/// What a ClientHello says besides.
#[derive(Clone, Copy)]
pub struct PskOffer<'a> {
    /// Sent where it is a name and no address (RFC 6066 section 3).
    pub server_name: &'a str,
    pub versions: TlsVersions,
    /// The suites of TLS 1.2 in OpenSSL's words; `None`: the policy.
    pub suites: Option<&'a str>,
    /// ALPN protocols (RFC 7301).
    pub alpn: &'a [&'a str],
    pub logging: KeyLogging,
}

impl PskIdentity {
    /// Printable.
    pub fn name(&self) -> String {
        self.identity.escape_default().to_string()
    }

    /// A connection to be; its ClientHello comes out of the first [`PskChannel::decrypt`], with nothing as bytes.
    ///
    /// Raises `psk-invalid` for an identity that cannot be sent, `config-invalid` for suites that are none.
    pub fn connect(&self, offer: &PskOffer<'_>) -> Result<PskChannel, TlsFault> {
        if !is_sendable(&self.identity) {
            return Err(fault(
                "psk-invalid",
                "identity of the pre-shared key does not have 1 to 128 bytes, none of them zero",
                "",
            ));
        }
        let cannot = |e| fault("environment", format!("OpenSSL cannot offer a pre-shared key: {e}"), "");
        let mut builder = context(SslMethod::tls_client()).map_err(cannot)?;
        if let Some(suites) = offer.suites {
            builder.set_cipher_list(suites).map_err(|_| {
                fault(
                    "config-invalid",
                    format!("OpenSSL knows no suite in {suites:?}"),
                    "`openssl ciphers -v -psk` lists them",
                )
            })?;
        }
        // In TLS 1.3 a server may pass over the key and show a certificate: there is nobody here to believe one.
        builder.set_verify_callback(SslVerifyMode::PEER, |_, _| false);
        let own = self.clone();
        builder.set_psk_client_callback(move |_, _, identity, key| Ok(own.put(identity, key).unwrap_or_default()));
        if offer.logging == KeyLogging::Recorded {
            builder.set_keylog_callback(|_, line| keep_key_line(line));
        }
        let protocols = wire_form(offer.alpn);
        let connect = || -> Result<PskChannel, ErrorStack> {
            if !protocols.is_empty() {
                builder.set_alpn_protos(&protocols)?;
            }
            let mut ssl = Ssl::new(&builder.build())?;
            match offer.versions {
                TlsVersions::Both => {}
                TlsVersions::Tls12 => ssl.set_max_proto_version(Some(SslVersion::TLS1_2))?,
                TlsVersions::Tls13 => ssl.set_min_proto_version(Some(SslVersion::TLS1_3))?,
            }
            if !offer.server_name.is_empty() && offer.server_name.parse::<IpAddr>().is_err() {
                ssl.set_hostname(offer.server_name)?;
            }
            ssl.set_connect_state();
            PskChannel::new(ssl)
        };
        connect().map_err(cannot)
    }

    /// Write both where the library wants them; the length of the key, `None` where there is no room.
    fn put(&self, identity: &mut [u8], key: &mut [u8]) -> Option<usize> {
        let (name, Secret(secret)) = (self.identity.as_bytes(), &self.key);
        let (text, end) = identity.get_mut(..=name.len())?.split_at_mut(name.len());
        let room = key.get_mut(..secret.len())?;
        text.copy_from_slice(name);
        end.fill(0);
        room.copy_from_slice(secret);
        Some(secret.len())
    }
}

/// RFC 7301 section 3.1.
fn wire_form(protocols: &[&str]) -> Vec<u8> {
    let mut wire = Vec::new();
    for protocol in protocols {
        wire.push(u8::try_from(protocol.len()).unwrap_or(u8::MAX));
        wire.extend(protocol.bytes().take(usize::from(u8::MAX)));
    }
    wire
}

//! Pre-shared keys: who holds which one, and the TLS contexts that ask for them. OpenSSL is used here and nowhere else.
//!
//! Refuses to know sockets and rules. A context has no certificate (RFC 9257 section 6): where there is one, a peer whose
//! key does not fit is quietly served with the certificate instead.

use crate::certificate::is_fit;
use crate::config::{PskConfig, unhex};
use crate::denylist::Denylist;
use crate::hello::ClientHello;
use crate::recording::keep_key_line;
use crate::tls::{TlsFault, fault};
use aws_lc_rs::hmac;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVersion,
    select_next_proto,
};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use zeroize::Zeroizing;

mod channel;
mod client;
mod policy;

pub use channel::{Claim, Claimant, PskChannel, PskFault};
pub use client::{PskIdentity, PskOffer};
pub use policy::{offers_psk, policy};

/// ALPN in wire form (RFC 7301 section 3.1).
const MQTT: &[u8] = b"\x04mqtt";
/// Bytes of a key: below 16 it could be guessed (RFC 9257 section 6), beyond 64 no peer keeps it.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// RFC 4279 section 5.3 has all implementations take as many.
const IDENTITY_BYTES: usize = 128;

/// The library keeps identities as C strings.
fn is_sendable(identity: &str) -> bool {
    !identity.is_empty() && identity.len() <= IDENTITY_BYTES && !identity.contains('\0')
}

/// A key; it prints as nothing, and its memory is cleared.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        // Borrowed: hexadecimal digits are never escaped, and no copy of them is left behind.
        let text = <&str>::deserialize(from).map_err(|_| D::Error::custom("pre-shared key is no text"))?;
        Secret::from_hex(text).map_err(|what| D::Error::custom(format!("pre-shared key {what}")))
    }
}

impl Secret {
    /// From hexadecimal digits; the sentence says what is wrong with them, and never what they are.
    pub fn from_hex(text: &str) -> Result<Secret, String> {
        let mut key = Zeroizing::new(vec![0; text.len() / 2]);
        if !KEY_BYTES.contains(&key.len()) || !unhex(text, &mut key) {
            return Err(format!(
                "is not {} to {} hexadecimal digits",
                KEY_BYTES.start() * 2,
                KEY_BYTES.end() * 2
            ));
        }
        Ok(Secret(key))
    }
}

/// Keys for identities that have none: somebody who guesses learns as much from an unknown one as from a wrong key.
pub struct Decoys(hmac::Key);

impl Decoys {
    /// Random, for as long as the process lives.
    pub fn new() -> Result<Decoys, TlsFault> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|e| fault("environment", format!("system has no randomness: {e}"), ""))?;
        Ok(Decoys(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }

    fn key(&self, identity: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, identity)
    }
}

/// Whether the secrets of a handshake are handed to this thread's recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLogging {
    Off,
    Recorded,
}

/// One key, and whose it is.
struct Holder {
    device: Arc<str>,
    key: Secret,
}

/// The keys in force by the identity that names them, and who may not use his.
struct Holders {
    keys: HashMap<String, Holder>,
    devices: HashSet<Arc<str>>,
    decoys: Arc<Decoys>,
    denylist: Arc<Denylist>,
}

impl Holders {
    /// Write the key for `identity` to `out`; its length and whose it is. Both keys are made in any case, so that the time
    /// it takes does not tell who is known.
    fn choose(&self, identity: &[u8], out: &mut [u8]) -> (usize, Claimant) {
        let decoy = self.decoys.key(identity);
        let name = std::str::from_utf8(identity).unwrap_or_default();
        let own = self.keys.get(name);
        let device = own.map_or(name, |holder| &holder.device);
        let (key, claimant) = match own {
            _ if self.denylist.names(Some(device), None) => (decoy.as_ref(), Claimant::Revoked),
            Some(holder) => (holder.key.0.as_slice(), Claimant::Known(Arc::clone(&holder.device))),
            None => (decoy.as_ref(), Claimant::Unknown),
        };
        match out.get_mut(..key.len()) {
            Some(room) => room.copy_from_slice(key),
            None => return (0, Claimant::Unknown),
        }
        (key.len(), claimant)
    }
}

/// The pre-shared keys of a node, ready to accept with.
pub struct PreSharedKeys {
    holders: Arc<Holders>,
    context: SslContext,
}

impl PreSharedKeys {
    /// Raises `psk-invalid` for a device that cannot have that name, an identity that cannot be sent or has two keys, and
    /// a key of another shape.
    pub fn new(
        config: &[PskConfig],
        decoys: &Arc<Decoys>,
        denylist: &Arc<Denylist>,
    ) -> Result<PreSharedKeys, TlsFault> {
        let (mut keys, mut devices) = (HashMap::new(), HashSet::new());
        for PskConfig { device, identity, key } in config {
            let wrong = |what: String| {
                fault(
                    "psk-invalid",
                    format!("pre-shared key of device {device:?} {what}"),
                    "make it anew with `sealmq device add ID --psk`",
                )
            };
            if !is_fit(device) {
                return Err(wrong("belongs to a name that no device can have".into()));
            }
            let identity = if identity.is_empty() { device } else { identity };
            if !is_sendable(identity) {
                return Err(wrong(format!("has the identity {identity:?}, which cannot be sent")));
            }
            let key = Secret::from_hex(key).map_err(wrong)?;
            let device: Arc<str> = Arc::from(device.as_str());
            devices.insert(Arc::clone(&device));
            if keys.insert(identity.clone(), Holder { device, key }).is_some() {
                return Err(wrong("stands there twice".into()));
            }
        }
        let holders = Arc::new(Holders {
            keys,
            devices,
            decoys: Arc::clone(decoys),
            denylist: Arc::clone(denylist),
        });
        let context = server_context(&holders, KeyLogging::Off)
            .map_err(|e| fault("environment", format!("OpenSSL cannot serve pre-shared keys: {e}"), ""))?;
        Ok(PreSharedKeys { holders, context })
    }

    /// Whether the device has a key.
    pub fn knows(&self, device: &str) -> bool {
        self.holders.devices.contains(device)
    }

    /// The server's side of a connection that opens with this ClientHello.
    ///
    /// A client that shows no key in a ClientHello of TLS 1.3 may still have one for TLS 1.2, where it is named later; with
    /// TLS 1.3 there would be nothing to prove who we are.
    pub fn accept(&self, hello: &ClientHello, logging: KeyLogging) -> Result<PskChannel, ErrorStack> {
        let context = match logging {
            KeyLogging::Off => self.context.clone(),
            KeyLogging::Recorded => server_context(&self.holders, logging)?,
        };
        let mut ssl = Ssl::new(&context)?;
        if hello.psk_identities == 0 {
            ssl.set_max_proto_version(Some(SslVersion::TLS1_2))?;
        }
        ssl.set_accept_state();
        PskChannel::new(ssl)
    }
}

/// What both sides have in common.
fn context(method: SslMethod) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContextBuilder::new(method)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_cipher_list(policy::TLS12)?;
    builder.set_ciphersuites(policy::TLS13)?;
    builder.set_groups_list(policy::GROUPS)?;
    // A ticket would outlive the key that it was given for. ALLOW_NO_DHE_KEX stays off: psk_ke has no forward secrecy, and
    // whoever cannot afford that has it in TLS 1.2.
    builder.set_options(
        SslOptions::NO_TICKET
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_COMPRESSION
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    builder.set_num_tickets(0)?;
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    Ok(builder)
}

fn server_context(holders: &Arc<Holders>, logging: KeyLogging) -> Result<SslContext, ErrorStack> {
    let claim = claim_index()?;
    let mut builder = context(SslMethod::tls_server())?;
    builder.set_session_id_context(b"sealmq")?;
    builder.set_alpn_select_callback(|_, offered| select_next_proto(MQTT, offered).ok_or(AlpnError::NOACK));
    let holders = Arc::clone(holders);
    builder.set_psk_server_callback(move |ssl, identity, out| {
        let identity = identity.unwrap_or_default();
        let (length, claimant) = holders.choose(identity, out);
        // OpenSSL itself does not tell it afterwards in TLS 1.3.
        ssl.set_ex_data(claim, Claim::new(identity, claimant));
        Ok(length)
    });
    if logging == KeyLogging::Recorded {
        builder.set_keylog_callback(|_, line| keep_key_line(line));
    }
    Ok(builder.build())
}

/// Where a connection keeps who it claims to be.
fn claim_index() -> Result<Index<Ssl, Claim>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Claim>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let index = Ssl::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| index))
}

#[cfg(test)]
mod tests;

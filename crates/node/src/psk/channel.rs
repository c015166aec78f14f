//! One connection secured by a pre-shared key: ciphertext in, plaintext out, and the other way round.
//!
//! Refuses to know the network: what is to be sent is handed to whoever calls.

use super::claim_index;
use crate::link::Ended;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::Id;
use openssl::ssl::{Error, ErrorCode, Ssl, SslStream, SslVersion};
use std::io::{self, Read, Write};
use std::sync::Arc;

/// A TLS record holds at most this much plaintext.
const RECORD: usize = 16 * 1024;
/// Bytes of a claimed identity that a record shows; a peer may send 128.
const SHOWN: usize = 64;

/// Reasons of `openssl/sslerr.h` that mean: the two sides have different keys. RFC 8446 section 4.2.11.2 and RFC 4279
/// section 2 let the broker find out first, by the binder and by Finished.
const DIFFERENT_KEYS: [i32; 3] = [253, 281, 149];
/// `SSL_R_CERTIFICATE_VERIFY_FAILED`: the client's side believes none.
const CERTIFICATE_REFUSED: i32 = 134;
/// From here on a reason is an alert of the peer, its number added.
const ALERTS: i32 = 1000;

/// What a claimed identity is to this broker. The peer cannot tell them apart unless it has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// With the device whose key it is.
    Known(Arc<str>),
    Unknown,
    Revoked,
}

/// Who a peer says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Printable.
    pub identity: String,
    pub claimant: Claimant,
}

impl Claim {
    pub(super) fn new(identity: &[u8], claimant: Claimant) -> Claim {
        let shown = identity.get(..SHOWN).unwrap_or(identity);
        Claim {
            identity: shown.escape_ascii().to_string(),
            claimant,
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PskFault {
    /// The peer has another key than the one of whom it claims to be, if there is such a one.
    DifferentKeys(Claim),
    /// The peer sent this alert.
    Alert(u8),
    /// The server has another key than the client, or none at all.
    Impostor,
    /// The server showed a certificate where it was to prove the key.
    Certificate,
    /// The peer broke TLS, in the library's words.
    Broken(String),
}

impl PskFault {
    pub fn sentence(&self) -> String {
        format!("TLS failed: {}", self.reason())
    }

    pub fn reason(&self) -> String {
        match self {
            PskFault::DifferentKeys(_) | PskFault::Impostor => "the two sides have different keys".into(),
            PskFault::Certificate => "peer shows a certificate in place of the key".into(),
            PskFault::Alert(number) => format!("peer sent alert {number}"),
            PskFault::Broken(reason) => reason.clone(),
        }
    }
}

/// What the library reads from and writes to.
#[derive(Default)]
struct Wire {
    incoming: Vec<u8>,
    taken: usize,
    outgoing: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let waiting = self.incoming.get(self.taken..).unwrap_or_default();
        let count = waiting.len().min(into.len());
        if count == 0 {
            // Given back: an idle connection keeps no buffer.
            self.incoming = Vec::new();
            self.taken = 0;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (to, from) in into.iter_mut().zip(waiting) {
            *to = *from;
        }
        self.taken += count;
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Calling order: [`PskChannel::decrypt`] with what arrives, first with nothing on the client's side, until it is no longer
/// handshaking; then [`PskChannel::encrypt`] as well.
pub struct PskChannel {
    stream: SslStream<Wire>,
    is_handshaking: bool,
    carrying: usize,
}

impl PskChannel {
    pub(super) fn new(ssl: Ssl) -> Result<PskChannel, ErrorStack> {
        Ok(PskChannel {
            stream: SslStream::new(ssl, Wire::default())?,
            is_handshaking: true,
            carrying: 0,
        })
    }

    pub fn is_handshaking(&self) -> bool {
        self.is_handshaking
    }

    /// How many records held data in the last call of [`PskChannel::decrypt`].
    pub fn carrying(&self) -> usize {
        self.carrying
    }

    /// Who the peer is; nobody before the handshake is over, and on the client's side.
    pub fn device(&self) -> Option<&Arc<str>> {
        match &self.claim()?.claimant {
            Claimant::Known(device) if !self.is_handshaking => Some(device),
            _ => None,
        }
    }

    /// The identity that the peer gave; none on the client's side.
    pub fn identity(&self) -> Option<&str> {
        self.claim().map(|claim| claim.identity.as_str())
    }

    pub fn version(&self) -> &'static str {
        match self.stream.ssl().version2() {
            Some(SslVersion::TLS1_3) => "TLS 1.3",
            _ => "TLS 1.2",
        }
    }

    /// The protocol that was agreed on (RFC 7301), if any.
    pub fn alpn(&self) -> Option<String> {
        let chosen = self.stream.ssl().selected_alpn_protocol()?;
        Some(chosen.escape_ascii().to_string())
    }

    /// The suite by its IANA name.
    pub fn cipher(&self) -> &'static str {
        let cipher = self.stream.ssl().current_cipher();
        cipher.and_then(|c| c.standard_name()).unwrap_or_default()
    }

    /// The group of the key exchange; empty when there was none, as in plain PSK.
    pub fn group(&self) -> &'static str {
        let Ok(key) = self.stream.ssl().peer_tmp_key() else {
            return "";
        };
        let curve = || key.ec_key().ok()?.group().curve_name();
        match key.id() {
            Id::X25519 => "X25519",
            Id::EC if curve() == Some(Nid::X9_62_PRIME256V1) => "secp256r1",
            Id::EC if curve() == Some(Nid::SECP384R1) => "secp384r1",
            _ => "",
        }
    }

    /// Take in ciphertext; plaintext is appended to `plain`, what TLS has to say to `outgoing`, an alert too when it fails.
    pub fn decrypt(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<Option<Ended>, PskFault> {
        self.stream.get_mut().incoming.extend_from_slice(bytes);
        let outcome = self.advance(plain);
        self.take_outgoing(outgoing);
        outcome
    }

    /// Append the records for `plain` to `outgoing`, none with more than `limit` bytes of it.
    pub fn encrypt(&mut self, plain: &[u8], limit: usize, outgoing: &mut Vec<u8>) -> Result<(), PskFault> {
        for mut rest in plain.chunks(limit) {
            while !rest.is_empty() {
                let written = self.stream.ssl_write(rest).map_err(|e| self.fault(&e))?;
                rest = rest.get(written..).unwrap_or_default();
            }
        }
        self.take_outgoing(outgoing);
        Ok(())
    }

    /// Append close_notify to `outgoing`.
    pub fn close(&mut self, outgoing: &mut Vec<u8>) {
        let _ = self.stream.shutdown();
        self.take_outgoing(outgoing);
    }

    fn advance(&mut self, plain: &mut Vec<u8>) -> Result<Option<Ended>, PskFault> {
        self.carrying = 0;
        if self.is_handshaking {
            match self.stream.do_handshake() {
                Ok(()) => self.is_handshaking = false,
                Err(e) if is_waiting(&e) => return Ok(None),
                Err(e) => return Err(self.fault(&e)),
            }
        }
        loop {
            let start = plain.len();
            plain.resize(start + RECORD, 0);
            let read = self.stream.ssl_read(plain.get_mut(start..).unwrap_or_default());
            plain.truncate(start + read.as_ref().copied().unwrap_or_default());
            match read {
                Ok(_) => self.carrying += 1,
                Err(e) if is_waiting(&e) => return Ok(None),
                Err(e) if e.code() == ErrorCode::ZERO_RETURN => return Ok(Some(Ended::Cleanly)),
                Err(e) => return Err(self.fault(&e)),
            }
        }
    }

    fn take_outgoing(&mut self, outgoing: &mut Vec<u8>) {
        // Not `append`: its buffer is given back with it.
        outgoing.extend_from_slice(&std::mem::take(&mut self.stream.get_mut().outgoing));
    }

    fn claim(&self) -> Option<&Claim> {
        self.stream.ssl().ex_data(claim_index().ok()?)
    }

    fn fault(&self, error: &Error) -> PskFault {
        let reasons = error.ssl_error().map_or(&[][..], ErrorStack::errors);
        let codes = || reasons.iter().map(|e| e.reason_code());
        if let Some(alert) = codes().find_map(|code| u8::try_from(code - ALERTS).ok()) {
            return PskFault::Alert(alert);
        }
        let is_one_of = |wanted: &[i32]| self.is_handshaking && codes().any(|code| wanted.contains(&code));
        match self.claim() {
            Some(claim) if is_one_of(&DIFFERENT_KEYS) => PskFault::DifferentKeys(claim.clone()),
            None if !self.stream.ssl().is_server() && is_one_of(&DIFFERENT_KEYS) => PskFault::Impostor,
            _ if is_one_of(&[CERTIFICATE_REFUSED]) => PskFault::Certificate,
            _ => PskFault::Broken(
                reasons
                    .iter()
                    .find_map(|e| e.reason())
                    .map_or_else(|| error.to_string(), str::to_owned),
            ),
        }
    }
}

fn is_waiting(error: &Error) -> bool {
    matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE)
}

//! The TLS of a client: rustls where the server has a certificate, OpenSSL where both have a pre-shared key.
//!
//! Refuses to know sockets: ciphertext is handed in, and what TLS has to send goes where the caller says.

use super::fault::{ClientError, TlsFailure, psk_error, tls_error};
use super::trust::{Offer, Tickets};
use crate::psk::{PskChannel, PskIdentity, PskOffer};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind, ProtocolVersion};
use serde_json::{Value, json};
use std::io::{self, Read, Write};

/// Plaintext taken while the network takes its ciphertext.
const WRITE_SIZE: usize = 256 * 1024;
/// The most plaintext of one record (RFC 8446 section 5.1).
const RECORD: usize = 16 * 1024;

pub(super) enum Tls {
    Certificate {
        tls: Box<ClientConnection>,
        host: String,
    },
    PreSharedKey {
        channel: Box<PskChannel>,
        /// Printable.
        identity: String,
        /// What TLS has to say; `sent` bytes of it have left.
        outgoing: Vec<u8>,
        sent: usize,
    },
}

impl Tls {
    /// The server proves to be `host` by a certificate. Raises `tls-name` for a name that is none, and what `offer` raises.
    pub(super) fn certified(tickets: &Tickets, host: &str, offer: &Offer<'_>) -> Result<Tls, ClientError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            ClientError::new(
                "tls-name",
                format!("{host} is no host name or address"),
                "check the URL",
            )
        })?;
        let mut tls = ClientConnection::new(tickets.tls_config(offer)?, name).map_err(|e| tls_error(&e, host))?;
        tls.set_buffer_limit(Some(WRITE_SIZE));
        Ok(Tls::Certificate {
            tls: Box::new(tls),
            host: host.to_owned(),
        })
    }

    /// Both sides prove that they have the key. Raises `psk-invalid`, `config-invalid`, `environment`.
    pub(super) fn pre_shared(psk: &PskIdentity, offer: &PskOffer<'_>) -> Result<Tls, ClientError> {
        let mut channel = Box::new(psk.connect(offer)?);
        let (identity, mut outgoing) = (psk.name(), Vec::new());
        // The ClientHello.
        let begun = channel.decrypt(&[], &mut Vec::new(), &mut outgoing);
        begun.map_err(|e| psk_error(&e, &identity))?;
        Ok(Tls::PreSharedKey {
            channel,
            identity,
            outgoing,
            sent: 0,
        })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match self {
            Tls::Certificate { tls, .. } => tls.is_handshaking(),
            Tls::PreSharedKey { channel, .. } => channel.is_handshaking(),
        }
    }

    /// `version`, `cipher`, `group`, `alpn`, `resumed`; null what there is not.
    pub(super) fn facts(&self) -> Value {
        match self {
            Tls::Certificate { tls, .. } => json!({
                "version": if tls.protocol_version() == Some(ProtocolVersion::TLSv1_3) { "TLS 1.3" } else { "TLS 1.2" },
                "cipher": tls.negotiated_cipher_suite().map(|s| format!("{:?}", s.suite()).replace("TLS13_", "TLS_")),
                "group": tls.negotiated_key_exchange_group().map(|g| format!("{:?}", g.name())),
                "alpn": tls.alpn_protocol().map(|name| name.escape_ascii().to_string()),
                "resumed": tls.handshake_kind() == Some(HandshakeKind::Resumed),
            }),
            Tls::PreSharedKey { channel, .. } => json!({
                "version": channel.version(),
                "cipher": channel.cipher(),
                "group": Some(channel.group()).filter(|group| !group.is_empty()),
                "alpn": channel.alpn(),
                "resumed": false,
            }),
        }
    }

    /// Take in ciphertext; plaintext is appended to `plain`. Whether the server has said close_notify. After an error the
    /// alert about it waits in [`Tls::send`].
    pub(super) fn decrypt(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Result<bool, TlsFailure> {
        match self {
            Tls::Certificate { tls, host } => decrypt(tls, bytes, plain).map_err(|e| tls_error(&e, host)),
            Tls::PreSharedKey {
                channel,
                identity,
                outgoing,
                ..
            } => {
                let ended = channel.decrypt(bytes, plain, outgoing);
                Ok(ended.map_err(|e| psk_error(&e, identity))?.is_some())
            }
        }
    }

    /// Take plaintext as far as there is room for it: how many bytes. None during the handshake.
    pub(super) fn encrypt(&mut self, plain: &[u8]) -> io::Result<usize> {
        if plain.is_empty() || self.is_handshaking() {
            return Ok(0);
        }
        match self {
            Tls::Certificate { tls, .. } => tls.writer().write(plain),
            Tls::PreSharedKey { outgoing, .. } if outgoing.len() >= WRITE_SIZE => Ok(0),
            Tls::PreSharedKey { channel, outgoing, .. } => {
                let part = plain.get(..WRITE_SIZE).unwrap_or(plain);
                let sealed = channel.encrypt(part, RECORD, outgoing);
                sealed.map_err(|fault| io::Error::other(fault.sentence()))?;
                Ok(part.len())
            }
        }
    }

    /// Whether TLS has something to send.
    pub(super) fn has_output(&self) -> bool {
        match self {
            Tls::Certificate { tls, .. } => tls.wants_write(),
            Tls::PreSharedKey { outgoing, .. } => !outgoing.is_empty(),
        }
    }

    /// Send what TLS has to say, until nothing is left or `to` fails.
    pub(super) fn send(&mut self, to: &mut dyn Write) -> io::Result<()> {
        match self {
            Tls::Certificate { tls, .. } => {
                while tls.wants_write() {
                    tls.write_tls(to)?;
                }
            }
            Tls::PreSharedKey { outgoing, sent, .. } => {
                while let Some(left) = outgoing.get(*sent..).filter(|left| !left.is_empty()) {
                    match to.write(left)? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        count => *sent += count,
                    }
                }
                // Its room is given back with it.
                (*outgoing, *sent) = (Vec::new(), 0);
            }
        }
        Ok(())
    }

    /// Let close_notify be the last thing to send.
    pub(super) fn close(&mut self) {
        match self {
            Tls::Certificate { tls, .. } => tls.send_close_notify(),
            Tls::PreSharedKey { channel, outgoing, .. } => channel.close(outgoing),
        }
    }
}

fn decrypt(tls: &mut ClientConnection, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<bool, rustls::Error> {
    let mut is_over = false;
    while !bytes.is_empty() && !is_over {
        // Reading from memory fails only when the library has no room, which it has after each round.
        if tls.read_tls(&mut bytes).unwrap_or(0) == 0 {
            break;
        }
        let state = tls.process_new_packets()?;
        is_over = state.peer_has_closed();
        let begun = plain.len();
        plain.resize(begun + state.plaintext_bytes_to_read(), 0);
        let got = plain
            .get_mut(begun..)
            .map_or(0, |room| tls.reader().read(room).unwrap_or(0));
        plain.truncate(begun + got);
    }
    Ok(is_over)
}

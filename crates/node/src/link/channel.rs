//! What makes a connection secret: rustls where there are certificates, OpenSSL where there is a pre-shared key.
//!
//! Refuses to know sockets. Both take ciphertext and give plaintext, and have something to say of their own.

use super::unbuffered::{self, encrypt_into};
use super::{Decrypted, LinkFault};
use crate::psk::PskChannel;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;

pub enum Channel {
    Certificate(Box<UnbufferedServerConnection>),
    PreSharedKey(Box<PskChannel>),
}

impl Channel {
    pub fn is_handshaking(&self) -> bool {
        match self {
            Channel::Certificate(tls) => tls.is_handshaking(),
            Channel::PreSharedKey(psk) => psk.is_handshaking(),
        }
    }

    /// Decode `bytes`: plaintext is appended to `plain`, answers to `outgoing`. After a fault its alert is in `outgoing`, and no call but [`Channel::is_handshaking`] may
    /// follow.
    pub(super) fn decrypt(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<Decrypted, LinkFault> {
        match self {
            Channel::Certificate(tls) => unbuffered::decrypt(tls, bytes, plain, outgoing),
            Channel::PreSharedKey(psk) => {
                let ended = psk.decrypt(bytes, plain, outgoing).map_err(LinkFault::Psk)?;
                Ok(Decrypted {
                    used: bytes.len(),
                    carrying: psk.carrying(),
                    ended,
                })
            }
        }
    }

    /// Encrypt `plain` into `buffer`, how much of it was filled; what has to go first is appended to `outgoing`.
    /// `incoming` is what [`Channel::decrypt`] has not used yet. No record has more than `limit` bytes of `plain`.
    pub(super) fn encrypt(
        &mut self,
        incoming: &mut Vec<u8>,
        plain: &[u8],
        limit: usize,
        buffer: &mut [u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<usize, LinkFault> {
        match self {
            Channel::Certificate(tls) => {
                encrypt_into(tls, incoming, plain, limit, buffer, outgoing).map_err(LinkFault::Tls)
            }
            // The library has its own buffer, which is as good as ours: everything goes first.
            Channel::PreSharedKey(psk) => psk.encrypt(plain, limit, outgoing).map(|()| 0).map_err(LinkFault::Psk),
        }
    }

    /// Append close_notify to `outgoing`; nothing else may follow.
    pub(super) fn close(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) {
        match self {
            Channel::Certificate(tls) => {
                let mut buffer = [0; 128];
                if let Ok(ConnectionState::WriteTraffic(mut traffic)) = tls.process_tls_records(incoming).state
                    && let Ok(length) = traffic.queue_close_notify(&mut buffer)
                {
                    outgoing.extend_from_slice(buffer.get(..length).unwrap_or_default());
                }
            }
            Channel::PreSharedKey(psk) => psk.close(outgoing),
        }
    }
}

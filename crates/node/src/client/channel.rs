//! A non-blocking channel to a server: a socket, TLS over it unless plaintext was allowed, WebSocket frames in it.
//!
//! Refuses to know what the bytes mean. Nothing written leaves before the handshake has verified the server.

use super::fault::{ClientError, gone, peer_fault};
use super::tls::Tls;
use crate::ws::{self, Role};
use mio::net::TcpStream;
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};

/// Bytes read from the socket at once.
const READ_SIZE: usize = 64 * 1024;
/// Bytes that wait for the network beyond which WebSocket control frames are no longer answered.
const PONGS_KEPT: usize = 256 * 1024;

fn random_mask() -> [u8; 4] {
    // Masking protects proxies, not secrets (RFC 6455 section 10.3); without randomness it is merely fixed.
    getrandom::u32().unwrap_or(0x5ea1_3a9c).to_be_bytes()
}

const CLIENT_ROLE: Role = Role::Client { mask: random_mask };

/// What one [`Channel::read`] found.
pub(super) struct Found {
    /// The server has ended its side.
    pub ended: bool,
    /// The socket may have more.
    pub more: bool,
}

pub(super) struct Channel {
    pub socket: TcpStream,
    tls: Option<Tls>,
    ws: Option<ws::Decoder>,
    cipher: Vec<u8>,
    frames: Vec<u8>,
    /// Bytes given to [`Channel::write`] that TLS, or the network, has not taken; `sent` of them it has.
    unsent: Vec<u8>,
    sent: usize,
}

impl Channel {
    pub(super) fn new(socket: TcpStream, tls: Option<Tls>) -> Channel {
        Channel {
            socket,
            tls,
            ws: None,
            cipher: vec![0; READ_SIZE],
            frames: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
        }
    }

    pub(super) fn speak_websocket(&mut self, max_message: usize) {
        self.ws = Some(ws::Decoder::new(CLIENT_ROLE, max_message));
    }

    /// Whether the handshake is still under way.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::is_handshaking)
    }

    /// `version`, `cipher`, `group`, `resumed`; null without TLS.
    pub(super) fn tls_facts(&self) -> Value {
        self.tls.as_ref().map_or(Value::Null, Tls::facts)
    }

    /// Read once from the socket; what it says, decrypted and unframed, is appended to `plain`.
    pub(super) fn read(&mut self, plain: &mut Vec<u8>) -> Result<Found, ClientError> {
        let mut cipher = std::mem::take(&mut self.cipher);
        let result = self.read_with(&mut cipher, plain);
        self.cipher = cipher;
        result
    }

    fn read_with(&mut self, cipher: &mut [u8], plain: &mut Vec<u8>) -> Result<Found, ClientError> {
        let count = match self.socket.read(cipher) {
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                return Ok(Found {
                    ended: false,
                    more: false,
                });
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {
                return Ok(Found {
                    ended: false,
                    more: true,
                });
            }
            Err(_) if self.is_handshaking() => return Err(cut_short()),
            Err(e) => return Err(gone(&e)),
        };
        let bytes = cipher.get_mut(..count).unwrap_or_default();
        let mut ended = count == 0;
        if ended && self.is_handshaking() {
            return Err(cut_short());
        }
        let begun = plain.len();
        match &mut self.tls {
            None => plain.extend_from_slice(bytes),
            Some(tls) => ended |= tls.decrypt(bytes, plain)?,
        }
        if self.ws.is_some() && !self.is_handshaking() {
            let mut framed = plain.split_off(begun);
            ended |= self.unframe(&mut framed, plain)?;
        }
        Ok(Found {
            ended,
            // Only an empty socket says so: the end of the connection may lie behind a short read.
            more: count > 0,
        })
    }

    /// Take WebSocket frames apart; whether the server has closed.
    pub(super) fn unframe(&mut self, framed: &mut [u8], plain: &mut Vec<u8>) -> Result<bool, ClientError> {
        let Some(decoder) = &mut self.ws else { return Ok(false) };
        let mut control = Vec::new();
        let decoded = decoder
            .decode(framed, plain, &mut control)
            .map_err(|fault| peer_fault(fault.sentence()))?;
        if self.unsent.len() < PONGS_KEPT {
            self.unsent.extend_from_slice(&control);
        }
        Ok(decoded.closed.is_some())
    }

    /// Whether everything written so far has left.
    pub(super) fn is_idle(&self) -> bool {
        self.unsent.is_empty() && self.tls.as_ref().is_none_or(|tls| !tls.has_output())
    }

    /// Hand over MQTT bytes; `bytes` is empty afterwards. Ask [`Channel::is_idle`] first, and [`Channel::flush`] then.
    pub(super) fn write(&mut self, bytes: &mut Vec<u8>) {
        if self.ws.is_some() {
            self.frames.clear();
            ws::encode_binary(CLIENT_ROLE, bytes, &mut self.frames);
            bytes.clear();
            std::mem::swap(bytes, &mut self.frames);
        }
        if self.unsent.is_empty() {
            std::mem::swap(&mut self.unsent, bytes);
            bytes.clear();
        } else {
            self.unsent.append(bytes);
        }
    }

    /// Send as much as the network takes now.
    pub(super) fn flush(&mut self) -> Result<(), ClientError> {
        match self.push() {
            Ok(()) => Ok(()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(()),
            Err(_) if self.is_handshaking() => Err(cut_short()),
            Err(e) => Err(gone(&e)),
        }
    }

    fn push(&mut self) -> io::Result<()> {
        loop {
            // What TLS has taken is TLS's, whether or not the network takes it now.
            if let Some(tls) = &mut self.tls {
                tls.send(&mut self.socket)?;
            }
            let waiting = self.unsent.get(self.sent..).unwrap_or_default();
            let taken = match &mut self.tls {
                _ if waiting.is_empty() => return Ok(()),
                None => self.socket.write(waiting)?,
                Some(tls) => tls.encrypt(waiting)?,
            };
            if taken == 0 {
                return Ok(());
            }
            self.sent += taken;
            if self.sent >= self.unsent.len() {
                self.unsent.clear();
                self.sent = 0;
                if self.unsent.capacity() > 1 << 20 {
                    self.unsent = Vec::new();
                }
            }
        }
    }

    /// Say close_notify and end the TCP connection.
    pub(super) fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close();
        }
        let _ = self.flush();
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

fn cut_short() -> ClientError {
    ClientError::new(
        "tls-closed",
        "server closed the connection during the TLS handshake",
        "check that the port speaks TLS, and look at the log of the server",
    )
}

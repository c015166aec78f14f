//! The unbuffered TLS of the library, driven without ever showing it the wrong buffer.
//!
//! Refuses to know sockets. The library remembers the parts of a handshake message as places in the bytes it has not yet
//! discarded; it has to see the same bytes in every call, and panics with others. What a peer sends decides whether
//! there are such parts, so no call here may pass an empty buffer in place of them.

use super::{Decrypted, Ended, LinkFault};
use rustls::Error as TlsError;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};

/// Room for the messages that a handshake sends together, most of it for certificates.
const FLIGHT: usize = 4096;

/// Run TLS over `bytes`: plaintext goes to `plain`, answers to `outgoing`, an alert among them when it fails.
pub(super) fn decrypt(
    tls: &mut UnbufferedServerConnection,
    bytes: &mut [u8],
    plain: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
) -> Result<Decrypted, LinkFault> {
    let (mut used, mut carrying, mut ended) = (0, 0, None);
    loop {
        let UnbufferedStatus { discard, state } = tls.process_tls_records(bytes.get_mut(used..).unwrap_or_default());
        let is_blocked = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let payload = record.map_err(LinkFault::Tls)?.payload;
                    carrying += usize::from(!payload.is_empty());
                    plain.extend_from_slice(payload);
                }
                false
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                append_encoded(outgoing, |out| data.encode(out))?;
                false
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                false
            }
            Ok(ConnectionState::PeerClosed) => {
                ended = Some(Ended::Cleanly);
                false
            }
            // Early data is never offered; a state of a later version changes nothing for us.
            Ok(_) => true,
            Err(e) => {
                append_alert(tls, bytes.get_mut(used + discard..).unwrap_or_default(), outgoing);
                return Err(LinkFault::Tls(e));
            }
        };
        used += discard;
        if is_blocked {
            return Ok(Decrypted { used, carrying, ended });
        }
    }
}

pub(super) fn append_encoded(
    out: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), LinkFault> {
    let start = out.len();
    let mut room = 1024;
    if out.capacity() == 0 {
        out.reserve(FLIGHT);
    }
    loop {
        out.resize(start + room, 0);
        match encode(out.get_mut(start..).unwrap_or_default()) {
            Ok(length) => {
                out.truncate(start + length);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => room = required_size,
            Err(EncodeError::AlreadyEncoded) => {
                out.truncate(start);
                return Err(LinkFault::Tls(TlsError::General(
                    "handshake data was encoded twice".into(),
                )));
            }
        }
    }
}

/// After a TLS error the library has an alert for the peer; append it. `rest` is what the failed call left.
pub(super) fn append_alert(tls: &mut UnbufferedServerConnection, mut rest: &mut [u8], out: &mut Vec<u8>) {
    // One alert, one transmission: a bound, should the library ever repeat itself.
    for _ in 0..4 {
        let UnbufferedStatus { discard, state } = tls.process_tls_records(rest);
        match state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                if append_encoded(out, |room| data.encode(room)).is_err() {
                    return;
                }
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            _ => return,
        }
        rest = rest.get_mut(discard..).unwrap_or_default();
    }
}

/// Encrypt `plain` into `buffer`; handshake bytes the library has to send before it go to `first`.
/// `incoming` is what the library has not discarded yet. No record has more than `limit` bytes of `plain`.
pub(super) fn encrypt_into(
    tls: &mut UnbufferedServerConnection,
    incoming: &mut Vec<u8>,
    plain: &[u8],
    limit: usize,
    buffer: &mut [u8],
    first: &mut Vec<u8>,
) -> Result<usize, TlsError> {
    loop {
        let UnbufferedStatus { discard, state } = tls.process_tls_records(incoming);
        let length = match state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                let mut length = 0;
                for part in plain.chunks(limit) {
                    let room = buffer.get_mut(length..).unwrap_or_default();
                    length += traffic.encrypt(part, room).map_err(|e| match e {
                        EncryptError::EncryptExhausted => TlsError::EncryptError,
                        EncryptError::InsufficientSize(_) => TlsError::General("encryption buffer is too small".into()),
                    })?;
                }
                Some(length)
            }
            ConnectionState::EncodeTlsData(mut data) => {
                append_encoded(first, |out| data.encode(out)).map_err(|_| TlsError::EncryptError)?;
                None
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                None
            }
            ConnectionState::PeerClosed => None,
            _ => return Err(TlsError::General("TLS is not ready to send".into())),
        };
        incoming.drain(..discard);
        if let Some(length) = length {
            return Ok(length);
        }
    }
}

pub(super) fn tls_is_over() -> TlsError {
    TlsError::General("TLS of this connection has ended".into())
}

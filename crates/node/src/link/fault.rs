//! What ends or breaks a connection, in words.
//!
//! Refuses to know how far it had come.

use crate::psk::PskFault;
use crate::ws::WsFault;
use rustls::Error as TlsError;
use std::io;

/// What ended or broke a connection while reading.
#[derive(Debug)]
pub enum LinkFault {
    Io(io::Error),
    Tls(TlsError),
    Psk(PskFault),
    WebSocket(WsFault),
    /// The peer sends record after record without data.
    Barren,
    /// The peer asks TLS for answer after answer and reads none.
    Unread,
    /// The TLS library panicked over what this peer sent: a defect, contained here so that it costs one connection.
    Panicked,
}

impl LinkFault {
    pub fn sentence(&self) -> String {
        match self {
            LinkFault::Io(e) => match e.kind() {
                io::ErrorKind::ConnectionReset => "peer reset the connection".into(),
                io::ErrorKind::TimedOut => "peer stopped answering on the network".into(),
                _ => format!("network failed: {e}"),
            },
            LinkFault::Tls(e) => format!("TLS failed: {e}"),
            LinkFault::Psk(fault) => fault.sentence(),
            LinkFault::WebSocket(fault) => fault.sentence(),
            LinkFault::Barren => "peer sent TLS records that carry nothing, one after the other".into(),
            LinkFault::Unread => "peer asked TLS for answers and read none".into(),
            LinkFault::Panicked => "TLS library failed on what the peer sent".into(),
        }
    }
}

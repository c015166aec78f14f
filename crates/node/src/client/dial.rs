//! From an address to a verified channel: TCP, TLS, WebSocket; and what each failure means to the caller.

use super::{ClientError, Transport};
use crate::config::ClientConfig;
use crate::http::{self, Answer};
use crate::tls;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConnection, Error as TlsError, StreamOwned};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

pub(super) fn gone(error: &io::Error) -> ClientError {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        return tls_error(tls, "");
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ClientError::new(
            "closed",
            "server closed the connection without a word",
            "look at its log",
        ),
        _ => ClientError::new("closed", format!("connection failed: {error}"), ""),
    }
}

pub(super) fn dial(config: &ClientConfig, timeout: Duration) -> Result<TcpStream, ClientError> {
    let target = format!("{}:{}", config.host, config.port);
    let addresses: Vec<_> = (config.host.trim_matches(['[', ']']), config.port)
        .to_socket_addrs()
        .map_err(|e| {
            ClientError::new(
                "dns",
                format!("{} has no address: {e}", config.host),
                "check the host name",
            )
        })?
        .collect();
    let mut last = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(socket) => {
                let _ = socket.set_nodelay(true);
                let _ = socket.set_read_timeout(Some(timeout));
                let _ = socket.set_write_timeout(Some(timeout));
                return Ok(socket);
            }
            Err(e) => last = Some(e),
        }
    }
    Err(match last {
        Some(e) if e.kind() == io::ErrorKind::ConnectionRefused => ClientError::new(
            "connection-refused",
            format!("nothing listens on {target}"),
            "start the broker (`sealmq up`), or check host and port",
        ),
        Some(e) if matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => ClientError::new(
            "timeout",
            format!("{target} does not answer"),
            "check the address and the firewall",
        ),
        Some(e) => ClientError::new("closed", format!("cannot connect to {target}: {e}"), ""),
        None => ClientError::new("dns", format!("{} has no address", config.host), "check the host name"),
    })
}

pub(super) fn secure(
    config: &ClientConfig,
    mut socket: TcpStream,
    is_websocket: bool,
) -> Result<Transport, ClientError> {
    let identity = config.certificate_pem.as_deref().zip(config.key_pem.as_deref());
    let alpn: &[u8] = if is_websocket { b"http/1.1" } else { b"mqtt" };
    let tls = tls::client_config(&config.ca_pem, identity, alpn)
        .map_err(|fault| ClientError::new(fault.code, fault.what, fault.mend))?;
    let host = config
        .server_name
        .as_deref()
        .unwrap_or(&config.host)
        .trim_matches(['[', ']'])
        .to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| {
        ClientError::new(
            "tls-name",
            format!("{host} is no host name or address"),
            "check the URL",
        )
    })?;
    let mut conn = ClientConnection::new(tls, name).map_err(|e| tls_error(&e, &host))?;
    while conn.is_handshaking() {
        match conn.complete_io(&mut socket) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(match e.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
                    Some(tls) => tls_error(tls, &host),
                    None => ClientError::new("tls-broken", format!("TLS handshake failed: {e}"), ""),
                });
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(ClientError::new(
                    "timeout",
                    "TLS handshake did not end in time",
                    "check what listens there",
                ));
            }
            Err(_) => {
                return Err(ClientError::new(
                    "tls-closed",
                    "server closed the connection during the TLS handshake",
                    "check that the port speaks TLS, and look at the log of the server",
                ));
            }
        }
    }
    Ok(Transport::Tls(Box::new(StreamOwned::new(conn, socket))))
}

/// What a TLS error means for somebody who wants to connect.
fn tls_error(error: &TlsError, host: &str) -> ClientError {
    match error {
        TlsError::InvalidCertificate(fault) => match fault {
            CertificateError::UnknownIssuer => ClientError::new(
                "tls-untrusted-issuer",
                "server certificate was not issued by the CA that was given",
                "give the CA of this broker: `sealmq ca export` there, --cafile here",
            ),
            // The names match and the key does not: a CA that was made anew, or a stranger that took its name.
            CertificateError::BadSignature => ClientError::new(
                "tls-untrusted-issuer",
                "server certificate names the CA that was given, but another key signed it",
                "give the CA of this broker: `sealmq ca export` there, --cafile here",
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => ClientError::new(
                "tls-wrong-name",
                format!("server certificate is not for {host}: {fault}"),
                "connect by a name in the certificate, or add this one to tls.extra_names of the broker",
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => ClientError::new(
                "tls-expired",
                format!("server certificate has expired: {fault}"),
                "renew it, or check the clock here",
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => ClientError::new(
                "tls-not-yet-valid",
                format!("server certificate is not valid yet: {fault}"),
                "check the clock here",
            ),
            other => ClientError::new(
                "tls-certificate",
                format!("server certificate cannot be accepted: {other}"),
                "",
            ),
        },
        TlsError::AlertReceived(alert) => ClientError::new(
            "tls-refused",
            format!("server ended the connection with TLS alert {alert:?}"),
            "the refusal record of the broker says why: `sealmq status` shows the last ones",
        ),
        TlsError::InvalidMessage(_) => ClientError::new(
            "tls-not-tls",
            "server does not speak TLS on this port",
            "check host and port",
        ),
        other => ClientError::new("tls-broken", format!("TLS failed: {other}"), ""),
    }
}

pub(super) fn upgrade(
    config: &ClientConfig,
    transport: &mut Transport,
    deadline: Instant,
) -> Result<Vec<u8>, ClientError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)
        .map_err(|e| ClientError::new("environment", format!("system has no randomness: {e}"), ""))?;
    let path = if config.path.is_empty() { "/mqtt" } else { &config.path };
    let request = http::request(&format!("{}:{}", config.host, config.port), path, &key)
        .map_err(|fault| ClientError::new("config-invalid", fault.sentence(), "check the URL"))?;
    transport.write_all(&request).map_err(|e| gone(&e))?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match http::accept_response(&answer, &key) {
            Answer::Open { consumed } => return Ok(answer.split_off(consumed)),
            Answer::Refused { cause, sentence } => {
                return Err(ClientError::new(cause, sentence, "check path and port of the URL"));
            }
            Answer::NeedMore if Instant::now() >= deadline => {
                return Err(ClientError::new(
                    "timeout",
                    "server did not answer the WebSocket request in time",
                    "",
                ));
            }
            Answer::NeedMore => match transport.read(&mut chunk) {
                Ok(0) => {
                    return Err(ClientError::new(
                        "closed",
                        "server closed the connection instead of a WebSocket",
                        "",
                    ));
                }
                Ok(n) => answer.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(e) => return Err(gone(&e)),
            },
        }
    }
}

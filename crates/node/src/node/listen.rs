//! Binding a listener; the error says which address and what to do.
//!
//! Refuses to know who connects.

use super::{NodeError, broken};
use crate::config::ListenerConfig;
use crate::gate::Listener;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Connections that the kernel may hold for us; it takes the lower of this and net.core.somaxconn. In a flood a newcomer
/// waits in this line instead of for a second SYN.
const BACKLOG: i32 = 4096;
/// Silence after which TCP asks whether the peer is still there, and the pause between two questions.
const TCP_IDLE: Duration = Duration::from_secs(300);
const TCP_PROBE: Duration = Duration::from_secs(30);

/// Bind and listen; the error says which address and what to do.
pub(super) fn listen(config: &ListenerConfig) -> Result<(Listener, String), NodeError> {
    let text = &config.address;
    let address: SocketAddr = text
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .ok_or_else(|| {
            NodeError::new(
                "address-invalid",
                format!(
                    "{} address {text} is not HOST:PORT, or the host has no address",
                    config.kind.name()
                ),
                "give HOST:PORT such as 127.0.0.1:8883 or [::]:8883",
            )
        })?;
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::AddrInUse => NodeError::new(
            "address-in-use",
            format!("{text} is in use by another program"),
            format!(
                "stop that program (`ss -ltnp | grep :{}` names it), or choose another address",
                address.port()
            ),
        ),
        io::ErrorKind::PermissionDenied => NodeError::new(
            "permission-denied",
            format!("{text} needs privileges that this process does not have"),
            "choose a port above 1023, or give the process CAP_NET_BIND_SERVICE",
        ),
        io::ErrorKind::AddrNotAvailable => NodeError::new(
            "address-not-available",
            format!("{text} is no address of this machine"),
            "choose an address of this machine, or 0.0.0.0 for all of them",
        ),
        _ => NodeError::new("environment", format!("cannot listen on {text}: {e}"), ""),
    };
    let bind = || -> io::Result<mio::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Connections have both from their listener (tcp(7)). A peer that vanished with keep-alive 0 is found by TCP, if by
        // nobody else.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_IDLE).with_interval(TCP_PROBE));
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(mio::net::TcpListener::from_std(socket.into()))
    };
    let socket = bind().map_err(failed)?;
    let real = socket
        .local_addr()
        .map_err(|e| broken("cannot read the address of a listener", &e))?
        .to_string();
    let name: Arc<str> = format!("{} {real}", config.kind.name()).into();
    Ok((
        Listener {
            socket,
            kind: config.kind,
            name,
        },
        real,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenerKind;
    use socket2::SockRef;

    #[test]
    fn connections_have_what_was_set_for_their_listener() {
        let config = ListenerConfig {
            kind: ListenerKind::Mqtts,
            address: "127.0.0.1:0".into(),
        };
        let (listener, address) = listen(&config).unwrap();
        let _peer = std::net::TcpStream::connect(address).unwrap();
        let (stream, _) = loop {
            match listener.socket.accept() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                accepted => break accepted.unwrap(),
            }
        };
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    }
}

//! Binding a listener; the error says which address and what to do.
//!
//! Refuses to know who connects.

use super::{NodeError, broken};
use crate::config::ListenerConfig;
use crate::gate::Listener;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

/// Connections that the kernel may hold for us; it takes the lower of this and net.core.somaxconn. In a flood a newcomer
/// waits in this line instead of for a second SYN.
const BACKLOG: i32 = 4096;

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

//! From an address to a verified channel: names, TCP, TLS, WebSocket.
//!
//! Refuses to know MQTT. One deadline holds for all of it, so that a server which drips bytes wins nothing.

use super::channel::Channel;
use super::config::ClientConfig;
use super::fault::{ClientError, misuse};
use super::tls::Tls;
use super::trust::Tickets;
use crate::http::{self, Answer};
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The socket in the poll.
pub(super) const SOCKET: Token = Token(0);
/// Bytes of an answer to the WebSocket request.
const MAX_ANSWER: usize = 64 * 1024;

/// A verified channel, registered with `poll`, and MQTT bytes that came with its establishment.
pub(super) fn establish(
    config: &ClientConfig,
    tickets: &Tickets,
    poll: &mut Poll,
    deadline: Instant,
    is_wanted: &dyn Fn() -> bool,
) -> Result<(Channel, Vec<u8>), ClientError> {
    // What is wrong with the configuration is told before the network is asked.
    let tls = match (config.scheme.as_str(), &config.psk) {
        ("mqtts+psk", Some(psk)) => Some(Tls::pre_shared(psk, &config.psk_offer())?),
        ("mqtts+psk", None) => return Err(misuse("mqtts+psk has no pre-shared key")),
        (scheme, Some(_)) => return Err(misuse(&format!("a pre-shared key is of no use to {scheme}"))),
        ("mqtt", None) if config.allow_plaintext => None,
        ("mqtt", None) => {
            return Err(ClientError::new(
                "plaintext-refused",
                "mqtt:// would send everything in clear",
                "use mqtts://, or permit plaintext in the [dangerous] table",
            ));
        }
        ("mqtts" | "wss", None) => Some(Tls::certified(tickets, config.server_name(), &config.offer())?),
        (other, None) => return Err(misuse(&format!("scheme {other} is not known"))),
    };
    let socket = dial(config, deadline)?;
    let mut channel = Channel::new(mio::net::TcpStream::from_std(socket), tls);
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut channel.socket, SOCKET, interest)
        .map_err(|e| ClientError::new("environment", format!("socket cannot be watched: {e}"), ""))?;
    let mut wait = Wait {
        poll,
        deadline,
        is_wanted,
        is_ended: false,
    };
    let mut early = Vec::new();
    channel.flush()?;
    while channel.is_handshaking() {
        wait.turn(&mut channel, &mut early, "TLS handshake did not end in time")?;
    }
    if config.scheme == "wss" {
        early = upgrade(config, &mut channel, early, &mut wait)?;
    }
    Ok((channel, early))
}

/// Waiting for the server while the channel is made.
struct Wait<'a> {
    poll: &'a mut Poll,
    deadline: Instant,
    is_wanted: &'a dyn Fn() -> bool,
    /// The server has ended its side.
    is_ended: bool,
}

impl Wait<'_> {
    /// Wait for the network once, and read and write what it allows.
    fn turn(&mut self, channel: &mut Channel, plain: &mut Vec<u8>, what: &'static str) -> Result<(), ClientError> {
        if self.is_ended {
            let what = "server closed the connection before MQTT";
            return Err(ClientError::new("closed", what, "look at its log"));
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ClientError::new("timeout", what, "check what listens there"));
        }
        let mut events = Events::with_capacity(4);
        match self.poll.poll(&mut events, Some(left)) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                return Err(ClientError::new("environment", format!("waiting failed: {e}"), ""));
            }
            _ => {}
        }
        if !(self.is_wanted)() {
            return Err(ClientError::new("closed", "this side has disconnected", ""));
        }
        loop {
            let read = channel.read(plain);
            channel.flush()?; // an alert has to leave too
            let found = read?;
            if found.ended {
                self.is_ended = true; // what it said before is looked at first
                return Ok(());
            }
            if !found.more {
                return Ok(());
            }
        }
    }
}

fn dial(config: &ClientConfig, deadline: Instant) -> Result<TcpStream, ClientError> {
    let target = format!("{}:{}", config.host, config.port);
    let addresses: Vec<SocketAddr> = (config.host.trim_matches(['[', ']']), config.port)
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
    for (tried, address) in addresses.iter().enumerate() {
        // A silent address must not use up the time of the next one.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - tried) as u32;
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(socket) => {
                let _ = socket.set_nodelay(true);
                socket
                    .set_nonblocking(true)
                    .map_err(|e| ClientError::new("environment", format!("socket cannot be used: {e}"), ""))?;
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

/// Open the WebSocket; what came behind the answer, unframed.
fn upgrade(
    config: &ClientConfig,
    channel: &mut Channel,
    mut answer: Vec<u8>,
    wait: &mut Wait<'_>,
) -> Result<Vec<u8>, ClientError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)
        .map_err(|e| ClientError::new("environment", format!("system has no randomness: {e}"), ""))?;
    let path = if config.path.is_empty() { "/mqtt" } else { &config.path };
    let mut request = http::request(&format!("{}:{}", config.host, config.port), path, &key)
        .map_err(|fault| ClientError::new("config-invalid", fault.sentence(), "check the URL"))?;
    channel.write(&mut request);
    channel.flush()?;
    loop {
        match http::accept_response(&answer, &key) {
            Answer::Open { consumed } => {
                let mut framed = answer.split_off(consumed);
                let mut plain = Vec::new();
                channel.speak_websocket(config.bounds.max_packet as usize);
                channel.unframe(&mut framed, &mut plain)?;
                return Ok(plain);
            }
            Answer::Refused { cause, sentence } => {
                return Err(ClientError::new(cause, sentence, "check path and port of the URL"));
            }
            Answer::NeedMore if answer.len() > MAX_ANSWER => {
                return Err(super::fault::peer_fault(
                    "server answers the WebSocket request without end",
                ));
            }
            Answer::NeedMore => {
                let what = "server did not answer the WebSocket request in time";
                wait.turn(channel, &mut answer, what)?;
            }
        }
    }
}

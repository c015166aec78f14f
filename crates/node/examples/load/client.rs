//! One client: TLS over a non-blocking socket, packets by the codec.
//!
//! Refuses to know what the load is: it answers what MQTT wants answered and counts what arrives.

use crate::Outcome;
use crate::options::Options;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind};
use sealmq_codec::{
    Ack, Connect, Disconnect, FilterBuf, Framed, Packet, Properties, Publish, QoS, Subscribe, SubscribeOptions,
    Version, frame,
};
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Addresses that the clients come from.
const SOURCES: usize = 200;

/// What becomes of a client's session when it is away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Session {
    Clean,
    Kept,
}

/// What the clients of a load have come to, together.
pub struct Tally {
    pub connected: usize,
    pub subscribed: usize,
    pub pongs: usize,
    pub received: usize,
    pub acknowledged: usize,
    /// Of the time stamps in messages.
    pub began: Instant,
    /// From the time in a message to its arrival, nanoseconds; collected where messages have one.
    pub latencies: Option<Vec<u64>>,
}

impl Tally {
    pub fn new() -> Tally {
        Tally {
            connected: 0,
            subscribed: 0,
            pongs: 0,
            received: 0,
            acknowledged: 0,
            began: Instant::now(),
            latencies: None,
        }
    }
}

pub struct Client {
    stream: TcpStream,
    tls: ClientConnection,
    plain: Vec<u8>,
    outgoing: Vec<u8>,
    is_bare: bool,
    has_left: bool,
    pub connected: bool,
    pub received: usize,
    pub acknowledged: usize,
    sent: usize,
    /// When the PUBLISH packets that are not acknowledged yet were handed over, oldest first; where that is asked for.
    pub waiting: VecDeque<Instant>,
    /// How long the others waited.
    pub waited: Vec<Duration>,
}

impl Client {
    /// Begin to connect as client `number`, in these groups of the bare relay, if it is that.
    pub fn dial(
        options: &Options,
        (number, session): (usize, Session),
        groups: (u16, u16),
        (registry, token): (&Registry, usize),
    ) -> Outcome<Client> {
        let mut stream = connect_from(number, options.address)?;
        registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        let mut tls = ClientConnection::new(Arc::clone(&options.tls), ServerName::try_from("localhost")?)?;
        tls.set_buffer_limit(None);
        let mut client = Client {
            stream,
            tls,
            plain: Vec::new(),
            outgoing: Vec::new(),
            is_bare: options.is_bare(),
            has_left: false,
            connected: false,
            received: 0,
            acknowledged: 0,
            sent: 0,
            waiting: VecDeque::new(),
            waited: Vec::new(),
        };
        if client.is_bare {
            client.join(groups);
        } else {
            let name = format!("{}:{number}", options.id);
            client.say(&Packet::Connect(Connect {
                version: Version::V311,
                clean_start: session == Session::Clean,
                keep_alive: options.number("keep-alive", 600) as u16,
                properties: Properties::EMPTY,
                client_id: &name,
                will: None,
                username: None,
                password: None,
            }));
        }
        Ok(client)
    }

    /// Tell the bare relay to which group this client speaks and which it hears; the relay answers when that stands.
    fn join(&mut self, groups: (u16, u16)) {
        self.outgoing.extend_from_slice(&groups.0.to_be_bytes());
        self.outgoing.extend_from_slice(&groups.1.to_be_bytes());
    }

    /// Append to what leaves with the next [`Client::send`].
    fn say(&mut self, packet: &Packet<'_>) {
        packet.encode(Version::V311, &mut self.outgoing);
    }

    /// One SUBSCRIBE with these filters.
    pub fn subscribe(&mut self, filters: &[String], qos: QoS) -> Outcome<()> {
        let mut list = FilterBuf::new();
        for filter in filters {
            list.push(Version::V311, filter, SubscribeOptions::plain(qos));
        }
        self.say(&Packet::Subscribe(Subscribe {
            packet_id: 1,
            properties: Properties::EMPTY,
            filters: list.as_filters(Version::V311),
        }));
        self.send()
    }

    /// Append `count` messages to what leaves with the next [`Client::send`].
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, count: usize) {
        for _ in 0..count {
            self.sent += 1;
            let packet_id = match qos {
                QoS::AtMostOnce => 0,
                _ => (self.sent % 65_535) as u16 + 1,
            };
            let publish = Publish {
                dup: false,
                qos,
                retain: false,
                topic,
                packet_id,
                properties: Properties::EMPTY,
                payload,
            };
            Packet::Publish(publish).encode(Version::V311, &mut self.outgoing);
        }
    }

    pub fn ping(&mut self) -> Outcome<()> {
        self.say(&Packet::Pingreq);
        self.send()
    }

    /// DISCONNECT and close_notify; the socket closes when the client is dropped.
    pub fn leave(&mut self) -> Outcome<()> {
        if !self.is_bare {
            self.say(&Packet::Disconnect(Disconnect {
                reason: 0,
                properties: Properties::EMPTY,
            }));
        }
        self.send()?;
        self.tls.send_close_notify();
        self.has_left = true;
        self.send()
    }

    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Write what TLS has, read what the network has, count what it means.
    pub fn turn(&mut self, tally: &mut Tally) -> Outcome<()> {
        if self.has_left {
            return Ok(());
        }
        loop {
            match self.tls.read_tls(&mut self.stream) {
                Ok(0) => return Err("broker closed the connection".into()),
                Ok(_) => {
                    let mut length = self.tls.process_new_packets()?.plaintext_bytes_to_read();
                    while length > 0 {
                        let start = self.plain.len();
                        self.plain.resize(start + length, 0);
                        self.tls.reader().read_exact(&mut self.plain[start..])?;
                        length = self.tls.process_new_packets()?.plaintext_bytes_to_read();
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(e) => return Err(e.into()),
            }
        }
        let plain = std::mem::take(&mut self.plain);
        let mut used = 0;
        while let Framed::Whole(whole) = frame(&plain[used..], 1 << 28)? {
            used += whole.size;
            self.hear(&Packet::decode(Version::V311, whole)?, tally)?;
        }
        self.plain = plain;
        self.plain.drain(..used);
        self.send()
    }

    fn hear(&mut self, packet: &Packet<'_>, tally: &mut Tally) -> Outcome<()> {
        match packet {
            Packet::Connack(connack) if connack.code == 0 => {
                self.connected = true;
                tally.connected += 1;
            }
            Packet::Connack(connack) => return Err(format!("CONNACK {}", connack.code).into()),
            Packet::Suback(codes) if codes.codes.iter().all(|&c| c < 0x80) => tally.subscribed += 1,
            Packet::Suback(_) => return Err("subscription refused".into()),
            Packet::Publish(publish) => {
                self.received += 1;
                tally.received += 1;
                if let Some(latencies) = &mut tally.latencies
                    && let Some(stamp) = publish.payload.first_chunk()
                {
                    let now = tally.began.elapsed().as_nanos() as u64;
                    latencies.push(now.saturating_sub(u64::from_be_bytes(*stamp)));
                }
                let ack = ack(publish.packet_id);
                match publish.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => self.say(&Packet::Puback(ack)),
                    QoS::ExactlyOnce => self.say(&Packet::Pubrec(ack)),
                }
            }
            Packet::Puback(_) | Packet::Pubcomp(_) => {
                self.acknowledged += 1;
                tally.acknowledged += 1;
                self.waited.extend(self.waiting.pop_front().map(|at| at.elapsed()));
            }
            Packet::Pubrec(heard) => self.say(&Packet::Pubrel(ack(heard.packet_id))),
            Packet::Pubrel(heard) => self.say(&Packet::Pubcomp(ack(heard.packet_id))),
            Packet::Pingresp => tally.pongs += 1,
            _ => {}
        }
        Ok(())
    }

    /// Everything said since the last time leaves, in as few records as it fits in.
    pub fn send(&mut self) -> Outcome<()> {
        if !self.outgoing.is_empty() {
            self.tls.writer().write_all(&self.outgoing)?;
            self.outgoing.clear();
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// As the devices of a fleet do: from addresses of their own, or some hundred of them on this machine.
fn connect_from(number: usize, address: SocketAddr) -> Outcome<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if address.ip() == Ipv4Addr::LOCALHOST {
        let own = Ipv4Addr::new(127, 0, 0, (number % SOURCES) as u8 + 1);
        socket.bind(&SocketAddr::from((own, 0)).into())?;
    }
    match socket.connect(&address.into()) {
        Err(e) if e.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(e.into()),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

fn ack(packet_id: u16) -> Ack<'static> {
    Ack {
        packet_id,
        reason: 0,
        properties: Properties::EMPTY,
    }
}

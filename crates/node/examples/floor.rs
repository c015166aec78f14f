//! The floor of a broker: one epoll thread that relays over the same TLS library, with the same certificates, and knows
//! no MQTT. What a broker spends beyond it is what MQTT, its rules and its books cost.
//!
//! ```text
//! floor HOST:PORT CA CERT KEY        prints `ready HOST:PORT`
//! ```
//! Mutual TLS, one ticket for each handshake, unbuffered as the node's: plaintext is decrypted in a buffer of the thread,
//! an idle connection keeps keys and nothing else, and what a turn has for a connection leaves in one write. A client's
//! first four bytes are two groups: the one it speaks to and the one it hears; it is answered with the four bytes of a
//! CONNACK. Everything after that goes as it is to all who hear its group. Refuses to drop: a slow reader's bytes are kept.

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError};
use rustls::{RootCertStore, ServerConfig};
use std::collections::HashMap;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

type Outcome<T> = Result<T, Box<dyn Error>>;

const LISTENER: Token = Token(usize::MAX);
const READ_SIZE: usize = 64 * 1024;
/// Unfinished records and handshake messages, before what is read now.
const CARRY: usize = 80 * 1024;
const RECORD: usize = 16 * 1024;
const CHUNK: usize = 112 * 1024;
/// Bytes of a connection's first message, and what it is answered with.
const GREETING: usize = 4;
const WELCOME: [u8; GREETING] = [0x20, 0x02, 0x00, 0x00];

struct Seat {
    stream: TcpStream,
    tls: UnbufferedServerConnection,
    /// The start of a record whose rest has not arrived.
    incoming: Vec<u8>,
    /// Ciphertext that the network did not take yet.
    outgoing: Vec<u8>,
    /// Plaintext of this turn for this connection.
    outbox: Vec<u8>,
    greeting: Vec<u8>,
    /// The groups it speaks to and hears, once it has said so.
    groups: Option<(u16, u16)>,
    is_dirty: bool,
}

struct Floor {
    poll: Poll,
    seats: Vec<Option<Box<Seat>>>,
    free: Vec<usize>,
    hearers: HashMap<u16, Vec<usize>>,
    dirty: Vec<usize>,
    cipher: Vec<u8>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

fn config(ca: &str, cert: &str, key: &str) -> Outcome<Arc<ServerConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

impl Seat {
    /// Read once and decrypt into `plain`; `false` when the peer is done, and whether the socket may have more.
    fn read(&mut self, cipher: &mut [u8], plain: &mut Vec<u8>) -> Outcome<(bool, bool)> {
        let carried = self.incoming.len();
        cipher[..carried].copy_from_slice(&self.incoming);
        let received = match self.stream.read(&mut cipher[carried..carried + READ_SIZE]) {
            Ok(0) => return Ok((false, false)),
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok((true, false)),
            Err(e) => return Err(e.into()),
        };
        let bytes = &mut cipher[..carried + received];
        let mut used = 0;
        let mut is_open = true;
        loop {
            let status = self.tls.process_tls_records(&mut bytes[used..]);
            let discard = status.discard;
            let is_blocked = match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        plain.extend_from_slice(record?.payload);
                    }
                    false
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(&mut self.outgoing, |room| data.encode(room))?;
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::PeerClosed => {
                    is_open = false;
                    false
                }
                _ => true,
            };
            used += discard;
            if is_blocked {
                break;
            }
        }
        self.incoming.clear();
        self.incoming.extend_from_slice(&bytes[used..]);
        Ok((is_open, received == READ_SIZE))
    }

    /// Encrypt the outbox and write it; what the network does not take is kept.
    fn flush(&mut self, sealed: &mut [u8]) -> Outcome<()> {
        for chunk in self.outbox.chunks(CHUNK) {
            let status = self.tls.process_tls_records(&mut self.incoming);
            let ConnectionState::WriteTraffic(mut traffic) = status.state? else {
                return Err("TLS is not ready to send".into());
            };
            let mut length = 0;
            for part in chunk.chunks(RECORD) {
                length += traffic.encrypt(part, &mut sealed[length..])?;
            }
            let written = if self.outgoing.is_empty() {
                write(&mut self.stream, &sealed[..length])?
            } else {
                0
            };
            self.outgoing.extend_from_slice(&sealed[written..length]);
        }
        self.outbox.clear();
        let written = write(&mut self.stream, &self.outgoing)?;
        self.outgoing.drain(..written);
        if self.outgoing.is_empty() {
            self.outgoing = Vec::new();
        }
        Ok(())
    }
}

fn append(out: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) -> Outcome<()> {
    let start = out.len();
    let mut room = 1024;
    loop {
        out.resize(start + room, 0);
        match encode(&mut out[start..]) {
            Ok(length) => {
                out.truncate(start + length);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => room = required_size,
            Err(e) => return Err(e.into()),
        }
    }
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> Outcome<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(n) => written += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(written)
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener, config: &Arc<ServerConfig>) -> Outcome<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or(self.seats.len());
            if index == self.seats.len() {
                self.seats.push(None);
            }
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(index), interest)?;
            self.seats[index] = Some(Box::new(Seat {
                stream,
                tls: UnbufferedServerConnection::new(Arc::clone(config))?,
                incoming: Vec::new(),
                outgoing: Vec::new(),
                outbox: Vec::new(),
                greeting: Vec::new(),
                groups: None,
                is_dirty: false,
            }));
        }
    }

    fn read(&mut self, index: usize) {
        while let Some(seat) = self.seats[index].as_mut() {
            self.plain.clear();
            let read = seat.read(&mut self.cipher, &mut self.plain);
            if !seat.outgoing.is_empty() {
                mark(&mut self.dirty, seat, index);
            }
            self.relay(index);
            match read {
                Ok((true, true)) => {}
                Ok((true, false)) => return,
                _ => return self.unseat(index),
            }
        }
    }

    fn relay(&mut self, index: usize) {
        let Some(seat) = self.seats[index].as_mut() else { return };
        let mut plain: &[u8] = &self.plain;
        if seat.groups.is_none() {
            let (greeting, rest) = plain.split_at(plain.len().min(GREETING - seat.greeting.len()));
            seat.greeting.extend_from_slice(greeting);
            plain = rest;
            let [s, t, h, i] = seat.greeting[..] else { return };
            let (speaks, hears) = (u16::from_be_bytes([s, t]), u16::from_be_bytes([h, i]));
            seat.groups = Some((speaks, hears));
            seat.outbox.extend_from_slice(&WELCOME);
            mark(&mut self.dirty, seat, index);
            self.hearers.entry(hears).or_default().push(index);
        }
        if let Some(group) = seat.groups.map(|(speaks, _)| speaks)
            && !plain.is_empty()
        {
            for &hearer in self.hearers.get(&group).into_iter().flatten() {
                if let Some(seat) = self.seats[hearer].as_mut() {
                    seat.outbox.extend_from_slice(plain);
                    mark(&mut self.dirty, seat, hearer);
                }
            }
        }
    }

    fn unseat(&mut self, index: usize) {
        let Some(seat) = self.seats[index].take() else { return };
        if let Some((_, hears)) = seat.groups
            && let Some(hearers) = self.hearers.get_mut(&hears)
        {
            // The last to come is the first to go, for most.
            if let Some(at) = hearers.iter().rposition(|&hearer| hearer == index) {
                hearers.swap_remove(at);
            }
        }
        self.free.push(index);
    }

    fn flush_all(&mut self) {
        for index in std::mem::take(&mut self.dirty) {
            let Some(seat) = self.seats[index].as_mut() else {
                continue;
            };
            seat.is_dirty = false;
            if seat.flush(&mut self.sealed).is_err() {
                self.unseat(index);
            }
        }
    }
}

fn mark(dirty: &mut Vec<usize>, seat: &mut Seat, index: usize) {
    if !seat.is_dirty {
        seat.is_dirty = true;
        dirty.push(index);
    }
}

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, ca, cert, key] = words.as_slice() else {
        return Err("usage: floor HOST:PORT CA CERT KEY".into());
    };
    let config = config(ca, cert, key)?;
    let mut listener = TcpListener::bind(address.parse()?)?;
    println!("ready {}", listener.local_addr()?);
    let mut floor = Floor {
        poll: Poll::new()?,
        seats: Vec::new(),
        free: Vec::new(),
        hearers: HashMap::new(),
        dirty: Vec::new(),
        cipher: vec![0; CARRY + READ_SIZE],
        plain: Vec::with_capacity(READ_SIZE),
        sealed: vec![0; CHUNK + CHUNK / 8],
    };
    floor
        .poll
        .registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    loop {
        floor.poll.poll(&mut events, None)?;
        let mut is_asked = false;
        for event in &events {
            let Token(index) = event.token();
            if event.token() == LISTENER {
                is_asked = true;
            } else {
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    floor.read(index);
                }
                if event.is_writable()
                    && let Some(seat) = floor.seats[index].as_mut()
                    && !seat.outgoing.is_empty()
                {
                    mark(&mut floor.dirty, seat, index);
                }
            }
        }
        floor.flush_all();
        // Last, so that no event of this turn is taken for one of a connection that took the place of another.
        if is_asked {
            floor.accept(&listener, &config)?;
        }
    }
}

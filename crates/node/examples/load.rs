//! A load generator for any MQTT broker over TLS 1.3 with client certificates: one thread, real sockets, one JSON line.
//!
//! Measures the *broker's* processor time and memory from /proc, which is steadier than rates on a shared machine.
//! Driven by `make bench`; by hand:
//!
//! ```text
//! load pairs      ADDR PID CA CERT KEY ID --pairs 4 --count 50000 --size 64 --qos 0 --window 1000
//! load idle       ADDR PID CA CERT KEY ID --count 1000
//! load handshakes ADDR PID CA CERT KEY ID --count 500
//! load durable    ADDR PID CA CERT KEY ID --publishers 100 --count 1000 --window 1 --sessions 1 --attend 0
//! ```
//! Refuses to know which broker it loads.

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use sealmq_codec::{
    Ack, Connect, Disconnect, FilterBuf, Framed, Packet, Properties, Publish, QoS, Subscribe, SubscribeOptions,
    Version, frame,
};
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Nothing here takes longer; a broker that stops answering ends the run with an error.
const PATIENCE: Duration = Duration::from_secs(120);

struct Options {
    mode: String,
    address: SocketAddr,
    pid: u32,
    tls: Arc<ClientConfig>,
    id: String,
    named: HashMap<String, usize>,
}

impl Options {
    fn parse() -> Outcome<Options> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let [mode, address, pid, ca, cert, key, id, rest @ ..] = words.as_slice() else {
            return Err("usage: load pairs|idle|handshakes|durable ADDR PID CA CERT KEY ID [--name number]...".into());
        };
        let mut named = HashMap::new();
        for pair in rest.chunks(2) {
            if let [name, value] = pair {
                named.insert(name.trim_start_matches("--").to_owned(), value.parse()?);
            }
        }
        let tls = Arc::new(client_config(ca, cert, key)?);
        Ok(Options {
            mode: mode.clone(),
            address: address.parse()?,
            pid: pid.parse()?,
            tls,
            id: id.clone(),
            named,
        })
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.named.get(name).copied().unwrap_or(default)
    }
}

fn client_config(ca: &str, cert: &str, key: &str) -> Outcome<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // The group that every broker has, so that handshakes cost the same mathematics.
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// What becomes of a client's session when it is away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Session {
    Clean,
    Kept,
}

/// One client: TLS over a non-blocking socket, packets by the codec.
struct Client {
    stream: TcpStream,
    tls: ClientConnection,
    plain: Vec<u8>,
    connected: bool,
    subscribed: bool,
    received: usize,
    acknowledged: usize,
    /// When the PUBLISH packets that are not acknowledged yet were handed over, oldest first.
    waiting: VecDeque<Instant>,
    /// How long the others waited.
    waited: Vec<Duration>,
}

impl Client {
    fn dial(options: &Options, number: usize, poll: &Poll, token: usize) -> Outcome<Client> {
        Client::dial_as(options, number, poll, token, Session::Clean)
    }

    fn dial_as(options: &Options, number: usize, poll: &Poll, token: usize, session: Session) -> Outcome<Client> {
        let mut stream = TcpStream::connect(options.address)?;
        poll.registry()
            .register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        let mut tls = ClientConnection::new(Arc::clone(&options.tls), ServerName::try_from("localhost")?)?;
        tls.set_buffer_limit(None);
        let mut client = Client {
            stream,
            tls,
            plain: Vec::new(),
            connected: false,
            subscribed: false,
            received: 0,
            acknowledged: 0,
            waiting: VecDeque::new(),
            waited: Vec::new(),
        };
        let name = format!("{}:{number}", options.id);
        client.say(&Packet::Connect(Connect {
            version: Version::V311,
            clean_start: session == Session::Clean,
            keep_alive: 0,
            properties: Properties::EMPTY,
            client_id: &name,
            will: None,
            username: None,
            password: None,
        }))?;
        Ok(client)
    }

    fn say(&mut self, packet: &Packet<'_>) -> Outcome<()> {
        let mut bytes = Vec::new();
        packet.encode(Version::V311, &mut bytes);
        self.tls.writer().write_all(&bytes)?;
        Ok(())
    }

    /// Write what TLS has, read what the network has, count what it means.
    fn turn(&mut self) -> Outcome<()> {
        loop {
            match self.tls.read_tls(&mut self.stream) {
                Ok(0) => return Err("broker closed the connection".into()),
                Ok(_) => {
                    let state = self.tls.process_new_packets()?;
                    let mut length = state.plaintext_bytes_to_read();
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
            match Packet::decode(Version::V311, whole)? {
                Packet::Connack(connack) if connack.code == 0 => self.connected = true,
                Packet::Connack(connack) => return Err(format!("CONNACK {}", connack.code).into()),
                Packet::Suback(codes) if codes.codes.iter().all(|&c| c < 0x80) => self.subscribed = true,
                Packet::Suback(_) => return Err("subscription refused".into()),
                Packet::Publish(publish) => {
                    self.received += 1;
                    let ack = Ack {
                        packet_id: publish.packet_id,
                        reason: 0,
                        properties: Properties::EMPTY,
                    };
                    match publish.qos {
                        QoS::AtMostOnce => {}
                        QoS::AtLeastOnce => self.say(&Packet::Puback(ack))?,
                        QoS::ExactlyOnce => self.say(&Packet::Pubrec(ack))?,
                    }
                }
                Packet::Puback(_) | Packet::Pubcomp(_) => {
                    self.acknowledged += 1;
                    self.waited.extend(self.waiting.pop_front().map(|at| at.elapsed()));
                }
                Packet::Pubrec(ack) => self.say(&Packet::Pubrel(ack))?,
                Packet::Pubrel(ack) => self.say(&Packet::Pubcomp(ack))?,
                _ => {}
            }
        }
        self.plain = plain;
        self.plain.drain(..used);
        self.push()
    }

    fn push(&mut self) -> Outcome<()> {
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

/// User and system time of the broker, microseconds; ticks are those of Linux (100 a second) unless schedstat tells
/// nanoseconds.
fn broker_cpu(pid: u32) -> Outcome<f64> {
    let mut total = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        total += text.split_whitespace().next().unwrap_or("0").parse::<f64>()? / 1000.0;
    }
    Ok(total)
}

/// Resident memory of the broker, bytes.
fn broker_rss(pid: u32) -> Outcome<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse::<f64>()? * 1024.0)
}

/// Turn until `done`, serving whoever the poll names.
fn until(poll: &mut Poll, clients: &mut [Client], mut work: impl FnMut(&mut [Client]) -> Outcome<bool>) -> Outcome<()> {
    let mut events = Events::with_capacity(1024);
    let began = Instant::now();
    while !work(clients)? {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            if let Some(client) = clients.get_mut(event.token().0) {
                client.turn()?;
            }
        }
        if began.elapsed() > PATIENCE {
            let (received, acknowledged) = clients
                .iter()
                .fold((0, 0), |(r, a), c| (r + c.received, a + c.acknowledged));
            return Err(format!("no end in sight: {received} received, {acknowledged} acknowledged").into());
        }
    }
    Ok(())
}

fn pairs(options: &Options) -> Outcome<()> {
    let (pairs, count, size) = (
        options.number("pairs", 4),
        options.number("count", 50_000),
        options.number("size", 64),
    );
    let window = options.number("window", 1000);
    let qos = QoS::from_bits(options.number("qos", 0) as u8).ok_or("QoS is 0, 1 or 2")?;
    let mut poll = Poll::new()?;
    let mut clients = Vec::new();
    for number in 0..pairs * 2 {
        clients.push(Client::dial(options, number, &poll, number)?);
    }
    until(&mut poll, &mut clients, |c| Ok(c.iter().all(|c| c.connected)))?;
    let topic = |pair: usize| format!("shared/bench/{pair}");
    for pair in 0..pairs {
        let mut filters = FilterBuf::new();
        filters.push(Version::V311, &topic(pair), SubscribeOptions::plain(qos));
        let filters = filters.as_filters(Version::V311);
        let client = &mut clients[pairs + pair];
        client.say(&Packet::Subscribe(Subscribe {
            packet_id: 1,
            properties: Properties::EMPTY,
            filters,
        }))?;
        client.push()?;
    }
    until(&mut poll, &mut clients, |c| Ok(c[pairs..].iter().all(|c| c.subscribed)))?;
    let payload = vec![b'x'; size];
    let mut sent = vec![0usize; pairs];
    let mut frames = Vec::new();
    let (cpu, began) = (broker_cpu(options.pid)?, Instant::now());
    until(&mut poll, &mut clients, |clients| {
        let mut done = true;
        for pair in 0..pairs {
            let arrived = clients[pairs + pair].received;
            let open = match qos {
                QoS::AtMostOnce => window.saturating_sub(sent[pair] - arrived),
                _ => window.saturating_sub(sent[pair] - clients[pair].acknowledged.min(arrived)),
            };
            // In batches of at least half a window, as a busy gateway would; the rest at the end.
            if open >= window / 2 && sent[pair] < count {
                frames.clear();
                for _ in 0..open.min(count - sent[pair]) {
                    sent[pair] += 1;
                    let packet_id = if qos == QoS::AtMostOnce {
                        0
                    } else {
                        (sent[pair] % 65_535) as u16 + 1
                    };
                    let publish = Publish {
                        dup: false,
                        qos,
                        retain: false,
                        topic: &topic(pair),
                        packet_id,
                        properties: Properties::EMPTY,
                        payload: &payload,
                    };
                    Packet::Publish(publish).encode(Version::V311, &mut frames);
                }
                clients[pair].tls.writer().write_all(&frames)?;
                clients[pair].push()?;
            }
            done &= arrived >= count && (qos == QoS::AtMostOnce || clients[pair].acknowledged >= count);
        }
        Ok(done)
    })?;
    let delivered = (pairs * count) as f64;
    let (seconds, used) = (began.elapsed().as_secs_f64(), broker_cpu(options.pid)? - cpu);
    println!(
        "{{\"mode\": \"pairs\", \"qos\": {}, \"delivered\": {delivered}, \"seconds\": {seconds:.3}, \"broker_cpu_us_per_message\": {:.4}, \"messages_per_second\": {:.0}}}",
        qos as u8,
        used / delivered,
        delivered / seconds
    );
    Ok(())
}

/// QoS 1 messages for sessions that the broker has to keep: how many it acknowledges in a second, and how long each waits.
fn durable(options: &Options) -> Outcome<()> {
    let (publishers, count) = (options.number("publishers", 10), options.number("count", 1000));
    let (window, sessions) = (options.number("window", 1), options.number("sessions", 1));
    let mut poll = Poll::new()?;
    let mut keepers = Vec::new();
    for number in 0..sessions {
        keepers.push(Client::dial_as(
            options,
            100_000 + number,
            &poll,
            number,
            Session::Kept,
        )?);
    }
    until(&mut poll, &mut keepers, |c| Ok(c.iter().all(|c| c.connected)))?;
    for keeper in &mut keepers {
        let mut filters = FilterBuf::new();
        filters.push(
            Version::V311,
            "shared/bench/#",
            SubscribeOptions::plain(QoS::AtLeastOnce),
        );
        let filters = filters.as_filters(Version::V311);
        keeper.say(&Packet::Subscribe(Subscribe {
            packet_id: 1,
            properties: Properties::EMPTY,
            filters,
        }))?;
        keeper.push()?;
    }
    until(&mut poll, &mut keepers, |c| Ok(c.iter().all(|c| c.subscribed)))?;
    let attending = if options.number("attend", 0) == 1 {
        keepers
    } else {
        Vec::new()
    };
    let first = attending.len();
    let mut clients = attending;
    for number in 0..publishers {
        clients.push(Client::dial(options, number, &poll, first + number)?);
    }
    until(&mut poll, &mut clients, |c| Ok(c.iter().all(|c| c.connected)))?;
    let payload = vec![b'x'; options.number("size", 64)];
    let mut sent = vec![0usize; publishers];
    let (cpu, began) = (broker_cpu(options.pid)?, Instant::now());
    until(&mut poll, &mut clients, |clients| {
        let mut done = true;
        for (number, client) in clients[first..].iter_mut().enumerate() {
            let before = sent[number];
            while sent[number] < count && sent[number] - client.acknowledged < window {
                sent[number] += 1;
                client.waiting.push_back(Instant::now());
                client.say(&Packet::Publish(Publish {
                    dup: false,
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    topic: &format!("shared/bench/{number}"),
                    packet_id: (sent[number] % 65_535) as u16 + 1,
                    properties: Properties::EMPTY,
                    payload: &payload,
                }))?;
            }
            if sent[number] > before {
                client.push()?;
            }
            done &= client.acknowledged >= count;
        }
        Ok(done)
    })?;
    let (seconds, used) = (began.elapsed().as_secs_f64(), broker_cpu(options.pid)? - cpu);
    let mut waited: Vec<Duration> = clients[first..].iter().flat_map(|c| c.waited.iter().copied()).collect();
    waited.sort_unstable();
    let at = |percent: usize| waited.get(waited.len() * percent / 100).map_or(0, Duration::as_micros);
    let messages = (publishers * count) as f64;
    println!(
        "{{\"mode\": \"durable\", \"publishers\": {publishers}, \"messages\": {messages}, \"messages_per_second\": {:.0}, \"puback_us_p50\": {}, \"puback_us_p99\": {}, \"broker_cpu_us_per_message\": {:.3}}}",
        messages / seconds,
        at(50),
        at(99),
        used / messages
    );
    Ok(())
}

fn idle(options: &Options) -> Outcome<()> {
    let count = options.number("count", 1000);
    let mut poll = Poll::new()?;
    let mut clients = Vec::new();
    // A few first, so that what the broker allocates once is not counted for each.
    for number in 0..10 {
        clients.push(Client::dial(options, number, &poll, number)?);
    }
    until(&mut poll, &mut clients, |c| Ok(c.iter().all(|c| c.connected)))?;
    let before = broker_rss(options.pid)?;
    let cpu = broker_cpu(options.pid)?;
    while clients.len() < count + 10 {
        for _ in 0..50.min(count + 10 - clients.len()) {
            let number = clients.len();
            clients.push(Client::dial(options, number, &poll, number)?);
        }
        until(&mut poll, &mut clients, |c| Ok(c.iter().all(|c| c.connected)))?;
    }
    let used = broker_cpu(options.pid)? - cpu;
    // Two seconds in which nobody says anything: what is kept after that is the price of an idle connection.
    let quiet = Instant::now() + Duration::from_millis(options.number("settle", 2500) as u64);
    until(&mut poll, &mut clients, |_| Ok(Instant::now() >= quiet))?;
    let bytes = (broker_rss(options.pid)? - before) / count as f64;
    println!(
        "{{\"mode\": \"idle\", \"connections\": {count}, \"broker_rss_kib_per_connection\": {:.2}, \"broker_cpu_ms_per_connect\": {:.3}}}",
        bytes / 1024.0,
        used / 1000.0 / count as f64
    );
    Ok(())
}

fn handshakes(options: &Options) -> Outcome<()> {
    let count = options.number("count", 500);
    let (cpu, began) = (broker_cpu(options.pid)?, Instant::now());
    for number in 0..count {
        let mut poll = Poll::new()?;
        let mut clients = vec![Client::dial(options, number, &poll, 0)?];
        until(&mut poll, &mut clients, |c| Ok(c.iter().all(|c| c.connected)))?;
        clients[0].say(&Packet::Disconnect(Disconnect {
            reason: 0,
            properties: Properties::EMPTY,
        }))?;
        clients[0].push()?;
    }
    let (seconds, used) = (began.elapsed().as_secs_f64(), broker_cpu(options.pid)? - cpu);
    println!(
        "{{\"mode\": \"handshakes\", \"count\": {count}, \"broker_cpu_ms_per_connect\": {:.3}, \"connects_per_second\": {:.1}}}",
        used / 1000.0 / count as f64,
        count as f64 / seconds
    );
    Ok(())
}

fn main() -> Outcome<()> {
    let options = Options::parse()?;
    match options.mode.as_str() {
        "pairs" => pairs(&options),
        "idle" => idle(&options),
        "handshakes" => handshakes(&options),
        "durable" => durable(&options),
        other => Err(format!("unknown mode {other}").into()),
    }
}

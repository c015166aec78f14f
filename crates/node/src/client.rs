//! A client connection: verified TLS, MQTT, one thread at a time.
//!
//! Refuses to know reconnecting and who uses it. Nothing of MQTT leaves before the server is verified.

use crate::config::ClientConfig;
use crate::http::{self, Answer};
use crate::tls;
use crate::ws::{self, Role};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConnection, Error as TlsError, HandshakeKind, StreamOwned};
use sealmq_codec::{
    Ack, Connack, Connect, Disconnect, FilterBuf, Framed, Packet, Properties, Property, PropertyBuf, Publish, QoS,
    ReasonCode, Subscribe, SubscribeOptions, Unsubscribe, Version, Will, frame, write_string,
};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The largest packet this client takes, bytes.
const MAX_PACKET: u32 = 256 << 20;
/// Messages kept for a caller that does not ask for them; beyond it the connection is not read.
const INBOX: usize = 10_000;

/// A stable code, a sentence, the mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    pub code: &'static str,
    pub what: String,
    pub mend: String,
}

impl ClientError {
    fn new(code: &'static str, what: impl Into<String>, mend: impl Into<String>) -> ClientError {
        ClientError {
            code,
            what: what.into(),
            mend: mend.into(),
        }
    }
}

/// One received message; properties as JSON.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Value,
}

enum Transport {
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Plain(TcpStream),
}

impl Transport {
    fn socket(&self) -> &TcpStream {
        match self {
            Transport::Tls(stream) => &stream.sock,
            Transport::Plain(stream) => stream,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Tls(stream) => stream.read(buffer),
            Transport::Plain(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Transport::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Transport::Plain(stream) => stream.write_all(bytes),
        }
    }
}

/// An answer that somebody may wait for: codes of SUBACK and UNSUBACK, the last reason of a publish.
type Answers = HashMap<u16, Vec<u8>>;

pub struct Client {
    transport: Transport,
    ws: Option<ws::Decoder>,
    version: Version,
    buffer: Vec<u8>,
    chunk: Vec<u8>,
    inbox: VecDeque<Message>,
    answers: Answers,
    /// QoS 2 identifiers received and not yet released.
    inbound: HashSet<u16>,
    next_id: u16,
    keep_alive: Duration,
    last_sent: Instant,
    pinged: Option<Instant>,
    closed: Option<ClientError>,
    connack: Value,
    timeout: Duration,
}

fn random_mask() -> [u8; 4] {
    // Masking protects proxies, not secrets (RFC 6455 section 10.3); without randomness it is merely fixed.
    getrandom::u32().unwrap_or(0x5ea1_3a9c).to_be_bytes()
}

const CLIENT_ROLE: Role = Role::Client { mask: random_mask };

impl Client {
    /// Connect, verify the server, send CONNECT and wait for the CONNACK.
    pub fn connect(config: &ClientConfig) -> Result<Client, ClientError> {
        let timeout = Duration::from_millis(config.timeout_ms.max(1));
        let deadline = Instant::now() + timeout;
        let version = match config.version.as_str() {
            "3.1.1" => Version::V311,
            "5.0" => Version::V5,
            other => {
                let what = format!("version {other} is neither 3.1.1 nor 5.0");
                return Err(ClientError::new("config-invalid", what, "use 5.0 or 3.1.1"));
            }
        };
        let is_websocket = config.scheme == "wss";
        let is_plain = config.scheme == "mqtt";
        if is_plain && !config.allow_plaintext {
            let mend = "use mqtts://, or permit plaintext in the [dangerous] table";
            return Err(ClientError::new(
                "plaintext-refused",
                "mqtt:// would send everything in clear",
                mend,
            ));
        }
        let socket = dial(config, timeout)?;
        let mut transport = if is_plain {
            Transport::Plain(socket)
        } else {
            secure(config, socket, is_websocket)?
        };
        let mut buffer = Vec::new();
        let ws = if is_websocket {
            buffer = upgrade(config, &mut transport, deadline)?;
            Some(ws::Decoder::new(CLIENT_ROLE, MAX_PACKET as usize))
        } else {
            None
        };
        let mut client = Client {
            transport,
            ws,
            version,
            buffer: Vec::new(),
            chunk: vec![0; 64 * 1024],
            inbox: VecDeque::new(),
            answers: HashMap::new(),
            inbound: HashSet::new(),
            next_id: 0,
            keep_alive: Duration::from_secs(u64::from(config.keep_alive)),
            last_sent: Instant::now(),
            pinged: None,
            closed: None,
            connack: Value::Null,
            timeout,
        };
        client.take_in(&mut buffer)?;
        client.say_connect(config)?;
        client.await_connack(deadline)?;
        Ok(client)
    }

    /// `session_present`, `reason_code`, `assigned_client_id`, `server_keep_alive`, `tls`.
    pub fn connack(&self) -> &Value {
        &self.connack
    }

    /// Publish; for QoS 1 and 2 wait until the exchange is over. The final reason code.
    pub fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        properties: &Value,
        timeout: Duration,
    ) -> Result<u8, ClientError> {
        self.check_open()?;
        let mut block = PropertyBuf::new();
        if self.version == Version::V5 {
            publish_properties(properties, &mut block)?;
        }
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { self.fresh_id() };
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id,
            properties: block.as_properties(),
            payload,
        };
        self.send(&Packet::Publish(publish))?;
        if qos == QoS::AtMostOnce {
            return Ok(0);
        }
        self.await_answer(packet_id, timeout, "acknowledgement")
            .map(|codes| codes.first().copied().unwrap_or(0))
    }

    /// Subscribe; one code per filter.
    pub fn subscribe(
        &mut self,
        filters: &[(String, SubscribeOptions)],
        timeout: Duration,
    ) -> Result<Vec<u8>, ClientError> {
        self.check_open()?;
        let packet_id = self.fresh_id();
        let mut entries = FilterBuf::new();
        for (filter, options) in filters {
            entries.push(self.version, filter, *options);
        }
        let filters = entries.as_filters(self.version);
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            properties: Properties::EMPTY,
            filters,
        }))?;
        self.await_answer(packet_id, timeout, "SUBACK")
    }

    /// Unsubscribe; one code per filter, zeros in 3.1.1.
    pub fn unsubscribe(&mut self, filters: &[String], timeout: Duration) -> Result<Vec<u8>, ClientError> {
        self.check_open()?;
        let packet_id = self.fresh_id();
        let mut raw = Vec::new();
        for filter in filters {
            write_string(filter, &mut raw);
        }
        self.send(&Packet::Unsubscribe(Unsubscribe::new(
            packet_id,
            Properties::EMPTY,
            &raw,
        )))?;
        let mut codes = self.await_answer(packet_id, timeout, "UNSUBACK")?;
        codes.resize(filters.len(), 0);
        Ok(codes)
    }

    /// The next message, `None` after `timeout`. Keeps the connection alive meanwhile.
    pub fn next_message(&mut self, timeout: Duration) -> Result<Option<Message>, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(Some(message));
            }
            self.check_open()?;
            if Instant::now() >= deadline {
                return Ok(None);
            }
            self.pump(deadline)?;
        }
    }

    /// Say DISCONNECT and close. Calling it again does nothing.
    pub fn disconnect(&mut self) {
        if self.closed.is_none() {
            let goodbye = Disconnect {
                reason: 0,
                properties: Properties::EMPTY,
            };
            let _ = self.send(&Packet::Disconnect(goodbye));
            if let Transport::Tls(stream) = &mut self.transport {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
            let _ = self.transport.socket().shutdown(std::net::Shutdown::Both);
            self.closed = Some(ClientError::new("closed", "this side has disconnected", ""));
        }
    }

    fn check_open(&self) -> Result<(), ClientError> {
        self.closed.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, error: ClientError) -> ClientError {
        self.closed.get_or_insert(error).clone()
    }

    fn fresh_id(&mut self) -> u16 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }

    fn send(&mut self, packet: &Packet<'_>) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        if self.ws.is_some() {
            let mut framed = Vec::new();
            ws::encode_binary(CLIENT_ROLE, &bytes, &mut framed);
            bytes = framed;
        }
        self.last_sent = Instant::now();
        self.transport.write_all(&bytes).map_err(|e| {
            let error = gone(&e);
            self.fail(error)
        })
    }

    fn say_connect(&mut self, config: &ClientConfig) -> Result<(), ClientError> {
        let mut properties = PropertyBuf::new();
        if let Some(seconds) = config.session_expiry {
            properties.push(Property::SessionExpiry(seconds));
        }
        let mut will_properties = PropertyBuf::new();
        let mut will_payload = Vec::new();
        if let Some(will) = &config.will {
            if will.delay > 0 {
                will_properties.push(Property::WillDelay(will.delay));
            }
            will_payload = hex(&will.payload_hex)?;
        }
        let will = match &config.will {
            None => None,
            Some(will) => Some(Will {
                qos: QoS::from_bits(will.qos).ok_or_else(|| misuse("will QoS is not 0, 1 or 2"))?,
                retain: will.retain,
                properties: will_properties.as_properties(),
                topic: &will.topic,
                payload: &will_payload,
            }),
        };
        let connect = Connect {
            version: self.version,
            clean_start: config.clean_start,
            keep_alive: config.keep_alive,
            properties: properties.as_properties(),
            client_id: &config.client_id,
            will,
            username: config.username.as_deref(),
            password: config.password.as_deref().map(str::as_bytes),
        };
        self.send(&Packet::Connect(connect))
    }

    fn await_connack(&mut self, deadline: Instant) -> Result<(), ClientError> {
        while self.connack.is_null() {
            self.check_open()?;
            if Instant::now() >= deadline {
                let mend = "look at the log of the broker; it may be busy, or not speak MQTT";
                return Err(ClientError::new(
                    "timeout",
                    "server did not answer CONNECT in time",
                    mend,
                ));
            }
            self.pump(deadline)?;
        }
        Ok(())
    }

    fn await_answer(&mut self, packet_id: u16, timeout: Duration, what: &str) -> Result<Vec<u8>, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(codes) = self.answers.remove(&packet_id) {
                return Ok(codes);
            }
            self.check_open()?;
            if Instant::now() >= deadline {
                return Err(ClientError::new(
                    "timeout",
                    format!("server sent no {what} in time"),
                    "",
                ));
            }
            self.pump(deadline)?;
        }
    }

    /// Read once, at most until `until`, and carry out what came.
    fn pump(&mut self, until: Instant) -> Result<(), ClientError> {
        self.stay_alive()?;
        let mut wait = until.saturating_duration_since(Instant::now());
        if !self.keep_alive.is_zero() {
            wait = wait.min((self.keep_alive / 4).max(Duration::from_millis(100)));
        }
        if self.inbox.len() >= INBOX {
            return Err(misuse("caller waits for an answer while its inbox is full"));
        }
        let _ = self
            .transport
            .socket()
            .set_read_timeout(Some(wait.max(Duration::from_millis(1))));
        let mut chunk = std::mem::take(&mut self.chunk);
        let outcome = self.transport.read(&mut chunk);
        let result = match outcome {
            Ok(0) => Err(self.fail(ClientError::new(
                "closed",
                "server closed the connection",
                "look at its log",
            ))),
            Ok(n) => self.take_in(chunk.get_mut(..n).unwrap_or_default()),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            Err(e) => {
                let error = gone(&e);
                Err(self.fail(error))
            }
        };
        self.chunk = chunk;
        // What was received before the end is still the caller's.
        if result.is_err() && !self.inbox.is_empty() {
            Ok(())
        } else {
            result
        }
    }

    fn stay_alive(&mut self) -> Result<(), ClientError> {
        if self.keep_alive.is_zero() {
            return Ok(());
        }
        if self
            .pinged
            .is_some_and(|at| at.elapsed() > self.keep_alive.min(self.timeout))
        {
            return Err(self.fail(ClientError::new("timeout", "server did not answer PINGREQ", "")));
        }
        if self.pinged.is_none() && self.last_sent.elapsed() >= self.keep_alive * 3 / 4 {
            self.pinged = Some(Instant::now());
            self.send(&Packet::Pingreq)?;
        }
        Ok(())
    }

    fn take_in(&mut self, bytes: &mut [u8]) -> Result<(), ClientError> {
        if let Some(decoder) = &mut self.ws {
            let mut control = Vec::new();
            let decoded = decoder.decode(bytes, &mut self.buffer, &mut control);
            if !control.is_empty() {
                let _ = self.transport.write_all(&control);
            }
            match decoded {
                Err(fault) => return Err(self.fail(ClientError::new("peer-fault", fault.sentence(), ""))),
                Ok(decoded) if decoded.closed.is_some() => {
                    self.fail(ClientError::new(
                        "closed",
                        "server closed the WebSocket",
                        "look at its log",
                    ));
                }
                Ok(_) => {}
            }
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        let buffer = std::mem::take(&mut self.buffer);
        let mut used = 0;
        let result = loop {
            match frame(buffer.get(used..).unwrap_or_default(), MAX_PACKET) {
                Ok(Framed::Need(_)) => break Ok(()),
                Ok(Framed::Whole(whole)) => {
                    used += whole.size;
                    let handled = match Packet::decode(self.version, whole) {
                        Ok(packet) => self.handle(&packet),
                        Err(fault) => Err(ClientError::new(
                            "peer-fault",
                            format!("server broke MQTT: {fault}"),
                            "",
                        )),
                    };
                    if let Err(error) = handled {
                        break Err(self.fail(error));
                    }
                }
                Err(fault) => {
                    let error = ClientError::new("peer-fault", format!("server broke MQTT: {fault}"), "");
                    break Err(self.fail(error));
                }
            }
        };
        self.buffer = buffer;
        self.buffer.drain(..used);
        result
    }

    fn handle(&mut self, packet: &Packet<'_>) -> Result<(), ClientError> {
        if self.connack.is_null() && !matches!(packet, Packet::Connack(_)) {
            let what = format!("server sent {} before CONNACK", packet.kind().name());
            return Err(ClientError::new("peer-fault", what, "check what listens on this port"));
        }
        match packet {
            Packet::Connack(connack) => self.handle_connack(connack),
            Packet::Publish(publish) => self.handle_publish(publish),
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                self.answers.insert(ack.packet_id, vec![ack.reason]);
                Ok(())
            }
            Packet::Pubrec(ack) if ack.reason >= 0x80 => {
                self.answers.insert(ack.packet_id, vec![ack.reason]);
                Ok(())
            }
            Packet::Pubrec(ack) => self.send(&Packet::Pubrel(plain_ack(ack.packet_id))),
            Packet::Pubrel(ack) => {
                self.inbound.remove(&ack.packet_id);
                self.send(&Packet::Pubcomp(plain_ack(ack.packet_id)))
            }
            Packet::Suback(codes) | Packet::Unsuback(codes) => {
                self.answers.insert(codes.packet_id, codes.codes.to_vec());
                Ok(())
            }
            Packet::Pingresp => {
                self.pinged = None;
                Ok(())
            }
            Packet::Disconnect(disconnect) => {
                let reason = reason_text(disconnect.reason, disconnect.properties);
                Err(ClientError::new("closed", format!("server disconnected: {reason}"), ""))
            }
            other => {
                let what = format!("server sent {}, which only a client sends", other.kind().name());
                Err(ClientError::new("peer-fault", what, ""))
            }
        }
    }

    fn handle_connack(&mut self, connack: &Connack<'_>) -> Result<(), ClientError> {
        if !self.connack.is_null() {
            return Err(ClientError::new("peer-fault", "server sent a second CONNACK", ""));
        }
        if connack.code != 0 {
            let reason = match self.version {
                Version::V5 => reason_text(connack.code, connack.properties),
                Version::V311 => connack_v311(connack.code).to_owned(),
            };
            let mend = "the refusal record of the broker says why: `sealmq status` shows the last ones";
            return Err(ClientError::new(
                "connack",
                format!("server refused CONNECT: {reason}"),
                mend,
            ));
        }
        let mut assigned = Value::Null;
        let mut server_keep_alive = Value::Null;
        for property in connack.properties.iter() {
            match property {
                Property::AssignedClientId(id) => assigned = json!(id),
                Property::ServerKeepAlive(seconds) => {
                    server_keep_alive = json!(seconds);
                    self.keep_alive = Duration::from_secs(u64::from(seconds));
                }
                _ => {}
            }
        }
        self.connack = json!({
            "session_present": connack.session_present,
            "reason_code": connack.code,
            "assigned_client_id": assigned,
            "server_keep_alive": server_keep_alive,
            "tls": self.tls_facts(),
        });
        Ok(())
    }

    fn tls_facts(&self) -> Value {
        let Transport::Tls(stream) = &self.transport else {
            return Value::Null;
        };
        let conn = &stream.conn;
        json!({
            "version": if conn.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) { "TLS 1.3" } else { "TLS 1.2" },
            "cipher": conn.negotiated_cipher_suite().map(|s| format!("{:?}", s.suite()).replace("TLS13_", "TLS_")),
            "group": conn.negotiated_key_exchange_group().map(|g| format!("{:?}", g.name())),
            "resumed": conn.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }

    fn handle_publish(&mut self, publish: &Publish<'_>) -> Result<(), ClientError> {
        let is_new = publish.qos != QoS::ExactlyOnce || self.inbound.insert(publish.packet_id);
        if is_new {
            self.inbox.push_back(Message {
                topic: publish.topic.to_owned(),
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
                properties: message_properties(publish.properties),
            });
        }
        match publish.qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => self.send(&Packet::Puback(plain_ack(publish.packet_id))),
            QoS::ExactlyOnce => self.send(&Packet::Pubrec(plain_ack(publish.packet_id))),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.disconnect();
    }
}

fn plain_ack(packet_id: u16) -> Ack<'static> {
    Ack {
        packet_id,
        reason: 0,
        properties: Properties::EMPTY,
    }
}

fn misuse(what: &str) -> ClientError {
    ClientError::new("config-invalid", what, "")
}

fn gone(error: &io::Error) -> ClientError {
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

fn dial(config: &ClientConfig, timeout: Duration) -> Result<TcpStream, ClientError> {
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

fn secure(config: &ClientConfig, mut socket: TcpStream, is_websocket: bool) -> Result<Transport, ClientError> {
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

fn upgrade(config: &ClientConfig, transport: &mut Transport, deadline: Instant) -> Result<Vec<u8>, ClientError> {
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

fn reason_text(code: u8, properties: Properties<'_>) -> String {
    let name = ReasonCode::from_byte(code).map_or("unknown reason", ReasonCode::name);
    let said = properties.iter().find_map(|p| {
        if let Property::ReasonString(s) = p {
            Some(s.to_owned())
        } else {
            None
        }
    });
    match said {
        Some(said) => format!("{name} ({code:#04x}): {said}"),
        None => format!("{name} ({code:#04x})"),
    }
}

fn connack_v311(code: u8) -> &'static str {
    match code {
        1 => "unacceptable protocol version (1)",
        2 => "client identifier rejected (2)",
        3 => "server unavailable (3)",
        4 => "bad user name or password (4)",
        5 => "not authorized (5)",
        _ => "unknown return code",
    }
}

fn hex(text: &str) -> Result<Vec<u8>, ClientError> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [a, b] => Some(digit(*a)? << 4 | digit(*b)?),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| misuse("payload is not hexadecimal"))
}

/// Properties of a PUBLISH of ours, from JSON; what JSON has no word for is refused.
fn publish_properties(given: &Value, block: &mut PropertyBuf) -> Result<(), ClientError> {
    let Some(given) = given.as_object() else { return Ok(()) };
    for (name, value) in given {
        let wrong = || misuse(&format!("property {name} has no value that fits"));
        match name.as_str() {
            "payload_format" => {
                block.push(Property::PayloadFormat(value.as_u64().ok_or_else(wrong)? as u8));
            }
            "message_expiry" => {
                let seconds = value.as_u64().and_then(|s| u32::try_from(s).ok()).ok_or_else(wrong)?;
                block.push(Property::MessageExpiry(seconds));
            }
            "content_type" => {
                block.push(Property::ContentType(value.as_str().ok_or_else(wrong)?));
            }
            "response_topic" => {
                block.push(Property::ResponseTopic(value.as_str().ok_or_else(wrong)?));
            }
            "correlation_hex" => {
                block.push(Property::CorrelationData(&hex(value.as_str().ok_or_else(wrong)?)?));
            }
            "user" => {
                for pair in value.as_array().ok_or_else(wrong)? {
                    let (key, value) = (pair.get(0).and_then(Value::as_str), pair.get(1).and_then(Value::as_str));
                    let (key, value) = key.zip(value).ok_or_else(wrong)?;
                    block.push(Property::UserProperty(key, value));
                }
            }
            other => return Err(misuse(&format!("property {other} does not belong in a PUBLISH"))),
        }
    }
    Ok(())
}

/// Properties of a received message as JSON, in the words of [`publish_properties`].
fn message_properties(properties: Properties<'_>) -> Value {
    let mut found = serde_json::Map::new();
    let mut user = Vec::new();
    let mut identifiers = Vec::new();
    for property in properties.iter() {
        match property {
            Property::PayloadFormat(v) => drop(found.insert("payload_format".into(), json!(v))),
            Property::MessageExpiry(v) => drop(found.insert("message_expiry".into(), json!(v))),
            Property::ContentType(v) => drop(found.insert("content_type".into(), json!(v))),
            Property::ResponseTopic(v) => drop(found.insert("response_topic".into(), json!(v))),
            Property::CorrelationData(v) => {
                let hex: String = v.iter().map(|b| format!("{b:02x}")).collect();
                found.insert("correlation_hex".into(), json!(hex));
            }
            Property::UserProperty(k, v) => user.push(json!([k, v])),
            Property::SubscriptionIdentifier(v) => identifiers.push(json!(v)),
            _ => {}
        }
    }
    if !user.is_empty() {
        found.insert("user".into(), Value::Array(user));
    }
    if !identifiers.is_empty() {
        found.insert("subscription_identifiers".into(), Value::Array(identifiers));
    }
    Value::Object(found)
}

//! A client connection: verified TLS, MQTT, one thread at a time.
//!
//! Refuses to know reconnecting and who uses it. Nothing of MQTT leaves before the server is verified.

use self::dial::{dial, gone, secure, upgrade};
use self::properties::{hex, publish_properties};
use crate::config::ClientConfig;
use crate::ws::{self, Role};
use rustls::{ClientConnection, StreamOwned};
use sealmq_codec::{
    Ack, Connect, Disconnect, FilterBuf, Packet, Properties, Property, PropertyBuf, Publish, QoS, Subscribe,
    SubscribeOptions, Unsubscribe, Version, Will, write_string,
};
use serde_json::Value;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

mod dial;
mod incoming;
mod properties;

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
    /// The largest packet the server takes, bytes.
    server_max_packet: u32,
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
            server_max_packet: u32::MAX,
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
        // [MQTT-3.2.2-15]
        if bytes.len() > self.server_max_packet as usize {
            return Err(ClientError::new(
                "packet-too-large",
                format!(
                    "packet of {} bytes is larger than the {} that the server takes",
                    bytes.len(),
                    self.server_max_packet
                ),
                "send less at a time, or raise limits.max_packet_size of the broker",
            ));
        }
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

//! Owns the first look at a connection: what its opening bytes are and what a ClientHello offers, before the TLS library sees them.
//! Refuses to know sockets and clocks: bytes come in, a finding goes out, and `sniff` is called again with the longer buffer.

/// Bounds on what a peer can make `sniff` read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloLimits {
    /// Bytes on the wire up to the end of the ClientHello, record headers included; real ones take 100 to 2,000.
    pub total: usize,
}

impl Default for HelloLimits {
    fn default() -> Self {
        Self { total: 16 * 1024 }
    }
}

/// What the bytes so far are. Only `NeedMore` becomes another variant when more bytes arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sniff {
    NeedMore,
    Hello(Box<ClientHello>),
    NotTls(FirstBytes),
    Malformed(HelloFault),
}

/// A peer that does not open with TLS, told apart by as few bytes as it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBytes {
    PlaintextMqtt,
    PlaintextHttp,
    Ssh,
    ProxyProtocol,
    SslV2Hello,
    /// Up to 8 of the bytes seen; `len` of them count.
    Other {
        bytes: [u8; 8],
        len: usize,
    },
}

/// A peer that speaks TLS and breaks it in its first message (RFC 8446 sections 4.1.2, 4.2 and 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelloFault {
    UnexpectedRecord { content_type: u8 },
    EmptyRecord,
    RecordTooLong { length: usize },
    NotClientHello { handshake_type: u8 },
    TooLong { limit: usize },
    Field { name: &'static str },
    DuplicateExtension { id: u16 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Ssl3,
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

/// What a client offers, as it wrote it: lists keep its order and its GREASE values (RFC 8701).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    pub legacy_version: u16,
    /// From supported_versions, else the one `legacy_version` stands for, TLS 1.2 at most (RFC 8446 section 4.2.1).
    pub versions: Vec<u16>,
    pub cipher_suites: Vec<u16>,
    pub groups: Vec<u16>,
    pub key_share_groups: Vec<u16>,
    pub signature_algorithms: Vec<u16>,
    /// Protocol names as sent; `alpn_text` makes them fit to print.
    pub alpn: Vec<Vec<u8>>,
    /// The host name, with anything but printable ASCII escaped.
    pub server_name: Option<String>,
    /// Bytes.
    pub session_id_len: usize,
    /// Bytes of the TLS 1.2 ticket; 0 when the client only says that it would take one.
    pub session_ticket_len: Option<usize>,
    /// Identities in pre_shared_key (TLS 1.3 tickets or external keys); 0 when the extension is absent.
    pub psk_identities: usize,
    /// Bytes (RFC 6066 section 4).
    pub max_fragment_length: Option<u16>,
    /// Bytes (RFC 8449 section 4).
    pub record_size_limit: Option<u16>,
    pub early_data: bool,
    pub extensions: Vec<u16>,
    /// Bytes on the wire up to the end of the ClientHello, record headers included.
    pub wire_bytes: usize,
    pub records: usize,
}

/// What a listener accepts. An empty suite list means that it does not speak that version; an empty `groups`,
/// `signature_algorithms` or `alpn` is not judged.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    pub tls13_suites: &'a [u16],
    pub tls12_suites: &'a [u16],
    pub groups: &'a [u16],
    pub signature_algorithms: &'a [u16],
    pub alpn: &'a [&'a [u8]],
}

/// Whether a handshake under a policy can get past its first flight, and if not, what was offered in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Acceptable,
    VersionTooOld { offered: Vec<u16> },
    NoCommonCipher { offered: Vec<u16> },
    NoCommonGroup { offered: Vec<u16> },
    NoCommonSignature { offered: Vec<u16> },
    NoCommonAlpn { offered: Vec<String> },
}

/// Look at the bytes received so far. Costs at most one pass over `limits.total` bytes and never consumes anything.
pub fn sniff(bytes: &[u8], limits: HelloLimits) -> Sniff {
    match bytes {
        [] | [0x14..=0x18] => Sniff::NeedMore,
        [0x14..=0x18, 3, ..] => match read_hello(bytes, limits) {
            Ok(Some(hello)) => Sniff::Hello(Box::new(hello)),
            Ok(None) if bytes.len() < limits.total => Sniff::NeedMore,
            Ok(None) => Sniff::Malformed(HelloFault::TooLong { limit: limits.total }),
            Err(fault) => Sniff::Malformed(fault),
        },
        _ => first_bytes(bytes).map_or(Sniff::NeedMore, Sniff::NotTls),
    }
}

/// A fatal alert record (RFC 8446 section 6) for a peer that is refused before the TLS library takes over. Its version
/// is 3.1, which every stack takes in answer to its first message.
pub fn alert_record(description: u8) -> [u8; 7] {
    [0x15, 3, 1, 0, 2, 2, description]
}

const OPENINGS: [(&[u8], FirstBytes); 13] = [
    (b"GET ", FirstBytes::PlaintextHttp),
    (b"POST ", FirstBytes::PlaintextHttp),
    (b"HEAD ", FirstBytes::PlaintextHttp),
    (b"PUT ", FirstBytes::PlaintextHttp),
    (b"OPTIONS ", FirstBytes::PlaintextHttp),
    (b"CONNECT ", FirstBytes::PlaintextHttp),
    (b"DELETE ", FirstBytes::PlaintextHttp),
    (b"PATCH ", FirstBytes::PlaintextHttp),
    (b"TRACE ", FirstBytes::PlaintextHttp),
    (b"PRI ", FirstBytes::PlaintextHttp), // the HTTP/2 preface, RFC 9113 section 3.4
    (b"SSH-", FirstBytes::Ssh),
    (b"PROXY ", FirstBytes::ProxyProtocol),
    (b"\r\n\r\n\0\r\nQUIT\n", FirstBytes::ProxyProtocol), // version 2
];

fn first_bytes(bytes: &[u8]) -> Option<FirstBytes> {
    if let Some((_, found)) = OPENINGS.iter().find(|(token, _)| bytes.starts_with(token)) {
        return Some(*found);
    }
    if OPENINGS.iter().any(|(token, _)| token.starts_with(bytes)) {
        return None;
    }
    match bytes {
        [0x10] => None,
        [0x10, rest @ ..] if plausible_connect(rest) => Some(FirstBytes::PlaintextMqtt),
        // SSLv2 CLIENT-HELLO: two bytes of length with the high bit set, type 1, version (RFC 5246 appendix E.2)
        [0x80..=0xff, _, 1, 0, 2, ..] | [0x80..=0xff, _, 1, 3, _, ..] => Some(FirstBytes::SslV2Hello),
        [0x80..=0xff] | [0x80..=0xff, _] | [0x80..=0xff, _, 1] | [0x80..=0xff, _, 1, 0 | 3] => None,
        _ => {
            let mut first = [0; 8];
            first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            Some(FirstBytes::Other {
                bytes: first,
                len: bytes.len().min(8),
            })
        }
    }
}

/// What follows 0x10 reads as a CONNECT as far as it goes: 12 bytes or more, then the protocol name [MQTT-3.1.2-1].
fn plausible_connect(rest: &[u8]) -> bool {
    let length = rest.iter().take(4).take_while(|byte| **byte >= 0x80).count() + 1;
    let body = rest.get(length..).unwrap_or_default();
    let names: [&[u8]; 2] = [b"\0\x04MQTT", b"\0\x06MQIsdp"];
    length <= 4
        && (length > 1 || rest.first() >= Some(&12))
        && names
            .iter()
            .any(|name| name.iter().zip(body).all(|(want, got)| want == got))
}

/// Put the handshake bytes of the records together until the ClientHello is whole.
fn read_hello(bytes: &[u8], limits: HelloLimits) -> Result<Option<ClientHello>, HelloFault> {
    let too_long = HelloFault::TooLong { limit: limits.total };
    let (mut rest, mut records) = (bytes, 0_usize);
    let mut message = Vec::with_capacity(bytes.len().min(limits.total));
    loop {
        if let Some(content_type) = rest.first().filter(|kind| **kind != 0x16) {
            return Err(HelloFault::UnexpectedRecord {
                content_type: *content_type,
            });
        }
        let [_, major, _, high, low, body @ ..] = rest else {
            return Ok(None);
        };
        if *major != 3 {
            return Err(HelloFault::Field { name: "record version" });
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        match length {
            0 => return Err(HelloFault::EmptyRecord), // RFC 8446 section 5.1
            1..=16_384 => {}
            _ => return Err(HelloFault::RecordTooLong { length }),
        }
        records += 1;
        let (fragment, next) = body.split_at_checked(length).unwrap_or((body, &[]));
        message.extend_from_slice(fragment);
        if let Some(handshake_type) = message.first().filter(|kind| **kind != 1) {
            return Err(HelloFault::NotClientHello {
                handshake_type: *handshake_type,
            });
        }
        if let [_, a, b, c, fields @ ..] = message.as_slice() {
            let declared = Fields {
                rest: &[*a, *b, *c],
                name: "length",
            }
            .number(3)?;
            if 5 * records + 4 + declared > limits.total {
                return Err(too_long);
            }
            if let Some((hello, extra)) = fields.split_at_checked(declared) {
                let wire_bytes = bytes.len() - body.len() + fragment.len() - extra.len();
                return ClientHello::parse(hello, wire_bytes, records).map(Some);
            }
        }
        if bytes.len() - next.len() > limits.total {
            return Err(too_long);
        }
        if fragment.len() < length {
            return Ok(None);
        }
        rest = next;
    }
}

/// The unread part of one length-prefixed field, and its name for the fault.
struct Fields<'a> {
    rest: &'a [u8],
    name: &'static str,
}

impl<'a> Fields<'a> {
    fn fault(&self) -> HelloFault {
        HelloFault::Field { name: self.name }
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], HelloFault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(self.fault())?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self, width: usize) -> Result<usize, HelloFault> {
        Ok(self
            .bytes(width)?
            .iter()
            .fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn id(&mut self) -> Result<u16, HelloFault> {
        u16::try_from(self.number(2)?).map_err(|_| self.fault())
    }

    /// A vector whose length takes `width` bytes.
    fn block(&mut self, width: usize, name: &'static str) -> Result<Fields<'a>, HelloFault> {
        let count = self.number(width)?;
        Ok(Fields {
            rest: self.bytes(count)?,
            name,
        })
    }

    fn ids(mut self) -> Result<Vec<u16>, HelloFault> {
        let mut ids = vec![self.id()?];
        while !self.rest.is_empty() {
            ids.push(self.id()?);
        }
        Ok(ids)
    }

    fn end(&self) -> Result<(), HelloFault> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.fault())
        }
    }
}

impl ClientHello {
    fn parse(body: &[u8], wire_bytes: usize, records: usize) -> Result<Self, HelloFault> {
        let mut body = Fields {
            rest: body,
            name: "ClientHello",
        };
        let legacy_version = body.id()?;
        body.bytes(32)?; // random
        let session_id_len = body.block(1, "session id")?.rest.len();
        if session_id_len > 32 {
            return Err(HelloFault::Field { name: "session id" });
        }
        let cipher_suites = body.block(2, "cipher suites")?.ids()?;
        body.block(1, "compression methods")?.bytes(1)?;
        let mut hello = Self {
            legacy_version,
            cipher_suites,
            session_id_len,
            wire_bytes,
            records,
            ..Self::default()
        };
        if !body.rest.is_empty() {
            let mut extensions = body.block(2, "extensions")?;
            body.end()?;
            while !extensions.rest.is_empty() {
                let id = extensions.id()?;
                hello.extensions.push(id);
                hello.extension(id, extensions.block(2, "extension")?)?;
            }
        }
        let mut sorted = hello.extensions.clone();
        sorted.sort_unstable();
        if let Some((id, _)) = sorted.iter().zip(sorted.iter().skip(1)).find(|(a, b)| a == b) {
            return Err(HelloFault::DuplicateExtension { id: *id }); // RFC 8446 section 4.2
        }
        if hello.versions.is_empty() {
            hello.versions.push(legacy_version.min(0x0303));
        }
        Ok(hello)
    }

    fn extension(&mut self, id: u16, mut data: Fields<'_>) -> Result<(), HelloFault> {
        match id {
            0 => self.server_name = server_name(data.block(2, "server_name")?)?,
            1 => {
                data.name = "max_fragment_length";
                let code = data.number(1)?;
                let size = [512, 1024, 2048, 4096].get(code.wrapping_sub(1)).copied();
                self.max_fragment_length = Some(size.ok_or(data.fault())?);
            }
            10 => self.groups = data.block(2, "supported_groups")?.ids()?,
            13 => self.signature_algorithms = data.block(2, "signature_algorithms")?.ids()?,
            16 => {
                let mut names = data.block(2, "ALPN")?;
                while !names.rest.is_empty() {
                    self.alpn.push(names.block(1, "ALPN")?.rest.to_vec());
                }
            }
            28 => {
                data.name = "record_size_limit";
                self.record_size_limit = Some(data.id()?);
            }
            35 => self.session_ticket_len = Some(std::mem::take(&mut data.rest).len()),
            41 => {
                let mut identities = data.block(2, "pre_shared_key")?;
                while !identities.rest.is_empty() {
                    identities.block(2, "pre_shared_key")?;
                    identities.number(4)?; // obfuscated ticket age
                    self.psk_identities += 1;
                }
                data.block(2, "pre_shared_key")?; // binders
            }
            42 => self.early_data = true,
            43 => self.versions = data.block(1, "supported_versions")?.ids()?,
            51 => {
                let mut shares = data.block(2, "key_share")?;
                while !shares.rest.is_empty() {
                    self.key_share_groups.push(shares.id()?);
                    shares.block(2, "key_share")?;
                }
            }
            _ => return Ok(()),
        }
        data.end()
    }

    /// The newest version this code knows that the client offers; None when it offers drafts or GREASE only.
    pub fn highest_version(&self) -> Option<TlsVersion> {
        self.versions.iter().filter_map(|id| TlsVersion::from_id(*id)).max()
    }

    /// The offered protocol names, fit to print.
    pub fn alpn_text(&self) -> Vec<String> {
        self.alpn.iter().map(|name| name.escape_ascii().to_string()).collect()
    }

    /// Decide as a TLS server would: the version first (RFC 8446 section 4.2.1), then what that version needs in common.
    /// A missing key share is no fault: HelloRetryRequest asks for one.
    pub fn judge(&self, policy: &Policy<'_>) -> Verdict {
        let speaks = |id, suites: &[u16]| self.versions.contains(&id) && !suites.is_empty();
        let tls13 = speaks(0x0304, policy.tls13_suites);
        if !tls13 && !speaks(0x0303, policy.tls12_suites) {
            return Verdict::VersionTooOld {
                offered: real(&self.versions),
            };
        }
        let suites = if tls13 {
            policy.tls13_suites
        } else {
            policy.tls12_suites
        };
        let common: Vec<u16> = both(suites, &self.cipher_suites).collect();
        if common.is_empty() {
            return Verdict::NoCommonCipher {
                offered: real(&self.cipher_suites),
            };
        }
        // a TLS 1.2 client may leave the group to the server (RFC 8422 section 4) or use no group at all
        let elliptic = |id: &u16| cipher_name(*id).is_some_and(|name| name.contains("_ECDHE_"));
        let needs_group = tls13 || (!self.groups.is_empty() && common.iter().all(elliptic));
        if needs_group && lacks(policy.groups, &self.groups) {
            return Verdict::NoCommonGroup {
                offered: real(&self.groups),
            };
        }
        if lacks(policy.signature_algorithms, &self.signature_algorithms) {
            return Verdict::NoCommonSignature {
                offered: real(&self.signature_algorithms),
            };
        }
        let known = |name: &Vec<u8>| policy.alpn.contains(&name.as_slice());
        if !policy.alpn.is_empty() && !self.alpn.is_empty() && !self.alpn.iter().any(known) {
            return Verdict::NoCommonAlpn {
                offered: self.alpn_text(),
            };
        }
        Verdict::Acceptable
    }
}

fn server_name(mut names: Fields<'_>) -> Result<Option<String>, HelloFault> {
    let mut host = None;
    while !names.rest.is_empty() {
        let kind = names.number(1)?;
        let name = names.block(2, "server_name")?;
        if name.rest.is_empty() || name.rest.len() > 255 {
            return Err(name.fault());
        }
        if kind == 0 && host.is_none() {
            host = Some(name.rest.escape_ascii().to_string());
        }
    }
    Ok(host)
}

fn both<'a>(ours: &'a [u16], theirs: &'a [u16]) -> impl Iterator<Item = u16> + 'a {
    ours.iter().copied().filter(|id| theirs.contains(id) && !is_grease(*id))
}

fn lacks(ours: &[u16], theirs: &[u16]) -> bool {
    !ours.is_empty() && both(ours, theirs).next().is_none()
}

/// The values that offer something: no GREASE (RFC 8701), no signalling suite (RFC 5746, RFC 7507).
fn real(ids: &[u16]) -> Vec<u16> {
    ids.iter()
        .copied()
        .filter(|id| !is_grease(*id) && !matches!(*id, 0x00ff | 0x5600))
        .collect()
}

pub fn is_grease(id: u16) -> bool {
    let [high, low] = id.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

mod limits;
mod words;

pub use names::{cipher_name, group_name, named, sigalg_name, version_name};

mod names;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

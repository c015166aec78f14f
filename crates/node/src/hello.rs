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

mod words {
    //! Owns the sentences, slugs, mends and TLS alerts of what this module finds. Refuses to know how it was found.
    use super::{FirstBytes, HelloFault, TlsVersion, Verdict};
    use super::{cipher_name, group_name, named, sigalg_name, version_name};

    impl FirstBytes {
        pub fn slug(&self) -> &'static str {
            match self {
                Self::PlaintextMqtt => "plaintext-mqtt",
                Self::PlaintextHttp => "plaintext-http",
                Self::Ssh => "ssh",
                Self::ProxyProtocol => "proxy-protocol",
                Self::SslV2Hello => "sslv2-hello",
                Self::Other { .. } => "not-tls",
            }
        }

        pub fn sentence(&self) -> String {
            match self {
                Self::PlaintextMqtt => "peer speaks MQTT without TLS".into(),
                Self::PlaintextHttp => "peer speaks HTTP without TLS".into(),
                Self::Ssh => "peer speaks SSH".into(),
                Self::ProxyProtocol => "peer opens with a PROXY protocol header before TLS".into(),
                Self::SslV2Hello => "peer opens with an SSL 2.0 ClientHello".into(),
                Self::Other { bytes, len } => {
                    let seen = bytes
                        .iter()
                        .take(*len)
                        .map(|byte| format!(" {byte:02x}"))
                        .collect::<String>();
                    format!("peer does not speak TLS, its first bytes are{seen}")
                }
            }
        }

        pub fn mend(&self) -> &'static str {
            match self {
                Self::PlaintextMqtt => {
                    "turn TLS on in the client: an mqtts:// address, the CA file, the certificate and key of the device"
                }
                Self::PlaintextHttp => "use https:// or wss:// and the port of the HTTPS or WebSocket listener",
                Self::Ssh => "this is not an SSH port: correct the port in the client",
                Self::ProxyProtocol => "turn the PROXY protocol off in the load balancer for this port",
                Self::SslV2Hello => "the TLS library of the client is too old: use one that speaks TLS 1.2 or 1.3",
                Self::Other { .. } => "point a TLS client at this port; a port scan needs no mend",
            }
        }
    }

    impl HelloFault {
        pub fn slug(&self) -> &'static str {
            match self {
                Self::UnexpectedRecord { .. } | Self::NotClientHello { .. } => "client-hello-missing",
                Self::TooLong { .. } => "client-hello-too-long",
                _ => "client-hello-malformed",
            }
        }

        pub fn sentence(&self) -> String {
            match self {
                Self::UnexpectedRecord { content_type } => {
                    let kind = match content_type {
                        0x14 => "ChangeCipherSpec",
                        0x15 => "alert",
                        0x17 => "application data",
                        0x18 => "heartbeat",
                        _ => "unknown",
                    };
                    format!(
                        "ClientHello is missing: peer sent a TLS record of type {content_type} ({kind}) in its place"
                    )
                }
                Self::EmptyRecord => "ClientHello is broken: a handshake record is empty".into(),
                Self::RecordTooLong { length } => {
                    format!("ClientHello is broken: a record claims {length} bytes, 16384 are allowed")
                }
                Self::NotClientHello { handshake_type } => {
                    format!("ClientHello is missing: peer opens with a handshake message of type {handshake_type}")
                }
                Self::TooLong { limit } => format!("ClientHello is longer than {limit} bytes"),
                Self::Field { name } => format!("ClientHello is broken: {name} does not fit its length or its range"),
                Self::DuplicateExtension { id } => format!("ClientHello is broken: extension {id} appears twice"),
            }
        }

        pub fn mend(&self) -> &'static str {
            match self {
                Self::TooLong { .. } => "offer fewer groups, key shares or session tickets",
                _ => "use a TLS library that follows RFC 5246 or RFC 8446; a scanner needs no mend",
            }
        }

        /// The alert description to answer with (RFC 8446 section 6.2).
        pub fn alert(&self) -> u8 {
            match self {
                Self::UnexpectedRecord { .. } | Self::EmptyRecord | Self::NotClientHello { .. } => 10,
                Self::RecordTooLong { .. } => 22,
                Self::DuplicateExtension { .. } => 47,
                Self::TooLong { .. } | Self::Field { .. } => 50,
            }
        }
    }

    impl Verdict {
        pub fn slug(&self) -> &'static str {
            match self {
                Self::Acceptable => "acceptable",
                Self::VersionTooOld { .. } => "tls-version-too-old",
                Self::NoCommonCipher { .. } => "no-common-cipher",
                Self::NoCommonGroup { .. } => "no-common-group",
                Self::NoCommonSignature { .. } => "no-common-signature",
                Self::NoCommonAlpn { .. } => "no-common-alpn",
            }
        }

        pub fn sentence(&self) -> String {
            match self {
                Self::Acceptable => "ClientHello is acceptable".into(),
                Self::VersionTooOld { offered } => {
                    let newest = offered.iter().filter(|id| TlsVersion::from_id(**id).is_some()).max();
                    let newest = newest.map_or(offered.as_slice(), std::slice::from_ref);
                    format!(
                        "client offers {} at most, which this listener does not accept",
                        listing(&named(newest, version_name))
                    )
                }
                Self::NoCommonCipher { offered } => none_of("cipher suite", &named(offered, cipher_name)),
                Self::NoCommonGroup { offered } => none_of("key exchange group", &named(offered, group_name)),
                Self::NoCommonSignature { offered } => none_of("signature algorithm", &named(offered, sigalg_name)),
                Self::NoCommonAlpn { offered } => none_of("ALPN protocol", offered),
            }
        }

        pub fn mend(&self) -> &'static str {
            match self {
                Self::Acceptable => "",
                Self::VersionTooOld { .. } => "enable TLS 1.2 or 1.3 in the client, or update its TLS library",
                Self::NoCommonCipher { .. } => "enable an ECDHE suite with AES-GCM or ChaCha20-Poly1305 in the client",
                Self::NoCommonGroup { .. } => "enable X25519 or P-256 in the client",
                Self::NoCommonSignature { .. } => "enable ecdsa_secp256r1_sha256 in the client",
                Self::NoCommonAlpn { .. } => "offer the ALPN protocol mqtt, or offer none",
            }
        }

        /// The alert description to answer with (RFC 8446 section 6.2, RFC 7301 section 3.2); None when acceptable.
        pub fn alert(&self) -> Option<u8> {
            match self {
                Self::Acceptable => None,
                Self::VersionTooOld { .. } => Some(70),
                Self::NoCommonAlpn { .. } => Some(120),
                _ => Some(40),
            }
        }
    }

    fn none_of(what: &str, offered: &[String]) -> String {
        format!("client offers no {what} of this listener, only {}", listing(offered))
    }

    /// At most four names: a client may offer hundreds.
    fn listing(names: &[String]) -> String {
        match names {
            [] => "nothing".into(),
            [a, b, c, d, rest @ ..] if !rest.is_empty() => format!("{a}, {b}, {c}, {d} and {} more", rest.len()),
            _ => names.join(", "),
        }
    }
}

pub use names::{cipher_name, group_name, named, sigalg_name, version_name};

mod names {
    //! Owns the IANA names of TLS numbers. Refuses to know which of them are any good.
    use super::TlsVersion;

    impl TlsVersion {
        pub fn from_id(id: u16) -> Option<Self> {
            match id {
                0x0300 => Some(Self::Ssl3),
                0x0301 => Some(Self::Tls10),
                0x0302 => Some(Self::Tls11),
                0x0303 => Some(Self::Tls12),
                0x0304 => Some(Self::Tls13),
                _ => None,
            }
        }
    }

    /// Each number's name, or `0x1a2b` where it has none.
    pub fn named(ids: &[u16], name: fn(u16) -> Option<&'static str>) -> Vec<String> {
        ids.iter()
            .map(|id| name(*id).map_or_else(|| format!("0x{id:04x}"), str::to_owned))
            .collect()
    }

    pub fn version_name(id: u16) -> Option<&'static str> {
        Some(match id {
            0x0002 => "SSL 2.0",
            0x0300 => "SSL 3.0",
            0x0301 => "TLS 1.0",
            0x0302 => "TLS 1.1",
            0x0303 => "TLS 1.2",
            0x0304 => "TLS 1.3",
            0x7f00..=0x7fff => "TLS 1.3 draft",
            _ => return None,
        })
    }

    #[rustfmt::skip]
    pub fn group_name(id: u16) -> Option<&'static str> {
        Some(match id {
            9 => "sect283k1", 10 => "sect283r1", 11 => "sect409k1", 12 => "sect409r1", 13 => "sect571k1", 14 => "sect571r1",
            19 => "secp192r1", 21 => "secp224r1", 22 => "secp256k1", 23 => "secp256r1", 24 => "secp384r1", 25 => "secp521r1",
            26 => "brainpoolP256r1", 27 => "brainpoolP384r1", 28 => "brainpoolP512r1", 29 => "x25519", 30 => "x448",
            31 => "brainpoolP256r1tls13", 32 => "brainpoolP384r1tls13", 33 => "brainpoolP512r1tls13", 41 => "curveSM2",
            256 => "ffdhe2048", 257 => "ffdhe3072", 258 => "ffdhe4096", 259 => "ffdhe6144", 260 => "ffdhe8192",
            0x0200 => "MLKEM512", 0x0201 => "MLKEM768", 0x0202 => "MLKEM1024", 0x11eb => "SecP256r1MLKEM768",
            0x11ec => "X25519MLKEM768", 0x11ed => "SecP384r1MLKEM1024", 0x6399 => "X25519Kyber768Draft00",
            _ => return None,
        })
    }

    #[rustfmt::skip]
    pub fn sigalg_name(id: u16) -> Option<&'static str> {
        Some(match id {
            0x0101 => "rsa_pkcs1_md5", 0x0201 => "rsa_pkcs1_sha1", 0x0202 => "dsa_sha1", 0x0203 => "ecdsa_sha1",
            0x0301 => "rsa_pkcs1_sha224", 0x0302 => "dsa_sha224", 0x0303 => "ecdsa_sha224", 0x0401 => "rsa_pkcs1_sha256",
            0x0402 => "dsa_sha256", 0x0403 => "ecdsa_secp256r1_sha256", 0x0501 => "rsa_pkcs1_sha384", 0x0502 => "dsa_sha384",
            0x0503 => "ecdsa_secp384r1_sha384", 0x0601 => "rsa_pkcs1_sha512", 0x0602 => "dsa_sha512",
            0x0603 => "ecdsa_secp521r1_sha512", 0x0708 => "sm2sig_sm3", 0x0804 => "rsa_pss_rsae_sha256",
            0x0805 => "rsa_pss_rsae_sha384", 0x0806 => "rsa_pss_rsae_sha512", 0x0807 => "ed25519", 0x0808 => "ed448",
            0x0809 => "rsa_pss_pss_sha256", 0x080a => "rsa_pss_pss_sha384", 0x080b => "rsa_pss_pss_sha512",
            0x081a => "ecdsa_brainpoolP256r1tls13_sha256", 0x081b => "ecdsa_brainpoolP384r1tls13_sha384",
            0x081c => "ecdsa_brainpoolP512r1tls13_sha512", 0x0904 => "mldsa44", 0x0905 => "mldsa65", 0x0906 => "mldsa87",
            _ => return None,
        })
    }

    #[rustfmt::skip]
    pub fn cipher_name(id: u16) -> Option<&'static str> {
        Some(match id {
            0x0001 => "TLS_RSA_WITH_NULL_MD5", 0x0002 => "TLS_RSA_WITH_NULL_SHA", 0x0004 => "TLS_RSA_WITH_RC4_128_MD5",
            0x0005 => "TLS_RSA_WITH_RC4_128_SHA", 0x0009 => "TLS_RSA_WITH_DES_CBC_SHA", 0x000a => "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
            0x0015 => "TLS_DHE_RSA_WITH_DES_CBC_SHA", 0x0016 => "TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA", 0x002c => "TLS_PSK_WITH_NULL_SHA",
            0x002d => "TLS_DHE_PSK_WITH_NULL_SHA", 0x002e => "TLS_RSA_PSK_WITH_NULL_SHA", 0x002f => "TLS_RSA_WITH_AES_128_CBC_SHA",
            0x0033 => "TLS_DHE_RSA_WITH_AES_128_CBC_SHA", 0x0035 => "TLS_RSA_WITH_AES_256_CBC_SHA",
            0x0039 => "TLS_DHE_RSA_WITH_AES_256_CBC_SHA", 0x003b => "TLS_RSA_WITH_NULL_SHA256", 0x003c => "TLS_RSA_WITH_AES_128_CBC_SHA256",
            0x003d => "TLS_RSA_WITH_AES_256_CBC_SHA256", 0x0041 => "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA",
            0x0045 => "TLS_DHE_RSA_WITH_CAMELLIA_128_CBC_SHA", 0x0067 => "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256",
            0x006b => "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256", 0x0084 => "TLS_RSA_WITH_CAMELLIA_256_CBC_SHA",
            0x0088 => "TLS_DHE_RSA_WITH_CAMELLIA_256_CBC_SHA", 0x008a => "TLS_PSK_WITH_RC4_128_SHA",
            0x008b => "TLS_PSK_WITH_3DES_EDE_CBC_SHA", 0x008c => "TLS_PSK_WITH_AES_128_CBC_SHA", 0x008d => "TLS_PSK_WITH_AES_256_CBC_SHA",
            0x008e => "TLS_DHE_PSK_WITH_RC4_128_SHA", 0x008f => "TLS_DHE_PSK_WITH_3DES_EDE_CBC_SHA",
            0x0090 => "TLS_DHE_PSK_WITH_AES_128_CBC_SHA", 0x0091 => "TLS_DHE_PSK_WITH_AES_256_CBC_SHA",
            0x0092 => "TLS_RSA_PSK_WITH_RC4_128_SHA", 0x0093 => "TLS_RSA_PSK_WITH_3DES_EDE_CBC_SHA",
            0x0094 => "TLS_RSA_PSK_WITH_AES_128_CBC_SHA", 0x0095 => "TLS_RSA_PSK_WITH_AES_256_CBC_SHA",
            0x009c => "TLS_RSA_WITH_AES_128_GCM_SHA256", 0x009d => "TLS_RSA_WITH_AES_256_GCM_SHA384",
            0x009e => "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", 0x009f => "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
            0x00a8 => "TLS_PSK_WITH_AES_128_GCM_SHA256", 0x00a9 => "TLS_PSK_WITH_AES_256_GCM_SHA384",
            0x00aa => "TLS_DHE_PSK_WITH_AES_128_GCM_SHA256", 0x00ab => "TLS_DHE_PSK_WITH_AES_256_GCM_SHA384",
            0x00ac => "TLS_RSA_PSK_WITH_AES_128_GCM_SHA256", 0x00ad => "TLS_RSA_PSK_WITH_AES_256_GCM_SHA384",
            0x00ae => "TLS_PSK_WITH_AES_128_CBC_SHA256", 0x00af => "TLS_PSK_WITH_AES_256_CBC_SHA384", 0x00b0 => "TLS_PSK_WITH_NULL_SHA256",
            0x00b1 => "TLS_PSK_WITH_NULL_SHA384", 0x00b2 => "TLS_DHE_PSK_WITH_AES_128_CBC_SHA256",
            0x00b3 => "TLS_DHE_PSK_WITH_AES_256_CBC_SHA384", 0x00b4 => "TLS_DHE_PSK_WITH_NULL_SHA256",
            0x00b5 => "TLS_DHE_PSK_WITH_NULL_SHA384", 0x00b6 => "TLS_RSA_PSK_WITH_AES_128_CBC_SHA256",
            0x00b7 => "TLS_RSA_PSK_WITH_AES_256_CBC_SHA384", 0x00b8 => "TLS_RSA_PSK_WITH_NULL_SHA256",
            0x00b9 => "TLS_RSA_PSK_WITH_NULL_SHA384", 0x00ba => "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA256",
            0x00be => "TLS_DHE_RSA_WITH_CAMELLIA_128_CBC_SHA256", 0x00c0 => "TLS_RSA_WITH_CAMELLIA_256_CBC_SHA256",
            0x00c4 => "TLS_DHE_RSA_WITH_CAMELLIA_256_CBC_SHA256", 0x00ff => "TLS_EMPTY_RENEGOTIATION_INFO_SCSV",
            0x1301 => "TLS_AES_128_GCM_SHA256", 0x1302 => "TLS_AES_256_GCM_SHA384", 0x1303 => "TLS_CHACHA20_POLY1305_SHA256",
            0x1304 => "TLS_AES_128_CCM_SHA256", 0x1305 => "TLS_AES_128_CCM_8_SHA256", 0x5600 => "TLS_FALLBACK_SCSV",
            0xc002 => "TLS_ECDH_ECDSA_WITH_RC4_128_SHA", 0xc003 => "TLS_ECDH_ECDSA_WITH_3DES_EDE_CBC_SHA",
            0xc004 => "TLS_ECDH_ECDSA_WITH_AES_128_CBC_SHA", 0xc005 => "TLS_ECDH_ECDSA_WITH_AES_256_CBC_SHA",
            0xc006 => "TLS_ECDHE_ECDSA_WITH_NULL_SHA", 0xc007 => "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
            0xc008 => "TLS_ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA", 0xc009 => "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
            0xc00a => "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", 0xc00c => "TLS_ECDH_RSA_WITH_RC4_128_SHA",
            0xc00d => "TLS_ECDH_RSA_WITH_3DES_EDE_CBC_SHA", 0xc00e => "TLS_ECDH_RSA_WITH_AES_128_CBC_SHA",
            0xc00f => "TLS_ECDH_RSA_WITH_AES_256_CBC_SHA", 0xc010 => "TLS_ECDHE_RSA_WITH_NULL_SHA",
            0xc011 => "TLS_ECDHE_RSA_WITH_RC4_128_SHA", 0xc012 => "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
            0xc013 => "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", 0xc014 => "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
            0xc023 => "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", 0xc024 => "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
            0xc025 => "TLS_ECDH_ECDSA_WITH_AES_128_CBC_SHA256", 0xc026 => "TLS_ECDH_ECDSA_WITH_AES_256_CBC_SHA384",
            0xc027 => "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", 0xc028 => "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
            0xc029 => "TLS_ECDH_RSA_WITH_AES_128_CBC_SHA256", 0xc02a => "TLS_ECDH_RSA_WITH_AES_256_CBC_SHA384",
            0xc02b => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0xc02c => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            0xc02d => "TLS_ECDH_ECDSA_WITH_AES_128_GCM_SHA256", 0xc02e => "TLS_ECDH_ECDSA_WITH_AES_256_GCM_SHA384",
            0xc02f => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xc030 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            0xc031 => "TLS_ECDH_RSA_WITH_AES_128_GCM_SHA256", 0xc032 => "TLS_ECDH_RSA_WITH_AES_256_GCM_SHA384",
            0xc033 => "TLS_ECDHE_PSK_WITH_RC4_128_SHA", 0xc034 => "TLS_ECDHE_PSK_WITH_3DES_EDE_CBC_SHA",
            0xc035 => "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA", 0xc036 => "TLS_ECDHE_PSK_WITH_AES_256_CBC_SHA",
            0xc037 => "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256", 0xc038 => "TLS_ECDHE_PSK_WITH_AES_256_CBC_SHA384",
            0xc039 => "TLS_ECDHE_PSK_WITH_NULL_SHA", 0xc03a => "TLS_ECDHE_PSK_WITH_NULL_SHA256", 0xc03b => "TLS_ECDHE_PSK_WITH_NULL_SHA384",
            0xc050 => "TLS_RSA_WITH_ARIA_128_GCM_SHA256", 0xc051 => "TLS_RSA_WITH_ARIA_256_GCM_SHA384",
            0xc052 => "TLS_DHE_RSA_WITH_ARIA_128_GCM_SHA256", 0xc053 => "TLS_DHE_RSA_WITH_ARIA_256_GCM_SHA384",
            0xc05c => "TLS_ECDHE_ECDSA_WITH_ARIA_128_GCM_SHA256", 0xc05d => "TLS_ECDHE_ECDSA_WITH_ARIA_256_GCM_SHA384",
            0xc060 => "TLS_ECDHE_RSA_WITH_ARIA_128_GCM_SHA256", 0xc061 => "TLS_ECDHE_RSA_WITH_ARIA_256_GCM_SHA384",
            0xc06a => "TLS_PSK_WITH_ARIA_128_GCM_SHA256", 0xc06b => "TLS_PSK_WITH_ARIA_256_GCM_SHA384",
            0xc06c => "TLS_DHE_PSK_WITH_ARIA_128_GCM_SHA256", 0xc06d => "TLS_DHE_PSK_WITH_ARIA_256_GCM_SHA384",
            0xc06e => "TLS_RSA_PSK_WITH_ARIA_128_GCM_SHA256", 0xc06f => "TLS_RSA_PSK_WITH_ARIA_256_GCM_SHA384",
            0xc072 => "TLS_ECDHE_ECDSA_WITH_CAMELLIA_128_CBC_SHA256", 0xc073 => "TLS_ECDHE_ECDSA_WITH_CAMELLIA_256_CBC_SHA384",
            0xc076 => "TLS_ECDHE_RSA_WITH_CAMELLIA_128_CBC_SHA256", 0xc077 => "TLS_ECDHE_RSA_WITH_CAMELLIA_256_CBC_SHA384",
            0xc07a => "TLS_RSA_WITH_CAMELLIA_128_GCM_SHA256", 0xc07b => "TLS_RSA_WITH_CAMELLIA_256_GCM_SHA384",
            0xc07c => "TLS_DHE_RSA_WITH_CAMELLIA_128_GCM_SHA256", 0xc07d => "TLS_DHE_RSA_WITH_CAMELLIA_256_GCM_SHA384",
            0xc086 => "TLS_ECDHE_ECDSA_WITH_CAMELLIA_128_GCM_SHA256", 0xc087 => "TLS_ECDHE_ECDSA_WITH_CAMELLIA_256_GCM_SHA384",
            0xc08a => "TLS_ECDHE_RSA_WITH_CAMELLIA_128_GCM_SHA256", 0xc08b => "TLS_ECDHE_RSA_WITH_CAMELLIA_256_GCM_SHA384",
            0xc08e => "TLS_PSK_WITH_CAMELLIA_128_GCM_SHA256", 0xc08f => "TLS_PSK_WITH_CAMELLIA_256_GCM_SHA384",
            0xc090 => "TLS_DHE_PSK_WITH_CAMELLIA_128_GCM_SHA256", 0xc091 => "TLS_DHE_PSK_WITH_CAMELLIA_256_GCM_SHA384",
            0xc094 => "TLS_PSK_WITH_CAMELLIA_128_CBC_SHA256", 0xc095 => "TLS_PSK_WITH_CAMELLIA_256_CBC_SHA384",
            0xc096 => "TLS_DHE_PSK_WITH_CAMELLIA_128_CBC_SHA256", 0xc097 => "TLS_DHE_PSK_WITH_CAMELLIA_256_CBC_SHA384",
            0xc098 => "TLS_RSA_PSK_WITH_CAMELLIA_128_CBC_SHA256", 0xc099 => "TLS_RSA_PSK_WITH_CAMELLIA_256_CBC_SHA384",
            0xc09a => "TLS_ECDHE_PSK_WITH_CAMELLIA_128_CBC_SHA256", 0xc09b => "TLS_ECDHE_PSK_WITH_CAMELLIA_256_CBC_SHA384",
            0xc09c => "TLS_RSA_WITH_AES_128_CCM", 0xc09d => "TLS_RSA_WITH_AES_256_CCM", 0xc09e => "TLS_DHE_RSA_WITH_AES_128_CCM",
            0xc09f => "TLS_DHE_RSA_WITH_AES_256_CCM", 0xc0a0 => "TLS_RSA_WITH_AES_128_CCM_8", 0xc0a1 => "TLS_RSA_WITH_AES_256_CCM_8",
            0xc0a2 => "TLS_DHE_RSA_WITH_AES_128_CCM_8", 0xc0a3 => "TLS_DHE_RSA_WITH_AES_256_CCM_8", 0xc0a4 => "TLS_PSK_WITH_AES_128_CCM",
            0xc0a5 => "TLS_PSK_WITH_AES_256_CCM", 0xc0a6 => "TLS_DHE_PSK_WITH_AES_128_CCM", 0xc0a7 => "TLS_DHE_PSK_WITH_AES_256_CCM",
            0xc0a8 => "TLS_PSK_WITH_AES_128_CCM_8", 0xc0a9 => "TLS_PSK_WITH_AES_256_CCM_8", 0xc0aa => "TLS_PSK_DHE_WITH_AES_128_CCM_8",
            0xc0ab => "TLS_PSK_DHE_WITH_AES_256_CCM_8", 0xc0ac => "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
            0xc0ad => "TLS_ECDHE_ECDSA_WITH_AES_256_CCM", 0xc0ae => "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
            0xc0af => "TLS_ECDHE_ECDSA_WITH_AES_256_CCM_8", 0xcca8 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            0xcca9 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", 0xccaa => "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            0xccab => "TLS_PSK_WITH_CHACHA20_POLY1305_SHA256", 0xccac => "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256",
            0xccad => "TLS_DHE_PSK_WITH_CHACHA20_POLY1305_SHA256", 0xccae => "TLS_RSA_PSK_WITH_CHACHA20_POLY1305_SHA256",
            0xd001 => "TLS_ECDHE_PSK_WITH_AES_128_GCM_SHA256", 0xd002 => "TLS_ECDHE_PSK_WITH_AES_256_GCM_SHA384",
            0xd003 => "TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256", 0xd005 => "TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Captured on loopback from OpenSSL 3.0 s_client, GnuTLS 3.7 gnutls-cli, curl 7.88 and Python 3.11.
    const OPENSSL_13: &str = "16030100fb010000f703033cce20f52b66bf7d1fe84319453e5f431138d8388e5473ad3b89fca9521adb77209d83fe63668b64d31ae47e1822ec54184adb0633f0744f95a373d73f54db01c8000813021303130100ff010000a600000010000e00000b62726f6b65722e74657374000b000403000102000a00160014001d0017001e001900180100010101020103010400230000001000070005046d7174740016000000170000000d001e001c040305030603080708080809080a080b080408050806040105010601002b0003020304002d00020101003300260024001d00209201d8ba7b02d099a5194cc2d224182261b4d49672f9dc34de4d462d4e75a96c";
    const OPENSSL_12: &str = "16030100bc010000b80303df2fad96d367c576c430a3712d1b63ced01957ea88f9882fcba850110730c06c000038c02cc030009fcca9cca8ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff010000570001000101000b000403000102000a000c000a001d0017001e00190018002300000016000000170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602";
    const OPENSSL_11: &str = "16030100630100005f0302fae501673b58cc310e49b4795d0b119e773c11ddc45e0597140bb444b880c79c000012c00ac0140039c009c01300330035002f00ff01000024000b000403000102000a000c000a001d0017001e00190018002300000016000000170000";
    const OPENSSL_PSK: &str = "16030101130100010f030325dcc5030beb1c7f2fcf811e2d50ad6122554845daaa94ff06059563a81f16a9200ee22bc58ceca951d9d46b138a11b4d36cfe5efbc1549ac9a0afcf5b13573a7a000813021303130100ff010000be000b000403000102000a00160014001d0017001e0019001801000101010201030104002300000016000000170000000d001e001c040305030603080708080809080a080b080408050806040105010601002b0003020304002d00020101003300260024001d002087689eba1cc63180fae0f39d7a42446b18601daafc84368a7009cca62d96695c00290033000e000873656e736f722d390000000000212072c7fdbd120d9de61c45ffaa0047f8426145878ae6a1bd5263284b0568f779d2";
    const OPENSSL_PSK12: &str = "16030100e1010000dd03030ca7936d04433c037f5d6b4bb575df230423496dfdb7a50b41e7bc17d624958f00006200ad00abccaeccadccacc0abc0a7c06fc06d00a9ccabc0a9c0a5c06b00ac00aac0aac0a6c06ec06c00a8c0a8c0a4c06ac038c03600b700b300950091c09bc099c09700af008dc095c037c03500b600b200940090c09ac098c09600ae008cc09400ff01000052000b000403000102000a000c000a001d0017001e00190018002300000016000000170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602";
    const GNUTLS: &str = "16030101800100017c0303cec89d861261c8913403c509fc36c775127c2ab3825f2d50028fb0ea0f90c5ae20f4f4d882020c982f6bc49a29cd168ba0f5e4fa4b77cd6c35650a9470f2961720003a1302130313011304c02ccca9c0adc00ac02bc0acc009c030cca8c014c02fc013009dc09d0035009cc09c002f009fccaac09f0039009ec09e0033010000f9000500050100000000000a00160014001700180019001d001e01000101010201030104000b00020100000d00220020040108090804040308070501080a0805050308080601080b0806060302010203001000070005046d7174740016000000170000002300000033006b00690017004104d073cf718540adaf4e7e8901614514ea41b9f595d648ecbd20e381379a55e849790befd1af4c630314ac3f9a2ff7c7d7cb13ff40682fae453defa125dd490ba1001d00204c8e3ec33eab2e525f180e52d46508178f8c684e881386d6dee241899aa1b812002b0009080304030303020301ff01000100002d0003020100001c000202010001000101";
    const CURL: &str = "1603010200010001fc0303619452f170b61fce5e9c3a6be86068126ccfdb9344d541f0f1aca13e2eb4ca8a20eaaed9783690a7e77a7ac3d32f11587b3962decdc12f505ddf96f5b99f8cbcc4003e130213031301c02cc030009fcca9cca8ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff0100017500000010000e00000b62726f6b65722e74657374000b000403000102000a00160014001d0017001e00190018010001010102010301040010000e000c02683208687474702f312e31001600000017000000310000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602002b0009080304030303020301002d00020101003300260024001d00207ca72190822ca4d141cab311146c631b48b092dcd47e922f2787f9c9c49d9b01001500b200000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
    const PYTHON: &str = "1603010200010001fc03030e7d3ee7b49182985da5f06532356097391f24904fa336f8dd83dd380e8a288620f4d16de97af3b105c14fafa70009b008cf09d124b5f922e7aef56cd3eb6019d80024130213031301c02cc030c02bc02fcca9cca8c024c028c023c027009f009e006b006700ff0100018f00000010000e00000b62726f6b65722e74657374000b000403000102000a00160014001d0017001e001900180100010101020103010400230000001000070005046d7174740016000000170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602002b00050403040303002d00020101003300260024001d00200438db9ece7721bebfde9ca81e4a39b7a59fb171c48e9a2273de0ac12a1f6229001500d70000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
    const CAPTURES: [&str; 8] = [
        OPENSSL_13,
        OPENSSL_12,
        OPENSSL_11,
        OPENSSL_PSK,
        OPENSSL_PSK12,
        GNUTLS,
        CURL,
        PYTHON,
    ];

    const POLICY: Policy<'static> = Policy {
        tls13_suites: &[0x1302, 0x1301, 0x1303],
        tls12_suites: &[0xc02c, 0xc02b, 0xcca9],
        groups: &[0x11ec, 29, 23],
        signature_algorithms: &[0x0403],
        alpn: &[b"mqtt"],
    };

    fn unhex(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn look(bytes: &[u8]) -> Sniff {
        sniff(bytes, HelloLimits::default())
    }

    fn hello(bytes: &[u8]) -> ClientHello {
        match look(bytes) {
            Sniff::Hello(hello) => *hello,
            other => panic!("no ClientHello: {other:?}"),
        }
    }

    fn ids(ids: &[u16]) -> Vec<u8> {
        ids.iter().flat_map(|id| id.to_be_bytes()).collect()
    }

    fn sized(width: usize, body: &[u8]) -> Vec<u8> {
        [&body.len().to_be_bytes()[8 - width..], body].concat()
    }

    /// A ClientHello message with these extensions.
    fn message(version: u16, suites: &[u16], extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|(id, data)| [ids(&[*id]), sized(2, data)].concat())
            .collect();
        let body = [
            ids(&[version]),
            vec![7; 32],
            vec![0],
            sized(2, &ids(suites)),
            vec![1, 0],
            sized(2, &extensions),
        ]
        .concat();
        [vec![1], sized(3, &body)].concat()
    }

    /// The message in handshake records of at most `cut` bytes.
    fn records(message: &[u8], cut: usize) -> Vec<u8> {
        message
            .chunks(cut)
            .flat_map(|part| [vec![22, 3, 1], sized(2, part)].concat())
            .collect()
    }

    fn modern(extensions: &[(u16, Vec<u8>)]) -> ClientHello {
        let base = [
            (43, sized(1, &ids(&[0x2a2a, 0x0304, 0x0303]))),
            (10, sized(2, &ids(&[0x4a4a, 29]))),
            (13, sized(2, &ids(&[0x0403]))),
        ];
        let all: Vec<_> = base
            .into_iter()
            .filter(|(id, _)| extensions.iter().all(|e| e.0 != *id))
            .chain(extensions.iter().cloned())
            .collect();
        hello(&records(
            &message(0x0303, &[0x0a0a, 0x1301, 0xc02b, 0x00ff], &all),
            16_384,
        ))
    }

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 16).unwrap()
        }
    }

    #[test]
    fn every_truncation_needs_more_and_what_follows_is_left_alone() {
        for capture in CAPTURES {
            let bytes = unhex(capture);
            let whole = hello(&bytes);
            assert_eq!((whole.wire_bytes, whole.records), (bytes.len(), 1));
            for end in 0..bytes.len() {
                assert_eq!(look(&bytes[..end]), Sniff::NeedMore, "{end} of {}", bytes.len());
            }
            assert_eq!(hello(&[bytes.as_slice(), &[0x17; 40_000]].concat()), whole);
        }
    }

    #[test]
    fn fragments_are_put_together_whatever_their_size() {
        for capture in CAPTURES {
            let bytes = unhex(capture);
            let whole = hello(&bytes);
            for cut in [1, 2, 3, 4, 5, 50, 100] {
                let split = records(&bytes[5..], cut);
                let count = (bytes.len() - 5).div_ceil(cut);
                for end in 0..split.len() {
                    assert_eq!(look(&split[..end]), Sniff::NeedMore);
                }
                assert_eq!(
                    hello(&split),
                    ClientHello {
                        records: count,
                        wire_bytes: split.len(),
                        ..whole.clone()
                    }
                );
            }
        }
    }

    #[test]
    fn captures_say_what_the_clients_were_told_to_offer() {
        let seen = hello(&unhex(OPENSSL_13));
        assert_eq!(
            (seen.legacy_version, seen.highest_version()),
            (0x0303, Some(TlsVersion::Tls13))
        );
        assert_eq!(seen.server_name.as_deref(), Some("broker.test"));
        assert_eq!(
            (seen.alpn_text(), seen.key_share_groups.clone()),
            (vec!["mqtt".to_string()], vec![29])
        );
        assert_eq!(seen.cipher_suites, [0x1302, 0x1303, 0x1301, 0x00ff]);
        assert_eq!(
            (seen.groups.first(), seen.session_id_len, seen.session_ticket_len),
            (Some(&29), 32, Some(0))
        );
        assert!(seen.signature_algorithms.contains(&0x0403));

        let seen = hello(&unhex(OPENSSL_12));
        assert_eq!(
            (seen.versions.clone(), seen.max_fragment_length),
            (vec![0x0303], Some(512))
        );
        assert_eq!(
            (seen.server_name.clone(), seen.psk_identities, seen.alpn.len()),
            (None, 0, 0)
        );

        let seen = hello(&unhex(OPENSSL_11));
        assert_eq!(
            (seen.versions.clone(), seen.highest_version()),
            (vec![0x0302], Some(TlsVersion::Tls11))
        );

        assert_eq!(hello(&unhex(OPENSSL_PSK)).psk_identities, 1);
        assert!(
            named(&hello(&unhex(OPENSSL_PSK12)).cipher_suites, cipher_name)
                .iter()
                .any(|n| n == "TLS_PSK_WITH_AES_128_GCM_SHA256")
        );
        assert_eq!(hello(&unhex(PYTHON)).server_name.as_deref(), Some("broker.test"));
        assert_eq!(hello(&unhex(CURL)).alpn_text(), ["h2", "http/1.1"]);
        assert_eq!(hello(&unhex(GNUTLS)).record_size_limit, Some(513));
    }

    #[test]
    fn every_number_in_the_captures_has_a_name() {
        for capture in CAPTURES {
            let seen = hello(&unhex(capture));
            let unnamed = [
                named(&seen.cipher_suites, cipher_name),
                named(&seen.groups, group_name),
                named(&seen.signature_algorithms, sigalg_name),
                named(&seen.versions, version_name),
            ];
            assert!(
                unnamed.iter().flatten().all(|name| !name.starts_with("0x")),
                "{unnamed:?}"
            );
        }
        assert!((0..=u16::MAX).filter_map(cipher_name).count() >= 60);
        assert_eq!(named(&[0x0a0a], cipher_name), ["0x0a0a"]);
    }

    #[test]
    fn verdicts_follow_the_policy() {
        assert_eq!(hello(&unhex(OPENSSL_13)).judge(&POLICY), Verdict::Acceptable);
        assert_eq!(hello(&unhex(OPENSSL_12)).judge(&POLICY), Verdict::Acceptable);
        assert_eq!(hello(&unhex(PYTHON)).judge(&POLICY), Verdict::Acceptable);
        assert_eq!(hello(&unhex(GNUTLS)).judge(&POLICY), Verdict::Acceptable);
        let old = hello(&unhex(OPENSSL_11)).judge(&POLICY);
        assert_eq!(old, Verdict::VersionTooOld { offered: vec![0x0302] });
        assert_eq!((old.slug(), old.alert()), ("tls-version-too-old", Some(70)));
        assert_eq!(
            old.sentence(),
            "client offers TLS 1.1 at most, which this listener does not accept"
        );
        let psk = hello(&unhex(OPENSSL_PSK12)).judge(&POLICY);
        assert!(
            matches!(&psk, Verdict::NoCommonCipher { offered } if !offered.contains(&0x00ff)),
            "{psk:?}"
        );
        assert!(
            psk.sentence()
                .starts_with("client offers no cipher suite of this listener, only TLS_")
        );
        let alpn = hello(&unhex(CURL)).judge(&POLICY);
        assert_eq!(
            alpn,
            Verdict::NoCommonAlpn {
                offered: vec!["h2".into(), "http/1.1".into()]
            }
        );
        assert_eq!(alpn.alert(), Some(120));
    }

    #[test]
    fn grease_never_counts_as_common_ground() {
        let greasy = Policy {
            tls13_suites: &[0x0a0a],
            groups: &[0x4a4a],
            ..POLICY
        };
        assert_eq!(modern(&[]).judge(&POLICY), Verdict::Acceptable);
        assert_eq!(
            modern(&[]).judge(&greasy),
            Verdict::NoCommonCipher {
                offered: vec![0x1301, 0xc02b]
            }
        );
        let groups = Policy {
            groups: &[0x4a4a, 24],
            ..POLICY
        };
        assert_eq!(modern(&[]).judge(&groups), Verdict::NoCommonGroup { offered: vec![29] });
        let signatures = Policy {
            signature_algorithms: &[0x0807],
            ..POLICY
        };
        assert_eq!(
            modern(&[]).judge(&signatures),
            Verdict::NoCommonSignature { offered: vec![0x0403] }
        );
        assert_eq!(
            modern(&[(43, sized(1, &ids(&[0x1a1a])))]).judge(&POLICY),
            Verdict::VersionTooOld { offered: vec![] }
        );
        assert_eq!((0..=u16::MAX).filter(|id| is_grease(*id)).count(), 16);
    }

    #[test]
    fn the_version_decides_which_suites_and_groups_count() {
        let only13 = Policy {
            tls12_suites: &[],
            ..POLICY
        };
        let only12 = Policy {
            tls13_suites: &[],
            ..POLICY
        };
        assert_eq!(modern(&[]).judge(&only12), Verdict::Acceptable);
        assert!(matches!(
            hello(&unhex(OPENSSL_12)).judge(&only13),
            Verdict::VersionTooOld { .. }
        ));
        // TLS 1.3 is chosen, so the TLS 1.2 suite in common does not help
        let mismatch = Policy {
            tls13_suites: &[0x1303],
            ..POLICY
        };
        assert!(matches!(modern(&[]).judge(&mismatch), Verdict::NoCommonCipher { .. }));
        let bare12 = hello(&records(
            &message(0x0303, &[0xc02b], &[(13, sized(2, &ids(&[0x0403])))]),
            99,
        ));
        assert_eq!(bare12.judge(&POLICY), Verdict::Acceptable);
        let groups12 = [(10, sized(2, &ids(&[25]))), (13, sized(2, &ids(&[0x0403])))];
        let ecdhe = hello(&records(&message(0x0303, &[0xc02b], &groups12), 99));
        assert_eq!(ecdhe.judge(&POLICY), Verdict::NoCommonGroup { offered: vec![25] });
        // legacy_version does not bring TLS 1.3 (RFC 8446 section 4.2.1)
        assert_eq!(hello(&records(&message(0x0304, &[0x1301], &[]), 99)).versions, [0x0303]);
    }

    #[test]
    fn a_hello_without_extensions_is_read() {
        let bytes =
            unhex("160300002d0100002903000000000000000000000000000000000000000000000000000000000000000000000002000501");
        let bytes = [bytes.as_slice(), &[0]].concat();
        let seen = hello(&bytes);
        assert_eq!(
            (seen.versions, seen.cipher_suites, seen.extensions.len()),
            (vec![0x0300], vec![5], 0)
        );
    }

    #[test]
    fn other_protocols_are_told_apart_at_once() {
        use FirstBytes::*;
        let cases: [(&[u8], usize, FirstBytes); 14] = [
            (b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04abcd", 2, PlaintextMqtt),
            (b"\x10\x12\0\x06MQIsdp\x03\x02\0\x3c\0\x04abcd", 2, PlaintextMqtt),
            (b"\x10\x90\x02\0\x04MQTT\x05", 2, PlaintextMqtt),
            (b"GET /mqtt HTTP/1.1\r\n", 4, PlaintextHttp),
            (b"POST / HTTP/1.1\r\n", 5, PlaintextHttp),
            (b"OPTIONS * HTTP/1.1\r\n", 8, PlaintextHttp),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 4, PlaintextHttp),
            (b"SSH-2.0-OpenSSH_9.2\r\n", 4, Ssh),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 6, ProxyProtocol),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 12, ProxyProtocol),
            (b"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10", 5, SslV2Hello),
            (b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10", 5, SslV2Hello),
            (
                b"\x03\0\0\x13\x0e",
                1,
                Other {
                    bytes: [3, 0, 0, 0x13, 0x0e, 0, 0, 0],
                    len: 5,
                },
            ),
            (
                b"HELO broker",
                3,
                Other {
                    bytes: *b"HELO bro",
                    len: 8,
                },
            ),
        ];
        for (bytes, decided, expected) in cases {
            assert_eq!(look(bytes), Sniff::NotTls(expected), "{bytes:02x?}");
            for end in 0..bytes.len() {
                let early = look(&bytes[..end]);
                assert_eq!(
                    early == Sniff::NeedMore,
                    end < decided,
                    "{bytes:02x?} at {end}: {early:?}"
                );
            }
        }
        for odd in [
            b"\x10\x02\0\x04".as_slice(),
            b"\x10\x20\xff\xff",
            b"\x10\xff\xff\xff\xff\x01",
            b"\x80\x80\x02",
            b"\x16\xfe\xfd",
        ] {
            assert!(matches!(look(odd), Sniff::NotTls(Other { .. })), "{odd:02x?}");
        }
        let other = Other {
            bytes: [1, 2, 0xff, 0, 0, 0, 0, 0],
            len: 3,
        };
        assert_eq!(
            other.sentence(),
            "peer does not speak TLS, its first bytes are 01 02 ff"
        );
    }

    #[test]
    fn each_fault_has_its_name() {
        use HelloFault::*;
        let with = |id, data: &[u8]| records(&message(0x0303, &[0x1301], &[(id, data.to_vec())]), 16_384);
        let twice = records(
            &message(
                0x0303,
                &[0x1301],
                &[(10, sized(2, &ids(&[29]))), (10, sized(2, &ids(&[29])))],
            ),
            999,
        );
        let cases: Vec<(Vec<u8>, HelloFault)> = vec![
            (vec![0x15, 3, 3, 0, 2, 2, 40], UnexpectedRecord { content_type: 0x15 }),
            (vec![0x17, 3], UnexpectedRecord { content_type: 0x17 }),
            (vec![0x16, 3, 1, 0, 1, 1, 0x15], UnexpectedRecord { content_type: 0x15 }),
            (vec![0x16, 3, 1, 0, 0], EmptyRecord),
            (vec![0x16, 3, 1, 0x40, 1], RecordTooLong { length: 16_385 }),
            (vec![0x16, 3, 1, 0, 9, 2], NotClientHello { handshake_type: 2 }),
            (vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x40, 0], TooLong { limit: 16_384 }),
            (vec![0x16, 3, 1, 0, 4, 1, 0, 0, 0], Field { name: "ClientHello" }),
            (twice, DuplicateExtension { id: 10 }),
            (
                with(1, &[5]),
                Field {
                    name: "max_fragment_length",
                },
            ),
            (
                with(1, &[0]),
                Field {
                    name: "max_fragment_length",
                },
            ),
            (
                with(28, &[1, 2, 3]),
                Field {
                    name: "record_size_limit",
                },
            ),
            (
                with(10, &[0, 3, 0, 29, 0]),
                Field {
                    name: "supported_groups",
                },
            ),
            (
                with(10, &[0, 0]),
                Field {
                    name: "supported_groups",
                },
            ),
            (with(16, &[0, 3, 9, b'a', b'b']), Field { name: "ALPN" }),
            (with(0, &[0, 4, 0, 0, 9, b'a']), Field { name: "server_name" }),
            (with(43, &[2, 3, 4, 9]), Field { name: "extension" }),
            (with(41, &[0, 7, 0, 1, 9, 0, 0, 0, 0]), Field { name: "extension" }),
        ];
        for (bytes, fault) in cases {
            assert_eq!(look(&bytes), Sniff::Malformed(fault), "{bytes:02x?}");
            assert!(fault.alert() > 0 && !fault.sentence().ends_with('.') && !fault.mend().is_empty());
        }
    }

    #[test]
    fn a_length_that_lies_by_one_is_a_fault_and_no_changed_byte_panics() {
        let bytes = unhex(OPENSSL_13);
        let cipher_length = 44 + 32 + 1;
        let extensions_length = cipher_length + 1 + 8 + 2 + 1;
        let first_extension = extensions_length + 4;
        for at in [8, 43, cipher_length, extensions_length, first_extension] {
            for lie in [bytes[at] - 1, bytes[at] + 1] {
                let mut lying = bytes.clone();
                lying[at] = lie;
                let more = at == 8 && lie > bytes[at]; // the message could go on in another record
                let seen = look(&lying);
                assert!(matches!(seen, Sniff::Malformed(_)) != more, "byte {at}: {seen:?}");
            }
        }
        for capture in CAPTURES {
            let bytes = unhex(capture);
            for at in 0..bytes.len() {
                for value in [
                    0,
                    1,
                    bytes[at].wrapping_add(1),
                    bytes[at].wrapping_sub(1),
                    0x7f,
                    0x80,
                    0xff,
                ] {
                    let mut changed = bytes.clone();
                    changed[at] = value;
                    assert!(!matches!(look(&changed), Sniff::NotTls(_)) || at < 2);
                }
            }
        }
    }

    #[test]
    fn work_is_bounded_by_the_limit() {
        let endless: Vec<u8> = [vec![22, 3, 1, 0, 1, 1], [22, 3, 1, 0, 1, 0].repeat(9_999)].concat();
        assert!(
            matches!(look(&endless), Sniff::Malformed(HelloFault::Field { .. })),
            "length 0 ends it"
        );
        let long = message(0x0303, &[0x1301], &[(21, vec![0; 9_000])]);
        let trickle = records(&long, 1);
        assert_eq!(look(&trickle[..600]), Sniff::NeedMore);
        assert_eq!(
            look(&trickle[..16_384]),
            Sniff::Malformed(HelloFault::TooLong { limit: 16_384 })
        );
        let limits = HelloLimits { total: 100 };
        let bytes = unhex(OPENSSL_13);
        assert_eq!(
            sniff(&bytes, limits),
            Sniff::Malformed(HelloFault::TooLong { limit: 100 })
        );
        assert_eq!(
            sniff(&bytes[..9], limits),
            Sniff::Malformed(HelloFault::TooLong { limit: 100 })
        );
        assert!(matches!(
            sniff(&bytes, HelloLimits { total: bytes.len() }),
            Sniff::Hello(_)
        ));
        assert!(matches!(
            sniff(&bytes, HelloLimits { total: bytes.len() - 1 }),
            Sniff::Malformed(_)
        ));
    }

    #[test]
    fn random_bytes_never_panic_and_a_decision_stands() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let openings: [&[u8]; 6] = [
            b"",
            b"\x16\x03\x01",
            b"\x16\x03\x01\0\x40\x01\0\0",
            b"\x10",
            b"\x80",
            b"P",
        ];
        for round in 0..20_000 {
            let noise = (0..random.next() % 90).map(|_| (random.next() & 0xff) as u8);
            let bytes: Vec<u8> = openings[round % openings.len()].iter().copied().chain(noise).collect();
            let mut before = Sniff::NeedMore;
            for end in 0..=bytes.len() {
                let now = look(&bytes[..end]);
                if before != Sniff::NeedMore {
                    assert_eq!(
                        std::mem::discriminant(&before),
                        std::mem::discriminant(&now),
                        "{bytes:02x?} at {end}"
                    );
                }
                before = now;
            }
        }
    }

    #[test]
    fn names_from_the_wire_are_fit_to_print() {
        let name = b"a\r\nb\x1b[2J";
        let entry = sized(2, &[vec![0], sized(2, name)].concat());
        let seen = modern(&[(0, entry), (16, sized(2, &sized(1, b"m\nq")))]);
        assert_eq!(seen.server_name.as_deref(), Some("a\\r\\nb\\x1b[2J"));
        assert_eq!(seen.alpn_text(), ["m\\nq"]);
        let too_many = Verdict::NoCommonCipher { offered: vec![1; 300] };
        assert!(too_many.sentence().ends_with("and 296 more"));
    }
}

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
                format!("ClientHello is missing: peer sent a TLS record of type {content_type} ({kind}) in its place")
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

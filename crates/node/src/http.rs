//! Owns the HTTP/1.1 exchange that opens a WebSocket for MQTT, both sides of it (RFC 6455 section 4, MQTT 5.0 section 6).
//! Refuses to know sockets, frames and randomness: bytes come in, an answer or the bytes to send go out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use httparse::Header;
use sha1::{Digest, Sha1};

/// Bounds on the head of a request or a response; the peer chooses its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes up to the end of the empty line.
    pub header_bytes: usize,
    pub headers: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            header_bytes: 8 * 1024,
            headers: 64,
        }
    }
}

/// What a WebSocket listener answers to.
#[derive(Debug, Clone, Copy)]
pub struct UpgradeRules<'a> {
    /// `/mqtt` by custom; a query string after it is ignored.
    pub path: &'a str,
    /// Values of `Origin` that may connect besides the host that is asked for, such as `https://panel.example`. A browser
    /// shows the client certificate for any page that asks, so a foreign page must not get a WebSocket with it. A
    /// request without `Origin` comes from no browser and is never refused for it.
    pub origins: &'a [String],
    pub limits: HttpLimits,
}

/// What the bytes so far ask for. Call again with the longer buffer after `NeedMore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    NeedMore,
    /// Send `response`; the bytes after `consumed` are frames.
    Accept {
        consumed: usize,
        response: Vec<u8>,
    },
    /// Send `response` and close.
    Refuse {
        response: Vec<u8>,
        cause: &'static str,
        sentence: String,
        mend: &'static str,
    },
}

/// What a server answered to `request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    NeedMore,
    /// The bytes after `consumed` are frames.
    Open {
        consumed: usize,
    },
    Refused {
        cause: &'static str,
        sentence: String,
    },
}

/// The part of an address that cannot stand in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlFault {
    Host,
    Path,
}

impl UrlFault {
    pub fn sentence(&self) -> &'static str {
        match self {
            Self::Host => "host of the address is empty or has a character that no host name has",
            Self::Path => "path of the address does not begin with / or has a character that needs percent-encoding",
        }
    }
}

struct Refusal {
    status: &'static str,
    /// Header lines the status asks for, each with its line end.
    extra: &'static str,
    cause: &'static str,
    sentence: String,
    mend: &'static str,
}

/// Judge an upgrade request (RFC 6455 section 4.2.1).
pub fn upgrade(bytes: &[u8], rules: &UpgradeRules<'_>) -> Upgrade {
    match judge(bytes, rules) {
        Ok(None) => Upgrade::NeedMore,
        Ok(Some((consumed, accept))) => Upgrade::Accept {
            consumed,
            response: format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n" // [MQTT-6.0.0-4]
            )
            .into_bytes(),
        },
        Err(Refusal {
            status,
            extra,
            cause,
            sentence,
            mend,
        }) => Upgrade::Refuse {
            response: format!(
                "HTTP/1.1 {status}\r\n{extra}Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Length: {}\r\n\r\n{sentence}\nmend: {mend}\n",
                sentence.len() + mend.len() + 8
            )
            .into_bytes(),
            cause,
            sentence,
            mend,
        },
    }
}

/// The request that asks `host` (with its port where it is not 443) for a WebSocket at `path`. `key` is 16 fresh
/// random bytes. Raises `UrlFault` for what would break the request line or a header.
pub fn request(host: &str, path: &str, key: &[u8; 16]) -> Result<Vec<u8>, UrlFault> {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || !plain(host) || host.contains(['/', '?', '#', '@']) {
        return Err(UrlFault::Host);
    }
    if !path.starts_with('/') || !plain(path) || path.contains('#') {
        return Err(UrlFault::Path);
    }
    let key = STANDARD.encode(key);
    Ok(format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n" // [MQTT-6.0.0-3]
    )
    .into_bytes())
}

/// Judge the answer to a `request` made with `key` (RFC 6455 section 4.1), within `HttpLimits::default`.
pub fn accept_response(bytes: &[u8], key: &[u8; 16]) -> Answer {
    let limits = HttpLimits::default();
    let refused = |cause, sentence: &str| Answer::Refused {
        cause,
        sentence: sentence.into(),
    };
    let mut headers = vec![httparse::EMPTY_HEADER; limits.headers];
    let mut response = httparse::Response::new(&mut headers);
    let head = bytes.get(..limits.header_bytes).unwrap_or(bytes);
    let consumed = match response.parse(head) {
        Ok(httparse::Status::Complete(consumed)) => consumed,
        Ok(httparse::Status::Partial) if bytes.len() < limits.header_bytes => return Answer::NeedMore,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return refused("http-too-large", "header of the server's answer is too large");
        }
        Err(_) => return refused("http-malformed", "server does not answer in HTTP/1.1"),
    };
    let (code, reason) = (response.code.unwrap_or(0), response.reason.unwrap_or(""));
    if code != 101 {
        let sentence = format!("server answered {code} {} to the WebSocket request", shown(reason));
        return Answer::Refused {
            cause: "http-status",
            sentence: sentence.replace("  ", " "),
        };
    }
    let headers = &*response.headers;
    if !lists(headers, "upgrade", "websocket") || !lists(headers, "connection", "upgrade") {
        return refused(
            "websocket-missing",
            "server answered 101 without an upgrade to WebSocket",
        );
    }
    if only(headers, "sec-websocket-accept") != Some(accept_for(&STANDARD.encode(key)).as_str()) {
        return refused(
            "websocket-key",
            "Sec-WebSocket-Accept of the server does not match our key",
        );
    }
    if values(headers, "sec-websocket-extensions").next().is_some() {
        return refused(
            "websocket-extension",
            "server chose a WebSocket extension that we did not offer",
        );
    }
    if only(headers, "sec-websocket-protocol") != Some("mqtt") {
        return refused(
            "websocket-subprotocol",
            "server did not choose the WebSocket subprotocol mqtt",
        );
    }
    Answer::Open { consumed }
}

/// The bytes of the request and the value of Sec-WebSocket-Accept, once the request is whole and good.
fn judge(bytes: &[u8], rules: &UpgradeRules<'_>) -> Result<Option<(usize, String)>, Refusal> {
    let limits = rules.limits;
    let mut headers = vec![httparse::EMPTY_HEADER; limits.headers];
    let mut request = httparse::Request::new(&mut headers);
    let head = bytes.get(..limits.header_bytes).unwrap_or(bytes);
    let consumed = match request.parse(head) {
        Ok(httparse::Status::Complete(consumed)) => consumed,
        Ok(httparse::Status::Partial) if bytes.len() < limits.header_bytes => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            let HttpLimits { header_bytes, headers } = limits;
            return Err(Refusal {
                status: "431 Request Header Fields Too Large",
                extra: "",
                cause: "http-too-large",
                sentence: format!("header of the request exceeds {header_bytes} bytes or {headers} fields"),
                mend: "send fewer or smaller headers, cookies above all",
            });
        }
        Err(error) => {
            return Err(bad(
                "http-malformed",
                &format!("request is not HTTP/1.1: {error}"),
                "speak MQTT over WebSocket here, or use an mqtts:// port",
            ));
        }
    };
    let headers = &*request.headers;
    let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
    if method != "GET" {
        return Err(Refusal {
            status: "405 Method Not Allowed",
            extra: "Allow: GET\r\n",
            cause: "http-method",
            sentence: format!("request method is {}, a WebSocket opens with GET", shown(method)),
            mend: "connect with a WebSocket client",
        });
    }
    if request.version != Some(1) {
        return Err(bad(
            "http-version",
            "request is HTTP/1.0, a WebSocket needs HTTP/1.1",
            "turn HTTP/1.1 on in the client or the proxy",
        ));
    }
    if path_of(target) != rules.path {
        return Err(Refusal {
            status: "404 Not Found",
            extra: "",
            cause: "http-path",
            sentence: format!("path {} is not served here, {} is", shown(target), rules.path),
            mend: "correct the path in the client's address",
        });
    }
    if only(headers, "host").is_none_or(str::is_empty) {
        return Err(bad(
            "http-host",
            "request has no Host header, or several",
            "send one Host header",
        ));
    }
    let body = values(headers, "content-length").any(|value| value != b"0");
    if body || values(headers, "transfer-encoding").next().is_some() {
        return Err(bad(
            "http-body",
            "request has a body, a WebSocket request has none",
            "connect with a WebSocket client",
        ));
    }
    if !lists(headers, "upgrade", "websocket") || !lists(headers, "connection", "upgrade") {
        return Err(Refusal {
            status: "426 Upgrade Required",
            extra: "Upgrade: websocket\r\n",
            cause: "websocket-missing",
            sentence: "request does not ask for a WebSocket".into(),
            mend: "connect with a WebSocket client; a proxy in between must pass Upgrade and Connection on",
        });
    }
    if only(headers, "sec-websocket-version") != Some("13") {
        return Err(Refusal {
            status: "426 Upgrade Required",
            extra: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            cause: "websocket-version",
            sentence: "request does not ask for version 13 of WebSocket".into(),
            mend: "use a WebSocket library that follows RFC 6455",
        });
    }
    let key = only(headers, "sec-websocket-key")
        .filter(|key| decodes_to_16(key))
        .ok_or_else(|| {
            bad(
                "websocket-key",
                "Sec-WebSocket-Key is not 16 bytes in base64",
                "use a WebSocket library that follows RFC 6455",
            )
        })?;
    let mut origins = values(headers, "origin");
    let own = values(headers, "host").next().map(host_of);
    let allowed = |origin: &[u8]| {
        let scheme = origin.get(..8).unwrap_or_default();
        let is_own = scheme.eq_ignore_ascii_case(b"https://")
            && own.is_some_and(|own| host_of(origin.get(8..).unwrap_or_default()).eq_ignore_ascii_case(own));
        is_own
            || rules
                .origins
                .iter()
                .any(|good| origin.eq_ignore_ascii_case(good.as_bytes()))
    };
    if !origins.all(allowed) {
        return Err(Refusal {
            status: "403 Forbidden",
            extra: "",
            cause: "websocket-origin",
            sentence: "page that opens the WebSocket comes from another host".into(),
            mend: "serve the page from the host name that it connects to",
        });
    }
    if !tokens(headers, "sec-websocket-protocol").any(|token| token == b"mqtt") {
        // [MQTT-6.0.0-3]
        return Err(bad(
            "websocket-subprotocol",
            "request does not offer the WebSocket subprotocol mqtt",
            "set the subprotocol to mqtt in the client; mqttv3.1 is not served",
        ));
    }
    Ok(Some((consumed, accept_for(key))))
}

fn bad(cause: &'static str, sentence: &str, mend: &'static str) -> Refusal {
    Refusal {
        status: "400 Bad Request",
        extra: "",
        cause,
        sentence: sentence.into(),
        mend,
    }
}

/// RFC 6455 section 4.2.2, item 5.
fn accept_for(key: &str) -> String {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest.finalize())
}

fn decodes_to_16(key: &str) -> bool {
    key.len() == 24 && STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// A host without its port; an address in brackets keeps them.
fn host_of(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|&byte| matches!(byte, b':' | b']')) {
        Some(at) if authority.get(at) == Some(&b':') => authority.get(..at).unwrap_or_default(),
        _ => authority,
    }
}

/// The path of a request target in origin or absolute form (RFC 9112 section 3.2), without its query.
fn path_of(target: &str) -> &str {
    let rest = ["https://", "wss://", "http://", "ws://"]
        .iter()
        .find_map(|scheme| target.strip_prefix(scheme));
    let path = rest.map_or(target, |rest| {
        rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
    });
    path.split('?').next().unwrap_or(path)
}

fn values<'h>(headers: &'h [Header<'h>], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value.trim_ascii())
}

/// The elements of a list header, over all its lines.
fn tokens<'h>(headers: &'h [Header<'h>], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    values(headers, name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

fn lists<'h>(headers: &'h [Header<'h>], name: &'h str, token: &str) -> bool {
    tokens(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The value of a header that must be there once.
fn only<'h>(headers: &'h [Header<'h>], name: &'h str) -> Option<&'h str> {
    let mut found = values(headers, name);
    let first = found.next()?;
    if found.next().is_some() {
        None
    } else {
        std::str::from_utf8(first).ok()
    }
}

/// What a peer wrote, fit for a log line: printable ASCII, 64 characters at most.
fn shown(text: &str) -> String {
    text.escape_default().take(64).collect()
}

#[cfg(test)]
mod tests;

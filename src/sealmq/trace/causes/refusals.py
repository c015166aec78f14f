"""The causes that stand in the broker's refusal records: by slug, what happened and the mend.

It refuses to tell of one connection: the record does that, in its own words. What a trace names, too, has the same slug
and is the same cause, seen from the other side. The data plane writes these records; a mend here is what it says there.
"""

from __future__ import annotations

from typing import NamedTuple

_DEVICE_URI = "issue it with `sealmq device add ID`, or put the URI spiffe://{fleet}/device/<id> into its SAN"
_RFC6455 = "use a WebSocket library that follows RFC 6455"
_LIBRARY = "look at the client library: its CONNECT breaks the specification"
_TLS_LIBRARY = "use a TLS library that follows RFC 5246 or RFC 8446; a scanner needs no mend"
_UPGRADE = "ask for a WebSocket at /mqtt with the subprotocol mqtt"


class Refused(NamedTuple):
    """One row; names in braces stand for what the record fills in."""

    sentence: str
    mend: str


TCP = {
    "port-scan": Refused(
        "peer left without sending anything",
        "nothing to mend if this was a port scan or a health check by TCP; a client would have sent a ClientHello",
    ),
    "too-many-connections": Refused(
        "broker has as many connections as it may have",
        "raise limits.max_connections, or find out who connects so often",
    ),
    "too-many-from-address": Refused(
        "this address has as many connections as it may have",
        "raise limits.max_connections_per_address if a gateway or load balancer stands there, else find out what"
        " connects so often",
    ),
    "connecting-too-fast": Refused(
        "this address opens connections faster than it may",
        "raise limits.max_connect_rate_per_address if a gateway or load balancer stands there, else let clients wait"
        " longer between attempts",
    ),
    "memory-full": Refused(
        "broker holds as much for its clients as it may",
        "find who fills it with `sealmq status`, or raise limits.max_memory_bytes",
    ),
    "crowded-out": Refused(
        "peer got no further with its handshake when all places for handshakes were taken and others came",
        "look for a flood of such connections in the records around this one; a client goes on at once",
    ),
    "internal": Refused("broker made a mistake", "report this as a defect, with this record"),
}

CLIENT_HELLO = {
    "plaintext-mqtt": Refused(
        "peer speaks MQTT without TLS",
        "turn TLS on in the client: an mqtts:// address, the CA file, the certificate and key of the device",
    ),
    "plaintext-http": Refused(
        "peer speaks HTTP without TLS", "use https:// or wss:// and the port of the HTTPS or WebSocket listener"
    ),
    "ssh": Refused("peer speaks SSH", "this is not an SSH port: correct the port in the client"),
    "proxy-protocol": Refused(
        "peer opens with a PROXY protocol header before TLS",
        "turn the PROXY protocol off in the load balancer for this port",
    ),
    "sslv2-hello": Refused(
        "peer opens with an SSL 2.0 ClientHello",
        "the TLS library of the client is too old: use one that speaks TLS 1.2 or 1.3",
    ),
    "not-tls": Refused("peer does not speak TLS", "point a TLS client at this port; a port scan needs no mend"),
    "client-hello-missing": Refused("peer opens with something else than a ClientHello", _TLS_LIBRARY),
    "client-hello-malformed": Refused("ClientHello is broken", _TLS_LIBRARY),
    "client-hello-too-long": Refused(
        "ClientHello is longer than it may be", "offer fewer groups, key shares or session tickets"
    ),
    "client-hello-incomplete": Refused(
        "peer left before its ClientHello was whole",
        "look for a network that cuts connections, or a client that crashed",
    ),
}

HANDSHAKE = {
    "no-pre-shared-key": Refused(
        "client offers no pre-shared key, and this listener has no certificate to show",
        "give the client the line of its psk.txt (`sealmq device add ID --psk`); certificates have the mqtts listener",
    ),
    "psk-unknown-identity": Refused(
        "client shows an identity for which there is no pre-shared key",
        "make one with `sealmq device add ID --psk`; the identity is what stands before the colon in psk.txt",
    ),
    "psk-wrong-key": Refused(
        "client shows the identity of a device and has another key than that device",
        "copy the line of psk.txt to the device anew; its key is hexadecimal digits, not text",
    ),
    "tls-version-too-old": Refused(
        "client offers no TLS version of this listener",
        "enable TLS 1.2 or 1.3 in the client, or update its TLS library",
    ),
    "no-common-cipher": Refused(
        "client offers no cipher suite of this listener",
        "enable an ECDHE suite with AES-GCM or ChaCha20-Poly1305 in the client",
    ),
    "no-common-group": Refused(
        "client offers no key exchange group of this listener", "enable X25519 or P-256 in the client"
    ),
    "no-common-signature": Refused(
        "client offers no signature algorithm of this listener", "enable ecdsa_secp256r1_sha256 in the client"
    ),
    "no-common-alpn": Refused(
        "client offers no ALPN protocol of this listener", "offer the ALPN protocol mqtt, or offer none"
    ),
    "handshake-broken": Refused(
        "client broke the TLS handshake", "check what speaks on the other side; a proxy that alters TLS looks like this"
    ),
    "handshake-stalled": Refused(
        "TLS handshake did not end in time",
        "look for packet loss, a path MTU problem, or a device that needs longer: limits.handshake_timeout_ms",
    ),
    "handshake-too-large": Refused(
        "peer sent more than any handshake needs, and its handshake has not ended",
        "a client with a very long certificate chain needs limits.max_handshake_bytes raised; anybody else is no"
        " client",
    ),
    "closed-during-handshake": Refused(
        "peer left during the TLS handshake, without an alert",
        "the client may distrust this broker's certificate: give it the CA (`sealmq ca export`) and connect by a name"
        " in the certificate",
    ),
    "client-distrusts-broker": Refused(
        "client does not know the CA of this broker's certificate (alert unknown_ca)",
        "give the client the CA: `sealmq ca export`, or the ca.pem of its bundle",
    ),
    "client-refused-broker-certificate": Refused(
        "client refused this broker's certificate",
        "connect by a name in the certificate (tls.extra_names adds one), with the right CA, and check the client's"
        " clock",
    ),
    "client-ended-handshake": Refused(
        "client ended the handshake with an alert", "look at the client's own error: it knows why"
    ),
}

CERTIFICATE = {
    "no-client-certificate": Refused(
        "client showed no certificate, and this listener admits only devices that do",
        "create one with `sealmq device add ID` and give the client its cert.pem and key.pem",
    ),
    "certificate-expired": Refused(
        "client certificate has expired",
        "issue a new certificate for the device; if its dates look right, the clock of this broker is wrong",
    ),
    "certificate-not-yet-valid": Refused(
        "client certificate is not valid yet",
        "check the clock of this broker and of the machine that issued the certificate",
    ),
    "untrusted-issuer": Refused(
        "client certificate was not issued by a CA that this broker trusts, or its intermediate certificate is missing",
        "issue it with `sealmq device add ID`, or set tls.client_ca to the CA that issued it; send the leaf with its"
        " intermediates",
    ),
    "certificate-wrong-purpose": Refused(
        "client certificate may not be used as one",
        "issue a certificate with extended key usage clientAuth; a server certificate does not serve as a device's",
    ),
    "certificate-chain-too-long": Refused(
        "client certificate comes with too many others, too large or too much alike",
        "send the certificate of the device and those of the CAs between it and the root, and nothing else",
    ),
    "revoked": Refused("client certificate was revoked", "enrol the device again if it should come back"),
    "certificate-bad-signature": Refused(
        "client certificate or a signature made with its key does not verify",
        "check that certificate and key of the device belong together, and that neither was altered",
    ),
    "certificate-invalid": Refused(
        "client certificate cannot be accepted", "look at it with `sealmq cert show FILE`, issue a new one"
    ),
    "certificate-unreadable": Refused("client certificate cannot be read as X.509", _DEVICE_URI),
    "certificate-foreign-fleet": Refused("client certificate belongs to another fleet", _DEVICE_URI),
    "certificate-without-identity": Refused("client certificate names no device", _DEVICE_URI),
    "certificate-unfit-identity": Refused(
        "client certificate names something that cannot be a device id",
        "use 1 to 64 letters, digits, '-', '_', '.' or '@' as the device id, without : / + #, and not"
        " anonymous or user",
    ),
}

HTTP = {
    "http-malformed": Refused(
        "upgrade request is no HTTP/1.1", "speak MQTT over WebSocket here, or use an mqtts:// port"
    ),
    "http-version": Refused(
        "upgrade request is of another HTTP version", "turn HTTP/1.1 on in the client or the proxy"
    ),
    "http-host": Refused("upgrade request has no one Host header", "send one Host header"),
    "http-body": Refused("upgrade request has a body", "connect with a WebSocket client"),
    "http-too-large": Refused(
        "header of the upgrade request is too large", "send fewer or smaller headers, cookies above all"
    ),
    "http-method": Refused("request is no GET", "connect with a WebSocket client"),
    "http-path": Refused("path is not served here", "correct the path in the client's address"),
    "websocket-missing": Refused(
        "request does not ask for a WebSocket",
        "connect with a WebSocket client; a proxy in between must pass Upgrade and Connection on",
    ),
    "websocket-version": Refused("request does not ask for version 13 of WebSocket", _RFC6455),
    "websocket-key": Refused("Sec-WebSocket-Key is not 16 bytes in base64", _RFC6455),
    "websocket-origin": Refused(
        "page that opens the WebSocket comes from another host", "serve the page from the host name that it connects to"
    ),
    "websocket-subprotocol": Refused(
        "request does not offer the subprotocol mqtt",
        "set the subprotocol to mqtt in the client; mqttv3.1 is not served",
    ),
    "upgrade-stalled": Refused("peer finished the TLS handshake and sent no whole upgrade request in time", _UPGRADE),
    "closed-before-upgrade": Refused("peer left before it asked for a WebSocket", _UPGRADE),
}

CONNECT = {
    "not-connect": Refused(
        "first packet is not CONNECT", "speak MQTT 3.1.1 or 5.0 on this port, beginning with CONNECT"
    ),
    "connect-stalled": Refused("peer sent no whole CONNECT in time", "an MQTT client sends CONNECT at once"),
    "too-much-before-connect": Refused(
        "peer sent more than a CONNECT may have, and no whole CONNECT",
        "an MQTT client sends CONNECT at once; one with a very long will or password needs limits.max_connect_bytes"
        " raised",
    ),
    "closed-before-connect": Refused(
        "peer left before it sent a whole CONNECT", "a test of the port looks like this; an MQTT client sends CONNECT"
    ),
    "closed-before-connack": Refused(
        "peer left while its password was verified",
        "look for a client that waits for less than a login takes; many logins at once, or dear hashes, take long",
    ),
    "no-credentials": Refused(
        "client shows neither a certificate nor a user name with a password",
        "give the client the certificate of a device (`sealmq device add ID`), or a user (`sealmq user add NAME`)",
    ),
    "bad-credentials": Refused(
        "user name or password is wrong",
        "check both in the client; `sealmq user list` shows the users, `sealmq user add NAME` sets a password",
    ),
    "too-many-logins": Refused(
        "too many passwords wait to be verified",
        "look for a flood of logins in the records around this one; certificates cost the broker less than passwords",
    ),
    "login-stalled": Refused(
        "password was not verified in time",
        "too many logins wait, or their hashes ask for much: raise the limit, or add users with cheaper hashes",
    ),
    "unsupported-protocol-version": Refused("CONNECT is of another MQTT version", "use MQTT 3.1.1 or 5.0"),
    "packet-too-large": Refused(
        "CONNECT is larger than it may be", "send a smaller will or password, or raise limits.max_connect_bytes"
    ),
    "bad-protocol-name": Refused("protocol name in the CONNECT is not MQTT", _LIBRARY),
    "bad-utf8": Refused("CONNECT has a string that is no UTF-8 or holds U+0000", _LIBRARY),
    "bad-remaining-length": Refused("CONNECT has a length that is none", _LIBRARY),
    "topic-name-invalid": Refused("will topic is empty or holds a wildcard", _LIBRARY),
    "topic-filter-invalid": Refused("topic filter is empty or misplaces a wildcard", _LIBRARY),
    "protocol-error": Refused("CONNECT contradicts the protocol", _LIBRARY),
    "malformed-packet": Refused("CONNECT cannot be read", _LIBRARY),
    "client-id-missing": Refused(
        "client asks to keep a session without a client identifier",
        "set the client identifier to {owner} or {owner}:<anything>",
    ),
    "client-id-mismatch": Refused(
        "client identifier does not belong to the device",
        "set the client identifier to {owner} or {owner}:<anything>, or use the certificate of {client_id}",
    ),
    "enhanced-authentication": Refused(
        "client asks for enhanced authentication, which this broker does not offer",
        "connect without an authentication method: the certificate is the identity",
    ),
    "client-packet-size": Refused(
        "client takes no packet as large as CONNACK",
        "raise the maximum packet size of the client, or leave it out",
    ),
    "will-topic-too-long": Refused(
        "will topic is longer than it may be", "use fewer or shorter levels, or raise the limit"
    ),
    "will-too-large": Refused("will is larger than it may be", "send a smaller will, or raise limits.max_will_bytes"),
    "too-many-sessions": Refused(
        "device, or the whole broker, has as many sessions as it may have",
        "look for a client that makes up a new identifier each time; else raise limits.max_sessions_per_device",
    ),
    "will-not-authorized": Refused(
        "rules do not allow the client its will",
        "allow {owner} to publish to {} in the rule file, or change the will topic",
    ),
}

BY_STAGE = {
    "tcp": TCP,
    "client-hello": CLIENT_HELLO,
    "handshake": HANDSHAKE,
    "certificate": CERTIFICATE,
    "http": HTTP,
    "connect": CONNECT,
}
"""By the stage where a cause is most often found."""

REFUSALS = {slug: row for rows in BY_STAGE.values() for slug, row in rows.items()}

"""The causes that a trace names: a stable slug, a sentence, a mend and a command each.

It refuses to know how a cause is recognised. Sentences and mends are formatted with the values of the diagnosis;
`command` is what shows it mended, `{again}` being the same trace once more, with `--as` or a file if it had one. A slug
never changes its meaning, and the broker's records use the same ones: `certificate-expired` is the certificate that
whoever stopped was shown, the server's in `CAUSES`, the client's in `OF_CLIENT`.
"""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """One row."""

    sentence: str
    mend: str
    command: str = "{again}"


CAUSES: dict[str, Cause] = {
    # --- below TLS
    "dns": Cause(
        "name {host} does not resolve to an address",
        "check the name, and that this machine's DNS knows it",
        "getent hosts {host}",
    ),
    "connection-refused": Cause(
        "server {address} refused the TCP connection: nothing listens on that port",
        "start the broker, or correct the port (MQTT over TLS is 8883 by custom)",
    ),
    "connect-timeout": Cause(
        "server {address} did not answer within {seconds:g} s",
        "check the address, and the firewalls on the way: one of them drops the packets silently",
    ),
    "unreachable": Cause(
        "network has no way to {address}",
        "check the address, the interface and the routes of this machine",
        "ip route get {host}",
    ),
    "connection-reset": Cause(
        "server reset the connection {when}",
        "look into the server's log; a middlebox that forbids TLS here does the same",
    ),
    "closed-at-accept": Cause(
        "server closed the connection without answering the ClientHello",
        "the port may be that of a broker without TLS, or the server is full or lets nobody in from here: see its log",
    ),
    "closed-during-handshake": Cause(
        "server closed the connection in the middle of the handshake, without an alert",
        "look into the server's log: it ended the handshake and did not say why",
    ),
    "cut-off": Cause(
        "server closed the connection after the handshake without close_notify",
        "look into the server's log; until it says so itself, nobody can tell such an end from a cut on the way",
    ),
    "handshake-stalled": Cause(
        "server stopped answering in the handshake, waited {seconds:g} s",
        "check that the port speaks TLS; an overloaded server or a path that loses large packets (MTU) looks alike",
    ),
    # --- something else than TLS
    "plaintext-mqtt": Cause(
        "server speaks MQTT without TLS on this port",
        "use the port of its TLS listener (8883 by custom), or give it one",
    ),
    "plaintext-http": Cause(
        "server speaks HTTP without TLS on this port",
        "use the port of the MQTT listener with TLS, not that of a web page",
    ),
    "ssh": Cause("server speaks SSH on this port", "use the port of the MQTT listener with TLS"),
    "not-tls": Cause("server speaks something else than TLS on this port", "check host and port"),
    "malformed-tls": Cause(
        "server sent TLS that is malformed: {what}",
        "the server or something on the way is broken; try another client to see",
    ),
    "too-much": Cause(
        "server sent more than {over} and no end, the trace gave up",
        "a server that behaves needs a hundredth of that; look at what it sends",
    ),
    # --- negotiation
    "tls-version-too-old": Cause(
        "server speaks none of the TLS versions offered ({versions}){but}", "{remedy}", "{again}{more}"
    ),
    "no-common-cipher": Cause(
        "server accepts none of the cipher suites offered",
        "allow it an AEAD suite with ECDHE, or look at it with --legacy",
        "{again} --legacy",
    ),
    "no-common-group": Cause(
        "server accepts none of the key exchange groups offered ({groups})", "allow it X25519 or P-256"
    ),
    "no-common-signature": Cause(
        "server can sign with none of the signature algorithms offered",
        "give it a certificate with a P-256 key, or RSA from 2048 bits, and SHA-256",
    ),
    "no-common-alpn": Cause(
        "server speaks none of the application protocols offered ({protocols})",
        "check the port; or give the server's name for MQTT with --alpn",
    ),
    "unrecognized-name": Cause(
        "server does not know the name {server_name} that was asked for (SNI)",
        "use the name the server is configured for, or --server-name",
    ),
    "handshake-failure": Cause(
        "server found the offer unacceptable and does not say why (handshake_failure)",
        "suite, group, signature algorithm, version or client certificate: compare with --legacy, --tls 1.2, --cert",
    ),
    "peer-alert": Cause(
        "server ended the connection with the alert {alert}", "look into the server's log at this time"
    ),
    "handshake-broken": Cause(
        "server broke the TLS handshake, and this side ended it {how}",
        "the step before shows what breaks the protocol; a proxy that alters TLS looks like this",
    ),
    "bad-finished": Cause(
        "server's Finished does not fit the handshake that was seen",
        "somebody changed a message on the way, or the server is broken",
    ),
    "bad-proof": Cause(
        "a proof in the handshake is wrong: {what}",
        "do not trust this server: it does not hold the key of its certificate, or has another pre-shared key",
    ),
    # --- a key shared beforehand
    "no-pre-shared-key": Cause(
        "server wants a pre-shared key, and this client has shown none",
        "write mqtts+psk:// and give --as ID of a device with a key, or --psk-file; or correct the port",
        "sealmq trace {as_psk} --psk-file FILE",
    ),
    "psk-unknown-identity": Cause(
        "server knows no pre-shared key of {identity}",
        "enter the line of psk.txt at the server, or correct the identity: it is what stands before the colon",
    ),
    "psk-wrong-key": Cause(
        "server knows {identity} and has another pre-shared key of it",
        "copy the line of psk.txt anew; the key is hexadecimal digits, not text",
    ),
    "psk-refused": Cause(
        "server does not take the pre-shared key of {identity}: it knows no such identity, or has another key of it",
        "which of the two it tells nobody; the log of a sealmq broker does (`sealmq log refusals`), revocation too",
    ),
    "certificate-instead-of-key": Cause(
        "server has not taken the pre-shared key of {identity}, it identifies by a certificate",
        "name its port for pre-shared keys; if it is a port for both, the server does not know {identity}",
        "sealmq trace {as_certificate}",
    ),
    "server-without-key": Cause(
        "server does not have the pre-shared key of {identity}",
        "do not trust this server: it cannot prove itself; if its key was made anew, copy psk.txt from there",
    ),
    # --- the server's certificate
    "certificate-expired": Cause(
        "certificate of {subject} expired on {date}, {ago} ago",
        "renew it on the server; if it should be valid, check this machine's clock ({now})",
    ),
    "certificate-not-yet-valid": Cause(
        "certificate of {subject} is valid from {date} only, in {ago}",
        "check this machine's clock ({now}); if it is right, the certificate was issued for later",
    ),
    "clock-wrong-here": Cause(
        "clock of this machine is {at_least}{off} {direction} ({now}): the certificate of {subject} is valid",
        "set the clock, best by a time service: timedatectl set-ntp true; a device without one can keep the last time"
        " it has seen",
        "timedatectl",
    ),
    "wrong-host": Cause(
        "certificate of the server is for {names}, not for {server_name}",
        "use one of these names in the URL, or issue the certificate for {server_name} as well",
    ),
    "common-name-only": Cause(
        "certificate of the server has its name in the common name alone, which counts no more",
        "issue it with a subject alternative name for {server_name}",
    ),
    "self-signed": Cause(
        "certificate of {subject} signed itself and is not trusted here",
        "if it is yours, trust it with --cafile; better, issue it from a CA: sealmq up does",
    ),
    "untrusted-issuer": Cause(
        "chain of the server ends at {issuer}, which is not trusted here",
        "name that CA with --cafile, once you know that it is the right one",
        "sealmq trace {url} --cafile FILE",
    ),
    "missing-intermediate": Cause(
        "server did not send the certificate of {issuer}, which issued its own",
        "append the issuing certificate to the server's certificate file, leaf first",
    ),
    "certificate-wrong-purpose": Cause(
        "certificate of {subject} is not meant for servers ({usages})",
        "issue it with the extended key usage serverAuth",
    ),
    "not-a-ca": Cause(
        "certificate of {issuer} issued another one and is no CA",
        "issue from a certificate with CA:TRUE; somebody may be using a leaf as one",
    ),
    "path-length": Cause(
        "chain of the server is longer than one of its CAs allows", "issue from a CA whose path length allows it"
    ),
    "name-constraint": Cause(
        "a CA in the chain may not issue for the names in the certificate ({names})",
        "issue from a CA whose name constraints permit them",
    ),
    "weak-key": Cause("chain of the server has a key that is too weak", "use P-256, or RSA from 2048 bits"),
    "weak-signature": Cause("chain of the server has a signature with a broken hash", "issue it again with SHA-256"),
    "certificate-bad-signature": Cause(
        "signature on the certificate of {subject} is wrong",
        "it was changed after it was issued, or another CA of the same name issued it",
    ),
    "revoked": Cause("certificate of {subject} is revoked", "issue a new one, with a new key"),
    "unknown-critical-extension": Cause(
        "certificate of {subject} has a critical extension that nobody here understands",
        "issue it without, or mark it non-critical",
    ),
    "certificate-invalid": Cause(
        "chain of the server is not accepted (OpenSSL verify code {code})",
        "look at the chain: openssl verify -show_chain",
    ),
    # --- the WebSocket in the channel
    "http-status": Cause(
        "server answered {what} to the request for a WebSocket",
        "correct port and path in the URL: a sealmq broker serves wss://HOST:8084/mqtt",
    ),
    "http-malformed": Cause(
        "server does not answer the request for a WebSocket in HTTP/1.1: {what}",
        "check the port: this one speaks another protocol inside TLS",
    ),
    "http-too-large": Cause(
        "server's answer to the request for a WebSocket has a header without end: {what}",
        "check the port, and what is between here and the server",
    ),
    "websocket-missing": Cause(
        "server answered 101 without an upgrade to WebSocket",
        "a proxy in between must pass Upgrade and Connection on",
    ),
    "websocket-key": Cause(
        "server does not answer to the key that was sent: Sec-WebSocket-Accept is another",
        "the answer is not to this request, or of a server that does not follow RFC 6455: look at what is in between",
    ),
    "websocket-extension": Cause(
        "server uses a WebSocket extension that was not offered", "use a server that follows RFC 6455"
    ),
    "websocket-subprotocol": Cause(
        "server opened a WebSocket and does not agree to the subprotocol mqtt",
        "correct the path in the URL: another service answers there",
    ),
    "websocket-protocol-error": Cause("server broke the WebSocket: {what}", "look at what is in between, and its log"),
    "upgrade-stalled": Cause(
        "server did not answer the request for a WebSocket within {seconds:g} s",
        "check that the port speaks HTTP; a port for MQTT without WebSocket is reached with mqtts://",
    ),
    "closed-before-upgrade": Cause(
        "server closed the connection instead of answering the request for a WebSocket",
        "look into its log; a port for MQTT without WebSocket is reached with mqtts://",
    ),
    # --- MQTT in the channel
    "connack": Cause("broker refused the CONNECT: {reason} ({code})", "{remedy}"),
    "client-id-mismatch": Cause("broker does not take the client id {client_id}: {reason} ({code})", "{remedy}"),
    "bad-credentials": Cause("broker wants another user name or password: {reason} ({code})", "{remedy}"),
    "unsupported-protocol-version": Cause("broker does not speak MQTT {mqtt}: {reason} ({code})", "{remedy}"),
    "not-mqtt": Cause(
        "server answered the CONNECT with {what}, not with MQTT",
        "check the port: this one speaks another protocol inside TLS",
    ),
    "connack-stalled": Cause(
        "broker did not answer the CONNECT within {seconds:g} s",
        "check that the port speaks MQTT; the broker's log says more",
    ),
    "closed-before-connack": Cause(
        "broker closed the connection instead of answering the CONNECT",
        "look into its log; often it dislikes the client id or the MQTT version (-V 311)",
    ),
    "disconnected": Cause("broker ended the session: {reason} (0x{code:02x})", "look into the broker's log"),
    "closed-in-session": Cause(
        "broker closed the connection in the middle of the session",
        "look into the broker's log; a topic that is not allowed is a common reason in MQTT 3.1.1",
    ),
    "session-stalled": Cause(
        "broker stopped answering in the session, waited {seconds:g} s", "look into the broker's log"
    ),
    "unknown": Cause(
        "connection ended and the reason cannot be told", "run it again with --verbose and look at the last steps"
    ),
}
"""By slug: what a client finds, and what it is told of everything but its own certificate."""

OF_CLIENT: dict[str, Cause] = {
    "no-client-certificate": Cause(
        "server demands a client certificate and got none",
        "give --as ID, or --cert and --key",
        "sealmq trace {url} --as ID",
    ),
    "certificate-expired": Cause(
        "server refused the client certificate of {client}: it expired on {date}", "renew it: sealmq device renew ID"
    ),
    "certificate-not-yet-valid": Cause(
        "server refused the client certificate of {client}: it is valid from {date} only",
        "check the server's clock and this machine's ({now}); if they are right, it was issued for later",
    ),
    "certificate-bad-signature": Cause(
        "server refused the client certificate of {client}: a signature with its key does not verify ({alert})",
        "check that certificate and key belong together, and that neither was altered",
    ),
    "certificate-invalid": Cause(
        "server refused the client certificate of {client} ({alert})",
        "look into the server's log: it knows which check failed",
    ),
    "untrusted-issuer": Cause(
        "server does not trust the CA that issued the client certificate of {client}",
        "use a certificate of the CA the server trusts, or let it trust {issuer}",
    ),
    "certificate-wrong-purpose": Cause(
        "server refused the client certificate of {client}: it is not meant for clients",
        "issue it with the extended key usage clientAuth",
    ),
    "revoked": Cause(
        "server refused the client certificate of {client}: it is revoked", "issue a new one, with a new key"
    ),
}
"""By slug: what a server found in the certificate of this client, told by an alert."""

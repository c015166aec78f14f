"""The TLS client without a socket: what it sends, what it takes, which secrets it gives, and that it verifies.

Knows nothing of what is read out of the bytes.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from raw_mqtt import connect

from sealmq import _engine
from sealmq.testing import EphemeralBroker, ThrowawayCA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRETS_13 = {
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "SERVER_TRAFFIC_SECRET_0",
}


@pytest.fixture(scope="module")
def broker() -> Iterator[EphemeralBroker]:
    with EphemeralBroker(psk=True) as running:
        yield running


def opened(previous: _engine.TlsPeer | None = None, **config: Any) -> _engine.TlsPeer:
    return _engine.TlsPeer.open(json.dumps({"server_name": "127.0.0.1", "alpn": ["mqtt"]} | config), previous)


def pre_shared(broker: EphemeralBroker, device: str, **config: Any) -> _engine.TlsPeer:
    identity, key = broker.device_psk(device).split(":")
    return opened(psk={"identity": identity, "key": key}, **config)


def certified(
    broker: EphemeralBroker, device: str, previous: _engine.TlsPeer | None = None, **config: Any
) -> _engine.TlsPeer:
    files = broker.device(device)
    texts = {"certificate_pem": files.cert.read_text(), "key_pem": files.key.read_text()}
    return opened(previous, trust={"ca_pem": files.ca.read_text()}, **texts, **config)


def drive(peer: _engine.TlsPeer, port: int, *, says: bytes = b"") -> bytes:
    """Shake hands, say something, and what the broker answers to it; raises `TlsError`."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        try:
            while peer.state() == "handshaking":
                sock.sendall(peer.take())
                peer.feed(sock.recv(65536))
            peer.write(says)
            sock.sendall(peer.take())
            heard = b""
            while not heard:
                peer.feed(sock.recv(65536))
                heard = peer.read()
        finally:
            peer.close()
            sock.sendall(peer.take())
    return heard


def labels(peer: _engine.TlsPeer) -> set[str]:
    return {line.split()[0] for line in peer.key_log()}


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_key_opens_the_channel_and_the_secrets_are_told(broker: EphemeralBroker, version: str) -> None:
    peer = pre_shared(broker, "small-1", versions=version)
    assert drive(peer, broker.port_of("psk"), says=connect("small-1:a"))[0] == 0x20  # CONNACK
    facts = json.loads(peer.facts() or "")
    assert (facts["version"], facts["group"], facts["alpn"]) == (f"TLS {version}", "secp256r1", "mqtt")
    told = labels(peer)
    assert told == {"CLIENT_RANDOM"} if version == "1.2" else told >= SECRETS_13
    assert peer.key_log() == []


def test_a_wrong_key_ends_with_the_alert_of_the_server(broker: EphemeralBroker) -> None:
    broker.device_psk("small-2")
    for identity in ("small-2", "nobody"):
        peer = opened(psk={"identity": identity, "key": "ab" * 32})
        with pytest.raises(_engine.TlsError) as raised:
            drive(peer, broker.port_of("psk"))
        code, message, mend, alert = raised.value.args
        assert (code, alert) == ("tls-psk-refused", 47)
        assert "no such identity, or has another key" in message
        assert "abab" not in message + mend


def test_the_suites_of_tls_12_can_be_chosen(broker: EphemeralBroker) -> None:
    peer = pre_shared(broker, "small-1", versions="1.2", suites="PSK-AES128-GCM-SHA256")
    drive(peer, broker.port_of("psk"), says=connect("small-1:b"))
    facts = json.loads(peer.facts() or "")
    assert (facts["cipher"], facts["group"]) == ("TLS_PSK_WITH_AES_128_GCM_SHA256", None)


def test_certificates_agree_on_the_post_quantum_group_and_resume(broker: EphemeralBroker) -> None:
    first = certified(broker, "sensor-1")
    drive(first, broker.port, says=connect("sensor-1:a"))
    facts = json.loads(first.facts() or "")
    assert (facts["group"], facts["resumed"]) == ("X25519MLKEM768", False)
    assert labels(first) >= SECRETS_13
    second = certified(broker, "sensor-1", first)
    drive(second, broker.port, says=connect("sensor-1:a"))
    assert json.loads(second.facts() or "")["resumed"] is True
    chosen = certified(broker, "sensor-1", first, groups=["secp256r1"])
    drive(chosen, broker.port, says=connect("sensor-1:a"))
    assert json.loads(chosen.facts() or "") == facts | {"group": "secp256r1"}


def test_a_server_that_is_not_verified_hears_an_alert_and_nothing_else(broker: EphemeralBroker) -> None:
    peer = opened(trust={"ca_pem": ThrowawayCA().root_pem.decode()})
    with pytest.raises(_engine.TlsError) as raised:
        drive(peer, broker.port, says=b"secret")
    assert (raised.value.args[0], raised.value.args[3]) == ("tls-untrusted-issuer", None)
    assert labels(peer) == {"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET"}
    with pytest.raises(_engine.EngineError, match="config-invalid"):
        peer.write(b"secret")


def test_a_certificate_is_nothing_to_a_client_with_a_key(tmp_path: Path) -> None:
    server = ThrowawayCA().issue_server("localhost").write(tmp_path / "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.cert, server.key)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    other = context.wrap_bio(incoming, outgoing, server_side=True)
    peer = opened(psk={"identity": "small-1", "key": "ab" * 32})
    incoming.write(peer.take())
    with pytest.raises(ssl.SSLWantReadError):
        other.do_handshake()
    with pytest.raises(_engine.TlsError, match="tls-psk-certificate"):
        peer.feed(outgoing.read())
    incoming.write(peer.take())
    with pytest.raises(ssl.SSLError, match="ALERT"):
        other.do_handshake()


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"psk": {"identity": "a", "key": "ab"}}, "config-invalid"),
        ({"psk": {"identity": "", "key": "ab" * 32}}, "psk-invalid"),
        ({"psk": {"identity": "a", "key": "ab" * 32}, "suites": "NONSENSE"}, "config-invalid"),
        ({"psk": {"identity": "a", "key": "ab" * 32}, "groups": ["X25519"]}, "config-invalid"),
        ({"trust": {"dangerous_unverified": True}, "groups": ["x"]}, "config-invalid"),
        ({"trust": {"dangerous_unverified": True}, "suites": "PSK"}, "config-invalid"),
        ({"trust": {"ca_pem": ""}}, "ca-invalid"),
        ({"trust": {"dangerous_unverified": True}, "server_name": "a b"}, "tls-name"),
        ({"versions": "1.1"}, "config-invalid"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_sent(config: dict[str, Any], code: str) -> None:
    with pytest.raises(_engine.EngineError) as raised:
        opened(**config)
    assert raised.value.args[0] == code
    assert "abab" not in str(raised.value)


def test_noise_is_no_tls_to_either_library() -> None:
    for config in ({"psk": {"identity": "a", "key": "ab" * 32}}, {"trust": {"dangerous_unverified": True}}):
        with pytest.raises(_engine.TlsError, match="tls-not-tls"):
            opened(**config).feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_byte_changed_on_the_way_never_opens_a_channel_of_keys(broker: EphemeralBroker, version: str) -> None:
    """The seed and the place are in the message of a failure."""
    port, chance = broker.port_of("psk"), random.Random(4279)  # noqa: S311 - places, not secrets
    whole = len(answers(pre_shared(broker, "small-3", versions=version), port))
    assert whole > 100
    # the version of the first record is for no one to look at (RFC 8446 section 5.1)
    for place in (0, *(chance.randrange(3, whole) for _ in range(80))):
        peer = pre_shared(broker, "small-3", versions=version)
        with contextlib.suppress(_engine.TlsError):
            answers(peer, port, change=(place, chance.randrange(1, 256)))
        assert peer.state() == "handshaking", place


def answers(peer: _engine.TlsPeer, port: int, *, change: tuple[int, int] = (-1, 0)) -> bytes:
    """What the broker sends until the handshake ends or it falls silent, with one byte of it changed."""
    heard = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        while peer.state() == "handshaking":
            sock.sendall(peer.take())
            sock.settimeout(10 if change[0] < 0 or len(heard) <= change[0] else 0.05)
            try:
                part = bytearray(sock.recv(65536))
            except (TimeoutError, ConnectionResetError):
                break
            if not part:
                break
            place = change[0] - len(heard)
            heard += part
            if 0 <= place < len(part):
                part[place] ^= change[1]
            peer.feed(bytes(part))
    return bytes(heard)

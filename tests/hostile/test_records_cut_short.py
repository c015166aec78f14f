"""Handshake messages that never become whole, before and after authentication: one connection ends, no thread does.

Knows nothing of what is inside a whole message.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from tls13 import APPLICATION_DATA, HANDSHAKE, SECONDS, Attacker, client_hello, extension, handshake, record

from security import raw_mqtt

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealmq.testing import EphemeralBroker

_KEY_UPDATE = b"\x18\0\0\1\1"
_SERVER_HELLO_DONE = handshake(14, b"")


def _tls12_up_to_the_certificate(port: int) -> socket.socket:
    """An outsider in TLS 1.2, where the certificate of the client travels in clear."""
    extensions = [
        extension(10, b"\0\2\0\x17"),
        extension(13, b"\0\6\4\3\x08\4\5\3"),
        extension(23, b""),
        extension(0xFF01, b"\0"),
    ]
    peer = socket.create_connection(("127.0.0.1", port), SECONDS)
    peer.sendall(record(HANDSHAKE, client_hello(b"".join(extensions), suites=b"\xc0\x2b\xc0\x2c")))
    seen = b""
    while not seen.endswith(_SERVER_HELLO_DONE):
        part = peer.recv(65_536)
        assert part, seen
        seen += part
    return peer


@pytest.mark.parametrize("declared", [65_536, 120_000, 0xFFFFFF])
def test_a_message_longer_than_any(broker: EphemeralBroker, witness: Callable[[], None], declared: int) -> None:
    """Its length is refused as soon as it is read, although the message is not whole."""
    with _tls12_up_to_the_certificate(broker.port) as peer:
        peer.sendall(record(HANDSHAKE, b"\x0b" + declared.to_bytes(3, "big") + bytes(1000)))
        while peer.recv(100):  # an alert or none; the end in either case
            pass
    broker.wait_event("refused", stage="handshake")
    witness()


def test_an_offence_behind_half_a_message(broker: EphemeralBroker, witness: Callable[[], None]) -> None:
    """The answer to it is written while the library still holds the half."""
    with _tls12_up_to_the_certificate(broker.port) as peer:
        peer.sendall(record(HANDSHAKE, b"\x0b\0\xea\x60" + bytes(1000)) + record(APPLICATION_DATA, b"early"))
        while peer.recv(100):
            pass
    broker.wait_event("refused", stage="handshake")
    witness()


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_half_a_message_after_the_handshake(broker: EphemeralBroker, witness: Callable[[], None], cut: int) -> None:
    """The broker then has to write to that connection: answers, a takeover, the end."""
    files = broker.device("evil")
    attacker = Attacker(broker.port, files)
    attacker.send(APPLICATION_DATA, raw_mqtt.connect("evil"))
    assert attacker.receive()[0] >> 4 == raw_mqtt.CONNACK
    attacker.send(APPLICATION_DATA, raw_mqtt.PINGREQ)
    assert attacker.receive()[0] >> 4 == raw_mqtt.PINGRESP
    attacker.send(HANDSHAKE, _KEY_UPDATE[:cut])
    witness()
    raw_mqtt.Wire.join(broker.port, files, "evil").close()
    attacker.close()
    broker.wait_event("disconnected", client_id="evil")
    witness()


def test_half_a_message_between_handshake_and_connect(broker: EphemeralBroker, witness: Callable[[], None]) -> None:
    """The gate writes, too: the refusal of a packet that is no CONNECT."""
    attacker = Attacker(broker.port, broker.device("evil"))
    attacker.send(HANDSHAKE, _KEY_UPDATE[:3])
    attacker.send(APPLICATION_DATA, raw_mqtt.PINGREQ)
    broker.wait_event("refused")
    attacker.close()
    witness()

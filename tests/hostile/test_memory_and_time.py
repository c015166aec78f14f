"""Small inputs that ask for much memory or much time: each has a bound, and who behaves is served meanwhile.

Knows nothing of where the bounds lie beyond what the documentation promises.
"""

from __future__ import annotations

import base64
import json
import socket
import struct
from typing import TYPE_CHECKING

from tls13 import HANDSHAKE, SECONDS, client_hello, extension, record

from security import raw_mqtt

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealmq.testing import EphemeralBroker

_RETAINED = 20_000


def _retain(broker: EphemeralBroker, payload: bytes) -> raw_mqtt.Wire:
    wire = raw_mqtt.Wire.join(broker.port, broker.device("evil"), "evil")
    wire.send(b"".join(raw_mqtt.publish(f"shared/{number}", payload, retain=1) for number in range(_RETAINED)))
    wire.round_trip()
    return wire


def test_one_subscribe_with_many_filters_over_many_retained_messages(broker: EphemeralBroker) -> None:
    """22 KB of SUBSCRIBE ask for 40 million messages."""
    files = broker.device("witness")
    with raw_mqtt.Wire.join(broker.port, files, "witness") as old, _retain(broker, b"x") as evil:
        evil.send(raw_mqtt.subscribe(*["shared/#"] * 2000))
        assert evil.packet().kind == raw_mqtt.SUBACK  # leaves when the turn that took the SUBSCRIBE ends
        old.round_trip()  # ends with TimeoutError when one turn does all the work that was asked for


def test_a_client_that_reads_gets_every_retained_message(broker: EphemeralBroker) -> None:
    """More than the outbox and the queue of a session hold together, at QoS 0."""
    with _retain(broker, bytes(200)), raw_mqtt.Wire.join(broker.port, broker.device("reader"), "reader") as reader:
        reader.send(raw_mqtt.subscribe("shared/#"))
        assert reader.packet().kind == raw_mqtt.SUBACK
        for seen in range(_RETAINED):
            try:
                assert reader.packet().kind == raw_mqtt.PUBLISH
            except TimeoutError:
                raise AssertionError(f"{seen} of {_RETAINED} came") from None


def test_websocket_pings_of_a_client_that_never_reads(broker: EphemeralBroker, witness: Callable[[], None]) -> None:
    """Pongs that nobody takes are not collected without end (RFC 6455 section 5.5.3 lets an old one be dropped)."""
    bound = 64 << 20
    context = raw_mqtt.client_context(broker.device("evil"))
    with raw_mqtt.dial(broker.port_of("wss"), context) as peer:
        key = base64.b64encode(bytes(16)).decode()
        peer.sendall(
            f"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}"
            "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n".encode()
        )
        connect = raw_mqtt.connect("evil")
        peer.sendall(bytes([0x82, 0x80 | len(connect)]) + bytes(4) + connect)
        pings = (b"\x89\xfd" + bytes(4) + b"p" * 125) * 500
        before, sent = _resident(), 0
        peer.settimeout(1.0)
        try:
            while sent < 4 * bound:
                peer.sendall(pings)
                sent += len(pings)
        except OSError:
            pass  # the broker stopped reading, or closed: both are a bound
        grown = _resident() - before
    assert grown < bound, f"{sent >> 20} MiB of pings made the broker grow by {grown >> 20} MiB"
    witness()


def test_the_record_of_a_refusal_does_not_grow_with_the_client_hello(broker: EphemeralBroker) -> None:
    """8,000 cipher suites and a long ALPN list are 16 KB; the last 1,000 records are kept in memory."""
    suites = b"".join(struct.pack(">H", 0x4000 + number) for number in range(4000))
    names = b"\xc8" + b"\xff" * 200
    protocols = extension(16, struct.pack(">H", 30 * len(names)) + names * 30)
    with socket.create_connection(("127.0.0.1", broker.port), SECONDS) as peer:
        peer.sendall(record(HANDSHAKE, client_hello(protocols, suites=suites)))
        assert peer.recv(100)[:1] == b"\x15"
    refusal = broker.wait_event("refused", stage="handshake")
    assert len(json.dumps(refusal)) < 8192


def _resident() -> int:
    """Bytes of this process, the broker's too."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - not a file one could write
        return int(file.read().split()[1]) * 4096

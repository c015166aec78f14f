"""A client that reads late: what the network did not take follows when there is room, with no word from the client."""

import socket
import ssl

from sealmq.client.connection import Connection, Identity
from sealmq.client.target import Target
from sealmq.testing import EphemeralBroker

COUNT = 160
PAYLOAD = bytes(50_000)


def packet(first: int, body: bytes) -> bytes:
    return bytes([first, len(body)]) + body


def text(words: str) -> bytes:
    return len(words).to_bytes(2, "big") + words.encode()


def read(connection: ssl.SSLSocket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        assert part, "the broker has closed the connection"
        found += part
    return found


def test_what_was_held_up_follows_when_the_client_reads():
    with EphemeralBroker(limits={"max_outbox_bytes": 16 << 20}) as broker:
        late, sender = broker.device("late"), broker.device("sender")
        trust = ssl.create_default_context(cafile=late.ca)
        trust.load_cert_chain(late.cert, late.key)
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(30)
        raw.connect(("127.0.0.1", broker.port))
        with trust.wrap_socket(raw, server_hostname="localhost") as connection:
            connection.sendall(packet(0x10, text("MQTT") + b"\4\2\0\0" + text("late")))
            assert read(connection, 4) == b"\x20\2\0\0"
            connection.sendall(packet(0x82, b"\0\1" + text("shared/x") + b"\0"))
            assert read(connection, 5) == b"\x90\3\0\1\0"
            identity = Identity.read(ca=sender.ca, certificate=sender.cert, key=sender.key)
            with Connection.open(Target.parse(broker.url), identity, client_id="sender") as publisher:
                for _ in range(COUNT):
                    publisher.publish("shared/x", PAYLOAD, qos=1)
            # Not a byte from here on: the broker knows only from the network that there is room.
            size = 1 + 3 + len(text("shared/x")) + len(PAYLOAD)
            for _ in range(COUNT):
                assert read(connection, size)[:1] == b"\x30"

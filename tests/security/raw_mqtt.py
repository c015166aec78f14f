"""MQTT packets laid out by hand and a connection that sends exactly the bytes a test asks for.

It refuses to know the product's codec and to correct anything: what is wrong in a test stays wrong on the wire.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

V311, V5 = 4, 5
SECONDS = 10.0  # how long a test waits for bytes that have to come
_REASON_STRING = 0x1F


class Credentials(Protocol):
    """The files of a client."""

    cert: Path
    key: Path
    ca: Path


def text(value: str | bytes) -> bytes:
    """A string with its length (MQTT 5.0 section 1.5.4); bytes go out as they are."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(raw)) + raw


def varint(value: int) -> bytes:
    """A variable byte integer (section 1.5.5)."""
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def packet(first: int, body: bytes = b"") -> bytes:
    """A packet with a right remaining length."""
    return bytes([first]) + varint(len(body)) + body


def connect(
    client_id: str | bytes,
    *,
    version: int = V5,
    name: str | bytes = "MQTT",
    flags: int = 0x02,
    keep_alive: int = 60,
    properties: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """CONNECT with clean start; `tail` is what follows the client id (will, user name, password)."""
    head = text(name) + bytes([version, flags]) + struct.pack(">H", keep_alive)
    return packet(0x10, head + (_properties(properties) if version == V5 else b"") + text(client_id) + tail)


def with_will(client_id: str, topic: str, payload: bytes = b"gone", *, version: int = V5) -> bytes:
    """CONNECT with a will at QoS 0."""
    tail = (_properties(b"") if version == V5 else b"") + text(topic) + text(payload)
    return connect(client_id, version=version, flags=0x06, tail=tail)


def publish(
    topic: str | bytes, payload: bytes = b"", *, version: int = V5, qos: int = 0, packet_id: int = 1, retain: int = 0
) -> bytes:
    """PUBLISH."""
    identifier = struct.pack(">H", packet_id) if qos else b""
    properties = _properties(b"") if version == V5 else b""
    return packet(0x30 | qos << 1 | retain, text(topic) + identifier + properties + payload)


def subscribe(*filters: str | bytes, version: int = V5, qos: int = 0, packet_id: int = 1) -> bytes:
    """SUBSCRIBE."""
    properties = _properties(b"") if version == V5 else b""
    wanted = b"".join(text(one) + bytes([qos]) for one in filters)
    return packet(0x82, struct.pack(">H", packet_id) + properties + wanted)


def _properties(raw: bytes) -> bytes:
    return varint(len(raw)) + raw


@dataclass(frozen=True)
class Packet:
    """A packet as it came: its first byte and everything behind the remaining length."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        """The packet type of table 2-1."""
        return self.first >> 4

    def reason_string(self, at: int) -> str:
        """The reason string in the properties that begin at offset `at`; empty when there is none there."""
        if len(self.body) <= at:
            return ""
        properties = self.body[at + 1 : at + 1 + self.body[at]]  # all that these tests meet are shorter than 128 bytes
        if self.body[at] & 0x80:
            length = (self.body[at] & 0x7F) | self.body[at + 1] << 7
            properties = self.body[at + 2 : at + 2 + length]
        if properties[:1] != bytes([_REASON_STRING]):
            return ""
        return properties[3 : 3 + int.from_bytes(properties[1:3])].decode()


CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 13, 14
PINGREQ = packet(0xC0)


def client_context(files: Credentials | None, *, ca: Path | None = None) -> ssl.SSLContext:
    """Python's own TLS, trusting the CA of `files` or the one given; without files no certificate is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anchor = ca if ca is not None else files.ca if files is not None else None
    context.load_verify_locations(anchor)
    if files is not None:
        context.load_cert_chain(files.cert, files.key)
    return context


def dial(
    port: int,
    context: ssl.SSLContext,
    *,
    server_hostname: str = "127.0.0.1",
    source: str | None = None,
    session: object = None,
) -> ssl.SSLSocket:
    """TLS to the loopback port, from the loopback address `source`; waits `SECONDS` for TCP and for each read after.

    TLS is put on before TCP connects: Python's `wrap_socket` leaves a socket open when the peer resets the connection
    between its connect and the wrapping, as a broker that is killed does.
    """
    wrapped = context.wrap_socket(socket.socket(), server_hostname=server_hostname, session=session)
    try:
        wrapped.settimeout(SECONDS)
        if source is not None:
            wrapped.bind((source, 0))
        wrapped.connect(("127.0.0.1", port))
    except BaseException:
        wrapped.close()
        raise
    return wrapped


class Wire:
    """A connection; a context manager. Every read gives up after `SECONDS`."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(SECONDS)
        self._read = b""

    @classmethod
    def open(
        cls, port: int, files: Credentials | None, *, context: ssl.SSLContext | None = None, session: object = None
    ) -> Wire:
        """TLS to the loopback port, verified, with the certificate of `files`."""
        return cls(dial(port, context or client_context(files), session=session))

    @classmethod
    def join(cls, port: int, files: Credentials, client_id: str, *, version: int = V5) -> Wire:
        """Like `open`, and a CONNECT that has to be accepted."""
        wire = cls.open(port, files)
        try:
            wire.send(connect(client_id, version=version))
            answer = wire.packet()
            assert (answer.kind, answer.body[1]) == (CONNACK, 0), answer
        except BaseException:
            wire.close()
            raise
        return wire

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close, without DISCONNECT."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def packet(self) -> Packet:
        """The next packet. Raises EOFError when the broker has closed, TimeoutError when nothing comes."""
        first = self._take(1)[0]
        length = shift = 0
        while True:
            digit = self._take(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return Packet(first, self._take(length))

    def rest(self) -> list[Packet]:
        """All packets until the broker closes."""
        found = []
        with contextlib.suppress(EOFError):
            while True:
                found.append(self.packet())
        return found

    def round_trip(self) -> None:
        """PINGREQ and its answer: everything sent before was taken, and nothing else came."""
        self.send(PINGREQ)
        answer = self.packet()
        assert answer.kind == PINGRESP, answer

    def _take(self, count: int) -> bytes:
        while len(self._read) < count:
            try:
                more = self.socket.recv(65536)
            except ssl.SSLEOFError:  # closed without close_notify, which a test tells by what it read until then
                more = b""
            if not more:
                raise EOFError(f"broker closed with {self._read!r} unread")
            self._read += more
        taken, self._read = self._read[:count], self._read[count:]
        return taken

"""An MQTT client whose session outlives its connections, as section 4.1 of the specification demands of a client.

It keeps packet identifiers, unacknowledged messages and the states of QoS 2 over every reconnect, sends again what
section 4.4 says and nothing else, and refuses to judge: what happens is told to a `Listener`.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from security import raw_mqtt as raw

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from security.raw_mqtt import Credentials

_NEVER = b"\x11\xff\xff\xff\xff"  # session expiry interval
_DUP = 0x08


class Kind(enum.IntEnum):
    """Packet types of table 2-1 that come to or from a client here."""

    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBACK = 9
    UNSUBACK = 11
    DISCONNECT = 14


class Lost(Exception):  # noqa: N818 - nothing is wrong with it, brokers are killed here
    """The connection is gone; the session is not."""


class Listener(Protocol):
    """What a session tells while it lives."""

    def joined(self, *, present: bool, expected: bool) -> None:
        """CONNACK came: whether the broker has the session, and whether it acknowledged it before."""

    def came(self, topic: str, payload: bytes, qos: int) -> None:
        """A message, after the receiver's duty of QoS 2."""

    def settled(self, tag: object, code: int) -> None:
        """What was published with `tag` is the broker's now (PUBACK, PUBREC), or refused (0x80 and above)."""

    def granted(self, tag: object, code: int) -> None:
        """SUBSCRIBE or UNSUBSCRIBE with `tag` is acknowledged."""


@dataclass
class _Sent:
    packet: bytes
    tag: object
    is_released: bool = False  # PUBREC came, PUBREL is what is sent again


class Session:
    """A client: `join`, then `publish`, `subscribe`, `turn` until one of them raises `Lost`, then `join` again."""

    def __init__(self, client_id: str, files: Credentials, listener: Listener, *, version: int = raw.V5) -> None:
        self.client_id = client_id
        self._context = raw.client_context(files)
        self._listener = listener
        self.version = version
        self._is_known = False  # a CONNACK promised that the broker keeps it
        self._next_id = 0
        self._sent: dict[int, _Sent] = {}  # in the order of sending
        self._received: set[int] = set()  # QoS 2, not yet released by the broker
        self._asked: dict[int, object] = {}
        self._socket: ssl.SSLSocket | None = None
        self._rest = b""
        self._answers = b""

    @property
    def unsettled(self) -> int:
        """Messages on their way to the broker, PUBREL included."""
        return len(self._sent)

    def join(self, port: int) -> None:
        """Connect, resume the session, send again what is unacknowledged, in order [MQTT-4.4.0-1]."""
        self.leave()
        try:
            self._socket = raw.dial(port, self._context)
        except OSError as error:
            raise Lost(str(error)) from error
        properties = _NEVER if self.version == raw.V5 else b""
        self._send(raw.connect(self.client_id, version=self.version, flags=0, keep_alive=0, properties=properties))
        try:
            connack = next(self._packets())
        except TimeoutError:
            raise Lost(f"no CONNACK within {raw.SECONDS:g} s") from None
        if connack.kind != Kind.CONNACK or connack.body[1] != 0:
            raise Lost(f"CONNACK {connack}")
        present = bool(connack.body[0] & 1)
        self._listener.joined(present=present, expected=self._is_known)
        self._is_known = True
        if not present:
            self._sent.clear()
            self._received.clear()
        again = b""
        for number, sent in self._sent.items():
            again += _ack(Kind.PUBREL, number) if sent.is_released else bytes([sent.packet[0] | _DUP]) + sent.packet[1:]
        self._send(again)

    def leave(self, *, politely: bool = False) -> None:
        """Let go of the connection, with or without DISCONNECT; answers not yet sent are never sent."""
        if self._socket is None:
            return
        try:
            if politely:
                self._socket.sendall(raw.packet(0xE0))
        except OSError:
            pass
        finally:
            self._socket.close()
            self._socket = None
            self._rest = self._answers = b""
            self._asked.clear()

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, tag: object) -> None:
        """Send a message and keep it until it is settled."""
        number = self._number()
        packet = raw.publish(topic, payload, version=self.version, qos=qos, packet_id=number, retain=int(retain))
        self._sent[number] = _Sent(packet, tag)
        self._send(packet)

    def subscribe(self, topic_filter: str, *, qos: int, tag: object) -> None:
        """Ask for a subscription; `granted` tells the end of it, unless the connection ends first."""
        number = self._number()
        self._asked[number] = tag
        self._send(raw.subscribe(topic_filter, version=self.version, qos=qos, packet_id=number))

    def unsubscribe(self, topic_filter: str, *, tag: object) -> None:
        """Ask for the end of a subscription."""
        number = self._number()
        self._asked[number] = tag
        properties = b"\0" if self.version == raw.V5 else b""
        self._send(raw.packet(0xA2, struct.pack(">H", number) + properties + raw.text(topic_filter)))

    def turn(self, seconds: float, *, hold: bool = False) -> None:
        """Take what comes within `seconds` and answer it; with `hold` the answers wait for the next turn."""
        assert self._socket is not None
        self._socket.settimeout(max(seconds, 0.0005))
        try:
            for packet in self._packets():
                self._take(packet)
                if not self._rest:
                    break
        except TimeoutError:
            pass
        if not hold and self._answers:
            answers, self._answers = self._answers, b""
            self._send(answers)

    def _take(self, packet: raw.Packet) -> None:
        if packet.kind == Kind.PUBLISH:
            self._take_publish(packet)
            return
        if packet.kind == Kind.DISCONNECT:
            raise Lost(f"DISCONNECT {packet.body.hex()}")
        number = int.from_bytes(packet.body[:2])
        code = packet.body[2] if len(packet.body) > 2 else 0
        match packet.kind:
            case Kind.PUBACK:
                self._settle(number, code)
            case Kind.PUBREC if code >= 0x80:  # PUBREC that refuses ends the exchange [MQTT-4.3.3-9]
                self._settle(number, code)
            case Kind.PUBREC:
                sent = self._sent.get(number)
                if sent is not None and not sent.is_released:
                    sent.is_released = True
                    # PUBRELs go out in the order of the PUBRECs, after every PUBLISH: also on the next connection
                    self._sent[number] = self._sent.pop(number)
                    self._listener.settled(sent.tag, 0)
                self._answers += _ack(Kind.PUBREL, number)
            case Kind.PUBREL:
                self._received.discard(number)
                self._answers += _ack(Kind.PUBCOMP, number)
            case Kind.PUBCOMP:
                self._sent.pop(number, None)
            case Kind.SUBACK | Kind.UNSUBACK:
                self._listener.granted(self._asked.pop(number), packet.body[-1] if packet.kind == Kind.SUBACK else 0)

    def _take_publish(self, packet: raw.Packet) -> None:
        body, qos = packet.body, packet.first >> 1 & 3
        end = 2 + int.from_bytes(body[:2])
        topic, number = body[2:end].decode(), 0
        if qos:
            number, end = int.from_bytes(body[end : end + 2]), end + 2
        if self.version == raw.V5:
            end += 1 + body[end]  # nothing here makes properties of 128 bytes
        if qos < 2 or number not in self._received:
            self._listener.came(topic, body[end:], qos)
        if qos == 2:
            self._received.add(number)
        if qos:
            self._answers += _ack(Kind.PUBREC if qos == 2 else Kind.PUBACK, number)

    def _settle(self, number: int, code: int) -> None:
        sent = self._sent.pop(number, None)
        if sent is not None:
            self._listener.settled(sent.tag, code)

    def _number(self) -> int:
        while True:
            self._next_id = self._next_id % 65_535 + 1
            if self._next_id not in self._sent and self._next_id not in self._asked:
                return self._next_id

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.settimeout(raw.SECONDS)
            self._socket.sendall(data)
        except OSError as error:
            raise Lost(str(error)) from error

    def _packets(self) -> Iterator[raw.Packet]:
        """Whole packets, for ever. Raises TimeoutError when none comes in the time set; what came in part is kept."""
        while True:
            while (found := _first(self._rest)) is None:
                self._rest += self._more()
            packet, used = found
            self._rest = self._rest[used:]
            yield packet

    def _more(self) -> bytes:
        assert self._socket is not None
        try:
            more = self._socket.recv(1 << 16)
        except TimeoutError:
            raise
        except OSError as error:
            raise Lost(str(error)) from error
        if not more:
            raise Lost("closed by the broker")
        return more


def _ack(kind: Kind, number: int) -> bytes:
    return raw.packet(kind << 4 | (2 if kind == Kind.PUBREL else 0), struct.pack(">H", number))


def _first(data: bytes) -> tuple[raw.Packet, int] | None:
    length = shift = 0
    for at, digit in enumerate(data[1:5], start=1):
        length |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            end = at + 1 + length
            return (raw.Packet(data[0], data[at + 1 : end]), end) if len(data) >= end else None
    return None

"""WebSocket as MQTT uses it, to and from bytes: the request, the answer to it, and frames (RFC 6455).

It refuses to know sockets, TLS and MQTT. What is not understood raises `Malformed`, or is named by the slug that a
broker's record would give it.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from sealmq.trace.fields import MOST_ITEMS, Field, Malformed, printable

LARGEST_HEAD = 16 * 1024
"""Bytes of a request or an answer, body not counted."""
LARGEST_FRAME = 256 * 1024
"""Bytes; nobody sends a trace more than a few hundred."""
LONGEST_HEADER = 14
"""Bytes of a frame before its payload."""
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NAMES = {CONTINUATION: "continuation", TEXT: "text", BINARY: "binary", CLOSE: "Close", PING: "Ping", PONG: "Pong"}
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_UNSHOWN = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie"})


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an HTTP/1.1 message: its first line, and its headers with names in lower case."""

    line: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, data: bytes) -> Head:
        """`data` up to and with the empty line. Raises `Malformed`."""
        first, *lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
        headers = []
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise Malformed("HTTP header: a line has no name before a colon")
            headers.append((printable(name.lower()), printable(value.strip())))
        return cls(printable(first), tuple(headers))

    @property
    def status(self) -> int:
        """The code of an answer; -1 when it is no answer in HTTP/1.1."""
        version, _, rest = self.line.partition(" ")
        code = rest[:3]
        return int(code) if version in ("HTTP/1.1", "HTTP/1.0") and code.isascii() and code.isdecimal() else -1

    @property
    def fields(self) -> tuple[Field, ...]:
        """Line and headers by name; what a client identifies with, by its length."""
        shown = self.headers[:MOST_ITEMS]
        listed = tuple(Field(name, f"({len(value)} bytes)" if name in _UNSHOWN else value) for name, value in shown)
        return (Field("line", self.line), *listed)

    def values(self, name: str) -> list[str]:
        """The words of all headers of that name, which are separated by commas."""
        return [word.strip() for one, value in self.headers if one == name for word in value.split(",")]


def request(host: str, path: str, key: bytes) -> bytes:
    """An opening handshake for MQTT (section 4.1, [MQTT-6.0.0-3]); `key` has 16 random bytes."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(key).decode()}\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    ).encode()


def fault_of(answer: Head, asked: Head | None) -> str:
    """What is wrong with the answer to `asked` (section 4.1), as a slug; empty when the WebSocket is open."""
    if answer.status < 0:
        return "http-malformed"
    if answer.status != 101:
        return "http-status"
    upgrades = [word.lower() for word in answer.values("upgrade")]
    if "websocket" not in upgrades or "upgrade" not in [word.lower() for word in answer.values("connection")]:
        return "websocket-missing"
    keys = asked.values("sec-websocket-key") if asked is not None else []
    if answer.values("sec-websocket-accept") != [_accept(key) for key in keys]:
        return "websocket-key"
    if answer.values("sec-websocket-extensions"):
        return "websocket-extension"
    return "" if answer.values("sec-websocket-protocol") == ["mqtt"] else "websocket-subprotocol"


def _accept(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


# --- frames -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before a payload (section 5.2); `size` is header and payload in bytes, `mask` empty or 4 bytes."""

    opcode: int
    is_last: bool
    mask: bytes
    length: int
    size: int

    @classmethod
    def parse(cls, data: bytes, *, of_client: bool) -> Header | None:
        """The header at the start of `data`, None while it is not whole. Raises `Malformed` for what section 5 forbids
        and for a text frame [MQTT-6.0.0-1]."""
        if len(data) < 2:
            return None
        opcode, length = data[0] & 0x0F, data[1] & 0x7F
        if data[0] & 0x70:
            raise Malformed("WebSocket frame has a reserved bit set and no extension was agreed")
        if opcode not in NAMES:
            raise Malformed(f"WebSocket frame has the unknown opcode {opcode}")
        if opcode == TEXT:
            raise Malformed("WebSocket frame carries text, MQTT needs binary frames")
        is_masked = bool(data[1] & 0x80)
        if is_masked != of_client:
            raise Malformed(f"WebSocket frame of the {'client is not' if of_client else 'server is'} masked")
        is_last = bool(data[0] & 0x80)
        if opcode >= CLOSE and (length > 125 or not is_last):
            raise Malformed("WebSocket frame for control is fragmented or too long")
        wide = {126: 2, 127: 8}.get(length, 0)
        before = 2 + wide + (4 if is_masked else 0)
        if len(data) < before:
            return None
        if wide:
            length = int.from_bytes(data[2 : 2 + wide], "big")
        if length > LARGEST_FRAME:
            raise Malformed(f"WebSocket frame claims {length} bytes")
        return cls(opcode, is_last, data[2 + wide : before], length, before + length)

    def payload(self, frame: bytes) -> bytes:
        """The payload of the frame, its mask taken off."""
        return masked(frame[self.size - self.length : self.size], self.mask)

    @property
    def words(self) -> str:
        """Itself in a line."""
        last = "" if self.is_last else ", to be continued"
        return f"{NAMES[self.opcode]}, {'masked, ' if self.mask else ''}{self.length} bytes{last}"


def frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """A frame of a client; `mask` has 4 random bytes, the payload fewer than 65536."""
    length = len(payload)
    short = bytes([0x80 | length]) if length < 126 else bytes([0x80 | 126]) + length.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + short + mask + masked(payload, mask)


def masked(data: bytes, mask: bytes) -> bytes:
    """`data` with the mask put on or taken off (section 5.3); as it is without one."""
    if not mask or not data:
        return data
    whole = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(data), "big")

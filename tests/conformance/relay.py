"""Owns the way from a foreign test, which speaks MQTT over plain TCP, to our broker: TLS with a device certificate.

Refuses to touch what the test sends. Of what the broker sends, only what MQTT 5 leaves to the server's taste is put
into the form that mosquitto's tests compare byte by byte: the order of the properties of CONNACK, the broker's Maximum
Packet Size in it, and Reason Strings.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

CHUNK = 65536
_V5 = b"\x00\x04MQTT\x05"
_REASON_STRING, _MAXIMUM_PACKET_SIZE = 0x1F, 0x27
_ORDER = {
    0x13: 0,
    0x22: 1,
    0x21: 3,
}  # Server Keep Alive and Topic Alias Maximum first, Receive Maximum last, as mosquitto
_FIXED = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
# Bytes before the properties of the packets that may have a Reason String, and the bytes without which there are none.
_BEFORE = {2: 2, 4: 3, 5: 3, 6: 3, 7: 3, 9: 2, 11: 2, 14: 1}


class Relay:
    """Takes connections on `ports` from the start; each goes on to the broker once `opened` was told where that is."""

    def __init__(self) -> None:
        self._broker: asyncio.Future[tuple[str, int, ssl.SSLContext]] = asyncio.get_running_loop().create_future()

    async def listen(self, ports: list[int]) -> list[asyncio.Server]:
        """Accept on loopback, both families, as mosquitto does."""
        return [await asyncio.start_server(self._take, host, port, backlog=1000) for port in ports for host in _HOSTS]

    def opened(self, host: str, port: int, context: ssl.SSLContext) -> None:
        """The broker is there."""
        self._broker.set_result((host, port, context))

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            host, port, context = await self._broker
            onward_reader, onward = await asyncio.open_connection(host, port, ssl=context)
            one = _Conversation(writer, onward)
            await asyncio.gather(
                _pass(reader, one.from_test, onward.close), _pass(onward_reader, one.from_broker, writer.close)
            )
        writer.close()


_HOSTS = ("127.0.0.1", "::1")


async def _pass(
    reader: asyncio.StreamReader, take: Callable[[bytes], Awaitable[None]], close: Callable[[], None]
) -> None:
    try:
        while data := await reader.read(CHUNK):
            await take(data)
    except OSError:
        pass
    finally:
        close()


class _Conversation:
    def __init__(self, test: asyncio.StreamWriter, broker: asyncio.StreamWriter) -> None:
        self._test, self._broker = test, broker
        self._first = self._held = b""

    async def from_test(self, data: bytes) -> None:
        if len(self._first) < 16:
            self._first += data[:16]
        self._broker.write(data)
        await self._broker.drain()

    async def from_broker(self, data: bytes) -> None:
        if _V5 in self._first[:16]:
            whole, self._held = _packets(self._held + data)
            data = b"".join(_plain(packet, start) for packet, start in whole)
        self._test.write(data)
        await self._test.drain()


def _packets(data: bytes) -> tuple[list[tuple[bytes, int]], bytes]:
    """The whole packets in `data`, each with where its variable header starts, and the rest."""
    found = []
    while len(data) >= 2:
        length, start = _varint(data, 1)
        if start == 0 or len(data) < start + length:
            break
        found.append((data[: start + length], start))
        data = data[start + length :]
    return found, data


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer and where it ends; 0 when it is not all there."""
    value = 0
    for position, byte in enumerate(data[at : at + 4]):
        value |= (byte & 127) << 7 * position
        if byte < 128:
            return value, at + position + 1
    return 0, 0


def _encoded(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _plain(packet: bytes, start: int) -> bytes:
    kind = packet[0] >> 4
    before = _BEFORE.get(kind)
    if before is None or len(packet) <= start + before:
        return packet
    length, at = _varint(packet, start + before)
    properties, rest = _properties(packet[at : at + length]), packet[at + length :]
    kept = [one for one in properties if one[0] not in {_REASON_STRING, _MAXIMUM_PACKET_SIZE}]
    if kind == 2:
        kept.sort(key=lambda one: (_ORDER.get(one[0], 2), one[0]))
    joined = b"".join(kept)
    # An acknowledgement may leave out an empty list of properties (3.4.2.2.1): mosquitto does.
    tail = b"" if not joined and kind in {4, 5, 6, 7, 14} else _encoded(len(joined)) + joined
    body = packet[start : start + before] + tail + rest
    return packet[:1] + _encoded(len(body)) + body


def _properties(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = 1 + _FIXED[data[0]] if data[0] in _FIXED else 3 + int.from_bytes(data[1:3], "big")
        if data[0] == 0x26:
            size += 2 + int.from_bytes(data[size : size + 2], "big")
        found.append(data[:size])
        data = data[size:]
    return found
